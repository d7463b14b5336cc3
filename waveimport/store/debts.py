"""Debts: batches that failed for good in a job that has ended, and which later jobs carry as batches of their own.

The watermark of a family moves on beyond a failed batch, so that one row that can never be typed does not hold back
every later change. What the batch covers is then behind the watermark and would never be asked for again: it is *owed*.
The next job that reads the family incrementally carries it, with the same range, moment or parents, from its beginning
(the rows that had landed before it failed are another job's, and a batch that has read a range whole removes those). A
job that reads the family in full covers it anyway. A debt ends when a batch that carries it is completed, when a full
read covers it, or when a person skips it; while the job that carries it fails or is cancelled it stays owed.

The first full import of a profile leaves no debts: its failed batches are tried again in place.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import msgspec
from sqlalchemy import and_, bindparam, func, insert, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from waveimport.core.graph import PlannedWave
from waveimport.core.ranges import DEBT_PART, debt_batch_id
from waveimport.core.waves import BatchKind, BatchStatus, JobStatus, WaveKind
from waveimport.store.dialect import now
from waveimport.store.tables import import_jobs, wave_batches

_CARRIER = import_jobs.alias("carrier")
_CARRYING = wave_batches.alias("carrying")
# By nobody, or by a full read that was to cover it and did not come to its end.
_NOT_CARRIED = or_(
    wave_batches.c.carried_by.is_(None),
    and_(
        wave_batches.c.carried_as.is_(None),
        _CARRIER.c.status.in_([JobStatus.CANCELLED.value, JobStatus.FAILED.value]),
    ),
)
_NOT_MADE_GOOD = and_(
    _CARRYING.c.status != BatchStatus.COMPLETED.value,
    _CARRYING.c.skipped_at.is_(None),
    # What failed in the job that carried it is owed as that job's batch already.
    _CARRYING.c.owed == 0,
)


@dataclass(frozen=True, slots=True)
class Debt:
    """A failed batch that is owed. `carried_by` and `carried_as` name the job and the batch at work on it, if any."""

    job_id: str
    batch_id: str
    record: str
    kind: BatchKind
    spec: Mapping[str, object]
    error: str
    carried_by: str | None = None
    carried_as: str | None = None


def is_first(connection: Connection, job_id: str) -> bool:
    """Whether a job is the first full import of its profile: all that it reads is still to be read once."""
    row = connection.execute(
        select(import_jobs.c.profile, import_jobs.c.mode).where(import_jobs.c.job_id == job_id)
    ).one()
    if row.mode != "full":
        return False
    earlier = select(import_jobs.c.job_id).where(
        import_jobs.c.profile == row.profile, import_jobs.c.status == JobStatus.COMPLETED.value
    )
    return connection.execute(earlier.limit(1)).first() is None


def incur(connection: Connection, job_id: str) -> int:
    """Mark as owed what failed in a job that is ending. Returns how many batches.

    Every one of it, also of a family whose watermark stays (its planning failed): the job may itself have carried what
    lies behind that. Called in the pass that fails the job, under its lock: nothing of the job is at work any more, so
    no landing can hold a row of these and wait for a wave.
    """
    return connection.execute(
        update(wave_batches)
        .where(
            wave_batches.c.job_id == job_id,
            wave_batches.c.status == BatchStatus.FAILED.value,
            wave_batches.c.kind != BatchKind.PLAN.value,
            wave_batches.c.skipped_at.is_(None),
        )
        .values(owed=1)
    ).rowcount


def outstanding(connection: Connection, profile: str) -> list[Debt]:
    """Return what a new job of the profile has to carry: the oldest first."""
    free = and_(_CARRIER.c.status == JobStatus.CANCELLED.value, _NOT_MADE_GOOD)
    return _debts(connection, profile, or_(_NOT_CARRIED, free))


def standing(connection: Connection, profile: str) -> list[Debt]:
    """Return what of a profile is owed and has not landed, be it carried by an unfinished job or by none."""
    return _debts(connection, profile, or_(_NOT_CARRIED, _NOT_MADE_GOOD))


def _debts(connection: Connection, profile: str, condition: ColumnElement[bool]) -> list[Debt]:
    # The jobs first, and mostly there is nothing owed: joined in one query, every batch there ever was may be gone
    # through.
    jobs = connection.execute(select(import_jobs.c.job_id).where(import_jobs.c.profile == profile)).scalars().all()
    failed = wave_batches.c.status == BatchStatus.FAILED.value
    owing = [
        job_id
        for job_id in jobs
        if connection.execute(
            select(wave_batches.c.batch_id).where(wave_batches.c.job_id == job_id, failed, wave_batches.c.owed == 1)
        ).first()
        is not None
    ]
    if not owing:
        return []
    rows = connection.execute(
        select(wave_batches)
        .select_from(
            wave_batches.join(import_jobs, import_jobs.c.job_id == wave_batches.c.job_id)
            .outerjoin(_CARRIER, _CARRIER.c.job_id == wave_batches.c.carried_by)
            .outerjoin(
                _CARRYING,
                and_(
                    _CARRYING.c.job_id == wave_batches.c.carried_by,
                    _CARRYING.c.batch_id == wave_batches.c.carried_as,
                ),
            )
        )
        .where(
            wave_batches.c.job_id.in_(owing),
            failed,
            wave_batches.c.owed == 1,
            wave_batches.c.skipped_at.is_(None),
            condition,
        )
        .order_by(import_jobs.c.created_at, wave_batches.c.job_id, wave_batches.c.batch_id)
    )
    return [
        Debt(
            job_id=row.job_id,
            batch_id=row.batch_id,
            record=row.record,
            kind=BatchKind(row.kind),
            spec=msgspec.json.decode(row.spec),
            error=row.error,
            carried_by=row.carried_by,
            carried_as=row.carried_as,
        )
        for row in rows
    ]


_CARRY = (
    update(wave_batches)
    .where(wave_batches.c.job_id == bindparam("owing"), wave_batches.c.batch_id == bindparam("batch"))
    .values(carried_by=bindparam("by"), carried_as=bindparam("carried"), updated_at=now())
)


def carry(
    connection: Connection, job_id: str, profile: str, waves: Sequence[PlannedWave], incremental: Iterable[str]
) -> dict[int, list[dict[str, object]]]:
    """Take the debts of a profile into a job that is being created (T0). Returns the values of its batches, by wave.

    Debts of records that the job reads `incremental`ly become batches of it; those of the other records of its waves
    are covered by its full read; those of records that it does not touch are left for a later job. Debts that differ in
    their moment alone are one batch, of the earliest: a log of deletions that a role may not read would else be owed
    once more every night.
    """
    home = {name: wave for wave in waves for name in wave.records}
    narrow = set(incremental)
    merged: dict[tuple[str, BatchKind, bytes], list[Debt]] = {}
    taken = []
    for debt in outstanding(connection, profile):
        if debt.record in narrow:
            covers = {name: value for name, value in debt.spec.items() if name not in ("since", "highest", "cuts")}
            merged.setdefault((debt.record, debt.kind, msgspec.json.encode(covers, order="sorted")), []).append(debt)
        elif debt.record in home:
            taken.append({"owing": debt.job_id, "batch": debt.batch_id, "by": job_id, "carried": None})
    found: dict[int, list[dict[str, object]]] = {}
    numbers: Counter[tuple[int, str]] = Counter()
    for (record, kind, _), debts in merged.items():
        wave = home[record]
        number = wave.wave_number
        if kind is BatchKind.RANGE and wave.kind is WaveKind.DERIVED:
            # The batch that looks for changed lines stands in their parents' wave, which it keeps open.
            assert wave.parent_wave is not None, "a derived wave has a parent"
            number = wave.parent_wave
        batches = found.setdefault(number, [])
        batch_id = debt_batch_id(number, record, numbers[number, record])
        numbers[number, record] += 1
        widest = min(debts, key=lambda debt: str(debt.spec.get("since", "")))
        batches.append(
            {
                "job_id": job_id,
                "batch_id": batch_id,
                "wave_number": number,
                "record": record,
                "kind": kind.value,
                "priority": 1,
                "status": BatchStatus.PENDING.value,
                "spec": msgspec.json.encode(widest.spec).decode(),
            }
        )
        taken += [{"owing": debt.job_id, "batch": debt.batch_id, "by": job_id, "carried": batch_id} for debt in debts]
    if taken:
        connection.execute(_CARRY, taken)
    return found


def insert_batches(connection: Connection, batches: Sequence[Mapping[str, object]]) -> None:
    """Insert what `carry` has returned for a wave."""
    if batches:
        connection.execute(insert(wave_batches).values(created_at=now(), updated_at=now()), [dict(b) for b in batches])


def landed_rows(connection: Connection, job_id: str) -> dict[str, int]:
    """Return, by record, the rows that batches of a job landed which it carried for others: no count of its own has
    them."""
    rows = connection.execute(
        select(wave_batches.c.record, func.sum(wave_batches.c.row_count))
        .where(wave_batches.c.job_id == job_id, wave_batches.c.batch_id.contains(DEBT_PART, autoescape=True))
        .group_by(wave_batches.c.record)
    )
    return {record: int(count) for record, count in rows}
