"""The account's data: TPC-H by `tpchgen-cli`, mapped to NetSuite's tables, in one SQLite file.

mapping.py says what becomes what. Everything is a function of the scale alone: two builds hold the same rows.
"""

import contextlib
import os
import sqlite3
import tempfile
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path

from waveimport.errors import UsageError
from waveimport.simulator import mapping
from waveimport.simulator.schema import TABLES, Table

DATASET_VERSION = 3  # raised with every change of the mapping, so that a kept file of the old one is refused


def build(path: Path, scale: float, progress: Callable[[str], None] | None = None) -> None:
    """Build the account of `scale` (1 is 6 million lines) at `path`, which appears whole or not at all.

    Memory stays flat: rows stream from the generator's files (beside `path`, 1 GB at scale 1, gone at the end).
    `progress` is told the name of each table begun.
    Raises MissingExtra without `tpchgen-cli`, UsageError for a scale out of bounds or when the generator fails.
    """
    if not 0.001 <= scale <= 100:
        raise UsageError(
            f"the scale {scale} is not between 0.001 and 100", help="0.01 is 15,000 orders, 1 is 1.5 million"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    partial.unlink(missing_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(prefix=f"{path.name}.", dir=path.parent) as source,
            contextlib.closing(sqlite3.connect(partial, isolation_level=None)) as connection,
        ):
            _fill(connection, Path(source), scale, progress or (lambda _name: None))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def open_or_build(path: Path, scale: float, progress: Callable[[str], None] | None = None) -> None:
    """Build the account at `path` unless it stands there already. Raises UsageError if the file holds another."""
    if not path.exists():
        build(path, scale, progress)
        return
    held = built_scale(path)
    if held != scale:
        raise UsageError(
            f"the data file holds an account of scale {held:g}, not {scale:g}",
            where=str(path),
            help=f"pass --scale {held:g}, or another --data file",
        )


def built_scale(path: Path) -> float:
    """Return the scale of the account in the file at `path`. Raises UsageError if there is none of this version."""
    try:
        with contextlib.closing(connect(path)) as connection:
            facts = dict(connection.execute("SELECT name, value FROM _account").fetchall())
    except sqlite3.Error:
        facts = {}
    if facts.get("version") != str(DATASET_VERSION):
        raise UsageError(
            "the data file is not an account that this version built",
            where=str(path),
            help="name another --data file, or delete this one and it is built anew",
        )
    return float(facts["scale"])


def connect(path: Path, *, live: bool = False) -> sqlite3.Connection:
    """Open the account at `path` read-only, usable from one thread at a time; `live` if it changes meanwhile."""
    uri = f"{path.absolute().as_uri()}?mode=ro{'' if live else '&immutable=1'}"
    connection = sqlite3.connect(
        uri, uri=True, check_same_thread=False, isolation_level=None, cached_statements=256, timeout=60
    )
    connection.execute("PRAGMA mmap_size = 4294967296")
    # Oracle's LIKE tells upper case from lower.
    connection.execute("PRAGMA case_sensitive_like = ON")
    return connection


def ground_truth(
    path: Path, table: str, columns: tuple[str, ...] | list[str], where: str = "1"
) -> Iterator[tuple[str | None, ...]]:
    """Yield the rows of `table` straight from the file, by its first key, each value as the service serves it.

    Values are strings or None: decimals exact and without trailing zeros, flags "T"/"F", dates "YYYY-MM-DD",
    timestamps "YYYY-MM-DD HH:MM:SS" in UTC (as TO_CHAR in these formats gives them). `where` is SQLite's SQL over the
    stored columns (schema.py says how each kind is stored), e.g. "type = 'SalesOrd'".
    """
    listed = ", ".join(f'CAST("{column}" AS TEXT)' for column in columns)
    with contextlib.closing(connect(path)) as connection:
        yield from connection.execute(
            f'SELECT {listed} FROM "{table}" WHERE {where} ORDER BY "{TABLES[table].keys[0][0]}"'
        )


def _fill(connection: sqlite3.Connection, source: Path, scale: float, progress: Callable[[str], None]) -> None:
    # The file is thrown away if anything goes wrong, so neither journal nor sync is worth its time.
    connection.execute("PRAGMA journal_mode = OFF")
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA cache_size = -65536")
    connection.execute("PRAGMA page_size = 8192")
    connection.execute("BEGIN")
    for table in TABLES.values():
        connection.execute(_create(table))
    progress("generator")
    mapping.generate(source, scale)
    others = array("q")  # ids of the transactions that are no orders, in the order of their ids
    steps: tuple[tuple[str, Callable[[], Iterator[mapping.Row]]], ...] = (
        ("subsidiary", lambda: mapping.subsidiaries(source)),
        ("customer", lambda: mapping.customers(source)),
        ("vendor", lambda: mapping.vendors(source)),
        ("item", lambda: mapping.items(source)),
        ("transaction", lambda: mapping.transactions(source, others)),
        ("transactionline", lambda: mapping.lines(connection, source, others)),
        ("customrecord_measurement", mapping.measurements),
    )
    for name, rows in steps:
        progress(name)
        marks = ", ".join("?" * len(TABLES[name].columns))
        connection.executemany(f'INSERT INTO "{name}" VALUES ({marks})', rows())
    progress("indexes")
    for table in TABLES.values():
        for index in table.indexes:
            named = "_".join((table.name, *index))
            listed = ", ".join(f'"{column}"' for column in index)
            connection.execute(f'CREATE INDEX "{named}" ON "{table.name}" ({listed})')
    connection.execute("CREATE TABLE _account (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    facts = [("version", str(DATASET_VERSION)), ("scale", repr(float(scale)))]
    connection.executemany("INSERT INTO _account VALUES (?, ?)", facts)
    connection.execute("COMMIT")
    connection.execute("PRAGMA analysis_limit = 10000")
    connection.execute("ANALYZE")


def _create(table: Table) -> str:
    first = table.keys[0][0] if table.keys else None
    listed = ", ".join(
        f'"{column.name}" {column.storage}'
        + (" PRIMARY KEY" if column.name == first else "" if column.nullable else " NOT NULL")
        for column in table.columns
    )
    return f'CREATE TABLE "{table.name}" ({listed})'
