"""What the tables keep of a job's past, for a report: batches and their events, without what they cover."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, select
from sqlalchemy.engine import Connection

from waveimport.core.report.history import BatchEvent, BatchPast
from waveimport.core.waves import BatchStatus
from waveimport.store.tables import batch_events, import_jobs, wave_batches

ROWS_AT_ONCE: Final = 20_000
"""A server ends a transaction that asks nothing for 30 s: a million rows are not taken in that time."""

_BATCHES = (
    select(
        wave_batches.c.batch_id,
        wave_batches.c.wave_number,
        wave_batches.c.record,
        wave_batches.c.status,
        wave_batches.c.priority,
        wave_batches.c.attempt,
        wave_batches.c.tries,
        wave_batches.c.lost,
        wave_batches.c.row_count,
        wave_batches.c.created_at,
        wave_batches.c.updated_at,
        wave_batches.c.error,
        wave_batches.c.skipped_at,
        wave_batches.c.claimed_at,
        wave_batches.c.requests,
        wave_batches.c.request_ms,
    )
    .where(wave_batches.c.job_id == bindparam("job"), wave_batches.c.batch_id > bindparam("after"))
    .order_by(wave_batches.c.batch_id)
    .limit(bindparam("count"))
)


def read_batches(connection: Connection, job_id: str) -> Sequence[BatchPast]:
    """Return the batches of a job, in the order of their ids, read a part at a time."""
    found: list[BatchPast] = []
    names: dict[str, str] = {}
    after = ""
    while True:
        rows = connection.execute(_BATCHES, {"job": job_id, "after": after, "count": ROWS_AT_ONCE}).all()
        for row in rows:
            found.append(
                BatchPast(
                    batch_id=row.batch_id,
                    wave_number=row.wave_number,
                    # One text for all batches of a record: there may be a million.
                    record=names.setdefault(row.record, row.record),
                    status=BatchStatus(row.status),
                    priority=row.priority,
                    attempt=row.attempt,
                    tries=row.tries,
                    lost=row.lost,
                    rows=row.row_count,
                    created_at=row.created_at,
                    updated_at=row.updated_at,
                    error=row.error,
                    skipped=row.skipped_at is not None,
                    claimed_at=row.claimed_at,
                    requests=row.requests,
                    request_seconds=row.request_ms / 1000,
                )
            )
        if len(rows) < ROWS_AT_ONCE:
            return found
        after = rows[-1].batch_id


def read_events(connection: Connection, job_id: str) -> Sequence[BatchEvent]:
    """Return what happened to the batches of a job out of the ordinary, in order."""
    rows = connection.execute(
        select(
            batch_events.c.batch_id,
            batch_events.c.at,
            batch_events.c.event,
            batch_events.c.attempt,
            batch_events.c.detail,
        )
        .where(batch_events.c.job_id == job_id)
        .order_by(batch_events.c.id)
    )
    return [BatchEvent(row.batch_id, row.at, row.event, row.attempt, row.detail) for row in rows]


def compared_at(connection: Connection, job_id: str) -> datetime | None:
    """Return when a job's tables were compared with the source as a whole and found equal; None for not."""
    found: datetime | None = connection.execute(
        select(import_jobs.c.reconciled_at).where(import_jobs.c.job_id == job_id)
    ).scalar()
    return found
