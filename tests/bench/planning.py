"""What planning takes, by how many batches are made of a record.

    python tests/bench/planning.py [--batches 1000,100000,1000000] [--database sqlite,mysql]

`planning a record`: the batch that plans it, as a run works on it, with a source in this process that answers at once:
the bounds once, then its ranges, a few thousand a commit. It must stream: `peak MB` is of the process that did it, and
each size has one of its own. `waveimport plan`: the command as a user has it, which counts at the source (pages served
by another process) and makes nothing.

Prints a table to stderr and JSON to stdout. `CPU µs a batch` is of the process, `server CPU µs` of the database server.
"""

import argparse
import json
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "runtime"))
sys.path.insert(0, str(Path(__file__).parent.parent))

from bench_project import cost_of, databases, show, waveimport, workplace, write_config
from page_server import served
from runtime_world import World, reply

from waveimport.core.settings import RunSettings
from waveimport.store import schema
from waveimport.store.transactions import Database

BATCH_SIZE = 1000


class Bounds:
    """Answers every query with the bounds of a record that makes so many batches."""

    failing_since: float | None = None
    last_success: float | None = None

    def __init__(self, batches: int) -> None:
        self.halted = threading.Event()
        self._reply = reply(("n", "lo", "hi"), ((batches * BATCH_SIZE, 1, 3 * batches * BATCH_SIZE),), 1)

    def query(self, sql: str, *, limit: int = 1000, offset: int = 0) -> bytes:
        """Return the reply's body."""
        return self._reply

    def epoch_seconds(self) -> float | None:
        """Return no clock."""
        return None


def plan(url: str, batches: int) -> None:
    """Work on the batch that plans the first record, in this process; print what it took."""
    database = Database.open(url)
    schema.upgrade(database)
    source: Any = Bounds(batches)
    world = World(database, source, settings=RunSettings(workers=1, batch_size=BATCH_SIZE, lease_seconds=3600))
    (claim,) = world.claim()
    began, cpu = time.perf_counter(), time.process_time()
    ended = world.fetcher().work(claim)
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    assert ended.error is None, ended
    made = world.query("SELECT COUNT(*) FROM wave_batches WHERE kind = 'range'")[0][0]
    assert made == batches, made
    world.close()
    database.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        json.dumps({"seconds": round(took, 2), "CPU µs a batch": round(1e6 * cpu / batches, 1), "peak MB": round(peak)})
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", default="1000,100000,1000000")
    parser.add_argument("--database", default="sqlite,mysql")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--plan", nargs=2, metavar=("URL", "BATCHES"), help="be the process that is measured")
    told = parser.parse_args()
    if told.plan:
        plan(told.plan[0], int(told.plan[1]))
        return
    rows: list[dict[str, Any]] = []
    with workplace(told.folder) as folder, served(1000) as source:
        for kind in told.database.split(","):
            with databases(kind, folder) as made:
                for batches in map(int, told.batches.split(",")):
                    with made.fresh() as url:
                        server = made.cpu_seconds()
                        done = subprocess.run(
                            [sys.executable, __file__, "--plan", url, str(batches)], capture_output=True, text=True
                        )
                        if done.returncode:
                            raise SystemExit(done.stderr)
                        row = {
                            "database": kind,
                            "what": "planning a record",
                            "batches": batches,
                            **json.loads(done.stdout),
                        }
                        if kind == "mysql":
                            row["server CPU µs"] = round(1e6 * (made.cpu_seconds() - server) / batches, 1)
                        rows.append(row)
                with made.fresh() as url:
                    cost = cost_of(waveimport(write_config(folder, url, source, in_flight=5), "plan"), folder)
                    rows.append(
                        {
                            "database": kind,
                            "what": "waveimport plan",
                            "seconds": round(cost.seconds, 2),
                            "peak MB": round(cost.peak_mb),
                        }
                    )
    show(rows)


if __name__ == "__main__":
    main()
