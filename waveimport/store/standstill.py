"""What a person needs to know of a job that does not move: the facts of `core.why`, read without a lock.

Only waves that are not completed are looked at, and of their batches only those at work or in trouble.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import and_, func, select
from sqlalchemy.engine import Connection

from waveimport.core.progress import JobProgress
from waveimport.core.waves import BatchStatus, CoordinationStatus, Decision, JobSnapshot, JobStatus, WaveStatus
from waveimport.core.why import AtWork, JobFacts, LastPass, Troubled, WaveFacts
from waveimport.store.dialect import now
from waveimport.store.jobs import get_job
from waveimport.store.lease import LEASED_WORDS
from waveimport.store.snapshot import read_snapshot
from waveimport.store.tables import (
    batch_events,
    import_accounts,
    import_jobs,
    wave_batches,
    wave_coordination,
    wave_journal,
)

LOOKED_AT = 500
"""Batches in trouble of one wave that are looked at: the first of them tell the story."""
REFUSED_FOR_SECONDS = 30 * 60.0


def read_facts(connection: Connection, progress: JobProgress) -> JobFacts:
    """Return the facts of a job whose numbers were read already. Raises UnknownJob."""
    job_id, requests = progress.job_id, progress.requests
    job = get_job(connection, job_id)
    moment: datetime = connection.execute(select(now())).scalar_one()
    committed = {wave.wave_number: wave.last_commit for wave in progress.waves}
    snapshot = read_snapshot(
        connection,
        job_id,
        status=JobStatus(job.status),
        coordination_status=CoordinationStatus(job.coordination_status),
        limit=requests.allowed if requests is not None else 1,
        free_slots=0,
    )
    names = connection.execute(
        select(wave_coordination.c.wave_number, wave_coordination.c.records).where(wave_coordination.c.job_id == job_id)
    )
    records = {row.wave_number: tuple(msgspec.json.decode(row.records)) for row in names}

    def below(number: int) -> list[str]:
        """The records whose changed rows are looked for in a wave, whose parents they are."""
        return [name for wave in snapshot.waves if wave.parent_wave == number for name in records[wave.wave_number]]

    return JobFacts(
        job_id=job_id,
        snapshot=snapshot,
        now=moment,
        created_at=job.created_at,
        error=job.error,
        waves={
            wave.wave_number: replace(
                _wave(connection, job_id, wave.wave_number, records[wave.wave_number], below(wave.wave_number)),
                last_commit=committed.get(wave.wave_number),
            )
            for wave in snapshot.waves
            if wave.status is not WaveStatus.COMPLETED
        },
        lease_owner=job.lease_owner,
        lease_expires_at=job.lease_expires_at,
        lease_machine=job.lease_machine,
        idle_passes=job.idle_passes,
        requests=requests,
        last_pass=_last_pass(connection, job_id),
        ended=_last_entry(connection, job_id, "ended"),
        held_up=_last_entry(connection, job_id, "waits"),
        refused=_refused(connection, job.config_text, moment),
    )


def _wave(connection: Connection, job_id: str, number: int, records: tuple[str, ...], below: list[str]) -> WaveFacts:
    mine = (wave_batches.c.job_id == job_id, wave_batches.c.wave_number == number)
    clock = now()
    pending = (*mine, wave_batches.c.status == BatchStatus.PENDING.value)
    # Two queries, each by an index that has all it looks at: one for both would read every pending row.
    waiting = connection.execute(
        select(wave_batches.c.batch_id, wave_batches.c.not_before)
        .where(*pending, wave_batches.c.not_before > clock)
        .limit(LOOKED_AT)
    ).all()
    refused = connection.execute(
        select(wave_batches.c.batch_id, wave_batches.c.tries)
        .where(*pending, wave_batches.c.record.in_([*records, *below]), wave_batches.c.tries > 0)
        .limit(LOOKED_AT)
    ).all()
    worst = max(refused, key=lambda row: row.tries, default=None)
    # By its last commit, not by its lease: a batch that hangs may still be renewed.
    at_work = connection.execute(
        select(
            wave_batches.c.batch_id,
            wave_batches.c.lease_owner,
            wave_batches.c.updated_at,
            wave_batches.c.lease_expires_at,
            (wave_batches.c.lease_expires_at < clock).label("lapsed"),
        )
        .where(*mine, wave_batches.c.status.in_(LEASED_WORDS))
        .order_by(wave_batches.c.updated_at)
        .limit(LOOKED_AT)
    ).all()
    lost = (*mine, wave_batches.c.status == BatchStatus.FAILED.value, wave_batches.c.skipped_at.is_(None))
    failed: int = connection.execute(select(func.count()).select_from(wave_batches).where(*lost)).scalar_one()
    first = connection.execute(
        select(wave_batches.c.batch_id, wave_batches.c.tries, wave_batches.c.error)
        .where(*lost)
        .order_by(wave_batches.c.priority, wave_batches.c.batch_id)
        .limit(1)
    ).first()
    return WaveFacts(
        records=records,
        failed=failed,
        first_failed=None if first is None else Troubled(first.batch_id, first.tries, first.error),
        backing_off=len(waiting),
        next_try=min((row.not_before for row in waiting), default=None),
        oldest=_at_work([row for row in at_work if not row.lapsed]),
        lapsed=_at_work([row for row in at_work if row.lapsed]),
        worst=None
        if worst is None
        else Troubled(worst.batch_id, worst.tries, _last_error(connection, job_id, worst.batch_id)),
    )


def _at_work(rows: list[Any]) -> AtWork | None:
    if not rows:
        return None
    return AtWork(rows[0].batch_id, rows[0].lease_owner, rows[0].updated_at, rows[0].lease_expires_at)


def _last_error(connection: Connection, job_id: str, batch_id: str) -> str:
    found = connection.execute(
        select(batch_events.c.detail)
        .where(batch_events.c.job_id == job_id, batch_events.c.batch_id == batch_id)
        .order_by(batch_events.c.id.desc())
        .limit(1)
    ).scalar()
    return found or "no error on record"


def _last_pass(connection: Connection, job_id: str) -> LastPass | None:
    row = connection.execute(
        select(
            wave_journal.c.seq,
            wave_journal.c.at,
            wave_journal.c.snapshot,
            wave_journal.c.decision,
        )
        .join(
            import_jobs,
            and_(import_jobs.c.job_id == wave_journal.c.job_id, import_jobs.c.pass_seq == wave_journal.c.seq),
        )
        .where(wave_journal.c.job_id == job_id, wave_journal.c.event == "pass")
    ).first()
    if row is None:
        return None
    try:
        snapshot = msgspec.json.decode(row.snapshot, type=JobSnapshot)
        decision = msgspec.json.decode(row.decision, type=Decision)
    except msgspec.DecodeError:
        # Another version's, or damaged: `replay` says which. It is no reason to tell nothing at all.
        return None
    return LastPass(row.seq, row.at, snapshot, decision)


def _last_entry(connection: Connection, job_id: str, event: str) -> tuple[datetime, str] | None:
    """Return moment and note of an event, where it was the last thing that happened to the job."""
    row = connection.execute(
        select(wave_journal.c.at, wave_journal.c.event, wave_journal.c.note)
        .where(wave_journal.c.job_id == job_id)
        .order_by(wave_journal.c.seq.desc())
        .limit(1)
    ).first()
    return (row.at, row.note) if row is not None and row.event == event else None


def _refused(connection: Connection, config_text: str, moment: datetime) -> tuple[datetime, str] | None:
    """Return the refusal of a login of the job's account that runs still heed."""
    account = msgspec.json.decode(config_text).get("account") if config_text.startswith("{") else None
    row = connection.execute(
        select(import_accounts.c.refused_at, import_accounts.c.reason)
        .where(import_accounts.c.account == account)
        .order_by(import_accounts.c.refused_at.desc())
        .limit(1)
    ).first()
    if row is None or (moment - row.refused_at).total_seconds() > REFUSED_FOR_SECONDS:
        return None
    return (row.refused_at, row.reason)
