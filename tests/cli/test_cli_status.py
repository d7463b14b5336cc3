"""`waveimport status`: quick and read-only, whatever a run does; its JSON is what dashboards rely on."""

import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_world import CANARY, RECORDS, World
from sqlalchemy import text

from waveimport.cli import status as status_command
from waveimport.errors import ExitCode
from waveimport.runtime import clock
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator

JOB_KEYS = {
    "profile", "mode", "job_id", "status", "created_at", "finished_at", "error", "lease", "rows", "waves", "alerts"
}  # fmt: skip
WAVE_KEYS = {"wave_number", "kind", "records", "status", "sealed", "batches", "rows"}
BATCH_KEYS = {"pending", "dispatched", "processing", "completed", "failed", "total"}


def write(world: World, statement: str, **values: object) -> None:
    """Change the coordination tables behind the product's back."""
    database = world.database()
    database.run(lambda connection: connection.execute(text(statement), values))
    database.close()


def as_nobody(check: Callable[[], bool]) -> int:
    """Call `check` in a process that is not root, for root may write anywhere. Returns 0 if it held."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if os.geteuid() == 0:
                os.setgid(65534)
                os.setuid(65534)
            code = 0 if check() else 1
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fail_lines(world: World, account: Simulator) -> str:
    """Import with the lines' amounts hidden from the role: their batches fail for good."""
    account.set_faults(Faults(hidden_columns=("transactionline.netamount",)))
    return world.import_from(account)


def test_no_job_yet_is_said_and_is_no_error(world: World) -> None:
    said = world.call("status")
    assert (said.code, said.out) == (ExitCode.OK, "no job yet; `waveimport run` creates one\n")
    assert world.call("status", "--json").json == {"schema_version": 1, "jobs": []}
    assert world.call("status", "--exit-code").code == ExitCode.OK


def test_asking_makes_no_file(sqlite_world: World) -> None:
    sqlite_world.call("status")
    assert sorted(path.name for path in sqlite_world.folder.iterdir()) == ["waveimport.toml"]


def test_tables_without_a_job_are_no_job_yet(world: World) -> None:
    assert world.call("db", "upgrade").code == ExitCode.OK
    assert world.call("status", "--json").json == {"schema_version": 1, "jobs": []}


@pytest.mark.parametrize("made", [False, True])
def test_an_unknown_job_is_a_usage_error(world: World, made: bool) -> None:
    if made:
        world.call("db", "upgrade")
    said = world.call("status", "import_nope")
    assert (said.code, said.out) == (ExitCode.USAGE, "")
    assert "error[WI-USE-003]: no job `import_nope` is in the database" in said.err


def test_the_document_of_a_completed_job(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    said = world.call("status", "--json", "--exit-code")
    assert said.code == ExitCode.OK
    assert set(said.json) == {"schema_version", "jobs"}
    assert said.json["schema_version"] == 1
    [job] = said.json["jobs"]
    assert set(job) >= JOB_KEYS
    assert job["job_id"] == job_id
    assert (job["profile"], job["mode"], job["status"], job["error"]) == ("1234567_SB1", "full", "completed", None)
    assert job["created_at"].endswith("Z")
    assert job["finished_at"] > job["created_at"]
    assert job["alerts"] == []
    assert [wave["wave_number"] for wave in job["waves"]] == [1, 2, 3, 4]
    assert [wave["kind"] for wave in job["waves"]] == ["main", "main", "main", "derived"]
    for wave in job["waves"]:
        assert set(wave) >= WAVE_KEYS
        assert set(wave["batches"]) == BATCH_KEYS
        assert wave["batches"]["completed"] == wave["batches"]["total"] > 0
        assert (wave["status"], wave["sealed"]) == ("completed", True)
        assert wave["rows"] == sum(record["rows"] for record in wave["records"])
    assert job["waves"][2]["records"] == [{"record": "salesorder", "rows": 1500}]
    assert job["waves"][3]["records"][0]["record"] == "salesorderline"
    assert job["rows"] == sum(wave["rows"] for wave in job["waves"])


def test_a_lease_is_shown_with_owner_token_and_end(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    write(world, "UPDATE import_jobs SET status = 'processing', finished_at = NULL, lease_owner = 'host:1',"
          " lease_token = 7, lease_expires_at = '2031-01-02 03:04:05'")  # fmt: skip
    [job] = world.call("status", job_id, "--json").json["jobs"]
    assert job["lease"] == {"owner": "host:1", "token": 7, "expires_at": "2031-01-02T03:04:05.000000Z"}
    assert "lease: host:1, token 7, until 2031-01-02 03:04:05 UTC" in world.call("status").out


def test_the_time_left_of_a_job_at_work_is_estimated(world: World, account: Simulator) -> None:
    world.import_from(account)
    assert " left" not in world.call("status").out
    assert world.call("status", "--json").json["jobs"][0]["seconds_left"] is None
    write(
        world,
        "UPDATE import_jobs SET status = 'processing', finished_at = NULL, lease_owner = 'host:1',"
        " lease_expires_at = '2999-01-01 00:00:00'",
    )
    assert "\nabout 0 s left\n" in world.call("status").out
    assert "about 0 s left" in world.call("status", "--brief").out
    found = world.call("status", "--json").json["jobs"][0]["seconds_left"]
    assert found == {"low": 0.0, "likely": 0.0, "high": 0.0}


def test_an_alert_is_shown_and_makes_exit_code_20_only_if_asked(world: World, account: Simulator) -> None:
    world.import_from(account)
    write(world, "UPDATE import_jobs SET status = 'processing', finished_at = NULL, lease_owner = 'dead:1',"
          " lease_expires_at = '2001-01-01 00:00:00'")  # fmt: skip
    said = world.call("status", "--exit-code")
    assert said.code == ExitCode.ALERT
    assert "alert[dead_holder]: dead:1 let its lease lapse" in said.out
    assert world.call("status").code == ExitCode.OK
    as_json = world.call("status", "--exit-code", "--json")
    assert as_json.code == ExitCode.ALERT
    [alert] = as_json.json["jobs"][0]["alerts"]
    assert set(alert) == {"code", "wave_number", "message", "next", "caused_by"}
    assert (alert["code"], alert["wave_number"], alert["next"]) == ("dead_holder", None, "waveimport run")


def test_the_thresholds_of_alerts_are_those_of_the_configuration(world: World, account: Simulator) -> None:
    world.import_from(account)
    write(world, "UPDATE import_jobs SET status = 'processing', finished_at = NULL")
    write(world, "UPDATE wave_coordination SET status = 'processing' WHERE wave_number = 3")
    write(world, "UPDATE wave_batches SET status = 'pending' WHERE wave_number = 3")
    world.configure(account.netsuite_toml(), run="stuck_after_seconds = 9999999999")
    assert world.call("status", "--exit-code").code == ExitCode.OK
    write(world, "UPDATE import_jobs SET created_at = '2001-01-01 00:00:00'")
    world.configure(account.netsuite_toml(), run="stuck_after_seconds = 60")
    said = world.call("status", "--exit-code")
    assert said.code == ExitCode.ALERT
    assert "alert[wave_stuck]: wave 3 (salesorder) has" in said.out


def test_failed_batches_come_with_what_they_cover_their_query_and_error(world: World, account: Simulator) -> None:
    job_id = fail_lines(world, account)
    said = world.call("status", "--failed")
    assert said.code == ExitCode.OK
    assert "failed batches" in said.out
    assert "\n  covers: transaction in " in said.out
    selected = "SELECT t.uniquekey, t.transaction, t.netamount FROM transactionline t"
    assert f"\n  query:  {selected} WHERE t.transaction IN (" in said.out
    assert " ORDER BY t.uniquekey\n  error:  " in said.out
    [job] = world.call("status", job_id, "--failed", "--json").json["jobs"]
    assert set(job) >= JOB_KEYS
    failures = job["failed_batches"]
    assert len(failures) == job["waves"][3]["batches"]["failed"] > 0
    for failure in failures:
        assert set(failure) >= {"batch_id", "wave_number", "record", "covers", "query", "tries", "error"}
        assert (failure["record"], failure["wave_number"], failure["tries"]) == ("salesorderline", 4, 1)
        assert failure["query"].startswith("SELECT t.uniquekey, ")
        assert "netamount" in failure["error"]


def test_the_query_of_a_failed_batch_starts_behind_what_has_landed(world: World, account: Simulator) -> None:
    fail_lines(world, account)
    write(world, "UPDATE wave_batches SET status = 'failed', error = 'x', spec = :spec, resume_key = '[700]'"
          " WHERE record = 'salesorder' AND kind = 'range'", spec='{"lower": 500, "upper": 1000}')  # fmt: skip
    write(world, "UPDATE wave_batches SET status = 'failed', error = 'x', spec = '{}'"
          " WHERE batch_id = '2/customer/plan'")  # fmt: skip
    [job] = world.call("status", "--failed", "--json").json["jobs"]
    failures = {row["batch_id"]: row for row in job["failed_batches"]}
    order = failures["3/salesorder/0000000"]
    assert order["covers"] == "500 < id <= 1000, landed up to id 700"
    assert order["query"].endswith("WHERE (type = 'SalesOrd') AND t.id <= 1000 AND t.id > 700 ORDER BY t.id")
    plan = failures["2/customer/plan"]
    assert plan["query"] == "SELECT COUNT(*) AS n, MIN(t.id) AS lo, MAX(t.id) AS hi FROM customer t"


def test_a_failed_batch_of_a_record_that_is_gone_says_so(world: World, account: Simulator) -> None:
    fail_lines(world, account)
    world.configure(account.netsuite_toml(), records=RECORDS[: RECORDS.index("[records.salesorderline]")])
    said = world.call("status", "--failed")
    assert said.code == ExitCode.OK
    assert "  query:  the record `salesorderline` is configured no more" in said.out


def test_without_failures_failed_says_so(world: World, account: Simulator) -> None:
    world.import_from(account)
    assert "no failed batches" in world.call("status", "--failed").out
    assert world.call("status", "--failed", "--json").json["jobs"][0]["failed_batches"] == []


def test_many_failed_batches_are_cut_off_with_the_way_to_see_them_all(
    world: World, account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail_lines(world, account)
    monkeypatch.setattr(status_command, "FAILURES_SHOWN", 1)
    said = world.call("status", "--failed")
    assert said.out.count("  query:  ") == 1
    assert "more: `waveimport status --failed --json` lists them all" in said.out


def test_status_needs_no_credential(world: World) -> None:
    world.configure(
        '[netsuite]\naccount = "1234567_SB1"\nconsumer_key = "${NOT_SET_A}"\nconsumer_secret = "${NOT_SET_B}"\n'
        'token_id = "${NOT_SET_C}"\ntoken_secret_file = "missing"\n'
    )
    assert world.call("status").code == ExitCode.OK


def test_the_password_of_the_database_is_in_no_output(sqlite_world: World) -> None:
    sqlite_world.configure(url=f"mysql+pymysql://root:{CANARY}@127.0.0.1:9/nowhere")
    said = sqlite_world.call("status")  # `call` holds every output to the canary
    assert said.code == ExitCode.UNREACHABLE
    assert "mysql://127.0.0.1:9/nowhere" in said.err


def test_it_does_not_wait_for_a_writer_in_mid_transaction(world: World, account: Simulator) -> None:
    world.import_from(account)
    writer = world.database()
    with writer.engine.connect() as connection:
        transaction = connection.begin()
        connection.execute(text("UPDATE import_jobs SET error = 'uncommitted'"))
        began = time.monotonic()
        [job] = world.call("status", "--json").json["jobs"]
        assert time.monotonic() - began < 10  # the writer's lock is waited for 20 s and more
        assert job["error"] is None
        transaction.rollback()
    writer.close()


def test_it_shows_a_run_at_work(world: World, account: Simulator) -> None:
    account.set_faults(Faults(latency_seconds=0.4))
    world.configure(account.netsuite_toml())
    seen: list[dict[str, object]] = []

    def look(job_id: str) -> None:
        said = world.call("status", job_id, "--json")
        assert said.code == ExitCode.OK
        seen.append(said.json["jobs"][0])

    world.run_import(look)
    assert seen
    assert seen[0]["status"] in ("pending", "processing")
    assert seen[0]["lease"] is not None


def test_a_copy_that_cannot_be_written_is_read(sqlite_world: World, account: Simulator) -> None:
    sqlite_world.import_from(account)
    # Not below pytest's folders, which only their owner may enter.
    folder = Path(tempfile.mkdtemp(prefix="wi-copy-"))
    try:
        shutil.copy(sqlite_world.folder / "test.db", folder / "copy.db")
        (folder / "c.toml").write_text(sqlite_world.config.read_text().replace(sqlite_world.url, "sqlite:///copy.db"))
        (folder / "copy.db").chmod(0o444)
        (folder / "c.toml").chmod(0o444)
        folder.chmod(0o555)
        sqlite_world.call("status")  # everything is imported: nobody may not read an interpreter of root's
        sqlite_world.config = folder / "c.toml"
        assert as_nobody(lambda: "completed" in sqlite_world.call("status").out) == ExitCode.OK
        assert sorted(path.name for path in folder.iterdir()) == ["c.toml", "copy.db"]
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)


def test_tables_of_another_version_are_a_usage_error(world: World) -> None:
    world.call("db", "upgrade")
    write(world, "UPDATE waveimport_version SET version_num = '9999'")
    said = world.call("status")
    assert said.code == ExitCode.USAGE
    assert "error[WI-USE-006]" in said.err


def test_watch_draws_until_the_job_has_ended(world: World, account: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    world.import_from(account)
    write(world, "UPDATE import_jobs SET status = 'processing', finished_at = NULL")
    pauses: list[float] = []

    def finish(seconds: float) -> None:
        pauses.append(seconds)
        write(world, "UPDATE import_jobs SET status = 'completed', finished_at = created_at")

    monkeypatch.setattr(clock, "pause", finish)
    said = world.call("status", "--watch")
    assert said.code == ExitCode.OK
    assert pauses == [2.0]
    assert said.out.count("WAVE  KIND") == 2


def test_ctrl_c_ends_watch_with_130(world: World, account: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    world.import_from(account)
    write(world, "UPDATE import_jobs SET status = 'processing', finished_at = NULL")

    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(clock, "pause", interrupt)
    assert world.call("status", "--watch").code == ExitCode.INTERRUPTED


def test_watch_and_json_contradict_each_other(world: World) -> None:
    said = world.call("status", "--watch", "--json")
    assert (said.code, said.out) == (ExitCode.USAGE, "")


def test_the_newest_job_of_the_profile_is_the_default(world: World, account: Simulator) -> None:
    world.import_from(account)
    second = world.import_from(account)
    # Of the account that the first profile has the tables of, the other imports into tables of its own.
    other = world.import_from(
        account,
        top='profile = "other"',
        records='[records.item]\ntable_name = "item_of_another"\ncolumns = { id = "integer" }\n',
    )
    assert world.call("status", "--json").json["jobs"][0]["job_id"] == other
    world.configure(account.netsuite_toml())
    assert world.call("status", "--json").json["jobs"][0]["job_id"] == second
    assert world.call("status", other, "--json").json["jobs"][0]["profile"] == "other"


def test_the_database_file_is_opened_without_the_right_to_write(sqlite_world: World, account: Simulator) -> None:
    sqlite_world.import_from(account)
    from waveimport.store.engine import open_reader

    engine = open_reader(sqlite_world.settings().database.url)
    with engine.connect() as connection:
        driver = connection.connection.driver_connection
        assert isinstance(driver, sqlite3.Connection)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            driver.execute("DELETE FROM import_jobs")
    engine.dispose()


def test_brief_is_one_line_that_says_what_matters(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    said = world.call("status", "--brief")
    assert said.out.count("\n") == 1
    assert re.fullmatch(rf"{job_id} completed, (\d+)/\1 batches, [\d,]+ rows\n", said.out), said.out
    assert world.call("status", "--brief", "--json").code == ExitCode.USAGE
