"""Serve pages that were rendered beforehand, so that the source is never what bounds an import.

    python tests/bench/page_server.py --orders 150000
    python tests/bench/page_server.py --orders 150000 --null 4

The account is synthetic and fixed: orders 1..n, each with one to seven lines, four on average. Every row is rendered
once into one file in memory; a page is a slice of it, found by the keys that the query names and handed to the socket
as it is. It answers the queries that an import asks (bounds, counts, ranges and pages behind a key, lines by the list
of their orders, whose ids must follow one another) and no others. Logins are not looked at. `--null` measures how many
rows a second clients get that read the pages and drop them: several times what any importer does, or the figures say
nothing. `--latency` has each request wait, by a draw that depends on its text alone; `--log` writes what was asked.
"""

import argparse
import contextlib
import json
import mmap
import os
import random
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from pathlib import Path
from typing import Any

LINES_MOST = 7
PERIOD = 1009
"""After so many rows the values repeat, keys apart."""
WORDS = """carefully final packages sleep quickly above the express deposits that nag furiously against ironic
ideas""".split()  # noqa: SIM905
SUITEQL = "/services/rest/query/v1/suiteql"

ORDER_COLUMNS = {
    "id": "integer", "tranid": "text", "trandate": "date", "status": "text", "entity": "integer",
    "foreigntotal": "decimal(15,2)", "posting": "boolean", "lastmodifieddate": "timestamp", "memo": "text",
    "custbody_orderpriority": "text", "custbody_clerk": "text", "custbody_shippriority": "integer",
}  # fmt: skip
LINE_COLUMNS = {
    "uniquekey": "integer", "transaction": "integer", "linesequencenumber": "integer", "mainline": "boolean",
    "item": "integer", "quantity": "integer", "rate": "decimal(15,2)", "netamount": "decimal(15,2)", "memo": "text",
    "linelastmodifieddate": "timestamp", "custcol_returnflag": "text", "custcol_shipdate": "date",
    "custcol_shipmode": "text",
}  # fmt: skip


def _inline(columns: dict[str, str]) -> str:
    return "{ " + ", ".join(f'{name} = "{kind}"' for name, kind in columns.items()) + " }"


RECORDS = f"""
[records.salesorder]
table = "transaction"
where = "type = 'SalesOrd'"
columns = {_inline(ORDER_COLUMNS)}

[records.salesorderline]
table = "transactionline"
key = "uniquekey"
derived_from = "salesorder"
parent_key = "transaction"
columns = {_inline(LINE_COLUMNS)}
"""


def lines_of(order: int) -> int:
    """How many lines an order has."""
    return 1 + (order * 2654435761 >> 9) % LINES_MOST


# --- the account ----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Rows:
    """The rendered rows of one table: row i (from 0, its key is i + 1) is `body[ends[i]:ends[i + 1]]`, a comma last."""

    body: mmap.mmap
    ends: "array[int]"

    def __len__(self) -> int:
        return len(self.ends) - 1


@dataclass(slots=True)
class Account:
    """All orders and lines. The lines of order k are those from `first_lines[k - 1]` to before `first_lines[k]`."""

    orders: Rows
    lines: Rows
    first_lines: "array[int]"

    @classmethod
    def make(cls, orders: int) -> "Account":
        """Render an account of so many orders."""
        order_tails, line_tails = _order_tails(), _line_tails()
        first_lines = array("Q", [0])
        for order in range(1, orders + 1):
            first_lines.append(first_lines[-1] + lines_of(order))

        def order_rows() -> Iterator[bytes]:
            for order in range(1, orders + 1):
                yield b'{"links":[],"id":"%d","tranid":"SO%07d",%s' % (order, order, order_tails[order % PERIOD])

        def line_rows() -> Iterator[bytes]:
            key = 0
            for order in range(1, orders + 1):
                for number in range(1, lines_of(order) + 1):
                    key += 1
                    yield b'{"links":[],"uniquekey":"%d","transaction":"%d","linesequencenumber":"%d",%s' % (
                        key, order, number, line_tails[key % PERIOD],
                    )  # fmt: skip

        return cls(_rendered(order_rows()), _rendered(line_rows()), first_lines)

    def numbers(self) -> dict[str, int]:
        """How many rows there are."""
        return {"orders": len(self.orders), "lines": len(self.lines), "rows": len(self.orders) + len(self.lines)}


def _rendered(rows: Iterator[bytes]) -> Rows:
    ends = array("Q", [0])
    with tempfile.TemporaryFile(dir="/dev/shm" if Path("/dev/shm").is_dir() else None, buffering=1 << 20) as file:
        at = 0
        for row in rows:
            at += file.write(row)
            ends.append(at)
        file.flush()
        return Rows(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), ends)


def _text(of: random.Random, least: int, most: int) -> str:
    return " ".join(of.choices(WORDS, k=of.randint(least, most)))


def _day(of: random.Random) -> str:
    return f"{of.randint(1992, 1998)}-{of.randint(1, 12):02d}-{of.randint(1, 28):02d}"


def _moment(of: random.Random) -> str:
    return f"{_day(of)} {of.randint(0, 23):02d}:{of.randint(0, 59):02d}:{of.randint(0, 59):02d}"


def _money(of: random.Random, most: int) -> str:
    """A decimal as the service writes it: no zeros at its end."""
    whole, cents = of.randint(1, most), of.randint(0, 99)
    return f"{whole}.{cents:02d}".rstrip("0").rstrip(".")


def _tail(values: dict[str, str]) -> bytes:
    """Return the end of a row: its values but the keys, the brace, the comma."""
    return json.dumps(values, separators=(",", ":"))[1:].encode() + b","


def _order_tails() -> list[bytes]:
    tails = []
    for number in range(PERIOD):
        of = random.Random(number)
        values = {
            "trandate": _day(of), "status": of.choice(["A", "B", "F", "G"]), "entity": str(of.randint(1, 15000)),
            "foreigntotal": _money(of, 400_000), "posting": of.choice(["T", "F"]), "lastmodifieddate": _moment(of),
            "memo": _text(of, 2, 8), "custbody_orderpriority": of.choice(["1-URGENT", "3-MEDIUM", "5-LOW"]),
            "custbody_clerk": f"Clerk#{of.randint(1, 1000):09d}", "custbody_shippriority": "0",
        }  # fmt: skip
        tails.append(_tail(values))
    return tails


def _line_tails() -> list[bytes]:
    tails = []
    for number in range(PERIOD):
        of = random.Random(-1 - number)
        values = {
            "mainline": "F", "item": str(of.randint(1, 200_000)), "quantity": str(of.randint(1, 50)),
            "rate": _money(of, 2000), "netamount": _money(of, 100_000), "memo": _text(of, 1, 6),
            "linelastmodifieddate": _moment(of), "custcol_returnflag": of.choice(["A", "N", "R"]),
            "custcol_shipdate": _day(of), "custcol_shipmode": of.choice(["TRUCK", "MAIL", "REG AIR", "SHIP"]),
        }  # fmt: skip
        if number % 10 == 0:
            del values["memo"]  # NULL
        tails.append(_tail(values))
    return tails


# --- the queries ----------------------------------------------------------------------------------------------------

_ABOVE = re.compile(rb"t\.(?:id|uniquekey) > (-?\d+)")
_UP_TO = re.compile(rb"t\.(?:id|uniquekey) <= (-?\d+)")
_PARENTS = re.compile(rb"t\.transaction IN \(([\d,]+)\)")
_LIMIT = re.compile(rb"[?&]limit=(\d+)")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Unanswerable(Exception):
    """A query that no import asks."""


@dataclass(slots=True)
class Answer:
    """What is sent: the body in pieces; and what the log says of it."""

    pieces: list[Any]
    table: str = "other"
    rows: int = 0
    facts: dict[str, int | bool] = field(default_factory=dict)


def answer(account: Account, sql: bytes, limit: int) -> Answer:
    """Answer a query with at most `limit` rows. Raises Unanswerable."""
    lines = b"FROM transactionline t" in sql
    table = "lines" if lines else "orders"
    if b"FROM dual" in sql:
        return Answer([_one({"n": "1"})])
    if b"COUNT(*)" in sql:
        count = len(account.lines if lines else account.orders)
        return Answer([_one({"n": str(count), "lo": "1", "hi": str(count)} if b" AS lo" in sql else {"n": str(count)})])
    rows = account.lines if lines else account.orders
    first, end = 0, len(rows)
    facts: dict[str, int | bool] = {}
    parents = _PARENTS.search(sql)
    if parents is not None:
        ids = parents[1]
        lowest, highest = int(ids[: (ids + b",").index(b",")]), int(ids[ids.rfind(b",") + 1 :])
        if highest - lowest != ids.count(b",") or not 0 < lowest <= highest <= len(account.orders):
            raise Unanswerable("the parents do not follow one another")
        first, end = account.first_lines[lowest - 1], account.first_lines[highest]
        facts = {"lowest": lowest, "highest": highest}
    above, up_to = _ABOVE.findall(sql), _UP_TO.search(sql)
    if above:
        first = max(first, int(above[-1]))
        facts["above"] = int(above[-1])
    if up_to:
        end = min(end, int(up_to[1]))
        facts["up_to"] = end
    total = max(0, end - first)
    count = min(total, limit)
    more = count < total
    head = b'{"links":[],"count":%d,"hasMore":%s,"items":[' % (count, b"true" if more else b"false")
    tail = b'],"offset":0,"totalResults":%d}' % total
    facts |= {"first": first + 1, "last": first + count, "more": more}
    if not count:
        return Answer([head, tail], table, 0, facts)
    body = memoryview(rows.body)[rows.ends[first] : rows.ends[first + count] - 1]
    return Answer([head, body, tail], table, count, facts)


def _one(row: dict[str, str]) -> bytes:
    reply = {"links": [], "count": 1, "hasMore": False, "items": [{"links": [], **row}], "offset": 0, "totalResults": 1}
    return json.dumps(reply).encode()


# --- HTTP -----------------------------------------------------------------------------------------------------------


class Server:
    """Answers on the loopback, a thread for each connection."""

    def __init__(self, account: Account, *, latency: float = 0.0, spread: float = 0.0, seed: int = 0) -> None:
        self._account = account
        self._latency, self._spread, self._seed = latency, spread, seed
        self.asked: list[dict[str, Any]] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._date = (0, b"")

    def serve(self) -> None:
        """Take connections in for ever."""
        while True:
            connection, _ = self._listener.accept()
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        kept = b""
        with connection, contextlib.suppress(OSError):
            while True:
                while (end := kept.find(b"\r\n\r\n")) < 0:
                    got = connection.recv(1 << 16)
                    if not got:
                        return
                    kept += got
                head = kept[:end]
                length = _LENGTH.search(head)
                size = end + 4 + (int(length[1]) if length else 0)
                while len(kept) < size:
                    kept += connection.recv(1 << 16)
                body, kept = kept[end + 4 : size], kept[size:]
                self._reply(connection, head, body)

    def _reply(self, connection: socket.socket, head: bytes, sql: bytes) -> None:
        began = time.monotonic()
        limit = _LIMIT.search(head)
        try:
            found = answer(self._account, sql, int(limit[1]) if limit else 1000)
            status = b"200 OK"
        except Unanswerable as why:
            found, status = Answer([json.dumps({"title": str(why)}).encode()]), b"400 Bad Request"
        if self._latency:
            drawn = self._drawn(sql)
            time.sleep(max(0.0, began + drawn - time.monotonic()))  # the latency that was asked for
            self.asked.append(
                {"began": began, "ended": time.monotonic(), "drawn": drawn, "table": found.table, **found.facts}
            )
        size = sum(map(len, found.pieces))
        http = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nDate: %s\r\n\r\n" % (
            status, size, self._now(),
        )  # fmt: skip
        _send_all(connection, [http, *found.pieces])

    def _drawn(self, sql: bytes) -> float:
        fraction = random.Random(zlib.crc32(sql) ^ self._seed).uniform(-1, 1)
        return self._latency * (1 + self._spread * fraction)

    def _now(self) -> bytes:
        second = int(time.time())
        if self._date[0] != second:
            self._date = (second, formatdate(second, usegmt=True).encode())
        return self._date[1]


def _send_all(connection: socket.socket, pieces: Sequence[Any]) -> None:
    sent = connection.sendmsg(pieces)
    for piece in pieces:
        if sent >= len(piece):
            sent -= len(piece)
            continue
        connection.sendall(memoryview(piece)[sent:])
        sent = 0


# --- to use it from a bench -----------------------------------------------------------------------------------------


@dataclass(slots=True)
class Served:
    """A server in a process of its own."""

    port: int
    orders: int
    lines: int
    pid: int

    @property
    def rows(self) -> int:
        """Rows of both tables."""
        return self.orders + self.lines

    @property
    def url(self) -> str:
        """Where queries are posted."""
        return f"http://127.0.0.1:{self.port}{SUITEQL}"

    def netsuite(self, concurrency: int) -> str:
        """Return the `[netsuite]` table that reaches it."""
        return (
            f'[netsuite]\naccount = "1_SB1"\nbase_url = "http://127.0.0.1:{self.port}"\nconcurrency = {concurrency}\n'
            'consumer_key = "k"\nconsumer_secret = "s"\ntoken_id = "t"\ntoken_secret = "u"\n'
        )

    def cpu_seconds(self) -> float:
        """Processor time that it has used so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def served(orders: int, *words: str) -> Iterator[Served]:
    """Serve an account of so many orders; `words` are options of this program."""
    command = [sys.executable, __file__, "--orders", str(orders), *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        yield Served(ready["port"], ready["orders"], ready["lines"], process.pid)
    finally:
        process.terminate()
        process.wait(60)


def null_rate(port: int, lines: int, connections: int, seconds: float = 3.0) -> float:
    """Return the rows a second that clients get which read full pages of lines and drop them.

    Each is a process of its own: threads of one would wait for each other.
    """
    program = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import page_server as p;"
    program += f" print(p.drain({port}, {lines}, {seconds}))"
    clients = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) for _ in range(connections)
    ]
    return sum(float(client.communicate()[0]) for client in clients)


def drain(port: int, lines: int, seconds: float) -> float:
    """Read pages of lines over one connection for a while; return the rows a second."""
    buffer = bytearray(1 << 20)
    rows, at, until = 0, 0, time.monotonic() + seconds
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while time.monotonic() < until:
            sql = b'{"q": "SELECT t.uniquekey FROM transactionline t WHERE t.uniquekey > %d ORDER BY t.uniquekey"}' % at
            connection.sendall(
                b"POST %s?limit=1000&offset=0 HTTP/1.1\r\nContent-Length: %d\r\n\r\n%s"
                % (SUITEQL.encode(), len(sql), sql)
            )
            got = connection.recv_into(buffer)
            head = bytes(buffer[:got]).index(b"\r\n\r\n") + 4
            size = int(_LENGTH.search(bytes(buffer[:head]))[1])  # type: ignore[index]  # our own server says it
            left = size + head - got
            while left > 0:
                left -= connection.recv_into(buffer)
            rows += 1000
            at = (at + 1000) % max(1, lines - 1000)
    return rows / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=150_000)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds that a request takes")
    parser.add_argument("--spread", type=float, default=0.5, help="by which part of it a request may differ")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=Path, help="with --latency: write what was asked, as JSON, at the end")
    parser.add_argument("--null", type=int, metavar="CLIENTS", help="measure what clients get that drop all, and end")
    told = parser.parse_args()
    account = Account.make(told.orders)
    server = Server(account, latency=told.latency, spread=told.spread, seed=told.seed)
    threading.Thread(target=server.serve, daemon=True).start()
    if told.null:
        rate = null_rate(server.port, len(account.lines), told.null)
        print(json.dumps({"clients": told.null, "null_client_rows_per_second": round(rate)}))
        return
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    print(json.dumps({"port": server.port, **account.numbers()}), flush=True)
    while not ended.wait(3600):
        pass
    if told.log:
        told.log.write_text(json.dumps(server.asked))


if __name__ == "__main__":
    main()
