"""From credentials alone to a finished import: `init`, `discover`, `check`, `plan`, `run`, into both databases."""

import json
import os
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from project import of_one_database, simulated

from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator


class Newcomer:
    """Somebody with an account, its credentials in the environment, and a folder with nothing but the private key."""

    def __init__(self, folder: Path, simulator: Simulator) -> None:
        given = simulator.credentials
        self.folder = folder
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WAVEIMPORT_")},
            "NETSUITE_CLIENT_ID": given.client_id,
            "NETSUITE_CERTIFICATE_ID": given.certificate_id,
        }
        key = folder / "netsuite-key.pem"
        key.touch(mode=0o600)
        key.write_bytes(simulator.private_key_file.read_bytes())

    def types(self, line: str) -> str:
        """Run a command line as a shell does; it must succeed. Returns what it prints."""
        line = line.replace("waveimport ", shlex.join([sys.executable, "-m", "waveimport"]) + " ", 1)
        done = subprocess.run(
            line, shell=True, cwd=self.folder, env=self._environment, capture_output=True, text=True, timeout=240
        )
        assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
        return done.stdout


@of_one_database
def test_a_newcomer_gets_from_credentials_to_a_finished_import(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    newcomer = Newcomer(tmp_path, simulator)
    shown = newcomer.types("waveimport init")
    config = tmp_path / "waveimport.toml"
    text = config.read_text()
    text = text.replace('"sqlite:///waveimport.db"', f'"{database_url}"')
    text = text.replace('# base_url = "http://127.0.0.1:8765"', f'base_url = "{simulator.base_url}"')
    config.write_text(text.replace('account = "1234567_SB1"', f'account = "{simulator.credentials.account}"'))
    listed = newcomer.types("waveimport discover")
    assert "salesorder" in listed
    write_all = "waveimport discover --all >> waveimport.toml"
    assert write_all in shown
    assert listed.splitlines()[-1].strip() == write_all
    newcomer.types(write_all)
    assert "fail" not in newcomer.types("waveimport check")
    assert "salesorderline" in newcomer.types("waveimport plan")
    job = json.loads(newcomer.types("waveimport run --json"))
    assert job["status"] == "completed"
    (tmp_path / "beside").mkdir()
    written = config.read_text()
    records = written[written.index("[records.subsidiary]") :]
    project = simulated(tmp_path / "beside", database_url, simulator, records=records)
    assert project.assert_equals_source(account) == job["rows"]
    assert {"customer", "salesorder", "salesorderline", "invoiceline"} <= set(tomllib.loads(records)["records"])


def test_a_record_of_more_than_100_columns_equals_the_source_cell_by_cell(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    project = simulated(tmp_path, database_url, simulator, records="")
    found = project.run("discover", "customrecord_measurement")
    assert found.returncode == 0, found.stderr
    project.records = found.stdout
    assert len(tomllib.loads(project.records)["records"]["customrecord_measurement"]["columns"]) == 124
    project.write("batch_size = 500\npage_size = 300")
    job = project.imported()
    assert project.assert_equals_source(account) == job["rows"] == 1200
    queries = [request.query for request in simulator.requests if "custrecord_m119" in request.query]
    assert queries, "the last column was asked for"
    assert all("custrecord_m000" not in query for query in queries), "and never with the first"


@pytest.mark.parametrize(
    "faults",
    [
        Faults(one_world=False),
        Faults(catalogue=False),
        Faults(hidden_tables=("vendor",), hidden_columns=("transaction.entity",)),
    ],
    ids=["no subsidiaries", "no catalogue", "a role of few rights"],
)
def test_what_an_account_or_a_role_lacks_is_in_nobodys_way(
    tmp_path: Path, simulator: Simulator, account: Path, faults: Faults
) -> None:
    simulator.set_faults(faults)
    project = simulated(tmp_path, f"sqlite:///{tmp_path / 'test.db'}", simulator, records="")
    project.records = project.run("discover", "--all").stdout
    records = tomllib.loads(project.records)["records"]
    assert ("vendor" in records) == ("vendor" not in faults.hidden_tables)
    assert ("subsidiary" in records) == faults.one_world
    project.write()
    assert project.imported()["rows"] > 10_000
