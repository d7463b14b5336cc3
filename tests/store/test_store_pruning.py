"""Old jobs go in small transactions: no rule is broken in between, and the next run decides as it would have."""

import dataclasses
import random
from collections.abc import Callable
from datetime import datetime

import pytest
import store_world as world
from project import DEEP
from sqlalchemy import text
from sqlalchemy.engine import Connection
from store_world import JOB, WAVES, A

from waveimport.core.increments import Since
from waveimport.core.ranges import plan_batch_id
from waveimport.core.retention import retention
from waveimport.core.waves import BatchKind, JobStatus, Trigger
from waveimport.errors import Fenced
from waveimport.store import audit, batches, debts, jobs, lease, pruning, reconciled, skipping, watermarks
from waveimport.store.jobs import NewJob
from waveimport.store.landing import Load
from waveimport.store.lease import Lease
from waveimport.store.pruning import PRUNED, Rows
from waveimport.store.transactions import Database

ROOTS = {"order": "order", "line": "order"}
FEW = 3


def sound(database: Database) -> None:
    assert [str(violation) for violation in database.run(audit.violations)] == []


def begin(database: Database, job_id: str, *, full: bool, selection: tuple[str, ...] | None = None) -> Lease:
    database.run(lambda connection: jobs.create_job(connection, new(job_id, full=full, selection=selection)))
    held = world.take(database, job_id=job_id)
    assert isinstance(held, Lease)
    return held


def new(job_id: str, *, full: bool, selection: tuple[str, ...] | None = None) -> NewJob:
    since = {} if full else {"order": Since("2026-09-21 12:00:00", {})}
    narrow = () if full else ("order", "line")
    mode = "full" if full else "incremental"
    return NewJob(job_id, "p", mode, "hash", f"text of {job_id}", selection, WAVES, since, incremental=narrow)


def planned(load: Load) -> Load:
    """The planning of orders says what the watermark of its family becomes."""
    kept = {"as_of": "2026-09-21 14:00:00", "lookback": 600, "family": ["order", "line"], "cursors": ["order"]}
    return dataclasses.replace(load, spec={**load.spec, **kept})


def work(database: Database, held: Lease, fails: Callable[[], bool], *, until: Callable[[], bool]) -> None:
    """Work on a job until it has ended, or `until` says so; a batch fails for good where `fails` says so."""
    for _ in range(9):
        world.advance(database, held)
        if until() or status(database, held.job_id) not in ("pending", "processing"):
            return
        for claimed in [*world.claim(database, held, 1), *world.claim(database, held, 2)]:
            if claimed.kind is not BatchKind.PLAN and fails():
                database.run(
                    lambda connection, claimed=claimed: batches.fail_attempt(
                        connection, claimed, error="bad", max_tries=1, delay_seconds=0
                    )
                )
                continue
            children = world.ranges(A, f"{A}+") if claimed.kind is BatchKind.PLAN else ()
            if claimed.record == "order" and not children:
                children = (world.line(claimed.batch_id),)
            load = world.page(claimed, children=children)
            assert world.put(database, planned(load) if claimed.kind is BatchKind.PLAN else load)


def status(database: Database, job_id: str) -> str:
    ((found,),) = world.query(database, "SELECT status FROM import_jobs WHERE job_id = :job", job=job_id)
    return str(found)


def live(database: Database, rng: random.Random, number: int) -> None:
    """One job of a random history, to one of its possible ends."""
    job_id = f"import_{number}"
    full = number == 1 or rng.random() < 0.2
    held = begin(database, job_id, full=full, selection=rng.choice([None, None, ("line", "order")]))
    rate = 0.0 if number == 1 and rng.random() < 0.7 else rng.choice([0.0, 0.0, 0.4])
    cut = rng.random() < 0.2
    work(database, held, lambda: rng.random() < rate, until=lambda: cut and rng.random() < 0.3)
    ended = status(database, job_id)
    if ended in ("pending", "processing") or (ended == "failed" and rng.random() < 0.2):
        database.run(lambda connection: jobs.cancel_job(connection, job_id, trigger=Trigger.MANUAL))
    for batch_id, _ in world.query(
        database, "SELECT batch_id, job_id FROM wave_batches WHERE status = 'failed' AND job_id = :j", j=job_id
    ):
        if rng.random() < 0.3:
            database.run(
                lambda connection, batch_id=batch_id: skipping.skip(
                    connection, job_id, batch_id, reason="why", trigger=Trigger.MANUAL
                )
            )
    if ended == "completed":
        compare(database, rng, held)


def compare(database: Database, rng: random.Random, held: Lease) -> None:
    match rng.randrange(4):
        case 0:
            database.run(lambda connection: reconciled.mark(connection, held.job_id, held.token))
        case 1:
            database.run(lambda connection: jobs.note_error(connection, held.job_id, held.token, "they differ"))
        case 2 if rng.random() < 0.3:
            plan = plan_batch_id(1, "order")
            database.run(lambda connection: reconciled.note_uncounted(connection, held.job_id, plan, "too slow"))


def answers(database: Database) -> dict[str, object]:
    """What the next run would be told, by asking as it asks, and undoing what that writes."""
    found: dict[str, object] = {}
    with database.engine.connect() as connection, connection.begin() as transaction:
        found["marks"] = watermarks.read(connection, "p")
        found["standing"] = debts.standing(connection, "p")
        found["outstanding"] = debts.outstanding(connection, "p")
        found["written off"] = reconciled.written_off(connection, "p", ROOTS)
        newest = jobs.newest_job(connection, "p")
        assert newest is not None
        found["newest"] = newest.job_id
        for selection in (None, ("order", "line"), ("order",)):
            savepoint = connection.begin_nested()
            probe = jobs.create_job(connection, new("import_x", full=selection is None, selection=selection))
            assert probe.job_id == "import_x"
            made = "SELECT batch_id, spec FROM wave_batches WHERE job_id = 'import_x' ORDER BY batch_id"
            found[f"batches of {selection}"] = [tuple(row) for row in connection.execute(text(made))]
            found[f"first of {selection}"] = debts.is_first(connection, "import_x")
            connection.execute(text("UPDATE import_jobs SET status = 'completed' WHERE job_id = 'import_x'"))
            found[f"due of {selection}"] = reconciled.is_due(connection, "import_x")
            savepoint.rollback()
        transaction.rollback()
    return found


def choose(connection: Connection, keep: int) -> tuple[str, ...]:
    history = pruning.read_history(connection, "p", ROOTS)
    return retention(history, keep=keep, older_than_seconds=None).delete


@pytest.mark.parametrize("seed", range(300 if DEEP else 2))
def test_after_any_history_the_next_run_decides_as_before(database: Database, seed: int) -> None:
    rng = random.Random(seed)
    for number in range(1, 10):
        live(database, rng, number)
    before = answers(database)
    sound(database)
    stop = rng.randrange(3, 12)
    gone: set[str] = set()
    for keep in (2, 0):
        for _ in range(2):
            for job_id in database.run(lambda connection, keep=keep: choose(connection, keep)):
                assert database.run(lambda connection, job_id=job_id: pruning.condemn(connection, job_id))
                gone.add(job_id)
                while stop and database.run(
                    lambda connection, job_id=job_id: pruning.delete_some(connection, job_id, FEW)
                ):
                    stop -= 1
                    sound(database)
                sound(database)
                if not stop:
                    break
            stop = 10_000
    assert answers(database) == before
    left = {row[0] for row in world.query(database, "SELECT job_id FROM import_jobs")}
    assert left.isdisjoint(gone)
    for table in ("wave_coordination", "wave_batches", "wave_journal", "batch_events"):
        assert {row[0] for row in world.query(database, f"SELECT job_id FROM {table}")} <= left


def failed_and_done(database: Database) -> None:
    """A first import, a daily job that leaves a debt, one that makes it good, and one more."""
    work(database, begin(database, JOB, full=True), lambda: False, until=lambda: False)
    fails = iter([True])
    work(database, begin(database, "import_2", full=False), lambda: next(fails, False), until=lambda: False)
    assert status(database, "import_2") == "failed"
    assert len(database.run(lambda connection: debts.standing(connection, "p"))) == 1


def test_a_debt_and_what_carries_it_stay_until_it_has_landed(database: Database) -> None:
    failed_and_done(database)
    held = begin(database, "import_3", full=False)
    work(database, held, lambda: False, until=lambda: True)
    database.run(lambda connection: jobs.cancel_job(connection, "import_3", trigger=Trigger.MANUAL))
    begin(database, "import_4", full=False)
    # import_1 is the only completed one, import_2 is owed, import_4 at work carries it now: import_3 is free.
    assert database.run(lambda connection: choose(connection, 0)) == ("import_3",)


def test_what_failed_again_in_the_newest_job_is_still_owed_where_it_failed_first(database: Database) -> None:
    """Tried again there and cancelled then, it would fall back to where it came from."""
    failed_and_done(database)
    held = begin(database, "import_3", full=False)
    work(database, held, lambda: True, until=lambda: False)
    assert [debt.job_id for debt in database.run(lambda connection: debts.standing(connection, "p"))] == [
        "import_3"
    ] * 3
    assert database.run(lambda connection: choose(connection, 0)) == ()


def test_a_job_that_has_not_ended_is_left_alone_and_one_that_has_is_fenced(database: Database) -> None:
    held = world.planned(database)
    assert not database.run(lambda connection: pruning.condemn(connection, JOB))
    assert database.run(lambda connection: pruning.delete_some(connection, JOB, FEW)) is None
    assert database.run(
        lambda connection: pruning.delete_some_of_journal(connection, JOB, FEW, trigger=Trigger.CRON)
    ) is None  # fmt: skip
    database.run(lambda connection: jobs.cancel_job(connection, JOB, trigger=Trigger.MANUAL))
    assert database.run(lambda connection: pruning.delete_some(connection, JOB, FEW)) is None, "it is not condemned"
    assert database.run(lambda connection: pruning.condemn(connection, JOB))
    with pytest.raises(Fenced):
        world.advance(database, held)
    assert not database.run(lambda connection: pruning.condemn(connection, "import_none"))


def test_two_that_prune_at_once_delete_each_job_once(database_url: str, database: Database) -> None:
    for number in range(1, 7):
        held = begin(database, f"import_{number}", full=True)
        work(database, held, lambda: False, until=lambda: False)
        database.run(lambda connection, held=held: lease.release(connection, held))
    chosen = database.run(lambda connection: choose(connection, 0))
    assert len(chosen) == 5
    per_job = database.run(lambda connection: pruning.count_rows(connection, "import_1"))

    def all_of_it(mine: Database, number: int) -> Rows:
        done = Rows()
        for job_id in chosen:
            if mine.run(lambda connection, job_id=job_id: pruning.condemn(connection, job_id)):
                while some := mine.run(
                    lambda connection, job_id=job_id: pruning.delete_some(connection, job_id, FEW)
                ):  # fmt: skip
                    done += some
        return done

    total = sum(world.race(database_url, 2, all_of_it), Rows())
    assert (total.jobs, total.batches) == (5, 5 * per_job.batches)
    sound(database)


def test_a_pruned_journal_is_whole_and_a_damaged_one_is_not(database: Database) -> None:
    work(database, begin(database, JOB, full=True), lambda: False, until=lambda: False)
    entries = world.query(database, "SELECT COUNT(*) FROM wave_journal")[0][0]
    assert entries > FEW + 1
    done = Rows()
    while some := database.run(
        lambda connection: pruning.delete_some_of_journal(connection, JOB, FEW, trigger=Trigger.CRON)
    ):
        done += some
        sound(database)
        assert world.query(database, "SELECT event FROM wave_journal WHERE seq = 1") == [(PRUNED,)]
    assert done == Rows(entries=entries)
    assert database.run(lambda connection: pruning.count_rows(connection, JOB, journal_only=True)) == Rows()
    assert status(database, JOB) == JobStatus.COMPLETED
    execute = "INSERT INTO batch_events (job_id, batch_id, at, event, attempt) VALUES (:j, 'b', :at, 'kept', 1)"
    world.execute(database, execute, j=JOB, at=str(datetime(2026, 1, 1)))
    again = database.run(lambda c: pruning.delete_some_of_journal(c, JOB, FEW, trigger=Trigger.CRON))
    assert again == Rows(events=1)
    world.execute(database, "DELETE FROM wave_journal WHERE seq = 1")
    assert [violation.rule.code for violation in database.run(audit.violations)] == ["the_journal_is_whole"]
    assert database.run(lambda c: pruning.delete_some_of_journal(c, JOB, FEW, trigger=Trigger.CRON)) is None
