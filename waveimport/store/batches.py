"""Batches: claimed (T3), started, renewed, requeued (T5), handed back or failed (T6).

Every statement that touches one batch names (job_id, batch_id), and every write of a worker names its attempt: a
stale worker finds no row and knows that it was fenced.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import msgspec
from sqlalchemy import and_, bindparam, case, func, literal, or_, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from waveimport.core.backoff import LONGEST_SECONDS
from waveimport.core.waves import BatchKind, BatchStatus, JobStatus
from waveimport.errors import UnknownBatch
from waveimport.store import journal
from waveimport.store.dialect import Prepared, after, now
from waveimport.store.jobs import lock_job
from waveimport.store.lease import LEASED_WORDS, NO_LEASE, Lease
from waveimport.store.tables import batch_events, wave_batches

MAX_LOST = 20
"""A batch lost this often with no page committed in between fails as `worker_lost`."""
REQUEUE_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Claim:
    """A batch that this run may work on: everything that fetching it needs.

    `spec` is what the batch covers (bounds and progress of a plan, a key range, a list of parents), `resume_key` the
    key of the last row landed, both decoded from JSON.
    """

    job_id: str
    batch_id: str
    wave_number: int
    record: str
    kind: BatchKind
    attempt: int
    tries: int
    spec: dict[str, object]
    resume_key: list[object] | None
    row_count: int


_CLAIMABLE = Prepared(
    select(
        wave_batches.c.batch_id,
        wave_batches.c.record,
        wave_batches.c.kind,
        wave_batches.c.attempt,
        wave_batches.c.tries,
        wave_batches.c.spec,
        wave_batches.c.resume_key,
        wave_batches.c.row_count,
    )
    .where(
        wave_batches.c.job_id == bindparam("job"),
        wave_batches.c.wave_number == bindparam("wave"),
        wave_batches.c.status == BatchStatus.PENDING.value,
        wave_batches.c.priority <= bindparam("priority"),
        # As `core.backoff.is_over` has it.
        or_(
            wave_batches.c.not_before.is_(None),
            wave_batches.c.not_before <= now(),
            wave_batches.c.not_before > after(LONGEST_SECONDS),
        ),
    )
    .order_by(wave_batches.c.priority, wave_batches.c.batch_id)
    .limit(bindparam("count"))
    .with_for_update(skip_locked=True)
)
_CLAIM = (
    update(wave_batches)
    .where(
        wave_batches.c.job_id == bindparam("job"),
        wave_batches.c.batch_id.in_(bindparam("batches", expanding=True)),
        wave_batches.c.status == BatchStatus.PENDING.value,
    )
    .values(
        status=BatchStatus.DISPATCHED.value,
        attempt=wave_batches.c.attempt + 1,
        lease_owner=bindparam("owner"),
        lease_token=bindparam("token"),
        lease_expires_at=after(bindparam("ttl")),
        not_before=None,
        claimed_at=now(),
        updated_at=now(),
    )
)


def fence() -> tuple[ColumnElement[bool], ...]:
    """Return the conditions that only the current attempt of a live batch meets."""
    return (
        wave_batches.c.job_id == bindparam("job"),
        wave_batches.c.batch_id == bindparam("batch"),
        wave_batches.c.attempt == bindparam("try_no"),
        wave_batches.c.status.in_(LEASED_WORDS),
    )


_START = Prepared(
    update(wave_batches)
    .where(*fence(), wave_batches.c.status == BatchStatus.DISPATCHED.value)
    .values(status=BatchStatus.PROCESSING.value, updated_at=now())
)
_HAND_BACK = (
    update(wave_batches)
    .where(*fence())
    .values(
        status=BatchStatus.PENDING.value,
        tries=wave_batches.c.tries + bindparam("spent"),
        not_before=case((literal(0.0) < bindparam("delay"), after(bindparam("delay"))), else_=None),
        error=func.coalesce(bindparam("error"), wave_batches.c.error),
        updated_at=now(),
        **NO_LEASE,
    )
)
_FAIL = (
    update(wave_batches)
    .where(*fence())
    .values(
        status=BatchStatus.FAILED.value,
        tries=wave_batches.c.tries + bindparam("spent"),
        error=bindparam("error"),
        updated_at=now(),
        **NO_LEASE,
    )
)
_RENEW = update(wave_batches).where(*fence()).values(lease_expires_at=after(bindparam("ttl")))
_LAPSED = (
    select(wave_batches.c.batch_id, wave_batches.c.attempt, wave_batches.c.lost, wave_batches.c.lease_owner)
    .where(
        wave_batches.c.job_id == bindparam("job"),
        wave_batches.c.status.in_(LEASED_WORDS),
        or_(
            wave_batches.c.lease_expires_at < now(),
            and_(literal(1) == bindparam("all_before"), wave_batches.c.lease_token < bindparam("token")),
        ),
    )
    .order_by(wave_batches.c.batch_id)
    .limit(REQUEUE_AT_ONCE)
    .with_for_update(skip_locked=True)
)
_REQUEUE = (
    update(wave_batches)
    .where(*fence())
    .values(
        status=bindparam("target"),
        lost=wave_batches.c.lost + 1,
        error=bindparam("error"),
        updated_at=now(),
        **NO_LEASE,
    )
)


def claim(
    connection: Connection, lease: Lease, wave_number: int, count: int, *, plans_only: bool, lease_seconds: float
) -> list[Claim]:
    """T3: claim up to `count` pending batches of a wave, in key order, planning ones first.

    The job row is locked first, so that no batch can be claimed of a job that is being cancelled. Raises Fenced.
    Where the outcome of its COMMIT is unknown, the caller may call again: what was claimed then lapses and is
    requeued.
    """
    status, _ = lock_job(connection, lease.job_id, lease.token)
    if status is not JobStatus.PROCESSING:
        return []
    return claim_locked(connection, lease, wave_number, count, plans_only=plans_only, lease_seconds=lease_seconds)


def claim_locked(
    connection: Connection, lease: Lease, wave_number: int, count: int, *, plans_only: bool, lease_seconds: float
) -> list[Claim]:
    """T3 where the caller has locked the job row, checked the token and found the job processing."""
    rows = _CLAIMABLE.read(
        connection, {"job": lease.job_id, "wave": wave_number, "priority": 0 if plans_only else 1, "count": count}
    ).all()
    if not rows:
        return []
    # They are locked, so that they are as they were read.
    done = connection.execute(
        _CLAIM,
        {
            "job": lease.job_id,
            "batches": [row.batch_id for row in rows],
            "owner": lease.owner,
            "token": lease.token,
            "ttl": lease_seconds,
        },
    )
    assert done.rowcount == len(rows), f"batches of wave {wave_number} changed under their lock"
    return [
        Claim(
            job_id=lease.job_id,
            batch_id=row.batch_id,
            wave_number=wave_number,
            record=row.record,
            kind=BatchKind(row.kind),
            attempt=row.attempt + 1,
            tries=row.tries,
            spec=msgspec.json.decode(row.spec),
            resume_key=None if row.resume_key is None else msgspec.json.decode(row.resume_key),
            row_count=row.row_count,
        )
        for row in rows
    ]


def _at(claim: Claim) -> dict[str, object]:
    return {"job": claim.job_id, "batch": claim.batch_id, "try_no": claim.attempt}


def start(connection: Connection, claim: Claim) -> bool:
    """Move a claimed batch from dispatched to processing, the first write of its worker. False when fenced."""
    return _START.execute(connection, _at(claim)) == 1


def started(connection: Connection, claim: Claim) -> bool | None:
    """Prove after a lost COMMIT that the start had landed: True, or None when it has to be done again."""
    row = connection.execute(
        select(wave_batches.c.status, wave_batches.c.attempt)
        .where(wave_batches.c.job_id == claim.job_id, wave_batches.c.batch_id == claim.batch_id)
        .with_for_update()
    ).first()
    landed = row is not None and (row.status, row.attempt) == (BatchStatus.PROCESSING.value, claim.attempt)
    return True if landed else None


def renew(connection: Connection, claims: Sequence[Claim], *, lease_seconds: float) -> None:
    """Push out the leases of batches at work. One that was fenced is passed over: its worker will find out."""
    if claims:
        connection.execute(_RENEW, [{**_at(claim), "ttl": lease_seconds} for claim in claims])


def requeue(connection: Connection, lease: Lease, *, proven_dead: bool = False) -> int:
    """T5: put batches back whose lease lapsed, at most 100 at a time. Returns how many.

    With `proven_dead` those of every earlier token count as lapsed: their holder is known to have died. It only
    re-enqueues and never executes. A batch lost 20 times without a page committed between fails as `worker_lost`.
    """
    lock_job(connection, lease.job_id, lease.token)
    rows = connection.execute(
        _LAPSED, {"job": lease.job_id, "all_before": int(proven_dead), "token": lease.token}
    ).all()
    for row in rows:
        gone = row.lost + 1 >= MAX_LOST
        detail = f"its worker ({row.lease_owner}) was lost" + (f" {MAX_LOST} times with no page landed" if gone else "")
        connection.execute(
            _REQUEUE,
            {
                "job": lease.job_id,
                "batch": row.batch_id,
                "try_no": row.attempt,
                "target": (BatchStatus.FAILED if gone else BatchStatus.PENDING).value,
                "error": f"worker_lost: {detail}" if gone else None,
            },
        )
        journal.batch_event(
            connection, lease.job_id, row.batch_id, "worker_lost" if gone else "requeued", row.attempt, detail
        )
    return len(rows)


def hand_back(connection: Connection, claim: Claim, *, error: str | None, delay_seconds: float = 0.0) -> bool:
    """T6 without a try spent: the batch was not at fault (stopped, 401, 429, outage). False when fenced."""
    done = connection.execute(_HAND_BACK, {**_at(claim), "spent": 0, "delay": delay_seconds, "error": error})
    if done.rowcount == 1 and error is not None:
        journal.batch_event(connection, claim.job_id, claim.batch_id, "handed_back", claim.attempt, error)
    return done.rowcount == 1


def fail_attempt(
    connection: Connection, claim: Claim, *, error: str, max_tries: int, delay_seconds: float
) -> BatchStatus | None:
    """T6 with a try spent: back to pending after `delay_seconds`, or failed for good at `max_tries`.

    Returns where the batch went, None when fenced.
    """
    final = claim.tries + 1 >= max_tries
    if final:
        done = connection.execute(_FAIL, {**_at(claim), "spent": 1, "error": error})
    else:
        done = connection.execute(_HAND_BACK, {**_at(claim), "spent": 1, "delay": delay_seconds, "error": error})
    if done.rowcount != 1:
        return None
    journal.batch_event(
        connection, claim.job_id, claim.batch_id, "failed" if final else "refused", claim.attempt, error
    )
    return BatchStatus.FAILED if final else BatchStatus.PENDING


def failed_batches(connection: Connection, job_id: str) -> list[dict[str, object]]:
    """Return the failed batches of a job, each with what it covers and its error."""
    rows = connection.execute(
        select(wave_batches)
        .where(wave_batches.c.job_id == job_id, wave_batches.c.status == BatchStatus.FAILED.value)
        .order_by(wave_batches.c.wave_number, wave_batches.c.batch_id)
    )
    return [
        {
            "batch_id": row.batch_id,
            "wave_number": row.wave_number,
            "record": row.record,
            "kind": row.kind,
            "spec": msgspec.json.decode(row.spec),
            "resume_key": None if row.resume_key is None else msgspec.json.decode(row.resume_key),
            "attempt": row.attempt,
            "tries": row.tries,
            "error": row.error,
            "skip_reason": row.skip_reason,
            "carried_by": row.carried_by,
            "carried_as": row.carried_as,
        }
        for row in rows
    ]


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened to a batch out of the ordinary, at a moment of the database's clock (UTC)."""

    at: datetime
    event: str
    attempt: int
    detail: str | None


def life_of(connection: Connection, job_id: str, batch_id: str) -> tuple[dict[str, object], list[Happening]]:
    """Return a batch's row, and what happened to it out of the ordinary, in order. Raises UnknownBatch."""
    row = connection.execute(
        select(wave_batches).where(wave_batches.c.job_id == job_id, wave_batches.c.batch_id == batch_id)
    ).first()
    if row is None:
        raise UnknownBatch(
            f"no batch `{batch_id}` is in the job {job_id}",
            help=f"`waveimport status {job_id} --failed` names those that failed",
        )
    events = connection.execute(
        select(batch_events.c.at, batch_events.c.event, batch_events.c.attempt, batch_events.c.detail)
        .where(batch_events.c.job_id == job_id, batch_events.c.batch_id == batch_id)
        .order_by(batch_events.c.id)
    )
    return dict(row._mapping), [Happening(*event) for event in events]


def has_unskipped_failure(connection: Connection, job_id: str) -> bool:
    """Whether a batch of a job failed that nobody has written off."""
    failed = select(wave_batches.c.batch_id).where(
        wave_batches.c.job_id == job_id,
        wave_batches.c.status == BatchStatus.FAILED.value,
        wave_batches.c.skipped_at.is_(None),
    )
    return connection.execute(failed.limit(1)).first() is not None


def records_with_rows(connection: Connection, job_id: str) -> set[str]:
    """Return the records of a job of which a page has landed."""
    return set(
        connection.execute(
            select(wave_batches.c.record)
            .where(
                wave_batches.c.job_id == job_id,
                wave_batches.c.priority > 0,
                or_(
                    wave_batches.c.status == BatchStatus.COMPLETED.value,
                    wave_batches.c.resume_key.is_not(None),
                    wave_batches.c.row_count > 0,
                ),
            )
            .distinct()
        ).scalars()
    )


@dataclass(frozen=True, slots=True)
class AtWorkBatch:
    """A batch under a lease: whose, since when it was last touched, until when; `lost` counts workers lost before."""

    batch_id: str
    wave_number: int
    owner: str
    since: datetime
    until: datetime
    lapsed: bool
    lost: int

    @property
    def fails(self) -> bool:
        """Whether putting it back fails it: it was lost too often with no page landed."""
        return self.lost + 1 >= MAX_LOST


def at_work(connection: Connection, job_id: str, *, lapsed_only: bool) -> list[AtWorkBatch]:
    """Return the batches of a job that are under a lease, or under one that has lapsed, by id."""
    lapsed = wave_batches.c.lease_expires_at < now()
    query = (
        select(
            wave_batches.c.batch_id,
            wave_batches.c.wave_number,
            wave_batches.c.lease_owner,
            wave_batches.c.updated_at,
            wave_batches.c.lease_expires_at,
            lapsed.label("lapsed"),
            wave_batches.c.lost,
        )
        .where(wave_batches.c.job_id == job_id, wave_batches.c.status.in_(LEASED_WORDS))
        .order_by(wave_batches.c.batch_id)
    )
    rows = connection.execute(query.where(lapsed) if lapsed_only else query)
    return [
        AtWorkBatch(
            row.batch_id,
            row.wave_number,
            row.lease_owner,
            row.updated_at,
            row.lease_expires_at,
            bool(row.lapsed),
            row.lost,
        )
        for row in rows
    ]


def live_elsewhere(connection: Connection, job_id: str, owner: str) -> bool:
    """Whether a batch of a job is under a lease that another than `owner` may still land pages by."""
    return (
        connection.execute(
            select(wave_batches.c.batch_id)
            .where(
                wave_batches.c.job_id == job_id,
                wave_batches.c.status.in_(LEASED_WORDS),
                wave_batches.c.lease_owner != owner,
                wave_batches.c.lease_expires_at >= now(),
            )
            .limit(1)
        ).first()
        is not None
    )
