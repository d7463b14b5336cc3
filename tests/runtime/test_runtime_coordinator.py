"""The loop of a run against a scripted source, on both databases: it ends, rightly, whatever happens."""

import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from runtime_world import JOB, World, bounds_of
from statement_counts import watching

from waveimport.core.backoff import after_outage
from waveimport.core.settings import RunSettings
from waveimport.core.waves import JobStatus, Trigger
from waveimport.errors import Fenced, JobCancelled, LoginRefused, QueryRefused, SourceDown, Stopped
from waveimport.runtime import coordinator as coordinator_module
from waveimport.runtime.coordinator import Coordinator, Outcome, Stop
from waveimport.store import counted, jobs, lease
from waveimport.store.lease import Holder, Lease
from waveimport.store.transactions import Database


@pytest.fixture
def world(database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(coordinator_module, "STOP_GRACE_SECONDS", 5.0)
    made = World(database)
    yield made
    made.close()


def run(coordinator: Coordinator, *, seconds: float = 60.0) -> Outcome:
    """Run the loop in a thread of its own, so that one that never ends fails its test."""
    answers: list[Any] = []

    def work() -> None:
        try:
            answers.append(coordinator.run())
        except BaseException as error:
            answers.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(seconds)
    assert answers, "the loop never ended"
    if isinstance(answers[0], BaseException):
        raise answers[0]
    outcome: Outcome = answers[0]
    return outcome


def test_a_job_is_run_to_its_end(world: World) -> None:
    world.source.fill(range(1, 41), lines_each=2)
    outcome = run(world.coordinator())
    assert outcome == Outcome(status=JobStatus.COMPLETED)
    assert world.orders() == list(range(1, 41))
    assert len(world.lines()) == 80
    assert set(world.statuses()) == {"completed"}
    assert world.query("SELECT status, sealed FROM wave_coordination") == [("completed", 1)] * 2
    assert len(world.source.counts()) == 1


def test_what_a_run_has_done_is_counted_while_it_goes_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long before its end, so that `status` need not count a million batches."""
    monkeypatch.setattr(coordinator_module, "COUNT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(counted, "SETTLED_SECONDS", 0.0)
    world.source.fill(range(1, 41), lines_each=2)
    assert run(world.coordinator()).status is JobStatus.COMPLETED
    assert all(until is not None for (until,) in world.query("SELECT counted_until FROM wave_coordination"))


def test_an_empty_source_completes_a_job_with_its_empty_waves(world: World) -> None:
    assert run(world.coordinator()).status is JobStatus.COMPLETED
    assert world.query("SELECT wave_number, total FROM wave_coordination ORDER BY wave_number") == [(1, 2), (2, 0)]


def test_progressive_dispatch_all_45_derived_batches_end_completed(world: World) -> None:
    """Incident: ten of 45 derived batches were dispatched, 35 stayed pending for ever: the second pass returned early
    because the wave was "processing" already. Here they are made one by one while parents still complete."""
    world.settings = replace(world.settings, parents_per_batch=1, page_size=5, workers=3)
    world.source.fill(range(1, 46), lines_each=1)
    outcome = run(world.coordinator())
    assert outcome.status is JobStatus.COMPLETED
    assert world.statuses(2) == {"completed": 45}
    assert len(world.lines()) == 45
    first, last = world.query(
        "SELECT (SELECT MIN(created_at) FROM wave_batches WHERE wave_number = 2),"
        " (SELECT MAX(updated_at) FROM wave_batches WHERE wave_number = 1)"
    )[0]
    assert first < last, "children were made while parents were still at work"


def test_progressive_dispatch_derived_batches_run_while_their_parents_wave_does(world: World) -> None:
    """The last order page is not answered until lines have been asked for: without dispatch beside a processing wave
    this never ends."""
    world.settings = replace(world.settings, workers=2, batch_size=5)
    world.source.fill(range(1, 21), lines_each=1)
    lines_asked = threading.Event()

    def last_waits(sql: str) -> None:
        if "FROM lines" in sql:
            lines_asked.set()
        above, _ = bounds_of(sql)
        if above is not None and above >= 15 and "FROM orders" in sql:
            assert lines_asked.wait(30), "no line was asked for while an order batch was at work"

    world.source.before = last_waits
    assert run(world.coordinator()).status is JobStatus.COMPLETED
    assert len(world.lines()) == 20


def test_early_completion_a_job_does_not_end_before_its_last_derived_batch(world: World) -> None:
    """Incident: the job was marked complete when its main waves were."""
    world.source.fill(range(1, 4), lines_each=1)
    release, seen = threading.Event(), []

    def lines_wait(sql: str) -> None:
        if "FROM lines" in sql:
            assert release.wait(30)

    def turn() -> None:
        if world.query("SELECT status FROM wave_coordination WHERE wave_number = 1") == [("completed",)]:
            seen.append((world.job(), world.statuses(2).get("completed", 0)))
            release.set()

    world.source.before = lines_wait
    assert run(world.coordinator(on_turn=turn)).status is JobStatus.COMPLETED
    assert seen
    assert seen[0] == ("processing", 0)
    assert len(world.lines()) == 3


def test_a_poison_batch_fails_after_its_tries_and_hides_nobody_elses_work(world: World) -> None:
    world.source.fill(range(1, 41), lines_each=1)

    def poison(sql: str) -> None:
        if bounds_of(sql) == (10, 20):
            raise QueryRefused("this range is refused")

    world.source.before = poison
    outcome = run(world.coordinator())
    assert outcome.status is JobStatus.FAILED
    assert world.statuses(1) == {"completed": 4, "failed": 1}
    assert [key for key in range(1, 41) if key not in world.orders()] == list(range(11, 21))
    assert len(world.lines()) == 30
    ((tries, error),) = world.query("SELECT tries, error FROM wave_batches WHERE status = 'failed'")
    assert tries == world.settings.max_tries
    assert "this range is refused" in error
    assert "this range is refused" in world.query("SELECT error FROM import_jobs")[0][0]
    asked = len([sql for sql in world.source.asked if bounds_of(sql) == (10, 20)])
    assert asked == 3, "its two tries, and one that shows that no column is to blame"

    # What failed is tried again in place, and the job completes.
    world.source.before = lambda sql: None
    held = world.take()
    world.writer.transact(
        lambda connection: jobs.retry_failed(connection, JOB, token=held.token, trigger=Trigger.RETRY)
    )
    assert run(world.coordinator()).status is JobStatus.COMPLETED
    assert world.orders() == list(range(1, 41))
    assert len(world.lines()) == 40


def test_a_refused_table_fails_its_wave_and_the_job_ends(world: World) -> None:
    def refused(sql: str) -> None:
        raise QueryRefused("no such table")

    world.source.before = refused
    assert run(world.coordinator()).status is JobStatus.FAILED
    assert world.statuses() == {"failed": 1}


def test_an_outage_is_given_up_and_leaves_the_job_resumable(world: World) -> None:
    world.settings = replace(world.settings, give_up_after_seconds=0.2)
    world.source.fill(range(1, 21))
    first_page = threading.Event()

    def gone(sql: str) -> None:
        if "COUNT(" not in sql and first_page.is_set():
            raise SourceDown("refused")
        if "COUNT(" not in sql:
            first_page.set()

    world.source.before = gone
    outcome = run(world.coordinator())
    assert isinstance(outcome.error, SourceDown)
    assert "refused" in outcome.error.message, "the last answer is told"
    assert world.job() == "processing"
    assert "dispatched" not in world.statuses()
    assert "processing" not in world.statuses()
    assert world.query("SELECT MAX(tries) FROM wave_batches") == [(0,)], "an outage spends no try"
    world.source.before = lambda sql: None
    world.source.failing_since = None
    world.database.run(lambda connection: connection.exec_driver_sql("UPDATE wave_batches SET not_before = NULL"))
    world.take()
    assert run(world.coordinator()).status is JobStatus.COMPLETED
    assert world.orders() == list(range(1, 21))


def test_batches_that_fail_together_wait_no_longer_than_one_that_fails_alone(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight at once once left back-offs of half a minute, which the next run had to wait for."""
    world.settings = replace(world.settings, workers=8, give_up_after_seconds=0.3)
    world.source.fill(range(1, 81))
    together = threading.Barrier(8)
    failures: list[int] = []

    def gone(sql: str) -> None:
        if "COUNT(" not in sql:
            together.wait(30)
            raise SourceDown("refused")

    def noted(before: int, fraction: float) -> float:
        failures.append(before)
        return after_outage(before, fraction)

    monkeypatch.setattr(coordinator_module, "after_outage", noted)
    world.source.before = gone
    assert isinstance(run(world.coordinator(fraction=lambda: 1.0)).error, SourceDown)
    assert world.statuses() == {"completed": 1, "pending": 8}
    assert len(failures) >= 8
    # A machine that stops for a second makes two rounds of them, or three; they once counted to seven.
    assert max(failures) <= 2


def test_a_short_outage_is_ridden_out(world: World) -> None:
    world.source.fill(range(1, 6))
    left = [2]

    def stumbling(sql: str) -> None:
        if left[0]:
            left[0] -= 1
            raise SourceDown("a moment")

    world.source.before = stumbling
    assert run(world.coordinator()).status is JobStatus.COMPLETED
    assert world.orders() == [1, 2, 3, 4, 5]


def test_after_a_refused_login_nothing_new_starts(world: World) -> None:
    world.settings = replace(world.settings, workers=2)
    world.source.fill(range(1, 101))
    asked_pages: list[str] = []
    both = threading.Barrier(2)

    def refused(sql: str) -> None:
        if "COUNT(" in sql:
            return
        asked_pages.append(sql)
        both.wait(30)
        raise LoginRefused("401")

    world.source.before = refused
    outcome = run(world.coordinator())
    assert isinstance(outcome.error, LoginRefused)
    assert len(asked_pages) == 2, "the two that were under way, and no third"
    assert world.statuses(1) == {"completed": 1, "pending": 10}
    assert world.query("SELECT MAX(tries) FROM wave_batches") == [(0,)]
    assert world.source.halted.is_set()


def test_a_stop_lands_what_is_in_flight_hands_back_the_rest_and_says_why(world: World) -> None:
    world.source.fill(range(1, 41))
    coordinator = world.coordinator()

    def stop_at_the_first_page(sql: str) -> None:
        if "COUNT(" not in sql:
            coordinator.stop(Stop.TERMINATED)

    world.source.before = stop_at_the_first_page
    assert run(coordinator) == Outcome(stop=Stop.TERMINATED)
    assert world.job() == "processing"
    assert not {"dispatched", "processing"} & set(world.statuses())
    assert world.orders(), "the page that was under way has landed"
    world.source.before = lambda sql: None
    world.take()
    assert run(world.coordinator()).status is JobStatus.COMPLETED
    assert world.orders() == list(range(1, 41))


def test_a_stop_before_the_first_turn_starts_nothing(world: World) -> None:
    coordinator = world.coordinator()
    coordinator.stop(Stop.INTERRUPTED)
    coordinator.stop(Stop.MAX_RUNTIME)
    outcome = run(coordinator)
    assert outcome.stop is Stop.INTERRUPTED
    assert world.source.asked == [] or world.source.counts() == world.source.asked


def test_a_run_that_was_taken_over_stops_at_its_next_pass_and_its_pages_are_not_kept(world: World) -> None:
    world.source.fill(range(1, 41))
    once, taken = threading.Event(), threading.Event()

    def take_over(sql: str) -> None:
        if "COUNT(" not in sql and not once.is_set():
            once.set()
            world.requeue()
            taken.set()

    world.source.before = take_over
    mine = world.coordinator()
    with pytest.raises(Fenced):
        run(mine)
    assert taken.wait(10), "the fence shows before the one who took over has its lease in hand"
    assert run(world.coordinator()).status is JobStatus.COMPLETED
    assert world.orders() == list(range(1, 41))
    assert world.query("SELECT SUM(row_count) FROM wave_batches")[0][0] == 40


def test_a_cancelled_job_is_told_as_cancelled(world: World) -> None:
    world.source.fill(range(1, 41))

    def cancel(sql: str) -> None:
        if "COUNT(" not in sql:
            world.writer.transact(lambda connection: jobs.cancel_job(connection, JOB, trigger=Trigger.MANUAL))

    world.source.before = cancel
    with pytest.raises(JobCancelled):
        run(world.coordinator())
    assert world.job() == "cancelled"
    assert world.orders() == []


def test_what_a_dead_holder_had_is_taken_at_once_with_proof_and_not_without(world: World) -> None:
    world.source.fill(range(1, 31))
    (plan,) = world.claim()
    world.fetcher().work(plan)
    world.claim(seconds=3600.0)
    held = world.take()
    assert held.proven
    assert run(world.coordinator(lease=held)).status is JobStatus.COMPLETED
    assert world.orders() == list(range(1, 31))
    assert world.query("SELECT COUNT(*) FROM batch_events WHERE event = 'requeued'") == [(3,)]


def test_batches_whose_lease_lapsed_are_requeued_by_the_pass(world: World) -> None:
    world.source.fill(range(1, 31))
    (plan,) = world.claim()
    world.fetcher().work(plan)
    world.claim(seconds=-5.0)
    unproven = Lease(JOB, world.lease.owner, world.lease.token)
    assert run(world.coordinator(lease=unproven)).status is JobStatus.COMPLETED
    assert world.orders() == list(range(1, 31))


def test_the_lease_is_renewed_while_a_step_is_inside_its_deadline_and_lapses_when_it_hangs(world: World) -> None:
    world.settings = replace(world.settings, lease_seconds=0.6)
    world.source.fill([1])
    renewed, lapsed, release = threading.Event(), threading.Event(), threading.Event()
    ends: list[Any] = []

    def slow(sql: str) -> None:
        assert release.wait(30)

    def turn() -> None:
        ends.append(world.query("SELECT lease_expires_at FROM import_jobs")[0][0])
        if len(set(ends)) >= 3:
            renewed.set()
        if world.writer.transact(lambda connection: jobs.lease_lapsed(connection, JOB)):
            lapsed.set()
            release.set()

    world.source.before = slow
    coordinator = world.coordinator(on_turn=turn, step_seconds=1.5)
    outcome = run(coordinator)
    assert outcome.status is JobStatus.COMPLETED
    assert renewed.is_set(), "a COUNT of any length keeps its lease"
    assert lapsed.is_set(), "but one beyond every time limit does not"


def test_every_slot_is_used_and_no_more(world: World) -> None:
    world.settings = replace(world.settings, workers=3, page_size=100)
    world.source.fill(range(1, 101))
    at_once, most, lock = [0], [0], threading.Lock()
    all_three = threading.Barrier(3)

    def count(sql: str) -> None:
        if "COUNT(" in sql:
            return
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
            first = most[0] <= 3 and len(world.source.asked) <= 4
        if first:
            all_three.wait(30)
        with lock:
            at_once[0] -= 1

    world.source.before = count
    assert run(world.coordinator()).status is JobStatus.COMPLETED
    assert most[0] == 3


def test_passes_carry_their_triggers(world: World) -> None:
    world.source.fill(range(1, 6))
    run(world.coordinator(trigger=Trigger.CRON))
    sources = [row[0] for row in world.query("SELECT source FROM wave_journal WHERE event = 'pass' ORDER BY seq")]
    assert sources[0] == "cron"
    assert set(sources[1:]) <= {"worker", "watchdog"}
    assert "worker" in sources


def test_a_stopped_source_is_no_outage(world: World) -> None:
    world.source.fill(range(1, 6))
    coordinator = world.coordinator()

    def stopped(sql: str) -> None:
        coordinator.stop(Stop.MAX_RUNTIME)
        raise Stopped("told to stop")

    world.source.before = stopped
    outcome = run(coordinator)
    assert (outcome.stop, outcome.error) == (Stop.MAX_RUNTIME, None)
    assert world.statuses() == {"pending": 1}
    assert world.query("SELECT tries, not_before, error FROM wave_batches") == [(0, None, None)]


def test_two_holders_never_coordinate_at_once(world: World) -> None:
    taken = world.writer.transact(
        lambda connection: lease.acquire(
            connection, JOB, Holder("host:2", "elsewhere", None), lease_seconds=60, trigger=Trigger.CRON
        )
    )
    assert not isinstance(taken, Lease)


COORDINATION = re.compile(r"\b(import_jobs|wave_\w+|batch_events)\b")


@pytest.mark.parametrize(("orders", "batches_made"), [(50, 21), (1000, 401)])
@pytest.mark.parametrize("workers", [1, 8])
def test_a_batch_takes_so_many_statements_of_coordination_however_many_there_are(
    database: Database, orders: int, batches_made: int, workers: int
) -> None:
    """A batch is a start, a landing (two statements more with children) and at most one pass with its claims, which is
    six; beside that there is the making of the plan, and the passes that move the job and its waves."""
    made = World(database, settings=RunSettings(workers=workers, page_size=5, batch_size=5, parents_per_batch=5))
    try:
        made.source.fill(range(1, orders + 1), lines_each=1)
        with watching(database) as seen:
            assert run(made.coordinator()) == Outcome(status=JobStatus.COMPLETED)
        assert len(made.lines()) == orders
        assert made.query("SELECT COUNT(*) FROM wave_batches") == [(batches_made,)]
        of_coordination = sum(bool(COORDINATION.search(text)) for text, _ in seen.texts)
        # With idle workers, a page that makes batches asks for a pass too.
        each, commits_each = (9.2, 3.0) if workers == 1 else (13.0, 4.0)
        assert of_coordination <= each * batches_made + 40
        assert seen.commits <= commits_each * batches_made + 20
    finally:
        made.close()
