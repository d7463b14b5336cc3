"""The order of locks, read off the statements: what coordinates locks the job row before it looks at anything else.

SQLite, whose write lock is the whole file, has no words for it: there the job row is read first, no more.
"""

from collections.abc import Callable
from typing import Any

import pytest
import store_world as world
from sqlalchemy import event
from store_world import JOB

from waveimport.core.waves import Trigger
from waveimport.store import batches, jobs, lease, waves
from waveimport.store.lease import Lease
from waveimport.store.transactions import Database

Transaction = Callable[[Any, Lease], object]
COORDINATING: dict[str, Transaction] = {
    "T1 lease": lambda c, held: lease.acquire(c, JOB, world.holder(2), lease_seconds=60.0, trigger=Trigger.CRON),
    "T2 advance": lambda c, held: waves.advance(c, held, limit=4, free_slots=4, trigger=Trigger.WORKER),
    "T2 and T3": lambda c, held: waves.advance_and_claim(
        c, held, limit=4, free_slots=4, trigger=Trigger.WORKER, lease_seconds=60.0
    ),
    "T3 claim": lambda c, held: batches.claim(c, held, 1, 4, plans_only=False, lease_seconds=60.0),
    "T5 requeue": lambda c, held: batches.requeue(c, held),
    "T7 retry": lambda c, held: jobs.retry_failed(c, JOB, token=held.token, trigger=Trigger.RETRY),
    "T8 cancel": lambda c, held: jobs.cancel_job(c, JOB, trigger=Trigger.MANUAL),
}


@pytest.mark.parametrize("name", COORDINATING)
def test_what_coordinates_locks_the_job_row_before_all_else(database: Database, name: str) -> None:
    """What was read before the lock is of the past when the lock is had."""
    held = world.planned(database)
    statements: list[str] = []

    def record(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        statements.append(" ".join(statement.split()))

    event.listen(database.engine, "before_cursor_execute", record)
    database.run(lambda connection: COORDINATING[name](connection, held))
    event.remove(database.engine, "before_cursor_execute", record)
    assert "FROM import_jobs WHERE import_jobs.job_id = " in statements[0]
    assert statements[0].endswith("FOR UPDATE") is not database.is_sqlite


def test_mysql_is_asked_for_the_locks() -> None:
    """On a machine without a server too."""
    assert jobs._LOCK._on_mysql().endswith("FOR UPDATE")
    assert batches._CLAIMABLE._on_mysql().endswith("FOR UPDATE SKIP LOCKED")


def test_claims_are_made_with_a_pass_only_where_it_has_locked_no_wave(sqlite_database: Database) -> None:
    """Job, wave, batch is not the order of a landing, which has its batch before it wants the wave."""
    held = world.leased(sqlite_database)

    def turn() -> waves.Turn:
        return sqlite_database.run(
            lambda connection: waves.advance_and_claim(
                connection, held, limit=4, free_slots=4, trigger=Trigger.WORKER, lease_seconds=60.0
            )
        )

    first = turn()
    assert first.decision.moves
    assert first.decision.dispatch
    assert first.claims is None
    second = turn()
    assert not second.decision.changes_rows
    assert [claim.batch_id for claim in second.claims or ()] == [world.PLAN]
