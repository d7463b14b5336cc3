"""What a report is drawn from: every batch of a job, however many parts it is read in."""

import pytest
import store_world as world
from store_world import JOB

from waveimport.store import past
from waveimport.store.transactions import Database


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_batches_are_read_in_parts_and_none_is_missed(
    database: Database, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(past, "ROWS_AT_ONCE", size)
    held = world.planned(database)
    (one, _) = world.claim(database, held)
    world.put(database, world.page(one, children=(world.line("1/order/0000000"),)))
    found = database.run(lambda connection: past.read_batches(connection, JOB))
    asked = world.query(database, "SELECT batch_id, status, claimed_at IS NULL FROM wave_batches ORDER BY batch_id")
    assert [(row.batch_id, row.status.value, row.claimed_at is None) for row in found] == [
        (name, status, bool(unclaimed)) for name, status, unclaimed in asked
    ]
    assert len(found) == 4
