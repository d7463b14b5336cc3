"""`waveimport prune`: old jobs go, with what nothing needs of them; each one that stays is told with its reason."""

import pytest
from cli_world import RECORDS, World
from sqlalchemy import text

from waveimport.errors import ExitCode
from waveimport.simulator.handle import Simulator
from waveimport.store.transactions import Database

PLAIN, CUSTOMER = RECORDS.split("\n\n")[:2]
DAILY = PLAIN.replace("columns = { ", 'cursor = "lastmodifieddate"\ncolumns = { lastmodifieddate = "timestamp", ')


def count(world: World, sql: str) -> int:
    database = world.database()
    found: int = database.run(lambda connection: connection.execute(text(sql)).scalar_one())
    database.close()
    return found


def test_old_jobs_go_and_the_rest_is_as_it_was(sqlite_world: World, account: Simulator) -> None:
    world = sqlite_world
    made = [world.import_from(account, records=PLAIN) for _ in range(3)]
    would = world.call("prune", "--keep", "2", "--dry-run")
    assert would.out.startswith(f"would delete 1 job ({made[0]}): 2 batches, ")
    assert len(world.call("jobs", "--json").json["jobs"]) == 3

    expected = world.call("prune", "--keep", "0", "--journal-only", "--dry-run", "--json").json["deleted"]
    done = world.call("prune", "--keep", "0", "--journal-only", "--json").json
    assert done["deleted"] == expected
    assert [job["job_id"] for job in done["deleted"]] == made[:2]
    assert done["deleted"][0]["journal_entries"] > 3
    assert world.call("prune", "--keep", "0", "--journal-only").out.startswith("deleted nothing\n")
    assert len(world.call("jobs", "--json").json["jobs"]) == 3
    assert world.call("check", "--data").code == ExitCode.OK
    told = world.call("replay", made[0])
    assert told.code == ExitCode.OK
    assert "the entries up to here were deleted, by `prune --journal-only` or for their age" in told.out

    said = world.call("prune", "--keep", "2")
    assert (said.code, said.out.splitlines()) == (
        ExitCode.OK,
        [
            f"deleted 1 job ({made[0]}): 2 batches, 1 journal entry, 0 events",
            f"kept 1: the newest, by which the next run knows what to do ({made[2]})",
            f"kept 1: recent enough, by what was asked for ({made[1]})",
        ],
    )
    assert [job["job_id"] for job in world.call("jobs", "--json").json["jobs"]] == [made[2], made[1]]
    assert world.call("check", "--data").code == ExitCode.OK
    assert count(world, "SELECT COUNT(*) FROM subsidiary") > 5
    done = world.call("prune", "--older-than", "90d", "--json").json
    assert done["deleted"] == []
    assert {one["reason"]: one["job_ids"] for one in done["kept"]} == {"newest": [made[2]], "recent": [made[1]]}


def test_the_job_of_a_watermark_stays_and_the_next_run_asks_for_changes(
    sqlite_world: World, account: Simulator
) -> None:
    world, records = sqlite_world, f"{DAILY}\n\n{CUSTOMER}"
    compared, plain, marked = [world.import_from(account, records=records) for _ in range(3)]
    newest = world.run_import(records=("customer",)).job_id
    said = world.call("prune", "--keep", "0")
    assert said.out.startswith(f"deleted 1 job ({plain}): ")
    needed = "a watermark names it: without its configuration the next run would read all again"
    assert f"kept 1: {needed} ({marked})" in said.out
    assert f"({newest})" in said.out
    assert f"kept 1: what it found decides when whole tables are compared again ({compared})" in said.out
    assert world.call("status", plain).code == ExitCode.USAGE
    job_id = world.import_from(account, records=records)
    assert world.call("status", job_id, "--json").json["jobs"][0]["mode"] == "incremental"


def apart(world: World, sql: str) -> int:
    database = Database.open(f"sqlite:///{world.folder / 'rows.db'}")
    found: int = database.run(lambda connection: connection.execute(text(sql)).scalar_one())
    database.close()
    return found


def test_fences_go_with_their_jobs_once_no_page_can_be_on_its_way(sqlite_world: World, account: Simulator) -> None:
    world = sqlite_world
    how = {"records": PLAIN, "destination": "sqlite:///rows.db"}
    old, lately, _ = [world.import_from(account, **how) for _ in range(3)]
    of_old = f"SELECT COUNT(*) FROM _waveimport_fence WHERE job_id = '{old}'"
    assert apart(world, of_old) > 0
    database = world.database()
    ended = text("UPDATE import_jobs SET finished_at = '2026-01-01 00:00:00' WHERE job_id = :old")
    database.run(lambda connection: connection.execute(ended, {"old": old}) and None)
    database.close()
    rows, aside = world.folder / "rows.db", world.folder / "aside.db"
    rows.rename(aside)
    rows.mkdir()
    said = world.call("prune", "--keep", "0")
    assert said.code == ExitCode.UNREACHABLE
    assert "the destination, which holds fences of the jobs to delete" in said.err
    rows.rmdir()
    aside.rename(rows)
    assert len(world.call("jobs", "--json").json["jobs"]) == 3, "none was begun without its destination"
    said = world.call("prune", "--keep", "0")
    assert said.out.startswith(f"deleted 1 job ({old}): ")
    assert f"a page of it may still be on its way to the destination ({lately})" in said.out
    assert apart(world, of_old) == 0
    assert apart(world, "SELECT COUNT(*) FROM _waveimport_fence") > 0


def test_with_nothing_there_nothing_is_made(sqlite_world: World) -> None:
    said = sqlite_world.call("prune")
    assert (said.code, said.out) == (ExitCode.OK, "deleted nothing\n")
    assert not (sqlite_world.folder / "test.db").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--older-than", "soon"), "`soon` is no duration: write 90s, 15m, 1h30m or 90d"),
        (("--keep", "-1"), "-1 is not in the range x>=0"),
        (("import_1",), "unexpected extra argument"),
    ],
)
def test_what_cannot_be_is_told(sqlite_world: World, words: tuple[str, ...], told: str) -> None:
    said = sqlite_world.call("prune", *words)
    assert said.code == ExitCode.USAGE
    assert told in said.err


def test_a_run_deletes_the_journals_of_jobs_beyond_their_age(world: World, account: Simulator) -> None:
    first = world.import_from(account, records=PLAIN)
    world.configure(account.netsuite_toml(), records=PLAIN, run="journal_days = 30")
    entries = f"SELECT COUNT(*) FROM wave_journal WHERE job_id = '{first}'"
    before = count(world, entries)
    assert world.call("run", "--trigger", "cron").code == ExitCode.OK
    assert count(world, entries) == before > 3, "it ended just now"
    old = "UPDATE import_jobs SET finished_at = '2001-01-01 00:00:00.000000' WHERE job_id = :job"
    database = world.database()
    database.run(lambda connection: connection.execute(text(old), {"job": first}))
    database.close()
    world.configure(account.netsuite_toml(), records=PLAIN, run="journal_days = 0")
    assert world.call("run", "--trigger", "cron").code == ExitCode.OK
    assert count(world, entries) == before
    world.configure(account.netsuite_toml(), records=PLAIN)
    said = world.call("run", "--trigger", "cron")
    assert said.code == ExitCode.OK
    assert f"deleted {before} journal entries of jobs older than 90 days" in said.err
    assert count(world, entries) == 1, "the mark of what was deleted"
    assert world.call("check", "--data").code == ExitCode.OK
