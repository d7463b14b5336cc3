"""A source that answers from a script, and a job on a real database that is fetched from it: no HTTP anywhere."""

import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from waveimport.core.graph import PlannedWave, plan_waves
from waveimport.core.settings import Column, ColumnKind, RecordSettings, RunSettings
from waveimport.core.waves import Trigger
from waveimport.errors import SourceDown
from waveimport.runtime import clock
from waveimport.runtime.coordinator import Coordinator, SourceHealth
from waveimport.runtime.fetcher import Ended, Fetcher
from waveimport.runtime.readers import Readers
from waveimport.runtime.tracing import OFF, Tracing
from waveimport.runtime.writer import Place, Writer
from waveimport.store import batches, jobs, lease, waves
from waveimport.store.batches import Claim
from waveimport.store.destination import Target, Upsert, ensure_tables, packet_bytes
from waveimport.store.jobs import NewJob
from waveimport.store.lease import Holder, Lease
from waveimport.store.removal import removers
from waveimport.store.transactions import Database

JOB = "import_1"


def column(name: str, kind: ColumnKind = ColumnKind.INTEGER, *size: int) -> Column:
    return Column(name, kind, *size, target=name) if size else Column(name, kind, target=name)


ORDER = RecordSettings(
    "order", "orders", (column("id"), column("memo", ColumnKind.TEXT)), key=("id",), table_name="order"
)
LINE = RecordSettings(
    "line",
    "lines",
    (column("uniquekey"), column("orderid")),
    key=("uniquekey",),
    table_name="line",
    derived_from="order",
    parent_key="orderid",
)


class ScriptedSource:
    """Answers queries from tables in memory. `before` is asked first: it may raise, wait, or give the answer itself."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._tables = sqlite3.connect(":memory:", check_same_thread=False)
        self._tables.execute("CREATE TABLE orders (id INTEGER, memo TEXT)")
        self._tables.execute("CREATE TABLE lines (uniquekey INTEGER, orderid INTEGER)")
        self._tables.execute("CREATE TABLE dual AS SELECT 'X' AS dummy")
        self.asked: list[str] = []
        self.before: Callable[[str], bytes | None] = lambda sql: None
        self.page_most: int | None = None
        self.failing_since: float | None = None
        self.last_success: float | None = None
        self.halted = threading.Event()
        self.clock: float | None = 1_790_000_000.0

    def fill(self, orders: Iterable[int], *, lines_each: int = 0) -> None:
        with self._lock:
            for key in orders:
                self._tables.execute("INSERT INTO orders VALUES (?, ?)", (key, f"memo {key}"))
                for number in range(lines_each):
                    self._tables.execute("INSERT INTO lines VALUES (?, ?)", (key * 100 + number, key))

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the tables themselves."""
        with self._lock:
            return [tuple(row) for row in self._tables.execute(sql)]

    def execute(self, sql: str, *values: Any) -> None:
        """Change the tables."""
        with self._lock:
            self._tables.execute(sql, values)

    def take_functions(self, *names: str) -> None:
        """Let queries call functions of the service; each gives its first argument as it is."""
        for name in names:
            self._tables.create_function(name, -1, lambda value, *_: value)

    def counts(self) -> list[str]:
        return [sql for sql in self.asked if "COUNT(" in sql]

    def epoch_seconds(self) -> float | None:
        return self.clock

    def query(self, sql: str, *, limit: int = 1000, offset: int = 0) -> bytes:
        assert offset == 0, "pages are asked for by key"
        with self._lock:
            self.asked.append(sql)
        try:
            body = self.before(sql)
        except SourceDown:
            self.failing_since = self.failing_since or clock.monotonic()
            raise
        if body is None:
            body = self.answer(sql, min(limit, self.page_most or limit))
        self.failing_since = None
        self.last_success = clock.monotonic()
        return body

    def answer(self, sql: str, limit: int) -> bytes:
        with self._lock:
            cursor = self._tables.execute(f"{sql} LIMIT {limit}")
            names = [one[0] for one in cursor.description]
            rows = cursor.fetchall()
            (total,) = self._tables.execute(f"SELECT COUNT(*) FROM ({sql})").fetchone()
        return reply(names, rows, total)


def reply(names: Sequence[str], rows: Sequence[Sequence[Any]], total: int, *, more: bool | None = None) -> bytes:
    """A reply as the service gives it: every value a string, NULL left out."""
    items = [
        {"links": [], **{name: str(value) for name, value in zip(names, row, strict=True) if value is not None}}
        for row in rows
    ]
    has_more = total > len(rows) if more is None else more
    return json.dumps(
        {"links": [], "count": len(items), "hasMore": has_more, "items": items, "offset": 0, "totalResults": total}
    ).encode()


@dataclass
class World:
    """A job of orders (and their lines) under a lease, a writer, and a fetcher whose source is scripted."""

    database: Database
    source: ScriptedSource = field(default_factory=ScriptedSource)
    records: tuple[RecordSettings, ...] = (ORDER, LINE)
    settings: RunSettings = field(
        default_factory=lambda: RunSettings(
            workers=4, page_size=5, batch_size=10, parents_per_batch=3, lease_seconds=60, max_tries=2
        )
    )
    halted: threading.Event = field(default_factory=threading.Event)
    tracing: Tracing = OFF

    def __post_init__(self) -> None:
        self.writer = Writer(self.database)
        self.targets = [Target(record.table_name, record) for record in self.records]
        self.plan: tuple[PlannedWave, ...] = plan_waves(self.records)

        def prepare(connection: Any) -> Place:
            ensure_tables(connection, self.targets, fence=False)
            upserts = {target.record.name: Upsert(connection, target) for target in self.targets}
            return Place(upserts, packet_bytes(connection), removers=removers(connection, self.targets))

        self.writer.prepare(self.writer.transact(prepare))
        new = NewJob(JOB, "p", "full", "hash", "text", None, self.plan)
        self.writer.transact(lambda connection: jobs.create_job(connection, new))
        self.lease = self.take()
        assert self.writer.place is not None
        self.readers = Readers.of(self.records, self.writer.place, derived=self.derived, processes=0)

    def take(self, number: int = 1, lock: str | None = "1:2") -> Lease:
        """Take the lease, the holder before being proven dead."""
        taken = self.writer.transact(
            lambda connection: lease.acquire(
                connection,
                JOB,
                Holder(f"host:{number}", "m", lock),
                lease_seconds=self.settings.lease_seconds,
                trigger=Trigger.MANUAL,
                failed_too=True,
            )
        )
        assert isinstance(taken, Lease), taken
        self.lease = taken
        return taken

    @property
    def derived(self) -> dict[str, list[tuple[str, int]]]:
        by_name = {record.name: record for record in self.records}
        found: dict[str, list[tuple[str, int]]] = {}
        for wave in self.plan:
            for name in wave.records:
                parent = by_name[name].derived_from
                if parent is not None:
                    found.setdefault(parent, []).append((name, wave.wave_number))
        return found

    def fetcher(
        self,
        still_at_work: Callable[[Claim], None] = lambda claim: None,
        halted: threading.Event | None = None,
        *,
        made_batches: Callable[[], None] = lambda: None,
        others_succeed: bool | None = None,
        writer: Any = None,
    ) -> Fetcher:
        def succeeded_since(moment: float) -> bool:
            if others_succeed is not None:
                return others_succeed
            last = self.source.last_success
            return last is not None and last > moment

        return Fetcher(
            source=self.source,
            writer=writer or self.writer,
            records={record.name: record for record in self.records},
            derived=self.derived,
            settings=self.settings,
            halted=halted or self.halted,
            succeeded_since=succeeded_since,
            still_at_work=still_at_work,
            made_batches=made_batches,
            readers=self.readers,
            tracing=self.tracing,
        )

    def coordinator(self, **how: Any) -> Coordinator:
        return Coordinator(
            **{
                "writer": self.writer,
                "lease": self.lease,
                "settings": self.settings,
                "slots": lambda: self.settings.workers,
                "trigger": Trigger.MANUAL,
                "source": SourceHealth(lambda: self.source.failing_since, self.source.halted.set),
                "fetch": lambda reports: self.fetcher(
                    reports.still_at_work, reports.halted, made_batches=reports.made_batches
                ),
                "step_seconds": 60.0,
                "fraction": lambda: 0.0,
                **how,
            }
        )

    def advance(self) -> None:
        self.writer.transact(
            lambda connection: waves.advance(connection, self.lease, limit=8, free_slots=8, trigger=Trigger.WORKER)
        )

    def claim(self, wave: int = 1, count: int = 100, *, seconds: float = 3600.0) -> list[Claim]:
        self.advance()
        return self.writer.transact(
            lambda connection: batches.claim(
                connection, self.lease, wave, count, plans_only=False, lease_seconds=seconds
            )
        )

    def requeue(self) -> int:
        """Put back what an earlier holder had, as the run after a crash does."""
        self.take()
        return self.writer.transact(lambda connection: batches.requeue(connection, self.lease, proven_dead=True))

    def work_all(self, fetcher: Fetcher | None = None) -> list[Ended]:
        """Work on every batch of every wave, one after the other, until none is left."""
        endings: list[Ended] = []
        for _ in range(200):
            claims = [claim for wave in self.plan for claim in self.claim(wave.wave_number)]
            if not claims:
                return endings
            endings += [(fetcher or self.fetcher()).work(claim) for claim in claims]
        raise AssertionError("there was always another batch")

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.database.run(lambda connection: [tuple(row) for row in connection.execute(text(sql))])

    def orders(self) -> list[int]:
        return [row[0] for row in self.query("SELECT id FROM `order` ORDER BY id")]

    def lines(self) -> list[int]:
        return [row[0] for row in self.query("SELECT uniquekey FROM line ORDER BY uniquekey")]

    def statuses(self, wave: int | None = None) -> dict[str, int]:
        where = "" if wave is None else f" WHERE wave_number = {wave}"
        return dict(self.query(f"SELECT status, COUNT(*) FROM wave_batches{where} GROUP BY status"))

    def job(self) -> str:
        return str(self.query("SELECT status FROM import_jobs")[0][0])

    def close(self) -> None:
        self.source.halted.set()
        self.writer.close()


def bounds_of(sql: str) -> tuple[int | None, int | None]:
    """The range that a page query asks for, by its own text: (above, up to)."""
    above = re.search(r"t\.id > (-?\d+)", sql)
    upto = re.search(r"t\.id <= (-?\d+)", sql)
    return (int(above[1]) if above else None, int(upto[1]) if upto else None)
