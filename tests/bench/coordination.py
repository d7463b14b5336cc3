"""What the coordination of a batch costs, and what a pass, by how many batches the job has.

    python tests/bench/coordination.py [--batches 100,10000] [--million] [--database sqlite,mysql] [--slots 15]

A job with batches that bring nothing, so that all that is left is coordination. `run`: the loop, the workers and the
writer of a run work on them, with a source in this process that answers at once with an empty page; `statements`: the
statements alone, one transaction for each pass with its claims (of one batch and of `--slots`), start and landing.
`pass`: one over all the batches while nothing can be moved. Of a larger job than 10,000 batches all but these are
completed beforehand: `--million` adds one of a million. `CPU ms` is of this process, `server CPU ms` of the database
server, both for a batch (or a pass).

Prints a table to stderr and JSON to stdout.
"""

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "runtime"))
sys.path.insert(0, str(Path(__file__).parent.parent))

from bench_project import Databases, databases, show, workplace
from runtime_world import JOB, World, reply

from waveimport.core.settings import RunSettings
from waveimport.core.waves import JobStatus, Trigger
from waveimport.runtime.garbage import collected_rarely
from waveimport.store import batches, schema, waves
from waveimport.store.landing import Load, land
from waveimport.store.transactions import Database

WORKED_MOST = 10_000
AT_ONCE = 5_000
COLUMNS = "job_id, batch_id, wave_number, record, kind, status, attempt, spec, row_count, created_at, updated_at"
EMPTY = reply((), (), 0)
ONE = reply(("uniquekey",), ((1,),), 1)


class EmptySource:
    """Answers every page with no row at once, and that there are rows where it is asked for one."""

    failing_since: float | None = None
    last_success: float | None = None

    def __init__(self) -> None:
        self.halted = threading.Event()

    def query(self, sql: str, *, limit: int = 1000, offset: int = 0) -> bytes:
        """Return the reply's body."""
        return ONE if limit == 1 else EMPTY

    def epoch_seconds(self) -> float | None:
        """Return no clock."""
        return None


def world_of(database: Database, count: int, slots: int) -> World:
    """Make a job whose line batches are still to be worked on, WORKED_MOST of them at most, the others completed."""
    schema.upgrade(database)
    source: Any = EmptySource()
    world = World(database, source, settings=RunSettings(workers=slots, lease_seconds=3600))
    sign = "?" if database.is_sqlite else "%s"
    sql = f"INSERT INTO wave_batches ({COLUMNS}) VALUES ({', '.join([sign] * 11)})"
    for start in range(0, count, AT_ONCE):
        rows = [row(number, number < count - WORKED_MOST) for number in range(start, min(count, start + AT_ONCE))]
        database.run(lambda connection, rows=rows: connection.exec_driver_sql(sql, rows))
    of_line = "job_id = 'import_1' AND wave_number = 2"
    for change in (
        "UPDATE wave_batches SET status = 'completed' WHERE wave_number = 1",
        "UPDATE wave_coordination SET sealed = 1, status = 'processing'",
        "UPDATE wave_coordination SET status = 'completed' WHERE wave_number = 1",
        f"UPDATE wave_coordination SET total = {count} WHERE {of_line}",
        "UPDATE import_jobs SET status = 'processing'",
    ):
        database.run(lambda connection, change=change: connection.exec_driver_sql(change))
    database.run(lambda connection: connection.exec_driver_sql("ANALYZE" if database.is_sqlite else ANALYZE).close())
    return world


ANALYZE = "ANALYZE TABLE wave_batches"


def row(number: int, done: bool) -> tuple[object, ...]:
    """A batch of the lines of some orders."""
    spec = json.dumps({"parents": [number * 60 + one for one in range(60)]})
    return (
        JOB, f"1/order/{number // 10:07d}/line/{number:08d}", 2, "line", "parents", "completed" if done else "pending",
        int(done), spec, 0, "2026-11-26 01:00:00", "2026-11-26 02:00:00",
    )  # fmt: skip


class Clocks:
    """Processor time of this process and of the server, and time, for some pieces of work."""

    def __init__(self, made: Databases) -> None:
        self._made = made
        self._before = self._now()

    def _now(self) -> tuple[float, float, float]:
        return time.process_time(), self._made.cpu_seconds(), time.perf_counter()

    def each(self, pieces: int) -> dict[str, float]:
        """Return milliseconds a piece."""
        cpu, server, took = (1000 * (now - then) / pieces for now, then in zip(self._now(), self._before, strict=True))
        found = {"CPU ms": round(cpu, 3), "ms": round(took, 3)}
        return found if self._made.kind == "sqlite" else {**found, "server CPU ms": round(server, 3)}


def passes(world: World, made: Databases, slots: int) -> dict[str, float]:
    """Measure a pass that can move nothing."""
    times = 500
    advance = partial(
        waves.advance,
        lease=world.lease,
        limit=slots,
        free_slots=0,
        trigger=Trigger.WORKER,
        worked=True,
        memory=waves.Memory(),
    )
    world.database.run(advance)
    clocks = Clocks(made)
    for _ in range(times):
        world.database.run(advance)
    return clocks.each(times)


def statements(world: World, made: Databases, at_once: int, most: int) -> dict[str, float]:
    """Measure pass, claim, start and landing of `most` batches, `at_once` of them a claim, each in a transaction."""
    database, place, worked = world.database, world.writer.place, 0
    assert place is not None
    turn = partial(
        waves.advance_and_claim,
        lease=world.lease,
        limit=at_once,
        free_slots=at_once,
        trigger=Trigger.WORKER,
        lease_seconds=3600.0,
        worked=True,
        memory=waves.Memory(),
    )
    clocks = Clocks(made)
    while worked < most:
        claims = database.run(turn).claims
        if not claims:
            break
        for claim in claims:
            database.run(lambda connection, claim=claim: batches.start(connection, claim))
            load = Load(claim, 3600.0, None, claim.spec, done=True)
            landed: Callable[[Any], bool] = partial(
                land, load=load, upsert=place.upserts["line"], packet_bytes=place.packet_bytes
            )
            assert database.run(landed)
        worked += len(claims)
    return clocks.each(worked)


def of_a_run(world: World, made: Databases, pending: int) -> dict[str, float]:
    """Measure the loop, workers and writer of a run over all that is pending."""
    clocks = Clocks(made)
    with collected_rarely():
        outcome = world.coordinator().run()
    found = clocks.each(pending)
    assert outcome.status is JobStatus.COMPLETED, outcome
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="100,10000")
    parser.add_argument("--million", action="store_true")
    parser.add_argument("--database", default="sqlite,mysql")
    parser.add_argument("--slots", type=int, default=15)
    parser.add_argument("--folder", type=Path, help="where SQLite files are made, by default in the temporary folder")
    told = parser.parse_args()
    sizes = [int(one) for one in told.batches.split(",")] + ([1_000_000] if told.million else [])
    rows: list[dict[str, Any]] = []
    with workplace(told.folder) as folder:
        for kind in told.database.split(","):
            with databases(kind, folder) as made:
                for count in sizes:
                    with made.fresh() as url:
                        database = Database.open(url)
                        world = world_of(database, count, told.slots)
                        pending = min(count, WORKED_MOST)
                        about = {"database": kind, "batches": count}
                        rows.append({**about, "what": "pass", **passes(world, made, told.slots)})
                        one = min(pending // 4, 1000)
                        rows.append({**about, "what": "statements, 1 a claim", **statements(world, made, 1, one)})
                        rows.append(
                            {
                                **about,
                                "what": f"statements, {told.slots} a claim",
                                **statements(world, made, told.slots, one),
                            }
                        )
                        world.close()
                        database.close()
                    with made.fresh() as url:
                        database = Database.open(url)
                        world = world_of(database, count, told.slots)
                        rows.append({**about, "what": "run", **of_a_run(world, made, pending)})
                        world.close()
                        database.close()
    show(rows)


if __name__ == "__main__":
    main()
