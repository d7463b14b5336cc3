"""Reads a job for people: the only queries that count batches. Read-only; a run is not disturbed by them."""

from datetime import datetime

import msgspec
from sqlalchemy import and_, func, select
from sqlalchemy.engine import Connection

from waveimport.core.progress import JobProgress, Loop, OwedBatch, Requests, WaveProgress
from waveimport.core.waves import UNFINISHED_JOB, BatchStatus, JobStatus, WaveKind, WaveStatus
from waveimport.store import debts, sharing
from waveimport.store.dialect import now
from waveimport.store.jobs import get_job
from waveimport.store.plans import plans_of
from waveimport.store.tables import batch_events, import_jobs, wave_batches, wave_coordination

_COUNTS = select(
    wave_batches.c.wave_number,
    wave_batches.c.record,
    wave_batches.c.status,
    func.count().label("batches"),
    func.sum(wave_batches.c.row_count).label("rows"),
    func.sum(wave_batches.c.tries).label("tries"),
    func.max(wave_batches.c.updated_at).label("last"),
).group_by(wave_batches.c.wave_number, wave_batches.c.record, wave_batches.c.status)


def _loop(connection: Connection, job_id: str) -> Loop | None:
    """Return the unfinished batch that was tried most often with one error, None where there is none."""
    row = connection.execute(
        select(batch_events.c.batch_id, batch_events.c.detail, wave_batches.c.wave_number, func.count().label("times"))
        .select_from(
            batch_events.join(
                wave_batches,
                and_(
                    wave_batches.c.job_id == batch_events.c.job_id, wave_batches.c.batch_id == batch_events.c.batch_id
                ),
            )
        )
        .where(
            batch_events.c.job_id == job_id,
            batch_events.c.event.in_(["refused", "handed_back", "requeued"]),
            wave_batches.c.status.not_in([BatchStatus.COMPLETED.value, BatchStatus.FAILED.value]),
        )
        .group_by(batch_events.c.batch_id, batch_events.c.detail, wave_batches.c.wave_number)
        .order_by(func.count().desc(), batch_events.c.batch_id)
        .limit(1)
    ).first()
    return None if row is None else Loop(row.batch_id, row.wave_number, row.times, row.detail or "")


def requests_of(connection: Connection, job_id: str) -> Requests | None:
    """Return what the run at work on a job told last of its requests; None where none is at work."""
    told = sharing.told(connection, job_id)
    return None if told is None else Requests(*told)


def read_progress(connection: Connection, job_id: str) -> JobProgress:
    """Return a job in numbers. Raises UnknownJob."""
    job = get_job(connection, job_id)
    waves = connection.execute(
        select(wave_coordination).where(wave_coordination.c.job_id == job_id).order_by(wave_coordination.c.wave_number)
    ).all()
    rows: dict[int, dict[str, int]] = {
        row.wave_number: dict.fromkeys(msgspec.json.decode(row.records), 0) for row in waves
    }
    batches: dict[int, dict[BatchStatus, int]] = {row.wave_number: {} for row in waves}
    tries: dict[int, int] = {}
    last: dict[int, datetime] = {}
    for row in connection.execute(_COUNTS.where(wave_batches.c.job_id == job_id)):
        wave = row.wave_number
        counted = batches[wave]
        status = BatchStatus(row.status)
        counted[status] = counted.get(status, 0) + row.batches
        # A batch that looks for changed lines stands in their parents' wave, and lands none itself.
        if row.record in rows[wave]:
            rows[wave][row.record] += int(row.rows)
        tries[wave] = tries.get(wave, 0) + int(row.tries)
        # A pending batch is touched by handing it back; only a landing or a claim shows that a wave moves.
        if status is not BatchStatus.PENDING and (wave not in last or row.last > last[wave]):
            last[wave] = row.last
    expected: dict[int, dict[str, int]] = {row.wave_number: {} for row in waves}
    for plan in plans_of(connection, job_id):
        if isinstance(plan.spec.get("count"), int):
            expected[plan.wave_number][plan.record] = plan.spec["count"]
    return JobProgress(
        job_id=job.job_id,
        profile=job.profile,
        mode=job.mode,
        status=job.status,
        created_at=job.created_at,
        finished_at=job.finished_at,
        error=job.error,
        lease_owner=job.lease_owner,
        lease_token=job.lease_token,
        lease_expires_at=job.lease_expires_at,
        idle_passes=job.idle_passes,
        waves=tuple(
            WaveProgress(
                wave_number=row.wave_number,
                kind=WaveKind(row.kind),
                status=WaveStatus(row.status),
                sealed=bool(row.sealed),
                parent_wave=row.parent_wave,
                rows=rows[row.wave_number],
                batches=batches[row.wave_number],
                tries=tries.get(row.wave_number, 0),
                expected=expected[row.wave_number],
                last_commit=last.get(row.wave_number),
            )
            for row in waves
        ),
        now=connection.execute(select(now())).scalar_one(),
        requests=requests_of(connection, job_id),
        loop=_loop(connection, job_id) if job.status in UNFINISHED_JOB else None,
        last_complete=connection.execute(
            select(func.max(import_jobs.c.finished_at)).where(
                import_jobs.c.profile == job.profile, import_jobs.c.status == JobStatus.COMPLETED.value
            )
        ).scalar(),
        owed=tuple(
            OwedBatch(debt.job_id, debt.batch_id, debt.record, debt.error, debt.carried_by, debt.carried_as)
            for debt in debts.standing(connection, job.profile)
        ),
    )
