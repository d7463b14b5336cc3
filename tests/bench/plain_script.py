"""The script that one writes in an afternoon: requests, json, executemany.

    python tests/bench/plain_script.py URL --port PORT --orders N --lines N [--threads 1] [--signed]

Pages by key, values typed by Python functions, an upsert by `executemany`, a commit a page. With `--threads` the pages
are asked for by a pool and written by the main thread. Unsigned, as the server does not look; `--signed` signs by
requests_oauthlib. The tables are those of `byhand.py`. Prints JSON.
"""

import argparse
import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import pymysql
import requests
from byhand import PAGE, TABLES, ddl, pages
from page_server import SUITEQL
from requests_oauthlib import OAuth1

local = threading.local()


def ask(told: argparse.Namespace, sql: str) -> list[dict[str, str]]:
    """Return the rows of a page."""
    if not hasattr(local, "session"):
        local.session = requests.Session()
        if told.signed:
            local.session.auth = OAuth1("k", "s", "t", "u", signature_method="HMAC-SHA256", realm="1_SB1")
    reply = local.session.post(
        f"http://127.0.0.1:{told.port}{SUITEQL}?limit={PAGE}&offset=0", json={"q": sql}, headers={"Prefer": "transient"}
    )
    reply.raise_for_status()
    items: list[dict[str, str]] = reply.json()["items"]
    return items


def typing_of(kind: str, *, mysql: bool) -> Callable[[str], Any]:
    """Return the function that types a value."""
    if kind == "integer":
        return int
    if kind == "boolean":
        return lambda value: value == "T"
    if kind.startswith("decimal"):
        return Decimal if mysql else float
    return str


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--orders", type=int, required=True)
    parser.add_argument("--lines", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--signed", action="store_true")
    told = parser.parse_args()
    mysql = not told.url.startswith("sqlite")
    began = time.perf_counter()
    connection: Any
    if mysql:
        parts = urlsplit(told.url)
        connection = pymysql.connect(
            host=parts.hostname, port=parts.port or 3306, user=parts.username, database=parts.path[1:],
            charset="utf8mb4", ssl_disabled=True,
        )  # fmt: skip
    else:
        connection = sqlite3.connect(told.url.removeprefix("sqlite:///"))
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
    cursor = connection.cursor()
    statements, types = {}, {}
    for table, _, columns in TABLES:
        for sql in ddl(table, columns, mysql=mysql, bare=False):
            cursor.execute(sql)
        names = [f"`{name}`" for name in (*columns, "_job_id", "_synced_at")]
        sign = "%s" if mysql else "?"
        insert = f"INSERT INTO `{table}` ({', '.join(names)}) VALUES ({', '.join([sign] * len(names))})"
        statements[table] = (
            f"{insert} ON DUPLICATE KEY UPDATE {', '.join(f'{name} = VALUES({name})' for name in names[1:])}"
            if mysql
            else f"{insert} ON CONFLICT ({names[0]}) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in names[1:])
        )
        types[table] = {name: typing_of(kind, mysql=mysql) for name, kind in columns.items()}
    count = 0

    def write(table: str, items: list[dict[str, str]]) -> None:
        moment = time.strftime("%Y-%m-%d %H:%M:%S")
        rows = []
        for item in items:
            row = []
            for name, typed in types[table].items():
                value = item.get(name)
                row.append(None if value is None else typed(value))
            rows.append((*row, "plain", moment))
        cursor.executemany(statements[table], rows)
        connection.commit()

    def one_by_one() -> Iterator[tuple[str, list[dict[str, str]]]]:
        for table, source, columns in TABLES:
            key, last = next(iter(columns)), 0
            listed = ", ".join(f"t.{name}" for name in columns)
            while items := ask(told, f"SELECT {listed} FROM {source} t WHERE t.{key} > {last} ORDER BY t.{key}"):
                yield table, items
                last = int(items[-1][key])

    def by_a_pool() -> Iterator[tuple[str, list[dict[str, str]]]]:
        every = list(pages(told.orders, told.lines))
        with ThreadPoolExecutor(told.threads) as pool:
            # A window of pages in flight: without one the pool holds all of them in memory.
            for start in range(0, len(every), 4 * told.threads):
                part = every[start : start + 4 * told.threads]
                yield from zip(
                    (table for table, _ in part), pool.map(lambda page: ask(told, page[1]), part), strict=True
                )

    for table, items in one_by_one() if told.threads == 1 else by_a_pool():
        write(table, items)
        count += len(items)
    print(json.dumps({"rows": count, "seconds": round(time.perf_counter() - began, 3)}))


if __name__ == "__main__":
    main()
