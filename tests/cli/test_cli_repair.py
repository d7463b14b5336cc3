"""`waveimport replay --repair` and `--what-if`: what would be done is shown, and only what is asked for is done."""

from pathlib import Path
from typing import Any

import pytest
from cli_world import World
from sqlalchemy import text

from waveimport.errors import ExitCode
from waveimport.simulator.handle import Simulator

TABLES = ("import_jobs", "wave_coordination", "wave_batches", "wave_journal", "batch_events")
LAPSED = "'2001-01-01 00:00:00'"
LIVE = "'2099-01-01 00:00:00'"


def execute(world: World, *statements: str) -> None:
    database = world.database()
    for sql in statements:
        database.run(lambda connection, sql=sql: connection.execute(text(sql)))
    database.close()


def contents(world: World) -> list[list[tuple[Any, ...]]]:
    database = world.database()
    found = [
        database.run(lambda c, table=table: [tuple(row) for row in c.execute(text(f"SELECT * FROM {table}"))])
        for table in TABLES
    ]
    database.close()
    return found


def lines_of(world: World, sql: str) -> list[tuple[Any, ...]]:
    database = world.database()
    found = database.run(lambda connection: [tuple(row) for row in connection.execute(text(sql))])
    database.close()
    return found


def left_by_a_dead_run(world: World, until: str, *, batches: int = 1) -> list[str]:
    """Have a completed job look as if its run had died with batches of lines in hand."""
    ids = [row[0] for row in lines_of(world, "SELECT batch_id FROM wave_batches WHERE wave_number = 4 ORDER BY 1")]
    chosen = ids[:batches]
    execute(
        world,
        "UPDATE import_jobs SET status = 'processing', finished_at = NULL, lease_owner = 'dead:1',"
        f" lease_expires_at = {until}",
        "UPDATE wave_coordination SET status = 'processing' WHERE wave_number = 4",
        *(
            "UPDATE wave_batches SET status = 'processing', lease_owner = 'dead:1', lease_token = 1,"
            f" lease_expires_at = {until} WHERE batch_id = '{batch}'"
            for batch in chosen
        ),
    )
    return chosen


def test_a_repair_is_shown_first_and_changes_nothing_by_that(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    [batch] = left_by_a_dead_run(world, LAPSED)
    before = contents(world)
    said = world.call("replay", job_id, "--repair")
    assert said.code == ExitCode.OK, said.err
    lines = said.out.splitlines()
    assert lines[0] == f"repair of {job_id}, which is processing"
    assert lines[1] == "  takes the job over from dead:1, which is gone"
    assert lines[2] == "  puts back 1 batch:"
    assert lines[3].startswith(f"    {batch}  wave 4, with dead:1, last sign ")
    assert "the pass behind that decides: dispatch 1 of wave 4" in lines[4]
    assert lines[-1] == "nothing was changed; --yes does it"
    assert contents(world) == before


def test_a_repair_puts_back_makes_a_pass_and_leaves_the_rest_to_a_run(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    batches = left_by_a_dead_run(world, LAPSED, batches=3)
    said = world.call("replay", job_id, "--repair", "--yes")
    assert said.code == ExitCode.OK, said.err
    assert said.out.splitlines()[-1] == "done: 3 batches put back; `waveimport run` goes on with the job"
    found = lines_of(world, "SELECT batch_id FROM wave_batches WHERE status = 'pending' ORDER BY 1")
    assert [row[0] for row in found] == batches
    assert lines_of(world, "SELECT lease_owner FROM import_jobs") == [(None,)]
    entries = world.call("replay", job_id, "--json").json["entries"]
    assert [entry["event"] for entry in entries[-3:]] == ["lease", "pass", "ended"]
    assert entries[-3]["note"].endswith("from dead:1, whose lease had lapsed")
    assert entries[-1]["note"] == "repaired by hand: 3 batches put back; the next run goes on"
    assert all(entry["agrees"] for entry in entries)
    assert "repaired by hand" in world.call("status", "--why").out
    result = world.run_import()
    assert (result.exit_code, result.job_id) == (ExitCode.OK, job_id)
    assert lines_of(world, "SELECT status FROM import_jobs") == [("completed",)]


def test_beside_a_run_at_work_a_repair_changes_nothing(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    left_by_a_dead_run(world, LIVE)
    before = contents(world)
    said = world.call("replay", job_id, "--repair", "--yes")
    assert (said.code, said.err) == (ExitCode.OK, "")
    holds = "a run is at work: dead:1 holds the job until 2099-01-01 00:00:00 UTC; nothing was changed"
    assert said.out.splitlines() == [holds]
    assert contents(world) == before


def test_the_completion_of_a_job_is_left_to_a_run(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    left_by_a_dead_run(world, LAPSED, batches=0)
    said = world.call("replay", job_id, "--repair", "--yes")
    assert said.code == ExitCode.OK, said.err
    assert "  puts back 0 batches; nobody holds one any more" in said.out
    assert "makes no pass: it would complete the job, which `waveimport run` does" in said.out
    assert lines_of(world, "SELECT status, lease_owner FROM import_jobs") == [("processing", None)]
    assert world.run_import().exit_code == ExitCode.OK


def test_what_has_ended_needs_no_repair(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    before = contents(world)
    said = world.call("replay", job_id, "--repair", "--yes")
    assert said.out == "the job is completed: there is nothing to put back; nothing was changed\n"
    assert contents(world) == before


@pytest.mark.parametrize(
    "words", [("--yes",), ("--repair", "--json"), ("--repair", "--until", "3"), ("--what-if", "limit=2", "--strict")]
)
def test_options_that_do_not_go_together_are_refused(sqlite_world: World, words: tuple[str, ...]) -> None:
    assert sqlite_world.call("replay", "import_x", *words).code == ExitCode.USAGE


def test_a_bundle_is_not_repaired(sqlite_world: World) -> None:
    said = sqlite_world.call("replay", str(sqlite_world.config), "--repair")
    assert (said.code, "it takes no bundle" in said.err) == (ExitCode.USAGE, True)


def test_another_limit_is_tried_on_what_passes_saw(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    recorded = world.call("replay", job_id, "--json").json["entries"]
    said = world.call("replay", job_id, "--what-if", "limit=1", "--json")
    assert said.code == ExitCode.OK, said.err
    assert said.json["what_if"]["otherwise"] == sum(not entry["agrees"] for entry in said.json["entries"]) > 0
    for then, now in zip(recorded, said.json["entries"], strict=True):
        if now["recomputed"] is not None:
            assert sum(order["count"] for order in now["recomputed"]["dispatch"]) <= 1
            assert now["recomputed"]["moves"] == then["decision"]["moves"]
    shown = world.call("replay", job_id, "--what-if", "limit=1").out
    assert "by limit=1: dispatch: recorded dispatch(wave_number=" in shown
    assert f"by limit=1: {said.json['what_if']['otherwise']} otherwise, the first at entry " in shown
    same = world.call("replay", job_id, "--what-if", f"limit={recorded[1]['snapshot']['limit']}")
    assert same.out.splitlines()[-1].endswith(": 0 otherwise")


EARLY_RETURN = """
from dataclasses import replace
from waveimport.core.waves import WaveStatus, decide as today

def decide(snapshot):
    decision = today(snapshot)
    if any(wave.status is WaveStatus.PROCESSING for wave in snapshot.waves):
        return replace(decision, dispatch=())
    return decision
"""


def test_a_policy_of_ones_own_is_tried_from_a_file(sqlite_world: World, account: Simulator, tmp_path: Path) -> None:
    job_id = sqlite_world.import_from(account)
    policy = tmp_path / "early_return.py"
    policy.write_text(EARLY_RETURN)
    said = sqlite_world.call("replay", job_id, "--what-if", str(policy), "--json")
    assert said.code == ExitCode.OK, said.err
    first = next(entry for entry in said.json["entries"] if not entry["agrees"])
    assert said.json["divergence"]["seq"] == first["seq"]
    assert first["recomputed"] == {**first["decision"], "dispatch": []}


@pytest.mark.parametrize(
    ("written", "told"),
    [
        (None, "there is no file"),
        ("def decide(:", "cannot be loaded: SyntaxError"),
        ("x = 1", "has no function `decide`"),
        ("def decide(snapshot):\n    return snapshot.nope", "raised AttributeError"),
        ("def decide(snapshot):\n    return 7", "returned int, not a Decision"),
    ],
)
def test_what_is_no_policy_is_told_with_its_place(
    sqlite_world: World, account: Simulator, tmp_path: Path, written: str | None, told: str
) -> None:
    job_id = sqlite_world.import_from(account)
    policy = tmp_path / "policy.py"
    if written is not None:
        policy.write_text(written)
    said = sqlite_world.call("replay", job_id, "--what-if", str(policy))
    assert said.code == ExitCode.USAGE
    assert "error[WI-USE-011]: " in said.err
    assert told in said.err
    if "nope" in (written or ""):
        assert f"where: {policy}:2" in said.err


def test_the_state_behind_an_entry_is_shown(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    entries = world.call("replay", job_id, "--json").json["entries"]
    done = next(entry["seq"] for entry in entries if entry["decision"] and any(
        move["wave_number"] == 1 and move["target"] == "completed" for move in entry["decision"]["moves"]))  # fmt: skip
    state = world.call("replay", job_id, "--until", str(done), "--json").json["state"]
    assert state["seq"] == done
    assert [wave["status"] for wave in state["job"]["waves"]] == ["completed", "processing", "pending", "pending"]
    before = world.call("replay", job_id, "--until", str(done - 1), "--json").json["state"]
    assert before["job"]["waves"][0]["status"] == "processing"
    shown = world.call("replay", job_id, "--until", str(done)).out
    assert f"state behind entry {done}: the job is processing, its planning plan" in shown
    assert "   1  main     subsidiary      completed   yes" in shown
    assert "no pass was made by then" in world.call("replay", job_id, "--until", "1").out
