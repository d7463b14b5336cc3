"""`waveimport cancel`: a job ends, and nothing of it can land any more, in one database or two."""

import pytest
from cli_world import World
from sqlalchemy import text

from waveimport.core.waves import Trigger
from waveimport.errors import ExitCode, JobCancelled
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator
from waveimport.store import destination as destination_store
from waveimport.store.jobs import lock_job
from waveimport.store.transactions import Database


def put_to_work(world: World, job_id: str) -> None:
    """Make a finished job look as in mid-run: two of its batches at work, under a lease."""
    database = world.database()
    database.run(lambda c: c.execute(text(
        "UPDATE import_jobs SET status = 'processing', finished_at = NULL, lease_owner = 'busy:1',"
        " lease_token = 5, lease_expires_at = '2031-01-01 00:00:00'")))  # fmt: skip
    database.run(lambda c: c.execute(text(
        "UPDATE wave_batches SET status = 'processing', attempt = 3, lease_owner = 'busy:1', lease_token = 5,"
        " lease_expires_at = '2031-01-01 00:00:00' WHERE kind = 'range' AND record IN ('customer', 'salesorder')"
        " AND job_id = :job"), {"job": job_id}))  # fmt: skip
    database.close()


def test_cancel_ends_the_job_and_takes_its_batches_back(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    put_to_work(world, job_id)
    said = world.call("cancel", job_id)
    assert said.code == ExitCode.OK
    assert f"cancelled {job_id}, which was processing: 2 batches at work taken back; busy:1 held it" in said.out
    [job] = world.call("status", "--json").json["jobs"]
    assert (job["status"], job["lease"]) == ("cancelled", None)
    assert job["finished_at"] is not None
    assert [wave["batches"]["processing"] for wave in job["waves"]] == [0, 0, 0, 0]
    assert [wave["batches"]["pending"] for wave in job["waves"]] == [0, 1, 1, 0]


def test_the_run_that_worked_on_it_is_fenced(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    put_to_work(world, job_id)
    world.call("cancel", job_id)
    database = world.database()
    with pytest.raises(JobCancelled):
        database.run(lambda connection: lock_job(connection, job_id, 5))
    database.close()


def test_a_run_at_work_stops_with_exit_code_3(world: World, account: Simulator) -> None:
    account.set_faults(Faults(latency_seconds=0.3))
    world.configure(account.netsuite_toml(), run="page_size = 100")
    said = []

    def cancel_once(job_id: str) -> None:
        if not said:
            said.append(world.call("cancel", job_id))

    result = world.run_import(cancel_once)
    assert said[0].code == ExitCode.OK
    assert result.exit_code == ExitCode.INCOMPLETE
    assert world.call("status", "--json").json["jobs"][0]["status"] == "cancelled"


def test_a_finished_job_is_left_as_it_is(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    before = world.call("status", "--json").json
    said = world.call("cancel", job_id)
    assert (said.code, said.out) == (ExitCode.OK, f"{job_id} is completed already; nothing was changed\n")
    assert world.call("status", "--json").json == before


def test_cancelling_twice_is_harmless(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    put_to_work(world, job_id)
    assert world.call("cancel", job_id).code == ExitCode.OK
    said = world.call("cancel", job_id)
    assert (said.code, said.out) == (ExitCode.OK, f"{job_id} is cancelled already; nothing was changed\n")


def test_a_failed_job_can_be_cancelled_and_the_next_run_makes_another(world: World, account: Simulator) -> None:
    account.set_faults(Faults(hidden_columns=("transactionline.netamount",)))
    job_id = world.import_from(account)
    assert world.call("cancel", job_id).code == ExitCode.OK
    account.set_faults(Faults())
    assert world.import_from(account) != job_id


def test_an_unknown_job_is_a_usage_error_and_makes_no_database(world: World) -> None:
    said = world.call("cancel", "import_nope")
    assert said.code == ExitCode.USAGE
    assert "error[WI-USE-003]: no job `import_nope` is in the database" in said.err
    assert not (world.folder / "test.db").exists()
    world.call("db", "upgrade")
    assert world.call("cancel", "import_nope").code == ExitCode.USAGE


def apart(world: World, account: Simulator) -> str:
    """Import with the rows landing in a SQLite database of their own; return the job's id."""
    return world.import_from(account, destination="sqlite:///rows.db")


def may_land(world: World, job_id: str, batch_id: str, attempt: int) -> bool:
    """Whether an attempt of a batch passes its fence in the destination; nothing is changed."""
    database = Database.open(f"sqlite:///{world.folder / 'rows.db'}")
    with database.engine.connect() as connection:
        passed = destination_store.raise_fence(connection, job_id, batch_id, attempt)
        connection.rollback()
    database.close()
    return passed


def test_in_a_destination_of_its_own_no_landing_under_way_can_pass(world: World, account: Simulator) -> None:
    job_id = apart(world, account)
    put_to_work(world, job_id)
    assert may_land(world, job_id, "2/customer/0000000", 3)
    assert world.call("cancel", job_id).code == ExitCode.OK
    assert not may_land(world, job_id, "2/customer/0000000", 3)
    assert not may_land(world, job_id, "3/salesorder/0000000", 3)


def test_with_the_destination_out_of_reach_the_job_is_cancelled_and_a_second_call_fences(
    world: World, account: Simulator
) -> None:
    job_id = apart(world, account)
    put_to_work(world, job_id)
    rows, aside = world.folder / "rows.db", world.folder / "aside.db"
    rows.rename(aside)
    rows.mkdir()
    said = world.call("cancel", job_id)
    assert said.code == ExitCode.UNREACHABLE
    assert "the job is cancelled, but" in said.err
    assert f"`waveimport cancel {job_id}` again" in said.err
    assert world.call("status", "--json").json["jobs"][0]["status"] == "cancelled"
    rows.rmdir()
    aside.rename(rows)
    assert world.call("cancel", job_id).code == ExitCode.OK
    assert not may_land(world, job_id, "3/salesorder/0000000", 3)


def test_the_journal_names_the_cancellation(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    put_to_work(world, job_id)
    world.call("cancel", job_id)
    database = world.database()
    last = database.run(lambda c: c.execute(text("SELECT event, source, token FROM wave_journal ORDER BY seq")).all())
    database.close()
    assert tuple(last[-1]) == ("cancel", Trigger.CRON, 6)
