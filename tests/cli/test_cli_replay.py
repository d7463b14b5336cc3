"""`waveimport replay`: every decision told again, and the first that would be taken otherwise found."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from cli_world import World
from sqlalchemy import text

from waveimport.core.waves import DECISION_VERSION
from waveimport.errors import ExitCode
from waveimport.runtime import retelling
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator

ENTRY_KEYS = {"seq", "at", "source", "token", "snapshot", "decision", "recomputed", "agrees"}


def change_decision(world: World, change: Callable[[dict[str, Any]], None], *, version: int | None = None) -> int:
    """Change the recorded decision of the entry that starts the job; return its number."""
    database = world.database()

    def work(connection: Any) -> int:
        rows = connection.execute(text("SELECT seq, decision FROM wave_journal WHERE event = 'pass' ORDER BY seq"))
        seq, recorded = rows.first()
        decision = json.loads(recorded)
        change(decision)
        connection.execute(
            text("UPDATE wave_journal SET decision = :decision, decision_version = :version WHERE seq = :seq"),
            {"decision": json.dumps(decision), "version": version or DECISION_VERSION, "seq": seq},
        )
        return int(seq)

    seq = database.run(work)
    database.close()
    return seq


def forget_dispatch(decision: dict[str, Any]) -> None:
    decision["dispatch"] = []


def test_the_journal_of_a_job_agrees_with_the_code_that_wrote_it(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    said = world.call("replay", job_id, "--json")
    assert said.code == ExitCode.OK
    assert set(said.json) == {"job_id", "entries", "divergence", "alerts"}
    assert (said.json["job_id"], said.json["divergence"], said.json["alerts"]) == (job_id, None, [])
    entries = said.json["entries"]
    assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
    for entry in entries:
        assert set(entry) >= ENTRY_KEYS
        assert entry["agrees"] is True
        assert entry["at"].endswith("Z")
        assert entry["decision"] == entry["recomputed"]
        assert (entry["snapshot"] is None) == (entry["decision"] is None)
    assert entries[0]["event"] == "lease"
    passes = [entry for entry in entries if entry["event"] == "pass"]
    assert passes[0]["decision"]["job"] == "processing"
    assert passes[-1]["decision"]["job"] == "completed"
    assert passes[0]["snapshot"]["waves"][0]["status"] == "pending"


def test_the_timeline_says_what_was_decided_and_why(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    said = world.call("-v", "replay", job_id)
    assert said.code == ExitCode.OK
    lines = said.out.splitlines()
    assert lines[0].split() == ["SEQ", "TIME", "(UTC)", "+DELTA", "SOURCE", "TOKEN", "EVENT", "DECISION", "(WHY)"]
    assert "  lease    taken by " in lines[1]
    assert "job processing; planning: planning; wave 1 pending -> processing; dispatch 1 of wave 1" in lines[2]
    assert "wave 1: every main wave before it is settled" in lines[2]
    assert any("wave 3 processing -> completed" in line and "seal wave 3, 4" in line for line in lines)
    assert "decisions recomputed: all agree" in lines[-1]
    count = len(world.call("replay", job_id, "--json").json["entries"])
    assert len([line for line in lines if line[:5].strip().isdigit()]) == count


def test_alike_neighbours_are_folded_and_none_is_lost(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    entries = world.call("replay", job_id, "--json").json["entries"]
    moving = ("moves", "seals", "job", "coordination_status")
    still = next(one["seq"] for one in entries[2:] if not any(one["decision"].get(key) for key in moving))
    database = world.database()

    def repeat(connection: Any) -> None:
        connection.execute(text(f"DELETE FROM wave_journal WHERE seq > 2 AND seq <> {still}"))
        connection.execute(text(f"UPDATE wave_journal SET seq = 3 WHERE seq = {still}"))
        for seq in range(4, 54):
            connection.execute(text(
                "INSERT INTO wave_journal (job_id, seq, at, source, token, event, snapshot, decision, note,"
                " decision_version, code_version) SELECT job_id, :seq, at, source, token, event, snapshot, decision,"
                " note, decision_version, code_version FROM (SELECT * FROM wave_journal WHERE seq = 3) one"),
                {"seq": seq})  # fmt: skip

    database.run(repeat)
    database.close()
    lines = world.call("replay", job_id).out.splitlines()
    assert [line.split()[0] for line in lines[1:6]] == ["1", "2", "3", "…", "53"]
    assert "49 more like it (4 to 52)" in lines[4]
    assert "53 entries" in lines[-1]
    assert len(world.call("-v", "replay", job_id).out.splitlines()) == 1 + 53 + 2


def test_neighbours_that_move_something_are_never_folded(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    database = world.database()
    database.run(lambda c: c.execute(text("DELETE FROM wave_journal WHERE seq > 2")))
    for seq in (3, 4):
        database.run(lambda c, seq=seq: c.execute(text(
            "INSERT INTO wave_journal (job_id, seq, at, source, token, event, snapshot, decision, note,"
            " decision_version, code_version) SELECT job_id, :seq, at, source, token, event, snapshot, decision, note,"
            " decision_version, code_version FROM (SELECT * FROM wave_journal WHERE seq = 2) one"),
            {"seq": seq}))  # fmt: skip
    database.close()
    lines = world.call("replay", job_id).out.splitlines()
    assert [line.split()[0] for line in lines[1:5]] == ["1", "2", "3", "4"]


def test_until_stops_after_that_entry(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    entries = world.call("replay", job_id, "--until", "3", "--json").json["entries"]
    assert [entry["seq"] for entry in entries] == [1, 2, 3]
    assert "3 entries" in world.call("replay", job_id, "--until", "3").out


def test_a_long_journal_is_read_in_parts_and_none_is_missed(
    world: World, account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = world.import_from(account)
    whole = world.call("replay", job_id, "--json").json["entries"]
    for size in (1, 3, len(whole)):
        monkeypatch.setattr(retelling, "ENTRIES_AT_ONCE", size)
        assert world.call("replay", job_id, "--json").json["entries"] == whole


def test_a_divergence_of_the_same_version_stops_with_exit_21(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    seq = change_decision(world, forget_dispatch)
    said = world.call("replay", job_id, "--json")
    assert said.code == ExitCode.DIVERGED
    assert said.json["entries"][-1]["seq"] == seq
    assert said.json["entries"][-1]["agrees"] is False
    divergence = said.json["divergence"]
    assert set(divergence) >= {"seq", "recorded", "recomputed"}
    assert divergence["seq"] == seq
    assert divergence["recorded"]["dispatch"] == []
    assert divergence["recomputed"]["dispatch"] != []
    shown = world.call("replay", job_id)
    assert shown.code == ExitCode.DIVERGED
    assert "DIVERGENCE: dispatch: recorded nothing, recomputed dispatch(wave_number=1" in shown.out
    stopped = f"stopped at the first divergence, entry {seq}: recorded by rules {DECISION_VERSION} (waveimport "
    assert stopped in shown.out
    assert f"recomputed by rules {DECISION_VERSION} (waveimport " in shown.out


def test_what_another_version_decided_is_shown_and_passed_unless_strict(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    count = len(world.call("replay", job_id, "--json").json["entries"])
    seq = change_decision(world, forget_dispatch, version=DECISION_VERSION + 1)
    said = world.call("replay", job_id, "--json")
    assert said.code == ExitCode.OK
    assert len(said.json["entries"]) == count
    assert said.json["divergence"]["seq"] == seq
    shown = world.call("replay", job_id)
    assert "decided otherwise today: dispatch: recorded nothing" in shown.out
    assert f"first entry {seq}: recorded by rules {DECISION_VERSION + 1} (waveimport " in shown.out
    strict = world.call("replay", job_id, "--strict", "--json")
    assert strict.code == ExitCode.DIVERGED
    assert strict.json["entries"][-1]["seq"] == seq
    assert world.call("replay", job_id, "--strict").code == ExitCode.DIVERGED


def test_a_divergence_behind_one_of_another_version_is_still_found(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    change_decision(world, forget_dispatch, version=DECISION_VERSION + 1)
    database = world.database()
    last = database.run(lambda c: c.execute(text("SELECT MAX(seq) FROM wave_journal WHERE event = 'pass'")).scalar())
    database.run(lambda c: c.execute(text("UPDATE wave_journal SET decision = :one WHERE seq = :seq"),
                                     {"one": '{"reason": "because"}', "seq": last}))  # fmt: skip
    database.close()
    said = world.call("replay", job_id, "--json")
    assert said.code == ExitCode.DIVERGED
    assert said.json["divergence"]["seq"] == last


def test_an_entry_that_cannot_be_decoded_names_itself(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    database = world.database()
    database.run(lambda c: c.execute(text("UPDATE wave_journal SET snapshot = '{\"status\": 7}' WHERE seq = 4")))
    database.close()
    said = world.call("replay", job_id)
    assert said.code == ExitCode.DIVERGED
    assert "error[WI-RUN-006]: entry 4 of the journal of " in said.err
    assert world.call("replay", job_id, "--until", "3").code == ExitCode.OK


def test_standing_alerts_are_told(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    database = world.database()
    database.run(lambda c: c.execute(text(
        "UPDATE import_jobs SET status = 'processing', finished_at = NULL, lease_owner = 'dead:1',"
        " lease_expires_at = '2001-01-01 00:00:00'")))  # fmt: skip
    database.close()
    assert [alert["code"] for alert in world.call("replay", job_id, "--json").json["alerts"]] == ["dead_holder"]
    assert "alert[dead_holder]: dead:1 let its lease lapse" in world.call("replay", job_id).out


def test_an_unknown_job_is_a_usage_error_and_makes_no_file(sqlite_world: World) -> None:
    said = sqlite_world.call("replay", "import_nope")
    assert (said.code, said.out) == (ExitCode.USAGE, "")
    assert "error[WI-USE-003]" in said.err
    assert sorted(path.name for path in sqlite_world.folder.iterdir()) == ["waveimport.toml"]


def test_the_life_of_a_batch_is_told(world: World, account: Simulator) -> None:
    account.set_faults(Faults(hidden_columns=("customer.balance",)))
    job_id = world.import_from(account)
    [failed] = world.call("status", "--failed", "--json").json["jobs"][0]["failed_batches"]
    said = world.call("replay", job_id, "--batch", failed["batch_id"])
    assert said.code == ExitCode.OK, said.err
    lines = said.out.splitlines()
    assert lines[0] == f"batch {failed['batch_id']} of {job_id}: wave 2, customer, range"
    assert "  is       failed, 0 rows landed, claimed 1 times" in lines
    assert any("  failed (attempt 1): WI-SRC-" in line for line in lines)
    as_json = world.call("replay", job_id, "--batch", failed["batch_id"], "--json").json
    assert [event["event"] for event in as_json["events"]] == ["failed"]
    unknown = world.call("replay", job_id, "--batch", "9/none")
    assert (unknown.code, "no batch `9/none`" in unknown.err) == (ExitCode.USAGE, True)
    assert world.call("replay", job_id, "--batch", "x", "--strict").code == ExitCode.USAGE
