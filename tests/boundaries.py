"""The boundaries of a transaction: before each statement, before COMMIT and after it; and what may happen at one.

A boundary is where a process can die, a server can go, a reply can be lost. `Boundaries` counts those that go by on an
engine and lets a test do something at the k-th; what happens after statement k happens before statement k+1.
"""

import sqlite3
from collections.abc import Callable
from typing import Any

import pymysql
from sqlalchemy import Engine, event
from sqlalchemy.exc import OperationalError


class Crash(BaseException):
    """The process died here. No `except Exception` may live on behind it."""


class Boundaries:
    """Watches an engine. `committed` is called when a COMMIT has truly happened, before anybody is told."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._left: int | None = None
        self._at: str | None = None
        self._action: Callable[[Any, str], None] = lambda connection, where: None
        self.passed = 0
        self.fired: str | None = None
        self.committed: Callable[[], None] = lambda: None
        self._do_commit = engine.dialect.do_commit
        event.listen(engine, "before_cursor_execute", self._before_statement)
        engine.dialect.do_commit = self._commit

    def detach(self) -> None:
        """Leave the engine as it was."""
        event.remove(self._engine, "before_cursor_execute", self._before_statement)
        self._engine.dialect.do_commit = self._do_commit

    def arm(self, number: int, action: Callable[[Any, str], None], at: str | None = None) -> None:
        """Have `action(connection, where)` called at the boundary of that number, from 1; `where` is "statement",
        "before commit" or "after commit", and with `at` only those are counted. Once: what is done again afterwards
        goes its way."""
        self._left, self._action, self._at, self.fired = number, action, at, None

    def disarm(self) -> None:
        """Have nothing happen any more."""
        self._left = None

    def _pass(self, connection: Any, where: str) -> None:
        self.passed += 1
        if self._left is None or self._at not in (None, where):
            return
        self._left -= 1
        if self._left == 0:
            self._left = None
            self.fired = where
            self._action(connection, where)

    def _before_statement(self, connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if not statement.startswith("BEGIN"):
            self._pass(connection.connection.driver_connection, "statement")

    def _commit(self, connection: Any) -> None:
        raw = getattr(connection, "driver_connection", connection)
        self._pass(raw, "before commit")
        self._do_commit(connection)
        self.committed()
        self._pass(raw, "after commit")


def crash(connection: Any, where: str) -> None:
    """The process dies."""
    raise Crash(where)


def conflict(connection: Any, where: str) -> None:
    """Another transaction was in the way: MySQL has rolled this one back whole (1213), SQLite refuses (BUSY)."""
    if where == "after commit":
        return
    if isinstance(connection, sqlite3.Connection):
        error = sqlite3.OperationalError("database is locked")
        error.sqlite_errorcode = sqlite3.SQLITE_BUSY
        error.sqlite_errorname = "SQLITE_BUSY"
        raise _as_alchemy(error, where)
    connection.rollback()
    raise _as_alchemy(pymysql.err.OperationalError(1213, "Deadlock found"), where)


def lost(connection: Any, where: str) -> None:
    """The connection is gone: before COMMIT was sent nothing is saved; after it the reply is what was lost."""
    if isinstance(connection, sqlite3.Connection):
        return  # a file has no connection that could be lost
    connection._force_close()
    raise _as_alchemy(pymysql.err.OperationalError(2013, "Lost connection to server during query"), where)


def full(connection: Any, where: str) -> None:
    """The disk is full: SQLite has ended the transaction by itself."""
    if where == "after commit" or not isinstance(connection, sqlite3.Connection):
        return
    connection.rollback()
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorcode = sqlite3.SQLITE_FULL
    error.sqlite_errorname = "SQLITE_FULL"
    raise _as_alchemy(error, where)


def _as_alchemy(error: Exception, where: str) -> Exception:
    # What is raised inside do_commit is wrapped on its way; what is raised by an event handler is not.
    return error if where != "statement" else OperationalError("", {}, error, connection_invalidated=False)
