"""Records of more than 100 columns, against a scripted source that changes between their SELECTs, on both databases."""

import re
from collections.abc import Callable, Iterator

import pytest
from runtime_world import ScriptedSource, World, column

from waveimport.core.settings import ColumnKind, RecordSettings
from waveimport.errors import BadReply
from waveimport.runtime.fetcher import Ending
from waveimport.runtime.wide_pages import JOINS_MAX
from waveimport.store.transactions import Database

WIDTH = 250
TEXTS = [f"f{number}" for number in range(WIDTH - 2)]
WIDE = RecordSettings(
    "wide",
    "wides",
    (column("id"), column("changed"), *(column(name, ColumnKind.TEXT) for name in TEXTS)),
    table_name="wide",
    cursor="changed",
)


class WideSource(ScriptedSource):
    """Gives no rows for more than 100 columns, as the service does."""

    def __init__(self) -> None:
        super().__init__()
        self.execute(f"CREATE TABLE wides (id INTEGER PRIMARY KEY, changed INTEGER, {', '.join(TEXTS)})")

    def put(self, key: int, changed: int = 0) -> None:
        marks = ", ".join("?" * WIDTH)
        values = [key, changed, *(f"{name} of {key} at {changed}" for name in TEXTS)]
        self.execute(f"INSERT OR REPLACE INTO wides VALUES ({marks})", *values)

    def answer(self, sql: str, limit: int) -> bytes:
        selected = sql.partition(" FROM ")[0].count(",") + 1
        return super().answer(f"SELECT * FROM ({sql}) WHERE 0" if selected > 100 else sql, limit)

    def between_parts(self, change: Callable[[int], None]) -> None:
        """Call `change` with the number of each page, from 1, when its second SELECT is about to be answered."""
        pages = 0

        def before(sql: str) -> None:
            nonlocal pages
            if "t.f98" in sql and "t.f99" in sql:  # the second part begins behind f97
                pages += 1
                change(pages)

        self.before = before


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    made = World(database, WideSource(), (WIDE,))
    for key in range(-3, 17):
        made.source.put(key)
    yield made
    made.close()


def landed(world: World) -> list[tuple[object, ...]]:
    names = ", ".join(["id", "changed", *TEXTS])
    return world.query(f"SELECT {names} FROM wide ORDER BY id")


def at_the_source(world: World) -> list[tuple[object, ...]]:
    return world.source.rows("SELECT * FROM wides ORDER BY id")


def test_a_record_of_250_columns_lands_whole(world: World) -> None:
    assert {ended.ending for ended in world.work_all()} == {Ending.COMPLETED}
    assert landed(world) == at_the_source(world)
    assert len(landed(world)) == 20
    pages = [sql for sql in world.source.asked if "COUNT(" not in sql]
    assert all(sql.partition(" FROM ")[0].count(",") < 100 for sql in pages)


def test_the_other_selects_ask_for_the_rows_of_the_page_and_no_more(world: World) -> None:
    """The service counts what a query could give, so one for the rest of a range costs it the rest of a range."""
    world.work_all()
    others = [sql for sql in world.source.asked if "t.f99" in sql]
    assert [re.findall(r"t\.id <= (-?\d+)", sql)[-1] for sql in others] == ["1", "6", "11", "16"]


def test_a_row_that_goes_between_the_selects_is_not_landed_in_half(world: World) -> None:
    world.source.between_parts(lambda page: world.source.execute("DELETE FROM wides WHERE id = -2") if page == 1 else 0)
    assert {ended.ending for ended in world.work_all()} == {Ending.COMPLETED}
    assert landed(world) == at_the_source(world)
    assert -2 not in [row[0] for row in landed(world)]


def test_a_row_that_appears_between_the_selects_is_left_for_later(world: World) -> None:
    world.source.execute("DELETE FROM wides WHERE id = 4")
    world.source.between_parts(lambda page: world.source.put(4) if page == 2 else None)  # 2, 3, 5 and 6
    assert {ended.ending for ended in world.work_all()} == {Ending.COMPLETED}
    assert landed(world) == [row for row in at_the_source(world) if row[0] != 4]
    assert len(landed(world)) == 19


def test_a_row_that_changes_between_the_selects_lands_as_it_is_then(world: World) -> None:
    world.source.between_parts(lambda page: world.source.put(-1, changed=5) if page == 1 else None)
    assert {ended.ending for ended in world.work_all()} == {Ending.COMPLETED}
    assert landed(world) == at_the_source(world)
    assert [row[1] for row in landed(world) if row[0] == -1] == [5]


def test_so_many_rows_appear_that_a_page_of_the_second_part_holds_them_not_all(world: World) -> None:
    """The page holds 5 rows, and the 5 lowest of the second part are others: the page is asked for again."""
    world.source.execute("DELETE FROM wides WHERE id BETWEEN -3 AND 6")

    def fill(page: int) -> None:
        for key in range(-3, 7):
            world.source.put(key)

    world.source.between_parts(fill)
    assert {ended.ending for ended in world.work_all()} == {Ending.COMPLETED}
    assert [row for row in landed(world) if row[0] > 6] == [row for row in at_the_source(world) if row[0] > 6]
    whole = {row[0]: row for row in at_the_source(world)}
    assert all(row == whole[row[0]] for row in landed(world))


def test_rows_that_never_hold_still_are_refused_after_some_rounds_and_none_is_landed(world: World) -> None:
    world.source.between_parts(lambda page: world.source.put(-3, changed=page))
    (claim,) = world.claim()
    assert world.fetcher().work(claim).ending is Ending.COMPLETED  # the plan
    first = next(claim for claim in world.claim() if claim.spec["lower"] is None)
    ended = world.fetcher(others_succeed=True).work(first)
    assert isinstance(ended.error, BadReply)
    assert ended.ending is Ending.REFUSED
    assert f"{JOINS_MAX} times in a row" in ended.error.message
    assert landed(world) == []
