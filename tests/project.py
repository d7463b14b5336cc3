"""A project as its user has it: a configuration, a database, the command; and the source to compare with.

The comparison is independent of the product: it reads the account's own file and the destination tables by plain
drivers, and knows of the product only the documented column types.
"""

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mysql_server
import pymysql
import pytest

from waveimport.simulator.dataset import ground_truth
from waveimport.simulator.handle import Simulator, records_toml

RUN_SECONDS = 240
DEEP = os.environ.get("HYPOTHESIS_PROFILE") == "deep"
"""Whether the large profile of the tests is asked for."""
of_one_database = pytest.mark.parametrize(
    "database_url",
    ["sqlite", *([pytest.param("mysql", marks=pytest.mark.mysql)] if DEEP else [])],
    indirect=True,
)
"""For what is asked and decided, whatever the database; the deep profile has both. What removes rows runs on both."""
SMALL = "batch_size = 400\nparents_per_batch = 100\npage_size = 200\nlease_seconds = 5"
"""Keys of `[run]` that make many batches of a small account."""


class Project:
    """A folder with a `waveimport.toml` that imports a simulated account into `url` (and `destination`, if given)."""

    def __init__(
        self,
        folder: Path,
        url: str,
        netsuite: str,
        *,
        run: str = "",
        records: str | None = None,
        destination: str | None = None,
    ) -> None:
        self.folder = folder
        self.url = url
        self.landing_url = destination or url
        self.config = folder / "waveimport.toml"
        self.records = records if records is not None else records_toml()
        self.netsuite = netsuite
        self.write(run, destination)

    def write(self, run: str = "", destination: str | None = None) -> None:
        """Write the configuration (anew, with other `[run]` keys)."""
        landing = f'[destination]\nurl = "{destination}"\n\n' if destination else ""
        self.config.write_text(
            f'[database]\nurl = "{self.url}"\n\n{landing}{self.netsuite}\n[run]\n'
            f'lock_dir = "{self.folder}"\n{run}\n\n{self.records}'
        )
        self.config.chmod(0o600)

    def command(self, *words: str) -> list[str]:
        """Return the command line of a command of the product."""
        return [sys.executable, "-m", "waveimport", "--config", str(self.config), *words]

    def start(self, *words: str, within: tuple[str, ...] = ()) -> "subprocess.Popen[str]":
        """Start a command, `within` another program if given, and return at once."""
        return subprocess.Popen(
            [*within, *self.command(*words)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={name: value for name, value in os.environ.items() if not name.startswith("WAVEIMPORT_")},
        )

    def run(self, *words: str, within: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        """Run a command to its end."""
        process = self.start(*words, within=within)
        try:
            out, err = process.communicate(timeout=RUN_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
            raise AssertionError(f"{words} did not end:\n{out}\n{err}") from None
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def imported(self, *words: str) -> dict[str, Any]:
        """Run `run --json` and return the job it ends with; it must have been completed."""
        done = self.run("run", "--json", *words)
        assert done.returncode == 0, done.stderr
        job: dict[str, Any] = json.loads(done.stdout)
        assert job["status"] == "completed", done.stderr
        return job

    def job(self) -> dict[str, Any] | None:
        """Return the newest job as `status --json` gives it."""
        done = self.run("status", "--json")
        assert done.returncode == 0, done.stderr
        jobs = json.loads(done.stdout)["jobs"]
        return jobs[0] if jobs else None

    # --- the databases, by plain drivers --------------------------------------------------------------------------

    def query(self, sql: str, *, landing: bool = False) -> list[tuple[Any, ...]]:
        """Ask the coordination database, or the destination, one query."""
        return list(plain_query(self.landing_url if landing else self.url, sql))

    def execute(self, sql: str) -> None:
        """Change the coordination database behind the product's back."""
        if self.url.startswith("sqlite"):
            with contextlib.closing(sqlite3.connect(self.url.removeprefix("sqlite:///"), timeout=60)) as connection:
                connection.execute(sql)
                connection.commit()
            return
        with mysql_server.connect(self.url, urlsplit(self.url).path.removeprefix("/")) as my, my.cursor() as cursor:
            cursor.execute(sql)

    def landed(self, record: str) -> dict[Any, tuple[Any, ...]]:
        """Return the rows of a record's destination table by key, in comparable values."""
        spec = tomllib.loads(self.records)["records"][record]
        columns = ", ".join(f"`{name}`" for name in spec["columns"])
        table = spec.get("table_name", record)
        rows = self.query(f"SELECT {columns} FROM `{table}`", landing=True)
        return {row[0]: row for row in (comparable(spec, row) for row in rows)}

    def source(self, account: Path, record: str) -> dict[Any, tuple[Any, ...]]:
        """Return the rows that the account holds of a record, by key, in comparable values."""
        spec = tomllib.loads(self.records)["records"][record]
        where = spec.get("where", "1")
        if "derived_from" in spec:
            parent = tomllib.loads(self.records)["records"][spec["derived_from"]]
            within = f'SELECT id FROM "{parent.get("table", spec["derived_from"])}" WHERE {parent.get("where", "1")}'
            where = f'"{spec["parent_key"]}" IN ({within})'
        rows = ground_truth(account, spec.get("table", record), list(spec["columns"]), where)
        return {row[0]: row for row in (comparable(spec, row) for row in rows)}

    def assert_equals_source(self, account: Path) -> int:
        """Compare every record row by row and cell by cell with the source; return how many rows there are."""
        total = 0
        for record in tomllib.loads(self.records)["records"]:
            landed, source = self.landed(record), self.source(account, record)
            assert len(landed) == len(source), f"{record}: {len(landed)} rows landed, {len(source)} at the source"
            for key, row in source.items():
                assert landed.get(key) == row, f"{record} {key}: landed {landed.get(key)}, at the source {row}"
            total += len(source)
        return total

    def assert_coordination_is_whole(self) -> None:
        """The separate checker: what must hold of the coordination tables of a completed job, asked in SQL."""
        asked = {
            "a batch is not completed": "SELECT COUNT(*) FROM wave_batches WHERE status <> 'completed' AND job_id IN"
            " (SELECT job_id FROM import_jobs WHERE status = 'completed')",
            "a wave is not completed or not sealed": "SELECT COUNT(*) FROM wave_coordination WHERE"
            " (status <> 'completed' OR sealed <> 1) AND job_id IN"
            " (SELECT job_id FROM import_jobs WHERE status = 'completed')",
            "a total is not the count": "SELECT COUNT(*) FROM wave_coordination w WHERE w.total <>"
            " (SELECT COUNT(*) FROM wave_batches b WHERE b.job_id = w.job_id AND b.wave_number = w.wave_number)",
            "two unfinished jobs": "SELECT COUNT(*) FROM (SELECT profile FROM import_jobs WHERE status IN"
            " ('pending', 'processing') GROUP BY profile HAVING COUNT(*) > 1) x",
            "a lease without work": "SELECT COUNT(*) FROM wave_batches WHERE lease_expires_at IS NOT NULL AND status"
            " NOT IN ('dispatched', 'processing')",
        }
        for fault, sql in asked.items():
            assert self.query(sql)[0][0] == 0, fault


def plain_query(url: str, sql: str) -> Iterator[tuple[Any, ...]]:
    """Yield the rows of a query by the plain driver of the database."""
    if url.startswith("sqlite"):
        with contextlib.closing(sqlite3.connect(url.removeprefix("sqlite:///"), timeout=60)) as connection:
            yield from connection.execute(sql)
        return
    database = urlsplit(url).path.removeprefix("/")
    with mysql_server.connect(url, database) as my, my.cursor() as cursor:
        cursor.execute(sql)
        yield from cursor.fetchall()


def comparable(spec: dict[str, Any], row: tuple[Any, ...]) -> tuple[Any, ...]:
    """Bring a row of either database or of the source to one form, by the documented types."""
    return tuple(
        None if value is None else form(value)
        for form, value in zip(_forms(tuple(spec["columns"].values())), row, strict=True)
    )


@lru_cache
def _forms(kinds: tuple[str, ...]) -> tuple[Callable[[Any], Any], ...]:
    return tuple(_form(kind) for kind in kinds)


def _form(kind: str) -> Callable[[Any], Any]:
    if kind == "integer":
        return int
    if kind == "boolean":
        return lambda value: {"T": 1, "F": 0}[value] if isinstance(value, str) else int(value)
    if kind.startswith("decimal"):
        return partial(_scaled, scale=int(kind.rstrip(")").split(",")[1]))
    return str


def _scaled(value: Any, *, scale: int) -> int:
    """Return a decimal as a whole number of its last digit."""
    if isinstance(value, float | int):
        return round(value * 10**scale)
    return int(Decimal(value).scaleb(scale).to_integral_value())


def simulated(tmp_path: Path, url: str, simulator: Simulator, **how: Any) -> Project:
    """Return a project that imports a running simulated account into `url`."""
    return Project(tmp_path, url, simulator.netsuite_toml(), **how)


def wait_for(project: Project, sql: str, seconds: float = 60.0) -> None:
    """Wait until a query on the coordination database finds something; it may not have its tables yet."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if project.query(sql)[0][0]:
                return
        except (sqlite3.OperationalError, pymysql.err.ProgrammingError):
            pass
        time.sleep(0.02)  # another process's progress shows in its database only
    raise AssertionError(f"never came true: {sql}")
