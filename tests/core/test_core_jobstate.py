"""The job as a value: each event by its guard, and the view that decisions are made on."""

from collections.abc import Mapping
from dataclasses import replace

import pytest

from waveimport.core.graph import PlannedWave
from waveimport.core.jobstate import (
    Advance,
    Cancel,
    ClaimBatches,
    Event,
    FailAttempt,
    JobState,
    LandPage,
    Requeue,
    RetryFailed,
    StartBatch,
    TakeLease,
    apply,
    created,
    view,
)
from waveimport.core.waves import BatchKind, BatchStatus, CoordinationStatus, JobStatus, WaveKind, WaveStatus, decide

WAVES = (
    PlannedWave(1, WaveKind.MAIN, ("order",)),
    PlannedWave(2, WaveKind.DERIVED, ("line",), parent_wave=1, depth=1),
)
PLAN = "1/order/plan"
A, B = "1/order/0000000", "1/order/0000001"
RANGES = {A: (1, BatchKind.RANGE), B: (1, BatchKind.RANGE)}
CHILD = {f"{A}/line/1": (2, BatchKind.PARENTS)}


def passed(state: JobState, now: float = 1.0) -> JobState:
    seen = view(state, now=now, limit=4, free_slots=4)
    return apply(state, Advance(state.token, decide(seen)))


def claimed(state: JobState, wave: int = 1, *, now: float = 1.0, until: float = 10.0) -> JobState:
    return apply(state, ClaimBatches(state.token, wave, 4, False, now, until))


def landed(
    state: JobState, batch_id: str, children: Mapping[str, tuple[int, BatchKind]] | None = None, *, done: bool = True
) -> JobState:
    return apply(state, LandPage(batch_id, state.batches[batch_id].attempt, children or {}, done))


@pytest.fixture
def at_work() -> JobState:
    """Two ranges of orders, dispatched until 10."""
    state = passed(apply(created(WAVES), TakeLease(0.0, 10.0)))
    return claimed(landed(claimed(state), PLAN, RANGES))


def status_of(state: JobState) -> dict[str, BatchStatus]:
    return {batch_id: batch.status for batch_id, batch in state.batches.items()}


def test_a_new_job_has_one_plan_a_main_record_and_none_for_derived_ones() -> None:
    state = created(WAVES)
    assert set(state.batches) == {PLAN}
    assert [wave.total for wave in state.waves.values()] == [1, 0]
    assert not any(wave.sealed for wave in state.waves.values())
    assert (state.status, state.coordination_status) == (JobStatus.PENDING, CoordinationStatus.NONE)


def test_a_lease_is_taken_when_it_lapsed_or_its_holder_is_proven_dead_and_the_token_grows() -> None:
    held = apply(created(WAVES), TakeLease(0.0, 10.0))
    assert held.token == 1
    assert apply(held, TakeLease(10.0, 20.0)) is held
    assert apply(held, TakeLease(5.0, 20.0, proven_dead=True)).token == 2
    assert apply(held, TakeLease(10.1, 20.0)).token == 2


def test_only_a_batch_whose_wait_is_over_is_claimed_plans_first_and_in_order(at_work: JobState) -> None:
    assert status_of(at_work) == {
        PLAN: BatchStatus.COMPLETED,
        A: BatchStatus.DISPATCHED,
        B: BatchStatus.DISPATCHED,
    }
    waiting = apply(at_work, FailAttempt(A, 1, spends_try=True, max_tries=3, not_before=50.0))
    assert claimed(waiting, now=49.0) is waiting
    assert claimed(waiting, now=50.0).batches[A].attempt == 2
    plan_only = apply(waiting, ClaimBatches(waiting.token, 1, 4, True, 60.0, 70.0))
    assert plan_only is waiting


@pytest.mark.parametrize(
    "event",
    [
        ClaimBatches(0, 1, 4, False, 1.0, 10.0),
        Requeue(0, 100.0),
        RetryFailed(0),
        StartBatch(A, 0),
        LandPage(A, 0, {}, True),
        LandPage(A, 2, {}, True),
        LandPage("1/order/none", 1, {}, True),
        LandPage(A, 1, {PLAN: (1, BatchKind.PLAN)}, True),
        FailAttempt(A, 0, True, 1),
        TakeLease(1.0, 99.0),
    ],
)
def test_a_stale_or_foreign_event_changes_nothing_at_all(at_work: JobState, event: Event) -> None:
    assert apply(at_work, event) is at_work


def test_nothing_joins_a_sealed_wave_and_nothing_of_such_a_page_is_kept(at_work: JobState) -> None:
    sealed = replace(at_work, waves={**at_work.waves, 2: replace(at_work.waves[2], sealed=True)})
    assert landed(sealed, A, CHILD) is sealed
    grown = landed(at_work, A, CHILD)
    assert grown.waves[2].total == 1
    assert grown.batches[A].status is BatchStatus.COMPLETED


def test_a_page_that_is_not_the_last_keeps_its_batch_live(at_work: JobState) -> None:
    state = landed(at_work, A, done=False)
    assert state.batches[A].status is BatchStatus.DISPATCHED
    assert state.batches[A].landed == 1


def test_requeue_takes_back_what_lapsed_and_with_proof_what_an_earlier_token_claimed(at_work: JobState) -> None:
    assert apply(at_work, Requeue(at_work.token, 10.0)) is at_work
    lapsed = apply(at_work, Requeue(at_work.token, 10.1))
    assert {status_of(lapsed)[A], status_of(lapsed)[B]} == {BatchStatus.PENDING}
    successor = apply(at_work, TakeLease(5.0, 20.0, proven_dead=True))
    assert apply(successor, Requeue(successor.token, 5.0)) is successor
    assert status_of(apply(successor, Requeue(successor.token, 5.0, proven_dead=True)))[A] is BatchStatus.PENDING


def test_tries_are_spent_by_the_batchs_own_faults_alone(at_work: JobState) -> None:
    lost = apply(at_work, FailAttempt(A, 1, spends_try=False, max_tries=1))
    assert (lost.batches[A].status, lost.batches[A].tries) == (BatchStatus.PENDING, 0)
    failed = apply(at_work, FailAttempt(A, 1, spends_try=True, max_tries=1))
    assert (failed.batches[A].status, failed.batches[A].tries) == (BatchStatus.FAILED, 1)


def test_a_retry_puts_failed_batches_their_waves_and_the_job_back(at_work: JobState) -> None:
    state = landed(apply(at_work, FailAttempt(A, 1, spends_try=True, max_tries=1)), B)
    state = passed(state)
    assert (state.status, state.waves[1].status) == (JobStatus.FAILED, WaveStatus.FAILED)
    again = apply(state, RetryFailed(state.token))
    assert (again.status, again.waves[1].status) == (JobStatus.PROCESSING, WaveStatus.PROCESSING)
    assert (again.batches[A].status, again.batches[A].tries) == (BatchStatus.PENDING, 0)
    assert apply(again, RetryFailed(again.token)) is again
    assert apply(apply(state, Cancel()), RetryFailed(state.token + 1)).status is JobStatus.CANCELLED


def test_a_cancelled_job_absorbs(at_work: JobState) -> None:
    gone = apply(at_work, Cancel())
    assert (gone.status, gone.token, gone.lease_until) == (JobStatus.CANCELLED, at_work.token + 1, None)
    assert status_of(gone)[A] is BatchStatus.PENDING
    for event in (
        Cancel(),
        TakeLease(99.0, 100.0),
        LandPage(A, 1, {}, True),
        ClaimBatches(gone.token, 1, 4, False, 1.0, 10.0),
    ):
        assert apply(gone, event) is gone


def test_a_decision_made_before_a_wave_grew_is_not_taken(at_work: JobState) -> None:
    state = landed(landed(at_work, A), B)
    decision = decide(view(state, now=1.0, limit=4, free_slots=4))
    assert decision.job is JobStatus.COMPLETED
    grown = replace(state, waves={**state.waves, 2: replace(state.waves[2], total=1)})
    assert apply(grown, Advance(grown.token, decision)) is grown
    assert apply(state, Advance(state.token - 1, decision)) is state


def test_a_seal_decided_before_its_wave_grew_is_not_taken(at_work: JobState) -> None:
    """A derived wave that goes on working is not moved: its seal alone can notice."""
    state = landed(landed(at_work, A, CHILD), B)
    decision = decide(view(state, now=1.0, limit=4, free_slots=4))
    seals = replace(decision, moves=())
    assert [seal.wave_number for seal in seals.seals] == [1, 2]
    assert apply(state, Advance(state.token, seals)).waves[2].sealed
    grown = replace(state, waves={**state.waves, 2: replace(state.waves[2], total=2)})
    assert apply(grown, Advance(grown.token, seals)) is grown


def test_the_view_counts_slots_and_tells_live_from_lapsed(at_work: JobState) -> None:
    orders, lines = view(at_work, now=10.0, limit=1, free_slots=1).waves
    assert (orders.live, orders.lapsed, orders.pending, orders.claimable, orders.total) == (2, False, False, 0, 3)
    assert (lines.total, lines.parent_wave, lines.depth) == (0, 1, 1)
    lapsed, _ = view(at_work, now=10.1, limit=1, free_slots=1).waves
    assert (lapsed.live, lapsed.lapsed, lapsed.unfinished) == (0, True, True)
    back = apply(at_work, Requeue(at_work.token, 11.0))
    counted, _ = view(back, now=11.0, limit=1, free_slots=1).waves
    assert (counted.claimable, counted.pending) == (1, True), "counted up to the slots"


def test_a_batch_in_its_back_off_is_pending_but_not_claimable(at_work: JobState) -> None:
    state = apply(at_work, FailAttempt(A, 1, spends_try=True, max_tries=3, not_before=50.0))
    orders, _ = view(state, now=1.0, limit=4, free_slots=4).waves
    assert (orders.pending, orders.claimable, orders.unfinished) == (True, 0, True)


def test_a_settled_wave_shows_its_status_and_no_batches(at_work: JobState) -> None:
    state = passed(landed(apply(at_work, FailAttempt(A, 1, spends_try=True, max_tries=1)), B))
    orders, _ = view(state, now=1.0, limit=4, free_slots=4).waves
    assert (orders.status, orders.failed, orders.live, orders.plans_open) == (WaveStatus.FAILED, True, 0, False)
