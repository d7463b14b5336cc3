"""Rows that a destination table refuses are a fault of their batch; a table that is gone is a fault of none."""

from typing import Any

import pytest
import store_world as world

from waveimport.errors import BadData, DatabaseError, ExitCode, TableClash
from waveimport.store.destination import Upsert, packet_bytes
from waveimport.store.transactions import Database

ROWS = [(1, "a secret", "1.00"), (2, "b secret", "2.00")]


def table(database: Database, more: str = "") -> None:
    lite = database.is_sqlite
    world.execute(database, "DROP TABLE IF EXISTS `order`")
    world.execute(
        database,
        f"CREATE TABLE `order` (id BIGINT NOT NULL PRIMARY KEY, memo {'TEXT' if lite else 'LONGTEXT'}, total"
        f" DECIMAL(15,2), _job_id VARCHAR(64), _synced_at {'TEXT' if lite else 'DATETIME(6)'}{more})",
    )


def put(database: Database, rows: Any = ROWS) -> None:
    database.run(
        lambda connection: Upsert(connection, world.TARGET).execute(
            connection, rows, job_id=world.JOB, packet_bytes=packet_bytes(connection)
        )
    )


@pytest.mark.parametrize(
    ("more", "lite", "mysql"),
    [
        (", mine BIGINT NOT NULL", "SQLITE_CONSTRAINT_NOTNULL", "1364"),
        (", CHECK (id < 2)", "SQLITE_CONSTRAINT_CHECK", "4025"),
        (", FOREIGN KEY (id) REFERENCES parent (id)", None, "1452"),
        (", UNIQUE (_job_id)", "SQLITE_CONSTRAINT_UNIQUE", None),
    ],
)
def test_a_row_that_a_constraint_refuses_is_bad_data_that_names_table_and_code(
    database: Database, more: str, lite: str | None, mysql: str | None
) -> None:
    code = lite if database.is_sqlite else mysql
    world.execute(database, "CREATE TABLE parent (id BIGINT PRIMARY KEY)")
    table(database, more)
    if code is None:
        # SQLite does not look at foreign keys unasked; MySQL's upsert takes any unique index for the key.
        put(database)
        return
    with pytest.raises(BadData, match=rf"^table `order` refused a row \({code}: ") as refused:
        put(database)
    assert refused.value.exit_code is ExitCode.INCOMPLETE
    assert "secret" not in refused.value.render()
    assert refused.value.__cause__ is None, "the statement in the cause is full of values"
    assert world.query(database, "SELECT COUNT(*) FROM `order`") == [(0,)]


@pytest.mark.mysql
def test_two_rows_of_a_unique_index_are_bad_data_on_mysql_where_the_update_meets_a_third(
    mysql_database: Database,
) -> None:
    table(mysql_database, ", UNIQUE (total)")
    put(mysql_database)
    with pytest.raises(BadData, match="1062: Duplicate entry"):
        put(mysql_database, [(2, "b", "1.00")])


@pytest.mark.parametrize("lost", ["table", "column"])
def test_a_table_or_column_that_is_gone_is_a_clash_and_no_fault_of_the_rows(database: Database, lost: str) -> None:
    table(database)
    put(database)
    world.execute(database, "DROP TABLE `order`" if lost == "table" else "ALTER TABLE `order` DROP COLUMN memo")
    with pytest.raises(TableClash, match="table `order` was dropped or changed") as clash:
        put(database)
    assert clash.value.exit_code is ExitCode.USAGE
    assert f"cancel {world.JOB}" in (clash.value.help or "")


def test_a_duplicate_in_a_coordination_table_is_never_taken_for_bad_data(database: Database) -> None:
    world.create(database)
    with pytest.raises(DatabaseError) as refused:
        world.execute(database, "INSERT INTO wave_coordination SELECT * FROM wave_coordination")
    assert type(refused.value) is DatabaseError
