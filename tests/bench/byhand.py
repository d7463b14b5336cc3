"""What the hardware allows: fetch, decode, upsert, and nothing else.

    python tests/bench/byhand.py URL --port PORT --orders N --lines N [--threads 4] [--writers 1] [--bare]

Unsigned requests by http.client in `--threads` threads, typed msgspec Structs, statements of 1,000 rows, `--writers`
threads that write (one for SQLite): no job, no batches, no resuming, no checks, no deletions. The tables are those
that `waveimport run` makes, its two columns and the index on the parent included; `--bare` leaves these away. SQLite
is set as the product sets it (WAL, synchronous FULL); on MySQL the rows are one escaped string a statement, which is
the fastest of the statements that PyMySQL has. Run again it upserts the same rows. Prints JSON.
"""

import argparse
import http.client
import json
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pymysql
from page_server import LINE_COLUMNS, ORDER_COLUMNS, SUITEQL
from pymysql.converters import escape_string

PAGE = 1000
GROUP = 5
"""Pages in one commit, where so many are there."""
Page = tuple[str, list[Any]]
JOB = "by_hand"
TYPES = {
    "sqlite": {"integer": "INTEGER", "boolean": "INTEGER", "text": "TEXT", "date": "TEXT", "timestamp": "TEXT"},
    "mysql": {"integer": "BIGINT", "boolean": "TINYINT", "text": "LONGTEXT", "date": "DATE", "timestamp": "DATETIME"},
}
TABLES = (("salesorder", "transaction", ORDER_COLUMNS), ("salesorderline", "transactionline", LINE_COLUMNS))


def ddl(table: str, columns: dict[str, str], *, mysql: bool, bare: bool) -> list[str]:
    """Return the statements that make a table as the product makes it."""
    types = TYPES["mysql" if mysql else "sqlite"]
    key = next(iter(columns))
    body = []
    for name, kind in columns.items():
        sql = types.get(kind) or (kind if mysql else "NUMERIC")
        body.append(f"`{name}` {sql}{' NOT NULL' if name == key else ' NULL' if mysql else ''}")
    if not bare:
        body.append(f"_job_id {'VARCHAR(64)' if mysql else 'TEXT'} NOT NULL")
        body.append(f"_synced_at {'DATETIME(6)' if mysql else 'TEXT'} NOT NULL")
    body.append(f"PRIMARY KEY (`{key}`)")
    options = " ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin" if mysql else ""
    made = [f"CREATE TABLE IF NOT EXISTS `{table}` ({', '.join(body)}){options}"]
    if "transaction" in columns and not bare:
        made.append(f"CREATE INDEX IF NOT EXISTS {table}_by_parent ON `{table}` (`transaction`)")
    return made


def decoder(columns: dict[str, str]) -> "msgspec.json.Decoder[Any]":
    """Return a decoder of pages into typed rows."""
    fields = [
        (f"f{at}", int | None if kind == "integer" else str | None, None) for at, kind in enumerate(columns.values())
    ]
    row = msgspec.defstruct("Row", fields, rename={f"f{at}": name for at, name in enumerate(columns)}, gc=False)
    return msgspec.json.Decoder(msgspec.defstruct("Reply", [("items", list[row])]), strict=False)  # type: ignore[valid-type]


def sqlite_writer(path: str, bare: bool) -> Callable[[list[Page]], None]:
    """Return what upserts pages into SQLite and commits them."""
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    statements: dict[tuple[str, int], str] = {}
    for table, _, columns in TABLES:
        for sql in ddl(table, columns, mysql=False, bare=bare):
            connection.execute(sql)

    def statement(table: str, rows: int) -> str:
        columns = next(columns for name, _, columns in TABLES if name == table)
        values = ", ".join("? = 'T'" if kind == "boolean" else "?" for kind in columns.values())
        names = [f"`{name}`" for name in columns]
        if not bare:
            values += ", ?1, ?2"
            names += ["_job_id", "_synced_at"]
        # A numbered parameter counts for those behind it: the two come first.
        lead = "" if bare else "WITH always AS (SELECT ?1, ?2) "
        pairs = ", ".join(f"{name} = excluded.{name}" for name in names[1:])
        return (
            f"{lead}INSERT INTO `{table}` ({', '.join(names)}) VALUES {', '.join([f'({values})'] * rows)}"
            f" ON CONFLICT ({names[0]}) DO UPDATE SET {pairs}"
        )

    def write(pages: list[Page]) -> None:
        connection.execute("BEGIN IMMEDIATE")
        for table, rows in pages:
            sql = statements.get((table, len(rows)))
            if sql is None:
                sql = statements[table, len(rows)] = statement(table, len(rows))
            flat: list[Any] = [] if bare else [JOB, time.strftime("%Y-%m-%d %H:%M:%S")]
            for row in rows:
                flat.extend(msgspec.structs.astuple(row))
            connection.execute(sql, flat)
        connection.execute("COMMIT")

    return write


def mysql_writer(url: str, bare: bool) -> Callable[[list[Page]], None]:
    """Return what upserts pages into MySQL and commits them."""
    parts = urlsplit(url)
    connection = pymysql.connect(
        host=parts.hostname,
        port=parts.port or 3306,
        user=parts.username,
        database=parts.path[1:],
        charset="utf8mb4",
        ssl_disabled=True,
    )
    cursor = connection.cursor()
    made = {}
    for table, _, columns in TABLES:
        for sql in ddl(table, columns, mysql=True, bare=bare):
            cursor.execute(sql)
        names = [f"`{name}`" for name in columns] + ([] if bare else ["_job_id", "_synced_at"])
        pairs = ", ".join(f"{name} = VALUES({name})" for name in names[1:])
        bare_kinds = [kind == "integer" or kind.startswith("decimal") for kind in columns.values()]
        flags = [kind == "boolean" for kind in columns.values()]
        made[table] = (
            f"INSERT INTO `{table}` ({', '.join(names)}) VALUES ",
            f" ON DUPLICATE KEY UPDATE {pairs}",
            list(zip(bare_kinds, flags, strict=True)),
        )

    def rendered(values: tuple[Any, ...], plain: bool, flag: bool) -> list[str]:
        if flag:
            return ["NULL" if value is None else "1" if value == "T" else "0" for value in values]
        if plain:
            return ["NULL" if value is None else str(value) for value in values]
        return ["NULL" if value is None else f"'{escape_string(value)}'" for value in values]

    def write(pages: list[Page]) -> None:
        for table, rows in pages:
            head, tail, kinds = made[table]
            by_column = zip(*map(msgspec.structs.astuple, rows), strict=True)
            columns = [rendered(values, *kind) for values, kind in zip(by_column, kinds, strict=True)]
            end = "" if bare else f", '{JOB}', UTC_TIMESTAMP(6)"
            values = ", ".join([f"({', '.join(row)}{end})" for row in zip(*columns, strict=True)])
            cursor.execute(head + values + tail)
        connection.commit()

    return write


def pages(orders: int, lines: int) -> Iterator[tuple[str, str]]:
    """Yield (table, query) of every page."""
    for table, source, columns in TABLES:
        key = next(iter(columns))
        for start in range(0, orders if table == "salesorder" else lines, PAGE):
            listed = ", ".join(f"t.{name}" for name in columns)
            within = f"t.{key} > {start} AND t.{key} <= {start + PAGE}"
            yield table, f"SELECT {listed} FROM {source} t WHERE {within} ORDER BY t.{key}"


def fetch(port: int, todo: "queue.SimpleQueue[tuple[str, str] | None]", done: "queue.Queue[Any]") -> None:
    """Ask for pages until there are no more."""
    decoders = {table: decoder(columns) for table, _, columns in TABLES}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    while (page := todo.get()) is not None:
        table, sql = page
        body = json.dumps({"q": sql})
        connection.request("POST", f"{SUITEQL}?limit={PAGE}&offset=0", body, {"Content-Type": "application/json"})
        done.put((table, decoders[table].decode(connection.getresponse().read()).items))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--lines", type=int, required=True)
    parser.add_argument("--threads", type=int, default=4)
    parser.add_argument("--writers", type=int, default=1)
    parser.add_argument("--bare", action="store_true")
    told = parser.parse_args()
    mysql = not told.url.startswith("sqlite")
    began = time.perf_counter()
    todo: queue.SimpleQueue[tuple[str, str] | None] = queue.SimpleQueue()
    done: queue.Queue[Any] = queue.Queue(maxsize=8)
    for page in pages(told.orders, told.lines):
        todo.put(page)
    rows = [0]

    def write_all(write: Callable[[list[Page]], None]) -> None:
        last = False
        while not last and (page := done.get()) is not None:
            group = [page]
            while len(group) < GROUP and not last:
                try:
                    page = done.get_nowait()
                except queue.Empty:
                    break
                last = page is None
                group += [] if last else [page]
            write(group)
            rows[0] += sum(len(items) for _, items in group)

    def writer() -> Callable[[list[Page]], None]:
        if mysql:
            return mysql_writer(told.url, told.bare)
        return sqlite_writer(str(Path(told.url.removeprefix("sqlite:///"))), told.bare)

    writers = [threading.Thread(target=write_all, args=(writer(),)) for _ in range(told.writers)]
    fetchers = [threading.Thread(target=fetch, args=(told.port, todo, done)) for _ in range(told.threads)]
    for thread in (*writers, *fetchers):
        thread.start()
    for _ in fetchers:
        todo.put(None)
    for thread in fetchers:
        thread.join()
    for _ in writers:
        done.put(None)
    for thread in writers:
        thread.join()
    print(json.dumps({"rows": rows[0], "seconds": round(time.perf_counter() - began, 3)}))


if __name__ == "__main__":
    main()
