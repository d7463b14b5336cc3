"""Every difference between the two databases, by name.

The clock of leases is the database's: `now()` and `after(seconds)` compile to it, so that two hosts whose clocks
differ by minutes agree on who holds what until when.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import BindParameter, DateTime, Insert, Select, Table, Update
from sqlalchemy.dialects import mysql, sqlite
from sqlalchemy.engine import Connection, CursorResult
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import Compiled, SQLCompiler
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

TIME = DateTime().with_variant(mysql.DATETIME(fsp=6), "mysql", "mariadb")

MEMBERS_AT_ONCE = 150
"""Members of an IN list in a destination table. From 200 on (eq_range_index_dive_limit) MariaDB and MySQL go by the
statistics of the index instead of looking into it; a table that has just been filled has none, and is read whole."""


class now(FunctionElement[datetime]):
    """The database's clock, UTC. On SQLite to the millisecond, on MySQL to the microsecond."""

    name = "now"
    type = TIME
    inherit_cache = True


class after(FunctionElement[datetime]):
    """The database's clock, UTC, plus a number of seconds (a bind parameter or a float; may be negative)."""

    name = "after"
    type = TIME
    inherit_cache = True

    def __init__(self, seconds: "float | BindParameter[Any] | ColumnElement[Any]") -> None:
        super().__init__(seconds)


@compiles(now, "sqlite")
def _now_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    # unixepoch('subsec') is NULL before 3.42, so strftime serves every version.
    return "strftime('%Y-%m-%d %H:%M:%f000', 'now')"


@compiles(now, "mysql")
@compiles(now, "mariadb")
def _now_mysql(element: Any, compiler: Any, **kw: Any) -> str:
    return "UTC_TIMESTAMP(6)"


@compiles(after, "sqlite")
def _after_sqlite(element: Any, compiler: Any, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"strftime('%Y-%m-%d %H:%M:%f000', 'now', printf('%+.3f seconds', {seconds}))"


@compiles(after, "mysql")
@compiles(after, "mariadb")
def _after_mysql(element: Any, compiler: Any, **kw: Any) -> str:
    seconds = compiler.process(element.clauses, **kw)
    return f"(UTC_TIMESTAMP(6) + INTERVAL CAST(({seconds}) * 1000000 AS SIGNED) MICROSECOND)"


class Prepared:
    """A statement that every batch or pass makes, compiled once for each database and handed to the driver as it is:
    what SQLAlchemy does for each execution takes as long as SQLite takes to do it.

    The values are what the driver takes and gives: text, numbers, None. So no moment of time is selected by one.
    """

    def __init__(self, statement: Update | Insert | Select[Any]) -> None:
        self._statement = statement
        self._texts: dict[str, tuple[str, dict[str, Any]]] = {}

    def execute(self, connection: Connection, values: Mapping[str, object]) -> int:
        """Execute with these values by name; return how many rows were found."""
        return self.read(connection, values).rowcount

    def read(self, connection: Connection, values: Mapping[str, object]) -> CursorResult[Any]:
        """Execute with these values by name; return what was selected."""
        name = connection.dialect.name
        if name not in self._texts:
            self._texts[name] = self._on_sqlite() if name == "sqlite" else (self._on_mysql(), {})
        text, constants = self._texts[name]
        return connection.exec_driver_sql(text, {**constants, **values})

    def _on_sqlite(self) -> tuple[str, dict[str, Any]]:
        compiled = self._statement.compile(dialect=sqlite.dialect(paramstyle="named"))
        return str(compiled), _constants(compiled)

    def _on_mysql(self) -> str:
        """Return the text with its constants written out: the driver quotes each value anew each time."""
        # Not a part of every command's start.
        from pymysql.converters import escape_item

        compiled = self._statement.compile(dialect=mysql.dialect(paramstyle="pyformat"))
        constants = {
            name: str(escape_item(value, "utf8mb4")).replace("%", "%%") for name, value in _constants(compiled).items()
        }
        # The driver reads the text as a format once more.
        return str(compiled).replace("%%", "%%%%") % {**{name: f"%({name})s" for name in compiled.params}, **constants}


def _constants(compiled: Compiled) -> dict[str, Any]:
    """Return the values that stand in a statement already, by the names of their binds."""
    assert isinstance(compiled, SQLCompiler)
    assert "POSTCOMPILE" not in str(compiled), "what is written out at each execution only cannot be prepared"
    return {
        name: compiled.params[name]
        for name, bind in compiled.binds.items()
        if not bind.required and name in compiled.params
    }


def upsert(connection: Connection, table: Table) -> Insert:
    """Return an INSERT into `table` that replaces what stands under the primary key.

    A DELETE before an INSERT does the same for one writer; of two that do so at once, one meets the other's row.
    """
    others = [column.name for column in table.columns if not column.primary_key]
    if connection.dialect.name == "sqlite":
        statement = sqlite.insert(table)
        return statement.on_conflict_do_update(
            index_elements=list(table.primary_key.columns),
            set_={name: statement.excluded[name] for name in others},
        )
    mine = mysql.insert(table)
    return mine.on_duplicate_key_update({name: mine.inserted[name] for name in others})


# Errors are told apart by code, never by text: texts are translated and change between versions.
MYSQL_ROLLED_BACK = frozenset({1213, 1020})
"""Deadlock, record changed: the server rolled the whole transaction back."""
MYSQL_STATEMENT_UNDONE = frozenset({1205, 3572, 1317, 1969})
"""Lock wait, NOWAIT, interrupted, statement time: only the statement is undone and a COMMIT would keep half."""
MYSQL_LOST = frozenset({2006, 2013, 2014, 2055, 1927, 1053, 1152, 1158, 1159, 1160, 1161, 4031, 0})
"""Connection lost. (0 is PyMySQL's InterfaceError for a socket that is closed already.)"""
MYSQL_UNREACHABLE = frozenset({2002, 2003, 2005, 1040, 1203, 1129})
"""No server, no name, too many connections: may pass."""
MYSQL_REFUSED = {
    1045: "the password or user is refused",
    1044: "the user may not use this database",
    1049: "the database does not exist",
    1698: "the password or user is refused",
    1142: "the user lacks a privilege on a table",
    1143: "the user lacks a privilege on a column",
    1227: "the user lacks a privilege",
}
MYSQL_READ_ONLY = frozenset({1290, 1792, 1836})
MYSQL_DISK_FULL = frozenset({1021, 1114, 3})
MYSQL_BAD_VALUE = frozenset({1264, 1265, 1292, 1366, 1406, 1048, 1364})
"""A value that does not fit its column in strict mode: a fault of the batch that carries it."""
MYSQL_BAD_ROW = frozenset({1062, 1452, 1644, 3819, 4025})
"""Duplicate key, foreign key, a trigger's SIGNAL, CHECK (MySQL, MariaDB): the row is at fault, in a destination table
only."""
MYSQL_OTHER_TABLE = frozenset({1146, 1054, 1906, 3105})
"""No such table, no such column, a generated column (MariaDB, MySQL): the table is not what the statement is for."""
