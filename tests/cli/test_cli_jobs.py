"""`waveimport jobs`: what was imported when, and how it ended."""

import pytest
from cli_world import World

from waveimport.errors import ExitCode
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator


def test_without_a_database_there_is_no_job_and_no_file_is_made(sqlite_world: World) -> None:
    said = sqlite_world.call("jobs")
    assert (said.code, said.out) == (ExitCode.OK, "no job yet; `waveimport run` creates one\n")
    assert sqlite_world.call("jobs", "--json").json == {"schema_version": 1, "jobs": []}
    assert sorted(path.name for path in sqlite_world.folder.iterdir()) == ["waveimport.toml"]


def test_jobs_come_newest_first_with_what_they_landed(world: World, account: Simulator) -> None:
    first = world.import_from(account)
    second = world.import_from(account, top='profile = "other"', run='[destination]\nprefix = "other_"')
    said = world.call("jobs", "--json")
    assert said.code == ExitCode.OK
    assert [job["job_id"] for job in said.json["jobs"]] == [second, first]
    for job, profile in zip(said.json["jobs"], ("other", "1234567_SB1"), strict=True):
        assert set(job) == {
            "job_id", "profile", "mode", "status", "created_at", "finished_at", "duration_seconds", "rows", "error"
        }  # fmt: skip
        assert (job["profile"], job["mode"], job["status"], job["error"]) == (profile, "full", "completed", None)
        assert job["rows"] == world.call("status", job["job_id"], "--json").json["jobs"][0]["rows"] > 7500
        assert 0 < job["duration_seconds"] < 120
    lines = world.call("jobs").out.splitlines()
    assert lines[0].split()[:4] == ["JOB", "PROFILE", "MODE", "STATUS"]
    assert [line.split()[0] for line in lines[1:]] == [second, first]
    assert [job["job_id"] for job in world.call("jobs", "--limit", "1", "--json").json["jobs"]] == [second]


def test_a_failed_job_shows_its_status(world: World, account: Simulator) -> None:
    account.set_faults(Faults(hidden_columns=("transactionline.netamount",)))
    world.import_from(account)
    assert world.call("jobs", "--json").json["jobs"][0]["status"] == "failed"
    assert "  failed  " in world.call("jobs").out


@pytest.mark.parametrize("limit", ["0", "-1", "x"])
def test_a_senseless_limit_is_a_usage_error(sqlite_world: World, limit: str) -> None:
    assert sqlite_world.call("jobs", "--limit", limit).code == ExitCode.USAGE
