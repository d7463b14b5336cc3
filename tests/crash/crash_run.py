"""Kill a whole run at each of its boundaries in turn, let the next run recover, and tell what became of the data.

    python tests/crash/crash_run.py URL FOLDER [--pairs N] [--seed S]

A boundary lies before every statement, before every COMMIT and after it, in any thread of `run_import`: of the making
of tables, create, lease, advance, claim, start, load, release. For boundary 1, 2, 3 … a child process is forked that
imports a small account and is killed by SIGKILL there; after it the oracle must find nothing, and a second child, the
next run, must complete the job at once, though leases last an hour. The first boundary that no run reaches any more
ends the search. With --pairs the second child is killed too, at a boundary drawn by chance, and a third recovers.

It is a program of its own because only a process with a single thread may fork and go on. The last line that it prints
is a JSON object: boundaries, kills, faults.
"""

import argparse
import contextlib
import gc
import json
import os
import random
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "runtime"))

import mysql_server
from runtime_world import LINE, ORDER, ScriptedSource
from sqlalchemy import Engine, event, text
from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite

from waveimport.core.limits import Limits
from waveimport.core.multiset import digest
from waveimport.core.settings import DatabaseSettings, NetSuiteSettings, RunSettings, Settings
from waveimport.errors import ExitCode
from waveimport.runtime import importer, sharing
from waveimport.runtime.importer import run_import
from waveimport.runtime.options import RunOptions
from waveimport.runtime.readers import Readers
from waveimport.runtime.reading import ReadPage
from waveimport.store import audit, landed, schema, staging, transactions
from waveimport.store.destination import Target
from waveimport.store.engine import open_engine
from waveimport.store.staging import stager_of
from waveimport.store.transactions import Database

ORDERS = range(1, 3)
LINES_EACH = 1
TABLES = (
    "import_jobs", "wave_coordination", "wave_batches", "wave_journal", "batch_events", "import_columns", "`order`",
    "line",
)  # fmt: skip

_FRAMES = ("BEGIN", "SAVEPOINT", "RELEASE SAVEPOINT")
"""What frames the statements of a transaction: before and behind it nothing has changed."""


class Killer:
    """Counts the boundaries of this process, and kills it at one of them. Threads share it."""

    def __init__(self, number: int | None) -> None:
        self.number = number
        self.passed = 0
        self._lock = threading.Lock()

    def statement(self, connection: Any, cursor: Any, sql: str, *_: Any) -> None:
        if not sql.startswith(_FRAMES):
            self.boundary()

    def boundary(self) -> None:
        with self._lock:
            self.passed += 1
            if self.passed == self.number:
                os.kill(os.getpid(), signal.SIGKILL)

    def attach(self) -> None:
        event.listen(Engine, "before_cursor_execute", self.statement)
        for dialect in (SQLiteDialect_pysqlite, MySQLDialect_pymysql):
            plain = dialect.do_commit

            def commit(its: Any, connection: Any, plain: Any = plain) -> None:
                self.boundary()
                plain(its, connection)
                self.boundary()

            dialect.do_commit = commit


def source() -> ScriptedSource:
    """The account; made in each child, as a connection does not survive a fork."""
    made = ScriptedSource()
    made.fill(ORDERS, lines_each=LINES_EACH)
    return made


read_here = Readers.read


def read_as_beside(readers: Readers, name: str, body: bytes) -> ReadPage:
    """Read a page; those of lines come as another process would have sent them, which on SQLite is as a database."""
    page = read_here(readers, name, body)
    if name != LINE.name or not page.rows:
        return page
    return replace(page, rows=stager_of(readers._recipes[readers._numbers[name]].packing)(page.rows))


def use(source: ScriptedSource) -> None:
    """Have runs ask the scripted source in place of NetSuite."""

    class Client:
        limit = 1
        pausing = 0

        def __init__(self, settings: object, **how: object) -> None:
            pass

        @property
        def health(self) -> Any:
            return SimpleNamespace(last_success=source.last_success, failing_since=source.failing_since)

        def query(self, sql: str, *, limit: int = 1000, offset: int = 0) -> bytes:
            return source.query(sql, limit=limit, offset=offset)

        def epoch_seconds(self) -> float | None:
            return source.epoch_seconds()

        limits = Limits(1, 1, 1, 1, 0)

        def share(self, requests: int) -> None:
            pass

        def stop(self) -> None:
            pass

        def close(self) -> None:
            pass

    staging.ROWS_LEAST = 1
    Readers.read = read_as_beside
    importer.SuiteQLClient = Client
    # Once a run, or a slow machine would have more boundaries than a quick one.
    sharing.BEAT_SECONDS = 3600.0


def settings_for(url: str, folder: Path) -> Settings:
    return Settings(
        profile="p",
        database=DatabaseSettings(url),
        netsuite=NetSuiteSettings("1_SB1", "http://127.0.0.1:9", consumer_key="k"),
        run=RunSettings(
            workers=1,
            page_size=1,
            batch_size=1,
            parents_per_batch=2,
            lease_seconds=3600,
            lock_dir=str(folder),
        ),
        records=(ORDER, LINE),
    )


def child(work: Callable[[], str]) -> tuple[int, str]:
    """Run `work` in a forked process. Returns (0 or the signal that killed it or 1 for a fault, what it returned)."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(reading)
            said = work()
            code = 0
        except BaseException:
            said = traceback.format_exc()
        with contextlib.suppress(OSError):
            os.write(writing, said.encode()[:60_000])
        os._exit(code)
    os.close(writing)
    said = b""
    while part := os.read(reading, 65536):
        said += part
    os.close(reading)
    _, status = os.waitpid(process, 0)
    return (os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)), said.decode()


def run_and_die(settings: Settings, number: int) -> str:
    """A run that is killed at a boundary; returns how many it has when that lies behind its end."""
    use(source())
    killer = Killer(number)
    killer.attach()
    result = run_import(settings, RunOptions())
    return f"{killer.passed} {int(result.exit_code)}"


def run_import_of_all(settings: Settings) -> None:
    """A run that nobody disturbs."""
    use(source())
    result = run_import(settings, RunOptions())
    assert result.exit_code is ExitCode.OK, result


def recover(settings: Settings) -> str:
    """The next run: completes the job at once. Returns what is wrong with the data, "" for nothing."""
    database = Database.open(settings.database.url)
    told = _violations(database)
    if told:
        return f"after the kill: {told}"
    account = source()
    use(account)
    result = run_import(settings, RunOptions())
    if result.exit_code is not ExitCode.OK:
        return f"the next run ended with {result.exit_code!r}: {result.message} {result.error}"
    return _violations(database) or _data(database, settings, account)


def _violations(database: Database) -> str:
    if not database.run(lambda connection: schema.current_version(connection) is not None):
        return ""  # killed before there was any table
    return "; ".join(str(violation) for violation in database.run(audit.violations))


def _data(database: Database, settings: Settings, account: ScriptedSource) -> str:
    def read(connection: Any) -> str:
        jobs = connection.execute(text("SELECT job_id, status FROM import_jobs ORDER BY job_id")).all()
        wrong = [job for job in jobs if job.status != "completed"]
        # Killed after its last COMMIT, a run has completed its job; each next one then makes another.
        if wrong or not 1 <= len(jobs) <= 3:
            return f"jobs: {jobs}"
        job_id = jobs[-1].job_id
        for record, table, columns in ((ORDER, "orders", "id, memo"), (LINE, "lines", "uniquekey, orderid")):
            there = [tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM `{record.table_name}`"))]
            wanted = [tuple(row) for row in account._tables.execute(f"SELECT {columns} FROM {table}")]
            if sorted(there) != sorted(wanted):
                return f"{record.name}: {len(there)} rows, {len(wanted)} at the source"
            target = Target(record.table_name, record)
            by_batches = landed.counted_by_batches(connection, job_id).get(record.name)
            if landed.rows_in_table(connection, target, job_id) != by_batches:
                return f"{record.name}: {by_batches} rows by the batches' own count"
        parents = digest(landed.parents_of_batches(connection, job_id, "line"))
        if parents != digest(landed.keys_in_table(connection, Target("order", ORDER), job_id)):
            return "the batches of lines carry other parents than landed"
        return ""

    return database.run(read)


class Place:
    """A database that is made new for each kill."""

    def __init__(self, url: str, folder: Path) -> None:
        self.folder = folder
        self.sqlite = url.startswith("sqlite")
        self.url = f"sqlite:///{folder / 'run.db'}" if self.sqlite else url
        self._template = folder / "template.db"

    def prepare(self) -> None:
        """Make the tables by a run of this process, and leave to its children all that the run has compiled.

        They inherit the engine with its statements, which take most of the time of a run this small, and connect anew.
        """
        engine = open_engine(self.url)
        transactions.open_engine = lambda url: engine
        run_import_of_all(settings_for(self.url, self.folder))
        for thread in threading.enumerate():
            if thread is not threading.current_thread():
                thread.join(30)
        assert threading.active_count() == 1, "a process with threads may not fork"
        engine.dispose()
        gc.freeze()
        self._empty()
        if self.sqlite:
            shutil.copy(self.folder / "run.db", self._template)

    def _empty(self) -> None:
        if self.sqlite:
            import sqlite3

            with contextlib.closing(sqlite3.connect(self.folder / "run.db")) as connection:
                for table in TABLES:
                    connection.execute(f"DELETE FROM {table}")
                connection.commit()
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            return
        name = self.url.rsplit("/", 1)[1]
        with mysql_server.connect(self.url, name) as connection, connection.cursor() as cursor:
            for table in TABLES:
                cursor.execute(f"DELETE FROM {table}")

    def renew(self, *, bare: bool) -> None:
        """Make it as before any run; `bare` has no tables either (SQLite only)."""
        if not self.sqlite:
            self._empty()
            return
        for file in self.folder.glob("run.db*"):
            if not file.name.endswith(".write"):
                file.unlink()
        if not bare:
            shutil.copy(self._template, self.folder / "run.db")


def search(place: Place, *, bare: bool, first: int = 1, step: int = 1) -> tuple[int, int, list[str]]:
    """Kill at every boundary from `first` on. Returns (boundaries, kills, faults)."""
    settings = settings_for(place.url, place.folder)
    kills, beyond, number, faults = 0, 0, first, []
    while beyond < 2:
        place.renew(bare=bare)
        code, said = child(lambda number=number: run_and_die(settings, number))
        if code == signal.SIGKILL:
            kills += 1
            beyond = 0
            code, said = child(lambda: recover(settings))
            if code or said:
                faults.append(f"killed at boundary {number}: {said or code}")
        elif code == 0:
            beyond += 1  # threads may take a few steps more or less
        else:
            faults.append(f"boundary {number}: {said}")
            break
        number += step
    return number - 1 - 2 * step, kills, faults


def pairs(place: Place, count: int, boundaries: int, seed: int) -> tuple[int, list[str]]:
    """Kill a run, and the run that recovers from it, at boundaries drawn by chance. Returns (kills, faults)."""
    settings = settings_for(place.url, place.folder)
    chance, kills, faults = random.Random(seed), 0, []
    for _ in range(count):
        place.renew(bare=False)
        drawn = [chance.randint(1, boundaries) for _ in range(2)]
        for number in drawn:
            code, said = child(lambda number=number: run_and_die(settings, number))
            kills += code == signal.SIGKILL
            if code not in (0, signal.SIGKILL):
                faults.append(f"killed at {drawn}: {said}")
        code, said = child(lambda: recover(settings))
        if code or said:
            faults.append(f"killed at {drawn}: {said or code}")
    return kills, faults


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="`sqlite`, or an empty MySQL database")
    parser.add_argument("folder", type=Path, help="an empty folder for the database file and the lock")
    parser.add_argument("--bare", action="store_true", help="begin without tables (SQLite)")
    parser.add_argument("--pairs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--step", type=int, default=1, help="kill at every so-manieth boundary only")
    options = parser.parse_args()
    place = Place(options.url, options.folder)
    place.prepare()
    boundaries, kills, faults = search(place, bare=options.bare, step=options.step)
    if options.pairs and not faults:
        more, faults = pairs(place, options.pairs, boundaries, options.seed)
        kills += more
    print(json.dumps({"boundaries": boundaries, "kills": kills, "faults": faults[:5]}))
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
