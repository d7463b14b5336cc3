"""The whole of a job as a value, and the protocol's transactions as events on it.

`JobState` holds every batch; `view` is what a decision sees of it; `apply` takes one event, which stands for one
transaction of the store, and returns the state after it. The store does the same in SQL and a test holds the two
equal. An event that its guard refuses (a stale token, a stale attempt, a sealed wave) returns the very same state:
that is how a fence looks from here. Time is a number that events carry; nothing is read from outside.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import assert_never

from waveimport.core.backoff import is_over
from waveimport.core.graph import PlannedWave
from waveimport.core.ranges import plan_batch_id
from waveimport.core.waves import (
    BATCH_MOVES,
    LEASED,
    SETTLED,
    UNFINISHED_JOB,
    BatchKind,
    BatchStatus,
    CoordinationStatus,
    Decision,
    JobSnapshot,
    JobStatus,
    WaveKind,
    WaveStatus,
    WaveView,
)


@dataclass(frozen=True, slots=True)
class WaveState:
    """A wave's own row."""

    kind: WaveKind
    status: WaveStatus = WaveStatus.PENDING
    sealed: bool = False
    parent_wave: int | None = None
    depth: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class BatchState:
    """A batch's row. `lease_until` is None unless dispatched or processing; `landed` counts its commits."""

    wave_number: int
    kind: BatchKind
    status: BatchStatus = BatchStatus.PENDING
    attempt: int = 0
    tries: int = 0
    not_before: float = 0.0
    lease_until: float | None = None
    lease_token: int = 0
    landed: int = 0


@dataclass(frozen=True, slots=True)
class JobState:
    """A job with all its waves (by number) and batches (by id)."""

    status: JobStatus
    coordination_status: CoordinationStatus
    waves: Mapping[int, WaveState]
    batches: Mapping[str, BatchState]
    token: int = 0
    lease_until: float | None = None


@dataclass(frozen=True, slots=True)
class TakeLease:
    """T1. Refused while a lease is in force, unless its holder is `proven_dead`."""

    now: float
    until: float
    proven_dead: bool = False


@dataclass(frozen=True, slots=True)
class ReleaseLease:
    """The end of T1's lease by its holder: what is at work under `token` goes back with it."""

    token: int


@dataclass(frozen=True, slots=True)
class Advance:
    """T2: the moves of a decision that was made on a snapshot of this state, under `token`."""

    token: int
    decision: Decision


@dataclass(frozen=True, slots=True)
class ClaimBatches:
    """T3: claim up to `count` claimable batches of a wave under `token`."""

    token: int
    wave_number: int
    count: int
    plans_only: bool
    now: float
    until: float


@dataclass(frozen=True, slots=True)
class StartBatch:
    """The worker's first write: dispatched to processing."""

    batch_id: str
    attempt: int


@dataclass(frozen=True, slots=True)
class LandPage:
    """T4: a page of a batch lands with the batches that come of it, by id; `done` completes the batch."""

    batch_id: str
    attempt: int
    children: Mapping[str, tuple[int, BatchKind]]
    done: bool


@dataclass(frozen=True, slots=True)
class Requeue:
    """T5: put back what lapsed; with `proven_dead` also what was claimed under an earlier token."""

    token: int
    now: float
    proven_dead: bool = False


@dataclass(frozen=True, slots=True)
class FailAttempt:
    """T6: an attempt failed. `spends_try` says whether the batch itself was at fault."""

    batch_id: str
    attempt: int
    spends_try: bool
    max_tries: int
    not_before: float = 0.0


@dataclass(frozen=True, slots=True)
class RetryFailed:
    """T7: failed batches, their waves and the job go back to work, under `token`."""

    token: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """T8: end the job; live batches go back so that none of their commits can pass."""


Event = (
    TakeLease
    | ReleaseLease
    | Advance
    | ClaimBatches
    | StartBatch
    | LandPage
    | Requeue
    | FailAttempt
    | RetryFailed
    | Cancel
)


def created(waves: tuple[PlannedWave, ...], debts: Mapping[str, tuple[int, BatchKind]] | None = None) -> JobState:
    """T0: a new job, its waves unsealed, one plan batch per main record, and the batches that it carries for earlier
    jobs: their wave and kind by id."""
    debts = debts or {}
    batches = {batch_id: BatchState(number, kind) for batch_id, (number, kind) in debts.items()}
    states: dict[int, WaveState] = {}
    for wave in waves:
        plans = wave.records if wave.kind is WaveKind.MAIN else ()
        for record in plans:
            batches[plan_batch_id(wave.wave_number, record)] = BatchState(wave.wave_number, BatchKind.PLAN)
        states[wave.wave_number] = WaveState(
            wave.kind,
            parent_wave=wave.parent_wave,
            depth=wave.depth,
            total=len(plans) + sum(number == wave.wave_number for number, _ in debts.values()),
        )
    return JobState(JobStatus.PENDING, CoordinationStatus.NONE, states, batches)


def view(state: JobState, *, now: float, limit: int, free_slots: int) -> JobSnapshot:
    """Return what a decision sees of the state at `now`: existence and bounded counts, per wave."""
    views = []
    for number in sorted(state.waves):
        wave = state.waves[number]
        if wave.status in SETTLED:
            views.append(_wave_view(number, wave, failed=wave.status is WaveStatus.FAILED))
            continue
        mine = [batch for batch in state.batches.values() if batch.wave_number == number]
        pending = [batch for batch in mine if batch.status is BatchStatus.PENDING]
        plans = sum(b.kind is BatchKind.PLAN and is_over(b.not_before, now) for b in pending)
        others = sum(b.kind is not BatchKind.PLAN and is_over(b.not_before, now) for b in pending)
        live = [batch for batch in mine if batch.lease_until is not None and batch.lease_until >= now]
        lapsed = [batch for batch in mine if batch.lease_until is not None and batch.lease_until < now]
        views.append(
            replace(
                _wave_view(number, wave, failed=any(b.status is BatchStatus.FAILED for b in mine)),
                claimable=min(others, max(limit, 1)),
                claimable_plans=min(plans, max(limit, 1)),
                pending=bool(pending),
                live=len(live),
                lapsed=bool(lapsed),
                plans_open=any(b.kind is BatchKind.PLAN and b.status is not BatchStatus.COMPLETED for b in mine),
            )
        )
    return JobSnapshot(state.status, state.coordination_status, tuple(views), limit, free_slots)


def _wave_view(number: int, wave: WaveState, *, failed: bool) -> WaveView:
    return WaveView(
        wave_number=number,
        kind=wave.kind,
        status=wave.status,
        sealed=wave.sealed,
        total=wave.total,
        failed=failed,
        parent_wave=wave.parent_wave,
        depth=wave.depth,
    )


def apply(state: JobState, event: Event) -> JobState:
    """Return the state after one event; the very same object where its guard refuses it. Raises nothing."""
    match event:
        case TakeLease():
            return _take_lease(state, event)
        case ReleaseLease():
            return _release(state, event)
        case Advance():
            return _advance(state, event)
        case ClaimBatches():
            return _claim(state, event)
        case StartBatch():
            batch = _current(state, event.batch_id, event.attempt)
            if batch is None or batch.status is not BatchStatus.DISPATCHED:
                return state
            return _with(state, event.batch_id, replace(batch, status=BatchStatus.PROCESSING))
        case LandPage():
            return _land(state, event)
        case Requeue():
            return _requeue(state, event)
        case FailAttempt():
            return _fail(state, event)
        case RetryFailed():
            return _retry(state, event)
        case Cancel():
            return _cancel(state)
        case _:
            assert_never(event)


def _take_lease(state: JobState, event: TakeLease) -> JobState:
    held = state.lease_until is not None and state.lease_until >= event.now
    if state.status not in UNFINISHED_JOB | {JobStatus.FAILED} or (held and not event.proven_dead):
        return state
    return replace(state, token=state.token + 1, lease_until=event.until)


def _release(state: JobState, event: ReleaseLease) -> JobState:
    if event.token != state.token or state.lease_until is None:
        return state
    batches = {
        batch_id: replace(batch, status=BatchStatus.PENDING, lease_until=None)
        if batch.status in LEASED and batch.lease_token == event.token
        else batch
        for batch_id, batch in state.batches.items()
    }
    return replace(state, lease_until=None, batches=batches)


def _advance(state: JobState, event: Advance) -> JobState:
    if event.token != state.token or not event.decision.changes_rows:
        return state
    waves = dict(state.waves)
    for seal in event.decision.seals:
        if waves[seal.wave_number].sealed or waves[seal.wave_number].total != seal.total:
            return state
        waves[seal.wave_number] = replace(waves[seal.wave_number], sealed=True)
    for move in event.decision.moves:
        wave = waves[move.wave_number]
        if (wave.status, wave.total) != (move.source, move.total):
            return state
        waves[move.wave_number] = replace(wave, status=move.target)
    return replace(
        state,
        waves=waves,
        status=event.decision.job or state.status,
        coordination_status=event.decision.coordination_status or state.coordination_status,
    )


def _claim(state: JobState, event: ClaimBatches) -> JobState:
    if event.token != state.token or state.status is not JobStatus.PROCESSING:
        return state
    ready = sorted(
        (batch.kind is not BatchKind.PLAN, batch_id)
        for batch_id, batch in state.batches.items()
        if batch.wave_number == event.wave_number
        and batch.status is BatchStatus.PENDING
        and is_over(batch.not_before, event.now)
        and (batch.kind is BatchKind.PLAN or not event.plans_only)
    )
    if not ready or event.count <= 0:
        return state
    batches = dict(state.batches)
    for _, batch_id in ready[: event.count]:
        batch = batches[batch_id]
        batches[batch_id] = replace(
            batch,
            status=BatchStatus.DISPATCHED,
            attempt=batch.attempt + 1,
            lease_until=event.until,
            lease_token=event.token,
            not_before=0.0,
        )
    return replace(state, batches=batches)


def _land(state: JobState, event: LandPage) -> JobState:
    batch = _current(state, event.batch_id, event.attempt)
    if batch is None:
        return state
    waves, batches = dict(state.waves), dict(state.batches)
    for child_id, (number, kind) in event.children.items():
        wave = waves[number]
        if wave.sealed or wave.status in SETTLED or child_id in batches:
            return state
        waves[number] = replace(wave, total=wave.total + 1)
        batches[child_id] = BatchState(number, kind)
    landed = replace(batch, landed=batch.landed + 1)
    batches[event.batch_id] = replace(landed, status=BatchStatus.COMPLETED, lease_until=None) if event.done else landed
    return replace(state, waves=waves, batches=batches)


def _requeue(state: JobState, event: Requeue) -> JobState:
    if event.token != state.token:
        return state
    batches = dict(state.batches)
    for batch_id, batch in state.batches.items():
        if batch.lease_until is None:
            continue
        if batch.lease_until < event.now or (event.proven_dead and batch.lease_token < event.token):
            batches[batch_id] = replace(batch, status=BatchStatus.PENDING, lease_until=None)
    return replace(state, batches=batches) if batches != state.batches else state


def _fail(state: JobState, event: FailAttempt) -> JobState:
    batch = _current(state, event.batch_id, event.attempt)
    if batch is None:
        return state
    tries = batch.tries + event.spends_try
    final = event.spends_try and tries >= event.max_tries
    target = BatchStatus.FAILED if final else BatchStatus.PENDING
    assert target in BATCH_MOVES[batch.status]
    return _with(
        state,
        event.batch_id,
        replace(batch, status=target, tries=tries, lease_until=None, not_before=0.0 if final else event.not_before),
    )


def _retry(state: JobState, event: RetryFailed) -> JobState:
    failed = {i: b for i, b in state.batches.items() if b.status is BatchStatus.FAILED}
    if event.token != state.token or not failed or state.status not in UNFINISHED_JOB | {JobStatus.FAILED}:
        return state
    batches = dict(state.batches)
    for batch_id, batch in failed.items():
        batches[batch_id] = replace(batch, status=BatchStatus.PENDING, tries=0, not_before=0.0)
    waves = {
        number: replace(wave, status=WaveStatus.PROCESSING) if wave.status is WaveStatus.FAILED else wave
        for number, wave in state.waves.items()
    }
    status = JobStatus.PROCESSING if state.status is JobStatus.FAILED else state.status
    return replace(state, waves=waves, batches=batches, status=status)


def _cancel(state: JobState) -> JobState:
    if state.status in (JobStatus.COMPLETED, JobStatus.CANCELLED):
        return state
    batches = {
        batch_id: replace(batch, status=BatchStatus.PENDING, lease_until=None) if batch.status in LEASED else batch
        for batch_id, batch in state.batches.items()
    }
    return replace(state, status=JobStatus.CANCELLED, token=state.token + 1, lease_until=None, batches=batches)


def _current(state: JobState, batch_id: str, attempt: int) -> BatchState | None:
    """Return the batch if `attempt` is its current, live one: the fence."""
    batch = state.batches.get(batch_id)
    return batch if batch is not None and batch.attempt == attempt and batch.status in LEASED else None


def _with(state: JobState, batch_id: str, batch: BatchState) -> JobState:
    return replace(state, batches={**state.batches, batch_id: batch})
