"""The view of a job that a decision needs, in SQL.

Everything that `decide` compares is read by one statement: under READ COMMITTED each statement sees one state of the
database, while two statements may see a parent completed and its children not yet there. Existence is asked by index
and counts stop at the number of slots, so that a pass costs the same at 45 batches and at a million.

Each wave is one column of JSON, and the statement goes to the driver as it is: half of what a pass took was what two
libraries do for each column of a result and each parameter of a statement.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import msgspec
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Connection, Dialect

from waveimport.core.backoff import LONGEST_SECONDS
from waveimport.core.waves import (
    SETTLED,
    CoordinationStatus,
    JobSnapshot,
    JobStatus,
    WaveKind,
    WaveStatus,
    WaveView,
)
from waveimport.store.dialect import after, now

_WAVE = "wave_number, kind, status, sealed, parent_wave, depth, total"
_OF = "FROM wave_batches WHERE job_id = {job} AND wave_number = {wave} AND status"
_CLAIMABLE = (
    "(SELECT COUNT(*) FROM (SELECT 1 " + _OF + " = 'pending' AND priority = {priority}"
    " AND (not_before IS NULL OR not_before <= {now} OR not_before > {soon}) LIMIT {slots}) {alias}{wave})"
)
_LIVE = "(SELECT COUNT(*) " + _OF + " IN ('dispatched', 'processing') AND lease_expires_at >= {now})"
_EXISTS = "EXISTS (SELECT 1 " + _OF + " {that})"
_PENDING = "= 'pending'"
_LAPSED = "IN ('dispatched', 'processing') AND lease_expires_at < {now}"
_FAILED = "= 'failed'"
_PLANS_OPEN = "IN ('pending', 'dispatched', 'processing', 'failed') AND priority = 0"

_row: Final = msgspec.json.Decoder(list[Any])


@lru_cache(maxsize=64)
def _statement(on_sqlite: bool, opened: tuple[int, ...]) -> str:
    """Build the statement that reads every wave, and looks at the batches of the waves that are `opened`."""
    dialect: Dialect = sqlite.dialect() if on_sqlite else mysql.dialect()
    job, slots = (":job_id", ":slots") if on_sqlite else ("%(job_id)s", "%(slots)s")
    words = {
        "job": job,
        "slots": slots,
        "now": str(now().compile(dialect=dialect)),
        "soon": str(after(LONGEST_SECONDS).compile(dialect=dialect, compile_kwargs={"literal_binds": True})),
    }
    others = f" AND wave_number NOT IN ({', '.join(map(str, opened))})" if opened else ""
    selects = [f"SELECT JSON_ARRAY({_WAVE}) FROM wave_coordination WHERE job_id = {job}{others}"]
    for wave in opened:
        parts = (
            _CLAIMABLE.format(**words, wave=wave, priority=1, alias="c"),
            _CLAIMABLE.format(**words, wave=wave, priority=0, alias="p"),
            _LIVE.format(**words, wave=wave),
            *(
                _EXISTS.format(**words, wave=wave, that=that.format(**words))
                for that in (_PENDING, _LAPSED, _FAILED, _PLANS_OPEN)
            ),
        )
        selects.append(
            f"SELECT JSON_ARRAY({', '.join((_WAVE, *parts))}) FROM wave_coordination"
            f" WHERE job_id = {job} AND wave_number = {wave}"
        )
    return " UNION ALL ".join(selects)


def read_snapshot(
    connection: Connection,
    job_id: str,
    *,
    status: JobStatus,
    coordination_status: CoordinationStatus,
    limit: int,
    free_slots: int,
    opened: Sequence[int] = (),
) -> JobSnapshot:
    """Return the snapshot of a job whose row the caller has locked and read (`status`, `coordination_status`).

    `opened` are the waves that the caller believes not to be settled (see `open_waves`). Where another is, all is read
    once more.
    """
    on_sqlite = connection.dialect.name == "sqlite"
    binds = {"job_id": job_id, "slots": max(limit, 1)}
    while True:
        read = connection.exec_driver_sql(_statement(on_sqlite, tuple(opened)), binds)
        waves = {wave.wave_number: wave for wave in (_view(_row.decode(text)) for (text,) in read)}
        snapshot = JobSnapshot(
            status=status,
            coordination_status=coordination_status,
            waves=tuple(wave for _, wave in sorted(waves.items())),
            limit=limit,
            free_slots=free_slots,
        )
        looked_at, opened = opened, open_waves(snapshot)
        if set(opened) <= set(looked_at):
            return snapshot


def open_waves(snapshot: JobSnapshot) -> tuple[int, ...]:
    """Return the waves that are not settled."""
    return tuple(wave.wave_number for wave in snapshot.waves if wave.status not in SETTLED)


def _view(columns: list[Any]) -> WaveView:
    number, kind, status, sealed, parent_wave, depth, total, *counts = columns
    if status in SETTLED or not counts:
        # A settled wave has no batch that can move; that it failed is in its status.
        seen: dict[str, Any] = {"failed": status == WaveStatus.FAILED}
    else:
        claimable, plans, live, *flags = counts
        seen = {"claimable": claimable, "claimable_plans": plans, "live": live}
        seen |= zip(("pending", "lapsed", "failed", "plans_open"), map(bool, flags), strict=True)
    return WaveView(
        wave_number=number,
        kind=WaveKind(kind),
        status=WaveStatus(status),
        sealed=bool(sealed),
        total=total,
        parent_wave=parent_wave,
        depth=depth,
        **seen,
    )
