"""Jobs: created (T0), retried (T7), cancelled (T8), read.

Each function is one transaction's work on the connection that it is handed; `Database.run` gives it one.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Select, bindparam, insert, select, update
from sqlalchemy.engine import Connection, Row
from sqlalchemy.exc import IntegrityError

from waveimport.core.graph import PlannedWave
from waveimport.core.increments import Since
from waveimport.core.ranges import plan_batch_id
from waveimport.core.waves import (
    UNFINISHED_JOB,
    BatchKind,
    BatchStatus,
    CoordinationStatus,
    JobStatus,
    Trigger,
    WaveKind,
    WaveStatus,
)
from waveimport.errors import Fenced, JobCancelled, UnknownJob
from waveimport.store import debts, journal
from waveimport.store.dialect import Prepared, now
from waveimport.store.plans import plan_mark
from waveimport.store.tables import import_jobs, wave_batches, wave_coordination
from waveimport.store.watermarks import forget, keep_only, plan_spec


@dataclass(frozen=True, slots=True)
class Job:
    """A row of `import_jobs`. `selection` are the records named by `--records`, None for all."""

    job_id: str
    profile: str
    mode: str
    status: JobStatus
    coordination_status: CoordinationStatus
    config_hash: str
    config_text: str
    selection: tuple[str, ...] | None
    lease_owner: str | None
    lease_token: int
    lease_expires_at: datetime | None
    idle_passes: int
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
    error: str | None
    as_of: datetime | None
    lease_machine: str | None = None


@dataclass(frozen=True, slots=True)
class NewJob:
    """What a job is created from. `waves` are those of `core.graph.plan_waves`; `since` says of main records from when
    on their changes are read, the others are read in full; `keep` are the records whose watermarks stay, None for
    all; `incremental` are the records, derived ones too, that are read by their changes: it carries their debts;
    `swapped` are the main records whose families are read beside their tables."""

    job_id: str
    profile: str
    mode: str
    config_hash: str
    config_text: str
    selection: tuple[str, ...] | None
    waves: tuple[PlannedWave, ...]
    since: Mapping[str, Since] = field(default_factory=dict)
    keep: tuple[str, ...] | None = None
    incremental: tuple[str, ...] = ()
    swapped: tuple[str, ...] = ()


def _job(row: Row[Any]) -> Job:
    return Job(
        job_id=row.job_id,
        profile=row.profile,
        mode=row.mode,
        status=JobStatus(row.status),
        coordination_status=CoordinationStatus(row.coordination_status),
        config_hash=row.config_hash,
        config_text=row.config_text,
        selection=None if row.selection is None else tuple(msgspec.json.decode(row.selection)),
        lease_owner=row.lease_owner,
        lease_token=row.lease_token,
        lease_expires_at=row.lease_expires_at,
        idle_passes=row.idle_passes,
        created_at=row.created_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
        error=row.error,
        as_of=row.as_of,
        lease_machine=row.lease_machine,
    )


def _newest(profile: str) -> Select[Any]:
    # Job ids are time-ordered; created_at alone may tie.
    return (
        select(import_jobs)
        .where(import_jobs.c.profile == profile)
        .order_by(import_jobs.c.created_at.desc(), import_jobs.c.job_id.desc())
    )


def newest_job(connection: Connection, profile: str) -> Job | None:
    """Return the newest job of a profile, an unfinished one before all others."""
    unfinished = connection.execute(select(import_jobs).where(import_jobs.c.unfinished_profile == profile)).first()
    row = unfinished or connection.execute(_newest(profile).limit(1)).first()
    return None if row is None else _job(row)


def get_job(connection: Connection, job_id: str) -> Job:
    """Return a job. Raises UnknownJob."""
    row = connection.execute(select(import_jobs).where(import_jobs.c.job_id == job_id)).first()
    if row is None:
        raise UnknownJob(f"no job `{job_id}` is in the database", help="`waveimport jobs` lists them")
    return _job(row)


def list_jobs(connection: Connection, *, profile: str | None = None, limit: int = 50) -> list[Job]:
    """Return the newest jobs, of one profile or of all."""
    query = select(import_jobs).order_by(import_jobs.c.created_at.desc(), import_jobs.c.job_id.desc()).limit(limit)
    if profile is not None:
        query = query.where(import_jobs.c.profile == profile)
    return [_job(row) for row in connection.execute(query)]


def create_job(connection: Connection, new: NewJob) -> Job:
    """T0: create the job, its waves (all unsealed), one plan batch per main record, and the debts that it carries.

    A rival that created the unfinished job of the profile first wins, and its job is returned: the unique key that
    once failed a job with 4.8 million lines counted is here the meeting point of two starts.
    """
    savepoint = connection.begin_nested()
    try:
        connection.execute(
            insert(import_jobs).values(
                job_id=new.job_id,
                profile=new.profile,
                mode=new.mode,
                selection=None if new.selection is None else msgspec.json.encode(new.selection).decode(),
                config_hash=new.config_hash,
                config_text=new.config_text,
                status=JobStatus.PENDING.value,
                coordination_status=CoordinationStatus.NONE.value,
                as_of=now(),
                created_at=now(),
                updated_at=now(),
            )
        )
    except IntegrityError:
        savepoint.rollback()
        rival = newest_job(connection, new.profile)
        if rival is None:
            raise
        return rival
    savepoint.commit()
    if new.keep is not None:
        keep_only(connection, new.profile, new.keep)
    carried = debts.carry(connection, new.job_id, new.profile, new.waves, new.incremental)
    for wave in new.waves:
        plans = [] if wave.kind is WaveKind.DERIVED else list(wave.records)
        connection.execute(
            insert(wave_coordination).values(
                job_id=new.job_id,
                wave_number=wave.wave_number,
                kind=wave.kind.value,
                status=WaveStatus.PENDING.value,
                sealed=0,
                records=msgspec.json.encode(wave.records).decode(),
                parent_wave=wave.parent_wave,
                depth=wave.depth,
                total=len(plans) + len(carried.get(wave.wave_number, ())),
                created_at=now(),
                updated_at=now(),
            )
        )
        debts.insert_batches(connection, carried.get(wave.wave_number, ()))
        for record in plans:
            connection.execute(
                insert(wave_batches).values(
                    job_id=new.job_id,
                    batch_id=plan_batch_id(wave.wave_number, record),
                    wave_number=wave.wave_number,
                    record=record,
                    kind=BatchKind.PLAN.value,
                    priority=0,
                    status=BatchStatus.PENDING.value,
                    spec=msgspec.json.encode(
                        {**plan_spec(new.since.get(record)), **plan_mark(record in new.swapped)}
                    ).decode(),
                    created_at=now(),
                    updated_at=now(),
                )
            )
    return get_job(connection, new.job_id)


_LOCK = Prepared(
    select(
        import_jobs.c.status, import_jobs.c.coordination_status, import_jobs.c.lease_token, import_jobs.c.lease_owner
    )
    .where(import_jobs.c.job_id == bindparam("job"))
    .with_for_update()
)


def lock_job(connection: Connection, job_id: str, token: int | None) -> tuple[JobStatus, CoordinationStatus]:
    """Lock the job row, the first statement of every coordinating transaction, and check the token.

    Raises Fenced when another holder has taken the job over, UnknownJob when it is gone. `token` None checks none.
    """
    row = _LOCK.read(connection, {"job": job_id}).first()
    if row is None:
        raise UnknownJob(f"no job `{job_id}` is in the database", help="`waveimport jobs` lists them")
    if token is not None and row.lease_token != token:
        if row.status == JobStatus.CANCELLED:
            raise JobCancelled(
                f"the job {job_id} was cancelled meanwhile",
                help="what has landed stays; `waveimport run` creates a new job",
            )
        raise Fenced(f"the job {job_id} was taken over by {row.lease_owner or 'another run'}")
    return JobStatus(row.status), CoordinationStatus(row.coordination_status)


def retry_failed(connection: Connection, job_id: str, *, token: int, trigger: Trigger) -> int:
    """T7: put the failed batches of a job back, with their failed waves and the job. Returns how many batches.

    The caller holds the lease. A batch keeps where it had come to (`resume_key`), its tries start anew; one that a
    person has skipped stays. Raises Fenced where another run has begun a job of the profile since this one failed: that
    one is to be gone on with.
    """
    status, _ = lock_job(connection, job_id, token)
    again = (
        wave_batches.c.job_id == job_id,
        wave_batches.c.status == BatchStatus.FAILED.value,
        wave_batches.c.skipped_at.is_(None),
    )
    failed = connection.execute(select(wave_batches.c.batch_id).where(*again)).scalars().all()
    if not failed:
        return 0
    if status is JobStatus.FAILED and not is_newest(connection, job_id):
        # What failed is a later job's to carry, and its rows are newer: read again under this job's name, a range that
        # is done here would remove them.
        raise Fenced(f"another run has made a new job since {job_id} failed")
    if status is JobStatus.FAILED:
        _back_to_work(connection, job_id)
    connection.execute(
        update(wave_coordination)
        .where(wave_coordination.c.job_id == job_id, wave_coordination.c.status == WaveStatus.FAILED.value)
        .values(status=WaveStatus.PROCESSING.value, updated_at=now())
    )
    connection.execute(
        update(wave_batches)
        .where(*again)
        .values(status=BatchStatus.PENDING.value, tries=0, lost=0, not_before=None, owed=0, updated_at=now())
    )
    journal.append(
        connection, job_id, source=trigger, token=token, event="retry", note=f"{len(failed)} failed batches put back"
    )
    return len(failed)


def is_newest(connection: Connection, job_id: str) -> bool:
    """Whether no later job of its profile was made."""
    newest = newest_job(connection, get_job(connection, job_id).profile)
    return newest is not None and newest.job_id == job_id


def _back_to_work(connection: Connection, job_id: str) -> None:
    """Make a failed job unfinished again, if no other of its profile is."""
    savepoint = connection.begin_nested()
    try:
        connection.execute(
            update(import_jobs)
            .where(import_jobs.c.job_id == job_id)
            .values(status=JobStatus.PROCESSING.value, finished_at=None, error=None, updated_at=now())
        )
    except IntegrityError:
        savepoint.rollback()
        raise Fenced(f"another run has begun a new job since {job_id} failed") from None
    savepoint.commit()


def cancel_job(connection: Connection, job_id: str, *, trigger: Trigger) -> tuple[Job, list[tuple[str, int]]]:
    """T8: cancel a job. Returns the job as it was and the (batch_id, attempt) of its live batches.

    The token grows and the live batches go back in one transaction, so that no commit of a running worker can pass
    its fence any more. A completed or cancelled job is left as it is.
    """
    status, _ = lock_job(connection, job_id, None)
    before = get_job(connection, job_id)
    if status in (JobStatus.COMPLETED, JobStatus.CANCELLED):
        return before, []
    if status in UNFINISHED_JOB:
        # A job that failed, moved its watermarks and was taken up again: what is behind them is in no debt any more.
        forget(connection, before.profile, job_id)
    live = connection.execute(
        select(wave_batches.c.batch_id, wave_batches.c.attempt).where(
            wave_batches.c.job_id == job_id,
            wave_batches.c.status.in_([BatchStatus.DISPATCHED.value, BatchStatus.PROCESSING.value]),
        )
    ).all()
    connection.execute(
        update(import_jobs)
        .where(import_jobs.c.job_id == job_id)
        .values(
            status=JobStatus.CANCELLED.value,
            lease_token=import_jobs.c.lease_token + 1,
            lease_owner=None,
            lease_expires_at=None,
            finished_at=now(),
            updated_at=now(),
        )
    )
    connection.execute(
        update(wave_batches)
        .where(
            wave_batches.c.job_id == job_id,
            wave_batches.c.status.in_([BatchStatus.DISPATCHED.value, BatchStatus.PROCESSING.value]),
        )
        .values(
            status=BatchStatus.PENDING.value,
            lease_owner=None,
            lease_token=None,
            lease_expires_at=None,
            updated_at=now(),
        )
    )
    journal.append(connection, job_id, source=trigger, token=before.lease_token + 1, event="cancel")
    return before, [(row.batch_id, row.attempt) for row in live]


def planned_waves(connection: Connection, job_id: str) -> tuple[PlannedWave, ...]:
    """Return the waves of a job as they were planned."""
    rows = connection.execute(
        select(wave_coordination).where(wave_coordination.c.job_id == job_id).order_by(wave_coordination.c.wave_number)
    )
    return tuple(
        PlannedWave(
            wave_number=row.wave_number,
            kind=WaveKind(row.kind),
            records=tuple(msgspec.json.decode(row.records)),
            parent_wave=row.parent_wave,
            depth=row.depth,
        )
        for row in rows
    )


def adopt_config(connection: Connection, job_id: str, config_hash: str, config_text: str) -> None:
    """Bind an unfinished job to another configuration; whether that is safe is the caller's to know."""
    connection.execute(
        update(import_jobs)
        .where(import_jobs.c.job_id == job_id)
        .values(config_hash=config_hash, config_text=config_text, updated_at=now())
    )


def lease_lapsed(connection: Connection, job_id: str) -> bool:
    """Whether the lease of a job has lapsed, by the database's clock."""
    return bool(
        connection.execute(
            select(import_jobs.c.lease_expires_at < now()).where(import_jobs.c.job_id == job_id)
        ).scalar()
    )


def note_error(connection: Connection, job_id: str, token: int, error: str) -> None:
    """Keep what stands wrong with a job that is completed all the same; under its token."""
    connection.execute(
        update(import_jobs)
        .where(import_jobs.c.job_id == job_id, import_jobs.c.lease_token == token)
        .values(error=error, updated_at=now())
    )
