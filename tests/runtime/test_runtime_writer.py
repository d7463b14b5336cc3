"""Who commits what together, who suffers for whom, and that nothing is told before it is durable."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import mysql_server
import pytest
from runtime_world import JOB, ORDER, World
from sqlalchemy import event, text

from waveimport.errors import BadData, DatabaseDown, DiskFull, Fenced, WaveImportError
from waveimport.runtime.writer import Place, Writer
from waveimport.store import batches
from waveimport.store.batches import Claim
from waveimport.store.destination import Target, Upsert, ensure_tables, packet_bytes, raise_fence
from waveimport.store.landing import Load
from waveimport.store.packing import Packed, Packing
from waveimport.store.schema import upgrade
from waveimport.store.staging import stager_of
from waveimport.store.transactions import Database


@pytest.fixture
def lite(tmp_path: Path) -> Iterator[Database]:
    database = Database.open(f"sqlite:///{tmp_path / 'own.db'}")
    database.run(lambda connection: connection.exec_driver_sql("CREATE TABLE piece (n INTEGER PRIMARY KEY)"))
    yield database
    database.close()


def insert(n: int) -> Callable[[Any], int]:
    def work(connection: Any) -> int:
        connection.exec_driver_sql(f"INSERT INTO piece VALUES ({n})")
        return n

    return work


def pieces(database: Database) -> list[int]:
    return database.run(lambda connection: list(connection.execute(text("SELECT n FROM piece ORDER BY n")).scalars()))


def together(
    writer: Writer, works: list[Callable[[Any], Any]], alone: Callable[[Any], Any] | None = None
) -> "list[Future[Any]]":
    """Hand all of `works` in while the writer is busy, so that one group takes them, but for the one that is to be
    `alone`; wait for the answers."""
    busy, go = threading.Event(), threading.Event()

    def hold(connection: Any) -> None:
        busy.set()
        assert go.wait(30)

    holder = threading.Thread(target=writer.transact, args=(hold,))
    holder.start()
    assert busy.wait(30)
    answers: list[Future[Any]] = [Future() for _ in works]

    def one(work: Callable[[Any], Any], answer: "Future[Any]") -> None:
        try:
            answer.set_result(writer.transact(work, alone=work is alone))
        except BaseException as error:
            answer.set_exception(error)

    threads = []
    for at, (work, answer) in enumerate(zip(works, answers, strict=True), 1):
        thread = threading.Thread(target=one, args=(work, answer))
        thread.start()
        threads.append(thread)
        while writer._queue.qsize() < at:
            pass
    go.set()
    for thread in [holder, *threads]:
        thread.join(30)
    return answers


def test_work_that_waits_is_committed_together_and_told_after_the_commit(lite: Database) -> None:
    writer = Writer(lite)
    commits: list[int] = []
    told_early: list[bool] = []
    results: list[Future[Any]] = []

    def commit(connection: Any) -> None:
        commits.append(1)
        told_early.append(any(answer.done() for answer in results))

    works = [insert(n) for n in range(10)]
    event.listen(lite.engine, "commit", commit)
    results += together(writer, works)
    event.remove(lite.engine, "commit", commit)
    assert [answer.result() for answer in results] == list(range(10))
    assert len(commits) == 2, "the one that was at work, then all ten"
    assert told_early == [False, False]
    assert pieces(lite) == list(range(10))
    writer.close()


def test_work_that_is_to_be_alone_sees_what_is_durable_and_nothing_joins_it(lite: Database) -> None:
    writer = Writer(lite)
    reader = Database.open_reader(lite.url)
    seen: list[tuple[list[int], list[int]]] = []

    def look(connection: Any) -> int:
        own = list(connection.execute(text("SELECT n FROM piece ORDER BY n")).scalars())
        seen.append((own, pieces(reader)))
        return insert(9)(connection)

    def later(connection: Any) -> int:
        seen.append(([], pieces(reader)))
        return insert(3)(connection)

    answers = together(writer, [insert(1), insert(2), look, later], alone=look)
    assert [answer.result() for answer in answers] == [1, 2, 9, 3]
    assert seen == [([1, 2], [1, 2]), ([], [1, 2, 9])]
    reader.close()
    writer.close()


def test_a_result_is_not_told_before_the_commit_is_done(lite: Database) -> None:
    writer = Writer(lite)
    answered, seen = threading.Event(), []

    def commit(connection: Any) -> None:
        seen.append(answered.is_set())

    event.listen(lite.engine, "commit", commit)
    writer.transact(insert(1))
    answered.set()
    assert seen == [False]
    event.remove(lite.engine, "commit", commit)

    def broken(connection: Any) -> None:
        raise DatabaseDown("at the commit")

    event.listen(lite.engine, "commit", broken)
    with pytest.raises(DatabaseDown):
        writer.transact(insert(2))
    event.remove(lite.engine, "commit", broken)
    assert pieces(lite) == [1]
    writer.close()


def test_a_refused_piece_undoes_only_itself(lite: Database) -> None:
    writer = Writer(lite)

    def refused(connection: Any) -> None:
        insert(99)(connection)
        raise Fenced("taken over")

    first, second, third = together(writer, [insert(1), refused, insert(3)])
    assert (first.result(), third.result()) == (1, 3)
    assert isinstance(second.exception(), Fenced)
    assert pieces(lite) == [1, 3]
    writer.close()


def test_a_piece_that_the_database_refuses_does_not_make_the_others_suffer(lite: Database) -> None:
    writer = Writer(lite)
    first, second, third = together(writer, [insert(1), insert(1), insert(3)])
    assert (first.result(), third.result()) == (1, 3)
    assert isinstance(second.exception(), WaveImportError)
    assert pieces(lite) == [1, 3]
    writer.close()


def test_a_full_disk_ends_the_whole_group_and_nothing_of_it_is_kept(lite: Database) -> None:
    writer = Writer(lite)
    lite.run(lambda connection: connection.exec_driver_sql("CREATE TABLE big (t TEXT)"))

    def fill(connection: Any) -> None:
        connection.exec_driver_sql("PRAGMA max_page_count = 20")
        for _ in range(50):
            connection.execute(text("INSERT INTO big VALUES (:t)"), {"t": "x" * 10_000})

    answers = together(writer, [insert(1), fill, insert(3)])
    assert [type(answer.exception()) for answer in answers] == [DiskFull] * 3
    assert pieces(lite) == []
    writer.transact(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count = 10000") and None)
    assert writer.transact(insert(5)) == 5, "room was made: it goes on"
    writer.close()


def test_what_ends_a_program_ends_the_whole_group_and_nothing_is_done_again(lite: Database) -> None:
    writer = Writer(lite)
    done: list[int] = []

    def dies(connection: Any) -> None:
        done.append(1)
        raise KeyboardInterrupt

    answers = together(writer, [insert(1), dies, insert(2)])
    assert all(isinstance(answer.exception(30), KeyboardInterrupt) for answer in answers)
    assert (done, pieces(lite)) == ([1], [])
    writer.close()


def test_closing_finishes_what_was_handed_in(lite: Database) -> None:
    writer = Writer(lite)
    answers = together(writer, [insert(n) for n in range(70)])
    writer.close()
    writer.close()
    assert all(answer.done() for answer in answers)
    assert pieces(lite) == list(range(70))


def test_what_is_begun_is_not_waited_for_and_takes_one_connection(database: Database) -> None:
    """Fifteen requests in flight on a server that gives ten connections."""
    writer = Writer(database)
    go, done = threading.Event(), []

    def work(connection: Any) -> int:
        assert go.wait(30)
        done.append(1)
        pool: Any = database.engine.pool
        return int(pool.checkedout())

    begun = [writer.begin(work) for _ in range(15)]
    assert not any(one.done() for one in begun)
    go.set()
    assert [one.result(30) for one in begun] == [1] * 15
    assert len(done) == 15
    refused = writer.begin(lambda connection: connection.exec_driver_sql("SELECT FROM"))
    assert isinstance(refused.exception(30), WaveImportError)
    assert writer.begin(lambda connection: 7).result(30) == 7
    writer.close()


def test_what_work_raises_comes_out_of_transact(database: Database) -> None:
    writer = Writer(database)

    def work(connection: Any) -> None:
        raise BadData("a value")

    with pytest.raises(BadData, match="a value"):
        writer.transact(work)
    assert writer.transact(lambda connection: 7) == 7
    writer.close()


# --- pages ------------------------------------------------------------------------------------------------------


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    made = World(database)
    yield made
    made.close()


def claimed(world: World) -> Claim:
    world.source.fill(range(1, 4))
    (plan,) = world.claim()
    world.fetcher().work(plan)
    (one,) = world.claim()
    return one


def page(claim: Claim, *keys: int, done: bool = False) -> Load:
    return Load(
        claim=claim,
        lease_seconds=60,
        resume_key=[keys[-1]],
        spec=claim.spec,
        rows=[(key, f"memo {key}") for key in keys],
        done=done,
    )


def test_a_page_is_there_for_everyone_when_it_is_told(world: World) -> None:
    one = claimed(world)
    assert world.writer.load(page(one, 1, 2)).result() is True
    assert world.orders() == [1, 2]
    assert world.writer.load(page(one, 3, done=True)).result() is True
    assert world.statuses(1) == {"completed": 2}


@pytest.mark.parametrize("apart", [False, True])
def test_pages_that_came_as_databases_and_share_a_commit_land_each_its_own_rows(
    lite: Database, tmp_path: Path, apart: bool
) -> None:
    upgrade(lite)
    world = World(lite)
    one = claimed(world)
    stage = stager_of(Packing.of(ORDER, mysql=False))
    writer = Writer(lite)
    rows = Database.open(f"sqlite:///{tmp_path / 'rows.db'}") if apart else lite
    writer.prepare(place_in(rows) if apart else replace(place_in(lite), apart=None))
    go = threading.Event()
    held = writer.begin(lambda connection: go.wait(30))
    full = [range(first, first + 1000) for first in (1, 1001, 2001)]
    loads = [page(one, *keys) for keys in full]
    staged = [replace(load, rows=stage(Packed(1000, tuple(chain(*load.rows))))) for load in loads]
    answers = [writer.load(load) for load in [*staged, page(one, 3001, 3002, done=True)]]
    go.set()
    assert [answer.result(30) for answer in (held, *answers)] == [True] * 5
    found = rows.run(
        lambda connection: [tuple(row) for row in connection.execute(text("SELECT id, memo FROM `order`"))]
    )
    assert sorted(found) == [(key, f"memo {key}") for key in range(1, 3003)]
    writer.close()
    rows.close()
    world.close()


def test_a_fenced_page_is_answered_false_and_leaves_no_row(world: World) -> None:
    one = claimed(world)
    world.requeue()
    assert world.writer.load(page(one, 1, done=True)).result() is False
    assert world.orders() == []


@pytest.mark.parametrize("apart_is", ["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def test_rows_apart_land_before_the_batch_moves_on_and_a_stalled_attempt_overwrites_nothing(
    world: World, tmp_path: Path, request: pytest.FixtureRequest, apart_is: str
) -> None:
    if apart_is == "sqlite":
        _apart(world, f"sqlite:///{tmp_path / 'rows.db'}")
        return
    with mysql_server.fresh_database(request.getfixturevalue("mysql_url")) as url:
        _apart(world, url)


def place_in(apart: Database) -> Place:
    target = Target("order", ORDER)

    def prepare(connection: Any) -> Place:
        ensure_tables(connection, [target], fence=True)
        return Place({"order": Upsert(connection, target)}, packet_bytes(connection), apart)

    return apart.run(prepare)


def test_a_page_that_is_fenced_where_its_rows_land_leaves_its_group_and_nobody_suffers(
    lite: Database, tmp_path: Path
) -> None:
    upgrade(lite)
    world = World(lite)
    one = claimed(world)
    apart = Database.open(f"sqlite:///{tmp_path / 'rows.db'}")
    writer = Writer(lite)
    writer.prepare(place_in(apart))
    apart.run(lambda connection: raise_fence(connection, JOB, one.batch_id, one.attempt + 1))
    busy, go, done = threading.Event(), threading.Event(), []

    def hold(connection: Any) -> None:
        busy.set()
        assert go.wait(30)

    holding = writer.begin(hold)
    assert busy.wait(30)
    others = [writer.begin(lambda connection, n=n: done.append(n)) for n in range(2)]
    fenced = writer.load(page(one, 1))
    go.set()
    assert isinstance(fenced.exception(30), Fenced)
    for other in (holding, *others):
        assert other.result(30) is None
    assert done == [0, 1], "once each: their commit did not fail"
    writer.close()
    apart.close()
    world.close()


def _apart(world: World, url: str) -> None:
    apart = Database.open(url)
    one = claimed(world)
    place = place_in(apart)
    writer = Writer(world.database)
    writer.prepare(place)
    try:

        def rows() -> list[tuple[Any, ...]]:
            return apart.run(
                lambda connection: [tuple(row) for row in connection.execute(text("SELECT id, memo FROM `order`"))]
            )

        assert writer.load(page(one, 1)).result() is True
        assert rows() == [(1, "memo 1")]
        assert world.orders() == [], "nothing in the coordination database"
        apart.run(lambda connection: raise_fence(connection, JOB, one.batch_id, one.attempt + 1))
        with pytest.raises(Fenced):
            writer.load(page(one, 1, 2, done=True)).result()
        assert rows() == [(1, "memo 1")]
        assert world.database.run(lambda connection: batches.started(connection, one)) is None
        assert world.query(f"SELECT resume_key FROM wave_batches WHERE batch_id = '{one.batch_id}'") == [("[1]",)]
        writer.be_patient(3.0)
        assert (world.database.patience_seconds, apart.patience_seconds) == (3.0, 3.0)
        writer.be_patient(0.0)
    finally:
        writer.close()
        apart.close()
