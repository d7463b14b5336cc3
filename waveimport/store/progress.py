"""Reads a job for people: the only queries that count batches. Read-only; a run is not disturbed by them."""

from datetime import datetime, timedelta

import msgspec
from sqlalchemy import and_, func, select
from sqlalchemy.engine import Connection

from waveimport.core.progress import (
    Commit,
    CompleteRun,
    JobProgress,
    Loop,
    OwedBatch,
    Recent,
    Requests,
    WaveProgress,
)
from waveimport.core.waves import UNFINISHED_JOB, BatchStatus, JobStatus, WaveKind, WaveStatus
from waveimport.store import debts, sharing
from waveimport.store.counted import BY_COUNT, count_batches
from waveimport.store.dialect import now
from waveimport.store.jobs import Job, get_job
from waveimport.store.plans import plans_of
from waveimport.store.tables import (
    batch_events,
    import_jobs,
    import_watermarks,
    wave_batches,
    wave_coordination,
    wave_journal,
)

RECENT_SECONDS = 600.0
RECENT_COMMITS = 1_000
"""Of one record: a fast job is told by less than the ten minutes."""
RECENT_PASSES = 2_000


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


def _last_complete(connection: Connection, profile: str) -> CompleteRun | None:
    row = connection.execute(
        select(import_jobs.c.job_id, import_jobs.c.mode, import_jobs.c.created_at, import_jobs.c.finished_at)
        .where(import_jobs.c.profile == profile, import_jobs.c.status == JobStatus.COMPLETED.value)
        .order_by(import_jobs.c.finished_at.desc())
        .limit(1)
    ).first()
    return None if row is None else CompleteRun(row.job_id, row.mode, row.created_at, row.finished_at)


def _watermarks(connection: Connection, job: Job) -> dict[str, datetime | None]:
    """Return the watermarks of a job's profile, and None for its records that have a cursor and none yet."""
    bound = msgspec.json.decode(job.config_text) if job.config_text.startswith("{") else {}
    records = bound.get("records", {})
    marks: dict[str, datetime | None] = {name: None for name, record in records.items() if record.get("cursor")}
    rows = connection.execute(
        select(import_watermarks.c.record, import_watermarks.c.watermark)
        .where(import_watermarks.c.profile == job.profile)
        .order_by(import_watermarks.c.record)
    )
    return marks | {row.record: row.watermark for row in rows}


def _recent(connection: Connection, job: Job, moment: datetime, records: dict[int, list[str]]) -> Recent | None:
    """Return what was completed of late under the run at work, the newest first of each record; None without one."""
    if job.status is not JobStatus.PROCESSING or job.lease_expires_at is None or job.lease_expires_at < moment:
        return None
    begun = _begun(connection, job.job_id)
    since = max(moment - timedelta(seconds=RECENT_SECONDS), job.created_at, begun or job.created_at)
    commits: list[Commit] = []
    for wave, record in [(number, name) for number, names in records.items() for name in names]:
        rows = connection.execute(
            select(wave_batches.c.updated_at, wave_batches.c.row_count)
            .where(
                wave_batches.c.job_id == job.job_id,
                wave_batches.c.wave_number == wave,
                wave_batches.c.record == record,
                wave_batches.c.status == BatchStatus.COMPLETED.value,
                wave_batches.c.updated_at > since,
            )
            .with_hint(wave_batches, BY_COUNT, "mysql")
            .order_by(wave_batches.c.updated_at.desc())
            .limit(RECENT_COMMITS)
        ).all()
        commits += [Commit(row.updated_at, wave, row.row_count) for row in rows]
        if len(rows) == RECENT_COMMITS:
            # Older ones are left out: what of others lies before is no measure beside them.
            since = max(since, rows[-1].updated_at)
    return Recent(since, tuple(commit for commit in commits if commit.at > since))


def _begun(connection: Connection, job_id: str) -> datetime | None:
    """Return when the run at work took the lease, None where that is long ago."""
    newest = (
        select(wave_journal.c.at, wave_journal.c.event)
        .where(wave_journal.c.job_id == job_id)
        .order_by(wave_journal.c.seq.desc())
        .limit(RECENT_PASSES)
        .subquery()
    )
    found: datetime | None = connection.execute(select(func.max(newest.c.at)).where(newest.c.event == "lease")).scalar()
    return found


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
    for count in count_batches(connection, job_id, waves):
        wave = count.wave_number
        batches[wave][count.status] = batches[wave].get(count.status, 0) + count.batches
        # A batch that looks for changed lines stands in their parents' wave, and lands none itself.
        if count.record in rows[wave]:
            rows[wave][count.record] += count.rows
        tries[wave] = tries.get(wave, 0) + count.tries
        # A pending batch is touched by handing it back; only a landing or a claim shows that a wave moves.
        if count.status is not BatchStatus.PENDING and (wave not in last or count.last > last[wave]):
            last[wave] = count.last
    expected: dict[int, dict[str, int]] = {row.wave_number: {} for row in waves}
    for plan in plans_of(connection, job_id):
        if isinstance(plan.spec.get("count"), int):
            expected[plan.wave_number][plan.record] = plan.spec["count"]
    moment: datetime = connection.execute(select(now())).scalar_one()
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
        now=moment,
        requests=requests_of(connection, job_id),
        loop=_loop(connection, job_id) if job.status in UNFINISHED_JOB else None,
        last_complete=_last_complete(connection, job.profile),
        as_of=job.as_of,
        watermarks=_watermarks(connection, job),
        recent=_recent(connection, job, moment, {number: list(names) for number, names in rows.items()}),
        owed=tuple(
            OwedBatch(debt.job_id, debt.batch_id, debt.record, debt.error, debt.carried_by, debt.carried_as)
            for debt in debts.standing(connection, job.profile)
        ),
    )
