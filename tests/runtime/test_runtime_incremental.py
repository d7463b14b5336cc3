"""An incremental job against a scripted source, on both databases: what its changed rows do not show is asked for."""

from collections import Counter
from collections.abc import Iterator

import pytest
from daily_world import AFTER, BEFORE, LINES, ORDERS, SINCE, Daily
from runtime_world import JOB

from waveimport.store.transactions import Database


@pytest.fixture
def world(database: Database) -> Iterator[Daily]:
    made = Daily(database, records=(ORDERS, LINES))
    made.start()
    yield made
    made.close()


def test_where_nothing_has_changed_nothing_is_read(world: Daily) -> None:
    world.finish()
    asked = Counter(query.split(" FROM ")[1].split()[0] for query in world.source.asked)
    assert asked == {"orders": 3, "lines": 1, "deletedrecord": 1}, "what changed, what left, whether it is shown at all"
    assert world.query("SELECT COUNT(*) FROM `order` WHERE _job_id = 'import_2'") == [(0,)]


def test_what_has_changed_is_read_from_the_very_second_on(world: Daily) -> None:
    world.source.execute("UPDATE orders SET memo = 'new', at = ? WHERE id = 2", SINCE)
    world.source.execute("UPDATE orders SET memo = 'too old', at = '2026-09-21 11:59:59' WHERE id = 3")
    world.source.execute("INSERT INTO orders VALUES (9, 'ninth', ?)", AFTER)
    world.finish()
    assert (world.memos()[2], world.memos()[3], world.memos()[9]) == ("new", "memo 3", "ninth")


def test_lines_are_read_whole_with_their_order_and_those_that_are_gone_go(world: Daily) -> None:
    world.source.execute("UPDATE orders SET at = ? WHERE id = 2", AFTER)
    world.source.execute("DELETE FROM lines WHERE uniquekey = 201")
    world.source.execute("DELETE FROM lines WHERE uniquekey = 301")
    world.finish()
    assert 201 not in world.lines()
    assert 301 in world.lines(), "its order says nothing of it"


def test_lines_that_changed_alone_are_read_and_those_of_others_are_not(world: Daily) -> None:
    world.source.execute("INSERT INTO orders VALUES (8, 'closed', ?)", BEFORE)
    world.source.execute("INSERT INTO lines VALUES (801, 8, ?)", AFTER)
    world.source.execute("INSERT INTO lines VALUES (409, 4, ?)", AFTER)
    world.finish()
    assert 409 in world.lines()
    assert 801 not in world.lines()


def test_deleted_records_go_with_their_lines_whatever_else_bears_their_number(world: Daily) -> None:
    world.source.execute("DELETE FROM orders WHERE id = 5")
    for gone in (5, 6, 77):
        world.source.execute("INSERT INTO deletedrecord VALUES (?, ?)", gone, AFTER)
    world.finish()
    assert world.orders() == [1, 2, 3, 4, 6], "six is another record's number too"
    assert not {501, 502} & set(world.lines())
    assert {601, 602} <= set(world.lines())


def test_a_row_that_is_the_records_no_more_goes(world: Daily) -> None:
    world.source.execute("UPDATE orders SET memo = 'closed', at = ? WHERE id = 1", AFTER)
    world.source.execute("UPDATE orders SET memo = NULL, at = ? WHERE id = 2", AFTER)
    world.finish()
    assert world.orders() == [3, 4, 5, 6], "where the condition is NULL it does not hold"
    assert min(world.lines()) == 301


def test_the_watermark_is_the_time_before_the_first_row_was_read_and_moves_at_the_end(world: Daily) -> None:
    world.source.clock = 1_790_000_000.0  # 2026-09-21 14:13:20
    plans = world.claim()
    assert len(plans) == 1
    world.fetcher().work(plans[0])
    world.advance()
    world.source.clock += 5_000
    marks = "SELECT record, watermark, job_id FROM import_watermarks ORDER BY record"
    assert {row[2] for row in world.query(marks)} == {JOB}
    world.finish()
    rows = [(record, str(moment)[:19], job) for record, moment, job in world.query(marks)]
    lookback = "2026-09-21 14:03:20"
    assert rows == [("line", lookback, "import_2"), ("order", lookback, "import_2")]


def test_a_source_that_never_says_its_time_is_taken_to_be_as_slow_as_it_may(world: Daily) -> None:
    world.source.clock = None
    world.finish()
    (mark,) = world.query("SELECT MIN(watermark) FROM import_watermarks")[0]
    assert str(mark) > SINCE, "by the clock here, less what a signature may be off"
    assert any(query.startswith("SELECT 1 ") for query in world.source.asked), "it was asked for the time alone"
