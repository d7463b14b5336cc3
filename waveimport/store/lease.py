"""The lease of a job (T1): who may coordinate it until when, and the token that fences everyone else.

Cron, retry, watchdog, a person: all enter through `acquire` and nowhere else. Time alone guards nothing: a holder
that slept past its lease is refused by the token, which grows at every take-over and stands in every write.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import bindparam, literal_column, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from waveimport.core.waves import LEASED, UNFINISHED_JOB, BatchStatus, JobStatus, Trigger
from waveimport.errors import UnknownJob
from waveimport.store import journal
from waveimport.store.dialect import after, now
from waveimport.store.tables import import_jobs, wave_batches

# Spelt out in the statement: an expanding list cannot be sent for many batches at once.
LEASED_WORDS: Final[list[ColumnElement[str]]] = [literal_column(f"'{status.value}'") for status in sorted(LEASED)]
"""The statuses of a batch that is at work, for the conditions of prepared statements."""
NO_LEASE: Final = {"lease_owner": None, "lease_token": None, "lease_expires_at": None}
"""What becomes of a batch's lease when it is no longer at work."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who asks for a lease: `owner` is `host:pid`; `machine` and `lock` name this machine and the inode of the lock
    file that the process holds, None when it holds none."""

    owner: str
    machine: str
    lock: str | None


@dataclass(frozen=True, slots=True)
class Lease:
    """A lease that was won. `took_over` names the holder before, whose death is proven if `proven`."""

    job_id: str
    owner: str
    token: int
    took_over: str | None = None
    proven: bool = False


@dataclass(frozen=True, slots=True)
class Held:
    """A lease that was not won: who has it until when, or `finished`, as the job is no longer unfinished."""

    owner: str | None
    expires_at: datetime | None
    finished: bool = False


_READ = (
    select(
        import_jobs.c.status,
        import_jobs.c.lease_owner,
        import_jobs.c.lease_token,
        import_jobs.c.lease_expires_at,
        import_jobs.c.lease_machine,
        import_jobs.c.lease_lock,
        (import_jobs.c.lease_expires_at < now()).label("lapsed"),
    )
    .where(import_jobs.c.job_id == bindparam("job"))
    .with_for_update()
)
_TAKE = (
    update(import_jobs)
    .where(import_jobs.c.job_id == bindparam("job"), import_jobs.c.lease_token == bindparam("old"))
    .values(
        lease_owner=bindparam("owner"),
        lease_token=import_jobs.c.lease_token + 1,
        lease_expires_at=after(bindparam("ttl")),
        lease_machine=bindparam("machine"),
        lease_lock=bindparam("lock"),
        updated_at=now(),
    )
)
_RENEW = (
    update(import_jobs)
    .where(
        import_jobs.c.job_id == bindparam("job"),
        import_jobs.c.lease_owner == bindparam("owner"),
        import_jobs.c.lease_token == bindparam("token"),
        import_jobs.c.status.in_([status.value for status in sorted(UNFINISHED_JOB)]),
    )
    .values(lease_expires_at=after(bindparam("ttl")))
)
_RELEASE = (
    update(import_jobs)
    .where(
        import_jobs.c.job_id == bindparam("job"),
        import_jobs.c.lease_owner == bindparam("owner"),
        import_jobs.c.lease_token == bindparam("token"),
    )
    .values(lease_owner=None, lease_expires_at=None, lease_machine=None, lease_lock=None, updated_at=now())
)
_AT_WORK = (
    select(wave_batches.c.batch_id)
    .where(
        wave_batches.c.job_id == bindparam("job"),
        wave_batches.c.status.in_(LEASED_WORDS),
        wave_batches.c.lease_token == bindparam("token"),
    )
    .order_by(wave_batches.c.batch_id)
)
_HAND_BACK = (
    update(wave_batches)
    .where(
        wave_batches.c.job_id == bindparam("job"),
        wave_batches.c.batch_id == bindparam("batch"),
        wave_batches.c.lease_token == bindparam("token"),
        wave_batches.c.status.in_(LEASED_WORDS),
    )
    .values(status=BatchStatus.PENDING.value, updated_at=now(), **NO_LEASE)
)


def acquire(
    connection: Connection,
    job_id: str,
    holder: Holder,
    *,
    lease_seconds: float,
    trigger: Trigger,
    failed_too: bool = False,
) -> Lease | Held:
    """T1: take the lease of a job where it is free, lapsed, or its holder is proven dead.

    Proof of death: the row names the very lock file that this process now holds on this machine. `failed_too` lets a
    failed job be taken, for a retry. Losing is no error: the other is at work.
    """
    row = connection.execute(_READ, {"job": job_id}).first()
    if row is None:
        raise UnknownJob(f"no job `{job_id}` is in the database", help="`waveimport jobs` lists them")
    status = JobStatus(row.status)
    if status not in UNFINISHED_JOB and not (failed_too and status is JobStatus.FAILED):
        return Held(None, None, finished=True)
    proven = (
        row.lease_owner is not None
        and holder.lock is not None
        and (row.lease_machine, row.lease_lock) == (holder.machine, holder.lock)
    )
    if row.lease_owner is not None and not row.lapsed and not proven:
        return Held(row.lease_owner, row.lease_expires_at)
    taken = connection.execute(
        _TAKE,
        {
            "job": job_id,
            "old": row.lease_token,
            "owner": holder.owner,
            "ttl": lease_seconds,
            "machine": holder.machine,
            "lock": holder.lock,
        },
    )
    if taken.rowcount != 1:
        return Held(row.lease_owner, row.lease_expires_at)
    token = row.lease_token + 1
    note = f"taken by {holder.owner}"
    if row.lease_owner is not None:
        note += f" from {row.lease_owner}, " + ("whose lock file it holds" if proven else "whose lease had lapsed")
    journal.append(connection, job_id, source=trigger, token=token, event="lease", note=note)
    return Lease(job_id, holder.owner, token, took_over=row.lease_owner, proven=proven)


def acquired(connection: Connection, job_id: str, holder: Holder) -> Lease | None:
    """Prove after a lost COMMIT that the lease was won: the lease, or None when it has to be asked for again.

    A process has one name, and asks for one lease at a time. Whom it took over from is no longer known here: what that
    one had at work lapses.
    """
    row = connection.execute(_READ, {"job": job_id}).first()
    if row is None or (row.lease_owner, row.lease_machine) != (holder.owner, holder.machine):
        return None
    return Lease(job_id, holder.owner, row.lease_token)


def renew(connection: Connection, lease: Lease, *, lease_seconds: float) -> bool:
    """Push the end of the lease out. False when it was taken over, or the job was cancelled or finished."""
    done = connection.execute(
        _RENEW, {"job": lease.job_id, "owner": lease.owner, "token": lease.token, "ttl": lease_seconds}
    )
    return done.rowcount == 1


def release(connection: Connection, lease: Lease, *, ended: str | None = None) -> bool:
    """Give the lease back, and with it every batch that is still at work under its token, in one transaction.

    So a job whose lease is free has no batch that waits for a lapse; where the database takes neither (a full disk),
    the lease stays, and whoever proves its holder dead takes both over at once. False when it was no longer held:
    nothing is changed then. `ended` says how a run ended whose job is not, for whoever asks later why nothing moves.
    """
    done = connection.execute(_RELEASE, {"job": lease.job_id, "owner": lease.owner, "token": lease.token})
    if done.rowcount != 1:
        return False
    # Read without locks and changed by primary key: a landing locks the batch first and its index entries after.
    left = connection.execute(_AT_WORK, {"job": lease.job_id, "token": lease.token}).all()
    if left:
        connection.execute(
            _HAND_BACK, [{"job": lease.job_id, "batch": batch, "token": lease.token} for (batch,) in left]
        )
    if ended is not None:
        journal.append(connection, lease.job_id, source=Trigger.WORKER, token=lease.token, event="ended", note=ended)
    return True
