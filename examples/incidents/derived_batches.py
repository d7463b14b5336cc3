"""An incident: of 45 derived batches ten ran, and 35 stayed pending for ever behind "the wave is already processing".

The batches of order lines were made over 36 s, while the orders still arrived. The pass that started their wave
handed out the ten that were there. Every later one of 348 passes saw a wave that was "processing already" and
returned early, so that nobody ever handed out the other 35.

Here it happens again on a SQLite database, in the coordinator that `waveimport run` uses: once with the old rule put
back, and once with the rule that decides today. The orders come from a script, at the pace of then:

    python examples/incidents/derived_batches.py              # a few seconds
    python examples/incidents/derived_batches.py --speed 1    # twice 36 s, as then

With `--bundle FILE` the stalled job is left in a support bundle: `waveimport status FILE --why` names the rule, and
`waveimport replay FILE` shows the first decision that today's rule takes otherwise.

The exit code is 0 if all came out as this text says.
"""

import argparse
import json
import re
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import text

from waveimport.core.graph import plan_waves
from waveimport.core.replay import replay
from waveimport.core.settings import Column, ColumnKind, RecordSettings, RunSettings
from waveimport.core.waves import Decision, JobSnapshot, JobStatus, Trigger, WaveKind, WaveStatus, decide
from waveimport.core.why import JobFacts, explain
from waveimport.runtime import coordinator
from waveimport.runtime.bundling import bundle_job
from waveimport.runtime.coordinator import Coordinator, Outcome, SourceHealth, Stop
from waveimport.runtime.fetcher import Fetcher
from waveimport.runtime.readers import Readers
from waveimport.runtime.writer import Place, Writer
from waveimport.store import journal, lease
from waveimport.store.destination import Target, Upsert, ensure_tables, packet_bytes
from waveimport.store.jobs import NewJob, create_job
from waveimport.store.lease import Holder, Lease
from waveimport.store.progress import read_progress
from waveimport.store.schema import upgrade
from waveimport.store.standstill import read_facts
from waveimport.store.transactions import Database

SECONDS = 36.0
PASSES = 348
DERIVED, AT_FIRST = 45, 10
JOB = "import_incident"
Rule = Callable[[JobSnapshot], Decision]

PARENTS_EACH = 25
"""Orders whose lines one derived batch fetches."""
ORDER_BATCHES = DERIVED - AT_FIRST + 1
"""The first batch of orders holds the parents of ten derived batches, each later one those of one."""
SPAN = AT_FIRST * PARENTS_EACH
"""Keys that a batch of orders covers."""
LINES_EACH = 4


def key(name: str) -> Column:
    """Return an integer column."""
    return Column(name, ColumnKind.INTEGER, target=name)


ORDERS = RecordSettings("salesorder", "salesorder", (key("id"),), key=("id",), table_name="salesorder")
LINES = RecordSettings(
    "salesorderline",
    "salesorderline",
    (key("uniquekey"), key("orderid")),
    key=("uniquekey",),
    table_name="salesorderline",
    derived_from="salesorder",
    parent_key="orderid",
)
SETTINGS = RunSettings(workers=64, batch_size=32, parents_per_batch=PARENTS_EACH)
"""Slots for every batch of orders that is waited for, and for the lines beside them."""


def as_it_was(snapshot: JobSnapshot) -> Decision:
    """The predecessor's rule: the pass that starts a derived wave hands its batches out; one that finds it processing
    already returns early."""
    decision = decide(snapshot)
    already = {
        wave.wave_number
        for wave in snapshot.waves
        if wave.kind is WaveKind.DERIVED and wave.status is WaveStatus.PROCESSING
    }
    return replace(decision, dispatch=tuple(one for one in decision.dispatch if one.wave_number not in already))


def main(arguments: Sequence[str] | None = None, *, rule: Rule = decide) -> int:
    """Tell the story and return 0 if it ended as it should. `rule` decides in the part "as it is"."""
    parser = argparse.ArgumentParser(description="Derived batches are made while their wave is processing already.")
    parser.add_argument("--speed", type=float, default=12.0, help="how many times faster than then (default 12)")
    parser.add_argument("--bundle", type=Path, help="file for a support bundle of the stalled job")
    how = parser.parse_args(arguments)
    speed = how.speed
    # A coordinator has a pass when something happens, and now and then without: as often as then, in the mean.
    coordinator.PASS_EVERY_SECONDS = SECONDS / PASSES / speed
    print(
        f"Then: {DERIVED} derived batches made over {SECONDS:.0f} s, {AT_FIRST} ran, 35 pending after {PASSES} passes."
    )
    print(f"Here: made over {SECONDS / speed:.1f} s.\n")
    with tempfile.TemporaryDirectory(prefix="waveimport-incident-") as folder:
        facts = [*then(Path(folder) / "then.db", speed, how.bundle), *now(Path(folder) / "now.db", speed, rule)]
    wrong = [fact for fact, true in facts if not true]
    for fact in wrong:
        print(f"NOT SO: {fact}")
    return 1 if wrong else 0


def then(file: Path, speed: float, bundle: Path | None) -> Iterator[tuple[str, bool]]:
    """The old rule, then what the journal says of it, then today's rule on the job that it left."""
    print('As it was: a wave that is "processing already" is returned from early.')
    world = World(file, speed)
    outcome, watched = world.run(as_it_was)
    stalled = world.derived()
    print(f"  saw       {told(stalled)} of {DERIVED} derived batches after {watched.passes} passes")
    print(f"  decided   {watched.passed_over} times to hand out none of those that waited, beside free slots")
    print(f"  => the job is {world.job()}, and would be for ever")
    differing = next(one for one in replay(world.entries()) if not one.agrees)
    print(f"  replay    entry {differing.seq} is decided otherwise today: {differing.differences[0]}")
    cause = explain(world.facts())[0]
    print(f"  why       {cause.message}; next: {cause.next}")
    if bundle is not None:
        bundle_job(world.database, JOB, bundle, SETTINGS)
        print(f"  bundle    {bundle}: try `waveimport status {bundle} --why` and `waveimport replay {bundle}`")
    yield (
        "status --why names the rule and the wave it forgets",
        (cause.code, cause.wave_number)
        == (
            "decided_otherwise",
            2,
        ),
    )
    yield "by the old rule ten batches ran and 35 are pending", stalled == {"completed": AT_FIRST, "pending": 35}
    yield "by the old rule the job is still processing", (outcome.status, world.job()) == (None, "processing")
    yield f"the old rule was watched for {PASSES} passes", watched.passes >= PASSES
    yield "the old rule stalled: nothing is at work, and it decides nothing", watched.stalled
    yield "replay names a batch that was not handed out", "dispatch: recorded nothing" in differing.differences[0]

    outcome, watched = world.run(decide)
    print(f"  today's rule goes on with that very job: {told(world.derived())}, the job is {world.job()}\n")
    yield "the stalled job is completed by today's rule", outcome.status is JobStatus.COMPLETED
    yield "all batches of the stalled job ended completed", world.derived() == {"completed": DERIVED}
    yield "all lines of the stalled job are in", world.landed() == world.source.lines
    world.close()


def now(file: Path, speed: float, rule: Rule) -> Iterator[tuple[str, bool]]:
    """The rule that decides today: that a wave is processing is an input like any other."""
    print("As it is: that a wave is processing is an input like any other.")
    world = World(file, speed)
    outcome, watched = world.run(rule)
    derived, beside = world.derived(), world.source.asked_beside_orders
    print(f"  saw       {told(derived)} of {DERIVED} derived batches after {watched.passes} passes")
    print(f"  decided   {watched.passed_over} times to pass one over; {beside} ran while orders still arrived")
    print(f"  => the job is {world.job()}: {world.landed():,} of {world.source.lines:,} lines imported")
    yield "the job is completed", (outcome.status, world.job()) == (JobStatus.COMPLETED, "completed")
    yield f"all {DERIVED} derived batches ended completed", derived == {"completed": DERIVED}
    yield "derived batches ran while their parents did", beside >= AT_FIRST
    yield "no pass left a derived batch waiting beside a free slot", watched.passed_over == 0
    yield "all lines are in", world.landed() == world.source.lines
    world.close()


def told(statuses: dict[str, int]) -> str:
    """Return the statuses of batches in words."""
    return ", ".join(f"{number} {status}" for status, number in sorted(statuses.items())) or "none"


# --- the source, by script --------------------------------------------------------------------------------------


class Script:
    """Answers as the account did: batches of orders one after the other over 36 s, their lines at once.

    The second batch of orders comes only when lines of the first were asked for: by then ten derived batches were
    there, and no more, on a machine of any speed.
    """

    def __init__(self, speed: float) -> None:
        self._tables = sqlite3.connect(":memory:", check_same_thread=False)
        self._tables.execute("CREATE TABLE salesorder (id INTEGER)")
        self._tables.execute("CREATE TABLE salesorderline (uniquekey INTEGER, orderid INTEGER)")
        orders = [*range(1, SPAN + 1), *range(SPAN + AT_FIRST, ORDER_BATCHES * SPAN + 1, AT_FIRST)]
        lines = [(order * LINES_EACH + number, order) for order in orders for number in range(LINES_EACH)]
        self._tables.executemany("INSERT INTO salesorder VALUES (?)", [(order,) for order in orders])
        self._tables.executemany("INSERT INTO salesorderline VALUES (?, ?)", lines)
        self._lock = threading.Lock()
        self._pace = SECONDS / (ORDER_BATCHES - 1) / speed
        self._began: float | None = None
        self._lines_asked = threading.Event()
        self._orders_left = ORDER_BATCHES
        self.lines = len(lines)
        self.asked_beside_orders = 0

    def query(self, sql: str, *, limit: int = 1000, offset: int = 0) -> bytes:
        """Return the body of the reply, as NetSuite writes it."""
        if "COUNT(" not in sql:
            self._wait_for_its_moment(sql)
        with self._lock:
            cursor = self._tables.execute(f"{sql} LIMIT {limit}")
            names = [column[0] for column in cursor.description]
            items = [dict(zip(names, map(str, row), strict=True)) for row in cursor]
        return json.dumps({"items": items, "hasMore": False, "count": len(items), "totalResults": len(items)}).encode()

    def _wait_for_its_moment(self, sql: str) -> None:
        if "FROM salesorderline" in sql:
            with self._lock:
                self.asked_beside_orders += self._orders_left > 0
            self._lines_asked.set()
            return
        above = re.search(r"t\.id > (\d+)", sql)
        number = int(above[1]) // SPAN if above else 0
        with self._lock:
            self._began = self._began or time.monotonic()
        if number:
            self._lines_asked.wait(30)
            time.sleep(max(0.0, self._began + number * self._pace - time.monotonic()))  # the pace of the incident
        with self._lock:
            self._orders_left -= 1


# --- a job under the real coordinator ---------------------------------------------------------------------------


class Watched:
    """A rule at work: how many passes asked it, how many of them passed over a derived batch beside a free slot, and
    whether the last one found nothing at work and nothing to do."""

    def __init__(self, rule: Rule) -> None:
        self._rule = rule
        self.passes = 0
        self.passed_over = 0
        self.stalled = False

    def __call__(self, snapshot: JobSnapshot) -> Decision:
        decision = self._rule(snapshot)
        handed_out = {one.wave_number for one in decision.dispatch}
        waiting = {w.wave_number for w in snapshot.waves if w.kind is WaveKind.DERIVED and w.claimable}
        self.passes += 1
        self.passed_over += bool(snapshot.free_slots and waiting - handed_out)
        self.stalled = not (any(w.live for w in snapshot.waves) or decision.changes_rows or decision.dispatch)
        return decision


class World:
    """A job of orders and their lines in a SQLite database of its own, and the source that it is fetched from."""

    def __init__(self, file: Path, speed: float) -> None:
        self.source = Script(speed)
        self.database = Database.open(f"sqlite:///{file}")
        upgrade(self.database)
        self.writer = Writer(self.database)
        self.waves = plan_waves((ORDERS, LINES))
        self.writer.transact(
            lambda connection: create_job(connection, NewJob(JOB, "incident", "full", "", "", None, self.waves))
        )
        self.writer.prepare(self.writer.transact(self._place))

    @staticmethod
    def _place(connection: Any) -> Place:
        targets = [Target(record.table_name, record) for record in (ORDERS, LINES)]
        ensure_tables(connection, targets, fence=False)
        upserts = {target.record.name: Upsert(connection, target) for target in targets}
        return Place(upserts, packet_bytes(connection))

    def run(self, rule: Rule) -> tuple[Outcome, Watched]:
        """Coordinate the job by a rule, to its end or until a stall was watched for as many passes as then."""
        watched = Watched(rule)
        held = self.writer.transact(
            lambda connection: lease.acquire(
                connection,
                JOB,
                Holder("example:1", "machine", None),
                lease_seconds=SETTINGS.lease_seconds,
                trigger=Trigger.CRON,
            )
        )
        assert isinstance(held, Lease), held
        (lines_wave,) = [wave.wave_number for wave in self.waves if wave.kind is WaveKind.DERIVED]

        place = self.writer.place
        assert place is not None, "it was prepared with the world"
        readers = Readers.of((ORDERS, LINES), place, derived=(ORDERS.name,), processes=0)

        def on_turn() -> None:
            if watched.passes >= PASSES and watched.stalled:
                loop.stop(Stop.MAX_RUNTIME)

        loop = Coordinator(
            writer=self.writer,
            lease=held,
            settings=SETTINGS,
            slots=lambda: SETTINGS.workers,
            trigger=Trigger.CRON,
            source=SourceHealth(failing_since=lambda: None, halt=lambda: None),
            fetch=lambda reports: Fetcher(
                source=self.source,
                writer=self.writer,
                records={record.name: record for record in (ORDERS, LINES)},
                derived={ORDERS.name: [(LINES.name, lines_wave)]},
                settings=SETTINGS,
                halted=reports.halted,
                succeeded_since=lambda moment: True,
                still_at_work=reports.still_at_work,
                made_batches=reports.made_batches,
                readers=readers,
            ),
            step_seconds=600.0,
            fraction=lambda: 0.0,
            on_turn=on_turn,
            decide=watched,
        )
        outcome = loop.run()
        self.writer.transact(lambda connection: lease.release(connection, held))
        return outcome, watched

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        """Ask the database one query."""
        return self.writer.transact(lambda connection: [tuple(row) for row in connection.execute(text(sql))])

    def derived(self) -> dict[str, int]:
        """Return how many derived batches are of each status."""
        return dict(self.query("SELECT status, COUNT(*) FROM wave_batches WHERE kind = 'parents' GROUP BY status"))

    def job(self) -> str:
        """Return the status of the job."""
        return str(self.query("SELECT status FROM import_jobs")[0][0])

    def landed(self) -> int:
        """Return how many lines are in."""
        return int(self.query("SELECT COUNT(*) FROM salesorderline")[0][0])

    def entries(self) -> list[tuple[int, JobSnapshot | None, Decision | None]]:
        """Return the journal of the job, as `replay` reads it."""
        entries = self.writer.transact(lambda connection: journal.entries(connection, JOB))
        return [(entry.seq, entry.snapshot, entry.decision) for entry in entries]

    def facts(self) -> JobFacts:
        """Return what `status --why` knows of the job."""
        return self.writer.transact(lambda connection: read_facts(connection, read_progress(connection, JOB)))

    def close(self) -> None:
        """Finish what was handed in, and close the database."""
        self.writer.close()
        self.database.close()


if __name__ == "__main__":
    sys.exit(main())
