"""T4: the fence first; rows, progress and children become visible together, once."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import store_world as world
from boundaries import Boundaries, conflict
from sqlalchemy import Connection
from store_world import A, B

from waveimport.errors import WaveImportError
from waveimport.store import batches, journal
from waveimport.store.destination import Upsert, ensure_tables, packet_bytes, raise_fence
from waveimport.store.landing import Load, land, land_rows_apart, landed
from waveimport.store.transactions import Database

ROWS = [(1, "one", "1.00"), (2, None, "2.50")]


def orders(database: Database) -> list[tuple[object, ...]]:
    return [
        (key, memo, None if total is None else f"{total:.2f}")
        for key, memo, total in world.query(database, "SELECT id, memo, total FROM `order` ORDER BY id")
    ]


def batch(database: Database, batch_id: str = A) -> tuple[object, ...]:
    (row,) = world.query(
        database, "SELECT status, resume_key, row_count, spec FROM wave_batches WHERE batch_id = :b", b=batch_id
    )
    return row


def test_rows_resume_key_and_children_land_together(database: Database) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    assert world.put(database, world.page(one, ROWS, (world.line(A),), done=False))
    assert orders(database) == ROWS
    assert batch(database)[:3] == ("dispatched", "[2]", 2)
    assert world.query(database, "SELECT batch_id, status, spec FROM wave_batches WHERE wave_number = 2") == [
        (f"{A}/line/1", "pending", '{"parents":[1]}')
    ]
    assert world.query(database, "SELECT total FROM wave_coordination ORDER BY wave_number") == [(2,), (1,)]
    assert world.put(database, world.page(one, [(3, "x", "3.00")]))
    assert batch(database)[:3] == ("completed", "[3]", 3)
    assert {row[0] for row in world.query(database, "SELECT _job_id FROM `order`")} == {world.JOB}


def test_a_stale_attempt_lands_nothing_at_all(database: Database) -> None:
    held = world.planned(database, A)
    (stale,) = world.claim(database, held, seconds=world.LAPSED_SECONDS)
    database.run(lambda connection: batches.requeue(connection, held))
    world.claim(database, held)
    before = world.contents(database)
    for done in (False, True):
        assert not world.put(database, world.page(stale, ROWS, (world.line(A),), done=done))
    assert world.contents(database) == before
    assert orders(database) == []


def test_a_completed_batch_lands_nothing_more(database: Database) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    load = world.page(one, ROWS, (world.line(A),))
    assert world.put(database, load)
    before = world.contents(database)
    assert not world.put(database, load)
    assert world.contents(database) == before


@pytest.mark.parametrize("change", ["sealed = 1", "status = 'failed'", "status = 'completed', sealed = 1"])
def test_children_of_a_sealed_or_settled_wave_are_refused_and_nothing_of_the_page_is_kept(
    database: Database, change: str
) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    world.execute(database, f"UPDATE wave_coordination SET {change} WHERE wave_number = 2")
    before = world.contents(database)
    with pytest.raises(WaveImportError, match="sealed"):
        world.put(database, world.page(one, ROWS, (world.line(A),)))
    assert world.contents(database) == before
    assert orders(database) == []


def test_a_child_that_is_there_already_refuses_its_page_whole(database: Database) -> None:
    held = world.planned(database)
    first, second = world.claim(database, held)
    world.put(database, world.page(first, children=(world.line(A),)))
    before = world.contents(database)
    with pytest.raises(WaveImportError):
        world.put(database, world.page(second, ROWS, (world.line(A),)))
    assert world.contents(database) == before
    assert orders(database) == []


def test_another_connection_sees_all_of_a_landing_or_nothing(database: Database, database_url: str) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    inside, look = threading.Event(), threading.Event()
    seen: list[object] = []

    def work(connection: Connection) -> bool:
        upsert = Upsert(connection, world.TARGET)
        done = land(connection, world.page(one, ROWS, (world.line(A),)), upsert, packet_bytes(connection))
        inside.set()
        assert look.wait(30)
        return done

    thread = threading.Thread(target=database.run, args=(work,))
    thread.start()
    reader = Database.open_reader(database_url)

    def state() -> tuple[object, ...]:
        return (
            orders(reader),
            batch(reader)[:2],
            world.query(reader, "SELECT COUNT(*) FROM wave_batches WHERE wave_number = 2"),
            world.query(reader, "SELECT total FROM wave_coordination WHERE wave_number = 2"),
        )

    try:
        assert inside.wait(30)
        seen.append(state())
    finally:
        look.set()
        thread.join(30)
    seen.append(state())
    reader.close()
    assert seen == [
        ([], ("dispatched", None), [(0,)], [(0,)]),
        (ROWS, ("completed", "[2]"), [(1,)], [(1,)]),
    ]


def test_a_page_that_meets_a_deadlock_at_any_statement_lands_whole(database: Database) -> None:
    """The server has rolled back what came before: a statement that went on alone would save half a page."""
    database.sleep = lambda seconds: True
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    watched = Boundaries(database.engine)
    landings = 0
    for key in range(1, 20):
        watched.arm(key, conflict, "statement")
        load = world.page(one, [(key, "x", "1.00")], (world.line(A, key),), done=False)
        assert world.put(database, load)
        landings += 1
        watched.disarm()
        assert [row[0] for row in orders(database)] == list(range(1, key + 1))
        assert batch(database)[1:3] == (f"[{key}]", landings), "the batch has moved on by what landed"
        assert world.query(database, "SELECT total FROM wave_coordination WHERE wave_number = 2") == [(landings,)]
        if watched.fired is None:
            break
    assert landings > 4, "the fence, the rows, the wave, its batch: each met one"
    watched.detach()


def test_after_a_crash_between_pages_the_next_attempt_gets_the_resume_key_and_what_had_landed(
    database: Database,
) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    load = world.page(one, ROWS, done=False, seconds=world.LAPSED_SECONDS)
    assert world.put(database, replace(load, spec={"lower": None, "upper": 7, "cuts": 1}))
    database.run(lambda connection: batches.requeue(connection, held))
    (again,) = world.claim(database, held)
    assert (again.resume_key, again.row_count, again.attempt) == ([2], 2, 2)
    assert again.spec == {"lower": None, "upper": 7, "cuts": 1}


def test_a_landing_renews_its_batch_and_a_split_leaves_an_event(database: Database) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held, seconds=world.LAPSED_SECONDS)
    sibling = world.ranges(f"{A}+1")
    assert world.put(database, replace(world.page(one, ROWS, sibling, done=False), event="split"))
    assert database.run(lambda connection: batches.requeue(connection, held)) == 0
    assert world.query(database, "SELECT batch_id, event FROM batch_events") == [(A, "split")]
    assert world.query(database, "SELECT total FROM wave_coordination WHERE wave_number = 1") == [(3,)]


def test_no_journal_row_and_no_lock_of_the_job_are_taken_by_a_landing(database: Database) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    entries = len(database.run(lambda connection: journal.entries(connection, world.JOB)))
    if database.is_sqlite:
        world.put(database, world.page(one, ROWS, (world.line(A),)))
    else:
        with database.engine.connect() as pass_, pass_.begin():
            pass_.exec_driver_sql("SELECT status FROM import_jobs FOR UPDATE")
            world.put(database, world.page(one, ROWS, (world.line(A),)))
    assert len(database.run(lambda connection: journal.entries(connection, world.JOB))) == entries


def test_after_a_lost_reply_the_batch_row_tells_whether_the_page_had_landed(database: Database) -> None:
    held = world.planned(database)
    first, second = world.claim(database, held)

    def proved(load: Load) -> bool | None:
        return database.run(lambda connection: landed(connection, load))

    page, last = world.page(first, ROWS, done=False), world.page(first, [(3, "c", "3.00")])
    assert proved(page) is None
    world.put(database, page)
    assert (proved(page), proved(last)) == (True, None)
    world.put(database, last)
    assert proved(last) is True
    assert proved(world.page(second)) is None
    assert proved(world.page(replace(first, attempt=9))) is None
    assert proved(world.page(replace(first, batch_id="1/order/none"))) is None


# --- a destination of its own -----------------------------------------------------------------------------------


@pytest.fixture
def apart(tmp_path: Path, database: Database) -> Database:
    """The destination: a second database; on MySQL the same server serves, for the fence table is what matters."""
    if database.is_sqlite:
        return Database.open(f"sqlite:///{tmp_path / 'rows.db'}")
    return database


def test_a_stalled_attempt_is_refused_before_it_overwrites_newer_rows(database: Database, apart: Database) -> None:
    held = world.planned(database, A)
    apart.run(lambda connection: ensure_tables(connection, [world.TARGET], fence=True))
    (stalled,) = world.claim(database, held, seconds=world.LAPSED_SECONDS)
    database.run(lambda connection: batches.requeue(connection, held))
    (current,) = world.claim(database, held)

    def rows(load: Load) -> bool:
        return apart.run(
            lambda connection: land_rows_apart(
                connection, load, Upsert(connection, world.TARGET), packet_bytes(connection)
            )
        )

    new = world.page(current, [(1, "new", "2.00")])
    assert rows(new)
    assert not rows(world.page(stalled, [(1, "old", "1.00"), (2, "old", "1.00")]))
    assert orders(apart) == [(1, "new", "2.00")]
    assert rows(new), "the current attempt may come again: the rows go by key"
    assert orders(apart) == [(1, "new", "2.00")]
    # Without its fence the stalled attempt overwrites the newer row, and learns of its age only afterwards.
    apart.run(
        lambda connection: Upsert(connection, world.TARGET).execute(
            connection, [(1, "old", "1.00")], job_id=world.JOB, packet_bytes=packet_bytes(connection)
        )
    )
    assert orders(apart) == [(1, "old", "1.00")]
    if apart is not database:
        apart.close()


def test_the_fence_of_a_destination_only_rises_and_knows_each_batch_by_itself(database: Database) -> None:
    database.run(lambda connection: ensure_tables(connection, [], fence=True))

    def raised(batch_id: str, attempt: int) -> bool:
        return database.run(lambda connection: raise_fence(connection, world.JOB, batch_id, attempt))

    assert [raised(A, 1), raised(A, 1), raised(A, 3), raised(A, 2), raised(B, 1), raised(A, 3)] == [
        True,
        True,
        True,
        False,
        True,
        True,
    ]
    assert world.query(database, "SELECT batch_id, attempt FROM _waveimport_fence ORDER BY 1") == [(A, 3), (B, 1)]


def test_a_batch_of_another_job_proves_nothing(database: Database) -> None:
    """Batch ids say the wave, the record and the range: those of two jobs are the same."""
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    other = replace(one, job_id="import_2")
    database.run(lambda connection: batches.start(connection, one))
    assert database.run(lambda connection: batches.started(connection, one)) is True
    assert database.run(lambda connection: batches.started(connection, other)) is None
    page = world.page(one, ROWS)
    assert world.put(database, page)
    assert database.run(lambda connection: landed(connection, page)) is True
    assert database.run(lambda connection: landed(connection, replace(page, claim=other))) is None
