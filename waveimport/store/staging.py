"""Pages staged as small databases of SQLite: made where a page is read, taken over where it lands.

The values of a statement are bound one by one under Python's lock: half of what an upsert costs the writer, and all
other threads of the run wait meanwhile. So a process that reads pages puts the rows of each into a database in its
memory and sends that as it is (sqlite3_serialize). The writer hangs it in beside the destination (sqlite3_deserialize),
and one INSERT … SELECT upserts its rows inside SQLite, without the lock.

No column of the staged table has a type, so that a value goes through unchanged and the destination's table makes of it
what it would have made of the value bound.
"""

import contextlib
import sqlite3
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

from waveimport.core.rows import Row
from waveimport.store.packing import STAGED, Packed, Packing

SLOTS_MOST = 10
"""Pages that can be hung in at once: what SQLite is mostly built for."""
ROWS_LEAST = 500
"""Rows of a page that is worth it; of so many the writer takes no more into one commit than can be hung in."""
VALUES_A_STATEMENT = 1_500
"""As quick as ten times as many, in a third of the memory."""
_LAID_OUT = "waveimport_laid_out"


def stager_of(packing: Packing) -> Callable[[Packed], Packed]:
    """Return what makes of packed rows what is sent to the run: for SQLite a database, for MySQL bytes."""
    if packing.mysql or not _is_possible():
        return Packed.as_bytes
    return Stager(len(packing.kinds)).stage


def _is_possible() -> bool:
    """Whether this SQLite can put a database into bytes: it may be built without."""
    return hasattr(sqlite3.Connection, "serialize")


class Stager:
    """Makes databases of pages of so many columns. For one thread."""

    def __init__(self, width: int) -> None:
        self._width = width
        self._database = sqlite3.connect(":memory:", isolation_level=None)
        # Else a page would take the room of the largest before it.
        self._database.execute("PRAGMA auto_vacuum = FULL")
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(f"CREATE TABLE {STAGED} ({', '.join(columns(width))})")
        self._row = f"({', '.join('?' * width)})"
        self._most = max(1, VALUES_A_STATEMENT // width)

    def stage(self, packed: Packed) -> Packed:
        """Return the same rows as a database, few as bytes. Raises what sqlite3 raises of a value that it refuses."""
        if packed.count < ROWS_LEAST:
            return packed.as_bytes()
        values, width, at = packed.objects(), self._width, 0
        self._database.execute(f"DELETE FROM {STAGED}")
        while at < packed.count:
            # Powers of two: prepared statements are kept, one for every number of rows would be too many.
            rows = self._most if packed.count - at >= self._most else 1 << ((packed.count - at).bit_length() - 1)
            self._database.execute(
                f"INSERT INTO {STAGED} VALUES {', '.join([self._row] * rows)}", values[at * width : (at + rows) * width]
            )
            at += rows
        return Packed(packed.count, self._database.serialize(), is_database=True)


def columns(width: int) -> list[str]:
    """Return the names of a staged table's columns."""
    return [f"c{number}" for number in range(width)]


def lay_out(connection: Any, pages: Sequence[Sequence[Row] | Packed]) -> None:
    """Hang those of the pages in that are databases, before a transaction begins, and take out what hung there.

    `connection` is SQLAlchemy's. What cannot be hung in is read from its bytes where it lands.
    """
    staged = [page for page in pages if isinstance(page, Packed) and page.is_database]
    before: list[Packed] | None = connection.info.get(_LAID_OUT)
    if connection.dialect.name != "sqlite" or not (staged or before):
        return
    driver: sqlite3.Connection = connection.connection.driver_connection
    slots = slots_of(driver)
    if before is None:
        for number in range(slots):
            driver.execute(f"ATTACH ':memory:' AS {_schema(number)}")
    hung_in: list[Packed] = []
    connection.info[_LAID_OUT] = hung_in
    for number, page in enumerate(staged[:slots]):
        if not _hang_in(driver, _schema(number), page):
            break
        hung_in.append(page)
    for number in range(len(hung_in), len(before or ())):
        driver.deserialize(_nothing(), name=_schema(number))


def _hang_in(driver: sqlite3.Connection, schema: str, page: Packed) -> bool:
    """Hang a page in, if it can be read and has the rows that it says; else nothing hangs there."""
    assert isinstance(page.parts, bytes)
    try:
        driver.deserialize(page.parts, name=schema)
        # Only now are the bytes looked at; one database that cannot be read fails every statement beside it.
        found = driver.execute(f"SELECT COUNT(*) FROM {schema}.{STAGED}").fetchone()
    except (sqlite3.Error, MemoryError):
        found = None
    if found == (page.count,):
        return True
    driver.deserialize(_nothing(), name=schema)
    return False


@lru_cache(maxsize=1)
def _nothing() -> bytes:
    """Return a database with no page."""
    with contextlib.closing(sqlite3.connect(":memory:")) as database:
        database.execute(f"CREATE TABLE {STAGED} (c0)")
        return database.serialize()


def slots_of(driver: sqlite3.Connection) -> int:
    """Return how many pages can be hung in at a connection at once: none beside a database that is not in UTF-8, as
    those that SQLite is to read together must have one encoding."""
    if not _is_possible() or driver.execute("PRAGMA main.encoding").fetchone() != ("UTF-8",):
        return 0
    return min(SLOTS_MOST, driver.getlimit(sqlite3.SQLITE_LIMIT_ATTACHED))


def _schema(number: int) -> str:
    return f"page{number}"


def table_of(connection: Any, packed: Packed) -> str | None:
    """Return the name of the table in which a page is hung in at a connection, None where it is not."""
    for number, page in enumerate(connection.info.get(_LAID_OUT) or ()):
        if page is packed:
            return f"{_schema(number)}.{STAGED}"
    return None
