"""The coordination pass (T2): lock the job, read, decide, move the job and its waves, journal, commit.

A pass that moves the job or a wave moves no batch rows: claiming (T3) and requeueing (T5) follow after its commit. It
locks job → wave and a landing (T4) locks batch → wave; passes that moved batches too dead-locked against it every time.
A pass that moves nothing holds the lock of the job row alone, with which a claim begins: there the claims are made in
the same transaction, one commit less for each batch. What explores the two as two steps has all that can happen to the
one among its schedules.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlalchemy import bindparam, select, update
from sqlalchemy.engine import Connection

from waveimport.core.waves import (
    JOB_MOVES,
    WAVE_MOVES,
    BatchStatus,
    Decision,
    JobSnapshot,
    JobStatus,
    Trigger,
    decide,
)
from waveimport.errors import WaveImportError
from waveimport.store import batches, debts, journal, watermarks
from waveimport.store.batches import Claim
from waveimport.store.dialect import now
from waveimport.store.jobs import lock_job
from waveimport.store.lease import Lease
from waveimport.store.snapshot import open_waves, read_snapshot
from waveimport.store.tables import import_jobs, wave_batches, wave_coordination

_MOVE = (
    update(wave_coordination)
    .where(
        wave_coordination.c.job_id == bindparam("job"),
        wave_coordination.c.wave_number == bindparam("wave"),
        wave_coordination.c.status == bindparam("source"),
        wave_coordination.c.total == bindparam("seen"),
    )
    .values(status=bindparam("target"), updated_at=now())
)
_SEAL = (
    update(wave_coordination)
    .where(
        wave_coordination.c.job_id == bindparam("job"),
        wave_coordination.c.wave_number == bindparam("wave"),
        wave_coordination.c.sealed == 0,
        wave_coordination.c.total == bindparam("seen"),
    )
    .values(sealed=1, updated_at=now())
)


class _Overtaken(Exception):
    """A landing added a batch between the snapshot and the move: read again."""


@dataclass(slots=True)
class Memory:
    """What a holder of a lease remembers from one pass to the next: the waves that are not settled, and the journal's
    row of each situation. It saves statements and decides nothing: what it has wrong is seen in the rows."""

    opened: tuple[int, ...] = ()
    situations: dict[str, int] = field(default_factory=dict)


def advance(
    connection: Connection,
    lease: Lease,
    *,
    limit: int,
    free_slots: int,
    trigger: Trigger,
    worked: bool = False,
    decide: Callable[[JobSnapshot], Decision] = decide,
    complete: Callable[[Connection], None] = lambda connection: None,
    memory: Memory | None = None,
) -> tuple[JobSnapshot, Decision]:
    """T2: one coordination pass. Returns what it saw and decided.

    `worked` says that something was handed out or landed since the pass before, so that meeting the same situation
    again is not idling. `complete` is called, with the job locked, before a job is completed: what must be done by
    then. Where it raises, or the commit fails, the job is not completed and the next pass calls it again. `memory` is
    that of the passes before under this lease.

    Raises Fenced when the lease was lost. A wave that grew after the snapshot was read is not moved: the pass is
    rolled back to its start and done again (each time a landing has committed, so there is an end).
    """
    memory = memory or Memory()
    status, coordination = lock_job(connection, lease.job_id, lease.token)
    for _ in range(1000):
        snapshot = read_snapshot(
            connection,
            lease.job_id,
            status=status,
            coordination_status=coordination,
            limit=limit,
            free_slots=free_slots,
            opened=memory.opened,
        )
        memory.opened = open_waves(snapshot)
        decision = decide(snapshot)
        savepoint = connection.begin_nested() if decision.changes_rows else None
        try:
            _apply(connection, lease.job_id, status, decision, complete)
        except _Overtaken:
            assert savepoint is not None
            savepoint.rollback()
            continue
        if savepoint is not None:
            savepoint.commit()
        journal.record_pass(
            connection,
            lease.job_id,
            source=trigger,
            token=lease.token,
            snapshot=snapshot,
            decision=decision,
            worked=worked,
            known=memory.situations,
        )
        return snapshot, decision
    raise WaveImportError("a wave grew under 1000 readings of one pass")


@dataclass(frozen=True, slots=True)
class Turn:
    """What a pass saw and decided, and what was claimed with it. `claims` is None where they are still to be made, each
    order in a transaction of its own, as the pass has moved something or batches are to be requeued first."""

    snapshot: JobSnapshot
    decision: Decision
    claims: list[Claim] | None


def advance_and_claim(
    connection: Connection,
    lease: Lease,
    *,
    limit: int,
    free_slots: int,
    trigger: Trigger,
    lease_seconds: float,
    worked: bool = False,
    decide: Callable[[JobSnapshot], Decision] = decide,
    complete: Callable[[Connection], None] = lambda connection: None,
    memory: Memory | None = None,
) -> Turn:
    """T2, and T3 in the same transaction where no wave is locked by it. The words are those of `advance`.

    Where the outcome of its COMMIT is unknown, the caller may call again, as with `batches.claim`.
    """
    snapshot, decision = advance(
        connection,
        lease,
        limit=limit,
        free_slots=free_slots,
        trigger=trigger,
        worked=worked,
        decide=decide,
        complete=complete,
        memory=memory,
    )
    if decision.changes_rows or decision.requeue or snapshot.status is not JobStatus.PROCESSING:
        return Turn(snapshot, decision, None)
    claims: list[Claim] = []
    for order in decision.dispatch:
        claims += batches.claim_locked(
            connection,
            lease,
            order.wave_number,
            order.count,
            plans_only=order.plans_only,
            lease_seconds=lease_seconds,
        )
    return Turn(snapshot, decision, claims)


def _apply(
    connection: Connection,
    job_id: str,
    status: JobStatus,
    decision: Decision,
    complete: Callable[[Connection], None],
) -> None:
    """Take the moves of a decision, each guarded by what the snapshot saw. Raises _Overtaken."""
    for seal in decision.seals:
        done = connection.execute(_SEAL, {"job": job_id, "wave": seal.wave_number, "seen": seal.total})
        if done.rowcount != 1:
            raise _Overtaken
    for move in decision.moves:
        assert move.target in WAVE_MOVES[move.source], f"wave {move.wave_number}: {move.source} to {move.target}"
        done = connection.execute(
            _MOVE,
            {
                "job": job_id,
                "wave": move.wave_number,
                "source": move.source.value,
                "target": move.target.value,
                "seen": move.total,
            },
        )
        if done.rowcount != 1:
            raise _Overtaken
    values: dict[str, object] = {}
    if decision.coordination_status is not None:
        values["coordination_status"] = decision.coordination_status.value
    if decision.job is not None:
        # A job that is pending and has nothing to do runs through processing in one decision.
        assert decision.job in JOB_MOVES[status] or status is JobStatus.PENDING, f"job: {status} to {decision.job}"
        values["status"] = decision.job.value
        if decision.job is not JobStatus.PROCESSING:
            values["finished_at"] = now()
        if decision.job is JobStatus.FAILED:
            values["error"] = _first_failure(connection, job_id)
            if not debts.is_first(connection, job_id):
                debts.incur(connection, job_id)
                watermarks.move(connection, job_id, planned_only=True)
        if decision.job is JobStatus.COMPLETED:
            complete(connection)
            watermarks.move(connection, job_id)
    if values:
        connection.execute(update(import_jobs).where(import_jobs.c.job_id == job_id).values(**values, updated_at=now()))


def _first_failure(connection: Connection, job_id: str) -> str:
    """Name the batch that made the job fail: "failed with no cause" cannot be."""
    row = connection.execute(
        select(wave_batches.c.batch_id, wave_batches.c.error)
        .where(wave_batches.c.job_id == job_id, wave_batches.c.status == BatchStatus.FAILED.value)
        .order_by(wave_batches.c.wave_number, wave_batches.c.batch_id)
        .limit(1)
    ).one()
    return f"batch {row.batch_id}: {row.error}"
