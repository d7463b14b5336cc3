"""T3 and the worker's first write: claimable batches only, in order, each once."""

import pytest
import store_world as world
from sqlalchemy import text
from store_world import JOB, A, B

from waveimport.core.waves import BatchKind, Trigger
from waveimport.errors import Fenced, JobCancelled
from waveimport.store import batches, jobs
from waveimport.store.batches import Claim
from waveimport.store.lease import Lease
from waveimport.store.transactions import Database


def ids(claims: list[Claim]) -> list[str]:
    return [claim.batch_id for claim in claims]


def test_batches_are_claimed_in_key_order_at_most_as_many_as_asked(database: Database) -> None:
    names = [f"1/order/{number:07d}" for number in range(12)]
    held = world.planned(database, *reversed(names))
    assert ids(world.claim(database, held, count=5)) == names[:5]
    assert ids(world.claim(database, held, count=100)) == names[5:]
    assert world.claim(database, held) == []


def test_a_claim_carries_what_fetching_needs_and_gives_the_batch_a_lease(database: Database) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    assert one == Claim(
        job_id=JOB,
        batch_id=A,
        wave_number=1,
        record="order",
        kind=BatchKind.RANGE,
        attempt=1,
        tries=0,
        spec={"lower": None, "upper": None},
        resume_key=None,
        row_count=0,
    )
    ((status, owner, token, leased),) = world.query(
        database,
        "SELECT status, lease_owner, lease_token, lease_expires_at IS NOT NULL FROM wave_batches WHERE batch_id = :b",
        b=A,
    )
    assert (status, owner, token, leased) == ("dispatched", held.owner, held.token, 1)


def test_plans_go_first_and_alone_where_only_plans_are_wanted(database: Database) -> None:
    held = world.planned(database)
    world.execute(
        database,
        "UPDATE wave_batches SET status = 'pending' WHERE batch_id = :b",
        b=world.PLAN,
    )
    assert ids(world.claim(database, held, plans_only=True)) == [world.PLAN]
    world.execute(
        database,
        "UPDATE wave_batches SET status = 'pending', lease_owner = NULL, lease_expires_at = NULL WHERE batch_id = :b",
        b=world.PLAN,
    )
    assert ids(world.claim(database, held)) == [world.PLAN, A, B]


def test_a_batch_in_its_back_off_is_not_claimable_and_its_end_is_by_the_databases_clock(database: Database) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    database.run(lambda connection: batches.hand_back(connection, one, error="outage", delay_seconds=50.0))
    assert world.claim(database, held) == []
    clock = "strftime('%Y-%m-%d %H:%M:%f', 'now', '-1 seconds')" if database.is_sqlite else "UTC_TIMESTAMP(6)"
    world.execute(database, f"UPDATE wave_batches SET not_before = {clock} WHERE batch_id = '{A}'")
    assert ids(world.claim(database, held)) == [A]
    assert world.query(database, "SELECT not_before FROM wave_batches WHERE batch_id = :b", b=A) == [(None,)]


def test_a_clock_that_went_back_does_not_hold_a_batch_in_its_back_off(database: Database) -> None:
    """Set an hour ahead of now by a clock that was an hour fast: no back-off is as long."""
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    database.run(lambda connection: batches.hand_back(connection, one, error="outage", delay_seconds=3600.0))
    assert ids(world.claim(database, held)) == [A]


def test_another_waves_batches_are_not_claimed(database: Database) -> None:
    held = world.planned(database, A)
    assert world.claim(database, held, 2) == []


def test_only_a_processing_job_under_the_current_token_gets_batches(database: Database) -> None:
    held = world.leased(database)
    assert world.claim(database, held) == [], "the job is pending"
    world.advance(database, held)
    with pytest.raises(Fenced):
        world.claim(database, Lease(JOB, held.owner, held.token + 1))
    assert ids(world.claim(database, held)) == [world.PLAN]


def test_nothing_of_a_cancelled_job_is_claimed(database: Database) -> None:
    held = world.planned(database)
    database.run(lambda connection: jobs.cancel_job(connection, JOB, trigger=Trigger.MANUAL))
    with pytest.raises(JobCancelled):
        world.claim(database, held)
    assert world.claim(database, Lease(JOB, held.owner, held.token + 1)) == []


def test_racing_claimers_of_one_holder_get_each_batch_once(database: Database, database_url: str) -> None:
    names = [f"1/order/{number:07d}" for number in range(16)]
    held = world.planned(database, *names)
    claimed = world.race(database_url, 4, lambda mine, at: ids(world.claim(mine, held, count=4)))
    assert sorted(name for part in claimed for name in part) == names


@pytest.mark.mysql
def test_a_batch_that_another_connection_has_locked_is_passed_over_without_waiting(mysql_database: Database) -> None:
    database = mysql_database
    held = world.planned(database)
    with database.engine.connect() as landing, landing.begin():
        by_key = text("SELECT status FROM wave_batches WHERE job_id = :job AND batch_id = :b FOR UPDATE")
        landing.execute(by_key, {"job": JOB, "b": A})
        assert ids(world.claim(database, held)) == [B]
    assert ids(world.claim(database, held)) == [A]


def test_the_workers_first_write_is_from_dispatched_to_processing_and_happens_once(database: Database) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    assert database.run(lambda connection: batches.started(connection, one)) is None
    assert database.run(lambda connection: batches.start(connection, one))
    assert world.status_of(database, A) == "processing"
    assert not database.run(lambda connection: batches.start(connection, one))
    assert database.run(lambda connection: batches.started(connection, one)) is True


def test_a_stale_attempt_starts_renews_and_hands_back_nothing(database: Database) -> None:
    held = world.planned(database, A)
    (stale,) = world.claim(database, held, seconds=world.LAPSED_SECONDS)
    database.run(lambda connection: batches.requeue(connection, held))
    (current,) = world.claim(database, held)
    before = world.contents(database)
    assert current.attempt == stale.attempt + 1
    assert not database.run(lambda connection: batches.start(connection, stale))
    assert not database.run(lambda connection: batches.hand_back(connection, stale, error="late"))
    assert (
        database.run(
            lambda connection: batches.fail_attempt(connection, stale, error="late", max_tries=1, delay_seconds=0)
        )
        is None
    )
    assert not world.put(database, world.page(stale, [(1, "stale", "1.00")], (world.line(A),)))
    assert world.contents(database) == before
    assert world.query(database, "SELECT COUNT(*) FROM `order`") == [(0,)]


def test_renewal_pushes_out_the_leases_of_current_attempts_only(database: Database) -> None:
    held = world.planned(database)
    first, second = world.claim(database, held, seconds=world.LAPSED_SECONDS)
    old = Claim(JOB, B, 1, "order", BatchKind.RANGE, second.attempt - 1, 0, {}, None, 0)
    database.run(lambda connection: batches.renew(connection, [first, old], lease_seconds=world.LONG_SECONDS))
    assert database.run(lambda connection: batches.requeue(connection, held)) == 1
    assert (world.status_of(database, A), world.status_of(database, B)) == ("dispatched", "pending")
    database.run(lambda connection: batches.renew(connection, [], lease_seconds=1))


def test_nothing_dispatched_can_be_without_a_lease(database: Database) -> None:
    held = world.planned(database, A)
    world.claim(database, held)
    from waveimport.errors import WaveImportError

    for sql in (
        "UPDATE wave_batches SET lease_expires_at = NULL WHERE batch_id = :b",
        "UPDATE wave_batches SET status = 'pending' WHERE batch_id = :b",
        "UPDATE wave_batches SET status = 'failed', lease_expires_at = NULL WHERE batch_id = :b",
        "UPDATE wave_coordination SET status = 'completed' WHERE :b <> ''",
    ):
        with pytest.raises(WaveImportError):
            world.execute(database, sql, b=A)
