"""Daily runs: what changed at the source, deletions included, is read, and nothing else is."""

import contextlib
import shutil
import sqlite3
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from project import DEEP, SMALL, Project, of_one_database, plain_query, simulated

from waveimport.errors import ExitCode
from waveimport.runtime.config import load_settings
from waveimport.runtime.importer import run_import
from waveimport.runtime.options import RunOptions, RunResult
from waveimport.simulator.changes import Changes
from waveimport.simulator.dataset import build
from waveimport.simulator.faults import Fault, FaultKind, Faults
from waveimport.simulator.handle import Simulator, records_toml

DAILY = f"{SMALL}\nlookback_seconds = 1"


def with_cursors(records: str) -> str:
    """Return the account's records, made incremental; closed orders are none of them."""
    for name, cursor in (
        ("subsidiary", "lastmodifieddate"),
        ("customer", "lastmodifieddate"),
        ("vendor", "lastmodifieddate"),
        ("item", "lastmodifieddate"),
        ("salesorder", "lastmodifieddate"),
        ("salesorderline", "linelastmodifieddate"),
    ):
        records = records.replace(f"[records.{name}]\n", f'[records.{name}]\ncursor = "{cursor}"\n')
    return records.replace("type = 'SalesOrd'", "type = 'SalesOrd' AND status <> 'H'")


SCALE = 0.001


@pytest.fixture(scope="session")
def half_account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An account of 1,500 orders: most of these tests import it two or three times."""
    path = tmp_path_factory.mktemp("half") / "account.sqlite"
    build(path, SCALE)
    return path


@pytest.fixture
def live(half_account: Path, tmp_path: Path) -> Iterator[Simulator]:
    """An account of a test's own, which changes."""
    own = tmp_path / "live.sqlite"
    shutil.copy(half_account, own)
    with Simulator(data=own, scale=SCALE, live=True) as running:
        yield running


@pytest.fixture
def project(tmp_path: Path, database_url: str, live: Simulator) -> Project:
    return simulated(tmp_path, database_url, live, run=DAILY, records=with_cursors(records_toml()))


def run(project: Project, **options: Any) -> RunResult:
    """Run in this process: two hundred starts of another would be most of the time."""
    return run_import(load_settings(project.config, {}, secrets=True), RunOptions(**options))


def imported(project: Project, **options: Any) -> str:
    """Run to a completed job and return its mode."""
    result = run(project, **options)
    assert result.exit_code is ExitCode.OK, result
    [(mode, status)] = project.query(f"SELECT mode, status FROM import_jobs WHERE job_id = '{result.job_id}'")
    assert status == "completed"
    return str(mode)


def change(live: Simulator, sql: str, *values: Any) -> None:
    """Change the account as its script does not."""
    with contextlib.closing(sqlite3.connect(live.data, timeout=60)) as account:
        account.execute(sql, values)
        account.commit()


def log_deletion(live: Simulator, number: int, kind: int) -> None:
    """Note in the account's log, and nowhere else, that a record of that kind was deleted just now."""
    columns = "recordid, recordtypeid, type, deleteddate, iscustomlist, iscustomrecord, iscustomtransaction"
    change(live, f"INSERT INTO deletedrecord ({columns}) VALUES (?, ?, 'x', ?, 'F', 'F', 'F')", number, kind, now())


def now() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"


def queries_of(live: Simulator, since: int) -> list[str]:
    return [request.query for request in live.requests[since:]]


# --- the daily run ----------------------------------------------------------------------------------------------


def test_every_kind_of_change_is_followed(project: Project, live: Simulator) -> None:
    imported(project)
    changes = Changes(live.data, seed=2)
    for _ in range(2):
        changes.each_once()
        assert imported(project) == "incremental"
    project.assert_equals_source(live.data)


@of_one_database
def test_a_change_in_the_very_second_of_the_watermark_is_read(project: Project, live: Simulator) -> None:
    """Its second was not over when the clock was read: more may have happened in it than was seen."""
    imported(project)
    (mark,) = project.query("SELECT MIN(watermark) FROM import_watermarks WHERE record = 'customer'")[0]
    change(live, "UPDATE customer SET phone = 'in time', lastmodifieddate = ? WHERE id = 1002", str(mark)[:19])
    imported(project)
    assert project.query("SELECT phone FROM customer WHERE id = 1002", landing=True) == [("in time",)]


def test_runs_after_rounds_of_changes_leave_both_databases_equal_to_the_source(
    project: Project, live: Simulator
) -> None:
    """With requests in proportion to what changed: the first import takes many more."""
    assert imported(project) == "full"
    first = len(live.requests)
    assert first > 50
    changes, last = Changes(live.data, seed=7), 0
    for number in range(200 if DEEP else 4):
        count = 1 + number % 7
        done = changes.round(count)
        before = len(live.requests)
        assert imported(project) == "incremental"
        project.assert_equals_source(live.data)
        # Of five main records: time, bounds, whether it is shown, deletions, what left. Then the rows and lines of what
        # changed, and of what was deleted a question a record. The look-back reads again what the run before has read.
        assert len(live.requests) - before <= 8 + 5 * 4 + 2 + 4 * (count + last), (done, queries_of(live, before))
        last = count
    project.assert_coordination_is_whole()


def test_what_changes_while_it_is_read_is_in_after_the_next_run_at_the_latest(
    project: Project, live: Simulator
) -> None:
    live.set_faults(Faults(changes_every=2, changes_seed=3))
    assert (
        imported(
            project,
        )
        == "full"
    )
    live.set_faults(Faults(changes_every=1, changes_seed=4))
    assert imported(project) == "incremental"
    live.set_faults(Faults())
    assert imported(project) == "incremental"
    project.assert_equals_source(live.data)


def test_a_daily_run_that_is_stopped_anywhere_costs_no_change(tmp_path: Path, live: Simulator) -> None:
    """Every kind of change before each of the runs, which are stopped after so many requests; the next goes on."""
    project = simulated(
        tmp_path, f"sqlite:///{tmp_path / 'rows.db'}", live, run=DAILY, records=with_cursors(records_toml())
    )
    imported(project)
    changes = Changes(live.data, seed=5)
    paused = 0
    for after in range(1, 40, 4 if DEEP else 8):
        changes.each_once()
        asked = len(live.requests)
        down = tuple(range(asked + after, asked + 200))
        live.set_faults(Faults(fault=(Fault(FaultKind.UNAVAILABLE, requests=down),)))
        paused += run(project, max_runtime_seconds=0.5).exit_code is ExitCode.PAUSED
        live.set_faults(Faults())
        imported(project)
        project.assert_equals_source(live.data)
    assert paused > 2


# --- when all is read anew ----------------------------------------------------------------------------------------


def test_a_full_run_in_place_removes_what_no_log_of_deletions_has_told(project: Project, live: Simulator) -> None:
    imported(project)
    change(live, 'DELETE FROM "transaction" WHERE id % 5 = 0')
    change(live, 'DELETE FROM transactionline WHERE "transaction" % 5 = 0 OR uniquekey % 7 = 0')
    change(live, "DELETE FROM customer WHERE id % 3 = 0")
    assert imported(project) == "incremental"
    with pytest.raises(AssertionError):
        project.assert_equals_source(live.data)
    assert imported(project, full=True) == "full"
    project.assert_equals_source(live.data)
    assert imported(project) == "incremental"


@of_one_database
@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('email = "text", ', ""),
        ("status <> 'H'", "status <> 'F'"),
    ],
)
def test_a_record_that_is_configured_otherwise_is_read_in_full_with_its_family_and_no_other(
    project: Project, live: Simulator, old: str, new: str
) -> None:
    imported(project)
    assert old in project.records
    if "status" in old:
        project.records = project.records.replace(old, new)
    else:
        imported(project)
        project.records = project.records.replace(old, new)
    project.write(DAILY)
    before = len(live.requests)
    assert imported(project) == "incremental", "the others still are"
    asked = queries_of(live, before)
    family = ("customer",) if "email" in old else ("transaction", "transactionline")
    for table in ("customer", "vendor", "transaction"):
        bounds = [query for query in asked if query.startswith("SELECT COUNT") and f"FROM {table} t" in query]
        assert ("TO_DATE" not in bounds[0]) is (table in family), table
    project.assert_equals_source(live.data)


@pytest.mark.parametrize(("how", "table"), [("DROP TABLE", "salesorderline"), ("DELETE FROM", "salesorder")])
def test_a_table_that_was_dropped_or_emptied_is_filled_again(
    project: Project, live: Simulator, table: str, how: str
) -> None:
    imported(project)
    project.execute(f"{how} {table}")
    assert imported(project) == "incremental"
    project.assert_equals_source(live.data)


@of_one_database
def test_what_one_run_failed_to_read_is_owed_and_the_next_reads_it(project: Project, live: Simulator) -> None:
    """Deletions that the role may not see, and a row that cannot be typed: neither holds the watermarks back, and what
    they cover is read by the run that can, though nothing about it has changed since."""
    imported(project)
    marks = project.query("SELECT record, watermark FROM import_watermarks ORDER BY record")
    assert [row[0] for row in marks] == ["customer", "item", "salesorder", "salesorderline", "subsidiary", "vendor"]
    live.set_faults(Faults(hidden_tables=("deletedrecord",)))
    [(gone,)] = project.query("SELECT MAX(id) FROM salesorder", landing=True)
    [(balance,)] = project.query("SELECT balance FROM customer WHERE id = 1002", landing=True)
    change(live, f'DELETE FROM "transaction" WHERE id = {gone}')
    change(live, f'DELETE FROM transactionline WHERE "transaction" = {gone}')
    log_deletion(live, gone, 1)
    change(live, "UPDATE customer SET balance = 'much', lastmodifieddate = ? WHERE id = 1002", now())
    project.write(f"{DAILY}\nmax_tries = 1")
    time.sleep(1.1)  # a watermark is told to the second
    result = run(project)
    assert result.exit_code is ExitCode.INCOMPLETE
    failed = project.query("SELECT error FROM wave_batches WHERE status = 'failed' AND batch_id LIKE '%/deleted'")
    assert "the log of deletions cannot be read" in failed[0][0]
    checked = project.run("check")
    assert checked.returncode == 3
    assert "fail  deletions: " in checked.stdout + checked.stderr
    assert "Deleted Records" in checked.stdout + checked.stderr
    assert project.query("SELECT MIN(watermark) FROM import_watermarks") > [(min(row[1] for row in marks),)]
    shown = project.run("status").stdout
    assert "owed: " in shown
    assert f"of {result.job_id}: the next run carries it; it failed with WI-SRC" in shown
    # The day after, the customer is mended without a trace, and others have changed.
    live.set_faults(Faults())
    change(live, "UPDATE customer SET balance = ? WHERE id = 1002", float(balance) + 1)
    change(live, "UPDATE customer SET phone = 'new', lastmodifieddate = ? WHERE id = 1004", now())
    assert imported(project) == "incremental"
    project.assert_equals_source(live.data)
    assert "owed: " not in project.run("status").stdout
    assert project.run("check", "--data").returncode == 0


@of_one_database
def test_a_row_that_can_never_be_typed_is_tried_by_each_run_until_it_is_skipped(
    project: Project, live: Simulator
) -> None:
    imported(project)
    project.write(f"{DAILY}\nmax_tries = 1")
    (mark,) = project.query("SELECT MIN(watermark) FROM import_watermarks WHERE record = 'customer'")[0]
    change(live, "UPDATE customer SET balance = 'much', lastmodifieddate = ? WHERE id = 1002", str(mark)[:19])
    time.sleep(1.1)  # the next watermark is behind it then
    assert run(project).exit_code is ExitCode.INCOMPLETE
    change(live, "UPDATE customer SET phone = 'new', lastmodifieddate = ? WHERE id = 1004", now())
    result = run(project)
    assert result.exit_code is ExitCode.INCOMPLETE
    assert project.query("SELECT phone FROM customer WHERE id = 1004", landing=True) == [("new",)]
    job = project.job()
    assert job is not None
    owed = next(one for one in job["owed"] if "debt" in one["batch_id"])
    assert (owed["job_id"], owed["record"], owed["carried_by"]) == (result.job_id, "customer", None)
    for one in job["owed"]:
        refused = project.run("skip", one["job_id"], one["batch_id"])
        assert refused.returncode == 2
        assert "--reason" in refused.stderr
        done = project.run("skip", one["job_id"], one["batch_id"], "--reason", "the balance is a word")
        assert done.returncode == 0, done.stderr
        assert f"skipped batch {one['batch_id']}" in done.stdout
    assert "skipped: the balance is a word" in project.run("status", "--failed").stdout
    change(live, "UPDATE customer SET lastmodifieddate = '2020-01-01 00:00:00' WHERE id = 1002")
    assert imported(project) == "incremental"


@of_one_database
def test_the_first_import_is_gone_on_with_until_it_is_whole_or_what_fails_is_skipped(
    project: Project, live: Simulator
) -> None:
    project.write(f"{DAILY}\nmax_tries = 1".replace("page_size = 200", "page_size = 50"))
    change(live, "UPDATE customer SET balance = 'much' WHERE id = (SELECT MAX(id) FROM customer)")
    first = run(project)
    assert first.exit_code is ExitCode.INCOMPLETE
    assert run(project).job_id == first.job_id
    assert project.query("SELECT COUNT(*) FROM import_watermarks") == [(0,)]
    [(batch,)] = project.query("SELECT batch_id FROM wave_batches WHERE status = 'failed'")
    assert first.job_id is not None
    done = project.run("skip", first.job_id, batch, "--reason", "nobody needs it")
    assert "the next `waveimport run` reads what changed since" in done.stdout
    assert imported(project) == "incremental"
    change(live, "UPDATE customer SET balance = 1 WHERE balance = 'much'")
    missing = len(project.source(live.data, "customer")) - len(project.landed("customer"))
    assert missing > 0, "what was skipped was not read"
    assert imported(project, full=True) == "full"
    project.assert_equals_source(live.data)


@of_one_database
def test_what_full_and_incremental_do_beside_an_unfinished_job_of_the_other_mode(
    project: Project, live: Simulator
) -> None:
    imported(project)
    live.set_faults(Faults(latency_seconds=0.4))
    assert run(project, incremental=True, max_runtime_seconds=0.2).exit_code is ExitCode.PAUSED
    live.set_faults(Faults())
    done = project.run("run", "--full")
    assert done.returncode == 2
    assert "is incremental" in done.stderr
    assert "waveimport cancel import_" in done.stderr
    assert imported(project, incremental=True) == "incremental"


# --- what is gone -------------------------------------------------------------------------------------------------


def test_rows_that_are_gone_may_be_marked_or_kept_and_those_that_come_back_are_there_again(
    tmp_path: Path, database_url: str, live: Simulator
) -> None:
    records = with_cursors(records_toml())
    records = records.replace("[records.salesorder]\n", '[records.salesorder]\ndeletes = "soft"\n')
    records = records.replace("[records.salesorderline]\n", '[records.salesorderline]\ndeletes = "soft"\n')
    records = records.replace("[records.customer]\n", '[records.customer]\ndeletes = "ignore"\n')
    project = simulated(tmp_path, database_url, live, run=DAILY, records=records)
    imported(project)
    number = project.query("SELECT MIN(id) FROM salesorder", landing=True)[0][0]
    (line,) = project.query(f"SELECT MIN(uniquekey) FROM salesorderline WHERE `transaction` > {number}", landing=True)[
        0
    ]
    customers = project.query("SELECT COUNT(*) FROM customer", landing=True)
    change(live, 'CREATE TABLE kept AS SELECT * FROM "transaction" WHERE id = ?', number)
    change(live, 'DELETE FROM "transaction" WHERE id = ?', number)
    change(live, "DELETE FROM customer WHERE id = 1002")
    for gone in (number, 1002):
        log_deletion(live, gone, 1)
    change(live, "UPDATE transactionline SET mainline = 'F' WHERE uniquekey = ?", line)
    owner = f'(SELECT "transaction" FROM transactionline WHERE uniquekey = {line})'
    change(live, f'UPDATE "transaction" SET lastmodifieddate = ? WHERE id = {owner}', now())
    change(live, "DELETE FROM transactionline WHERE uniquekey = ?", line)
    imported(project)

    def marked(table: str) -> set[int]:
        key = "id" if table == "salesorder" else "uniquekey"
        return {
            row[0] for row in project.query(f"SELECT {key} FROM {table} WHERE _deleted_at IS NOT NULL", landing=True)
        }

    of_order = project.query(f"SELECT uniquekey FROM salesorderline WHERE `transaction` = {number}", landing=True)
    assert marked("salesorder") == {number}
    assert marked("salesorderline") == {line, *(row[0] for row in of_order)}
    assert project.query("SELECT COUNT(*) FROM customer", landing=True) == customers
    change(live, 'INSERT INTO "transaction" SELECT * FROM kept')
    change(live, 'UPDATE "transaction" SET lastmodifieddate = ? WHERE id = ?', now(), number)
    imported(project)
    assert marked("salesorder") == set()
    assert marked("salesorderline") == {line}


@of_one_database
def test_a_table_that_suddenly_gives_no_row_is_an_alert_and_its_rows_are_kept(
    project: Project, live: Simulator
) -> None:
    """What is hidden from the role looks empty to some queries."""
    imported(project)
    change(live, "ALTER TABLE vendor RENAME TO hidden")
    change(live, "CREATE TABLE vendor AS SELECT * FROM hidden WHERE 0")
    before = project.query("SELECT COUNT(*) FROM vendor", landing=True)
    result = run(project, full=True)
    assert result.exit_code is ExitCode.RECONCILIATION
    assert result.error is not None
    assert "`vendor`: the source shows no row" in result.error.message
    assert project.query("SELECT COUNT(*) FROM vendor", landing=True) == before
    alerts = project.run("status", "--exit-code")
    assert alerts.returncode == 20
    assert "the source shows no row" in alerts.stdout


def test_rows_in_a_database_of_their_own_go_there_too(tmp_path: Path, live: Simulator) -> None:
    project = simulated(
        tmp_path,
        f"sqlite:///{tmp_path / 'own.db'}",
        live,
        run=DAILY,
        records=with_cursors(records_toml()),
        destination=f"sqlite:///{tmp_path / 'rows.db'}",
    )
    imported(project)
    changes = Changes(live.data, seed=11)
    for _ in range(5):
        changes.round(10)
        assert imported(project) == "incremental"
        project.assert_equals_source(live.data)


# --- when the clock is read ---------------------------------------------------------------------------------------


@of_one_database
def test_the_watermark_is_the_sources_time_before_anything_was_read_minus_the_look_back(
    project: Project, live: Simulator
) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    live.set_faults(Faults(latency_seconds=0.05))
    imported(project)
    (first,) = project.query("SELECT MIN(watermark) FROM import_watermarks")[0]
    mark = first if isinstance(first, datetime) else datetime.fromisoformat(first)
    assert before - timedelta(seconds=3) <= mark <= before + timedelta(seconds=1)


# --- when the configuration changes -------------------------------------------------------------------------------


def test_a_new_column_is_shown_by_plan_added_to_the_table_and_filled(project: Project, live: Simulator) -> None:
    whole = project.records
    project.records = whole.replace('email = "text", ', "")
    project.write(DAILY)
    imported(project)
    project.records = whole
    project.write(DAILY)
    plan = project.run("plan")
    assert "customer: column `email` is added to table `customer`, and every row read for it" in plan.stdout
    assert imported(project) == "incremental"
    project.assert_equals_source(live.data)
    assert "is added" not in project.run("plan").stdout


def test_a_column_that_clashes_or_was_dropped_is_an_error_that_names_both_sides(
    project: Project, live: Simulator
) -> None:
    imported(project)
    project.execute("ALTER TABLE customer DROP COLUMN email")
    for done in (project.run("plan"), project.run("run")):
        assert done.returncode == 2, done.stderr
        assert "table `customer` exists without the column `email` of record `customer`" in done.stderr
    project.records = project.records.replace('email = "text", ', "").replace(
        'companyname = "text"', 'companyname = "integer"'
    )
    project.write(DAILY)
    for done in (project.run("plan"), project.run("run")):
        assert done.returncode == 2, done.stderr
        assert "but record `customer` needs" in done.stderr


@of_one_database
def test_a_table_of_somebody_else_gets_no_column(project: Project) -> None:
    project.execute("CREATE TABLE customer (id BIGINT PRIMARY KEY NOT NULL)")
    done = project.run("run")
    assert done.returncode == 2
    assert "exists without the column `entityid`" in done.stderr


# --- what a review found ------------------------------------------------------------------------------------------


@of_one_database
def test_a_full_job_that_is_cancelled_under_another_configuration_leaves_no_watermark_behind(
    project: Project, live: Simulator
) -> None:
    """It has removed what the mistaken condition left out; taken back, the condition must bring that back."""
    imported(project)
    right = project.records
    project.records = right.replace("status <> 'H'", "status = 'F'")
    project.write(DAILY)
    live.set_faults(Faults(hidden_tables=("transactionline",)))
    result = run(project, max_runtime_seconds=1.5)
    live.set_faults(Faults())
    assert project.run("cancel", str(result.job_id)).returncode == 0
    project.records = right
    project.write(DAILY)
    imported(project)
    project.assert_equals_source(live.data)


@of_one_database
def test_an_incremental_job_adopts_nothing_that_rows_would_have_to_be_read_again_for(
    project: Project, live: Simulator
) -> None:
    imported(project)
    live.set_faults(Faults(latency_seconds=0.4))
    assert run(project, max_runtime_seconds=0.2).exit_code is ExitCode.PAUSED
    live.set_faults(Faults())
    project.records = project.records.replace("status <> 'H'", "status <> 'F'")
    project.write(DAILY)
    done = project.run("run", "--adopt-config")
    assert done.returncode == 2
    assert "records.salesorder.where" in done.stderr


@of_one_database
@pytest.mark.parametrize("options", [{"full": True}, {}])
def test_lines_that_are_hidden_from_the_role_are_kept_and_told(
    project: Project, live: Simulator, options: dict[str, Any]
) -> None:
    imported(project)
    before = project.query("SELECT COUNT(*) FROM salesorderline", landing=True)
    change(live, "ALTER TABLE transactionline RENAME TO hidden")
    change(live, "CREATE TABLE transactionline AS SELECT * FROM hidden WHERE 0")
    change(live, 'UPDATE "transaction" SET lastmodifieddate = ?', now())
    project.execute("UPDATE import_watermarks SET watermark = '2026-01-01 00:00:00'")
    result = run(project, **options)
    assert result.exit_code is ExitCode.RECONCILIATION
    assert "`salesorderline`: the source shows no row" in str(result.error)
    old = project.query("SELECT record FROM import_watermarks WHERE watermark < '2026-01-02' ORDER BY record")
    assert old == ([] if options else [("salesorder",), ("salesorderline",)]), "a full job has forgotten them"
    moved = project.query("SELECT COUNT(*) FROM import_watermarks WHERE watermark > '2026-01-02'")
    assert moved == [(4,)], "those of the other records have moved"
    assert project.query("SELECT COUNT(*) FROM salesorderline", landing=True) == before
    change(live, "UPDATE hidden SET netamount = '1.5', linelastmodifieddate = '1998-01-01 00:00:00'")
    change(live, "DROP TABLE transactionline")
    change(live, "ALTER TABLE hidden RENAME TO transactionline")
    imported(project)
    project.assert_equals_source(live.data)


@of_one_database
def test_a_record_that_is_hidden_during_a_daily_run_keeps_its_rows_and_its_watermark(
    project: Project, live: Simulator
) -> None:
    imported(project)
    (vendor,) = project.query("SELECT MIN(id) FROM vendor", landing=True)[0]
    before = project.query("SELECT COUNT(*) FROM vendor", landing=True)
    log_deletion(live, vendor, 1)
    change(live, "UPDATE vendor SET phone = 'meanwhile', lastmodifieddate = ? WHERE id = ?", now(), vendor)
    change(live, "ALTER TABLE vendor RENAME TO hidden")
    change(live, "CREATE TABLE vendor AS SELECT * FROM hidden WHERE 0")
    assert run(project).exit_code is ExitCode.RECONCILIATION
    assert project.query("SELECT COUNT(*) FROM vendor", landing=True) == before
    change(live, "DROP TABLE vendor")
    change(live, "ALTER TABLE hidden RENAME TO vendor")
    imported(project)
    assert project.query(f"SELECT phone FROM vendor WHERE id = {vendor}", landing=True) == [("meanwhile",)]


@of_one_database
def test_one_number_of_two_deleted_records_is_one_question(project: Project, live: Simulator) -> None:
    imported(project)
    change(live, "DELETE FROM customer WHERE id = 1002")
    for kind in (-2, -5, 31):
        log_deletion(live, 1002, kind)
    imported(project)
    assert project.query("SELECT COUNT(*) FROM customer WHERE id = 1002", landing=True) == [(0,)]


@of_one_database
def test_incremental_by_cron_goes_on_with_the_first_job_which_reads_everything(
    project: Project, live: Simulator
) -> None:
    live.set_faults(Faults(latency_seconds=0.4))
    assert run(project, incremental=True, max_runtime_seconds=0.2).exit_code is ExitCode.PAUSED
    live.set_faults(Faults())
    assert imported(project, incremental=True) == "incremental"
    project.assert_equals_source(live.data)


def test_lines_whose_order_went_while_they_were_not_configured_go_on_the_next_full_run(
    project: Project, live: Simulator
) -> None:
    imported(project)
    whole = project.records
    project.records = whole[: whole.index("[records.salesorderline]")]
    project.write(DAILY)
    (number,) = project.query("SELECT MIN(id) FROM salesorder", landing=True)[0]
    change(live, 'DELETE FROM "transaction" WHERE id = ?', number)
    change(live, 'DELETE FROM transactionline WHERE "transaction" = ?', number)
    log_deletion(live, number, 31)
    imported(project)
    project.records = whole
    project.write(DAILY)
    imported(project)
    project.assert_equals_source(live.data)


def test_a_line_that_leaves_its_own_condition_goes(tmp_path: Path, database_url: str, live: Simulator) -> None:
    records = with_cursors(records_toml()).replace(
        "[records.salesorderline]\n", "[records.salesorderline]\nwhere = \"memo <> 'gone'\"\n"
    )
    project = simulated(tmp_path, database_url, live, run=DAILY, records=records)
    imported(project)
    (line,) = project.query("SELECT MIN(uniquekey) FROM salesorderline", landing=True)[0]
    change(live, "UPDATE transactionline SET memo = 'gone', linelastmodifieddate = ? WHERE uniquekey = ?", now(), line)
    imported(project)
    assert project.query(f"SELECT COUNT(*) FROM salesorderline WHERE uniquekey = {line}", landing=True) == [(0,)]


@of_one_database
def test_a_table_that_is_emptied_under_an_unfinished_daily_job_is_not_left_so(
    project: Project, live: Simulator
) -> None:
    imported(project)
    live.set_faults(Faults(latency_seconds=0.4))
    assert run(project, max_runtime_seconds=0.2).exit_code is ExitCode.PAUSED
    live.set_faults(Faults())
    project.execute("DELETE FROM salesorder")
    done = project.run("run")
    assert done.returncode == 2
    assert "table `salesorder` is empty" in done.stderr
    job = project.query("SELECT job_id FROM import_jobs WHERE status = 'processing'")[0][0]
    assert project.run("cancel", job).returncode == 0
    imported(project)
    project.assert_equals_source(live.data)


@of_one_database
def test_marking_what_is_gone_from_now_on_needs_no_new_table(project: Project, live: Simulator) -> None:
    imported(project)
    project.records = project.records.replace("[records.customer]\n", '[records.customer]\ndeletes = "soft"\n')
    project.write(DAILY)
    plan = project.run("plan")
    assert plan.returncode == 0, plan.stderr
    assert "column `_deleted_at` is added" in plan.stdout
    imported(project)


# --- whole tables at once -----------------------------------------------------------------------------------------


def test_who_reads_while_a_full_run_swaps_sees_the_old_tables_and_then_the_new_ones(
    project: Project, live: Simulator
) -> None:
    """Reading by a plain driver, as fast as it goes, what a dashboard would read."""
    project.records = project.records.replace("[records.salesorder]\n", '[records.salesorder]\nrefresh = "swap"\n')
    project.write(DAILY)
    imported(project)
    asked = "SELECT (SELECT COUNT(*) FROM salesorder), (SELECT COUNT(*) FROM salesorderline)"
    old = project.query(asked, landing=True)[0]
    change(live, 'DELETE FROM "transaction" WHERE id % 5 = 0')
    change(live, 'DELETE FROM transactionline WHERE "transaction" % 5 = 0 OR uniquekey % 7 = 0')
    seen: set[tuple[Any, ...]] = set()
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            seen.update(plain_query(project.landing_url, asked))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        assert imported(project, full=True) == "full"
    finally:
        over.set()
        reader.join()
    new = project.query(asked, landing=True)[0]
    assert new[0] < old[0]
    assert seen in ({old, new}, {old})
    project.assert_equals_source(live.data)
    assert imported(project) == "incremental"
