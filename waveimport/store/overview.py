"""What lists of jobs and the ending of one need to know of batches, beyond the numbers of a single job."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.engine import Connection

from waveimport.core.waves import BatchStatus
from waveimport.store.dialect import now
from waveimport.store.tables import wave_batches


def current_time(connection: Connection) -> datetime:
    """Return the database's clock, UTC without zone: the one that leases go by."""
    moment: datetime = connection.execute(select(now())).scalar_one()
    return moment


def landed_rows(connection: Connection, job_ids: Sequence[str]) -> dict[str, int]:
    """Return the rows that each job has landed; a job without batches is left out."""
    counted = connection.execute(
        select(wave_batches.c.job_id, func.sum(wave_batches.c.row_count))
        .where(wave_batches.c.job_id.in_(job_ids))
        .group_by(wave_batches.c.job_id)
    )
    return {job_id: int(rows) for job_id, rows in counted}


def taken_back(connection: Connection, job_id: str, status: BatchStatus = BatchStatus.PENDING) -> list[tuple[str, int]]:
    """Return (batch_id, attempt) of the batches that a worker once had and that are pending again, or have failed."""
    rows = connection.execute(
        select(wave_batches.c.batch_id, wave_batches.c.attempt).where(
            wave_batches.c.job_id == job_id,
            wave_batches.c.status == status.value,
            wave_batches.c.attempt > 0,
        )
    )
    return [(row.batch_id, row.attempt) for row in rows]
