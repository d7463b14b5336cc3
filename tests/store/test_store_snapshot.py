"""The snapshot in SQL equals the view of the pure state, after every event of any history."""

from collections.abc import Iterator
from typing import Any

import mysql_server
import pytest
import store_world as world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store_world import JOB, WAVES

from waveimport.core.jobstate import (
    Advance,
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
from waveimport.core.waves import LEASED, BatchKind, BatchStatus, JobStatus, Trigger, WaveStatus, decide
from waveimport.errors import Fenced, WaveImportError
from waveimport.store import batches, jobs, lease, waves
from waveimport.store.batches import Claim
from waveimport.store.landing import NewBatch
from waveimport.store.lease import Lease
from waveimport.store.schema import upgrade
from waveimport.store.snapshot import read_snapshot
from waveimport.store.transactions import Database

FAR = 1000.0
SOON = 50.0
"""A lease or a wait that ends beyond the test; in SQL an hour. One that has ended is negative in both."""


class Pair:
    """A job in the database and the same job as a value, told the same events."""

    def __init__(self, database: Database) -> None:
        self.database = database
        for table in ("import_jobs", "wave_coordination", "wave_batches", "wave_journal", "batch_events"):
            world.execute(database, f"DELETE FROM {table}")
        world.create(database)
        self.state: JobState = created(WAVES)
        self.owner = "host:1"
        self.check()

    @property
    def lease(self) -> Lease:
        return Lease(JOB, self.owner, self.state.token)

    def tell(self, event: Event) -> None:
        self.state = apply(self.state, event)
        self.check()

    def check(self) -> None:
        """The whole of it: the snapshot, and every batch by its status, counts and progress."""
        # Whatever the reader believes to be open: it is told the same.
        for limit, free, opened in ((2, 1, ()), (8, 8, (1, 2)), (8, 8, (2,))):

            def read(connection: Any, limit: int = limit, free: int = free, opened: tuple[int, ...] = opened) -> Any:
                job = jobs.get_job(connection, JOB)
                return read_snapshot(
                    connection,
                    JOB,
                    status=job.status,
                    coordination_status=job.coordination_status,
                    limit=limit,
                    free_slots=free,
                    opened=opened,
                )

            assert self.database.run(read) == view(self.state, now=0.0, limit=limit, free_slots=free)
        rows = world.query(
            self.database, "SELECT batch_id, wave_number, kind, status, attempt, tries FROM wave_batches"
        )
        assert {row[0]: tuple(row[1:]) for row in rows} == {
            batch_id: (b.wave_number, b.kind, b.status, b.attempt, b.tries)
            for batch_id, b in self.state.batches.items()
        }
        assert world.query(self.database, "SELECT lease_token FROM import_jobs") == [(self.state.token,)]

    # --- the events, in both --------------------------------------------------------------------------------------

    def take(self, *, lapsed: bool, proven: bool) -> None:
        until = -1.0 if lapsed else FAR
        who = world.holder(1, lock="1:2" if proven else None)
        self.database.run(lambda connection: connection.exec_driver_sql("UPDATE import_jobs SET lease_machine = 'm',"
                          " lease_lock = '1:2' WHERE lease_owner IS NOT NULL"))  # fmt: skip
        world.take(self.database, who, seconds=3600.0 if until > 0 else -5.0, failed_too=True)
        self.tell(TakeLease(0.0, until, proven_dead=proven))

    def release(self) -> None:
        held = self.state.lease_until is not None
        assert self.database.run(lambda connection: lease.release(connection, self.lease)) is held
        self.tell(ReleaseLease(self.state.token))

    def advance(self, free: int) -> None:
        decision = decide(view(self.state, now=0.0, limit=8, free_slots=free))
        if self.state.status is JobStatus.CANCELLED:
            return
        _, decided = self.database.run(
            lambda connection: waves.advance(connection, self.lease, limit=8, free_slots=free, trigger=Trigger.WORKER)
        )
        assert decided == decision
        self.tell(Advance(self.state.token, decision))

    def claim(self, wave: int, count: int, *, plans_only: bool, lapsed: bool) -> None:
        self.database.run(
            lambda connection: batches.claim(
                connection, self.lease, wave, count, plans_only=plans_only, lease_seconds=-5.0 if lapsed else 3600.0
            )
        )
        self.tell(ClaimBatches(self.state.token, wave, count, plans_only, 0.0, -1.0 if lapsed else FAR))

    def claimed(self, batch_id: str, attempt: int) -> Claim:
        b = self.state.batches[batch_id]
        return Claim(JOB, batch_id, b.wave_number, batch_id.split("/")[1], b.kind, attempt, b.tries, {}, None, 0)

    def start(self, batch_id: str, attempt: int) -> None:
        self.database.run(lambda connection: batches.start(connection, self.claimed(batch_id, attempt)))
        self.tell(StartBatch(batch_id, attempt))

    def land(self, batch_id: str, attempt: int, *, done: bool, lapsed: bool) -> None:
        b = self.state.batches[batch_id]
        children: tuple[NewBatch, ...] = ()
        if b.kind is BatchKind.PLAN and b.landed == 0:
            children = world.ranges(world.A, world.B)
        elif b.kind is BatchKind.RANGE:
            children = (world.line(batch_id, b.landed),)
        page = world.page(
            self.claimed(batch_id, attempt), children=children, done=done, seconds=-5.0 if lapsed else 3600.0
        )
        try:
            landed = world.put(self.database, page)
        except WaveImportError:
            landed = False  # a sealed or settled wave
        before = self.state
        event = LandPage(batch_id, attempt, {c.batch_id: (c.wave_number, c.kind) for c in children}, done)
        after = apply(before, event)
        assert landed is (after is not before)
        if landed and not done:
            # A page renews its batch; the value has no such event of its own.
            b = after.batches[batch_id]
            from dataclasses import replace

            after = replace(after, batches={**after.batches, batch_id: replace(b, lease_until=-1.0 if lapsed else FAR)})
        self.state = after
        self.check()

    def requeue(self, *, proven: bool) -> None:
        self.database.run(lambda connection: batches.requeue(connection, self.lease, proven_dead=proven))
        self.tell(Requeue(self.state.token, 0.0, proven_dead=proven))

    def fail(self, batch_id: str, attempt: int, *, spends: bool, delay: float = 0.0) -> None:
        one = self.claimed(batch_id, attempt)
        if spends:
            self.database.run(
                lambda connection: batches.fail_attempt(connection, one, error="bad", max_tries=2, delay_seconds=delay)
            )
        else:
            self.database.run(lambda connection: batches.hand_back(connection, one, error=None, delay_seconds=delay))
        self.tell(FailAttempt(batch_id, attempt, spends, max_tries=2, not_before=delay))

    def retry(self) -> None:
        if self.state.status is JobStatus.CANCELLED:
            return
        self.database.run(
            lambda connection: jobs.retry_failed(connection, JOB, token=self.state.token, trigger=Trigger.RETRY)
        )
        self.tell(RetryFailed(self.state.token))

    def cancel(self) -> None:
        self.database.run(lambda connection: jobs.cancel_job(connection, JOB, trigger=Trigger.MANUAL))
        self.tell(Cancel())

    def stale(self) -> None:
        """Whatever a holder of an earlier token tries is refused, in both."""
        old = Lease(JOB, self.owner, self.state.token - 1)
        for work in (
            lambda: world.advance(self.database, old),
            lambda: world.claim(self.database, old),
            lambda: self.database.run(lambda connection: batches.requeue(connection, old)),
        ):
            with pytest.raises(Fenced):
                work()
        self.check()


WORDS = ["pass", "pass", "claim", "claim", "start", "land", "land", "last", "last", "requeue", "dead", "fail", "spend",
         "take", "release", "retry", "zombie", "stale", "cancel"]  # fmt: skip
STEPS = st.lists(
    st.tuples(st.sampled_from(WORDS), st.integers(0, 7), st.integers(0, 9).map(lambda n: n == 0)), max_size=40
)


def history(pair: Pair, steps: list[tuple[str, int, bool]]) -> None:
    pair.take(lapsed=False, proven=False)
    pair.advance(8)
    for word, choice, rare in steps:
        live = sorted(i for i, b in pair.state.batches.items() if b.status in LEASED)
        anyone = sorted(pair.state.batches)
        batch_id = live[choice % len(live)] if live else anyone[choice % len(anyone)]
        attempt = pair.state.batches[batch_id].attempt
        match word:
            case "pass":
                pair.advance(choice)
            case "claim" if pair.state.status is not JobStatus.CANCELLED:
                pair.claim(1 + choice % 2, 1 + choice // 2, plans_only=rare, lapsed=choice == 7)
            case "start":
                pair.start(batch_id, attempt)
            case "land" | "last":
                pair.land(batch_id, attempt, done=word == "last", lapsed=rare)
            case "requeue" | "dead" if pair.state.status is not JobStatus.CANCELLED:
                pair.requeue(proven=word == "dead")
            case "fail" | "spend":
                pair.fail(
                    batch_id, attempt, spends=word == "spend", delay=(0.0, SOON, FAR)[choice % 3] if rare else 0.0
                )
            case "take":
                pair.take(lapsed=rare, proven=choice > 4)
            case "release":
                pair.release()
            case "retry":
                pair.retry()
            case "zombie" if attempt:
                pair.land(batch_id, attempt - 1, done=True, lapsed=False)
                pair.start(batch_id, attempt + 1)
            case "stale" if pair.state.token > 1:
                pair.stale()
            case "cancel" if rare:
                pair.cancel()


@pytest.fixture(scope="module")
def lite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path_factory.mktemp('snapshot') / 'own.db'}")
    upgrade(database)
    yield database
    database.close()


@pytest.fixture(scope="module")
def my(mysql_url: str) -> Iterator[Database]:
    with mysql_server.fresh_database(mysql_url) as url:
        database = Database.open(url)
        upgrade(database)
        yield database
        database.close()


@settings(suppress_health_check=list(HealthCheck))
@given(steps=STEPS)
def test_on_sqlite_the_store_and_the_pure_state_agree_after_every_event(
    lite: Database, steps: list[tuple[str, int, bool]]
) -> None:
    history(Pair(lite), steps)


@pytest.mark.mysql
@settings(suppress_health_check=list(HealthCheck), max_examples=12)
@given(steps=STEPS)
def test_on_mysql_the_store_and_the_pure_state_agree_after_every_event(
    my: Database, steps: list[tuple[str, int, bool]]
) -> None:
    history(Pair(my), steps)


def test_a_whole_life_agrees_from_plan_to_failed_to_retried_to_completed(database: Database) -> None:
    pair = Pair(database)
    pair.take(lapsed=False, proven=False)
    pair.advance(8)
    pair.claim(1, 8, plans_only=True, lapsed=False)
    pair.land(world.PLAN, 1, done=True, lapsed=False)
    pair.advance(8)
    pair.claim(1, 8, plans_only=False, lapsed=False)
    pair.start(world.A, 1)
    pair.land(world.A, 1, done=False, lapsed=True)
    pair.requeue(proven=False)
    pair.claim(1, 8, plans_only=False, lapsed=False)
    pair.fail(world.A, 2, spends=True)
    pair.claim(1, 8, plans_only=False, lapsed=False)
    pair.fail(world.A, 3, spends=True)
    pair.land(world.B, 1, done=True, lapsed=False)
    for _ in range(3):
        pair.advance(8)
        pair.claim(2, 8, plans_only=False, lapsed=False)
        for batch_id, b in list(pair.state.batches.items()):
            if b.status in LEASED:
                pair.land(batch_id, b.attempt, done=True, lapsed=False)
    assert pair.state.status is JobStatus.FAILED
    pair.retry()
    pair.advance(8)
    pair.claim(1, 8, plans_only=False, lapsed=False)
    pair.land(world.A, 4, done=True, lapsed=False)
    for _ in range(3):
        pair.advance(8)
        pair.claim(2, 8, plans_only=False, lapsed=False)
        for batch_id, b in list(pair.state.batches.items()):
            if b.status in LEASED:
                pair.land(batch_id, b.attempt, done=True, lapsed=False)
    assert pair.state.status is JobStatus.COMPLETED
    assert {w.status for w in pair.state.waves.values()} == {WaveStatus.COMPLETED}
    assert {b.status for b in pair.state.batches.values()} == {BatchStatus.COMPLETED}
