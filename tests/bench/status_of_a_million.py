"""How long `status` and `status --why` take of a job of many batches, beside `python -c "import sqlalchemy"`.

    python tests/bench/status_of_a_million.py [--batches 1000000] [URL]

The job is written straight into the tables: nine tenths of its line batches are completed, the rest is pending, and
what was completed is kept on the rows of the waves, as the coordinator does while a job runs; "anew" is of the job of
which nothing is kept. URL is an empty database; a SQLite file of its own if not given. Prints JSON: seconds, the median
of `--times` calls of each in turn.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from waveimport.core.graph import PlannedWave
from waveimport.core.waves import WaveKind
from waveimport.store import jobs, schema
from waveimport.store.counted import keep_counts
from waveimport.store.jobs import NewJob
from waveimport.store.transactions import Database

JOB = "import_bench"
AT_ONCE = 5_000
COLUMNS = "job_id, batch_id, wave_number, record, kind, status, attempt, spec, row_count, created_at, updated_at"
CONFIG = """
profile = "p"
[database]
url = "{url}"
[netsuite]
account = "1_SB1"
base_url = "http://127.0.0.1:9"
consumer_key = "a"
consumer_secret = "b"
token_id = "c"
token_secret = "d"
[records.order]
columns = {{ id = "integer" }}
"""


def fill(url: str, count: int) -> None:
    """Write a job of so many batches: a tenth of them orders, the others lines."""
    database = Database.open(url)
    schema.upgrade(database)
    waves = (
        PlannedWave(1, WaveKind.MAIN, ("order",)),
        PlannedWave(2, WaveKind.DERIVED, ("line",), parent_wave=1, depth=1),
    )
    new = NewJob(JOB, "p", "full", "hash", "{}", None, waves)
    database.run(lambda connection: jobs.create_job(connection, new))
    sign = "?" if database.is_sqlite else "%s"
    sql = f"INSERT INTO wave_batches ({COLUMNS}) VALUES ({', '.join([sign] * 11)})"
    for start in range(0, count, AT_ONCE):
        rows = [row(number, count) for number in range(start, min(count, start + AT_ONCE))]
        database.run(lambda connection, rows=rows: connection.exec_driver_sql(sql, rows))
    for change in (
        "UPDATE wave_coordination SET sealed = 1, status = 'processing'",
        "UPDATE wave_coordination SET status = 'completed' WHERE wave_number = 1",
        "UPDATE wave_coordination SET total = (SELECT COUNT(*) FROM wave_batches b"
        " WHERE b.job_id = wave_coordination.job_id AND b.wave_number = wave_coordination.wave_number)",
        "UPDATE import_jobs SET status = 'processing'",
    ):
        database.run(lambda connection, change=change: connection.exec_driver_sql(change))
    database.close()


def row(number: int, count: int) -> tuple[object, ...]:
    """A batch of orders, or of the lines of sixty of them."""
    line = bool(number % 10)
    done = not line or number < count * 0.9
    parents = json.dumps({"parents": [number * 60 + one for one in range(60)]})
    return (
        JOB, f"{1 + line}/x/{number:07d}", 1 + line, "line" if line else "order", "parents" if line else "range",
        "completed" if done else "pending", int(done), parents, 900 * done, "2026-11-26 01:00:00",
        "2026-11-26 02:00:00",
    )  # fmt: skip


def seconds(*words: str) -> float:
    """Run Python with these words, and return how long it took."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def timed(calls: dict[str, tuple[str, ...]], times: int) -> dict[str, list[float]]:
    """Return the seconds of each call, made so many times in turn."""
    found: dict[str, list[float]] = {what: [] for what in calls}
    for _ in range(times):
        for what, words in calls.items():
            found[what].append(seconds(*words))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", nargs="?")
    parser.add_argument("--batches", type=int, default=1_000_000)
    parser.add_argument("--times", type=int, default=5)
    told = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        url = told.url or f"sqlite:///{name}/bench.db"
        fill(url, told.batches)
        config = Path(name) / "waveimport.toml"
        config.write_text(CONFIG.format(url=url))
        call = ("-m", "waveimport", "--config", str(config), "status")
        found = timed({"anew": call}, told.times)
        database = Database.open(url)
        database.run(lambda connection: keep_counts(connection, JOB))
        database.close()
        calls = {"import sqlalchemy": ("-c", "import sqlalchemy"), "status": call, "status --why": (*call, "--why")}
        found |= timed(calls, told.times)
    medians = {what: round(statistics.median(of), 2) for what, of in found.items()}
    print(json.dumps({"batches": told.batches, **medians}))


if __name__ == "__main__":
    main()
