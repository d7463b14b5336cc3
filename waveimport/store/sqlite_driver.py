"""SQLAlchemy's dialect of SQLite as an engine that writes uses it: transactions begin IMMEDIATE and are guarded.

Events would do the same, and each statement then passes through all that SQLAlchemy does for events, for twice the
price of a begin and an eighth more a statement.
"""

import sqlite3
from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from waveimport.errors import DatabaseError
from waveimport.store.dialect import now

_MOMENT = "waveimport_moment"
_ASK_FOR_IT = f"SELECT {now().compile(dialect=SQLiteDialect_pysqlite())}"
GUARDED = "sqlite+waveimport://"
"""The URL of an engine with this dialect; its file is the affair of who makes its connections."""


class GuardedDialect(SQLiteDialect_pysqlite):
    """See the module. Each statement and the COMMIT first ask whether there still is a transaction.

    Raises DatabaseError where SQLite has ended it by itself.
    """

    supports_statement_cache = True

    def do_begin(self, dbapi_connection: Any) -> None:
        """Take the write lock, which is the row lock of this database."""
        dbapi_connection.info.pop(_MOMENT, None)
        dbapi_connection.driver_connection.execute("BEGIN IMMEDIATE")

    def do_commit(self, dbapi_connection: Any) -> None:
        """Commit what is still open."""
        if not dbapi_connection.driver_connection.in_transaction:
            raise DatabaseError("SQLite ended the transaction by itself; nothing of it was committed")
        super().do_commit(dbapi_connection)  # type: ignore[no-untyped-call]

    def do_execute(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        """Execute inside the transaction."""
        _require_transaction(cursor)
        cursor.execute(statement, parameters)

    def do_executemany(self, cursor: Any, statement: Any, parameters: Any, context: Any = None) -> None:
        """Execute inside the transaction, for each of the parameters."""
        _require_transaction(cursor)
        cursor.executemany(statement, parameters)

    def do_execute_no_params(self, cursor: Any, statement: Any, context: Any = None) -> None:
        """Execute inside the transaction what has no parameters."""
        _require_transaction(cursor)
        cursor.execute(statement)

    def do_savepoint(self, connection: Any, name: str) -> None:
        """Begin a part that can be undone by itself."""
        _frame(connection, f"SAVEPOINT {name}")

    def do_release_savepoint(self, connection: Any, name: str) -> None:
        """End the part, and keep it."""
        _frame(connection, f"RELEASE SAVEPOINT {name}")


def moment(connection: Any) -> str:
    """Return the database's clock as it stood when it was first asked for in this transaction.

    Of what lands in one commit it is asked once: a commit takes hundredths of a second.
    """
    known: str | None = connection.info.get(_MOMENT)
    if known is None:
        known = connection.info[_MOMENT] = str(connection.exec_driver_sql(_ASK_FOR_IT).scalar_one())
    return known


def _frame(connection: Any, statement: str) -> None:
    """Execute what begins or ends a part, which the writer does for each piece of work, by the driver itself.

    SQLAlchemy compiles it anew for its name: 31 µs for a pair, 5 here. Where the driver refuses, SQLAlchemy is to tell
    it in its way.
    """
    driver = connection.connection.driver_connection
    try:
        if driver.in_transaction:
            driver.execute(statement)
            return
    except sqlite3.Error:
        pass
    connection.exec_driver_sql(statement)


def _require_transaction(cursor: Any) -> None:
    if not cursor.connection.in_transaction:
        raise DatabaseError("SQLite ended the transaction by itself; the whole of it is done again")


registry.register("sqlite.waveimport", __name__, GuardedDialect.__name__)
