"""The whole way: `waveimport run` in a process of its own, over HTTP, into both databases."""

import json
import os
import signal
import time
from pathlib import Path

import mysql_server
import psutil
import pytest
from filelock import FileLock, Timeout
from project import DEEP, SMALL, Project, of_one_database, simulated, wait_for

from waveimport.simulator.faults import Fault, FaultKind, Faults
from waveimport.simulator.handle import Simulator


def test_an_import_equals_the_source_row_by_row(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    project = simulated(tmp_path, database_url, simulator, run=SMALL)
    job = project.imported()
    assert project.assert_equals_source(account) == job["rows"]
    project.assert_coordination_is_whole()
    assert [wave["kind"] for wave in job["waves"]] == ["main", "main", "main", "derived"]
    assert all(wave["sealed"] and wave["status"] == "completed" for wave in job["waves"])


def test_a_cap_on_the_rows_of_a_query_costs_no_row(tmp_path: Path, simulator: Simulator, account: Path) -> None:
    """Pages of 200 are cut at 150, and each says that it is the last, as the service's own cap does at 100,000."""
    simulator.set_faults(Faults(row_cap=150))
    project = simulated(tmp_path, f"sqlite:///{tmp_path / 'test.db'}", simulator, run=SMALL)
    job = project.imported()
    assert project.assert_equals_source(account) == job["rows"]


@of_one_database
def test_a_second_import_lands_every_row_again_and_none_twice(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    project = simulated(tmp_path, database_url, simulator)
    first = project.imported()
    second = project.imported()
    assert first["job_id"] != second["job_id"]
    assert first["rows"] == second["rows"] == project.assert_equals_source(account)


def test_rows_may_land_in_a_database_of_their_own(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    destination = f"sqlite:///{tmp_path / 'rows.db'}"
    project = simulated(tmp_path, database_url, simulator, destination=destination, run=SMALL)
    project.imported()
    project.assert_equals_source(account)
    project.assert_coordination_is_whole()


def test_coordination_may_stand_in_sqlite_beside_rows_in_mysql(
    tmp_path: Path, mysql_url: str, simulator: Simulator, account: Path
) -> None:
    with mysql_server.fresh_database(mysql_url) as url:
        project = simulated(tmp_path, f"sqlite:///{tmp_path / 'own.db'}", simulator, destination=url, run=SMALL)
        project.imported()
        project.assert_equals_source(account)


def test_lines_start_to_land_before_the_last_order_batch_has(
    tmp_path: Path, database_url: str, simulator: Simulator
) -> None:
    # More batches of orders than can be at work at once, whatever the machine is doing beside.
    project = simulated(tmp_path, database_url, simulator, run=SMALL.replace("batch_size = 400", "batch_size = 100"))
    project.imported()
    first_line = project.query("SELECT MIN(created_at) FROM wave_batches WHERE record = 'salesorderline'")[0][0]
    first_done = project.query(
        "SELECT MIN(updated_at) FROM wave_batches WHERE record = 'salesorderline' AND status = 'completed'"
    )[0][0]
    last_order = project.query("SELECT MAX(updated_at) FROM wave_batches WHERE record = 'salesorder'")[0][0]
    assert first_line < first_done < last_order


def test_idle_slots_take_lines_while_the_only_order_batch_is_still_at_work(
    tmp_path: Path, database_url: str, simulator: Simulator
) -> None:
    simulator.set_faults(Faults(latency_seconds=0.05))
    project = simulated(tmp_path, database_url, simulator, run=SMALL.replace("batch_size = 400", "batch_size = 5000"))
    project.imported()
    orders = project.query("SELECT COUNT(*), MAX(updated_at) FROM wave_batches WHERE record = 'salesorder'")
    assert orders[0][0] == 2, "one plan and one range"
    lines = "SELECT COUNT(*) FROM wave_batches WHERE record = 'salesorderline' AND updated_at < '{}'"
    assert project.query(lines.format(orders[0][1]))[0][0] >= 5


def test_two_runs_started_at_once_make_one_job_and_both_exit_0(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    project = simulated(tmp_path, database_url, simulator, run=SMALL)
    both = [project.start("run"), project.start("run")]
    ends = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], ends
    assert project.query("SELECT COUNT(*), MIN(status) FROM import_jobs") == [(1, "completed")]
    project.assert_equals_source(account)
    project.assert_coordination_is_whole()


@of_one_database
def test_a_killed_run_is_gone_on_with_by_the_next_at_once(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    """With a lease of an hour: the next run on the same host needs no lapse, the lock file proves the death."""
    simulator.set_faults(Faults(latency_seconds=0.05))
    project = simulated(tmp_path, database_url, simulator, run=SMALL.replace("= 5", "= 3600"))
    run = project.start("run")
    wait_for(project, "SELECT COUNT(*) FROM wave_batches WHERE record = 'salesorderline' AND status = 'completed'")
    run.kill()
    run.communicate()
    assert project.query("SELECT COUNT(*) FROM wave_batches WHERE lease_expires_at IS NOT NULL")[0][0] > 0
    simulator.set_faults(Faults())
    project.imported()
    project.assert_equals_source(account)
    project.assert_coordination_is_whole()
    assert project.query("SELECT COUNT(*) FROM import_jobs") == [(1,)]


@pytest.mark.parametrize("moment", [0.35, 0.8, 1.2, 1.6, 2.2] if DEEP else [0.35, 1.2])
def test_kill_9_at_any_moment_loses_and_doubles_nothing(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path, moment: float
) -> None:
    simulator.set_faults(Faults(latency_seconds=0.02))
    project = simulated(tmp_path, database_url, simulator, run=SMALL)
    for _ in range(2):
        run = project.start("run")
        time.sleep(moment)  # the moment is the point: it falls anywhere in the life of the process
        run.kill()
        run.communicate()
    simulator.set_faults(Faults())
    project.imported()
    project.assert_equals_source(account)
    project.assert_coordination_is_whole()


def test_a_slow_count_and_two_more_runs_meanwhile_make_one_set_of_waves(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    """Bug 1: a second trigger entered coordination while an 87 s COUNT ran, met the unique key of the waves that the
    first had made, and the job failed with 4,812,213 lines counted and none imported."""
    slow, lease = (90.0, 60) if DEEP else (5.0, 2)
    simulator.set_faults(Faults(slow_count_seconds=slow))
    # Derived records are counted once more, when all is in; that is no trigger's business.
    run = SMALL.replace("= 5", f"= {lease}") + "\nreconcile = false"
    project = simulated(tmp_path, database_url, simulator, run=run)
    first = project.start("run", "--trigger", "cron")
    wait_for(project, "SELECT COUNT(*) FROM wave_batches WHERE status = 'processing'")
    others = [project.start("run", "--trigger", "retry"), project.start("run", "--trigger", "watchdog")]
    for process in [*others, first]:
        out, err = process.communicate(timeout=slow * 6 + 120)
        assert process.returncode == 0, (out, err)
    assert project.query("SELECT COUNT(*), MIN(status) FROM import_jobs") == [(1, "completed")]
    assert project.query("SELECT COUNT(*) FROM wave_coordination") == [(4,)]
    counts = [request for request in simulator.requests if "COUNT(" in request.query]
    assert len(counts) == 5, "each record was counted once"
    project.assert_equals_source(account)


def test_a_run_without_its_lock_file_takes_over_a_lapsed_lease_and_the_old_one_steps_aside(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    """Two hosts, played by two lock folders: the second waits for no file, only for the lease to lapse."""
    simulator.set_faults(Faults(latency_seconds=0.4))
    project = simulated(tmp_path, database_url, simulator, run=SMALL.replace("= 5", "= 2"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    first = project.start("run")
    wait_for(project, "SELECT COUNT(*) FROM wave_batches WHERE record = 'salesorder' AND status = 'completed'")
    freeze(first.pid, project)
    try:
        other = simulated(elsewhere, database_url, simulator, run=SMALL.replace("= 5", "= 2"))
        wait_for(project, "SELECT COUNT(*) FROM import_jobs WHERE lease_expires_at < " + _clock(database_url))
        simulator.set_faults(Faults())
        job = other.imported()
    finally:
        os.kill(first.pid, signal.SIGCONT)
    _, err = first.communicate(timeout=60)
    assert first.returncode == 0, err
    assert "taken over" in err or "another run" in err
    assert job["rows"] == other.assert_equals_source(account)
    other.assert_coordination_is_whole()


def freeze(pid: int, project: Project) -> None:
    """Stop a run outside of its transactions: one that is frozen inside keeps its locks, on SQLite for ever, on MariaDB
    until the server ends the transaction."""
    for _ in range(200):
        os.kill(pid, signal.SIGSTOP)
        while psutil.Process(pid).status() != psutil.STATUS_STOPPED:
            time.sleep(0.001)  # a signal is on its way for a moment
        if project.url.startswith("sqlite"):
            lock = FileLock(project.url.removeprefix("sqlite:///") + ".write", timeout=0)
            try:
                with lock:
                    return
            except Timeout:
                pass
            os.kill(pid, signal.SIGCONT)
            time.sleep(0.01)  # let it get on with its transaction
            continue
        time.sleep(0.15)  # the server renews its list of transactions every 0.1 s
        if project.query(
            "SELECT COUNT(*) FROM information_schema.innodb_trx t JOIN information_schema.processlist p"
            " ON p.id = t.trx_mysql_thread_id WHERE p.db = DATABASE()"
        ) == [(0,)]:
            return
        os.kill(pid, signal.SIGCONT)
        time.sleep(0.01)  # let it get on with its transaction
    raise AssertionError("the run was never outside of a transaction")


def _clock(url: str) -> str:
    return "strftime('%Y-%m-%d %H:%M:%f', 'now')" if url.startswith("sqlite") else "UTC_TIMESTAMP(6)"


@of_one_database
def test_a_hidden_table_fails_its_record_and_nothing_else(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    simulator.set_faults(Faults(hidden_tables=("vendor",)))
    project = simulated(tmp_path, database_url, simulator, run=SMALL + "\nmax_tries = 2")
    done = project.run("run", "--json")
    assert done.returncode == 3, done.stderr
    job = json.loads(done.stdout)
    assert job["status"] == "failed"
    assert "vendor" in job["error"]
    assert len(project.landed("salesorderline")) == len(project.source(account, "salesorderline"))
    assert "Traceback" not in done.stderr
    # The role is mended: the next run tries what failed again, in place, and the job completes.
    simulator.set_faults(Faults())
    mended = project.imported()
    assert mended["job_id"] == job["job_id"]
    project.assert_equals_source(account)


@of_one_database
def test_faults_of_every_passing_kind_lose_nothing(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    kinds = [
        FaultKind.RATE_LIMIT,
        FaultKind.SERVER_ERROR,
        FaultKind.UNAVAILABLE,
        FaultKind.HTML,
        FaultKind.RESET,
        FaultKind.TRUNCATE,
    ]
    simulator.set_faults(Faults(seed=7, fault=tuple(Fault(kind, probability=0.03) for kind in kinds)))
    project = simulated(tmp_path, database_url, simulator, run=SMALL)
    project.imported()
    project.assert_equals_source(account)
    project.assert_coordination_is_whole()


@of_one_database
def test_a_refused_login_exits_4_once_and_the_next_run_does_not_ask(
    tmp_path: Path, database_url: str, simulator: Simulator
) -> None:
    project = simulated(tmp_path, database_url, simulator, run=SMALL)
    project.netsuite = project.netsuite.replace('token_secret = "', 'token_secret = "wrong')
    project.write(SMALL)
    first = project.run("run")
    asked = len(simulator.requests)
    second = project.run("run")
    assert (first.returncode, second.returncode) == (4, 4), first.stderr + second.stderr
    assert asked <= 10
    assert len(simulator.requests) == asked
    assert "error[WI-SRC-006]" in first.stderr
    # Other credentials are another matter: they are tried at once.
    project.netsuite = simulator.netsuite_toml()
    project.write(SMALL)
    assert project.run("run").returncode == 0


@of_one_database
def test_sigterm_hands_back_and_exits_143_and_the_next_run_goes_on(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    simulator.set_faults(Faults(latency_seconds=0.1))
    project = simulated(tmp_path, database_url, simulator, run=SMALL)
    run = project.start("run")
    wait_for(project, "SELECT COUNT(*) FROM wave_batches WHERE status = 'completed'")
    run.terminate()
    _, err = run.communicate(timeout=30)
    assert run.returncode == 143, err
    assert project.query("SELECT COUNT(*) FROM wave_batches WHERE lease_expires_at IS NOT NULL") == [(0,)]
    assert project.query("SELECT lease_owner FROM import_jobs") == [(None,)]
    simulator.set_faults(Faults())
    project.imported()
    project.assert_equals_source(account)


def test_max_runtime_pauses_with_exit_7(tmp_path: Path, database_url: str, simulator: Simulator) -> None:
    simulator.set_faults(Faults(latency_seconds=0.3))
    project = simulated(tmp_path, database_url, simulator, run=SMALL)
    done = project.run("run", "--max-runtime", "1.5s")
    assert done.returncode == 7, done.stderr
    assert project.query("SELECT status FROM import_jobs") == [("processing",)]


def test_a_source_that_is_gone_exits_5_and_leaves_the_job_resumable(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    project = simulated(tmp_path, database_url, simulator, run=SMALL + "\ngive_up_after_seconds = 2")
    right = project.netsuite
    project.netsuite = right.replace(simulator.base_url, "http://127.0.0.1:9")
    project.write(SMALL + "\ngive_up_after_seconds = 2")
    done = project.run("run")
    assert done.returncode == 5, done.stderr
    assert "Traceback" not in done.stderr
    assert project.query("SELECT status, lease_owner FROM import_jobs") == [("processing", None)]


@of_one_database
def test_another_configuration_is_refused_for_an_unfinished_job_with_the_difference(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    simulator.set_faults(Faults(latency_seconds=0.3))
    project = simulated(tmp_path, database_url, simulator, run=SMALL)
    assert project.run("run", "--max-runtime", "1.2s").returncode == 7
    project.records = project.records.replace('memo = "text", custbody', "custbody")
    project.write(SMALL)
    simulator.set_faults(Faults())
    refused = project.run("run")
    assert refused.returncode == 2, refused.stderr
    assert "records.salesorder.columns.memo: removed" in refused.stderr
    assert "waveimport cancel import_" in refused.stderr
    adopted = project.run("run", "--adopt-config")
    assert adopted.returncode == 0, adopted.stderr
    project.assert_equals_source(account)


@of_one_database
def test_rows_that_the_source_counts_and_does_not_send_end_in_exit_6(
    tmp_path: Path, database_url: str, simulator: Simulator
) -> None:
    """A source that drops rows from its pages, played by a destination that asks for fewer of them than it counts."""
    project = simulated(tmp_path, database_url, simulator, run=SMALL)
    project.imported()
    # What a job landed is in its batches: as if the source had kept two customers back from one of them.
    simulator.set_faults(Faults(latency_seconds=0.3))
    assert project.run("run", "--max-runtime", "3.5s").returncode == 7
    batch = "record = 'customer' AND kind = 'range' AND status = 'completed'"
    wait_for(project, f"SELECT COUNT(*) FROM wave_batches WHERE {batch}")
    project.execute(
        f"UPDATE wave_batches SET row_count = row_count - 2 WHERE {batch} AND job_id ="
        " (SELECT job_id FROM import_jobs WHERE status = 'processing') AND row_count > 2"
    )
    simulator.set_faults(Faults())
    done = project.run("run", "--json")
    assert done.returncode == 6, done.stderr
    assert "`customer`: " in done.stderr
    job = json.loads(done.stdout)
    assert job["status"] == "completed"
    assert [alert["code"] for alert in job["alerts"]] == ["reconciliation"]
    assert project.run("status", "--exit-code").returncode == 20
