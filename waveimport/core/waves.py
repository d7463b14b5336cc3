"""The wave machine: every status move of the product is decided here, by a pure function.

A job brings records in *waves*. A **main** wave holds the records of one dependency level and is processed after
the main waves before it. A **derived** wave holds the children of one parent record (lines of sales orders); its
batches are made in the commits that land the parents, so it grows, and runs, while its parent's wave does.

The rules, in the words that the tables below keep:

* A wave is *settled* when it is completed or failed.
* A main wave starts when every main wave before it is settled: a failed wave stops nothing else.
* A derived wave starts with its first batch. That it is processing already is an input like any other and never a
  reason to return early: 35 of 45 batches once waited for ever behind such a return.
* A wave is *sealed* when it can get no new batches. A main wave is sealed by the decision that completes it; a
  derived wave by the decision that completes its parent's wave, and by nothing else.
* completed = sealed, and every batch completed. An empty derived wave completes at once when it is sealed.
* failed = none of its batches can still move, its parent's wave (if any) is settled, and a batch of its own or its
  parent's wave failed. Only a retry leaves `failed`.
* The job is completed when every wave is, the derived and the empty ones too; a job was once called complete while
  its derived waves still grew. It is failed when all waves are settled and one failed.

`decide` sees a `JobSnapshot` and answers with a `Decision`. All moves of one decision are taken in one transaction,
to a fixpoint: deciding again on what it leads to moves nothing more. Dispatch is part of every decision, whatever
else the wave is doing: a claimable batch and a free slot mean that a dispatch is decided.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

DECISION_VERSION = 1
"""Raised with each change of what `decide` answers; stands on every journal entry."""


class JobStatus(StrEnum):
    """Status of a job. `completed` and `cancelled` absorb; `failed` is left by a retry or a cancel only."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


class WaveStatus(StrEnum):
    """Status of a wave."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class BatchStatus(StrEnum):
    """Status of a batch. `dispatched` and `processing` have a lease, the others have none."""

    PENDING = "pending"
    DISPATCHED = "dispatched"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"


class WaveKind(StrEnum):
    """`main`: a level of the dependency graph. `derived`: the children of one parent record."""

    MAIN = "main"
    DERIVED = "derived"


class BatchKind(StrEnum):
    """What a batch fetches: the bounds of a record, a key range of it, or the children of a list of parents."""

    PLAN = "plan"
    RANGE = "range"
    PARENTS = "parents"


class CoordinationStatus(StrEnum):
    """How far the planning of a job has come."""

    NONE = "none"
    PLANNING = "planning"
    PLANNED = "planned"


class Trigger(StrEnum):
    """What set a coordination pass off; stands on every journal entry."""

    CRON = "cron"
    MANUAL = "manual"
    RETRY = "retry"
    WATCHDOG = "watchdog"
    WORKER = "worker"


JOB_MOVES: Mapping[JobStatus, frozenset[JobStatus]] = {
    JobStatus.PENDING: frozenset({JobStatus.PROCESSING, JobStatus.CANCELLED}),
    JobStatus.PROCESSING: frozenset({JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED}),
    JobStatus.COMPLETED: frozenset(),
    JobStatus.FAILED: frozenset({JobStatus.PROCESSING, JobStatus.CANCELLED}),
    JobStatus.CANCELLED: frozenset(),
}
WAVE_MOVES: Mapping[WaveStatus, frozenset[WaveStatus]] = {
    WaveStatus.PENDING: frozenset({WaveStatus.PROCESSING, WaveStatus.COMPLETED, WaveStatus.FAILED}),
    WaveStatus.PROCESSING: frozenset({WaveStatus.COMPLETED, WaveStatus.FAILED}),
    WaveStatus.COMPLETED: frozenset(),
    WaveStatus.FAILED: frozenset({WaveStatus.PROCESSING}),
}
BATCH_MOVES: Mapping[BatchStatus, frozenset[BatchStatus]] = {
    BatchStatus.PENDING: frozenset({BatchStatus.DISPATCHED}),
    BatchStatus.DISPATCHED: frozenset(
        {BatchStatus.PROCESSING, BatchStatus.COMPLETED, BatchStatus.PENDING, BatchStatus.FAILED}
    ),
    BatchStatus.PROCESSING: frozenset({BatchStatus.COMPLETED, BatchStatus.PENDING, BatchStatus.FAILED}),
    BatchStatus.COMPLETED: frozenset(),
    BatchStatus.FAILED: frozenset({BatchStatus.PENDING}),
}
LEASED = frozenset({BatchStatus.DISPATCHED, BatchStatus.PROCESSING})
SETTLED = frozenset({WaveStatus.COMPLETED, WaveStatus.FAILED})
UNFINISHED_JOB = frozenset({JobStatus.PENDING, JobStatus.PROCESSING})


@dataclass(frozen=True, slots=True)
class WaveView:
    """What a decision needs to know of one wave, and no more: it costs the same at 45 batches and at a million.

    `claimable`, `claimable_plans` and `live` are counted up to the slots of the run (`JobSnapshot.limit`), never
    further; `pending` says that there is a pending batch, be it waiting for its back-off. `plans_open` says that a
    planning batch of the wave is not completed.
    """

    wave_number: int
    kind: WaveKind
    status: WaveStatus
    sealed: bool
    total: int
    claimable: int = 0
    claimable_plans: int = 0
    pending: bool = False
    live: int = 0
    lapsed: bool = False
    failed: bool = False
    plans_open: bool = False
    parent_wave: int | None = None
    depth: int = 0

    @property
    def unfinished(self) -> bool:
        """Whether a batch of the wave can still move by itself."""
        return bool(self.pending or self.claimable or self.claimable_plans or self.live or self.lapsed)


@dataclass(frozen=True, slots=True)
class JobSnapshot:
    """A job as one statement saw it under the lock of its row, and every setting that the decision uses.

    `limit` is the number of slots of this run (requests in flight at most); `free_slots` of them are idle.
    """

    status: JobStatus
    coordination_status: CoordinationStatus
    waves: tuple[WaveView, ...]
    limit: int
    free_slots: int


@dataclass(frozen=True, slots=True)
class WaveMove:
    """A guarded move of a wave: it is taken only from `source`, and only while `total` batches are in the wave."""

    wave_number: int
    source: WaveStatus
    target: WaveStatus
    total: int
    reason: str


class WaitsFor(StrEnum):
    """What a wave that does not move waits for. `main_waves`: earlier main waves are not settled. `parent`: its
    parent's wave has made no batch for it. `batches`: a batch of it can still move. `seal`: every batch of it is done,
    and its parent's wave can still make new ones."""

    MAIN_WAVES = "main_waves"
    PARENT = "parent"
    BATCHES = "batches"
    SEAL = "seal"


@dataclass(frozen=True, slots=True)
class Waits:
    """A wave that cannot move, and on which other waves that hangs; none where it is its own batches."""

    wave_number: int
    what: WaitsFor
    on: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Seal:
    """A wave that can get no new batches from this decision on."""

    wave_number: int
    total: int
    reason: str


@dataclass(frozen=True, slots=True)
class Dispatch:
    """Up to `count` claimable batches of a wave are to be claimed; only planning ones if `plans_only`."""

    wave_number: int
    count: int
    plans_only: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Decision:
    """All that follows from one snapshot. `job` and `coordination_status` are targets, None for no move."""

    job: JobStatus | None = None
    coordination_status: CoordinationStatus | None = None
    moves: tuple[WaveMove, ...] = ()
    seals: tuple[Seal, ...] = ()
    requeue: tuple[int, ...] = ()
    dispatch: tuple[Dispatch, ...] = ()
    reason: str = ""

    @property
    def changes_rows(self) -> bool:
        """Whether the job or a wave moves (dispatch and requeue are done after the commit)."""
        return bool(self.job or self.coordination_status or self.moves or self.seals)


def decide(snapshot: JobSnapshot) -> Decision:
    """Decide every move that `snapshot` allows. Pure and total: it answers for any snapshot and raises nothing.

    A finished job moves nothing and dispatches nothing.
    """
    if snapshot.status not in UNFINISHED_JOB:
        return Decision(reason=f"the job is {snapshot.status}")
    if not snapshot.waves:
        return Decision(reason="the job has no waves")
    status = {wave.wave_number: wave.status for wave in snapshot.waves}
    sealed = {wave.wave_number: wave.sealed for wave in snapshot.waves}
    moves: list[WaveMove] = []
    seals: list[Seal] = []
    # Each wave moves at most twice (pending, processing, settled): the bound of the loop to the fixpoint.
    for _ in range(2 * len(snapshot.waves) + 1):
        moved = False
        for wave in snapshot.waves:
            move = _judge(wave, snapshot.waves, status, sealed)
            if not isinstance(move, WaveMove):
                continue
            moved = True
            moves.append(move)
            status[wave.wave_number] = move.target
            if move.target is WaveStatus.COMPLETED:
                seals.extend(_seals_of(wave, snapshot.waves, sealed))
        if not moved:
            break
    job = _job_move(snapshot, status)
    return Decision(
        job=job,
        coordination_status=_coordination_move(snapshot),
        moves=tuple(moves),
        seals=tuple(seals),
        requeue=tuple(wave.wave_number for wave in snapshot.waves if wave.lapsed),
        dispatch=() if job in (JobStatus.COMPLETED, JobStatus.FAILED) else _dispatch(snapshot, status),
        reason=_summary(snapshot, job, status),
    )


def standing(snapshot: JobSnapshot) -> tuple[Waits, ...]:
    """Return what each wave waits for that the decision on this snapshot leaves unsettled: the very conditions by which
    `decide` does not move it."""
    decision = decide(snapshot)
    status = {wave.wave_number: wave.status for wave in snapshot.waves}
    sealed = {wave.wave_number: wave.sealed for wave in snapshot.waves}
    status |= {move.wave_number: move.target for move in decision.moves}
    sealed |= {seal.wave_number: True for seal in decision.seals}
    judged = [_judge(wave, snapshot.waves, status, sealed) for wave in snapshot.waves]
    return tuple(one for one in judged if isinstance(one, Waits))


def _judge(
    wave: WaveView,
    waves: tuple[WaveView, ...],
    status: Mapping[int, WaveStatus],
    sealed: Mapping[int, bool],
) -> WaveMove | Waits | None:
    """Return the next move of one wave given what was decided so far, or what it waits for; None once it is settled."""
    here = status[wave.wave_number]
    parent = None if wave.parent_wave is None else status[wave.parent_wave]

    def move(target: WaveStatus, reason: str) -> WaveMove:
        return WaveMove(wave.wave_number, here, target, wave.total, reason)

    def waits(what: WaitsFor, *on: int) -> Waits:
        return Waits(wave.wave_number, what, on)

    match here:
        case WaveStatus.COMPLETED | WaveStatus.FAILED:
            return None
        case WaveStatus.PENDING if wave.kind is WaveKind.MAIN:
            ahead = [w.wave_number for w in waves if w.kind is WaveKind.MAIN and w.wave_number < wave.wave_number]
            unsettled = [number for number in ahead if status[number] not in SETTLED]
            if unsettled:
                return waits(WaitsFor.MAIN_WAVES, *unsettled)
            return move(WaveStatus.PROCESSING, "every main wave before it is settled")
        case WaveStatus.PENDING:
            if wave.total:
                return move(WaveStatus.PROCESSING, "it has batches")
            if sealed[wave.wave_number]:
                return move(WaveStatus.COMPLETED, f"wave {wave.parent_wave} completed and made no batch for it")
            if parent is WaveStatus.FAILED:
                return move(WaveStatus.FAILED, f"its parent's wave {wave.parent_wave} failed")
            return waits(WaitsFor.PARENT, wave.parent_wave or 0)
        case WaveStatus.PROCESSING:
            if wave.unfinished:
                return waits(WaitsFor.BATCHES)
            if parent is not None and parent not in SETTLED:
                return waits(WaitsFor.SEAL, wave.parent_wave or 0)
            if wave.failed:
                return move(WaveStatus.FAILED, "a batch of it failed for good and no other can move")
            if parent is WaveStatus.FAILED:
                return move(WaveStatus.FAILED, f"its parent's wave {wave.parent_wave} failed")
            if wave.kind is WaveKind.MAIN or sealed[wave.wave_number]:
                return move(WaveStatus.COMPLETED, "every batch is completed and no new one can come")
            return waits(WaitsFor.SEAL, wave.parent_wave or 0)


def _seals_of(wave: WaveView, waves: tuple[WaveView, ...], sealed: dict[int, bool]) -> list[Seal]:
    """Seal what the completion of `wave` seals: itself if main, and every wave derived from it."""
    result = []
    for other in waves:
        own = other.wave_number == wave.wave_number
        if (own or other.parent_wave == wave.wave_number) and not sealed[other.wave_number]:
            sealed[other.wave_number] = True
            reason = "it is completed" if own else f"its parent's wave {wave.wave_number} completed"
            result.append(Seal(other.wave_number, other.total, reason))
    return result


def _job_move(snapshot: JobSnapshot, status: Mapping[int, WaveStatus]) -> JobStatus | None:
    values = set(status.values())
    if values == {WaveStatus.COMPLETED}:
        return JobStatus.COMPLETED
    if values <= SETTLED:
        return JobStatus.FAILED
    return JobStatus.PROCESSING if snapshot.status is JobStatus.PENDING else None


def _coordination_move(snapshot: JobSnapshot) -> CoordinationStatus | None:
    open_plans = any(wave.plans_open for wave in snapshot.waves)
    target = CoordinationStatus.PLANNING if open_plans else CoordinationStatus.PLANNED
    return None if target is snapshot.coordination_status else target


def _dispatch(snapshot: JobSnapshot, status: Mapping[int, WaveStatus]) -> tuple[Dispatch, ...]:
    """Share the free slots out: a preference, never a gate, so that no slot stays idle beside a claimable batch.

    A quarter of the slots prefers the lowest processing main wave, so that the parents of derived batches keep
    coming; the others prefer the deepest derived wave, then main waves in order, then the planning of main waves
    that are still to come (their long COUNTs run ahead).
    """
    left = {w.wave_number: w.claimable + w.claimable_plans for w in snapshot.waves}
    ready = [w for w in snapshot.waves if status[w.wave_number] is WaveStatus.PROCESSING]
    mains = [w for w in ready if w.kind is WaveKind.MAIN]
    derived = sorted((w for w in ready if w.kind is WaveKind.DERIVED), key=lambda w: (-w.depth, w.wave_number))
    ahead = [w for w in snapshot.waves if status[w.wave_number] is WaveStatus.PENDING and w.claimable_plans]
    for wave in ahead:
        left[wave.wave_number] = wave.claimable_plans
    main_live = sum(w.live for w in mains)
    quota = snapshot.limit // 4
    orders: dict[int, tuple[int, str, bool]] = {}
    for _ in range(snapshot.free_slots):
        main = next((w for w in mains if left[w.wave_number]), None)
        child = next((w for w in derived if left[w.wave_number]), None)
        plan = next((w for w in ahead if left[w.wave_number]), None)
        if main is not None and (main_live < quota or child is None):
            chosen, reason = main, "a slot kept for main waves" if child else "the main wave at work"
            main_live += 1
        elif child is not None:
            chosen, reason = child, "the deepest derived wave first"
        elif plan is not None:
            chosen, reason = plan, "planning runs ahead"
        else:
            break
        left[chosen.wave_number] -= 1
        count, _, _ = orders.get(chosen.wave_number, (0, "", False))
        orders[chosen.wave_number] = (count + 1, reason, chosen in ahead)
    return tuple(Dispatch(number, count, plans, reason) for number, (count, reason, plans) in orders.items())


def _summary(snapshot: JobSnapshot, job: JobStatus | None, status: Mapping[int, WaveStatus]) -> str:
    """Say in one phrase where the job stands after the decision."""
    if job is JobStatus.COMPLETED:
        return "every wave is completed"
    if job is JobStatus.FAILED:
        failed = [str(number) for number, value in status.items() if value is WaveStatus.FAILED]
        return f"all waves are settled; failed: wave {', '.join(failed)}"
    at_work = [str(number) for number, value in status.items() if value is WaveStatus.PROCESSING]
    return f"at work: wave {', '.join(at_work)}" if at_work else "nothing can start yet"
