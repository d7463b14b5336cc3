"""`refresh = "swap"` against a scripted source: the old tables whole, then the new ones whole, never both."""

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import mysql_server
import pytest
from project import DEEP
from runtime_world import LINE, ORDER, ScriptedSource
from sqlalchemy import Engine, event, inspect
from test_runtime_importer import Client, Runs

from waveimport.core.names import beside_name, is_swap_name
from waveimport.core.settings import DatabaseSettings, Refresh, Settings
from waveimport.core.waves import Trigger
from waveimport.core.why import explain
from waveimport.errors import ExitCode, QueryRefused, TableClash, TablesInUse
from waveimport.runtime import importer
from waveimport.runtime.cancel import cancel_import
from waveimport.runtime.checkup import Level
from waveimport.runtime.data_check import check_data
from waveimport.runtime.preview import preview
from waveimport.runtime.swap import Swaps
from waveimport.runtime.writer import Writer
from waveimport.store import swap, waves
from waveimport.store.progress import read_progress
from waveimport.store.standstill import read_facts
from waveimport.store.transactions import Database

OLD = list(range(1, 8))


class SwapRuns(Runs):
    """Orders 1 to 7 with a line each are in, by a first import; since then 2 is gone, 3 renamed, and 9 has come."""

    def __init__(self, url: str, folder: Path, source: ScriptedSource, apart: str | None) -> None:
        super().__init__(url, folder, source)
        records = (replace(ORDER, refresh=Refresh.SWAP), replace(LINE, refresh=Refresh.SWAP))
        destination = None if apart is None else DatabaseSettings(apart)
        self.settings = replace(self.settings, records=records, destination=destination)
        self.landing = apart or url

    def begin(self) -> None:
        self.source.fill(OLD, lines_each=1)
        assert self().exit_code is ExitCode.OK
        assert self.rows() == OLD
        self.source.execute("DELETE FROM orders WHERE id = 2")
        self.source.execute("DELETE FROM lines WHERE orderid = 2")
        self.source.execute("UPDATE orders SET memo = 'renamed' WHERE id = 3")
        self.source.fill([9], lines_each=1)

    def rows(self) -> list[int]:
        return [row[0] for row in self.query("SELECT id FROM `order` ORDER BY id", self.landing)]

    def assert_is_new(self) -> None:
        """Everything is as at the source, and nothing of a swap is left."""
        there = self.query("SELECT id, memo FROM `order` ORDER BY id", self.landing)
        assert there == self.source.rows("SELECT id, memo FROM orders ORDER BY id")
        lines = self.query("SELECT uniquekey, orderid FROM line ORDER BY uniquekey", self.landing)
        assert lines == self.source.rows("SELECT uniquekey, orderid FROM lines ORDER BY uniquekey")
        self.assert_no_leftovers()

    def assert_no_leftovers(self) -> None:
        assert self.beside() == []
        assert self.query("SELECT table_name FROM import_columns WHERE type = 'swap'") == []

    def beside(self) -> list[str]:
        return [name for name in self.tables() if is_swap_name(name)]

    def tables(self) -> list[str]:
        return self.at_landing(lambda connection: inspect(connection).get_table_names())

    def at_landing(self, work: Callable[[Any], Any]) -> Any:
        database = Database.open(self.landing)
        try:
            return database.run(work)
        finally:
            database.close()

    def change(self, sql: str) -> None:
        self.at_landing(lambda connection: connection.exec_driver_sql(sql).close())

    def index_of_lines(self) -> list[str]:
        found = self.at_landing(lambda connection: inspect(connection).get_indexes("line"))
        return sorted(str(index["name"]) for index in found)

    def poison(self) -> None:
        """Have the source refuse the lines of order 9 for good."""

        def refuse(sql: str) -> None:
            if "FROM lines" in sql and "9" in sql:
                raise QueryRefused("refused")

        self.source.before = refuse

    def mend(self) -> None:
        self.source.before = lambda sql: None


def made(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, apart: str | None = None) -> SwapRuns:
    source = ScriptedSource()
    monkeypatch.setattr(importer, "SuiteQLClient", type("Scripted", (Client,), {"source": source}))
    runs = SwapRuns(url, tmp_path / "locks", source, apart)
    runs.begin()
    return runs


of_one_database = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For what is decided whatever the database."""


@pytest.fixture
def runs(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SwapRuns:
    return made(database_url, tmp_path, monkeypatch)


PLACES = ["one sqlite", "apart sqlite", pytest.param("one mysql", marks=pytest.mark.mysql)]
"""Coordination and rows in one database, or coordination in a SQLite file apart from the rows."""
if DEEP:
    PLACES.append(pytest.param("apart mysql", marks=pytest.mark.mysql))


@pytest.fixture(params=PLACES)
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[SwapRuns]:
    """Everything imported once, in each place in turn."""
    own = f"sqlite:///{tmp_path / 'own.db'}"
    if request.param.endswith("sqlite"):
        apart = f"sqlite:///{tmp_path / 'rows.db'}" if request.param.startswith("apart") else None
        yield made(own, tmp_path, monkeypatch, apart)
        return
    with mysql_server.fresh_database(request.getfixturevalue("mysql_url")) as url:
        if request.param.startswith("apart"):
            yield made(own, tmp_path, monkeypatch, apart=url)
        else:
            yield made(url, tmp_path, monkeypatch)


def test_a_full_run_shows_the_old_tables_until_the_new_ones_are_whole(anywhere: SwapRuns) -> None:
    runs = anywhere
    runs.change("CREATE INDEX of_mine ON line (orderid)")
    runs.change("CREATE VIEW memos AS SELECT memo FROM `order`")
    indexes = runs.index_of_lines()
    seen: list[list[int]] = []
    runs.source.before = lambda sql: seen.append(runs.rows())
    result = runs()
    assert (result.exit_code, result.message, result.error) == (ExitCode.OK, None, None)
    while_it_read = seen.index(runs.rows()) if runs.rows() in seen else len(seen)
    assert while_it_read > 3
    assert all(rows == OLD for rows in seen[:while_it_read])
    assert all(rows == runs.rows() for rows in seen[while_it_read:]), "counts are asked for after the swap"
    runs.assert_is_new()
    assert runs.index_of_lines() == indexes
    assert ("renamed",) in runs.query("SELECT memo FROM memos", runs.landing)
    assert [found.level for found in check_data(runs.settings)] == [Level.OK, Level.OK]


def test_a_failed_job_leaves_the_old_tables_and_a_retry_puts_the_new_ones_in_place(anywhere: SwapRuns) -> None:
    runs = anywhere
    runs.poison()
    failed = runs()
    assert failed.exit_code is ExitCode.INCOMPLETE
    assert "(tables `line`, `order` as before, until all is" in (failed.message or "")
    assert runs.rows() == OLD
    assert len(runs.beside()) == 2
    assert [found.level for found in check_data(runs.settings)] == [Level.OK, Level.OK], "it looks beside the tables"
    runs.mend()
    mended = runs()
    assert (mended.exit_code, mended.job_id) == (ExitCode.OK, failed.job_id)
    runs.assert_is_new()


@of_one_database
def test_a_job_that_failed_twice_gives_way_to_another_and_moves_no_watermark_of_what_it_did_not_swap(
    runs: SwapRuns,
) -> None:
    moment = '"as_of": "2026-09-21 12:00:00", "lookback": 600.0, "cursors": ["order"], "family": ["order", "line"]'
    runs.poison()
    failed = runs()
    runs.change(f"UPDATE wave_batches SET spec = REPLACE(spec, '{{', '{{{moment}, ') WHERE kind = 'plan'")
    assert runs().job_id == failed.job_id
    assert runs.query("SELECT * FROM import_watermarks") == []
    runs.mend()
    another = runs()
    assert another.exit_code is ExitCode.OK
    assert another.job_id != failed.job_id
    runs.assert_is_new()
    assert runs.query("SELECT COUNT(*) FROM wave_batches WHERE owed = 1 AND carried_by IS NULL") == [(0,)]


def test_a_swap_in_another_database_rests_on_nothing_that_is_not_durable(
    anywhere: SwapRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite a page may be in the commit of the pass that reads it, and be undone when the tables are swapped."""
    runs, transact, passes = anywhere, Writer.transact, set[bool]()

    def watched(self: Writer, work: Any, *, prove: Any = None, alone: bool = False) -> Any:
        if getattr(work, "func", None) is waves.advance_and_claim:
            passes.add(alone)
        return transact(self, work, prove=prove, alone=alone)

    monkeypatch.setattr(Writer, "transact", watched)
    assert runs().exit_code is ExitCode.OK
    in_one_commit = runs.landing.startswith("sqlite") and runs.landing == runs.settings.database.url
    assert passes == {not in_one_commit}


@of_one_database
@pytest.mark.parametrize("how", ["cancelled", "superseded"])
def test_what_another_job_has_read_is_dropped_and_never_put_in_place(runs: SwapRuns, how: str) -> None:
    runs.poison()
    failed = runs()
    first = runs.beside()
    if how == "cancelled":
        cancel_import(runs.settings, str(failed.job_id), trigger=Trigger.MANUAL)
    runs.source.execute("UPDATE orders SET memo = 'again' WHERE id = 9")
    again = runs(full=True)
    assert again.exit_code is ExitCode.INCOMPLETE
    assert runs.rows() == OLD
    assert not set(first) & set(runs.beside())
    runs.mend()
    assert runs().exit_code is ExitCode.OK
    runs.assert_is_new()


@of_one_database
def test_a_record_of_which_the_source_shows_no_row_keeps_its_family_as_it_was(runs: SwapRuns) -> None:
    runs.source.execute("DELETE FROM lines")
    result = runs()
    assert result.exit_code is ExitCode.RECONCILIATION
    assert runs.rows() == OLD
    assert len(runs.query("SELECT uniquekey FROM line")) == len(OLD)
    runs.assert_no_leftovers()
    assert [found.level for found in check_data(runs.settings)] == [Level.OK, Level.OK]
    said = runs(settings=replace(runs.settings, run=replace(runs.settings.run, reconcile=False)))
    assert said.message == "left as it was, for the source shows no row: tables `line`, `order`"


class Crash(BaseException):
    """The process died here."""


@contextmanager
def crash_at(number: int, counts: Callable[[str], bool]) -> Iterator[list[str]]:
    """Die before the statement of that number among those that count; yields what has been counted."""
    counted: list[str] = []
    lock = threading.Lock()

    def before(connection: Any, cursor: Any, sql: str, *_: Any) -> None:
        if not counts(sql):
            return
        with lock:
            counted.append(sql)
            if len(counted) == number:
                raise Crash(sql)

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield counted
    finally:
        event.remove(Engine, "before_cursor_execute", before)


def test_killed_before_any_statement_of_a_swap_the_next_run_ends_with_the_new_tables(
    anywhere: SwapRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first table that is made to the last that is dropped."""
    runs = anywhere
    begun, at_the_end = threading.Event(), threading.Event()
    prepare, complete = Swaps.prepare, Swaps.complete

    def preparing(self: Swaps) -> None:
        begun.set()
        prepare(self)

    def completing(self: Swaps, connection: Any) -> None:
        at_the_end.set()
        complete(self, connection)

    def counts(sql: str) -> bool:
        # Reads are passed over: nothing has changed since the statement before.
        if not begun.is_set() or sql.startswith(("SELECT", "SHOW", "PRAGMA", "BEGIN", "SAVEPOINT", "RELEASE")):
            return False
        return "import_columns" in sql or sql.startswith("CREATE TABLE") or at_the_end.is_set()

    monkeypatch.setattr(Swaps, "prepare", preparing)
    monkeypatch.setattr(Swaps, "complete", completing)

    def run_to(number: int) -> list[str]:
        begun.clear()
        at_the_end.clear()
        with crash_at(number, counts) as counted, suppress(Crash):
            assert runs().exit_code is ExitCode.OK
        return counted

    def newest() -> tuple[str, str]:
        [(job, status)] = runs.query("SELECT job_id, status FROM import_jobs ORDER BY job_id DESC LIMIT 1")
        return job, status

    whole = run_to(0)
    runs.assert_is_new()
    firsts = [
        next(at for at, sql in enumerate(whole, 1) if re.match(kind, sql))
        for kind in ("CREATE TABLE", "ALTER TABLE|RENAME TABLE", "UPDATE import_jobs", "DROP TABLE")
    ]
    swapped = set()
    for number in range(1, len(whole) + 1) if DEEP else firsts:
        runs.source.execute("UPDATE orders SET memo = ? WHERE id = 5", f"round {number}")
        before = runs.query("SELECT memo FROM `order` WHERE id = 5", runs.landing)
        last, _ = newest()
        counted = run_to(number)
        job, status = newest()
        there = runs.query("SELECT memo FROM `order` WHERE id = 5", runs.landing)
        assert there in (before, [(f"round {number}",)])
        if job != last and status == "completed":
            assert there != before, f"completed, with the old table: {counted[-1]}"
        swapped.add((status, there != before))
        assert runs().exit_code is ExitCode.OK, "it goes on with the job, or the next one drops what was left"
        runs.assert_is_new()
    assert ("processing", False) in swapped
    in_one_commit = runs.landing.startswith("sqlite") and runs.landing == runs.settings.database.url
    assert (("processing", True) in swapped) is not in_one_commit, "put in place, and not completed yet"


@of_one_database
def test_a_table_of_somebody_else_under_a_name_that_is_needed_is_left_alone(
    runs: SwapRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs.change("CREATE TABLE theirs_order (id INTEGER)")
    with monkeypatch.context() as patched:
        patched.setattr(swap, "beside_name", lambda table, job_id: f"theirs_{table}")
        with pytest.raises(TableClash, match="`theirs_order` has the name of one that this job needs"):
            runs()
    assert "theirs_order" in runs.tables()
    assert runs.rows() == OLD
    assert runs().exit_code is ExitCode.OK
    runs.assert_is_new()


@of_one_database
def test_a_table_that_was_dropped_with_rows_in_it_is_told_and_not_made_anew(runs: SwapRuns) -> None:
    runs.poison()
    failed = runs()
    runs.change(f"DROP TABLE `{beside_name('order', str(failed.job_id))}`")
    runs.mend()
    with pytest.raises(TableClash, match="is gone, into which the unfinished job has read") as caught:
        runs()
    assert "waveimport cancel" in str(caught.value.help)
    assert runs.rows() == OLD


def test_what_would_be_lost_is_refused_before_a_job_is_made(runs: SwapRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waveimport.runtime.preview._count", lambda *_: {})
    body = "BEGIN SELECT 1; END" if runs.landing.startswith("sqlite") else "SET @waveimport = 1"
    runs.change(f"CREATE TRIGGER mine AFTER DELETE ON line FOR EACH ROW {body}")
    jobs = runs.query("SELECT COUNT(*) FROM import_jobs")
    with pytest.raises(TableClash, match="table `line` has the trigger `mine`"):
        runs()
    assert runs.query("SELECT COUNT(*) FROM import_jobs") == jobs
    told = preview(runs.settings, Database.open(runs.landing), records=None)
    assert "has the trigger `mine`" in told.errors[0].message
    in_place: Settings = replace(runs.settings, records=(ORDER, LINE))
    assert runs(settings=in_place).exit_code is ExitCode.OK
    assert runs.rows() == [1, 3, 4, 5, 6, 7, 9]


@of_one_database
def test_plan_says_what_will_be_put_in_place(runs: SwapRuns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waveimport.runtime.preview._count", lambda *_: {})
    told = preview(runs.settings, Database.open(runs.landing), records=None)
    assert "order: read beside `order`, `line`, and put in their place when the job is completed" in told.notes


@of_one_database
def test_a_first_import_lands_in_place(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ScriptedSource()
    monkeypatch.setattr(importer, "SuiteQLClient", type("Scripted", (Client,), {"source": source}))
    runs = SwapRuns(database_url, tmp_path / "locks", source, None)
    runs.poison()
    source.fill([8, 9], lines_each=1)
    assert runs().exit_code is ExitCode.INCOMPLETE
    assert runs.rows() == [8, 9]
    assert runs.beside() == []


def why(url: str, job_id: str) -> list[tuple[str, str | None]]:
    """What `status --why` says now, by another connection."""
    database = Database.open_reader(url)
    facts = database.run(lambda connection: read_facts(connection, read_progress(connection, job_id)))
    database.close()
    return [(reason.code, reason.next) for reason in explain(facts)]


@pytest.mark.mysql
def test_a_reader_of_the_old_table_holds_up_the_swap_and_is_never_shown_both(
    mysql_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(swap, "LOCK_WAIT_SECONDS", 1)
    monkeypatch.setattr("waveimport.runtime.coordinator.PASS_EVERY_SECONDS", 0.1)
    with mysql_server.fresh_database(mysql_url) as url:
        runs = made(url, tmp_path, monkeypatch)
        hasty = replace(runs.settings, run=replace(runs.settings.run, give_up_after_seconds=0.5))
        with mysql_server.connect(url, url.rsplit("/", 1)[1]) as reader, reader.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("SELECT COUNT(*) FROM `order`")
            seen: list[tuple[str, str | None]] = []
            held = runs(settings=hasty, on_turn=lambda job_id: seen.extend(why(url, job_id)))
            assert held.exit_code is ExitCode.UNREACHABLE
            assert [code for code, _ in seen][-1] == "tables_in_use", "status --why tells it while it waits"
            assert "SHOW PROCESSLIST" in str(seen[-1][1])
            assert isinstance(held.error, TablesInUse)
            cursor.execute("SELECT COUNT(*) FROM `order`")
            assert cursor.fetchall() == ((len(OLD),),)
            cursor.execute("COMMIT")
        asked = len(runs.source.asked)
        done = runs(settings=replace(hasty, run=replace(hasty.run, reconcile=False)))
        assert (done.exit_code, done.job_id) == (ExitCode.OK, held.job_id)
        assert len(runs.source.asked) == asked, "nothing is read again"
        runs.assert_is_new()
