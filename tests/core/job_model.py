"""An explorer of every state that a small job can reach, by the production `decide`, `view` and `apply`.

One step is one transaction, but that a pass and its claims are two even where the store makes them in one: that is the
schedule with nothing between them. Two coordinators may hold decisions that have become stale, any batch at work may
land a page, fail, be handed back or be lost with its worker, whose page may still come; leases lapse, are given back or
taken over; a job is cancelled or its failures retried. A `Scope` says how big the job is and how many faults of each
kind may happen. The search goes breadth first, so the first broken rule is told as a shortest story.

What was seen is kept as 64-bit hashes: ten million states fit into two gigabytes, and that two of them share one (then
the later is taken for seen) has a chance of one in a hundred thousand, as in other checkers of this kind.
"""

from collections import Counter, deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

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
    ReleaseLease,
    Requeue,
    RetryFailed,
    StartBatch,
    TakeLease,
    apply,
    created,
    view,
)
from waveimport.core.waves import (
    BATCH_MOVES,
    JOB_MOVES,
    LEASED,
    SETTLED,
    WAVE_MOVES,
    BatchKind,
    BatchStatus,
    Decision,
    JobSnapshot,
    JobStatus,
    WaveKind,
    WaveStatus,
    decide,
)

NOW, FUTURE, PAST = 0.0, 10.0, -1.0
LIMIT = 2
MAX_TRIES = 1
FAIR_STEPS = 60

Children = Mapping[str, tuple[int, BatchKind]]


@dataclass(frozen=True)
class Scope:
    """A small job. `pages` gives, by batch id, the batches that each of its pages makes; a batch that is not named has
    one page that makes none. The numbers are how often each fault may happen."""

    name: str
    waves: tuple[PlannedWave, ...]
    pages: Mapping[str, tuple[Children, ...]]
    failures: int = 1
    losses: int = 1
    lapses: int = 1
    retries: int = 1
    releases: int = 1
    cancels: int = 0
    deaths: int = 0
    starts: bool = False
    debts: Mapping[str, tuple[int, BatchKind]] = field(default_factory=dict)

    def pages_of(self, batch_id: str) -> tuple[Children, ...]:
        return self.pages.get(batch_id, ({},))

    def batches(self) -> set[str]:
        """Every batch that a completed job has."""
        made = {f"{w.wave_number}/{r}/plan" for w in self.waves if w.kind is WaveKind.MAIN for r in w.records}
        return made | set(self.debts) | {child for pages in self.pages.values() for page in pages for child in page}


class Coordinator(NamedTuple):
    """Its token (0 for none), the decision in its hands, and whether the moves of that are committed: its claims come
    after the commit, when the lock of the job is given up already. `heir` to a dead holder, it puts back first what
    that one had."""

    token: int = 0
    decision: Decision | None = None
    moved: bool = False
    heir: bool = False


class Budget(NamedTuple):
    """The faults that are left."""

    failures: int
    losses: int
    lapses: int
    retries: int
    releases: int
    cancels: int
    deaths: int


@dataclass(frozen=True, slots=True)
class World:
    """A state of the job, two coordinators, the attempts of lost workers, and the faults that are left."""

    state: JobState
    coordinators: tuple[Coordinator, Coordinator]
    zombies: frozenset[tuple[str, int]]
    budget: Budget

    def fingerprint(self) -> int:
        return hash((job_key(self.state), self.coordinators, self.zombies, self.budget))


def job_key(state: JobState) -> tuple[object, ...]:
    """Everything of a job's state, hashable."""
    return (
        state.status,
        state.coordination_status,
        state.token,
        state.lease_until,
        tuple(sorted(state.waves.items())) if len(state.waves) > 1 else tuple(state.waves.items()),
        frozenset(state.batches.items()),
    )


def start(scope: Scope) -> World:
    budget = Budget(
        scope.failures, scope.losses, scope.lapses, scope.retries, scope.releases, scope.cancels, scope.deaths
    )
    return World(created(scope.waves, scope.debts), (Coordinator(), Coordinator()), frozenset(), budget)


def steps(scope: Scope, world: World) -> Iterator[tuple[str, World]]:
    """Yield every transaction that can come next, with the world after it."""
    yield from _coordination(world)
    yield from _work(scope, world)
    state, budget = world.state, world.budget
    if budget.lapses and state.lease_until == FUTURE:
        lapsed = replace(state, lease_until=PAST)
        yield (
            "the lease of the job lapses",
            replace(world, state=lapsed, budget=budget._replace(lapses=budget.lapses - 1)),
        )


def done(state: JobState, event: Event) -> JobState | None:
    """Apply an event, None where it is refused; applied twice it must do what it does once."""
    after = apply(state, event)
    if after is state or after == state:
        return None
    match event:
        case ClaimBatches() | TakeLease(proven_dead=True) | LandPage(done=False):
            once_more = True  # the next claim, take-over or page is another one
        case _:
            once_more = False
    if not once_more:
        assert apply(after, event) == after, f"{type(event).__name__} twice is not {type(event).__name__} once"
    _check_moves(state, after)
    return after


def _coordination(world: World) -> Iterator[tuple[str, World]]:
    state, budget = world.state, world.budget
    # Who has decided and not committed holds the lock of the job: only workers, who do not take it, come between.
    locked = any(c.decision is not None and not c.moved for c in world.coordinators)
    for who, mine in enumerate(world.coordinators):

        def now_at(coordinator: Coordinator, who: int = who) -> tuple[Coordinator, Coordinator]:
            first, second = world.coordinators
            return (coordinator, second) if who == 0 else (first, coordinator)

        if mine.decision is not None and not mine.moved:
            after = done(state, Advance(mine.token, mine.decision)) or state
            yield (
                f"{who} moves the waves and commits",
                replace(world, state=after, coordinators=now_at(mine._replace(moved=True))),
            )
        if locked:
            continue
        taken = done(state, TakeLease(NOW, FUTURE))
        if taken is not None:
            yield (
                f"{who} takes the lease",
                replace(world, state=taken, coordinators=now_at(Coordinator(taken.token))),
            )
        elif budget.deaths and (taken := done(state, TakeLease(NOW, FUTURE, proven_dead=True))) is not None:
            # The other process is dead, and so is all that it had in its hands.
            heir = Coordinator(taken.token, heir=True)
            yield (
                f"{who} takes the lease of a dead holder",
                replace(
                    world,
                    state=taken,
                    coordinators=(heir, Coordinator()) if who == 0 else (Coordinator(), heir),
                    budget=budget._replace(deaths=budget.deaths - 1),
                ),
            )
        if mine.decision is not None:
            yield _claims(world, who, mine, now_at(Coordinator(mine.token)))
        elif mine.token:
            yield from _holder(world, who, mine, now_at)
    if budget.cancels and not locked:
        cancelled = done(state, Cancel())
        if cancelled is not None:
            yield (
                "the job is cancelled",
                replace(world, state=cancelled, budget=budget._replace(cancels=budget.cancels - 1)),
            )


def _claims(
    world: World, who: int, mine: Coordinator, coordinators: tuple[Coordinator, Coordinator]
) -> tuple[str, World]:
    """The claims and the requeueing that a committed decision asks for; the token alone must fence them by now."""
    state = world.state
    assert mine.decision is not None
    current = apply(state, Requeue(mine.token, NOW)) if mine.decision.requeue else state
    for order in mine.decision.dispatch:
        claim = ClaimBatches(mine.token, order.wave_number, order.count, order.plans_only, NOW, FUTURE)
        current = apply(current, claim)
    fenced = mine.token != state.token
    assert not fenced or current is state, "a stale coordinator claimed or requeued"
    if current is not state:
        _check_moves(state, current)
    word = f"{who} requeues and claims" + (" and is fenced" if fenced else "")
    return word, replace(world, state=current, coordinators=coordinators)


def _holder(world: World, who: int, mine: Coordinator, now_at: object) -> Iterator[tuple[str, World]]:
    """What a coordinator with nothing in its hands may do; a stale one is refused whatever it tries."""
    state, budget = world.state, world.budget
    assert callable(now_at)
    if mine.token != state.token:
        for event in (ReleaseLease(mine.token), RetryFailed(mine.token), Requeue(mine.token, NOW, True)):
            assert apply(state, event) is state, f"a stale {type(event).__name__} was let through"
        return
    if mine.heir:
        inherited = done(state, Requeue(mine.token, NOW, proven_dead=True)) or state
        yield (
            f"{who} puts back what the dead one had",
            replace(world, state=inherited, coordinators=now_at(Coordinator(mine.token))),
        )
        return
    snapshot = view(state, now=NOW, limit=LIMIT, free_slots=LIMIT)
    seen = decide(snapshot)
    check_work_is_conserved(snapshot, seen)
    if seen.changes_rows or seen.dispatch or seen.requeue:
        yield f"{who} locks, reads and decides", replace(world, coordinators=now_at(Coordinator(mine.token, seen)))
    if budget.releases:
        released = done(state, ReleaseLease(mine.token))
        if released is not None:
            yield (
                f"{who} gives the lease back",
                replace(
                    world,
                    state=released,
                    coordinators=now_at(Coordinator()),
                    budget=budget._replace(releases=budget.releases - 1),
                ),
            )
    if budget.retries:
        retried = done(state, RetryFailed(mine.token))
        if retried is not None:
            yield (
                f"{who} retries what failed",
                replace(world, state=retried, budget=budget._replace(retries=budget.retries - 1)),
            )


def _work(scope: Scope, world: World) -> Iterator[tuple[str, World]]:
    state, budget = world.state, world.budget
    for batch_id, batch in state.batches.items():
        if batch.status not in LEASED:
            continue
        if scope.starts and (started := done(state, StartBatch(batch_id, batch.attempt))) is not None:
            yield f"{batch_id} starts", replace(world, state=started)
        pages = scope.pages_of(batch_id)
        children = pages[min(batch.landed, len(pages) - 1)]
        last = batch.landed + 1 >= len(pages)
        landed = done(state, LandPage(batch_id, batch.attempt, children, last))
        assert landed is not None, f"a page of {batch_id} could not land: its derived wave is sealed or settled"
        yield f"{batch_id} lands page {batch.landed + 1}{' and is done' if last else ''}", replace(world, state=landed)
        if budget.failures:
            for spends in (True, False):
                failed = done(state, FailAttempt(batch_id, batch.attempt, spends, MAX_TRIES))
                assert failed is not None
                yield (
                    f"{batch_id} {'fails for good' if spends else 'is handed back'}",
                    replace(world, state=failed, budget=budget._replace(failures=budget.failures - 1)),
                )
        if budget.losses and batch.lease_until == FUTURE:
            lapsed = {**state.batches, batch_id: replace(batch, lease_until=PAST)}
            yield (
                f"the worker of {batch_id} is lost",
                replace(
                    world,
                    state=replace(state, batches=lapsed),
                    zombies=world.zombies | {(batch_id, batch.attempt)},
                    budget=budget._replace(losses=budget.losses - 1),
                ),
            )
    for batch_id, attempt in world.zombies:
        batch = state.batches[batch_id]
        if batch.attempt != attempt or batch.status not in LEASED:
            for event in (
                LandPage(batch_id, attempt, {}, True),
                FailAttempt(batch_id, attempt, True, MAX_TRIES),
                StartBatch(batch_id, attempt),
            ):
                assert apply(state, event) is state, f"a stale attempt of {batch_id} was let through"


# --- the invariants, written from the rules and not from the code -----------------------------------------------------


def check_work_is_conserved(snapshot: JobSnapshot, decision: Decision) -> None:
    """L2: a claimable batch of a wave at work and a free slot mean a dispatch, whatever else the wave is doing."""
    moved = {move.wave_number: move.target for move in decision.moves}
    ready = any(
        wave.claimable + wave.claimable_plans
        for wave in snapshot.waves
        if moved.get(wave.wave_number, wave.status) is WaveStatus.PROCESSING
    )
    over = decision.job in (JobStatus.COMPLETED, JobStatus.FAILED)
    over = over or snapshot.status not in (JobStatus.PENDING, JobStatus.PROCESSING)
    assert over or not ready or not snapshot.free_slots or decision.dispatch, "a slot is idle beside a claimable batch"


def check(scope: Scope, state: JobState) -> None:
    """S5 to S8: nothing is called completed too early, failed without a cause, sealed while it can grow."""
    mine: dict[int, list[BatchState]] = {number: [] for number in state.waves}
    for batch in state.batches.values():
        mine[batch.wave_number].append(batch)
        assert (batch.status in LEASED) == (batch.lease_until is not None), "work without a lease, or the reverse"
        assert batch.lease_token <= state.token, "work under a token that was never given out"
    for number, wave in state.waves.items():
        assert wave.total == len(mine[number]), f"the total of wave {number} is not its count"
        parent = None if wave.parent_wave is None else state.waves[wave.parent_wave]
        if wave.status is WaveStatus.COMPLETED:
            assert wave.sealed, f"wave {number} completed unsealed"
            assert all(b.status is BatchStatus.COMPLETED for b in mine[number]), f"wave {number} completed too early"
        if wave.status is WaveStatus.FAILED:
            own = any(b.status is BatchStatus.FAILED for b in mine[number])
            assert own or (parent is not None and parent.status is WaveStatus.FAILED), f"wave {number} has no cause"
            assert not any(b.status is BatchStatus.PENDING or b.status in LEASED for b in mine[number])
        if wave.sealed and parent is not None:
            assert parent.status is WaveStatus.COMPLETED, f"wave {number} is sealed while parents may make batches"
    if state.status is JobStatus.COMPLETED:
        assert set(state.batches) == scope.batches(), "completed without every batch made"
        assert all(b.status is BatchStatus.COMPLETED for b in state.batches.values()), "completed too early"
    if state.status is JobStatus.FAILED:
        assert any(b.status is BatchStatus.FAILED for b in state.batches.values()), "failed with no cause"
        assert all(wave.status in SETTLED for wave in state.waves.values())
    if state.status is JobStatus.CANCELLED:
        assert not any(b.status in LEASED for b in state.batches.values()), "work goes on in a cancelled job"


def _check_moves(before: JobState, after: JobState) -> None:
    """S1, S5, S7, S8: tokens and attempts only grow, a seal stays, statuses move along their tables."""
    assert after.token >= before.token
    if after.status is not before.status:
        direct = after.status in JOB_MOVES[before.status]
        assert direct or any(after.status in JOB_MOVES[mid] for mid in JOB_MOVES[before.status])
    for number, wave in before.waves.items():
        then = after.waves[number]
        assert then.sealed or not wave.sealed, "a seal was broken"
        assert then.total >= wave.total
        assert not (wave.sealed and then.total > wave.total), "a batch joined a sealed wave"
        if then.status is not wave.status:
            direct = then.status in WAVE_MOVES[wave.status]
            assert direct or any(then.status in WAVE_MOVES[mid] for mid in WAVE_MOVES[wave.status])
    for batch_id, batch in before.batches.items():
        now = after.batches[batch_id]
        assert now.attempt >= batch.attempt
        assert now.landed >= batch.landed
        if now.status is not batch.status:
            assert now.status in BATCH_MOVES[batch.status] or (
                batch.status in LEASED and now.status is BatchStatus.DISPATCHED
            ), f"{batch_id}: {batch.status} to {now.status}"


class Liveness:
    """L1: from any state, once the faults stop and everybody runs fairly, the job ends in a bounded number of steps;
    a failed one is completed by a retry."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._ends: set[int] = set()

    def check(self, state: JobState) -> None:
        path: list[int] = []
        for _ in range(FAIR_STEPS):
            key = hash(job_key(state))
            if key in self._ends or state.status in (JobStatus.COMPLETED, JobStatus.CANCELLED):
                self._ends.update(path)
                return
            path.append(key)
            state = self._fair(state)
        raise AssertionError(f"a fair run does not end within {FAIR_STEPS} steps")

    def _fair(self, state: JobState) -> JobState:
        """One turn of a new holder's loop, all that it claims worked on to the end."""
        state = apply(state, TakeLease(NOW, FUTURE, proven_dead=True))
        if state.status is JobStatus.FAILED:
            return apply(state, RetryFailed(state.token))
        state = apply(state, Requeue(state.token, NOW, proven_dead=True))
        decision = decide(view(state, now=NOW, limit=LIMIT, free_slots=LIMIT))
        state = apply(state, Advance(state.token, decision))
        for order in decision.dispatch:
            claim = ClaimBatches(state.token, order.wave_number, order.count, order.plans_only, NOW, FUTURE)
            state = apply(state, claim)
        for batch_id, batch in list(state.batches.items()):
            if batch.status in LEASED:
                pages = self._scope.pages_of(batch_id)
                for at in range(batch.landed, len(pages)):
                    state = apply(state, LandPage(batch_id, batch.attempt, pages[at], at + 1 == len(pages)))
        return state


@dataclass
class Found:
    """What a search found: how many states, and how often each thing worth seeing was seen."""

    states: int = 0
    transitions: int = 0
    seen: Counter[str] = field(default_factory=Counter)
    complete: bool = True


def explore(scope: Scope, *, at_most: int | None = None) -> Found:
    """Search every state of the scope, or `at_most` so many. Raises AssertionError with a shortest story."""
    first = start(scope)
    root = first.fingerprint()
    came_from: dict[int, int] = {root: root}
    frontier = deque([first])
    liveness = Liveness(scope)
    found = Found()
    while frontier:
        if at_most is not None and found.states >= at_most:
            found.complete = False
            break
        world = frontier.popleft()
        here = world.fingerprint()
        found.states += 1
        try:
            check(scope, world.state)
            liveness.check(world.state)
            following = list(steps(scope, world))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{_story(scope, first, here, came_from)}") from error
        _note(world, following, found.seen)
        for _, after in following:
            found.transitions += 1
            key = after.fingerprint()
            if key not in came_from:
                came_from[key] = here
                frontier.append(after)
    return found


def _note(world: World, following: list[tuple[str, World]], seen: Counter[str]) -> None:
    state = world.state
    seen["completed job"] += state.status is JobStatus.COMPLETED
    seen["failed job"] += state.status is JobStatus.FAILED
    seen["cancelled job"] += state.status is JobStatus.CANCELLED
    seen["empty wave completed"] += any(
        not wave.total and wave.status is WaveStatus.COMPLETED for wave in state.waves.values()
    )
    seen["fenced write"] += any(
        state.batches[batch_id].attempt != attempt or state.batches[batch_id].status not in LEASED
        for batch_id, attempt in world.zombies
    )
    seen["batch run again"] += any(b.attempt > 1 and b.status in LEASED for b in state.batches.values())
    for word, after in following:
        seen["take-over"] += "takes the lease" in word and state.token > 0
        seen["fenced claim"] += word.endswith("is fenced")
        seen["lost worker"] += word.endswith("is lost")
        if len(after.state.batches) > len(state.batches):
            new = next(b for i, b in after.state.batches.items() if i not in state.batches)
            siblings = [b for b in state.batches.values() if b.wave_number == new.wave_number]
            seen["batch made after a sibling had finished"] += any(
                b.status is BatchStatus.COMPLETED and b.kind is not BatchKind.PLAN for b in siblings
            )


def _story(scope: Scope, first: World, end: int, came_from: dict[int, int]) -> str:
    """Walk from the start to a state again, and return the words of the steps."""
    path = [end]
    while came_from[path[-1]] != path[-1]:
        path.append(came_from[path[-1]])
    lines: list[str] = []
    world = first
    for key in reversed(path[:-1]):
        word, world = next((w, after) for w, after in steps(scope, world) if after.fingerprint() == key)
        lines.append(word)
    return "\n".join(lines)
