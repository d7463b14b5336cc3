"""Tables that are there already: taken where they keep every row as it is given, refused where they would not."""

import pytest
import store_world as world
from sqlalchemy import inspect

from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.errors import ExitCode, KeyTooWide, TableClash
from waveimport.store.destination import Target, ensure_tables
from waveimport.store.transactions import Database

KINDS = {
    "text": Column("v", ColumnKind.TEXT, target="v"),
    "integer": Column("v", ColumnKind.INTEGER, target="v"),
    "boolean": Column("v", ColumnKind.BOOLEAN, target="v"),
    "decimal(15,2)": Column("v", ColumnKind.DECIMAL, 15, 2, "v"),
    "decimal(15,4)": Column("v", ColumnKind.DECIMAL, 15, 4, "v"),
    "decimal(20,2)": Column("v", ColumnKind.DECIMAL, 20, 2, "v"),
    "float": Column("v", ColumnKind.FLOAT, target="v"),
    "date": Column("v", ColumnKind.DATE, target="v"),
    "timestamp": Column("v", ColumnKind.TIMESTAMP, target="v"),
}
ID = Column("id", ColumnKind.INTEGER, target="id")


def thing(kind: str, *, key: tuple[str, ...] = ("id",)) -> Target:
    return Target("thing", RecordSettings("thing", "thing", (ID, KINDS[kind]), key=key))


def ensure(database: Database, into: Target) -> None:
    database.run(lambda connection: ensure_tables(connection, [into], fence=False))


def make(
    database: Database, value: str, *, id_type: str | None = None, key: str = "id", more: str = "", options: str = ""
) -> None:
    """Make the table by hand with the column `v` as `value` says."""
    lite = database.is_sqlite
    world.execute(database, "DROP TABLE IF EXISTS thing")
    world.execute(
        database,
        f"CREATE TABLE thing (id {id_type or ('INTEGER' if lite else 'BIGINT')} NOT NULL, v {value},"
        f" _job_id {'TEXT' if lite else 'VARCHAR(64)'} NOT NULL, _synced_at {'TEXT' if lite else 'DATETIME(6)'} NOT"
        f" NULL, PRIMARY KEY ({key}){more}){options}",
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_that_waveimport_made_is_taken_again(database: Database, kind: str) -> None:
    for key in (("id",), ("v", "id")):
        world.execute(database, "DROP TABLE IF EXISTS thing")
        ensure(database, thing(kind, key=key))
        ensure(database, thing(kind, key=key))


MYSQL_LOSSES = [
    ("DECIMAL(15,2)", "decimal(15,4)"),
    ("DECIMAL(15,4)", "decimal(15,2)"),
    ("DECIMAL(15,2) UNSIGNED", "decimal(15,2)"),
    ("DATE", "timestamp"),
    ("DATETIME", "date"),
    ("BIGINT", "text"),
    ("INT", "integer"),
    ("BIGINT(20) UNSIGNED", "integer"),
    ("TINYINT", "integer"),
    ("FLOAT", "float"),
    ("DOUBLE(10,2)", "float"),
    ("VARCHAR(255)", "text"),
    ("MEDIUMTEXT", "text"),
    ("LONGTEXT", "integer"),
]


@pytest.mark.mysql
@pytest.mark.parametrize(("found", "kind"), MYSQL_LOSSES)
def test_on_mysql_a_column_that_would_change_its_values_is_refused(
    mysql_database: Database, found: str, kind: str
) -> None:
    make(mysql_database, found)
    with pytest.raises(TableClash, match=f"column `v` as {found.split('(')[0]}") as clash:
        ensure(mysql_database, thing(kind))
    assert clash.value.exit_code is ExitCode.USAGE
    assert "MODIFY `v`" in (clash.value.help or "")
    assert "table_name" in (clash.value.help or "")


@pytest.mark.mysql
@pytest.mark.parametrize(
    ("found", "kind"),
    [
        ("DECIMAL(17,4)", "decimal(15,2)"),
        ("BIGINT", "boolean"),
        ("TINYINT(1)", "boolean"),
        ("DATETIME(6)", "timestamp"),
    ],
)
def test_on_mysql_a_wider_column_is_taken(mysql_database: Database, found: str, kind: str) -> None:
    make(mysql_database, found)
    ensure(mysql_database, thing(kind))


SQLITE_LOSSES = [
    ("NUMERIC", "decimal(20,2)"),
    ("INTEGER", "text"),
    ("NUMERIC", "timestamp"),
    ("REAL", "integer"),
    ("TEXT", "integer"),
    ("VARCHAR(20)", "decimal(15,2)"),
    ("", "integer"),
]


@pytest.mark.parametrize(("found", "kind"), SQLITE_LOSSES)
def test_on_sqlite_a_column_of_another_affinity_is_refused(sqlite_database: Database, found: str, kind: str) -> None:
    make(sqlite_database, found)
    with pytest.raises(TableClash, match=f"column `v` as {found.split('(')[0] or 'no type'}"):
        ensure(sqlite_database, thing(kind))


@pytest.mark.parametrize(
    ("found", "kind"),
    [("VARCHAR(20)", "text"), ("BIGINT", "integer"), ("DECIMAL(15,2)", "decimal(15,2)"), ("DOUBLE PRECISION", "float")],
)
def test_on_sqlite_another_name_of_the_same_affinity_is_taken(sqlite_database: Database, found: str, kind: str) -> None:
    make(sqlite_database, found)
    ensure(sqlite_database, thing(kind))


@pytest.mark.mysql
@pytest.mark.parametrize("loose", ["utf8mb4_general_ci", "utf8mb4_bin"])
def test_on_mysql_a_text_key_that_folds_keys_together_is_refused(mysql_database: Database, loose: str) -> None:
    make(mysql_database, f"VARCHAR(255) COLLATE {loose} NOT NULL", key="v")
    with pytest.raises(TableClash, match=f"compared by {loose}"):
        ensure(mysql_database, thing("text", key=("v",)))


@pytest.mark.mysql
def test_on_mysql_a_text_key_may_be_longer_but_not_shorter(mysql_database: Database) -> None:
    exact = "CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin NOT NULL"
    make(mysql_database, f"VARCHAR(300) {exact}", key="v")
    ensure(mysql_database, thing("text", key=("v",)))
    make(mysql_database, f"VARCHAR(254) {exact}", key="v")
    with pytest.raises(TableClash, match="needs VARCHAR"):
        ensure(mysql_database, thing("text", key=("v",)))


@pytest.mark.parametrize("loose", ["NOCASE", "RTRIM"])
def test_on_sqlite_a_text_key_that_folds_keys_together_is_refused(sqlite_database: Database, loose: str) -> None:
    make(sqlite_database, f"TEXT COLLATE {loose} NOT NULL", key="v")
    with pytest.raises(TableClash, match=f"compared by {loose}"):
        ensure(sqlite_database, thing("text", key=("v",)))


@pytest.mark.mysql
def test_on_mysql_a_table_without_transactions_is_refused(mysql_database: Database) -> None:
    make(mysql_database, "BIGINT", options=" ENGINE=MyISAM")
    with pytest.raises(TableClash, match="MyISAM"):
        ensure(mysql_database, thing("integer"))


@pytest.mark.mysql
def test_on_mysql_a_unique_index_beside_the_key_is_refused_because_rows_would_overwrite_each_other(
    mysql_database: Database,
) -> None:
    make(mysql_database, "BIGINT", more=", UNIQUE mine (v)")
    with pytest.raises(TableClash, match="unique index `mine`"):
        ensure(mysql_database, thing("integer"))
    make(mysql_database, "BIGINT", more=", UNIQUE mine (v, id), INDEX other (v)")
    ensure(mysql_database, thing("integer"))


def wide(*columns: Column) -> Target:
    names = tuple(f"k{number}" for number in range(len(columns)))
    named = tuple(
        Column(name, column.kind, column.precision, column.scale, target=name)
        for name, column in zip(names, columns, strict=True)
    )
    return Target("thing", RecordSettings("thing", "thing", named, key=names))


TEXT, INTEGER = KINDS["text"], KINDS["integer"]


@pytest.mark.mysql
@pytest.mark.parametrize(
    "columns",
    [(TEXT,) * 4, (TEXT, TEXT, TEXT, INTEGER, INTEGER), (TEXT, TEXT, TEXT, INTEGER, KINDS["decimal(20,2)"])],
)
def test_on_mysql_a_key_that_is_too_wide_is_refused_before_any_table_is_made(
    mysql_database: Database, columns: tuple[Column, ...]
) -> None:
    other = Target("other", thing("text").record)
    with pytest.raises(KeyTooWide, match="`k0` 1,020") as refused:
        mysql_database.run(lambda connection: ensure_tables(connection, [other, wide(*columns)], fence=False))
    assert refused.value.exit_code is ExitCode.USAGE
    assert "other" not in mysql_database.run(lambda connection: inspect(connection).get_table_names())


@pytest.mark.parametrize("last", [INTEGER, KINDS["boolean"], KINDS["date"], KINDS["timestamp"], KINDS["decimal(20,2)"]])
def test_three_texts_and_a_number_fit_in_a_key(database: Database, last: Column) -> None:
    ensure(database, wide(TEXT, TEXT, TEXT, last))


def test_on_sqlite_a_key_of_four_texts_is_taken(sqlite_database: Database) -> None:
    ensure(sqlite_database, wide(*(TEXT,) * 4))
