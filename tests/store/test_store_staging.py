"""Pages that land as databases: the same rows as by binding their values, whatever becomes of the pages."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import store_world as world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from test_store_destination import KINDS, made, target

from waveimport.errors import BadData
from waveimport.store import staging
from waveimport.store.destination import Target, Upsert
from waveimport.store.packing import Packed, Packing
from waveimport.store.staging import ROWS_LEAST, SLOTS_MOST, Stager, lay_out, stager_of
from waveimport.store.transactions import Database

NAMES = ("id", "memo", "flag", "small", "ratio", "day")
VALUES = st.tuples(
    st.none() | st.text(st.characters(exclude_categories=["Cs"])),
    st.none() | st.sampled_from([0, 1]),
    st.none() | st.sampled_from(["1.50", "-9999999999999.99", "0", "00012", "1e5"]),
    st.none() | st.floats(allow_nan=False) | st.integers(-(2**63), 2**63 - 1),
    st.none() | st.just("2026-02-28"),
)


def packed(rows: list[tuple[Any, ...]]) -> Packed:
    return Packed(len(rows), tuple(value for row in rows for value in row))


def many(first: int = 1, count: int = ROWS_LEAST) -> list[tuple[Any, ...]]:
    return [(number, f"memo {number}", number % 2, "1.25", 0.5, "2026-02-28") for number in range(first, first + count)]


def put(database: Database, into: Target, *pages: Packed, laid_out: bool = True) -> list[str]:
    """Land pages in one commit; return the statements that it took in the table."""
    statements: list[str] = []

    def record(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if into.table in statement:
            statements.append(statement)

    def work(connection: Any) -> None:
        statements.clear()
        upsert = Upsert(connection, into)
        for page in pages:
            upsert.execute(connection, page, job_id=world.JOB, packet_bytes=1 << 30)

    event.listen(database.engine, "before_cursor_execute", record)
    try:
        database.run(work, before=(lambda connection: lay_out(connection, pages)) if laid_out else lambda _: None)
    finally:
        event.remove(database.engine, "before_cursor_execute", record)
    return statements


def brought(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """The rows as they are found, with the decimal as SQLite keeps it."""
    return [(*row[:3], float(row[3]), *row[4:]) for row in rows]


def landed(database: Database, columns: str = ", ".join(NAMES)) -> list[tuple[Any, ...]]:
    kinds = ", ".join(f"typeof({name})" for name in columns.split(", "))
    return world.query(database, f"SELECT {columns}, {kinds}, _job_id FROM thing ORDER BY id")


def test_whatever_is_staged_lands_as_it_would_by_its_values(sqlite_database: Database) -> None:
    into = made(sqlite_database, target(*NAMES))
    stager = Stager(len(NAMES))

    @settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.lists(VALUES, min_size=1, max_size=20), st.integers(ROWS_LEAST, 1200))
    def check(values: list[tuple[Any, ...]], count: int) -> None:
        rows = [(number - 3, *values[number % len(values)]) for number in range(count)]
        staged = stager.stage(packed(rows))
        assert staged.is_database
        assert staged.objects() == packed(rows).objects()
        found = []
        for page in (packed(rows), staged):
            world.execute(sqlite_database, "DELETE FROM thing")
            put(sqlite_database, into, packed(many(0, 40)))  # rows that are to be written over
            assert ("SELECT" in put(sqlite_database, into, page)[-1]) == page.is_database
            found.append(landed(sqlite_database))
        assert found[0] == found[1]
        assert len(found[0]) == max(count, 43)

    check()


def test_more_pages_than_can_be_hung_in_land_all_the_same(sqlite_database: Database) -> None:
    into = made(sqlite_database, target(*NAMES))
    stager = Stager(len(NAMES))
    pages = [stager.stage(packed(many(1 + at * ROWS_LEAST))) for at in range(SLOTS_MOST + 2)]
    statements = put(sqlite_database, into, *pages)
    assert sum("SELECT" in one for one in statements) == SLOTS_MOST
    assert [row[: len(NAMES)] for row in landed(sqlite_database)] == brought(many(1, ROWS_LEAST * (SLOTS_MOST + 2)))


def test_a_page_that_was_not_hung_in_or_no_more_lands_by_its_values(sqlite_database: Database) -> None:
    into = made(sqlite_database, target(*NAMES))
    one, other = (Stager(len(NAMES)).stage(packed(many(first))) for first in (1, 5000))
    assert "SELECT" in put(sqlite_database, into, one)[-1]
    assert "SELECT" in put(sqlite_database, into, other)[-1]
    assert "SELECT" not in put(sqlite_database, into, one, laid_out=False)[-1], "another has its place"
    assert len(landed(sqlite_database)) == 2 * ROWS_LEAST


def test_a_transaction_that_is_run_again_hangs_its_pages_in_again(sqlite_database: Database) -> None:
    """Also where it gets another connection."""
    into = made(sqlite_database, target(*NAMES))
    page = Stager(len(NAMES)).stage(packed(many()))
    tables: list[str | None] = []

    def work(connection: Any) -> None:
        tables.append(staging.table_of(connection, page))
        Upsert(connection, into).execute(connection, page, job_id=world.JOB, packet_bytes=1 << 30)
        if len(tables) < 3:
            connection.invalidate()
            busy = sqlite3.OperationalError("database is locked")
            busy.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise OperationalError("", None, busy)

    sqlite_database.run(work, before=lambda connection: lay_out(connection, [page]))
    assert tables == ["page0.waveimport_page"] * 3
    assert [row[: len(NAMES)] for row in landed(sqlite_database)] == brought(many())


def test_what_has_landed_is_taken_out_with_the_next_commit(sqlite_database: Database) -> None:
    into = made(sqlite_database, target(*NAMES))
    stager = Stager(len(NAMES))
    pages = [stager.stage(packed(many(1 + at * ROWS_LEAST))) for at in range(3)]
    put(sqlite_database, into, *pages)

    def hanging(connection: Any) -> list[int]:
        driver = connection.connection.driver_connection
        return [len(driver.serialize(name=f"page{number}")) for number in range(3)]

    assert min(sqlite_database.run(hanging)) > 20_000
    assert max(sqlite_database.run(hanging, before=lambda connection: lay_out(connection, pages[:1]))[1:]) < 10_000
    assert max(sqlite_database.run(hanging, before=lambda connection: lay_out(connection, []))) < 10_000
    assert "SELECT" in put(sqlite_database, into, *pages)[-1]


def test_a_row_that_the_table_refuses_is_told_as_it_is_by_its_values(sqlite_database: Database) -> None:
    into = made(sqlite_database, target(*NAMES))
    world.execute(
        sqlite_database,
        "CREATE TRIGGER no BEFORE INSERT ON thing WHEN NEW.id = 77 BEGIN SELECT RAISE(ABORT, 'no 77'); END",
    )
    told = []
    for page in (packed(many()), Stager(len(NAMES)).stage(packed(many()))):
        with pytest.raises(BadData) as refused:
            put(sqlite_database, into, page)
        told.append(refused.value.render())
    assert told[0] == told[1]
    assert landed(sqlite_database) == []


def test_a_row_that_a_trigger_drops_is_dropped_either_way(sqlite_database: Database) -> None:
    into = made(sqlite_database, target(*NAMES))
    world.execute(
        sqlite_database,
        "CREATE TRIGGER no BEFORE INSERT ON thing WHEN NEW.id = 77 BEGIN SELECT RAISE(IGNORE); END",
    )
    for page in (packed(many()), Stager(len(NAMES)).stage(packed(many()))):
        world.execute(sqlite_database, "DELETE FROM thing")
        put(sqlite_database, into, page)
        assert len(landed(sqlite_database)) == ROWS_LEAST - 1


def test_into_a_file_of_another_encoding_pages_land_by_their_values(tmp_path: Path) -> None:
    """SQLite reads no databases together whose texts are written in different ways."""
    file = tmp_path / "utf16.db"
    with contextlib.closing(sqlite3.connect(file)) as plain:
        plain.execute("PRAGMA encoding = 'UTF-16'")
        plain.execute("CREATE TABLE other (n INTEGER)")
    database = Database.open(f"sqlite:///{file}")
    into = made(database, target(*NAMES))
    assert "SELECT" not in put(database, into, Stager(len(NAMES)).stage(packed(many())))[-1]
    assert [row[: len(NAMES)] for row in landed(database)] == brought(many())
    database.close()


@pytest.mark.parametrize("damage", [lambda image: b"no database" * 500, lambda image: image[:5000]])
def test_a_page_that_cannot_be_read_spoils_nothing_beside_it(sqlite_database: Database, damage: Any) -> None:
    into = made(sqlite_database, target(*NAMES))
    page = Stager(len(NAMES)).stage(packed(many()))
    bad = Packed(page.count, damage(page.parts), is_database=True)
    with pytest.raises(ValueError, match="no page"):
        put(sqlite_database, into, bad)
    assert put(sqlite_database, into, packed(many(5000, 3)))
    assert "SELECT" in put(sqlite_database, into, page)[-1]
    assert len(landed(sqlite_database)) == ROWS_LEAST + 3


def test_few_rows_and_those_for_mysql_go_as_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = tuple(KINDS[name].kind for name in NAMES)
    few, enough = packed(many(count=ROWS_LEAST - 1)), packed(many())
    stage = stager_of(Packing(kinds, mysql=False))
    assert [stage(page).is_database for page in (few, enough)] == [False, True]
    assert not stager_of(Packing(kinds, mysql=True))(enough).is_database
    monkeypatch.setattr(staging, "_is_possible", lambda: False)
    assert not stager_of(Packing(kinds, mysql=False))(enough).is_database, "this SQLite cannot"


def test_a_page_does_not_take_the_room_of_a_larger_one_before_it() -> None:
    stager = Stager(2)
    wide, slim = ([(number, text) for number in range(ROWS_LEAST)] for text in ("x" * 4000, "x"))
    assert len(stager.stage(packed(wide)).parts) > 2_000_000
    assert len(stager.stage(packed(slim)).parts) < 40_000


def test_where_nothing_can_be_hung_in_pages_land_by_their_values(
    sqlite_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    into = made(sqlite_database, target(*NAMES))
    monkeypatch.setattr(staging, "slots_of", lambda driver: 0)
    assert "SELECT" not in put(sqlite_database, into, Stager(len(NAMES)).stage(packed(many())))[-1]
    assert [row[: len(NAMES)] for row in landed(sqlite_database)] == brought(many())


@pytest.mark.parametrize("name", ["page0", "waveimport_page"])
def test_the_destination_may_have_a_table_of_the_name_of_a_staged_one(sqlite_database: Database, name: str) -> None:
    into = made(sqlite_database, target("id", "memo", table=name))
    rows = [(number, str(number)) for number in range(ROWS_LEAST)]
    assert "SELECT" in put(sqlite_database, into, Stager(2).stage(packed(rows)))[-1]
    assert world.query(sqlite_database, f"SELECT id, memo FROM main.{name} ORDER BY id") == rows


def test_a_key_of_text_is_upserted_by_its_own_order(sqlite_database: Database) -> None:
    """The order in which rows come is that of the page: of what falls together the last stays."""
    into = made(sqlite_database, target("memo", "id", key=("memo",)))
    rows = [(f"key {number % 600}", number) for number in range(1200)]
    put(sqlite_database, into, Stager(2).stage(packed(rows)))
    assert dict(world.query(sqlite_database, "SELECT memo, id FROM thing")) == dict(rows)
