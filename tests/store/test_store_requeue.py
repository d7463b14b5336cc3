"""T5 and T6: what lapsed goes back, what was refused spends a try, what was lost too often fails."""

import pytest
import store_world as world
from store_world import A, B

from waveimport.core.waves import BatchStatus
from waveimport.errors import Fenced
from waveimport.store import batches
from waveimport.store.batches import Claim
from waveimport.store.lease import Lease
from waveimport.store.transactions import Database


def requeue(database: Database, held: Lease, *, proven_dead: bool = False) -> int:
    return database.run(lambda connection: batches.requeue(connection, held, proven_dead=proven_dead))


def refuse(database: Database, claim: Claim, *, max_tries: int = 3, delay: float = 0.0) -> BatchStatus | None:
    return database.run(
        lambda connection: batches.fail_attempt(
            connection, claim, error="refused", max_tries=max_tries, delay_seconds=delay
        )
    )


def test_only_lapsed_batches_are_put_back(database: Database) -> None:
    held = world.planned(database)
    world.claim(database, held, count=1, seconds=world.LAPSED_SECONDS)
    world.claim(database, held, count=1)
    assert requeue(database, held) == 1
    assert (world.status_of(database, A), world.status_of(database, B)) == ("pending", "dispatched")
    assert requeue(database, held) == 0
    assert world.query(database, "SELECT batch_id, event, attempt FROM batch_events") == [(A, "requeued", 1)]


def test_batches_of_an_earlier_token_are_put_back_at_once_when_their_holder_is_proven_dead(database: Database) -> None:
    world.create(database)
    dead = world.take(database, world.holder(1, lock="1:2"))
    assert isinstance(dead, Lease)
    world.advance(database, dead)
    (plan,) = world.claim(database, dead)
    world.put(database, world.page(plan, children=world.ranges(A, B)))
    world.claim(database, dead, count=1)
    new = world.take(database, world.holder(2, lock="1:2"))
    assert isinstance(new, Lease)
    world.claim(database, new, count=1)
    assert database.run(lambda connection: batches.requeue(connection, new)) == 0, "no lease has lapsed"
    assert requeue(database, new, proven_dead=True) == 1
    assert (world.status_of(database, A), world.status_of(database, B)) == ("pending", "dispatched"), "its own stays"


def test_requeueing_is_fenced(database: Database) -> None:
    held = world.planned(database)
    world.claim(database, held, seconds=world.LAPSED_SECONDS)
    before = world.contents(database)
    with pytest.raises(Fenced):
        requeue(database, Lease(held.job_id, held.owner, held.token - 1), proven_dead=True)
    assert world.contents(database) == before


def test_at_most_100_are_put_back_at_a_time(database: Database) -> None:
    names = [f"1/order/{number:07d}" for number in range(130)]
    held = world.planned(database, *names)
    world.claim(database, held, count=130, seconds=world.LAPSED_SECONDS)
    assert [requeue(database, held) for _ in range(3)] == [100, 30, 0]


def lose(database: Database, held: Lease) -> Claim:
    (one,) = world.claim(database, held, seconds=world.LAPSED_SECONDS)
    assert requeue(database, held) == 1
    return one


def test_a_batch_lost_20_times_with_no_page_landed_fails_as_worker_lost(database: Database) -> None:
    held = world.planned(database, A)
    for _ in range(19):
        lose(database, held)
        assert world.query(database, "SELECT status, error FROM wave_batches WHERE batch_id = :b", b=A) == [
            ("pending", None)
        ]
    lose(database, held)
    ((status, tries, error),) = world.query(
        database, "SELECT status, tries, error FROM wave_batches WHERE batch_id = :b", b=A
    )
    assert (status, tries) == ("failed", 0), "a lost worker spends no try"
    assert error.startswith("worker_lost: ")
    assert "host:1" in error
    assert world.query(database, "SELECT COUNT(*) FROM batch_events WHERE event = 'worker_lost'") == [(1,)]
    details = world.query(database, "SELECT event, detail FROM batch_events ORDER BY id")
    assert details[0] == ("requeued", "its worker (host:1) was lost")
    assert details[-1] == ("worker_lost", "its worker (host:1) was lost 20 times with no page landed")


def test_a_landing_resets_the_count_of_losses(database: Database) -> None:
    held = world.planned(database, A)
    for _ in range(19):
        lose(database, held)
    (one,) = world.claim(database, held)
    world.put(database, world.page(one, [(1, "a", "1.00")], done=False, seconds=world.LAPSED_SECONDS))
    requeue(database, held)
    assert world.query(database, "SELECT status, lost FROM wave_batches WHERE batch_id = :b", b=A) == [("pending", 1)]


def test_a_worker_that_was_only_slow_lands_nothing_after_its_batch_was_put_back(database: Database) -> None:
    held = world.planned(database, A)
    slow = lose(database, held)
    assert not world.put(database, world.page(slow, [(1, "late", "1.00")]))
    assert world.query(database, "SELECT COUNT(*) FROM `order`") == [(0,)]
    assert world.status_of(database, A) == "pending"


# --- T6 ---------------------------------------------------------------------------------------------------------


def test_a_refusal_spends_a_try_and_waits_and_the_last_one_fails_the_batch(database: Database) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    assert refuse(database, one, delay=50.0) is BatchStatus.PENDING
    ((status, tries, waits, error),) = world.query(
        database, "SELECT status, tries, not_before IS NOT NULL, error FROM wave_batches WHERE batch_id = :b", b=A
    )
    assert (status, tries, waits, error) == ("pending", 1, 1, "refused")
    assert world.claim(database, held) == []
    world.execute(database, "UPDATE wave_batches SET not_before = NULL")
    (two,) = world.claim(database, held)
    assert (two.attempt, two.tries) == (2, 1)
    assert refuse(database, two, max_tries=2) is BatchStatus.FAILED
    assert world.query(database, "SELECT status, tries, lease_owner FROM wave_batches WHERE batch_id = :b", b=A) == [
        ("failed", 2, None)
    ]
    assert world.query(database, "SELECT event, attempt, detail FROM batch_events ORDER BY id") == [
        ("refused", 1, "refused"),
        ("failed", 2, "refused"),
    ]


def test_failing_an_attempt_twice_spends_one_try(database: Database) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    assert refuse(database, one) is BatchStatus.PENDING
    before = world.contents(database)
    assert refuse(database, one) is None
    assert world.contents(database) == before


def test_a_batch_handed_back_spends_no_try_and_is_claimable_at_once_without_a_delay(database: Database) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    assert database.run(lambda connection: batches.hand_back(connection, one, error=None))
    assert world.query(database, "SELECT status, tries, error FROM wave_batches WHERE batch_id = :b", b=A) == [
        ("pending", 0, None)
    ]
    assert world.query(database, "SELECT COUNT(*) FROM batch_events") == [(0,)], "a clean batch leaves no event"
    (two,) = world.claim(database, held)
    assert database.run(lambda connection: batches.hand_back(connection, two, error="401"))
    assert world.query(database, "SELECT event, detail FROM batch_events") == [("handed_back", "401")]


def test_a_poison_batch_hides_nobody_elses_work(database: Database) -> None:
    held = world.planned(database)
    poison, good = world.claim(database, held)
    refuse(database, poison, max_tries=1)
    world.put(database, world.page(good, children=(world.line(B),)))
    _, decision = world.advance(database, held)
    assert [order.wave_number for order in decision.dispatch] == [2]
    (child,) = world.claim(database, held, 2)
    world.put(database, world.page(child))
    world.advance(database, held)
    assert world.query(database, "SELECT status FROM wave_coordination ORDER BY wave_number") == [("failed",)] * 2
    assert world.job_status(database) == "failed"
