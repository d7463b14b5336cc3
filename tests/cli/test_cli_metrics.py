"""`run --metrics-file`: numbers that Prometheus can read, whole or as they were."""

from pathlib import Path

import pytest
from cli_world import World
from prometheus_client.parser import text_string_to_metric_families

from waveimport.errors import ExitCode
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator


def samples(path: Path) -> dict[tuple[str, ...], float]:
    """What stands in the file: by name and the values of its labels but the profile's."""
    return {
        (sample.name.removeprefix("waveimport_"), *(v for k, v in sorted(sample.labels.items()) if k != "profile")): (
            sample.value
        )
        for family in text_string_to_metric_families(path.read_text())
        for sample in family.samples
    }


def test_what_a_run_did_can_be_scraped(world: World, account: Simulator) -> None:
    world.configure(account.netsuite_toml())
    path = world.folder / "waveimport.prom"
    assert world.call("run", "--metrics-file", str(path)).code == ExitCode.OK
    found = samples(path)
    assert found["run_exit_code",] == 0
    assert found["job_rows", "salesorder"] == 1500
    assert found["job_batches", "completed", "1"] >= 2
    assert found["batches_owed",] == 0
    assert 0 <= found["job_finished_timestamp_seconds",] - found["job_created_timestamp_seconds",] < 600
    assert found["last_complete_timestamp_seconds",] == found["job_finished_timestamp_seconds",]
    assert not any(name[0] == "alert" for name in found)


def test_a_run_that_fails_says_so_and_a_file_that_cannot_be_written_fails_no_run(
    sqlite_world: World, account: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    account.set_faults(Faults(hidden_columns=("customer.balance",)))
    sqlite_world.configure(account.netsuite_toml())
    path = sqlite_world.folder / "waveimport.prom"
    assert sqlite_world.call("run", "--metrics-file", str(path)).code == ExitCode.INCOMPLETE
    found = samples(path)
    assert found["run_exit_code",] == 3
    assert found["job_batches", "failed", "2"] == 1
    said = sqlite_world.call("run", "--metrics-file", str(sqlite_world.folder / "none" / "x.prom"))
    assert said.code == ExitCode.INCOMPLETE
    assert "the metrics could not be written" in said.err + caplog.text
