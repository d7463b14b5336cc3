"""What is gone goes, with what derives from it, and nothing else does; on both databases."""

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from waveimport.core.settings import Column, ColumnKind, Deletes, RecordSettings
from waveimport.store.destination import Target, Upsert, ensure_tables, packet_bytes
from waveimport.store.removal import GoneKeys, ReadParents, ReadRange, Removal, removers
from waveimport.store.transactions import Database


def column(name: str, kind: ColumnKind = ColumnKind.INTEGER) -> Column:
    return Column(name, kind, target=name)


ORDER = RecordSettings("order", "orders", (column("id"),), table_name="order")
LINE = RecordSettings(
    "line",
    "lines",
    (column("uniquekey"), column("orderid")),
    key=("uniquekey",),
    table_name="line",
    derived_from="order",
    parent_key="orderid",
)
TAX = RecordSettings(
    "tax",
    "taxes",
    (column("lineid"), column("number")),
    key=("lineid", "number"),
    table_name="tax",
    derived_from="line",
    parent_key="lineid",
)
ROWS = {
    "order": [(n,) for n in range(1, 7)],
    "line": [(10 * n + i, n) for n in range(1, 7) for i in (1, 2)],
    "tax": [(10 * n + i, t) for n in range(1, 7) for i in (1, 2) for t in (1, 2)],
}


class Tables:
    """The three tables, filled by the job `old`."""

    def __init__(self, database: Database, *records: RecordSettings) -> None:
        self.database = database
        self.targets = [Target(record.table_name, record) for record in records or (ORDER, LINE, TAX)]
        database.run(lambda connection: ensure_tables(connection, self.targets, fence=False))
        self.removers = database.run(lambda connection: removers(connection, self.targets))
        for name, rows in ROWS.items():
            self.put(name, rows, "old")

    def put(self, name: str, rows: list[tuple[Any, ...]], job: str) -> None:
        (target,) = [one for one in self.targets if one.record.name == name]

        def work(connection: Any) -> None:
            upsert = Upsert(connection, target)
            upsert.execute(connection, rows, job_id=job, packet_bytes=packet_bytes(connection))

        self.database.run(work)

    def remove(self, name: str, removal: Removal, job: str = "new") -> int:
        return self.database.run(lambda connection: self.removers[name].execute(connection, removal, job))

    def keys(self, name: str, where: str = "1 = 1") -> list[Any]:
        (target,) = [one for one in self.targets if one.record.name == name]
        columns = ", ".join(f"`{key}`" for key in target.key_targets)
        sql = text(f"SELECT {columns} FROM `{name}` WHERE {where} ORDER BY {columns}")
        rows = self.database.run(lambda connection: [tuple(row) for row in connection.execute(sql)])
        return [row[0] if len(row) == 1 else row for row in rows]


def test_keys_that_are_gone_take_everything_below_with_them(database: Database) -> None:
    tables = Tables(database)
    assert tables.remove("order", GoneKeys([2, 5, 99])) == 2
    assert tables.keys("order") == [1, 3, 4, 6]
    assert tables.keys("line") == [11, 12, 31, 32, 41, 42, 61, 62]
    assert {line for line, _ in tables.keys("tax")} == set(tables.keys("line"))


def test_what_derives_from_a_key_goes_even_where_its_own_row_went_before(database: Database) -> None:
    """A page of lines that was read before their order was deleted may land after it."""
    tables = Tables(database)
    tables.remove("order", GoneKeys([2]))
    tables.put("line", [(21, 2)], "old")
    tables.put("tax", [(21, 1)], "old")
    assert tables.remove("order", GoneKeys([2])) == 0
    assert 21 not in tables.keys("line")
    assert (21, 1) not in tables.keys("tax")


def test_a_range_that_was_read_whole_loses_what_the_job_did_not_meet_in_it_and_nothing_beside(
    database: Database,
) -> None:
    tables = Tables(database)
    tables.put("order", [(3,)], "new")
    assert tables.remove("order", ReadRange(2, 4)) == 1
    assert tables.keys("order") == [1, 2, 3, 5, 6]
    assert 41 not in tables.keys("line")
    assert tables.remove("order", ReadRange(None, 1)) == 1
    assert tables.remove("order", ReadRange(5, None)) == 1
    assert tables.keys("order") == [2, 3, 5]
    assert tables.remove("order", ReadRange(None, None)) == 2
    assert tables.keys("order") == [3]
    assert tables.keys("line") == [31, 32]


def test_parents_that_were_read_whole_lose_the_children_that_the_job_did_not_meet(database: Database) -> None:
    tables = Tables(database)
    tables.put("line", [(11, 1), (31, 3)], "new")
    assert tables.remove("line", ReadParents([1, 3])) == 2
    assert tables.keys("line") == [11, 21, 22, 31, 41, 42, 51, 52, 61, 62]
    assert {line for line, _ in tables.keys("tax")} == set(tables.keys("line"))


def test_a_key_of_which_another_row_is_left_keeps_what_derives_from_it(database: Database) -> None:
    """Of a key of several columns the first names the parent."""
    wide = replace(ORDER, columns=(column("id"), column("book")), key=("id", "book"))
    tables = Tables.__new__(Tables)
    tables.database, tables.targets = database, [Target("order", wide), Target("line", LINE)]
    database.run(lambda connection: ensure_tables(connection, tables.targets, fence=False))
    tables.removers = database.run(lambda connection: removers(connection, tables.targets))
    tables.put("order", [(1, 1), (2, 1)], "old")
    tables.put("order", [(1, 2)], "new")
    tables.put("line", ROWS["line"][:4], "old")
    assert tables.remove("order", ReadRange(None, None)) == 2
    assert tables.keys("order") == [(1, 2)]
    assert tables.keys("line") == [11, 12]


def test_more_keys_than_a_statement_takes_all_go(database: Database) -> None:
    tables = Tables(database)
    tables.put("order", [(n,) for n in range(1000, 3200)], "old")
    assert tables.remove("order", GoneKeys(range(1000, 3200))) == 2200
    assert tables.keys("order") == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("below", list(Deletes))
def test_each_record_keeps_to_its_own_way_with_what_is_gone(database: Database, below: Deletes) -> None:
    tables = Tables(database, replace(ORDER, deletes=Deletes.SOFT), replace(LINE, deletes=below), TAX)
    assert tables.remove("order", GoneKeys([2])) == 1
    assert tables.keys("order") == [1, 2, 3, 4, 5, 6]
    assert tables.keys("order", "_deleted_at IS NOT NULL") == [2]
    there = {Deletes.HARD: [], Deletes.SOFT: [21, 22], Deletes.IGNORE: [21, 22]}
    assert tables.keys("line", "orderid = 2") == there[below]
    if below is Deletes.SOFT:
        assert tables.keys("line", "_deleted_at IS NOT NULL") == [21, 22]
    gone = below is not Deletes.IGNORE
    assert tables.keys("tax", "lineid IN (21, 22)") == ([] if gone else [(21, 1), (21, 2), (22, 1), (22, 2)])
    assert tables.remove("order", GoneKeys([2])) == 0, "marked once"
    tables.put("order", [(2,)], "new")
    assert tables.keys("order", "_deleted_at IS NOT NULL") == [], "and there again"


def test_where_nothing_was_before_a_job_only_told_keys_go(database: Database) -> None:
    tables = Tables(database)
    tables.removers["order"].nothing_before = True
    assert tables.remove("order", ReadRange(None, None)) == 0
    assert tables.remove("order", GoneKeys([1])) == 1


def test_children_are_found_by_an_index_of_their_parents(database: Database) -> None:
    tables = Tables(database)
    tables.database.run(lambda connection: ensure_tables(connection, tables.targets, fence=False))
    if database.is_sqlite:
        plan = "EXPLAIN QUERY PLAN SELECT * FROM line WHERE orderid IN (1, 2)"
        rows = database.run(lambda connection: connection.exec_driver_sql(plan).all())
        assert "line_by_parent" in str(rows)
        return
    rows = database.run(lambda connection: connection.exec_driver_sql("SHOW INDEX FROM line").all())
    assert [row[2] for row in rows if row[4] == "orderid"] == ["line_by_parent"]
    rows = database.run(lambda connection: connection.exec_driver_sql("SHOW INDEX FROM tax").all())
    assert {row[2] for row in rows} == {"PRIMARY"}, "its key begins with its parent"


def reads(connection: Connection) -> int:
    """Return how many rows and index entries the server has read for this connection."""
    rows = connection.exec_driver_sql("SHOW SESSION STATUS LIKE 'Handler_read%%'")
    return sum(int(value) for _, value in rows)


def test_the_server_reads_no_more_of_a_table_than_the_rows_of_the_parents(database: Database) -> None:
    """MariaDB goes by the statistics of an index for a long IN list. Those of a table that was filled since say nothing
    of it, and it then read all of the table for the parents of each batch: a day for millions of lines."""
    if database.is_sqlite:
        pytest.skip("SQLite has no statistics to go by, and uses the index")
    tables = Tables(database)
    tables.put("line", [(number, 1) for number in range(101, 1101)], "old")
    database.run(lambda connection: connection.exec_driver_sql("ALTER TABLE line STATS_AUTO_RECALC = 0"))
    database.run(lambda connection: connection.exec_driver_sql("ANALYZE TABLE line").all())
    for start in range(1001, 9001, 1000):
        tables.put("line", [(10 * n + i, n) for n in range(start, start + 1000) for i in (1, 2)], "old")
    parents = list(range(4001, 4401))
    tables.put("line", [(10 * n + i, n) for n in parents for i in (1, 2)], "new")
    tables.put("line", [(99, 4200), (98, 4200)], "old")

    def work(connection: Connection) -> tuple[int, int]:
        before = reads(connection)
        return tables.removers["line"].execute(connection, ReadParents(parents), "new"), reads(connection) - before

    removed, read = database.run(work)
    assert removed == 2
    assert read < 4000, "the table has 17,000 rows, those parents have 802"
