"""A run from its start to its exit code, against a scripted source, on both databases."""

import itertools
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from runtime_world import LINE, ORDER, ScriptedSource, bounds_of, reply
from sqlalchemy import text

from waveimport.core.limits import Limits
from waveimport.core.settings import DatabaseSettings, NetSuiteSettings, RunSettings, Settings
from waveimport.core.waves import Trigger
from waveimport.errors import (
    ConfigChanged,
    DiskFull,
    ExitCode,
    LoginRefused,
    ModeConflict,
    QueryRefused,
    Stopped,
    TableClash,
    WaveImportError,
)
from waveimport.runtime import coordinator, importer
from waveimport.runtime.coordinator import Stop
from waveimport.runtime.importer import run_import
from waveimport.runtime.opening import credential_fingerprint
from waveimport.runtime.options import RunOptions, RunResult
from waveimport.runtime.single_flight import FileGuard, lock_path
from waveimport.runtime.stop import StopSwitch
from waveimport.store import jobs, waves
from waveimport.store.engine import sqlite_path
from waveimport.store.transactions import Database


class Client:
    """What a run needs of the HTTP client, given by a scripted source."""

    source: ScriptedSource

    def __init__(self, settings: object, **how: object) -> None:
        self.limit, self.pausing = 4, 0

    @property
    def health(self) -> Any:
        return SimpleNamespace(last_success=self.source.last_success, failing_since=self.source.failing_since)

    def epoch_seconds(self) -> float | None:
        return self.source.epoch_seconds()

    def query(self, sql: str, *, limit: int = 1000, offset: int = 0) -> bytes:
        return self.source.query(sql, limit=limit, offset=offset)

    def clock_skew_seconds(self, now_epoch_seconds: float) -> float | None:
        return None

    @property
    def limits(self) -> Limits:
        return Limits(self.limit, self.limit, 1, self.limit, 0)

    def share(self, requests: int) -> None:
        """Take no notice."""

    def stop(self) -> None:
        self.source.halted.set()

    def close(self) -> None:
        """End."""


class Runs:
    """A configuration, its source and its database."""

    def __init__(self, url: str, folder: Path, source: ScriptedSource) -> None:
        self.source = source
        self.settings = Settings(
            profile="p",
            database=DatabaseSettings(url),
            netsuite=NetSuiteSettings("1_SB1", "http://127.0.0.1:9", consumer_key="k"),
            run=RunSettings(
                workers=3,
                page_size=5,
                batch_size=10,
                parents_per_batch=3,
                lease_seconds=30,
                max_tries=1,
                lock_dir=str(folder),
            ),
            records=(ORDER, LINE),
        )

    def __call__(
        self,
        *,
        settings: Settings | None = None,
        switch: StopSwitch | None = None,
        on_turn: Callable[[str], None] = lambda job_id: None,
        **options: Any,
    ) -> RunResult:
        return run_import(settings or self.settings, RunOptions(**options), switch=switch, on_turn=on_turn)

    def query(self, sql: str, url: str | None = None) -> list[tuple[Any, ...]]:
        database = Database.open(url or self.settings.database.url)
        try:
            return database.run(lambda connection: [tuple(row) for row in connection.execute(text(sql))])
        finally:
            database.close()

    def orders(self) -> list[int]:
        return [row[0] for row in self.query("SELECT id FROM `order` ORDER BY id")]

    def guard(self) -> FileGuard:
        database = Database.open(self.settings.database.url)
        try:
            return FileGuard(lock_path(self.settings, database.name, sqlite_path(database.url)))
        finally:
            database.close()


@pytest.fixture
def runs(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Runs:
    source = ScriptedSource()
    source.fill(range(1, 31), lines_each=1)
    monkeypatch.setattr(importer, "SuiteQLClient", type("Scripted", (Client,), {"source": source}))
    return Runs(database_url, tmp_path / "locks", source)


def test_the_first_run_makes_tables_and_job_and_brings_everything(runs: Runs) -> None:
    result = runs()
    assert (result.exit_code, result.error) == (ExitCode.OK, None)
    assert runs.orders() == list(range(1, 31))
    assert runs.query("SELECT status, mode, lease_owner FROM import_jobs") == [("completed", "full", None)]
    assert runs.query("SELECT COUNT(*) FROM line") == [(30,)]


def test_what_is_at_work_when_the_database_refuses_a_pass_goes_back_with_the_lease(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With leases of an hour, the next run would wait for them."""
    at_work, refused = threading.Event(), threading.Event()
    advance = waves.advance

    def hold_pages(sql: str) -> None:
        if "COUNT(" not in sql:
            at_work.set()
            assert refused.wait(30)

    def advance_until_pages_are_asked(*args: Any, **how: Any) -> Any:
        if at_work.is_set() and not refused.is_set():
            raise DiskFull("the disk of the database is full")
        return advance(*args, **how)

    runs.source.before = hold_pages
    monkeypatch.setattr(coordinator, "PASS_EVERY_SECONDS", 0.05)
    monkeypatch.setattr(waves, "advance", advance_until_pages_are_asked)
    with pytest.raises(DiskFull):
        runs(settings=replace(runs.settings, run=replace(runs.settings.run, lease_seconds=3600)))
    left = runs.query("SELECT status, COUNT(*) FROM wave_batches GROUP BY status ORDER BY status")
    refused.set()
    assert left == [("completed", 1), ("pending", 3)], "the plan is completed, its ranges wait"
    assert runs().exit_code is ExitCode.OK
    assert runs.orders() == list(range(1, 31))


def test_after_a_completed_job_a_run_makes_another_and_a_retry_has_nothing_to_do(runs: Runs) -> None:
    first = runs()
    retry = runs(retry_failed=True)
    assert (retry.exit_code, retry.message) == (ExitCode.OK, "no failed batches")
    second = runs()
    assert second.job_id not in (None, first.job_id)
    assert runs.query("SELECT COUNT(*) FROM `order`") == [(30,)]


def fail_one_range(runs: Runs) -> RunResult:
    def poison(sql: str) -> None:
        if bounds_of(sql) == (10, 20):
            raise QueryRefused("refused")

    runs.source.before = poison
    return runs()


def test_what_failed_is_tried_again_in_place_by_the_next_run(runs: Runs) -> None:
    failed = fail_one_range(runs)
    assert failed.exit_code is ExitCode.INCOMPLETE
    assert "1 batches failed" in (failed.message or "")
    runs.source.before = lambda sql: None
    asked = len(runs.source.asked)
    mended = runs()
    assert (mended.exit_code, mended.job_id) == (ExitCode.OK, failed.job_id)
    assert runs.orders() == list(range(1, 31))
    assert not [sql for sql in runs.source.asked[asked:] if "FROM orders t" in sql and "COUNT(" in sql], (
        "nothing that is known is asked again"
    )


def test_full_leaves_a_failed_job_and_makes_a_new_one(runs: Runs) -> None:
    failed = fail_one_range(runs)
    runs.source.before = lambda sql: None
    assert runs(full=True).job_id != failed.job_id


def stopped_midway(runs: Runs, why: Stop = Stop.MAX_RUNTIME, **options: Any) -> RunResult:
    switch = StopSwitch()

    def stop(sql: str) -> None:
        if "COUNT(" not in sql:
            switch(why)

    runs.source.before = stop
    result = runs(switch=switch, **options)
    runs.source.before = lambda sql: None
    return result


@pytest.mark.parametrize(
    ("why", "code"),
    [
        (Stop.MAX_RUNTIME, ExitCode.PAUSED),
        (Stop.INTERRUPTED, ExitCode.INTERRUPTED),
        (Stop.TERMINATED, ExitCode.TERMINATED),
    ],
)
def test_a_run_that_was_stopped_says_so_and_the_next_goes_on_with_its_job(
    runs: Runs, why: Stop, code: ExitCode
) -> None:
    stopped = stopped_midway(runs, why)
    assert stopped.exit_code is code
    assert runs.query("SELECT status, lease_owner FROM import_jobs") == [("processing", None)]
    again = runs()
    assert (again.exit_code, again.job_id) == (ExitCode.OK, stopped.job_id)
    assert runs.orders() == list(range(1, 31))
    assert len([sql for sql in runs.source.counts() if "FROM orders t" in sql]) == 1


def test_a_second_run_beside_a_live_one_steps_aside(runs: Runs) -> None:
    asides: list[RunResult] = []
    pages = itertools.count()

    def beside(sql: str) -> None:
        if "COUNT(" not in sql and next(pages) == 0:
            asides.append(runs())

    runs.source.before = beside
    assert runs().exit_code is ExitCode.OK
    (aside,) = asides
    assert (aside.exit_code, aside.stepped_aside) == (ExitCode.OK, True)
    assert "another run is at work" in (aside.message or "")
    assert runs.query("SELECT COUNT(*) FROM import_jobs") == [(1,)]


def test_without_the_lock_file_the_leased_row_keeps_a_second_run_away(runs: Runs, tmp_path: Path) -> None:
    """Another host: it holds another lock file, and only the row tells."""
    elsewhere = replace(runs.settings, run=replace(runs.settings.run, lock_dir=str(tmp_path / "elsewhere")))
    asides: list[RunResult] = []
    pages = itertools.count()

    def beside(sql: str) -> None:
        if "COUNT(" not in sql and next(pages) == 0:
            asides.append(runs(settings=elsewhere))

    runs.source.before = beside
    assert runs().exit_code is ExitCode.OK
    assert asides[0].stepped_aside
    assert "holds import_" in (asides[0].message or "")
    assert runs.query("SELECT COUNT(*) FROM import_jobs") == [(1,)]


def test_a_busy_lock_file_beside_a_lapsed_lease_does_not_keep_a_run_away(runs: Runs) -> None:
    stopped = stopped_midway(runs)
    database = Database.open(runs.settings.database.url)
    lapse = "UPDATE import_jobs SET lease_owner = 'host:hung', lease_expires_at = '2020-01-01 00:00:00'"
    database.run(lambda connection: connection.exec_driver_sql(lapse) and None)
    database.close()
    guard = runs.guard()
    assert guard.acquire()
    try:
        result = runs()
    finally:
        guard.release()
    assert (result.exit_code, result.job_id, result.stepped_aside) == (ExitCode.OK, stopped.job_id, False)
    assert runs.orders() == list(range(1, 31))


def test_a_busy_lock_file_with_nothing_yet_in_the_database_means_a_run_that_is_starting(runs: Runs) -> None:
    guard = runs.guard()
    assert guard.acquire()
    try:
        result = runs()
    finally:
        guard.release()
    assert (result.exit_code, result.stepped_aside) == (ExitCode.OK, True)
    assert runs.source.asked == []


@pytest.mark.parametrize("key", ["client_id", "certificate_id", "private_key", "algorithm", "auth", "token_secret"])
def test_another_credential_of_either_login_is_another_fingerprint_that_shows_none_of_it(
    tmp_path: Path, key: str
) -> None:
    settings = Runs(f"sqlite:///{tmp_path / 'x.db'}", tmp_path, ScriptedSource()).settings
    netsuite = replace(settings.netsuite, auth="m2m", client_id="c", certificate_id="i", private_key="k")
    before = credential_fingerprint(replace(settings, netsuite=netsuite))
    after = credential_fingerprint(replace(settings, netsuite=replace(netsuite, **{key: "canary"})))
    assert before != after
    assert len(after) == 32
    assert "canary" not in after


def test_a_refused_login_ends_with_4_and_is_remembered_for_these_credentials(runs: Runs) -> None:
    def refused(sql: str) -> None:
        raise LoginRefused("401")

    runs.source.before = refused
    first = runs()
    assert (first.exit_code, type(first.error)) == (ExitCode.LOGIN, LoginRefused)
    asked = len(runs.source.asked)
    with pytest.raises(LoginRefused, match="less than 30 minutes ago"):
        runs()
    assert len(runs.source.asked) == asked
    runs.source.before = lambda sql: None
    other = replace(runs.settings, netsuite=replace(runs.settings.netsuite, consumer_key="new"))
    assert runs(settings=other).exit_code is ExitCode.OK


def test_an_unfinished_job_is_not_mixed_with_other_records_or_another_configuration(runs: Runs) -> None:
    stopped = stopped_midway(runs)
    with pytest.raises(ModeConflict) as conflict:
        runs(records=("order",))
    assert f"waveimport cancel {stopped.job_id}" in (conflict.value.help or "")
    changed = replace(runs.settings, records=(replace(ORDER, where="id > 3"), LINE))
    with pytest.raises(ConfigChanged):
        runs(settings=changed)
    other_tables = replace(runs.settings, run=replace(runs.settings.run, workers=1))
    assert runs(settings=other_tables).exit_code is ExitCode.OK, "[run] may change at any time"


def test_a_table_that_clashes_leaves_no_job_behind(runs: Runs) -> None:
    database = Database.open(runs.settings.database.url)
    database.run(
        lambda connection: connection.exec_driver_sql("CREATE TABLE `order` (id INTEGER PRIMARY KEY)") and None
    )
    database.close()
    with pytest.raises(TableClash):
        runs()
    assert runs.query("SELECT COUNT(*) FROM import_jobs") == [(0,)]


def test_rows_that_the_destination_refuses_cost_their_batch_and_hide_nobody_elses_work(runs: Runs) -> None:
    assert runs().exit_code is ExitCode.OK
    database = Database.open(runs.settings.database.url)
    trigger = (
        "CREATE TRIGGER mine BEFORE INSERT ON `order` WHEN NEW.id = 7 BEGIN SELECT RAISE(ABORT, 'seven'); END"
        if database.is_sqlite
        else "CREATE TRIGGER mine BEFORE INSERT ON `order` FOR EACH ROW IF NEW.id = 7 THEN SIGNAL SQLSTATE '45000' SET"
        " MESSAGE_TEXT = 'seven'; END IF"
    )
    for sql in ("DELETE FROM `order`", trigger):
        database.run(lambda connection, sql=sql: connection.exec_driver_sql(sql) and None)
    database.close()
    result = runs()
    assert result.exit_code is ExitCode.INCOMPLETE
    assert runs.orders() == [*range(1, 6), *range(11, 31)]
    failed = runs.query(
        f"SELECT record, error FROM wave_batches WHERE status = 'failed' AND job_id = '{result.job_id}'"
    )
    assert [record for record, _ in failed] == ["order"]
    assert "table `order` refused a row (" in failed[0][1]
    assert "seven" not in failed[0][1]


def test_a_row_that_a_check_refuses_is_never_left_out_unnoticed(runs: Runs) -> None:
    """IGNORE would leave it out and call its batch completed."""
    if runs.settings.database.url.startswith("sqlite"):
        pytest.skip("SQLite adds no CHECK to a table that is there")
    assert runs().exit_code is ExitCode.OK
    database = Database.open(runs.settings.database.url)
    for sql in ("DELETE FROM `order`", "ALTER TABLE `order` ADD CONSTRAINT no_seven CHECK (id <> 7)"):
        database.run(lambda connection, sql=sql: connection.exec_driver_sql(sql) and None)
    database.close()
    result = runs()
    assert result.exit_code is ExitCode.INCOMPLETE
    assert runs.query(f"SELECT record FROM wave_batches WHERE status = 'failed' AND job_id = '{result.job_id}'") == [
        ("order",)
    ]


def test_a_table_that_is_dropped_under_a_run_ends_it_with_a_sentence(runs: Runs) -> None:
    def drop(sql: str) -> None:
        if "COUNT(" not in sql:
            runs.source.before = lambda sql: None
            database = Database.open(runs.settings.database.url, sleep=lambda seconds: True)
            database.run(lambda connection: connection.exec_driver_sql("DROP TABLE `order`") and None)
            database.close()

    runs.source.before = drop
    result = runs()
    assert (result.exit_code, type(result.error)) == (ExitCode.USAGE, TableClash)
    assert result.error is not None
    assert "table `order` was dropped or changed" in result.error.message
    assert f"waveimport cancel {result.job_id}" in (result.error.help or "")
    assert runs.query("SELECT COUNT(*) FROM wave_batches WHERE tries > 0") == [(0,)]


def test_two_profiles_do_not_write_into_one_table(runs: Runs) -> None:
    assert runs().exit_code is ExitCode.OK
    other = replace(runs.settings, profile="q")
    with pytest.raises(TableClash, match="table `line` holds the rows of profile `p`"):
        runs(settings=replace(other, records=(replace(ORDER, table_name="fresh"), LINE)))
    with pytest.raises(WaveImportError, match=r"fresh|1146"):
        runs.query("SELECT * FROM fresh")
    assert runs.query("SELECT DISTINCT profile FROM import_jobs") == [("p",)]
    assert runs(settings=replace(other, destination=DatabaseSettings(runs.settings.database.url, prefix="q_"))).job_id
    assert runs.query("SELECT COUNT(*) FROM q_order") == [(30,)]


def test_a_run_that_is_cancelled_meanwhile_ends_incomplete(runs: Runs) -> None:
    def cancel(sql: str) -> None:
        if "COUNT(" not in sql:
            database = Database.open(runs.settings.database.url, sleep=lambda seconds: True)
            (job,) = database.run(lambda connection: jobs.list_jobs(connection))
            database.run(lambda connection: jobs.cancel_job(connection, job.job_id, trigger=Trigger.MANUAL))
            database.close()

    runs.source.before = cancel
    result = runs()
    assert result.exit_code is ExitCode.INCOMPLETE
    assert isinstance(result.error, WaveImportError)
    runs.source.before = lambda sql: None
    assert runs().job_id != result.job_id


def test_a_line_that_is_counted_and_never_sent_ends_in_exit_6_though_the_job_is_completed(runs: Runs) -> None:
    counted = reply(["n"], [(31,)], 1)
    runs.source.before = lambda sql: counted if "COUNT(*) AS n FROM lines" in sql else None
    result = runs()
    assert result.exit_code is ExitCode.RECONCILIATION
    assert runs.query("SELECT status, reconciled_at FROM import_jobs") == [("completed", None)]
    assert "`line`: 31 rows counted at the source, 30 landed" in runs.query("SELECT error FROM import_jobs")[0][0]
    assert runs(settings=replace(runs.settings, run=replace(runs.settings.run, reconcile=False))).exit_code == 0


def test_max_runtime_ends_a_count_of_a_completed_job_which_is_no_failure(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    timers: list[Any] = []

    class Timer:
        """Runs down when it is told to, unless it was cancelled."""

        def __init__(self, seconds: float, then: Any, words: tuple[Any, ...]) -> None:
            self.daemon, self.cancelled, self.then, self.words = True, False, then, words
            timers.append(self)

        def start(self) -> None:
            """Start."""

        def cancel(self) -> None:
            self.cancelled = True

    def count(sql: str) -> None:
        if "COUNT(*) AS n FROM lines" in sql:
            (timer,) = timers
            assert not timer.cancelled
            timer.then(*timer.words)
            assert runs.source.halted.is_set()
            raise Stopped("stopped while NetSuite was answering")

    monkeypatch.setattr(importer, "threading", SimpleNamespace(Timer=Timer))
    runs.source.before = count
    assert runs(max_runtime_seconds=60.0).exit_code is ExitCode.OK
    assert runs.query("SELECT status, error, reconciled_at FROM import_jobs") == [("completed", None, None)]
    assert timers[0].cancelled


def test_rows_may_land_in_a_database_of_their_own(runs: Runs, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'rows.db'}"
    apart = replace(runs.settings, destination=DatabaseSettings(url, prefix="ns_"))
    assert runs(settings=apart).exit_code is ExitCode.OK
    assert [row[0] for row in runs.query("SELECT id FROM ns_order ORDER BY id", url)] == list(range(1, 31))
    fences = runs.query("SELECT COUNT(*), MIN(attempt), MAX(attempt) FROM _waveimport_fence", url)
    assert fences[0][0] > 0
    assert fences[0][1:] == (1, 1)
    with pytest.raises(WaveImportError):
        runs.query("SELECT * FROM ns_order")


def test_a_switch_thrown_before_the_run_begins_stops_it(runs: Runs) -> None:
    switch = StopSwitch()
    switch(Stop.INTERRUPTED)
    switch(Stop.TERMINATED)
    assert runs(switch=switch).exit_code is ExitCode.INTERRUPTED
    assert switch.sleep(30) is False, "and nobody waits any more"
    assert runs.orders() == []
