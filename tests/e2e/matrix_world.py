"""What the fault matrix shares: a small account over real HTTP that faults strike, and the command in this process.

A case names how a run must end (`End`), lets it, and asks what must hold of every end: one sentence and no traceback,
the exit code, the lease and every batch given back, and of each record exactly those rows at the destination that
the committed batches cover. Then the fault is taken away, and a plain `run` must bring the rest.
"""

import json
import logging
import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from netsuite_server import Handler, ScriptedServer, Step
from project import Project
from runtime_world import ScriptedSource

from waveimport.cli.main import run
from waveimport.core import backoff
from waveimport.netsuite.client import SuiteQLClient
from waveimport.runtime import importer

RECORDS = """
[records.order]
table = "orders"
columns = { id = "integer", memo = "text" }

[records.line]
table = "lines"
key = "uniquekey"
derived_from = "order"
parent_key = "orderid"
columns = { uniquekey = "integer", orderid = "integer" }
"""
RUN = """
workers = 3
page_size = 5
batch_size = 10
parents_per_batch = 3
max_tries = 3
lease_seconds = 30
give_up_after_seconds = 0.2
request_timeout_seconds = 20
"""
ORDERS = range(1, 31)
PAGES_FROM = 3
"""The number of a request at which the plan, and a page or two, are in: a fault from here on strikes midway."""

Fault = Callable[[int, str], Step | None]


def no_fault(number: int, sql: str) -> Step | None:
    """Strike nothing."""
    return None


class Account:
    """Orders and their lines, served over HTTP. `fault` is asked at each request, by its number from 1 and its query:
    what it returns is done in place of the true answer."""

    def __init__(self) -> None:
        self.source = ScriptedSource()
        self.source.fill(ORDERS, lines_each=1)
        self.fault: Fault = no_fault
        self.server = ScriptedServer()
        self.server.script = [self._answer]
        self.port = self.server.server_address[1]
        self.base_url = self.server.url

    def _answer(self, handler: Handler) -> None:
        step = self.fault(len(self.server.asked), json.loads(handler.asked.body)["q"])
        if step is not None:
            step(handler)
            return
        handler.send(200, self.true_answer(handler))

    def true_answer(self, handler: Handler) -> bytes:
        """Return the page that was asked for."""
        limit = int(handler.asked.path.partition("limit=")[2].partition("&")[0])
        # What is a reserved word to SQLite, which plays the account, need be none to the service.
        sql = re.sub(r'(?<!")\bt\.([A-Za-z]\w*)', r't."\1"', json.loads(handler.asked.body)["q"])
        return self.source.answer(sql, limit)

    def strike(self, step: Step, *, after: int = 0, times: int | None = None, matching: str = "") -> None:
        """Answer with `step` from the request behind the first `after` on, so many `times`, the queries that match."""
        struck = [0]
        begun = len(self.server.asked)

        def fault(number: int, sql: str) -> Step | None:
            if number - begun <= after or matching not in sql or (times is not None and struck[0] >= times):
                return None
            struck[0] += 1
            return step

        self.fault = fault

    def heal(self) -> None:
        """Answer truly from now on."""
        self.fault = no_fault

    def restart(self, tls: Any = None) -> None:
        """Listen on the same port again, with TLS if given."""
        self.server = ScriptedServer(tls, self.port)
        self.server.script = [self._answer]
        self.base_url = self.server.url

    def close(self) -> None:
        """Listen no more."""
        self.server.close()


def black_hole(handler: Handler) -> None:
    """Take the request, and say nothing until the other side leaves."""
    handler.rfile.read(1)
    handler.close_connection = True


def page_of(items: list[dict[str, Any]], **changed: Any) -> bytes:
    """A page as the service gives it, with parts of its envelope changed."""
    envelope = {
        "links": [],
        "count": len(items),
        "hasMore": False,
        "items": items,
        "offset": 0,
        "totalResults": len(items),
    }
    return json.dumps(envelope | changed).encode()


@dataclass(frozen=True)
class End:
    """How a run must end: its exit code, the job's state (None: there is no job), a part of the sentence."""

    code: int
    job: str | None
    words: str


class Matrix(Project):
    """A configured folder whose commands are called in this process."""

    def __init__(
        self,
        folder: Path,
        url: str,
        account: Account,
        capsys: pytest.CaptureFixture[str],
        *,
        run: str = RUN,
        records: str = RECORDS,
        destination: str | None = None,
    ) -> None:
        self.account = account
        self._capsys = capsys
        super().__init__(folder, url, netsuite(account.base_url), run=run, records=records, destination=destination)

    def run(self, *words: str, within: tuple[str, ...] = ()) -> "subprocess.CompletedProcess[str]":
        """Call a command to its end. A run that hangs is paused after a minute, and its exit code then says so."""
        assert not within, "there is no other process"
        bounded = (*words, "--max-runtime", "60s") if words[0] == "run" else words
        self._capsys.readouterr()
        code = run(["--config", str(self.config), *bounded])
        out, err = self._capsys.readouterr()
        return subprocess.CompletedProcess(words, int(code), out, err)

    # --- how it must end ------------------------------------------------------------------------------------------

    def assert_ends(self, end: End, *words: str) -> "subprocess.CompletedProcess[str]":
        """Run, and hold the run to its end."""
        done = self.run("run", *words)
        self.assert_told(done, end)
        jobs = self.query("SELECT status, lease_owner FROM import_jobs ORDER BY job_id") if end.job else []
        assert jobs[-1:] == ([(end.job, None)] if end.job else [])
        if end.job:
            assert self.query("SELECT COUNT(*) FROM wave_batches WHERE lease_expires_at IS NOT NULL") == [(0,)]
            self.assert_nothing_is_half_written()
        return done

    def assert_told(self, done: "subprocess.CompletedProcess[str]", end: End) -> None:
        """The exit code, and a sentence in place of a traceback."""
        assert done.returncode == end.code, done.stderr
        assert "Traceback" not in done.stderr
        assert end.words in done.stderr
        # Batches that failed for good are told one by one; any other end is one error.
        assert done.stderr.count("error[WI-") == (0 if end.code in (0, 3, 7) else 1), done.stderr

    def assert_nothing_is_half_written(self) -> None:
        """At the destination stand exactly the rows that the committed batches cover, and each landed order has its
        batch of lines. Asked of the first job of a database."""
        self.assert_coordination_is_whole()
        orders = {row[0] for row in self._landed("order", "id")}
        lines = {row[0] for row in self._landed("line", "uniquekey")}
        assert orders == self._covered("order", "SELECT id, id FROM orders")
        assert lines == self._covered("line", "SELECT uniquekey, orderid FROM lines")
        parents = [
            parent
            for (spec,) in self.query("SELECT spec FROM wave_batches WHERE record = 'line'")
            for parent in json.loads(spec)["parents"]
        ]
        assert sorted(parents) == sorted(orders), "a landed order without its batch of lines, or with two"

    def _landed(self, table: str, key: str) -> list[tuple[Any, ...]]:
        if not self.query(self._has_table(table), landing=True):
            return []
        return self.query(f"SELECT `{key}` FROM `{table}`", landing=True)

    def _has_table(self, table: str) -> str:
        if self.landing_url.startswith("sqlite"):
            return f"SELECT 1 FROM sqlite_master WHERE name = '{table}'"
        return f"SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = '{table}'"

    def _covered(self, record: str, sql: str) -> set[Any]:
        """The keys that the batches of a record have committed, by their own words: `sql` gives each row of the source
        as its key and what its batch is told by."""
        rows = self.account.source.rows(sql)
        covered: set[Any] = set()
        for spec_text, status, resume in self.query(
            "SELECT spec, status, resume_key FROM wave_batches"
            f" WHERE record = '{record}' AND kind <> 'plan' ORDER BY batch_id"
        ):
            spec = json.loads(spec_text)
            upto = json.loads(resume)[0] if resume else None
            for key, told_by in rows:
                if "parents" in spec:
                    within = told_by in spec["parents"]
                else:
                    lower, upper = spec["lower"], spec["upper"]
                    within = (lower is None or told_by > lower) and (upper is None or told_by <= upper)
                if within and (status == "completed" or (upto is not None and key <= upto)):
                    covered.add(key)
        return covered

    def assert_the_next_run_brings_the_rest(self) -> None:
        """A plain `run` ends with 0, and every row of the source is at the destination as it is there, once."""
        done = self.run("run")
        assert done.returncode == 0, done.stderr
        assert "Traceback" not in done.stderr
        self.assert_equals_account()

    def assert_equals_account(self) -> None:
        """The destination holds the source, and the job is whole."""
        order = self.query("SELECT id, memo FROM `order` ORDER BY id", landing=True)
        line = self.query("SELECT uniquekey, orderid FROM line ORDER BY uniquekey", landing=True)
        assert order == self.account.source.rows("SELECT id, memo FROM orders ORDER BY id")
        assert line == self.account.source.rows("SELECT uniquekey, orderid FROM lines ORDER BY uniquekey")
        self.assert_coordination_is_whole()
        assert self.query("SELECT status FROM import_jobs ORDER BY job_id DESC LIMIT 1") == [("completed",)]


def netsuite(base_url: str) -> str:
    """The table of the configuration that reaches an account there."""
    return (
        f'[netsuite]\naccount = "1_SB1"\nbase_url = "{base_url}"\nconsumer_key = "consumer-key"\n'
        'consumer_secret = "consumer-secret"\ntoken_id = "token-id"\ntoken_secret = "token-secret"\n'
    )


@contextmanager
def in_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let commands be called in this process: they leave its signals and its logging as they were, and nobody waits
    long before asking again."""

    class Hasty(SuiteQLClient):
        def __init__(self, *given: Any, **how: Any) -> None:
            super().__init__(*given, **how, random=lambda: 0.0)

    monkeypatch.setattr(importer, "SuiteQLClient", Hasty)
    monkeypatch.setattr(importer, "random", SimpleNamespace(random=lambda: 0.0))
    monkeypatch.setattr(backoff, "REFUSED_BASE_SECONDS", 0.01)
    monkeypatch.setattr(backoff, "OUTAGE_BASE_SECONDS", 0.01)
    monkeypatch.setattr(backoff, "OUTAGE_MOST_SECONDS", 0.1)
    signals = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    root, ours = logging.getLogger(), logging.getLogger("waveimport")
    before = (list(root.handlers), root.level, ours.level)
    try:
        yield
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])
        ours.setLevel(before[2])
        for number, handler in signals.items():
            signal.signal(number, handler)
