"""An incident: a job was coordinated twice while its COUNT ran, and failed with everything counted and nothing in.

The COUNT of 4,812,213 lines took 87 s. Meanwhile a second trigger, a watchdog, found the job without waves and began
to coordinate it too. Both counted, both made the waves; the second met the unique key of the first one's rows, and
took that for a reason to fail the job.

Here it happens again, as it was and as it is, against a simulated account over HTTP whose COUNT is slow:

    python examples/incidents/second_trigger.py              # a few seconds
    python examples/incidents/second_trigger.py --speed 1    # 87 s a COUNT, as then
    python examples/incidents/second_trigger.py --scale 0.8  # millions of lines, as then

With `--bundle FILE` the failed job is left in a support bundle: `waveimport status FILE --why` names the cause, and
`waveimport replay FILE` shows the decision that today's rule takes otherwise.

It needs `waveimport[demo]`. The exit code is 0 if all came out as this text says.
"""

import argparse
import contextlib
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from waveimport.core.records import parse_bounds
from waveimport.core.replay import replay
from waveimport.core.settings import Settings
from waveimport.core.waves import CoordinationStatus, Decision, JobSnapshot, JobStatus, Trigger
from waveimport.core.why import explain
from waveimport.netsuite.client import SuiteQLClient
from waveimport.netsuite.suiteql import bounds_query
from waveimport.runtime import clock
from waveimport.runtime.bundling import bundle_job
from waveimport.runtime.config import load_settings
from waveimport.runtime.importer import run_import
from waveimport.runtime.options import RunOptions, RunResult
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator
from waveimport.store import journal
from waveimport.store.progress import read_progress
from waveimport.store.schema import upgrade
from waveimport.store.standstill import read_facts
from waveimport.store.transactions import Database

COUNT_SECONDS = 87.0
LEASE_SECONDS = 60.0
LINES_THEN = 4_812_213
RECORD = """
[records.transactionline]
key = "uniquekey"
columns = { uniquekey = "integer", transaction = "integer", netamount = "decimal(15,2)" }
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Tell the story and return 0 if it ended as it should."""
    parser = argparse.ArgumentParser(description="A second trigger enters while the COUNT of a job runs.")
    parser.add_argument("--speed", type=float, default=40.0, help="how many times faster than then (default 40)")
    parser.add_argument("--scale", type=float, default=0.001, help="size of the simulated account (default 0.001)")
    parser.add_argument("--data", type=Path, help="file of the simulated account, built if it is not there")
    parser.add_argument("--bundle", type=Path, help="file for a support bundle of the job that failed")
    how = parser.parse_args(arguments)
    slow = Faults(slow_count_seconds=COUNT_SECONDS / how.speed)
    with (
        tempfile.TemporaryDirectory(prefix="waveimport-incident-") as folder,
        Simulator(data=how.data, scale=how.scale, faults=slow) as account,
    ):
        lines = lines_of(account)
        print(f"Then: a COUNT of {COUNT_SECONDS:.0f} s, {LINES_THEN:,} lines counted, a second trigger, none imported.")
        print(f"Here: a COUNT of {slow.slow_count_seconds:.1f} s, {lines:,} lines.\n")
        facts = [
            *as_it_was(account, Path(folder), lines, how.bundle),
            *as_it_is(account, Path(folder), lines, how.speed),
        ]
    wrong = [fact for fact, true in facts if not true]
    for fact in wrong:
        print(f"NOT SO: {fact}")
    return 1 if wrong else 0


# --- as it was --------------------------------------------------------------------------------------------------


def as_it_was(account: Simulator, folder: Path, lines: int, bundle: Path | None) -> Iterator[tuple[str, bool]]:
    """Two triggers on one job, by the predecessor's rule: count first, then make the waves, hold nothing meanwhile."""
    print("As it was: count first, then make the waves; nothing is held meanwhile.")
    file = folder / "then.db"
    settings = configured(account, folder / "then", file)
    database = Database.open(settings.database.url)
    upgrade(database)
    database.close()
    execute(
        file,
        "INSERT INTO import_jobs (job_id, profile, mode, config_hash, config_text, status, coordination_status,"
        " created_at, updated_at) VALUES ('job', 'p', 'full', '', '', 'pending', 'none', '2026-01-01', '2026-01-01')",
    )
    second_turn = threading.Event()

    def cron() -> int:
        counted = create_waves_unguarded(settings, file, "cron")
        second_turn.set()
        return counted

    def watchdog() -> int:
        # It began a moment later, so it is through a moment later.
        return create_waves_unguarded(settings, file, "watchdog", lambda: second_turn.wait(60 + 2 * COUNT_SECONDS))

    with ThreadPoolExecutor(2) as pool:
        counts = [future.result() for future in [pool.submit(cron), pool.submit(watchdog)]]
    ((status, error),) = ask(file, "SELECT status, error FROM import_jobs")
    # What coordinated it first looks at the job again before it hands out work.
    if status == "failed":
        print("  cron      finds the job failed, and hands out nothing")
    ((waves,),) = ask(file, "SELECT COUNT(*) FROM wave_coordination")
    ((batches,),) = ask(file, "SELECT COUNT(*) FROM wave_batches")
    print(f"  => the job is {status}: {counts[0]:,} lines counted, {batches} batches handed out, none imported\n")
    database = Database.open_reader(settings.database.url)
    cause = explain(database.run(lambda connection: read_facts(connection, read_progress(connection, "job"))))[0]
    entries = database.run(lambda connection: journal.entries(connection, "job"))
    differing = next(one for one in replay((e.seq, e.snapshot, e.decision) for e in entries) if not one.agrees)
    if bundle is not None:
        bundle_job(database, "job", bundle, settings.run)
        print(f"  bundle    {bundle}: try `waveimport status {bundle} --why` and `waveimport replay {bundle}`")
    database.close()
    print(f"  why       {named(cause.message)}; next: {cause.next}")
    print(f"  replay    entry {differing.seq} is decided otherwise today: {differing.differences[0]}\n")
    yield "replay names the decision to fail the job", differing.differences[0].startswith("job: recorded failed")
    yield "status --why names the unique key that failed the job", "unique_job_wave" in named(cause.message)
    yield "by the old rule both triggers counted every line", counts == [lines, lines]
    yield "by the old rule the second met the unique key of the waves", "unique_job_wave" in named(error)
    yield "by the old rule the job failed with one wave and no batch", (status, waves, batches) == ("failed", 1, 0)


def create_waves_unguarded(settings: Settings, file: Path, name: str, wait: Callable[[], object] = lambda: None) -> int:
    """The predecessor's coordination of a job that has no waves yet. Returns how many lines it counted."""
    ((waves,),) = ask(file, "SELECT COUNT(*) FROM wave_coordination")
    print(f"  {name:<9} finds the job with {waves} waves, and counts")
    with SuiteQLClient(settings.netsuite, request_timeout_seconds=900.0, epoch_seconds=clock.epoch_seconds) as client:
        counted, _, _ = parse_bounds(client.query(bounds_query(settings.records[0]), limit=1))
    wait()
    try:
        execute(
            file,
            "INSERT INTO wave_coordination (job_id, wave_number, kind, status, records, created_at, updated_at)"
            " VALUES ('job', 1, 'main', 'pending', '[\"transactionline\"]', '2026-01-01', '2026-01-01')",
        )
        print(f"  {name:<9} counted {counted:,} lines and made the wave")
    except sqlite3.IntegrityError as error:
        execute(file, "UPDATE import_jobs SET status = 'failed', error = ?", str(error))
        keep_in_mind(settings, name, str(error))
        print(f"  {name:<9} counted {counted:,} lines and fails the job: {error}")
    return counted


def keep_in_mind(settings: Settings, name: str, error: str) -> None:
    """Write into the journal what the second trigger saw before its COUNT (no waves) and decided behind it: the
    predecessor had no place for either."""
    database = Database.open(settings.database.url)
    slots = settings.run.workers
    seen = JobSnapshot(JobStatus.PENDING, CoordinationStatus.NONE, (), limit=slots, free_slots=slots)
    decision = Decision(job=JobStatus.FAILED, reason=f"another made the waves first: {named(error)}")
    database.run(
        lambda connection: journal.append(
            connection, "job", source=Trigger(name), token=0, event="pass", snapshot=seen, decision=decision
        )
    )
    database.close()


def named(error: str) -> str:
    """Return SQLite's words for a duplicate key with the key's name, which they spell out by its columns."""
    return str(error).replace("wave_coordination.job_id, wave_coordination.wave_number", "unique_job_wave")


# --- as it is ---------------------------------------------------------------------------------------------------


def as_it_is(account: Simulator, folder: Path, lines: int, speed: float) -> Iterator[tuple[str, bool]]:
    """The same triggers as `waveimport run` takes them: one on this host, one that knows nothing of its lock file."""
    print("As it is: `waveimport run`, whatever the trigger.")
    file = folder / "now.db"
    # A lease that is shorter than the COUNT must be renewed meanwhile; a busy machine needs a few seconds for that.
    lease = max(5.0, LEASE_SECONDS / speed)
    here = configured(account, folder / "here", file, lease_seconds=lease)
    elsewhere = configured(account, folder / "elsewhere", file, lease_seconds=lease)
    asked_before = counts_answered(account)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(run_import, here, RunOptions(trigger=Trigger.CRON))
        wait_for_count(file, first.done)
        print("  cron      has made the job with its wave, and counts")
        late = COUNT_SECONDS / speed  # Where a second one is let in, it must not work for ever.
        watchdog = run_import(here, RunOptions(trigger=Trigger.WATCHDOG, max_runtime_seconds=late))
        print(f"  watchdog  on the same host: {told(watchdog)}")
        if lease < 0.9 * COUNT_SECONDS / speed:
            time.sleep(lease)  # so long does a lease last that nobody renews
            print("            … by now the lease would have lapsed, were it not renewed while the COUNT runs")
        retry = run_import(elsewhere, RunOptions(trigger=Trigger.RETRY, max_runtime_seconds=late))
        print(f"  retry     as from another host: {told(retry)}")
        meanwhile = counts_answered(account) == asked_before
        done = first.result()
    print(f"  cron      {told(done)}")
    statuses = ask(file, "SELECT status FROM import_jobs")
    waves = ask(file, "SELECT wave_number, status, sealed FROM wave_coordination")
    ((unfinished,),) = ask(file, "SELECT COUNT(*) FROM wave_batches WHERE status <> 'completed'")
    ((landed,),) = ask(file, "SELECT COUNT(*) FROM transactionline")
    counts = counts_answered(account) - asked_before
    print(
        f"  => {len(statuses)} job, {statuses[0][0]}; {len(waves)} wave; {counts} COUNT;"
        f" {landed:,} of {lines:,} lines imported"
    )
    yield "both came while the COUNT ran (try a lower --speed)", meanwhile
    yield "the second trigger on the host stepped aside with exit 0", aside(watchdog)
    yield "the second trigger from elsewhere stepped aside with exit 0", aside(retry)
    yield "the first ended with exit 0 and was not taken over", done.exit_code == 0 and not done.stepped_aside
    yield "there is one job, and it is completed", statuses == [("completed",)]
    yield "there is one set of waves, completed", waves == [(1, "completed", 1)]
    yield "no batch is unfinished", unfinished == 0
    yield "the lines were counted once", counts == 1
    yield "all lines are in", landed == lines


def wait_for_count(file: Path, ended: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until the batch that counts is at work."""
    until = time.monotonic() + seconds
    while time.monotonic() < until and not ended():
        with contextlib.suppress(sqlite3.OperationalError):  # the tables are being made
            if ask(file, "SELECT 1 FROM wave_batches WHERE kind = 'plan' AND status = 'processing'"):
                return
        time.sleep(0.01)  # another thread's progress shows in its database only
    raise SystemExit("the first run never began to count")


def told(result: RunResult) -> str:
    """Return how a run ended, in words."""
    words = result.message or (result.error.message if result.error is not None else "the job is completed")
    return f"exit {int(result.exit_code)}, {words}"


def aside(result: RunResult) -> bool:
    """Whether a run left the job to another, with exit 0."""
    return result.stepped_aside and result.exit_code == 0


# --- means ------------------------------------------------------------------------------------------------------


def configured(account: Simulator, locks: Path, file: Path, *, lease_seconds: float = LEASE_SECONDS) -> Settings:
    """Return the settings of an import of the account's lines into `file`, with its lock files in `locks`."""
    locks.mkdir(mode=0o700)
    path = locks / "waveimport.toml"
    path.touch(mode=0o600)
    path.write_text(
        f'[database]\nurl = "sqlite:///{file}"\n\n{account.netsuite_toml()}\n'
        f'[run]\nlock_dir = "{locks}"\nlease_seconds = {lease_seconds}\n{RECORD}',
        encoding="utf-8",
    )
    return load_settings(path, {}, secrets=True)


def lines_of(account: Simulator) -> int:
    """Return how many lines the account holds, by its own file."""
    ((lines,),) = ask(account.data, "SELECT COUNT(*) FROM transactionline")
    return int(lines)


def counts_answered(account: Simulator) -> int:
    """Return how many COUNTs the account has answered."""
    return sum("COUNT(" in request.query for request in account.requests)


def ask(file: Path, sql: str) -> list[tuple[Any, ...]]:
    """Ask a database file one query."""
    with contextlib.closing(sqlite3.connect(file, timeout=60)) as connection:
        return connection.execute(sql).fetchall()


def execute(file: Path, sql: str, *values: object) -> None:
    """Change a database file."""
    with contextlib.closing(sqlite3.connect(file, timeout=60)) as connection, connection:
        connection.execute(sql, values)


if __name__ == "__main__":
    sys.exit(main())
