"""One way to run a transaction: the whole closure again, or not at all.

A closure given to `Database.run` must be safe to run again from its start: every write of waveimport is guarded by
what it expects to find (a token, an attempt, a status), so a second run of a closure that had landed finds its own
work and does nothing. What is run again, and when:

* deadlock, lock wait, interrupted: leave the block, ROLLBACK, run the closure again (bounded, jittered). Going on
  after a deadlock would save half a unit, because the server has rolled back what SQLAlchemy thinks is open.
* connection lost before COMMIT was sent: nothing was committed; again.
* connection lost at COMMIT: the outcome is unknown, both were seen. `prove`, where given, is asked in a transaction
  of its own whether the work is there before it is done again.
* server unreachable: again until `patience_seconds` have passed.
* disk full, I/O error: SQLite has ended the transaction; nothing is tried, the caller is told (DiskFull).
"""

import contextlib
import logging
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, TypeVar

from sqlalchemy import Engine
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from waveimport.errors import BadData, DatabaseDown, DatabaseError, DiskFull
from waveimport.store import dialect
from waveimport.store.engine import open_engine, open_reader, public_name

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_CONFLICTS = 20


class Verdict(Enum):
    """What an error of the driver means for the transaction that met it."""

    CONFLICT = auto()
    LOST = auto()
    UNREACHABLE = auto()
    REFUSED = auto()
    DISK_FULL = auto()
    BAD_VALUE = auto()
    DAMAGED = auto()
    FATAL = auto()


def classify(error: BaseException) -> Verdict:
    """Return what a driver's error means, by its code."""
    orig = getattr(error, "orig", error)
    if isinstance(orig, sqlite3.Error):
        code = getattr(orig, "sqlite_errorcode", None)
        primary = None if code is None else code & 0xFF
        if primary in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_INTERRUPT):
            return Verdict.CONFLICT
        if primary in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
            return Verdict.DISK_FULL
        if primary in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            return Verdict.REFUSED
        if primary in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return Verdict.DAMAGED
        return Verdict.FATAL
    args = getattr(orig, "args", ())
    number = args[0] if args and isinstance(args[0], int) else None
    if number in dialect.MYSQL_ROLLED_BACK or number in dialect.MYSQL_STATEMENT_UNDONE:
        return Verdict.CONFLICT
    if number in dialect.MYSQL_LOST:
        return Verdict.LOST
    if number in dialect.MYSQL_UNREACHABLE:
        return Verdict.UNREACHABLE
    if number in dialect.MYSQL_REFUSED or number in dialect.MYSQL_READ_ONLY:
        return Verdict.REFUSED
    if number in dialect.MYSQL_DISK_FULL:
        return Verdict.DISK_FULL
    if number in dialect.MYSQL_BAD_VALUE:
        return Verdict.BAD_VALUE
    return Verdict.FATAL


def _never_sleep(seconds: float) -> bool:
    """Give up at once: the default of a Database that nobody gave a clock."""
    return False


@dataclass(slots=True)
class Database:
    """An engine, and what running a transaction on it needs from outside.

    `write_lock` is held around every transaction (SQLite only, against starvation between processes). `sleep` waits
    a number of seconds and returns False when the wait was cut short or is not wanted; `patience_seconds` bounds the
    waiting for a server that is gone; `jitter` gives a fraction in [0, 1).
    """

    url: str = field(repr=False)
    engine: Engine
    write_lock: AbstractContextManager[Any] = field(default_factory=contextlib.nullcontext)
    sleep: Callable[[float], bool] = _never_sleep
    jitter: Callable[[], float] = lambda: 0.5
    patience_seconds: float = 0.0

    @classmethod
    def open(cls, url: str, **how: Any) -> "Database":
        """Open the database for writing; `how` are the fields of the class."""
        return cls(url=url, engine=open_engine(url), **how)

    @classmethod
    def open_reader(cls, url: str) -> "Database":
        """Open the database for reading only."""
        return cls(url=url, engine=open_reader(url))

    @property
    def is_sqlite(self) -> bool:
        """Whether there is one writer at a time."""
        return self.engine.dialect.name == "sqlite"

    @property
    def name(self) -> str:
        """The database without user and password."""
        return public_name(self.url)

    def close(self) -> None:
        """Close every connection."""
        self.engine.dispose()

    def run(
        self,
        work: Callable[[Connection], T],
        *,
        prove: Callable[[Connection], T | None] | None = None,
        before: Callable[[Connection], None] = lambda connection: None,
    ) -> T:
        """Run `work` in one transaction and return what it returned, once its COMMIT is durable. `before` is called
        each time before the transaction begins.

        Raises what `work` raises (rolled back); DatabaseDown, DiskFull, BadData or DatabaseError for the database's
        own errors, rolled back or, for DatabaseDown, with the outcome of a COMMIT unknown.
        """
        conflicts = 0
        waited = 0.0
        doubt = False
        while True:
            committing = False
            try:
                with self.write_lock, self.engine.connect() as connection:
                    before(connection)
                    transaction = connection.begin()
                    try:
                        if doubt and prove is not None:
                            proved = prove(connection)
                            if proved is not None:
                                transaction.rollback()
                                return proved
                        result = work(connection)
                    except BaseException:
                        _roll_back(transaction, connection)
                        raise
                    committing = True
                    try:
                        transaction.commit()
                    except BaseException:
                        # SQLAlchemy takes the transaction for ended and would give the connection back as it is; on
                        # SQLite one whose COMMIT failed may still hold the write lock.
                        connection.invalidate()
                        raise
                    return result
            except DBAPIError as error:
                verdict = classify(error)
                doubt = doubt or (committing and verdict is Verdict.LOST)
                if verdict is Verdict.CONFLICT and conflicts < MAX_CONFLICTS:
                    conflicts += 1
                    if conflicts > 2:
                        self.sleep(min(0.01 * 2**conflicts, 1.0) * self.jitter())
                    continue
                if verdict is Verdict.LOST and waited == 0.0 and conflicts < MAX_CONFLICTS:
                    conflicts += 5
                    continue
                if verdict in (Verdict.LOST, Verdict.UNREACHABLE) and waited < self.patience_seconds:
                    delay = min(5.0, 0.2 + waited / 4)
                    log.warning("%s is out of reach (%s); trying again", self.name, error_number(error))
                    if self.sleep(delay):
                        waited += delay
                        continue
                raise translate(error, self.name) from error


def _roll_back(transaction: Any, connection: Connection) -> None:
    """Roll back, also where the server has done so already or is gone: the first error is the one to tell."""
    try:
        transaction.rollback()
    except Exception:
        connection.invalidate()


def driver_error(database: Database) -> type[Exception]:
    """Return the driver's own class of errors: SQLAlchemy lets them through where a connection is lost as its isolation
    level is set."""
    errors: type[Exception] = database.engine.dialect.loaded_dbapi.Error
    return errors


def error_number(error: BaseException) -> str:
    """Return the driver's code of an error: what a log may say, while texts may carry values."""
    orig = getattr(error, "orig", error)
    name = getattr(orig, "sqlite_errorname", None)
    if name:
        return str(name)
    args = getattr(orig, "args", ())
    return str(args[0]) if args and isinstance(args[0], int) else type(orig).__name__


def translate(error: BaseException, name: str) -> DatabaseError | BadData:
    """Turn a driver's error into ours: one sentence, without values and secrets."""
    verdict = classify(error)
    number = error_number(error)
    match verdict:
        case Verdict.DISK_FULL:
            return DiskFull(
                f"the disk of the database is full or failing ({number})",
                where=name,
                help="make room and run again: nothing is half-written, and the job goes on where it was",
            )
        case Verdict.REFUSED:
            orig = getattr(error, "orig", error)
            args = getattr(orig, "args", ())
            code = args[0] if args and isinstance(args[0], int) else None
            said = (
                dialect.MYSQL_REFUSED.get(code, "it cannot be opened or written")
                if code
                else ("the file cannot be opened or written")
            )
            return DatabaseDown(
                f"the database refused: {said} ({number})",
                where=name,
                help="mend the URL, the password or the rights; `waveimport check` tries them",
            )
        case Verdict.LOST | Verdict.UNREACHABLE:
            return DatabaseDown(
                f"the database cannot be reached ({number})",
                where=name,
                help="start it or mend `database.url`; the next run goes on where this one was",
            )
        case Verdict.DAMAGED:
            return DatabaseError(
                f"the file is no SQLite database, or is damaged ({number})",
                where=name,
                help="name another file; or bring it back from a backup, or move it away with its `-wal`, and a run"
                " begins anew",
            )
        case Verdict.BAD_VALUE:
            return BadData(f"the database refused a value of a row ({number})", where=name)
        case _:
            return DatabaseError(
                f"the database refused a statement ({number}: {safe_text(error)})",
                where=name,
                help="run again with -vv for the statement",
            )


def safe_text(error: BaseException) -> str:
    """Return the driver's text up to the first quote, behind which values stand."""
    orig = getattr(error, "orig", error)
    args: tuple[object, ...] = getattr(orig, "args", ())
    message: object = args[1] if len(args) > 1 else orig
    text = str(message)
    return text.split("'")[0].strip()[:120]
