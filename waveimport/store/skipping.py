"""Failed batches that a person writes off."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection

from waveimport.core.waves import BatchStatus, JobStatus, Trigger
from waveimport.errors import NotFailed, UnknownBatch
from waveimport.store import journal, watermarks
from waveimport.store.debts import is_first
from waveimport.store.dialect import now
from waveimport.store.jobs import is_newest, lock_job
from waveimport.store.tables import import_jobs, wave_batches


@dataclass(frozen=True, slots=True)
class Skipped:
    """What `skip` found and did. `now` is False for a batch that was skipped before, `reason` then that time's;
    `left` failed batches of the job nobody has skipped; `watermarks_moved` says that this was the last one that kept
    the watermarks of a first import back."""

    record: str
    error: str
    reason: str
    now: bool
    left: int
    watermarks_moved: bool


def skip(connection: Connection, job_id: str, batch_id: str, *, reason: str, trigger: Trigger) -> Skipped:
    """Write a failed batch off: no run tries or carries it any more. Raises UnknownJob, UnknownBatch or NotFailed."""
    status, _ = lock_job(connection, job_id, None)
    row = connection.execute(
        select(wave_batches)
        .where(wave_batches.c.job_id == job_id, wave_batches.c.batch_id == batch_id)
        .with_for_update()
    ).first()
    if row is None:
        raise UnknownBatch(
            f"no batch `{batch_id}` is in the job {job_id}",
            help=f"`waveimport status {job_id} --failed` names those that failed",
        )
    if row.status != BatchStatus.FAILED:
        raise NotFailed(
            f"batch {batch_id} is {row.status}; only one that failed can be skipped",
            where=f"job {job_id}",
            help="let a run try it, or end the job with `waveimport cancel`",
        )
    if row.skipped_at is not None:
        return Skipped(row.record, row.error, row.skip_reason, False, 0, False)
    _refuse_carried(connection, row)
    connection.execute(
        update(wave_batches)
        .where(wave_batches.c.job_id == job_id, wave_batches.c.batch_id == batch_id)
        .values(skipped_at=now(), skip_reason=reason, owed=0, updated_at=now())
    )
    journal.batch_event(connection, job_id, batch_id, "skipped", row.attempt, f"{trigger.value}: {reason}")
    left: int = connection.execute(
        select(func.count()).where(
            wave_batches.c.job_id == job_id,
            wave_batches.c.status == BatchStatus.FAILED.value,
            wave_batches.c.skipped_at.is_(None),
        )
    ).scalar_one()
    moved = False
    if status is JobStatus.FAILED and not left and is_first(connection, job_id) and is_newest(connection, job_id):
        watermarks.move(connection, job_id, planned_only=True)
        moved = True
    return Skipped(row.record, row.error, reason, True, left, moved)


def _refuse_carried(connection: Connection, row: Any) -> None:
    """Raise NotFailed for a batch whose part a later job has taken over, unless that job was cancelled."""
    if row.carried_by is None:
        return
    if row.carried_as is None:
        raise NotFailed(
            f"batch {row.batch_id} is owed no more: the job {row.carried_by} reads all of `{row.record}`",
            where=f"job {row.job_id}",
            help="there is nothing to skip",
        )
    carrier, carrying = connection.execute(
        select(import_jobs.c.status, wave_batches.c.status)
        .select_from(import_jobs.join(wave_batches, wave_batches.c.job_id == import_jobs.c.job_id))
        .where(wave_batches.c.job_id == row.carried_by, wave_batches.c.batch_id == row.carried_as)
    ).one()
    if carrying == BatchStatus.COMPLETED:
        raise NotFailed(
            f"batch {row.batch_id} is owed no more: it landed as {row.carried_as} of the job {row.carried_by}",
            where=f"job {row.job_id}",
            help="there is nothing to skip",
        )
    if carrier != JobStatus.CANCELLED:
        raise NotFailed(
            f"batch {row.batch_id} is carried as {row.carried_as} by the job {row.carried_by}, where it is {carrying}",
            where=f"job {row.job_id}",
            help=f"once it has failed there: `waveimport skip {row.carried_by} {row.carried_as} --reason …`",
        )
