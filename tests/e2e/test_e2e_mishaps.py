"""What goes wrong around an import: each mishap ends in one sentence and its exit code, and the next run goes on."""

import json
import subprocess
import time
import tomllib
from pathlib import Path

import mysql_server
import pytest
from project import SMALL, Project, of_one_database, simulated, wait_for

from waveimport.simulator.faults import Fault, FaultKind, Faults
from waveimport.simulator.handle import Simulator, records_toml

CANARY = "canary-secret-7391"


def assert_one_sentence(done: "subprocess.CompletedProcess[str]", code: int, *words: str) -> None:
    """The command ended with `code`, told one error with a mend, and showed neither traceback nor secret."""
    assert done.returncode == code, done.stderr
    err = done.stderr
    assert err.count("error[WI-") == 1, err
    assert "  help:  " in err
    assert "Traceback" not in err
    assert CANARY not in err
    for word in words:
        assert word in err


def test_a_wrong_password_is_told_and_nothing_is_written(tmp_path: Path, mysql_url: str, simulator: Simulator) -> None:
    server = mysql_url.removeprefix("mysql+pymysql://").rsplit("@", 1)[1]
    project = simulated(tmp_path, f"mysql+pymysql://nobody:{CANARY}@{server}nowhere", simulator)
    assert_one_sentence(project.run("run"), 5, "the password or user is refused")
    assert simulator.requests == []


def test_a_closed_port_is_told(tmp_path: Path, simulator: Simulator) -> None:
    url = f"mysql+pymysql://root:{CANARY}@127.0.0.1:{mysql_server.free_port()}/x"
    assert_one_sentence(simulated(tmp_path, url, simulator).run("run"), 5, "cannot be reached")


def test_a_wrong_configuration_is_told_before_anything_is_written(tmp_path: Path, simulator: Simulator) -> None:
    project = simulated(tmp_path, f"sqlite:///{tmp_path / 'test.db'}", simulator, run="page_sise = 5")
    assert_one_sentence(project.run("run"), 2, "did you mean `page_size`?", "waveimport.toml:")
    assert not (tmp_path / "test.db").exists()
    assert simulator.requests == []


def test_a_full_disk_ends_the_run_and_the_next_goes_on(tmp_path: Path, simulator: Simulator, account: Path) -> None:
    project = simulated(tmp_path, f"sqlite:///{tmp_path / 'test.db'}", simulator, run=SMALL)
    # A limit on the size of files refuses a write as a full disk does, and needs no rights.
    small_disk = ("sh", "-c", 'ulimit -f 2500; exec "$@"', "sh")
    assert_one_sentence(project.run("run", within=small_disk), 5, "full")
    job = project.job()
    assert job is not None
    assert job["status"] == "processing"
    assert project.imported()["job_id"] == job["job_id"]
    project.assert_equals_source(account)
    project.assert_coordination_is_whole()


def test_a_destination_table_of_another_shape_is_refused_and_no_job_is_made(
    tmp_path: Path, database_url: str, simulator: Simulator
) -> None:
    project = simulated(tmp_path, database_url, simulator, run=SMALL)
    project.imported()
    project.records = project.records.replace('tranid = "text",', 'tranid = "integer",')
    project.write(SMALL)
    assert_one_sentence(project.run("run"), 2, "`salesorder` exists with the column `tranid`")
    assert project.query("SELECT COUNT(*) FROM import_jobs") == [(1,)]


@pytest.mark.mysql
def test_a_database_server_that_dies_is_waited_for(
    tmp_path: Path, mysql_url: str, simulator: Simulator, account: Path
) -> None:
    """The server is killed as by a power cut while pages land, and is started again: the same run goes on."""
    with mysql_server.private_server() as server, mysql_server.fresh_database(server.url) as url:
        simulator.set_faults(Faults(latency_seconds=0.05))
        project = simulated(tmp_path, url, simulator, run=SMALL)
        run = project.start("run")
        wait_for(project, "SELECT COUNT(*) FROM wave_batches WHERE record = 'salesorderline' AND status = 'completed'")
        server.kill()
        server.start()
        simulator.set_faults(Faults())
        _, err = run.communicate(timeout=120)
        assert run.returncode == 0, err
        assert "Traceback" not in err
        project.assert_equals_source(account)
        project.assert_coordination_is_whole()


@pytest.mark.mysql
def test_a_database_server_that_stays_away_exits_5_and_the_next_run_goes_on(
    tmp_path: Path, mysql_url: str, simulator: Simulator, account: Path
) -> None:
    with mysql_server.private_server() as server, mysql_server.fresh_database(server.url) as url:
        simulator.set_faults(Faults(latency_seconds=0.05))
        project = simulated(tmp_path, url, simulator, run=SMALL + "\ngive_up_after_seconds = 2")
        run = project.start("run")
        wait_for(project, "SELECT COUNT(*) FROM wave_batches WHERE record = 'salesorder' AND status = 'completed'")
        server.kill()
        _, err = run.communicate(timeout=120)
        assert run.returncode == 5, err
        assert "Traceback" not in err
        server.start()
        simulator.set_faults(Faults())
        project.imported()
        project.assert_equals_source(account)


def test_no_secret_is_kept_or_shown(tmp_path: Path, database_url: str, simulator: Simulator) -> None:
    """The credentials are looked for in all that a run writes: its output and every table of the database."""
    project: Project = simulated(tmp_path, database_url, simulator, run=SMALL)
    done = project.run("run", "-h")
    done = project.run("run")
    secrets = [
        simulator.credentials.consumer_secret,
        simulator.credentials.token_secret,
        simulator.credentials.consumer_key,
        simulator.credentials.token_id,
    ]
    text = done.stdout + done.stderr
    for table in ("import_jobs", "wave_batches", "wave_journal", "batch_events", "import_accounts"):
        text += repr(project.query(f"SELECT * FROM {table}"))
    assert done.returncode == 0
    assert len(text) > 10_000
    for secret in secrets:
        assert secret not in text


def test_a_column_that_always_gives_500_fails_its_record_though_nothing_else_runs(
    tmp_path: Path, database_url: str, simulator: Simulator
) -> None:
    """The last batch of a wave has no others beside it whose success would show that the source is there."""
    simulator.set_faults(Faults(fault=(Fault(FaultKind.SERVER_ERROR, matching="itemtype"),)))
    records = tomllib.loads(records_toml())["records"]
    columns = ", ".join(f'{name} = "{kind}"' for name, kind in records["customer"]["columns"].items())
    two_waves = (
        '[records.item]\ncolumns = { id = "integer", itemtype = "text" }\n'
        f'[records.customer]\ndepends_on = ["item"]\ncolumns = {{ {columns} }}\n'
    )
    project = simulated(tmp_path, database_url, simulator, run=SMALL + "\nmax_tries = 1", records=two_waves)
    done = project.run("run", "--json")
    assert done.returncode == 3, done.stderr
    job = json.loads(done.stdout)
    assert [wave["status"] for wave in job["waves"]] == ["failed", "completed"]
    failed = project.query("SELECT error FROM wave_batches WHERE status = 'failed'")
    assert "it is the column `itemtype`: without it the query is answered" in failed[0][0]
    assert len(project.landed("customer")) > 0


@of_one_database
def test_a_column_may_not_be_added_by_adoption_where_rows_have_landed(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    """Rows that landed before would hold NULL in it, and the job would be completed all the same."""
    simulator.set_faults(Faults(latency_seconds=0.2))
    project = simulated(tmp_path, database_url, simulator, run=SMALL.replace("batch_size = 400", "batch_size = 5000"))
    whole = project.records
    project.records = whole.replace('memo = "text", custbody', "custbody")
    project.write(SMALL.replace("batch_size = 400", "batch_size = 5000"))
    run = project.start("run")
    wait_for(project, "SELECT COUNT(*) FROM wave_batches WHERE record = 'salesorder' AND row_count > 0")
    run.kill()
    run.communicate()
    assert project.query("SELECT status FROM wave_batches WHERE record = 'salesorder' AND row_count > 0") == [
        ("processing",)
    ]
    project.records = whole
    project.write(SMALL)
    simulator.set_faults(Faults())
    assert_one_sentence(project.run("run", "--adopt-config"), 2, "records.salesorder.columns.memo: added", "cancel")
    # Of the lines nothing has landed yet: a column of theirs may still be put in.
    project.records = whole.replace('memo = "text", custbody', "custbody").replace('memo = "text", line', "line")
    project.write(SMALL)
    assert project.run("run", "--adopt-config").returncode == 0
    project.assert_equals_source(account)


def test_a_run_that_is_cancelled_while_it_lands_into_another_database_ends_in_order(
    tmp_path: Path, mysql_url: str, simulator: Simulator
) -> None:
    """The destination was once closed while a thread landed in it, which crashed the interpreter."""
    with mysql_server.fresh_database(mysql_url) as url:
        destination = f"sqlite:///{tmp_path / 'rows.db'}"
        project = simulated(tmp_path, url, simulator, destination=destination, run=SMALL)
        # Lines take long, so that the cancelling comes in time on a machine of any speed; orders land meanwhile.
        late = Fault(FaultKind.DELAY, probability=1.0, matching="transactionline", seconds=1.0)
        simulator.set_faults(Faults(latency_seconds=0.1, fault=(late,)))
        for _ in range(2):
            run = project.start("run")
            wait_for(
                project,
                "SELECT COUNT(*) FROM wave_batches b JOIN import_jobs j ON j.job_id = b.job_id WHERE"
                " j.status = 'processing' AND b.record = 'salesorder' AND b.row_count > 0",
            )
            job_id = project.query("SELECT job_id FROM import_jobs WHERE status = 'processing'")[0][0]
            assert project.run("cancel", job_id).returncode == 0
            _, err = run.communicate(timeout=60)
            assert run.returncode == 3, err
            assert "was cancelled meanwhile" in err


def test_what_a_refused_statement_had_at_work_is_there_for_the_next_run_at_once(
    tmp_path: Path, simulator: Simulator, account: Path
) -> None:
    """With a lease of an hour, the next run would wait for it."""
    project = simulated(
        tmp_path, f"sqlite:///{tmp_path / 'test.db'}", simulator, run=SMALL.replace("seconds = 5", "seconds = 3600")
    )
    small_disk = ("sh", "-c", 'ulimit -f 2500; exec "$@"', "sh")
    assert project.run("run", within=small_disk).returncode == 5
    began = time.monotonic()
    project.imported()
    assert time.monotonic() - began < 60
    project.assert_equals_source(account)
