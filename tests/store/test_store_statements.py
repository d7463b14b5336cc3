"""What coordination costs, in statements: so many whatever the number of batches, each by an index."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import store_world as world
from statement_counts import Statements, watching
from store_world import JOB

from waveimport.core.waves import Trigger
from waveimport.store import batches, waves
from waveimport.store.batches import Claim
from waveimport.store.destination import Upsert, packet_bytes
from waveimport.store.landing import Load, land
from waveimport.store.lease import Lease
from waveimport.store.transactions import Database

SIZES = (20, 400)
COORDINATION = re.compile(r"\b(import_jobs|wave_\w+|batch_events)\b")


def job_of(database: Database, size: int) -> tuple[Lease, waves.Memory]:
    """A job with so many pending batches, that has been passed over until nothing moves."""
    held = world.planned(database, *(f"1/order/{number:07d}" for number in range(size)))
    memory = waves.Memory()
    for free in (0, 8, 0, 8):
        turn(database, held, memory, free=free, claims=False)
    return held, memory


def turn(
    database: Database, held: Lease, memory: waves.Memory, *, free: int, claims: bool = True
) -> list[Claim] | None:
    def work(connection: Any) -> list[Claim] | None:
        how: dict[str, Any] = {"limit": 8, "free_slots": free, "trigger": Trigger.WORKER, "memory": memory}
        if not claims:
            waves.advance(connection, held, **how)
            return None
        return waves.advance_and_claim(connection, held, lease_seconds=3600.0, **how).claims

    return database.run(work)


def counted(database: Database, work: Callable[[], object]) -> Statements:
    with watching(database) as seen:
        work()
    return seen


PASS = {
    "SELECT import_jobs.status,": 1,
    "SELECT JSON_ARRAY(wave_number,": 1,
    "UPDATE wave_journal": 1,
    "UPDATE import_jobs": 1,
}


@pytest.mark.parametrize("size", SIZES)
def test_a_pass_that_moves_nothing_is_four_statements(database: Database, size: int) -> None:
    held, memory = job_of(database, size)
    seen = counted(database, lambda: turn(database, held, memory, free=0))
    assert (seen.by_words(), seen.commits) == (PASS, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("free", [1, 8])
def test_a_claim_of_any_number_is_two_statements_more_in_the_same_transaction(
    database: Database, size: int, free: int
) -> None:
    held, memory = job_of(database, size)
    turn(database, held, memory, free=free, claims=False)
    claims: list[Any] = []
    seen = counted(database, lambda: claims.append(turn(database, held, memory, free=free)))
    assert len(claims[0]) == free
    assert seen.by_words() == {**PASS, "SELECT wave_batches.batch_id,": 1, "UPDATE wave_batches": 1}
    assert seen.commits == 1


@pytest.mark.parametrize("size", SIZES)
def test_a_start_is_one_statement(database: Database, size: int) -> None:
    job_of(database, size)
    held = world.take(database, world.holder(1))
    (claimed,) = world.claim(database, Lease(JOB, "host:1", 1), count=1)
    assert held is not None
    seen = counted(database, lambda: database.run(lambda connection: batches.start(connection, claimed)))
    assert (seen.by_words(), seen.commits) == ({"UPDATE wave_batches": 1}, 1)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("rows", "children"), [(0, 0), (1, 0), (1000, 0), (1000, 1), (1000, 40)])
def test_a_page_is_one_statement_beside_its_rows_and_two_with_its_children(
    database: Database, size: int, rows: int, children: int
) -> None:
    held, _ = job_of(database, size)
    (claimed,) = world.claim(database, held, count=1)
    upsert = database.run(lambda connection: Upsert(connection, world.TARGET))
    most = database.run(packet_bytes)
    page = Load(
        claim=claimed,
        lease_seconds=3600.0,
        resume_key=[rows],
        spec=claimed.spec,
        rows=[(number, "memo", "1.00") for number in range(rows)],
        done=True,
        children=tuple(world.line(claimed.batch_id, number) for number in range(children)),
    )
    seen = counted(database, lambda: database.run(lambda connection: land(connection, page, upsert, most)))
    born = {"UPDATE wave_coordination": 1, "INSERT INTO": 1} if children else {}
    of_rows = [text for text, _ in seen.texts if not COORDINATION.search(text)]
    seen.texts = [one for one in seen.texts if COORDINATION.search(one[0])]
    assert (seen.by_words(), seen.commits) == ({"UPDATE wave_batches": 1, **born}, 1)
    assert bool(of_rows) is bool(rows)
    assert len(of_rows) <= 1 + -(-rows // 200), "one for 200 rows, and one for all"


def explained(database: Database, text: str, parameters: Any) -> list[tuple[Any, ...]]:
    word = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
    return database.run(
        lambda connection: [tuple(row) for row in connection.exec_driver_sql(f"{word} {text}", parameters)]
    )


def test_every_statement_of_a_turn_finds_its_rows_by_an_index(database: Database) -> None:
    held, memory = job_of(database, 400)
    if not database.is_sqlite:
        world.execute(database, "ANALYZE TABLE wave_batches")
    seen = counted(database, lambda: turn(database, held, waves.Memory(opened=memory.opened), free=2))
    (claimed,) = world.claim(database, held, count=1)
    seen.texts += counted(database, lambda: database.run(lambda one: batches.start(one, claimed))).texts
    seen.texts += counted(database, lambda: world.put(database, world.page(claimed, children=(world.line("1"),)))).texts
    plans = 0
    for text, parameters in seen.texts:
        if text.startswith("INSERT"):
            continue
        plans += 1
        told = explained(database, text, parameters)
        if database.is_sqlite:
            steps = [str(step[-1]) for step in told]
            # What is scanned in the end is a derived table of at most so many rows as there are slots.
            scans = [
                step
                for step in steps
                if step.startswith("SCAN") and not re.match(r"SCAN (\(subquery-\d+\)|[cp]\d+)$", step)
            ]
            assert scans in ([], ["SCAN CONSTANT ROW"]), (text, steps)
            assert any(step.startswith("SEARCH") for step in steps), (text, steps)
        else:
            # id, select_type, table, type, possible_keys, key, key_len, ref, rows, Extra (MySQL 8 has two more)
            at = 4 if len(told[0]) == 12 else 3
            for step in told:
                table, how, key = step[2], step[at], step[at + 2]
                if table is None or str(table).startswith("<"):
                    continue
                assert how in ("const", "eq_ref", "ref", "range", "ref_or_null"), (text, told)
                assert key is not None, (text, told)
    assert plans >= 8


def test_the_counts_of_a_snapshot_look_at_no_more_than_the_index(sqlite_database: Database) -> None:
    """What can be claimed is told by `batches_to_claim` alone; the rows, with what they cover, are not read."""
    held, memory = job_of(sqlite_database, 20)
    seen = counted(sqlite_database, lambda: turn(sqlite_database, held, memory, free=0))
    ((text, parameters),) = [one for one in seen.texts if one[0].startswith("SELECT JSON_ARRAY")]
    steps = [str(step[-1]) for step in explained(sqlite_database, text, parameters)]
    claimable = [step for step in steps if "batches_to_claim" in step]
    assert claimable
    assert any("COVERING INDEX batches_to_claim" in step for step in claimable)
