"""The view of a job that a decision needs, in SQL.

Everything that `decide` compares is read by one statement: under READ COMMITTED each statement sees one state of the
database, while two statements may see a parent completed and its children not yet there. Existence is asked by index
and counts stop at the number of slots, so that a pass costs the same at 45 batches and at a million.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import TextClause, text
from sqlalchemy.engine import Connection

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

_WAVES = text(
    "SELECT wave_number, kind, status, sealed, parent_wave, depth, total"
    " FROM wave_coordination WHERE job_id = :job_id ORDER BY wave_number"
)
_OF = "FROM wave_batches WHERE job_id = :job_id AND wave_number = {wave} AND status"
_CLAIMABLE = (
    "(SELECT COUNT(*) FROM (SELECT 1 " + _OF + " = 'pending' AND priority = {priority}"
    " AND (not_before IS NULL OR not_before <= {now} OR not_before > {soon}) LIMIT :slots) {alias}{wave})"
)
_LIVE = "(SELECT COUNT(*) " + _OF + " IN ('dispatched', 'processing') AND lease_expires_at >= {now})"
_EXISTS = "EXISTS (SELECT 1 " + _OF + " {that})"


@lru_cache(maxsize=64)
def _counts(waves: tuple[int, ...], clock: str, soon: str) -> TextClause:
    """Build the one statement that looks at the batches of every wave that is not settled."""
    selects = []
    for wave in waves:
        parts = [
            str(wave),
            f"(SELECT total FROM wave_coordination WHERE job_id = :job_id AND wave_number = {wave})",
            _CLAIMABLE.format(wave=wave, priority=1, now=clock, soon=soon, alias="c"),
            _CLAIMABLE.format(wave=wave, priority=0, now=clock, soon=soon, alias="p"),
            _EXISTS.format(wave=wave, that="= 'pending'"),
            _LIVE.format(wave=wave, now=clock),
            _EXISTS.format(wave=wave, that=f"IN ('dispatched', 'processing') AND lease_expires_at < {clock}"),
            _EXISTS.format(wave=wave, that="= 'failed'"),
            _EXISTS.format(wave=wave, that="IN ('pending', 'dispatched', 'processing', 'failed') AND priority = 0"),
        ]
        selects.append("SELECT " + ", ".join(parts))
    return text(" UNION ALL ".join(selects))


def read_snapshot(
    connection: Connection,
    job_id: str,
    *,
    status: JobStatus,
    coordination_status: CoordinationStatus,
    limit: int,
    free_slots: int,
) -> JobSnapshot:
    """Return the snapshot of a job whose row the caller has locked and read (`status`, `coordination_status`)."""
    waves = connection.execute(_WAVES, {"job_id": job_id}).all()
    opened = tuple(row.wave_number for row in waves if WaveStatus(row.status) not in SETTLED)
    counts: dict[int, Sequence[Any]] = {}
    if opened:
        clock = str(now().compile(dialect=connection.dialect))
        soon = str(after(LONGEST_SECONDS).compile(dialect=connection.dialect, compile_kwargs={"literal_binds": True}))
        rows = connection.execute(_counts(opened, clock, soon), {"job_id": job_id, "slots": max(limit, 1)})
        counts = {row[0]: row for row in rows}
    views = []
    for row in waves:
        seen = counts.get(row.wave_number)
        view = WaveView(
            wave_number=row.wave_number,
            kind=WaveKind(row.kind),
            status=WaveStatus(row.status),
            sealed=bool(row.sealed),
            total=row.total,
            parent_wave=row.parent_wave,
            depth=row.depth,
            # A settled wave has no batch that can move; that it failed is in its status.
            failed=row.status == WaveStatus.FAILED,
        )
        if seen is not None:
            view = WaveView(
                wave_number=row.wave_number,
                kind=view.kind,
                status=view.status,
                sealed=view.sealed,
                total=seen[1],
                claimable=seen[2],
                claimable_plans=seen[3],
                pending=bool(seen[4]),
                live=seen[5],
                lapsed=bool(seen[6]),
                failed=bool(seen[7]),
                plans_open=bool(seen[8]),
                parent_wave=view.parent_wave,
                depth=view.depth,
            )
        views.append(view)
    return JobSnapshot(
        status=status,
        coordination_status=coordination_status,
        waves=tuple(views),
        limit=limit,
        free_slots=free_slots,
    )
