"""The wave machine by example and by property; the predecessor's bugs by name."""

from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from waveimport.core.graph import PlannedWave
from waveimport.core.jobstate import (
    Advance,
    BatchState,
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
from waveimport.core.replay import essence, state_after
from waveimport.core.waves import (
    BATCH_MOVES,
    JOB_MOVES,
    LEASED,
    SETTLED,
    WAVE_MOVES,
    BatchKind,
    BatchStatus,
    CoordinationStatus,
    JobSnapshot,
    JobStatus,
    WaveKind,
    WaveStatus,
    WaveView,
    decide,
)

ORDERS = PlannedWave(1, WaveKind.MAIN, ("order",))
ITEMS = PlannedWave(2, WaveKind.MAIN, ("item",))
LINES = PlannedWave(3, WaveKind.DERIVED, ("line",), parent_wave=1, depth=1)
PARTS = PlannedWave(4, WaveKind.DERIVED, ("part",), parent_wave=3, depth=2)
WAVES = (ORDERS, ITEMS, LINES, PARTS)


def snapshot(*waves: WaveView, status: JobStatus = JobStatus.PROCESSING, limit: int = 8, free: int = 8) -> JobSnapshot:
    return JobSnapshot(status, CoordinationStatus.PLANNED, waves, limit, free)


def main_wave(number: int = 1, status: WaveStatus = WaveStatus.PROCESSING, **of: object) -> WaveView:
    return replace(WaveView(number, WaveKind.MAIN, status, sealed=status is WaveStatus.COMPLETED, total=10), **of)


def derived_wave(
    number: int = 2, parent: int = 1, status: WaveStatus = WaveStatus.PROCESSING, **of: object
) -> WaveView:
    wave = WaveView(number, WaveKind.DERIVED, status, sealed=False, total=10, parent_wave=parent, depth=1)
    return replace(wave, **of)


# --- by example -------------------------------------------------------------------------------------------------


def test_a_wave_that_is_processing_already_still_gets_its_batches_dispatched() -> None:
    """Bug 2: dispatch returned early on "wave is already processing"; 35 of 45 batches stayed pending for ever."""
    parents = main_wave(live=1)
    lines = derived_wave(claimable=35, pending=True, total=45)
    decision = decide(snapshot(parents, lines, free=7))
    assert [(order.wave_number, order.count) for order in decision.dispatch] == [(2, 7)]


def test_a_job_is_not_complete_while_a_derived_wave_is_still_growing() -> None:
    """Bug 3: the job was marked complete when its main waves were."""
    decision = decide(snapshot(main_wave(status=WaveStatus.COMPLETED), derived_wave(sealed=True, live=1)))
    assert decision.job is None
    assert decision.moves == ()


def test_a_derived_wave_with_all_batches_done_waits_for_its_parents_wave() -> None:
    decision = decide(snapshot(main_wave(live=1), derived_wave()))
    assert decision.moves == ()


def test_the_decision_that_completes_a_parent_seals_and_completes_its_idle_children() -> None:
    decision = decide(snapshot(main_wave(), derived_wave()))
    assert [seal.wave_number for seal in decision.seals] == [1, 2]
    assert [(move.wave_number, move.target) for move in decision.moves] == [
        (1, WaveStatus.COMPLETED),
        (2, WaveStatus.COMPLETED),
    ]
    assert decision.job is JobStatus.COMPLETED


def test_a_failed_parent_seals_nothing() -> None:
    decision = decide(snapshot(main_wave(failed=True), derived_wave(pending=True, claimable=1)))
    assert decision.seals == ()
    assert [(move.wave_number, move.target) for move in decision.moves] == [(1, WaveStatus.FAILED)]
    assert decision.dispatch, "derived batches that are there run all the same"


def test_an_empty_derived_wave_completes_at_once_when_its_parent_does() -> None:
    decision = decide(snapshot(main_wave(), derived_wave(status=WaveStatus.PENDING, total=0)))
    assert decision.job is JobStatus.COMPLETED


def test_an_empty_derived_wave_of_a_failed_parent_fails_with_it() -> None:
    decision = decide(snapshot(main_wave(failed=True), derived_wave(status=WaveStatus.PENDING, total=0)))
    assert decision.job is JobStatus.FAILED


def test_the_next_main_wave_starts_when_the_one_before_has_failed() -> None:
    decision = decide(snapshot(main_wave(1, failed=True), main_wave(2, WaveStatus.PENDING, claimable=3, pending=True)))
    assert (2, WaveStatus.PROCESSING) in [(move.wave_number, move.target) for move in decision.moves]
    assert sum(order.count for order in decision.dispatch) == 3


def test_the_next_main_wave_waits_while_the_one_before_is_at_work() -> None:
    decision = decide(snapshot(main_wave(1, live=1), main_wave(2, WaveStatus.PENDING, claimable=3, pending=True)))
    assert decision.moves == ()
    assert decision.dispatch == ()


def test_planning_of_later_waves_runs_ahead() -> None:
    later = main_wave(2, WaveStatus.PENDING, claimable_plans=2, pending=True, plans_open=True)
    decision = decide(snapshot(main_wave(1, live=1), later))
    assert [(order.wave_number, order.count, order.plans_only) for order in decision.dispatch] == [(2, 2, True)]


def test_a_quarter_of_the_slots_is_kept_for_the_main_wave() -> None:
    decision = decide(snapshot(main_wave(claimable=8, pending=True), derived_wave(claimable=8, pending=True)))
    assert {order.wave_number: order.count for order in decision.dispatch} == {1: 2, 2: 6}


def test_a_slot_with_nothing_of_its_kind_takes_any() -> None:
    decision = decide(snapshot(main_wave(claimable=8, pending=True), derived_wave(claimable=1, pending=True)))
    assert {order.wave_number: order.count for order in decision.dispatch} == {1: 7, 2: 1}


def test_a_lapsed_batch_is_requeued_and_keeps_its_wave_open() -> None:
    decision = decide(snapshot(main_wave(lapsed=True)))
    assert decision.requeue == (1,)
    assert decision.moves == ()


def test_a_derived_wave_that_is_done_fails_with_the_wave_of_its_parents() -> None:
    decision = decide(snapshot(main_wave(status=WaveStatus.FAILED), derived_wave()))
    assert [(move.wave_number, move.target) for move in decision.moves] == [(2, WaveStatus.FAILED)]
    assert decision.job is JobStatus.FAILED


def test_a_job_fails_beside_waves_that_are_completed() -> None:
    decision = decide(snapshot(main_wave(1, WaveStatus.COMPLETED), main_wave(2, failed=True)))
    assert decision.job is JobStatus.FAILED


def test_the_deepest_derived_wave_goes_first() -> None:
    lines = derived_wave(2, claimable=8, pending=True)
    parts = derived_wave(3, 2, claimable=8, pending=True, depth=2)
    decision = decide(snapshot(main_wave(live=1), lines, parts))
    assert [(order.wave_number, order.count) for order in decision.dispatch] == [(3, 8)]


def test_a_quarter_is_rounded_down() -> None:
    parents, lines = main_wave(live=1, claimable=8, pending=True), derived_wave(claimable=8, pending=True)
    decision = decide(snapshot(parents, lines, limit=6, free=5))
    assert [(order.wave_number, order.count) for order in decision.dispatch] == [(2, 5)]


@pytest.mark.parametrize(
    ("is_open", "stands", "target"),
    [
        (True, CoordinationStatus.NONE, CoordinationStatus.PLANNING),
        (True, CoordinationStatus.PLANNING, None),
        (False, CoordinationStatus.PLANNING, CoordinationStatus.PLANNED),
        (False, CoordinationStatus.PLANNED, None),
    ],
)
def test_a_job_is_planned_when_no_plan_is_open(
    is_open: bool, stands: CoordinationStatus, target: CoordinationStatus | None
) -> None:
    seen = snapshot(main_wave(1, WaveStatus.COMPLETED), main_wave(2, pending=True, plans_open=is_open))
    assert decide(replace(seen, coordination_status=stands)).coordination_status is target


@pytest.mark.parametrize(
    ("seen", "reasons"),
    [
        (snapshot(main_wave(), status=JobStatus.CANCELLED), ["the job is cancelled"]),
        (snapshot(), ["the job has no waves"]),
        (
            snapshot(main_wave(status=WaveStatus.PENDING, pending=True, claimable_plans=1), status=JobStatus.PENDING),
            ["every main wave before it is settled", "the main wave at work", "at work: wave 1"],
        ),
        (
            snapshot(main_wave(1, live=1), main_wave(2, WaveStatus.PENDING, claimable_plans=1, pending=True)),
            ["planning runs ahead", "at work: wave 1"],
        ),
        (
            snapshot(
                main_wave(claimable=8, pending=True),
                derived_wave(status=WaveStatus.PENDING, claimable=8, pending=True),
            ),
            [
                "it has batches",
                "a slot kept for main waves",
                "the deepest derived wave first",
                "at work: wave 1, 2",
            ],
        ),
        (
            snapshot(main_wave(), derived_wave(status=WaveStatus.PENDING, total=0)),
            [
                "every batch is completed and no new one can come",
                "wave 1 completed and made no batch for it",
                "it is completed",
                "its parent's wave 1 completed",
                "every wave is completed",
            ],
        ),
        (
            snapshot(
                main_wave(1, failed=True),
                derived_wave(2, status=WaveStatus.PENDING, total=0),
                derived_wave(3),
                main_wave(4, WaveStatus.COMPLETED),
            ),
            [
                "a batch of it failed for good and no other can move",
                "its parent's wave 1 failed",
                "its parent's wave 1 failed",
                "all waves are settled; failed: wave 1, 2, 3",
            ],
        ),
        (snapshot(derived_wave(1, 1, WaveStatus.PENDING, total=0)), ["nothing can start yet"]),
    ],
)
def test_every_decision_says_why(seen: JobSnapshot, reasons: list[str]) -> None:
    """In words that `status` and the journal show."""
    decision = decide(seen)
    said = [one.reason for one in (*decision.moves, *decision.seals, *decision.dispatch)] + [decision.reason]
    assert said == reasons


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_finished_job_moves_and_dispatches_nothing(status: JobStatus) -> None:
    decision = decide(snapshot(main_wave(claimable=5, pending=True, lapsed=True), status=status))
    assert not decision.changes_rows
    assert (decision.dispatch, decision.requeue) == ((), ())


# --- by property ------------------------------------------------------------------------------------------------


@st.composite
def snapshots(draw: st.DrawFn) -> JobSnapshot:
    """Any snapshot at all, reachable or not: `decide` must be total and keep its rules on each."""
    waves: list[WaveView] = []
    for number in range(1, draw(st.integers(1, 5)) + 1):
        derived = bool(waves) and draw(st.booleans())
        status = draw(st.sampled_from(WaveStatus))
        waves.append(
            WaveView(
                wave_number=number,
                kind=WaveKind.DERIVED if derived else WaveKind.MAIN,
                status=status,
                sealed=status is WaveStatus.COMPLETED or (derived and draw(st.booleans())),
                total=draw(st.integers(0, 3)),
                claimable=draw(st.integers(0, 3)),
                claimable_plans=draw(st.integers(0, 2)),
                pending=draw(st.booleans()),
                live=draw(st.integers(0, 3)),
                lapsed=draw(st.booleans()),
                failed=draw(st.booleans()),
                plans_open=draw(st.booleans()),
                parent_wave=draw(st.sampled_from([w.wave_number for w in waves])) if derived else None,
                depth=1 if derived else 0,
            )
        )
    return JobSnapshot(
        draw(st.sampled_from(JobStatus)),
        draw(st.sampled_from(CoordinationStatus)),
        tuple(waves),
        limit=draw(st.integers(1, 9)),
        free_slots=draw(st.integers(0, 9)),
    )


def after(seen: JobSnapshot) -> JobSnapshot:
    """The snapshot that taking the moves of its decision leads to."""
    return state_after(seen, decide(seen))


@given(snapshots())
def test_a_decision_that_moves_nothing_asks_not_how_many_batches_there_are(seen: JobSnapshot) -> None:
    """By this the journal counts passes that differ in it alone as one situation."""
    decision = decide(seen)
    assume(not decision.changes_rows)
    assert decide(essence(seen)) == decision


@given(snapshots())
def test_deciding_again_moves_nothing_more(seen: JobSnapshot) -> None:
    assert not decide(after(seen)).changes_rows


@given(snapshots())
def test_every_move_is_in_the_table(seen: JobSnapshot) -> None:
    decision = decide(seen)
    status = {wave.wave_number: wave.status for wave in seen.waves}
    for move in decision.moves:
        assert move.source is status[move.wave_number]
        assert move.target in WAVE_MOVES[move.source]
        status[move.wave_number] = move.target
    if decision.job is not None:
        assert decision.job in JOB_MOVES[seen.status] or seen.status is JobStatus.PENDING


@given(snapshots())
def test_no_slot_stays_idle_beside_a_claimable_batch(seen: JobSnapshot) -> None:
    decision = decide(seen)
    if after(seen).status is not JobStatus.PROCESSING:
        return
    left = seen.free_slots - sum(order.count for order in decision.dispatch)
    orders = {order.wave_number: order for order in decision.dispatch}
    for wave in after(seen).waves:
        given_out = orders[wave.wave_number].count if wave.wave_number in orders else 0
        if wave.status is WaveStatus.PROCESSING:
            available = wave.claimable + wave.claimable_plans
        else:
            available = wave.claimable_plans if wave.status is WaveStatus.PENDING else 0
        assert given_out <= available
        assert left == 0 or given_out == available


@given(snapshots())
def test_no_wave_completes_with_unfinished_or_failed_batches(seen: JobSnapshot) -> None:
    views = {wave.wave_number: wave for wave in seen.waves}
    for move in decide(seen).moves:
        if move.target is WaveStatus.COMPLETED and move.source is WaveStatus.PROCESSING:
            assert not views[move.wave_number].unfinished
            assert not views[move.wave_number].failed


@given(snapshots())
def test_a_job_completes_only_when_every_wave_has(seen: JobSnapshot) -> None:
    if decide(seen).job is JobStatus.COMPLETED:
        assert {wave.status for wave in after(seen).waves} == {WaveStatus.COMPLETED}
        assert all(wave.sealed for wave in after(seen).waves if wave.status is not seen.waves[0].status)


# --- whole lives of a job ---------------------------------------------------------------------------------------


class Life:
    """A job driven by drawn events, and an independent account of what must come of it.

    The account counts what was made (every page lands one child per derived record below) and never looks into the
    machine for an answer.
    """

    def __init__(self) -> None:
        self.state: JobState = created(WAVES)
        self.now = 0.0
        self.completed_once: set[str] = set()
        self.children = {"order": 3, "line": 4}

    def do(self, event: Event) -> bool:
        before = self.state
        self.state = apply(before, event)
        self.check(before)
        assert apply(self.state, event) == self.state or isinstance(event, ClaimBatches | TakeLease | LandPage), event
        return self.state is not before

    def check(self, before: JobState) -> None:
        state = self.state
        assert state.token >= before.token
        for number, wave in state.waves.items():
            mine = [batch for batch in state.batches.values() if batch.wave_number == number]
            old = before.waves[number]
            assert wave.total == len(mine)
            assert wave.sealed or not old.sealed, "sealed never unseals"
            assert not old.sealed or wave.total == old.total, "no batch joins a sealed wave"
            if wave.status is not old.status:
                reachable = WAVE_MOVES[old.status] | {WaveStatus.COMPLETED, WaveStatus.FAILED}
                assert wave.status in reachable
            if wave.status is WaveStatus.COMPLETED:
                assert wave.sealed
                assert all(batch.status is BatchStatus.COMPLETED for batch in mine)
        if state.status is JobStatus.COMPLETED:
            assert all(wave.status is WaveStatus.COMPLETED for wave in state.waves.values())
        if state.status is JobStatus.FAILED:
            assert any(batch.status is BatchStatus.FAILED for batch in state.batches.values())
        for batch_id, batch in state.batches.items():
            old_batch = before.batches.get(batch_id, BatchState(batch.wave_number, batch.kind))
            assert (batch.status in LEASED) == (batch.lease_until is not None)
            assert batch.attempt >= old_batch.attempt
            if batch.status is not old_batch.status:
                assert batch.status in BATCH_MOVES[old_batch.status]
        done = {i for i, batch in state.batches.items() if batch.status is BatchStatus.COMPLETED}
        assert done >= self.completed_once, "completed absorbs"
        self.completed_once = done

    def pass_(self, free: int = 4) -> None:
        """A coordination pass with its claims, as a run does it."""
        decision = decide(view(self.state, now=self.now, limit=4, free_slots=free))
        self.do(Advance(self.state.token, decision))
        if decision.requeue:
            self.do(Requeue(self.state.token, self.now))
        for order in decision.dispatch:
            self.do(
                ClaimBatches(
                    self.state.token, order.wave_number, order.count, order.plans_only, self.now, self.now + 10
                )
            )

    def live(self) -> list[str]:
        return sorted(i for i, batch in self.state.batches.items() if batch.status in LEASED)

    def land(self, batch_id: str) -> None:
        batch = self.state.batches[batch_id]
        record = batch_id.rsplit("/", 2)[-2]
        children: dict[str, tuple[int, BatchKind]] = {}
        if batch.kind is BatchKind.PLAN:
            children = {f"{batch.wave_number}/{record}/{n}": (batch.wave_number, BatchKind.RANGE) for n in range(2)}
        elif record in self.children:
            name = "line" if record == "order" else "part"
            children = {f"{batch_id}/{name}/{batch.landed}": (self.children[record], BatchKind.PARENTS)}
        self.do(LandPage(batch_id, batch.attempt, children, done=True))

    def finish(self) -> None:
        """Stop the faults and run fairly: it must end in a bounded number of steps."""
        for _ in range(200):
            if self.state.status not in (JobStatus.PENDING, JobStatus.PROCESSING):
                return
            self.now += 11
            self.do(TakeLease(self.now, self.now + 10))
            self.pass_()
            for batch_id in self.live():
                self.land(batch_id)
        raise AssertionError(f"the job never ended: {self.state}")


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["pass", "start", "land", "fail", "spend", "expire", "take", "dead", "zombie", "retry"]),
        st.integers(0, 5),
    ),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_the_job_ends_and_no_rule_is_broken(steps: list[tuple[str, int]]) -> None:
    life = Life()
    life.do(TakeLease(0.0, 10.0))
    stale: list[tuple[str, int]] = []
    for word, choice in steps:
        live = life.live()
        batch_id = live[choice % len(live)] if live else None
        attempt = life.state.batches[batch_id].attempt if batch_id else 0
        if word == "pass":
            life.pass_(free=choice)
        elif word == "expire":
            life.now += 11
        elif word == "take":
            life.do(TakeLease(life.now, life.now + 10))
        elif word == "dead":
            life.do(TakeLease(life.now, life.now + 10, proven_dead=True))
            life.do(Requeue(life.state.token, life.now, proven_dead=True))
        elif word == "retry":
            life.do(RetryFailed(life.state.token))
        elif word == "zombie" and stale:
            old_id, old_attempt = stale[choice % len(stale)]
            if life.state.batches[old_id].attempt != old_attempt:
                assert not life.do(LandPage(old_id, old_attempt, {}, done=True)), "a stale attempt landed"
        elif batch_id is None:
            continue
        elif word == "start":
            life.do(StartBatch(batch_id, attempt))
            stale.append((batch_id, attempt))
        elif word == "land":
            life.land(batch_id)
        elif word in ("fail", "spend"):
            life.do(FailAttempt(batch_id, attempt, word == "spend", max_tries=2))
    life.finish()
    if life.state.status is JobStatus.FAILED:
        life.do(RetryFailed(life.state.token))
        life.finish()
    assert life.state.status is JobStatus.COMPLETED
    # Two ranges a main record, a line batch an order batch, a part batch a line batch: none lost, none twice.
    assert {wave: state.total for wave, state in life.state.waves.items()} == {1: 3, 2: 3, 3: 2, 4: 2}
    assert all(wave.status in SETTLED for wave in life.state.waves.values())


def test_a_stale_token_moves_nothing() -> None:
    life = Life()
    life.do(TakeLease(0.0, 10.0))
    old = life.state.token
    life.now = 20.0
    life.do(TakeLease(20.0, 30.0))
    decision = decide(view(life.state, now=life.now, limit=4, free_slots=4))
    assert decision.changes_rows
    assert not life.do(Advance(old, decision))
    assert not life.do(ClaimBatches(old, 1, 4, False, life.now, life.now + 10))


def test_nothing_of_a_cancelled_job_can_land() -> None:
    life = Life()
    life.do(TakeLease(0.0, 10.0))
    life.pass_()
    batch_id = life.live()[0]
    attempt = life.state.batches[batch_id].attempt
    life.do(Cancel())
    assert not life.do(LandPage(batch_id, attempt, {}, done=True))
    assert life.state.status is JobStatus.CANCELLED
