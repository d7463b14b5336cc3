"""How long `replay`, `bundle`, `report` and `replay BUNDLE` take of a job of many batches, and how much memory.

    python tests/bench/replay_of_a_million.py [--batches 1000000] [--entries 400000] [URL]

The job is that of `status_of_a_million.py`, with a journal of so many entries beside. A job of a million batches leaves
a few thousand, by tables of version 0002 some 400,000. URL is an empty database; a SQLite file of its own
if not given. Prints JSON: seconds and peak megabytes of each command.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
from status_of_a_million import CONFIG, JOB, fill

from waveimport.core.waves import (
    CoordinationStatus,
    JobSnapshot,
    JobStatus,
    WaveKind,
    WaveStatus,
    WaveView,
    decide,
)
from waveimport.store.transactions import Database

AT_ONCE = 5_000
COLUMNS = (
    "job_id, seq, at, source, token, event, snapshot, decision, decision_version, code_version, repeats, repeated_at"
)
SLOTS = 15


def seen(draw: random.Random, total: int) -> JobSnapshot:
    """Draw what a pass of a job of four main waves and two derived ones sees in the middle of it."""
    done = [
        WaveView(number, WaveKind.MAIN, WaveStatus.COMPLETED, sealed=True, total=9, depth=0) for number in (1, 2, 3)
    ]
    live = [draw.randint(0, 5) for _ in range(3)]
    work = [
        WaveView(
            number,
            WaveKind.MAIN if number == 4 else WaveKind.DERIVED,
            WaveStatus.PROCESSING,
            sealed=False,
            total=total,
            claimable=draw.randint(1, SLOTS),
            pending=True,
            live=live[number - 4],
            parent_wave=None if number == 4 else 4,
            depth=int(number > 4),
        )
        for number in (4, 5, 6)
    ]
    return JobSnapshot(
        JobStatus.PROCESSING, CoordinationStatus.PLANNED, (*done, *work), limit=SLOTS, free_slots=SLOTS - sum(live)
    )


def keep_a_journal(url: str, entries: int, passes: int) -> int:
    """Write a journal of so many entries, each met again as often as makes so many passes. Returns its bytes."""
    database = Database.open(url)
    draw = random.Random(1)
    sign = "?" if database.is_sqlite else "%s"
    names = COLUMNS.split(", ")
    sql = f"INSERT INTO wave_journal ({COLUMNS}) VALUES ({', '.join([sign] * len(names))})"
    size = 0
    for start in range(1, entries + 1, AT_ONCE):
        rows = []
        for seq in range(start, min(entries + 1, start + AT_ONCE)):
            snapshot = seen(draw, seq)
            found, decision = msgspec.json.encode(snapshot).decode(), msgspec.json.encode(decide(snapshot)).decode()
            size += len(found) + len(decision)
            at = f"2026-11-26 {1 + seq * 10 // entries:02d}:{seq % 60:02d}:00.000000"
            again = max(0, passes // entries - 1)
            rows.append((JOB, seq, at, "worker", 1, "pass", found, decision, 1, "0.1.0", again, at if again else None))
        database.run(lambda connection, rows=rows: connection.exec_driver_sql(sql, rows))
    database.close()
    return size


def measure(*words: str) -> dict[str, float]:
    """Run waveimport with these words, and return its seconds and its peak memory."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "waveimport", *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, words
    return {"seconds": round(time.perf_counter() - began, 2), "peak_mb": round(usage.ru_maxrss / 1024)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", nargs="?")
    parser.add_argument("--batches", type=int, default=1_000_000)
    parser.add_argument("--entries", type=int, default=5_000)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        url = told.url or f"sqlite:///{name}/bench.db"
        fill(url, told.batches)
        size = keep_a_journal(url, told.entries, told.batches)
        config, bundle = Path(name) / "waveimport.toml", Path(name) / "job.bundle"
        config.write_text(CONFIG.format(url=url))
        by = ("--config", str(config))
        found = {
            "replay": measure(*by, "replay", JOB),
            "replay --json": measure(*by, "replay", JOB, "--json"),
            "bundle": measure(*by, "bundle", JOB, "-o", str(bundle)),
            "replay BUNDLE": measure("replay", str(bundle)),
            "report": measure(*by, "report", JOB, "-o", f"{name}/report.html"),
        }
        sizes = {"journal_mb": round(size / 1e6, 1), "bundle_mb": round(bundle.stat().st_size / 1e6, 1)}
        print(json.dumps({"batches": told.batches, "entries": told.entries, **sizes, **found}, indent=1))


if __name__ == "__main__":
    main()
