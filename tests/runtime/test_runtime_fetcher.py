"""One batch from claim to completion, against a scripted source, on both databases."""

import json
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import pytest
from boundaries import Boundaries, conflict, full
from runtime_world import LINE, ORDER, ScriptedSource, World, bounds_of, column, reply

from waveimport.core.ranges import plan_batch_id
from waveimport.core.settings import ColumnKind, RecordSettings
from waveimport.core.waves import BatchKind
from waveimport.errors import (
    BadData,
    BadReply,
    DatabaseDown,
    Fenced,
    LoginRefused,
    QueryRefused,
    RateLimited,
    ServerFault,
    SourceDown,
    Stopped,
    WaveImportError,
)
from waveimport.runtime import planning
from waveimport.runtime.fetcher import Ending, ending_of
from waveimport.store.landing import Load
from waveimport.store.transactions import Database


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    made = World(database)
    yield made
    made.close()


def plan(world: World) -> None:
    (one,) = world.claim()
    assert world.fetcher().work(one).ending is Ending.COMPLETED


# --- planning ---------------------------------------------------------------------------------------------------


def test_a_plan_asks_once_and_makes_ranges_that_cover_everything(world: World) -> None:
    world.source.fill(range(-20, 30))
    plan(world)
    assert len(world.source.asked) == 1
    specs = [
        json.loads(row[0])
        for row in world.query("SELECT spec FROM wave_batches WHERE kind = 'range' ORDER BY batch_id")
    ]
    assert [spec["lower"] for spec in specs] == [None, *[spec["upper"] for spec in specs[:-1]]]
    assert specs[-1]["upper"] is None
    assert len(specs) == 5
    world.work_all()
    assert world.orders() == list(range(-20, 30))


def test_a_batch_that_meets_a_deadlock_at_any_statement_lands_whole(database: Database) -> None:
    """The server has rolled back what came before in the transaction: a statement that is sent again by itself saves
    its rows without the fence, and children without their parents."""
    database.sleep = lambda seconds: True
    watched = Boundaries(database.engine)
    fired = 0
    for number in range(1, 100):
        for table in ("import_jobs", "wave_coordination", "wave_batches", "wave_journal", "batch_events"):
            database.run(lambda connection, table=table: connection.exec_driver_sql(f"DELETE FROM {table}"))
        world = World(database)
        world.source.fill(range(1, 8), lines_each=1)
        plan(world)
        (orders,) = world.claim()
        watched.arm(number, conflict)
        assert world.fetcher().work(orders).ending is Ending.COMPLETED, f"statement {number}"
        watched.disarm()
        assert (orders.attempt, world.orders()) == (1, list(range(1, 8)))
        saved = world.query("SELECT status, row_count, tries FROM wave_batches WHERE kind = 'range'")
        assert saved == [("completed", 7, 0)], f"statement {number}"
        world.work_all()
        assert len(world.lines()) == 7, f"statement {number}: children were made beside their parents"
        for table in ("order", "line"):
            database.run(lambda connection, table=table: connection.exec_driver_sql(f"DELETE FROM `{table}`"))
        world.close()
        if watched.fired is None:
            break
        fired += 1
    watched.detach()
    assert fired > 4, "its start, the fence, the rows, the children, the counts, each COMMIT"


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_a_batch_whose_commit_finds_the_disk_full_has_not_ended_well(database: Database) -> None:
    """Told before its COMMIT, a page is landed for the fetcher and nowhere else."""
    watched = Boundaries(database.engine)
    world = World(database)
    world.source.fill(range(1, 8))
    plan(world)
    endings = []
    for number in range(1, 9):
        (orders,) = world.claim()
        watched.arm(number, full, "before commit")
        ended = world.fetcher().work(orders)
        watched.disarm()
        endings.append(ended.ending)
        completed = world.statuses().get("completed", 0) == 2
        assert completed == (ended.ending is Ending.COMPLETED), f"COMMIT {number}"
        if completed:
            break
        world.requeue()
    watched.detach()
    assert endings == [Ending.DATABASE] * 3 + [Ending.COMPLETED], "its start and two pages, the disk full at each"
    assert world.orders() == list(range(1, 8))
    world.close()


@pytest.mark.parametrize("keys", [[], [7], [-5, 10**12], [2**63 - 1, -(2**63)]])
def test_tables_that_are_empty_sparse_or_of_extreme_keys_land_whole(world: World, keys: list[int]) -> None:
    world.source.fill(keys)
    world.work_all()
    assert world.orders() == sorted(keys)
    world.advance()
    assert world.job() == "completed"


class CrashingWriter:
    """Lets the k-th commit fail, before it was done or after, as a process that dies there would."""

    def __init__(self, world: World, at: int, *, after: bool) -> None:
        self.world, self.left, self.after = world, at, after
        self.crashed = False

    def transact(self, work: Any, *, prove: Any = None) -> Any:
        return self.world.writer.transact(work, prove=prove)

    def begin(self, work: Any, *, prove: Any = None) -> "Future[Any]":
        return self.world.writer.begin(work, prove=prove)

    def load(self, load: Load) -> "Future[bool]":
        self.left -= 1
        if self.left == 0:
            self.crashed = True
            if self.after:
                self.world.writer.load(load).result()
            crash: Future[bool] = Future()
            crash.set_exception(DatabaseDown("the process died here"))
            return crash
        return self.world.writer.load(load)


def test_a_plan_holds_no_more_ranges_than_it_commits_at_once(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a table of a billion rows there are a million."""
    monkeypatch.setattr(planning, "RANGES_A_COMMIT", 7)
    world = World(database, settings=replace(World.__dataclass_fields__["settings"].default_factory(), batch_size=1))
    world.source.fill(range(1, 101))
    cut, landed, held = 0, 0, 0
    split, load = planning.split, world.writer.load

    def counting(*of: Any) -> Iterator[Any]:
        nonlocal cut
        for one in split(*of):
            cut += 1
            yield one

    def landing(page: Load) -> Any:
        nonlocal landed, held
        landed += len(page.children)
        held = max(held, len(page.children), cut - landed + len(page.children))
        return load(page)

    monkeypatch.setattr(planning, "split", counting)
    monkeypatch.setattr(world.writer, "load", landing)
    (plan,) = world.claim()
    assert world.fetcher().work(plan).ending is Ending.COMPLETED
    assert (cut, landed, held) == (100, 100, 7)
    world.close()


@pytest.mark.parametrize("after", [False, True])
def test_a_crash_at_any_commit_of_planning_loses_no_range_and_asks_for_no_bounds_twice(
    database: Database, monkeypatch: pytest.MonkeyPatch, after: bool
) -> None:
    """Incident: asked again after a crash, the bounds of a table that had grown left 12,840 keys in no batch."""
    monkeypatch.setattr(planning, "RANGES_A_COMMIT", 3)
    for at in range(1, 20):
        for table in ("import_jobs", "wave_coordination", "wave_batches", "wave_journal", "batch_events"):
            database.run(lambda connection, table=table: connection.exec_driver_sql(f"DELETE FROM {table}"))
        world = World(
            database, settings=replace(World.__dataclass_fields__["settings"].default_factory(), batch_size=1)
        )
        world.source.fill(range(1, 12))
        crashing = CrashingWriter(world, at, after=after)
        (one,) = world.claim()
        ended = world.fetcher(writer=crashing).work(one)
        if not crashing.crashed:
            assert ended.ending is Ending.COMPLETED
            world.close()
            break
        assert ended.ending is Ending.DATABASE
        # The table grows, so that bounds which are asked for again would cut it otherwise.
        world.source.fill(range(100, 140))
        world.requeue()
        for again in world.claim(count=1):
            assert again.batch_id == plan_batch_id(1, "order") or after
            world.fetcher().work(again)
        world.work_all()
        stored_late = at == 1 and not after
        assert len(world.source.counts()) == (2 if stored_late else 1), f"commit {at}"
        specs = [
            json.loads(row[0])
            for row in world.query("SELECT spec FROM wave_batches WHERE kind = 'range' ORDER BY batch_id")
            if "cuts" not in row[0]
        ]
        for key in (*range(1, 12), *range(100, 140)):
            holds = [
                s
                for s in specs
                if (s["lower"] is None or s["lower"] < key) and (s["upper"] is None or key <= s["upper"])
            ]
            assert holds, f"commit {at}: key {key} is in no range"
        assert set(range(1, 12)) <= set(world.orders())
        assert world.query("SELECT SUM(row_count) FROM wave_batches WHERE record = 'order'")[0][0] == len(
            world.orders()
        )
        database.run(lambda connection: connection.exec_driver_sql("DELETE FROM `order`"))
        world.close()
    else:
        raise AssertionError("planning never came to an end without a crash")
    assert at == 6, "the bounds, then eleven ranges by three: five commits crashed, one after the other"


def test_stored_bounds_are_what_planning_goes_on_with(world: World) -> None:
    world.source.fill(range(1, 30))
    (one,) = world.claim()
    resumed = replace(one, spec={"count": 30, "lowest": 1, "highest": 30, "batch_size": 10, "next": 2})
    assert world.fetcher().work(resumed).ending is Ending.COMPLETED
    assert world.source.asked == []
    made = world.query("SELECT batch_id FROM wave_batches WHERE kind = 'range'")
    assert made == [("1/order/0000002",)]


# --- fetching ---------------------------------------------------------------------------------------------------


def test_a_range_is_paged_by_key_and_its_children_are_made_of_exactly_its_rows(world: World) -> None:
    world.source.fill(range(1, 9), lines_each=2)
    world.work_all()
    assert world.orders() == list(range(1, 9))
    assert len(world.lines()) == 16
    parents = [
        json.loads(row[0])["parents"]
        for row in world.query("SELECT spec FROM wave_batches WHERE kind = 'parents' ORDER BY batch_id")
    ]
    assert sorted(key for part in parents for key in part) == list(range(1, 9))
    assert all(len(part) <= 3 for part in parents)


def test_the_next_attempt_goes_on_after_the_last_key_that_landed(world: World) -> None:
    world.source.fill(range(1, 10))
    plan(world)
    (one,) = world.claim()

    def second_page_fails(sql: str) -> bytes | None:
        if bounds_of(sql)[0] is not None:
            raise SourceDown("gone")
        return None

    world.source.before = second_page_fails
    assert world.fetcher().work(one).ending is Ending.OUTAGE
    assert world.orders() == [1, 2, 3, 4, 5], "the page that was handed in has landed"
    world.source.before = lambda sql: None
    world.requeue()
    (again,) = [claim for claim in world.claim() if claim.kind is BatchKind.RANGE]
    world.source.asked.clear()
    assert world.fetcher().work(again).ending is Ending.COMPLETED
    assert [bounds_of(sql)[0] for sql in world.source.asked] == [5]
    assert world.orders() == list(range(1, 10))


def test_a_cap_that_looks_like_the_end_does_not_end_a_range(world: World) -> None:
    """`hasMore` is false where the service's cap cut the result; the total says otherwise."""
    world.source.fill(range(1, 10))
    plan(world)
    (one,) = world.claim()

    def capped(sql: str) -> bytes:
        body = json.loads(world.source.answer(sql, 4))
        body["hasMore"] = False
        return json.dumps(body).encode()

    world.source.before = capped
    assert world.fetcher().work(one).ending is Ending.COMPLETED
    assert world.orders() == list(range(1, 10))


@pytest.mark.parametrize("rows", [[], [(5, "x")]])
def test_a_source_that_never_gets_beyond_the_last_key_is_a_bad_reply(world: World, rows: list[tuple[Any, ...]]) -> None:
    world.source.fill(range(1, 10))
    plan(world)
    (one,) = world.claim()

    def stuck(sql: str) -> bytes | None:
        return reply(("id", "memo"), rows, 99, more=False) if bounds_of(sql)[0] is not None else None

    world.source.before = stuck
    ended = world.fetcher().work(one)
    assert isinstance(ended.error, BadReply)
    assert ended.ending is Ending.REFUSED
    assert len(world.source.asked) <= 4


def test_a_heavy_range_hands_its_far_part_to_a_sibling_and_every_row_lands_once(world: World) -> None:
    world.source.fill([1])
    plan(world)
    world.source.fill(range(2, 101), lines_each=1)
    ended = world.work_all()
    assert {one.ending for one in ended} == {Ending.COMPLETED}
    assert world.orders() == list(range(1, 101))
    assert len(world.lines()) == 99
    assert world.query("SELECT COUNT(*) FROM wave_batches WHERE batch_id LIKE '%+%' AND kind = 'range'") == [(0,)], (
        "nobody knows where an open range ends beyond its highest key"
    )


def test_a_heavy_range_with_a_known_end_is_cut(world: World) -> None:
    world.source.fill([1, 1000])
    plan(world)
    world.source.fill(range(2, 101), lines_each=1)
    world.work_all()
    assert world.orders() == [*range(1, 101), 1000]
    assert len(world.lines()) == 99
    assert world.query("SELECT SUM(row_count) FROM wave_batches WHERE record = 'order'")[0][0] == 101, "none twice"
    assert world.query("SELECT COUNT(*) FROM batch_events WHERE event = 'split'")[0][0] > 0
    world.advance()
    assert world.job() == "completed"


def test_a_parent_whose_rows_lie_on_several_pages_has_one_batch_of_children(
    database: Database,
) -> None:
    """A composite key: the first column, the parents' key, may come on several pages, and of several batches."""
    pair = replace(ORDER, name="pair", table="pairs", key=("id", "part"), table_name="pair",
                   columns=(column("id"), column("part")))  # fmt: skip
    child = replace(LINE, derived_from="pair")
    world = World(database, records=(pair, child))
    world.settings = replace(world.settings, parents_per_batch=1, page_size=2)
    world.source._tables.execute("CREATE TABLE pairs (id INTEGER, part INTEGER)")
    for key in (1, 2):
        for part in range(5):
            world.source._tables.execute("INSERT INTO pairs VALUES (?, ?)", (key, part))
    world.source._tables.execute("INSERT INTO lines VALUES (100, 1), (200, 2)")
    try:
        ended = world.work_all()
        assert {one.ending for one in ended} == {Ending.COMPLETED}, [one.error for one in ended]
        assert world.query("SELECT COUNT(*) FROM pair") == [(10,)]
        assert world.lines() == [100, 200]
        assert world.statuses(2) == {"completed": 2}
        world.advance()
        assert world.job() == "completed"
    finally:
        world.close()


def test_text_parents_that_differ_in_a_blank_have_batches_of_their_own(database: Database) -> None:
    parent = RecordSettings("order", "texts", (column("id", ColumnKind.TEXT),), key=("id",), table_name="order")
    child = replace(LINE, columns=(column("uniquekey"), column("orderid", ColumnKind.TEXT)))
    world = World(database, records=(parent, child))
    world.settings = replace(world.settings, parents_per_batch=1)
    world.source._tables.execute("CREATE TABLE texts (id TEXT)")
    world.source._tables.execute("INSERT INTO texts VALUES ('a'), ('a '), ('A'), ('á'), ('it''s')")
    try:
        ended = world.work_all()
        assert {one.ending for one in ended} == {Ending.COMPLETED}, [one.error for one in ended]
        assert world.statuses(2) == {"completed": 5}
    finally:
        world.close()


def test_a_value_that_does_not_fit_refuses_its_page_and_lands_nothing_of_it(database: Database) -> None:
    exact = replace(ORDER, columns=(column("id"), column("memo", ColumnKind.DECIMAL, 15, 2)))
    world = World(database, records=(exact,))
    try:
        (one,) = world.claim()
        world.source.before = lambda sql: (
            reply(("n", "lo", "hi"), [(2, 1, 2)], 1)
            if "COUNT" in sql
            else reply(("id", "memo"), [(1, "1.00"), (2, "1.005")], 2)
        )
        assert world.fetcher().work(one).ending is Ending.COMPLETED
        (batch,) = world.claim()
        ended = world.fetcher().work(batch)
        assert (ended.ending, type(ended.error)) == (Ending.REFUSED, BadData)
        assert world.orders() == []
    finally:
        world.close()


# --- endings ----------------------------------------------------------------------------------------------------


def test_a_stop_ends_a_batch_between_its_pages_and_what_was_handed_in_lands(world: World) -> None:
    world.source.fill(range(1, 10))
    plan(world)
    (one,) = world.claim()

    def stop(sql: str) -> None:
        world.halted.set()

    world.source.before = stop
    assert world.fetcher().work(one).ending is Ending.STOPPED
    assert world.orders() == [1, 2, 3, 4, 5]


def test_a_worker_that_was_fenced_while_it_fetched_keeps_nothing(world: World) -> None:
    world.source.fill(range(1, 4), lines_each=1)
    plan(world)
    (one,) = world.claim()

    def taken_over(sql: str) -> None:
        world.source.before = lambda sql: None
        world.requeue()
        (again,) = [claim for claim in world.claim() if claim.batch_id == one.batch_id]
        assert again.attempt == one.attempt + 1

    world.source.before = taken_over
    ended = world.fetcher().work(one)
    assert (ended.ending, type(ended.error)) == (Ending.FENCED, Fenced)
    assert world.orders() == []
    assert world.fetcher().work(one).ending is Ending.FENCED, "and it cannot start again"


@pytest.mark.parametrize(
    ("error", "others", "ending"),
    [
        (Stopped("x"), True, Ending.STOPPED),
        (LoginRefused("x"), True, Ending.LOGIN),
        (Fenced("x"), True, Ending.FENCED),
        (QueryRefused("x"), False, Ending.REFUSED),
        (BadData("x"), False, Ending.REFUSED),
        (ServerFault("x"), True, Ending.REFUSED),
        (ServerFault("x"), False, Ending.OUTAGE),
        (BadReply("x"), True, Ending.REFUSED),
        (BadReply("x"), False, Ending.OUTAGE),
        (RateLimited("x"), True, Ending.OUTAGE),
        (SourceDown("x"), True, Ending.OUTAGE),
        (DatabaseDown("x"), True, Ending.DATABASE),
        (WaveImportError("x"), True, Ending.FAULT),
        (KeyError("x"), True, Ending.FAULT),
    ],
)
def test_an_ending_is_by_whose_fault_it_was(error: Exception, others: bool, ending: Ending) -> None:
    assert ending_of(error, others_succeed=others) is ending


def test_a_fault_of_ours_is_an_ending_too_and_raises_nothing(world: World) -> None:
    (one,) = world.claim()

    def broken(sql: str) -> bytes:
        raise ZeroDivisionError("ours")

    world.source.before = broken
    ended = world.fetcher().work(one)
    assert ended.ending is Ending.FAULT
    assert ended.error is not None
    assert "ZeroDivisionError" in ended.error.message


def test_every_step_says_that_it_is_at_work(world: World) -> None:
    world.source.fill(range(1, 10))
    heard: list[str] = []
    (one,) = world.claim()
    world.fetcher(lambda claim: heard.append(claim.batch_id)).work(one)
    (batch,) = world.claim()
    world.fetcher(lambda claim: heard.append(claim.batch_id)).work(batch)
    assert heard.count(one.batch_id) >= 2
    assert heard.count(batch.batch_id) >= 4, "two pages, asked for and handed in"


def test_the_next_page_is_asked_for_while_one_lands(world: World) -> None:
    world.source.fill(range(1, 10))
    plan(world)
    (one,) = world.claim()
    asked_second, release = threading.Event(), threading.Event()

    class Slow(CrashingWriter):
        def load(self, load: Load) -> "Future[bool]":
            answer: Future[bool] = Future()

            def land() -> None:
                asked_second.wait(30)
                answer.set_result(self.world.writer.load(load).result())

            threading.Thread(target=land, daemon=True).start()
            return answer

    def second(sql: str) -> None:
        if bounds_of(sql)[0] is not None:
            asked_second.set()

    world.source.before = second
    ended = world.fetcher(writer=Slow(world, 0, after=False)).work(one)
    release.set()
    assert ended.ending is Ending.COMPLETED
    assert asked_second.is_set()
    assert world.orders() == list(range(1, 10))


@pytest.mark.parametrize("won", [True, False])
def test_the_first_page_is_asked_for_while_the_start_is_on_its_way_and_lands_behind_it(world: World, won: bool) -> None:
    world.source.fill(range(1, 4))
    plan(world)
    (one,) = world.claim()
    asked, answers = threading.Event(), []

    class Slow(CrashingWriter):
        def begin(self, work: Any, *, prove: Any = None) -> "Future[bool]":
            answer: Future[bool] = Future()

            def start() -> None:
                answers.append(asked.wait(30))
                begun = self.world.writer.transact(work, prove=prove)
                answer.set_result(begun and won)

            threading.Thread(target=start, daemon=True).start()
            return answer

        def load(self, load: Load) -> "Future[bool]":
            answers.append(next(iter(world.statuses(1).keys() - {"completed"})))
            return self.world.writer.load(load)

    world.source.before = lambda sql: asked.set()
    ended = world.fetcher(writer=Slow(world, 0, after=False)).work(one)
    assert ended.ending is (Ending.COMPLETED if won else Ending.FENCED)
    assert answers == ([True, "processing"] if won else [True])
    assert world.orders() == ([1, 2, 3] if won else [])


def test_the_scripted_source_answers_as_the_service_does() -> None:
    source = ScriptedSource()
    source.fill([1])
    body = json.loads(source.query("SELECT t.id, t.memo FROM orders t ORDER BY t.id", limit=5))
    assert body["items"] == [{"links": [], "id": "1", "memo": "memo 1"}]
    assert (body["hasMore"], body["totalResults"]) == (False, 1)


def test_a_batch_says_when_it_was_claimed_and_what_it_asked(world: World) -> None:
    world.source.fill(range(1, 14))
    plan(world)
    world.work_all()
    asked = world.query("SELECT batch_id, requests, request_ms, claimed_at, created_at FROM wave_batches ORDER BY 1")
    assert sum(row[1] for row in asked) == len(world.source.asked)
    assert all(row[1] >= 1 and row[2] >= 0 for row in asked)
    assert all(str(row[3]) >= str(row[4]) for row in asked)
