"""The batches of a job in numbers, by wave, record and status.

A completed batch never changes again, so what was completed a while ago is counted once and kept on the wave's row
(`counted`, up to `counted_until`); a reader counts what came after and adds the two. The coordinator moves it on about
once a minute. A transaction that was open all the while might still commit a batch with an older moment, and the
database's clock might be set back: what a reader finds is held to the wave's `total`, which grows with each batch in
that batch's own transaction, and where less is found all is counted anew.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, func, select, update
from sqlalchemy.engine import Connection

from waveimport.core.waves import BatchStatus
from waveimport.store.dialect import after
from waveimport.store.tables import wave_batches, wave_coordination

SETTLED_SECONDS: Final = 900.0
"""So old is what is kept: far longer than a transaction of a landing may be open."""
BY_COUNT: Final = "FORCE INDEX (batches_to_count)"
"""A hint for MySQL: MariaDB takes the primary key for a range of that index, and reads every batch of the job."""
_OPEN: Final = tuple(status.value for status in BatchStatus if status is not BatchStatus.COMPLETED)
_MOMENT: Final = "%Y-%m-%d %H:%M:%S.%f"


@dataclass(frozen=True, slots=True)
class Count:
    """The batches of a wave, of one record, in one status. `last` is when the last of them was touched."""

    wave_number: int
    record: str
    status: BatchStatus
    batches: int
    rows: int
    tries: int
    last: datetime


def count_batches(connection: Connection, job_id: str, waves: Sequence[Any]) -> list[Count]:
    """Count the batches of a job, whose rows of `wave_coordination` are given."""
    kept = {row.wave_number: _kept(row) for row in waves if row.counted_until is not None}
    found = [count for counts in kept.values() for count in counts]
    for row in waves:
        if row.wave_number not in kept or _total(found, row.wave_number) == row.total:
            continue
        these = _of_wave(row.wave_number, records_by_wave(waves))
        done = wave_batches.c.status == BatchStatus.COMPLETED.value
        found += _count(connection, job_id, *these, done, wave_batches.c.updated_at > row.counted_until)
        found += _count(connection, job_id, *these, wave_batches.c.status.in_(_OPEN))
    whole = [row.wave_number for row in waves if _total(found, row.wave_number) < row.total]
    if whole:
        found = [count for count in found if count.wave_number not in whole]
        found += _count(connection, job_id, wave_batches.c.wave_number.in_(whole))
    return found


def keep_counts(connection: Connection, job_id: str) -> None:
    """Count what was completed long enough ago, and has not been counted yet, into the rows of a job's waves.

    Anybody may do so at any time: what is counted stays as it is, and of two at once one finds the row moved on.
    """
    until: datetime = connection.execute(select(after(-SETTLED_SECONDS))).scalar_one()
    waves = connection.execute(select(wave_coordination).where(wave_coordination.c.job_id == job_id)).all()
    for row in waves:
        before = row.counted_until
        these = [
            *_of_wave(row.wave_number, records_by_wave(waves)),
            wave_batches.c.status == BatchStatus.COMPLETED.value,
            wave_batches.c.updated_at <= until,
        ]
        if before is not None:
            these.append(wave_batches.c.updated_at > before)
        fresh = _count(connection, job_id, *these)
        if not fresh:
            continue
        connection.execute(
            update(wave_coordination)
            .where(
                wave_coordination.c.job_id == job_id,
                wave_coordination.c.wave_number == row.wave_number,
                wave_coordination.c.counted_until.is_(None)
                if before is None
                else wave_coordination.c.counted_until == before,
            )
            .values(counted_until=until, counted=_written([*(() if before is None else _kept(row)), *fresh]))
        )


def records_by_wave(waves: Sequence[Any]) -> dict[int, list[str]]:
    """Return the records whose batches may stand in each wave: its own, and those of its derived waves, whose changed
    rows are looked for in it."""
    own = {row.wave_number: list(msgspec.json.decode(row.records)) for row in waves}
    found = {number: list(records) for number, records in own.items()}
    for row in waves:
        if row.parent_wave is not None:
            found[row.parent_wave] += own[row.wave_number]
    return found


def _of_wave(number: int, names: Mapping[int, list[str]]) -> tuple[ColumnElement[bool], ...]:
    return (wave_batches.c.wave_number == number, wave_batches.c.record.in_(names[number]))


def _count(connection: Connection, job_id: str, *which: ColumnElement[bool]) -> list[Count]:
    counted = connection.execute(
        select(
            wave_batches.c.wave_number,
            wave_batches.c.record,
            wave_batches.c.status,
            func.count().label("batches"),
            func.sum(wave_batches.c.row_count).label("rows"),
            func.sum(wave_batches.c.tries).label("tries"),
            func.max(wave_batches.c.updated_at).label("last"),
        )
        .with_hint(wave_batches, BY_COUNT, "mysql")
        .where(wave_batches.c.job_id == job_id, *which)
        .group_by(wave_batches.c.wave_number, wave_batches.c.record, wave_batches.c.status)
    )
    return [
        Count(
            row.wave_number, row.record, BatchStatus(row.status), row.batches, int(row.rows), int(row.tries), row.last
        )
        for row in counted
    ]


def _total(counts: Iterable[Count], wave_number: int) -> int:
    return sum(count.batches for count in counts if count.wave_number == wave_number)


def _kept(row: Any) -> list[Count]:
    return [
        Count(row.wave_number, record, BatchStatus.COMPLETED, batches, rows, tries, datetime.strptime(last, _MOMENT))
        for record, (batches, rows, tries, last) in msgspec.json.decode(row.counted).items()
    ]


def _written(counts: Iterable[Count]) -> str:
    """Return completed batches by record: how many, their rows, their tries, the last commit."""
    found: dict[str, tuple[int, int, int, datetime]] = {}
    for count in counts:
        batches, rows, tries, last = found.get(count.record, (0, 0, 0, count.last))
        found[count.record] = (
            batches + count.batches,
            rows + count.rows,
            tries + count.tries,
            max(last, count.last),
        )
    told = {record: (*numbers, last.strftime(_MOMENT)) for record, (*numbers, last) in found.items()}
    return msgspec.json.encode(told).decode()
