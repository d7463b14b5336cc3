"""Engines for both databases, set as experiment found them right.

**SQLite.** Only this is right on Python 3.11 to 3.13: the driver's own transaction handling switched off
(`isolation_level = None`) and a dialect that emits BEGIN IMMEDIATE, which is the row lock of this database.
The driver's default and `isolation_level="IMMEDIATE"` both lose updates; a deferred BEGIN that turns into a write
fails with BUSY_SNAPSHOT, which no timeout cures. After FULL, IOERR or INTERRUPT SQLite has ended the transaction
silently and the next INSERT would commit by itself: every statement and the commit first ask `in_transaction`.
SQLAlchemy's default pool for SQLite closes connections that other threads are using, which crashes the interpreter.
WAL with synchronous=FULL, because NORMAL loses acknowledged commits in a power cut. The WAL is moved into the file at
16 MB instead of 4, so that pages which many commits change are moved once.

**MySQL.** READ COMMITTED: under the default REPEATABLE READ a plain SELECT after an earlier one is stale even when
the locking read beside it is fresh, which alone calls a job complete while a batch runs. Strict mode, UTC and a
bounded idle transaction are set on every connection.
"""

import logging
import sqlite3
import urllib.parse
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, Connection, make_url
from sqlalchemy.exc import ArgumentError
from sqlalchemy.pool import QueuePool

from waveimport.errors import BadValue, DatabaseDown
from waveimport.store.sqlite_driver import GUARDED

# The pool logs a traceback for each connection that a lost server takes with it; the loss itself is told by us.
logging.getLogger("sqlalchemy.pool").setLevel(logging.CRITICAL)

SQLITE_BUSY_SECONDS = 60.0
_FILE = "waveimport-file"
MYSQL_RECYCLE_SECONDS = 600
"""The age at which a connection is made anew: firewalls drop those that they take for idle, mostly after longer."""
MYSQL_SQL_MODE = "STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION,ERROR_FOR_DIVISION_BY_ZERO,NO_ZERO_DATE,NO_ZERO_IN_DATE"


def parse_url(url: str) -> URL:
    """Return the URL as SQLAlchemy's, its driver named. Raises BadValue for another database than the two."""
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise BadValue("the database URL cannot be read", help="write sqlite:///file.db or mysql+pymysql://…") from None
    name = parsed.get_backend_name()
    if name == "sqlite":
        return parsed.set(drivername="sqlite")
    if name in ("mysql", "mariadb"):
        return parsed.set(drivername="mysql+pymysql")
    raise BadValue(f"`{name}` is not a database of waveimport", help="use sqlite or mysql+pymysql")


def public_name(url: str) -> str:
    """Return the URL without user, password and query: for messages, locks and fingerprints."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return f"sqlite:///{parsed.database or ':memory:'}"
    return f"mysql://{parsed.host or 'localhost'}:{parsed.port or 3306}/{parsed.database or ''}"


def sqlite_path(url: str) -> Path | None:
    """Return the file of a SQLite URL, None for another database. Raises BadValue for one in memory."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        return None
    if not parsed.database or parsed.database == ":memory:":
        raise BadValue("a SQLite database in memory would be lost at the end of the run", help="name a file")
    return Path(parsed.database)


def open_engine(url: str) -> Engine:
    """Return the engine that writes. A SQLite file is made, mode 0600, with the first connection."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return _open_sqlite(url)
    return _open_mysql(parsed)


def open_reader(url: str) -> Engine:
    """Return an engine that only reads: it never waits for a writer, nor makes a file. For `status` and its like."""
    parsed = parse_url(url)
    if parsed.get_backend_name() != "sqlite":
        return _open_mysql(parsed, read_only=True)
    path = sqlite_path(url)
    assert path is not None

    engine = create_engine("sqlite://", creator=lambda: _connect_reader(path), hide_parameters=True)
    event.listen(engine, "begin", _begin_deferred)
    return engine


def _connect_reader(path: Path) -> sqlite3.Connection:
    """Connect without the right to write. A copy in a folder that cannot be written is read as it lies there.

    SQLite makes the file of its shared index even to read, and refuses where it cannot; without a `-wal` file nobody
    writes to the database, so that it may be read without one.
    """

    def connect(how: str) -> sqlite3.Connection:
        return sqlite3.connect(
            f"file:{urllib.parse.quote(str(path))}?{how}",
            uri=True,
            timeout=SQLITE_BUSY_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )

    connection = connect("mode=ro")
    try:
        connection.execute("SELECT 1 FROM sqlite_master").fetchone()
    except sqlite3.OperationalError as error:
        primary = error.sqlite_errorcode & 0xFF
        unwritable = primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
        if not unwritable or not path.exists() or path.with_name(path.name + "-wal").exists():
            raise
        connection.close()
        connection = connect("mode=ro&immutable=1")
    return connection


def _open_sqlite(url: str) -> Engine:
    path = sqlite_path(url)
    assert path is not None

    def connect() -> sqlite3.Connection:
        if not path.exists():
            path.touch(mode=0o600)
        connection = sqlite3.connect(
            path, timeout=SQLITE_BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=48
        )
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA wal_autocheckpoint = 4000")
        connection.execute("PRAGMA cache_size = -8192")
        return connection

    def remember_file(connection: sqlite3.Connection, record: Any) -> None:
        record.info[_FILE] = path, _identity(path)

    engine = create_engine(GUARDED, creator=connect, hide_parameters=True, poolclass=QueuePool)
    event.listen(engine, "connect", remember_file)
    return engine


def require_same_file(connection: Connection) -> None:
    """Raise DatabaseDown when a connection that writes to SQLite has lost its file: it was deleted or replaced.

    SQLite goes on writing into a file that has no name any more, and all of that is lost at the end. Nothing is
    asked of another database.
    """
    path, identity = connection.info.get(_FILE, (None, None))
    if path is not None and _identity(path) != identity:
        raise DatabaseDown(
            "the database file was deleted or replaced while the run wrote to it",
            where=str(path),
            help="put it back, or run again: a run goes by what the file of that name holds",
        )


def _identity(path: Path) -> tuple[int, int] | None:
    """Return the device and inode of a file, None where there is none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _begin_deferred(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN")


def _open_mysql(url: URL, *, read_only: bool = False) -> Engine:
    # A pool asks the server before and behind each use of a connection, by default: two of the four round trips of a
    # transaction. A transaction that meets a lost connection is run again anyway, with all of the pool made anew, and
    # none is left open: SQLAlchemy ends what was begun before it gives a connection back.
    engine = create_engine(
        url,
        isolation_level="READ COMMITTED",
        pool_reset_on_return=None,
        pool_recycle=MYSQL_RECYCLE_SECONDS,
        pool_size=8,
        max_overflow=8,
        hide_parameters=True,
        connect_args={
            "charset": "utf8mb4",
            "connect_timeout": 10,
            "read_timeout": 300,
            "write_timeout": 300,
            "local_infile": False,
        },
    )

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, args: Any, parameters: Any) -> Any:
        from waveimport.store.mysql_driver import QuickConnection

        return QuickConnection(*args, **parameters)

    @event.listens_for(engine, "connect")
    def prepare(connection: Any, record: Any) -> None:
        settings = f"SET SESSION time_zone = '+00:00', sql_mode = '{MYSQL_SQL_MODE}', innodb_lock_wait_timeout = 20"
        with connection.cursor() as cursor:
            cursor.execute("SELECT VERSION()")
            if "mariadb" in str(cursor.fetchone()[0]).lower():
                # A holder that hangs inside a transaction must not hold the job row for ever.
                settings += ", idle_transaction_timeout = 30"
            cursor.execute(settings)
            if read_only:
                cursor.execute("SET SESSION TRANSACTION READ ONLY")

    return engine
