"""T1: one holder, whose token fences every other; a lease is free, lapsed, or its holder is proven dead."""

import pytest
import store_world as world
from boundaries import Boundaries, lost
from store_world import JOB, A, B

from waveimport.core.waves import Trigger
from waveimport.errors import Fenced, UnknownJob
from waveimport.store import jobs, lease
from waveimport.store.lease import Held, Lease
from waveimport.store.transactions import Database


def test_one_of_eight_racing_takers_wins(database: Database, database_url: str) -> None:
    world.create(database)
    taken = world.race(database_url, 8, lambda mine, at: world.take(mine, world.holder(at)))
    (winner,) = [one for one in taken if isinstance(one, Lease)]
    assert winner.token == 1
    assert {one.owner for one in taken if isinstance(one, Held)} == {winner.owner}, "each loser learns who holds it"
    assert world.query(database, "SELECT lease_owner, lease_token FROM import_jobs") == [(winner.owner, 1)]


def test_one_of_eight_takes_a_lapsed_lease_over_with_a_greater_token(database: Database, database_url: str) -> None:
    world.create(database)
    old = world.take(database, world.holder(99), seconds=world.LAPSED_SECONDS)
    assert isinstance(old, Lease)
    taken = world.race(database_url, 8, lambda mine, at: world.take(mine, world.holder(at)))
    (winner,) = [one for one in taken if isinstance(one, Lease)]
    assert (winner.token, winner.took_over, winner.proven) == (old.token + 1, "host:99", False)


def test_a_live_lease_is_not_taken(database: Database) -> None:
    held = world.leased(database)
    before = world.contents(database)
    refused = world.take(database, world.holder(2))
    assert isinstance(refused, Held)
    assert (refused.owner, refused.finished) == (held.owner, False)
    assert refused.expires_at is not None
    assert world.contents(database) == before


@pytest.mark.parametrize(
    ("machine", "lock", "wins"), [("m", "1:2", True), ("m", "1:3", False), ("other", "1:2", False), ("m", None, False)]
)
def test_whoever_holds_the_lock_file_that_the_lease_names_takes_over_at_once(
    database: Database, machine: str, lock: str | None, wins: bool
) -> None:
    world.create(database)
    world.take(database, world.holder(1, lock="1:2"))
    taken = world.take(database, world.holder(2, lock, machine))
    assert isinstance(taken, Lease) is wins
    if isinstance(taken, Lease):
        assert (taken.proven, taken.took_over, taken.token) == (True, "host:1", 2)


def test_a_holder_without_a_lock_file_is_never_proven_dead(database: Database) -> None:
    world.create(database)
    world.take(database, world.holder(1, lock=None))
    assert isinstance(world.take(database, world.holder(2, lock=None)), Held)


def renew(database: Database, held: Lease) -> bool:
    return database.run(lambda connection: lease.renew(connection, held, lease_seconds=world.LONG_SECONDS))


def release(database: Database, held: Lease) -> bool:
    return database.run(lambda connection: lease.release(connection, held))


def test_renewal_and_release_name_owner_and_token(database: Database) -> None:
    held = world.leased(database, seconds=world.LAPSED_SECONDS)
    for stranger in (Lease(JOB, "host:2", held.token), Lease(JOB, held.owner, held.token + 1)):
        assert not renew(database, stranger)
        assert not release(database, stranger)
    assert database.run(lambda connection: jobs.lease_lapsed(connection, JOB))
    assert renew(database, held)
    assert not database.run(lambda connection: jobs.lease_lapsed(connection, JOB))
    assert release(database, held)
    assert not renew(database, held)
    assert world.query(database, "SELECT lease_owner, lease_expires_at, lease_lock, lease_token FROM import_jobs") == [
        (None, None, None, held.token)
    ]


def test_a_holder_that_slept_past_its_lease_can_do_nothing_after_the_take_over(database: Database) -> None:
    old = world.leased(database, seconds=world.LAPSED_SECONDS)
    new = world.take(database, world.holder(2))
    assert isinstance(new, Lease)
    before = world.contents(database)
    assert not renew(database, old)
    assert not release(database, old)
    for work in (
        lambda: world.advance(database, old),
        lambda: world.claim(database, old),
        lambda: database.run(lambda connection: jobs.lock_job(connection, JOB, old.token)),
    ):
        with pytest.raises(Fenced, match="host:2"):
            work()
    assert world.contents(database) == before


def test_a_released_lease_is_free_at_once_and_its_token_still_grows(database: Database) -> None:
    held = world.leased(database)
    release(database, held)
    taken = world.take(database, world.holder(2))
    assert isinstance(taken, Lease)
    assert (taken.token, taken.took_over) == (held.token + 1, None)


def test_a_lease_that_is_given_back_leaves_no_batch_at_work(database: Database) -> None:
    """A run whose disk was full gave its lease back and left four batches leased for as long as a lease lasts."""
    held = world.planned(database)
    (claimed,) = world.claim(database, held, count=1)
    assert release(database, held)
    assert world.query(database, "SELECT DISTINCT status, lease_token FROM wave_batches WHERE priority = 1") == [
        ("pending", None)
    ]
    assert not world.put(database, world.page(claimed)), "its worker, still under way, lands nothing any more"


def test_a_lease_that_is_given_back_leaves_the_batches_of_another_token_alone(database: Database) -> None:
    world.planned(database)
    world.execute(database, "UPDATE import_jobs SET lease_expires_at = '2020-01-01 00:00:00.000000'")
    world.claim(database, Lease(JOB, "host:1", 1), count=1)
    held = world.take(database, world.holder(2))
    assert isinstance(held, Lease)
    world.claim(database, held, count=1)
    assert release(database, held)
    assert (world.status_of(database, A), world.status_of(database, B)) == ("dispatched", "pending")


@pytest.mark.parametrize("status", ["completed", "cancelled", "failed"])
def test_a_finished_job_has_no_lease_to_take_a_failed_one_for_a_retry_only(database: Database, status: str) -> None:
    world.create(database)
    world.execute(database, "UPDATE import_jobs SET status = :s", s=status)
    refused = world.take(database)
    assert isinstance(refused, Held)
    assert refused.finished
    assert isinstance(world.take(database, failed_too=True), Lease) is (status == "failed")


def test_every_take_over_is_journalled_with_its_trigger_and_its_reason(database: Database) -> None:
    world.create(database)
    world.take(database, world.holder(1, lock="1:2"))
    world.take(database, world.holder(2, lock="1:2"), seconds=world.LAPSED_SECONDS)
    database.run(
        lambda connection: lease.acquire(connection, JOB, world.holder(3), lease_seconds=60, trigger=Trigger.CRON)
    )
    assert world.query(database, "SELECT seq, source, token, note FROM wave_journal ORDER BY seq") == [
        (1, "manual", 1, "taken by host:1"),
        (2, "manual", 2, "taken by host:2 from host:1, whose lock file it holds"),
        (3, "cron", 3, "taken by host:3 from host:2, whose lease had lapsed"),
    ]


def test_the_lease_of_a_job_that_is_not_there_is_an_error(database: Database) -> None:
    with pytest.raises(UnknownJob):
        world.take(database, job_id="import_x")


@pytest.mark.mysql
@pytest.mark.parametrize("at", ["before commit", "after commit"])
def test_a_lease_whose_commit_was_in_doubt_is_held_by_who_asked(mysql_database: Database, at: str) -> None:
    """Asked for again, it would be found in another's hands: one's own."""
    database = mysql_database
    world.create(database)
    who = world.holder(1)
    boundaries = Boundaries(database.engine)
    boundaries.arm(1, lost, at)
    taken = database.run(
        lambda connection: lease.acquire(connection, JOB, who, lease_seconds=60, trigger=Trigger.CRON),
        prove=lambda connection: lease.acquired(connection, JOB, who),
    )
    boundaries.detach()
    assert boundaries.fired == at
    assert taken == Lease(JOB, who.owner, 1)
    assert renew(database, taken)
    assert database.run(lambda connection: lease.acquired(connection, JOB, world.holder(2))) is None


@pytest.mark.mysql
def test_a_cas_that_sets_the_same_value_is_won_by_both_rivals_and_ours_by_one(mysql_database: Database) -> None:
    """The client asks for found rows, so a second UPDATE to the value that is there counts one row all the same."""
    database = mysql_database
    world.create(database)

    def same_value(connection: world.Any) -> int:
        return int(
            connection.exec_driver_sql(
                "UPDATE import_jobs SET lease_owner = 'x', lease_expires_at = '2030-01-01' WHERE lease_token = 0"
            ).rowcount
        )

    assert [database.run(same_value), database.run(same_value)] == [1, 1], "both believe to have won"
    world.execute(database, "UPDATE import_jobs SET lease_owner = NULL, lease_expires_at = NULL")
    won = [world.take(database, world.holder(1)), world.take(database, world.holder(2))]
    assert [isinstance(one, Lease) for one in won] == [True, False]
    # The token is in the WHERE of the statement and grows by it: a second one of the same reading finds no row.
    binds = {"job": JOB, "old": 0, "owner": "z", "ttl": 60, "machine": "m", "lock": None}
    assert database.run(lambda connection: connection.execute(lease._TAKE, binds).rowcount) == 0
