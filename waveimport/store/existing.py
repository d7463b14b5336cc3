"""Whether a destination table that is there already keeps every row as it is given.

A database rounds, cuts and folds without a word: MySQL rounds 1.2355 into DECIMAL(15,2) and makes a date of a
timestamp with only a note, SQLite makes 12 of '0012' in an INTEGER column, and a text key that is compared without
case keeps one of 'A' and 'a'. So the types are compared before a row is sent. These pass:

* MySQL: the very type, whatever its display width; any integer for a boolean; a decimal with as many digits on both
  sides of the point or more; DATETIME with a fraction for one without; a longer VARCHAR. A text type that is shorter
  does not, because trailing blanks beyond its length are cut off in strict mode too.
* SQLite: a type of the same affinity (https://www.sqlite.org/datatype3.html); INTEGER and NUMERIC for each other,
  which store alike.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import inspect, text
from sqlalchemy.engine import Connection

from waveimport.errors import TableClash

_TYPE = re.compile(r"(\w+)(?:\((\d+)(?:,(\d+))?\))?\s*(.*)")
_INTEGERS = frozenset({"tinyint", "smallint", "mediumint", "int", "bigint"})


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a record needs of its table: the types of its columns by lower-case name, the key's columns in order, and
    the collation of the text columns among them (None where texts are compared byte by byte anyway, on SQLite)."""

    record: str
    types: Mapping[str, str]
    key: Sequence[str]
    collation: str | None


@dataclass(frozen=True, slots=True)
class _Found:
    """A column as the database tells it; `collation` is None for one that is no text."""

    type: str
    collation: str | None


def check_existing(connection: Connection, table: str, wanted: Wanted) -> None:
    """Raise TableClash where the table lacks a column, has another key, or would not keep a row as it is given."""
    mysql = connection.dialect.name != "sqlite"
    columns = _mysql_columns(connection, table) if mysql else _sqlite_columns(connection, table)
    elsewhere = f"rename the table, or set records.{wanted.record}.table_name"
    missing = [name for name in wanted.types if name not in columns]
    if missing:
        raise TableClash(
            f"table `{table}` exists without the column `{missing[0]}` of record `{wanted.record}`",
            help=f"add the column, {elsewhere}",
        )
    key = [str(name) for name in inspect(connection).get_pk_constraint(table).get("constrained_columns") or []]
    if [name.lower() for name in key] != list(wanted.key):
        raise TableClash(
            f"table `{table}` exists with the primary key ({', '.join(key)}), not ({', '.join(wanted.key)})",
            help=f"{elsewhere} or key",
        )
    for name, kind in wanted.types.items():
        if not (_mysql_keeps if mysql else _sqlite_keeps)(columns[name].type, kind):
            mend = f"change it by ALTER TABLE `{table}` MODIFY `{name}` {kind}, " if mysql else ""
            raise TableClash(
                f"table `{table}` exists with the column `{name}` as {columns[name].type.upper() or 'no type'}, but"
                f" record `{wanted.record}` needs {kind}: values would be changed without a word",
                help=mend + elsewhere,
            )
    _check_text_key(table, wanted, columns)
    if mysql:
        _check_mysql_table(connection, table, wanted, elsewhere)


def _check_text_key(table: str, wanted: Wanted, columns: Mapping[str, _Found]) -> None:
    exact = wanted.collation or "BINARY"
    for name in wanted.key:
        collation = columns[name].collation
        if collation is not None and collation not in (exact, "utf8mb4_nopad_bin", "utf8mb4_0900_bin"):
            raise TableClash(
                f"table `{table}` exists with the text key `{name}` compared by {collation}, not {exact}: keys that"
                " differ in case, accent or trailing blanks may be one row there",
                help=f"change the column's collation, rename the table, or set records.{wanted.record}.table_name",
            )


def _check_mysql_table(connection: Connection, table: str, wanted: Wanted, elsewhere: str) -> None:
    engine = connection.execute(
        text("SELECT engine FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = :name"),
        {"name": table},
    ).scalar_one()
    if str(engine).lower() != "innodb":
        raise TableClash(
            f"table `{table}` exists with the engine {engine}, not InnoDB: its rows would not be undone with their"
            " transaction",
            help=f"change it by ALTER TABLE `{table}` ENGINE=InnoDB, {elsewhere}",
        )
    for index in inspect(connection).get_indexes(table):
        names = [str(name) for name in index["column_names"]]
        # ON DUPLICATE KEY UPDATE takes any unique index for the key: the row that it meets is overwritten.
        if index["unique"] and not set(wanted.key) <= {name.lower() for name in names}:
            raise TableClash(
                f"table `{table}` exists with the unique index `{index['name']}` ({', '.join(names)}) beside its"
                " primary key: rows that are equal there would overwrite each other",
                help=f"make the index one that is not unique, {elsewhere}",
            )


# --- MySQL ------------------------------------------------------------------------------------------------------


def _mysql_columns(connection: Connection, table: str) -> dict[str, _Found]:
    rows = connection.execute(
        text(
            "SELECT column_name, column_type, collation_name FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND table_name = :name"
        ),
        {"name": table},
    )
    return {str(name).lower(): _Found(str(kind), collation) for name, kind, collation in rows}


def _parts(kind: str) -> tuple[str, int, int, str]:
    """Return (word, first number, second number, what follows) of a type; a number that is not there is 0."""
    match = _TYPE.match(kind.lower())
    if match is None:
        return kind, 0, 0, ""
    word, first, second, rest = match.groups()
    return word, int(first or 0), int(second or 0), rest


def _mysql_keeps(found: str, wanted: str) -> bool:
    word, first, second, rest = _parts(found)
    kind, size, scale, _ = _parts(wanted)
    if kind == "tinyint":
        return word in _INTEGERS
    if word != kind or "unsigned" in rest:
        return False
    match kind:
        case "decimal":
            return second >= scale and first - second >= size - scale
        case "varchar" | "datetime":
            return first >= size
        case "double":
            return first == 0
        case _:
            return True


# --- SQLite -----------------------------------------------------------------------------------------------------


def _sqlite_columns(connection: Connection, table: str) -> dict[str, _Found]:
    quoted = connection.dialect.identifier_preparer.quote_identifier(table)
    columns = connection.exec_driver_sql(f"PRAGMA table_info({quoted})").all()
    collations: dict[str, str] = {}
    for index in connection.exec_driver_sql(f"PRAGMA index_list({quoted})").all():
        if index.origin == "pk":
            name = connection.dialect.identifier_preparer.quote_identifier(index.name)
            parts = connection.exec_driver_sql(f"PRAGMA index_xinfo({name})").all()
            collations = {str(part.name).lower(): str(part.coll) for part in parts if part.key}
    return {str(row.name).lower(): _Found(str(row.type), collations.get(str(row.name).lower())) for row in columns}


def _affinity(kind: str) -> str:
    """Return the affinity of a declared type by SQLite's five rules in their order; INTEGER is told as NUMERIC."""
    name = kind.upper()
    if "INT" in name:
        return "NUMERIC"
    if any(word in name for word in ("CHAR", "CLOB", "TEXT")):
        return "TEXT"
    if not name or "BLOB" in name:
        return "BLOB"
    return "REAL" if any(word in name for word in ("REAL", "FLOA", "DOUB")) else "NUMERIC"


def _sqlite_keeps(found: str, wanted: str) -> bool:
    return _affinity(found) == _affinity(wanted)
