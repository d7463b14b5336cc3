"""A table is made like another and takes its place, on both databases: what stays, and what is refused."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import inspect, text

from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.errors import TableClash
from waveimport.store import swap
from waveimport.store.destination import Target, ensure_tables
from waveimport.store.transactions import Database

JOB = "import_1"
RECORD = RecordSettings(
    "thing",
    "thing",
    (Column("id", ColumnKind.INTEGER, target="id"), Column("note", ColumnKind.TEXT, target="note")),
    table_name="thing",
)
THING = Target("thing", RECORD)


def execute(database: Database, *statements: str) -> None:
    database.run(lambda connection: [connection.exec_driver_sql(sql).close() for sql in statements])


def query(database: Database, sql: str) -> list[tuple[Any, ...]]:
    return database.run(lambda connection: [tuple(row) for row in connection.execute(text(sql))])


def swapped(database: Database, *targets: Target) -> list[swap.Swap]:
    """Make the tables beside, put a row into each, and swap."""
    swaps = [swap.swap_of(target, JOB) for target in targets]

    def make(connection: Any) -> None:
        for one in swaps:
            swap.make_beside(connection, one)
            swap.make_beside(connection, one)

    swap.change_tables(database, make)
    for one in swaps:
        columns = "(id, note, _job_id, _synced_at)"
        execute(database, f"INSERT INTO {one.beside.table} {columns} VALUES (2, 'new', 'j', '2026-01-01')")
    for _ in range(2):
        swap.change_tables(database, lambda connection: swap.replace_tables(connection, swaps))
    return swaps


@pytest.fixture
def tables(database: Database) -> Database:
    """A table with a row, an index, a column and a view of its user's."""
    database.run(lambda connection: ensure_tables(connection, [THING], fence=False))
    execute(
        database,
        "INSERT INTO thing (id, note, _job_id, _synced_at) VALUES (1, 'old', 'j', '2026-01-01')",
        "ALTER TABLE thing ADD COLUMN mine INTEGER DEFAULT 7",
        "CREATE INDEX by_mine ON thing (mine, id)",
        "CREATE VIEW shown AS SELECT id, note, mine FROM thing",
    )
    return database


def test_what_is_called_by_the_tables_name_goes_on_with_the_new_one(tables: Database) -> None:
    def shape() -> Any:
        def work(connection: Any) -> Any:
            found = inspect(connection)
            columns = [(one["name"], str(one["type"]), one["nullable"]) for one in found.get_columns("thing")]
            indexes = [(one["name"], one["column_names"]) for one in found.get_indexes("thing")]
            return columns, indexes, found.get_pk_constraint("thing")["constrained_columns"]

        return tables.run(work)

    before = shape()
    [one] = swapped(tables, THING)
    assert query(tables, "SELECT * FROM shown") == [(2, "new", 7)]
    assert shape() == before
    assert query(tables, f"SELECT id FROM {one.aside}") == [(1,)]
    tables.run(lambda connection: swap.drop_tables(connection, one.names))
    assert query(tables, "SELECT * FROM shown") == [(2, "new", 7)]
    swapped(tables, THING)
    assert shape() == before, "and once more"


def test_a_column_that_was_configured_meanwhile_is_in_the_new_table(tables: Database) -> None:
    one = swap.swap_of(THING, JOB)
    swap.change_tables(tables, lambda connection: swap.make_beside(connection, one))
    wider = replace(RECORD, columns=(*RECORD.columns, Column("more", ColumnKind.DATE, target="more")))
    wide = swap.swap_of(Target("thing", wider), JOB)
    swap.change_tables(tables, lambda connection: swap.make_beside(connection, wide))
    assert query(tables, f"SELECT more FROM {one.beside.table}") == []


@pytest.mark.parametrize("name", ['"thing2"', "`thing2`", "[thing2]", "'thing2'", "thing2"])
def test_a_sqlite_table_is_made_like_another_however_its_name_was_written(sqlite_database: Database, name: str) -> None:
    plain = name.strip("\"`[]'")
    execute(
        sqlite_database,
        f"CREATE TABLE IF NOT EXISTS {name} (id INTEGER PRIMARY KEY NOT NULL, note TEXT UNIQUE CHECK (note <> '('),"
        " _job_id TEXT NOT NULL, _synced_at TEXT NOT NULL) -- of mine",
    )
    swapped(sqlite_database, Target(plain, RECORD))
    assert query(sqlite_database, f'SELECT note FROM "{plain}"') == [("new",)]
    [(made,)] = query(sqlite_database, f"SELECT sql FROM sqlite_master WHERE name = '{plain}'")
    assert "CHECK (note <> '(')" in made


def test_tables_with_triggers_are_refused_and_nothing_is_changed(tables: Database) -> None:
    body = "BEGIN SELECT 1; END" if tables.is_sqlite else "SET @waveimport = 1"
    one = swap.swap_of(THING, JOB)
    swap.change_tables(tables, lambda connection: swap.make_beside(connection, one))
    execute(tables, f"CREATE TRIGGER mine AFTER DELETE ON thing FOR EACH ROW {body}")
    with pytest.raises(TableClash, match="table `thing` has the trigger `mine`, which would be lost") as caught:
        swap.change_tables(tables, lambda connection: swap.replace_tables(connection, [one]))
    assert 'refresh = "in_place" for record `thing`' in str(caught.value.help)
    assert query(tables, "SELECT id FROM thing") == [(1,)]


@pytest.mark.mysql
def test_on_mysql_foreign_keys_are_refused_and_grants_stay_with_the_name(mysql_database: Database) -> None:
    url = mysql_database.url
    name = url.rsplit("/", 1)[1]
    mysql_database.run(lambda connection: ensure_tables(connection, [THING], fence=False))
    other = replace(THING, table="other")
    mysql_database.run(lambda connection: ensure_tables(connection, [other], fence=False))
    execute(mysql_database, "ALTER TABLE other ADD CONSTRAINT mine FOREIGN KEY (id) REFERENCES thing (id)")
    for target, words in ((THING, "foreign key of another table on it, `mine`"), (other, "foreign key `mine`")):
        with pytest.raises(TableClash, match=words):
            mysql_database.run(lambda connection, target=target: swap.check_replaceable(connection, [target]))
    user = f"u{name[-20:]}"
    # An anonymous user of localhost, as fresh servers have, goes before one of any host.
    users = f"'{user}'@'localhost'", f"'{user}'@'%%'"
    execute(mysql_database, "ALTER TABLE other DROP FOREIGN KEY mine")
    for one in users:
        execute(mysql_database, f"CREATE USER {one} IDENTIFIED BY 'p'", f"GRANT SELECT ON `{name}`.thing TO {one}")
    reader = Database.open(url.replace("root", f"{user}:p", 1))
    try:
        with pytest.raises(TableClash, match="is not shown whether table `thing` has triggers"):
            reader.run(lambda connection: swap.check_replaceable(connection, [THING]))
        swapped(mysql_database, THING, other)
        assert query(reader, "SELECT id FROM thing") == [(2,)]
        for one in users:
            execute(mysql_database, f"GRANT TRIGGER ON `{name}`.thing TO {one}")
        reader.close()
        reader.run(lambda connection: swap.check_replaceable(connection, [THING]))
    finally:
        reader.close()
        execute(mysql_database, f"DROP USER {', '.join(users)}")
