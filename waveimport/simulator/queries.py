"""One page of a SuiteQL query: from the text of the request to the bytes of the reply."""

import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, LifoQueue

import msgspec

from waveimport.simulator.account_time import AccountTime
from waveimport.simulator.dataset import connect
from waveimport.simulator.dialect import Translator
from waveimport.simulator.faults import CapMode
from waveimport.simulator.literals import Value
from waveimport.simulator.refusals import bad_parameter, unsupported
from waveimport.simulator.selects import Statement

_TOTALS_KEPT = 2048


class Queries:
    """Answers queries from the account's file, which nobody writes while it is open, unless it is `live`. Safe for many
    threads.

    `role_hidden` are tables and columns that the role cannot see. `row_cap` is the number of rows of a query that the
    service will ever show, 100,000 in a real account, and `cap_mode` how it behaves beyond. `times` are the account's
    time zone and date format.
    """

    def __init__(
        self,
        data: Path,
        role_hidden: frozenset[str] = frozenset(),
        row_cap: int = 100_000,
        cap_mode: CapMode = CapMode.STOP,
        times: AccountTime | None = None,
        *,
        live: bool = False,
    ) -> None:
        self._data = data
        self._live = live
        self._times = times or AccountTime()
        self._translator = Translator(role_hidden)
        self._row_cap = row_cap
        self._cap_mode = cap_mode
        self._idle: LifoQueue[sqlite3.Connection] = LifoQueue()
        self._totals: OrderedDict[tuple[str, tuple[tuple[str, Value], ...]], int] = OrderedDict()
        self._lock = threading.Lock()

    def page(self, query: str, bound: tuple[str | int, ...], limit: int, offset: int, url: str) -> bytes:
        """Return the reply to `query` for that page, as JSON; `url` is the collection's, for the links.

        Raises Refusal for a query that the service refuses.
        """
        statement, values = self._translator.translate(query, bound)
        if offset >= self._row_cap and self._cap_mode is CapMode.ERROR:
            raise bad_parameter("offset", f"The offset must be lower than {self._row_cap}.")
        rows = max(0, min(limit, self._row_cap - offset))
        with self._connection() as connection:
            try:
                count, items, *filled = connection.execute(
                    statement.page, {**values, "_limit": rows, "_offset": offset}
                ).fetchone()
                if count < rows and (count or not offset):
                    total = offset + count
                else:
                    total = self._total(connection, statement, values)
            except (OverflowError, sqlite3.OperationalError):
                # A number beyond 64 bits, or a sum of such.
                raise unsupported("out of bounds") from None
        for name, values_given in zip(statement.nullable, filled, strict=True):
            if values_given == count:
                continue
            # Inside a JSON string a quote is escaped, so this can only be a member of an object.
            items = items.replace(b"," + msgspec.json.encode(name) + b":null", b"")
        reachable = total if self._cap_mode is CapMode.EMPTY else min(total, self._row_cap)
        more = offset + limit < reachable
        links = msgspec.json.encode(_links(url, limit, offset, count, reachable, more))
        head = b'{"links":%b,"count":%d,"hasMore":%b,"items":' % (links, count, b"true" if more else b"false")
        return b"".join((head, items, b',"offset":%d,"totalResults":%d}' % (offset, total)))

    def close(self) -> None:
        """Close the connections that nobody uses."""
        while True:
            try:
                self._idle.get_nowait().close()
            except Empty:
                return

    def _total(self, connection: sqlite3.Connection, statement: Statement, values: dict[str, Value]) -> int:
        """Return the number of all rows, which cannot change while the file is open and not live."""
        if self._live:
            return int(connection.execute(statement.count, values).fetchone()[0])
        key = (statement.count, tuple(values.items()))
        with self._lock:
            known = self._totals.get(key)
        if known is not None:
            return known
        total = int(connection.execute(statement.count, values).fetchone()[0])
        with self._lock:
            self._totals[key] = total
            while len(self._totals) > _TOTALS_KEPT:
                self._totals.popitem(last=False)
        return total

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        try:
            connection = self._idle.get_nowait()
        except Empty:
            connection = connect(self._data, live=self._live)
            self._times.serve(connection)
        try:
            yield connection
        finally:
            self._idle.put(connection)


def _links(url: str, limit: int, offset: int, count: int, total: int, more: bool) -> list[dict[str, str]]:
    def link(relation: str, start: int) -> dict[str, str]:
        return {"rel": relation, "href": f"{url}?limit={limit}&offset={start}"}

    links = []
    if more:
        links += [link("next", offset + limit), link("last", (total - 1) // limit * limit)]
    if offset and count:
        links += [link("first", 0), link("prev", max(0, offset - limit))]
    return [*links, link("self", offset)]
