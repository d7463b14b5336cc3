"""Every state that a small job can reach, with two coordinators whose decisions may be stale, crashes and lapses.

The moves are those of the production `decide` and `apply`; one step is one transaction. The breadth-first search ends
when the frontier is empty, so within its scope nothing is left out: a main record that is planned into one range, a
derived wave with one batch of it, one failure of a batch, one lost worker whose result may come late, one lapse of the
job's lease, one release of it, one retry. A broken rule is told as the shortest story that leads to it.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace

from waveimport.core.graph import PlannedWave
from waveimport.core.jobstate import (
    Advance,
    BatchState,
    ClaimBatches,
    Event,
    FailAttempt,
    JobState,
    LandPage,
    ReleaseLease,
    Requeue,
    RetryFailed,
    TakeLease,
    WaveState,
    apply,
    created,
    view,
)
from waveimport.core.waves import (
    LEASED,
    BatchKind,
    BatchStatus,
    Decision,
    JobStatus,
    WaveKind,
    WaveStatus,
    decide,
)

WAVES = (
    PlannedWave(1, WaveKind.MAIN, ("order",)),
    PlannedWave(2, WaveKind.DERIVED, ("line",), parent_wave=1, depth=1),
)
CHILDREN = {
    "1/order/plan": {"1/order/0": (1, BatchKind.RANGE)},
    "1/order/0": {"1/order/0/line": (2, BatchKind.PARENTS)},
}
NOW, FUTURE, PAST = 0.0, 10.0, -1.0
Coordinator = tuple[int, Decision | None, bool]
"""Its token, the decision in its hands, and whether the moves of that are committed (its claims come after)."""


@dataclass(frozen=True)
class World:
    """A state of the job, two coordinators, and the faults that are left.

    A coordinator that has decided and not committed holds the lock of the job: only workers, who do not take that
    lock, come between.
    """

    waves: tuple[tuple[int, WaveState], ...]
    batches: tuple[tuple[str, BatchState], ...]
    job: tuple[JobStatus, object, int, float | None]
    coordinators: tuple[Coordinator, ...]
    zombies: frozenset[tuple[str, int]]
    failures: int = 1
    crashes: int = 1
    lapses: int = 1
    retries: int = 1
    releases: int = 1

    @property
    def state(self) -> JobState:
        status, coordination, token, until = self.job
        return JobState(status, coordination, dict(self.waves), dict(self.batches), token, until)

    def having(self, state: JobState, **changes: object) -> "World":
        return replace(
            self,
            waves=tuple(sorted(state.waves.items())),
            batches=tuple(sorted(state.batches.items())),
            job=(state.status, state.coordination_status, state.token, state.lease_until),
            **changes,
        )


def start() -> World:
    empty = World((), (), (JobStatus.PENDING, None, 0, None), ((0, None, False), (0, None, False)), frozenset())
    return empty.having(created(WAVES))


def steps(world: World) -> Iterator[tuple[str, World]]:
    """Yield every transaction that can come next, with the world after it."""
    state = world.state

    def done(event: Event, **changes: object) -> World | None:
        after = apply(state, event)
        return None if after == state else world.having(after, **changes)

    locked = any(decision is not None and not moved for _, decision, moved in world.coordinators)
    for who, (token, decision, moved) in enumerate(world.coordinators):

        def now_at(*of: object, who: int = who) -> tuple[Coordinator, ...]:
            return tuple(of if i == who else c for i, c in enumerate(world.coordinators))

        if decision is not None and not moved:
            after = apply(state, Advance(token, decision))
            yield f"{who} moves the waves and commits", world.having(after, coordinators=now_at(token, decision, True))
        if locked:
            continue
        after = done(TakeLease(NOW, FUTURE), coordinators=now_at(state.token + 1, None, False))
        if after is not None:
            yield f"{who} takes the lease", after
        if decision is not None:
            # The lock of the job was given up between the pass and these: the token must fence them by itself.
            current = apply(state, Requeue(token, NOW)) if decision.requeue else state
            for order in decision.dispatch:
                claim = ClaimBatches(token, order.wave_number, order.count, order.plans_only, NOW, FUTURE)
                current = apply(current, claim)
            fenced = " and is fenced" if token != state.token else ""
            assert not fenced or current is state, "a stale coordinator claimed or requeued"
            yield f"{who} requeues and claims{fenced}", world.having(current, coordinators=now_at(token, None, False))
        elif token == state.token and token:
            seen = decide(view(state, now=NOW, limit=2, free_slots=2))
            if seen.changes_rows or seen.dispatch or seen.requeue:
                yield f"{who} locks, reads and decides", replace(world, coordinators=now_at(token, seen, False))
            after = done(ReleaseLease(token), coordinators=now_at(0, None, False), releases=world.releases - 1)
            if world.releases and after is not None:
                assert not any(b.lease_token == token for b in after.state.batches.values() if b.status in LEASED)
                yield f"{who} releases the lease", after
            if world.retries:
                after = done(RetryFailed(token), retries=world.retries - 1)
                if after is not None:
                    yield f"{who} retries what failed", after
    for batch_id, batch in state.batches.items():
        if batch.status not in LEASED:
            continue
        children = {i: c for i, c in CHILDREN.get(batch_id, {}).items() if i not in state.batches}
        after = done(LandPage(batch_id, batch.attempt, children, done=True))
        assert after is not None, f"{batch_id} could not land: its derived wave is sealed or settled"
        yield f"{batch_id} lands", after
        if world.failures:
            for spends in (True, False):
                after = done(FailAttempt(batch_id, batch.attempt, spends, max_tries=1), failures=world.failures - 1)
                assert after is not None
                yield f"{batch_id} fails{' for good' if spends else ''}", after
        if world.crashes and batch.lease_until == FUTURE:
            lapsed = {**state.batches, batch_id: replace(batch, lease_until=PAST)}
            zombies = world.zombies | {(batch_id, batch.attempt)}
            after = world.having(replace(state, batches=lapsed), crashes=world.crashes - 1, zombies=zombies)
            yield f"the worker of {batch_id} is lost", after
    for batch_id, attempt in world.zombies:
        batch = state.batches[batch_id]
        stale = batch.attempt != attempt or batch.status not in LEASED
        after = apply(state, LandPage(batch_id, attempt, {}, done=True))
        assert not stale or after is state, f"a stale attempt of {batch_id} landed"
    if world.lapses and state.lease_until == FUTURE:
        yield "the lease of the job lapses", world.having(replace(state, lease_until=PAST), lapses=world.lapses - 1)


def check(world: World) -> None:
    """The invariants, written from the rules and not from the code."""
    state = world.state
    for number, wave in state.waves.items():
        mine = [batch for batch in state.batches.values() if batch.wave_number == number]
        assert wave.total == len(mine), f"total of wave {number} is not its count"
        if wave.status is WaveStatus.COMPLETED:
            assert wave.sealed, f"wave {number} completed unsealed"
            assert all(b.status is BatchStatus.COMPLETED for b in mine), f"wave {number} completed too early"
    if state.waves[2].sealed:
        parents = [b for b in state.batches.values() if b.wave_number == 1]
        assert all(b.status is BatchStatus.COMPLETED for b in parents), "sealed while parents may make batches"
    if state.status is JobStatus.COMPLETED:
        assert len(state.batches) == 3, "completed without every batch made"
        assert all(b.status is BatchStatus.COMPLETED for b in state.batches.values()), "completed too early"
    if state.status is JobStatus.FAILED:
        assert any(b.status is BatchStatus.FAILED for b in state.batches.values()), "failed with no cause"


def story(world: World, came_from: dict[World, tuple[World, str] | None]) -> str:
    lines: list[str] = []
    at: World | None = world
    while at is not None and (before := came_from[at]) is not None:
        lines.append(before[1])
        at = before[0]
    return "\n".join(reversed(lines))


def test_every_reachable_state_is_safe_and_can_still_end() -> None:
    first = start()
    came_from: dict[World, tuple[World, str] | None] = {first: None}
    leads_to: dict[World, list[World]] = {}
    frontier = deque([first])
    seen = {"take-over": 0, "fenced claim": 0, "lost worker": 0, "failed job": 0, "completed job": 0}
    while frontier:
        world = frontier.popleft()
        try:
            check(world)
            following = list(steps(world))
        except AssertionError as error:
            raise AssertionError(f"{error}\n{story(world, came_from)}") from None
        for word, after in following:
            leads_to.setdefault(after, []).append(world)
            seen["take-over"] += word.endswith("takes the lease") and world.state.token > 0
            seen["fenced claim"] += word.endswith("is fenced")
            seen["lost worker"] += word.endswith("is lost")
            if after not in came_from:
                came_from[after] = (world, word)
                frontier.append(after)
        seen["failed job"] += world.state.status is JobStatus.FAILED
        seen["completed job"] += world.state.status is JobStatus.COMPLETED
    # Whatever happened, a way to the end is left: walk back from the ends and see that every state was met.
    alive = {world for world in came_from if world.state.status in (JobStatus.COMPLETED, JobStatus.FAILED)}
    waiting = list(alive)
    while waiting:
        for before in leads_to.get(waiting.pop(), []):
            if before not in alive:
                alive.add(before)
                waiting.append(before)
    stuck = [world for world in came_from if world not in alive]
    assert not stuck, f"{len(stuck)} states have no way to an end, as:\n{story(stuck[0], came_from)}"
    print(f"{len(came_from):,} states, {seen}")
    assert all(count >= 100 for count in seen.values()), seen
