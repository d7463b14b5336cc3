"""`waveimport simulate` as another program meets it: one line, an exit code, nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from simulator_client import signed

from waveimport.simulator.auth import Credentials
from waveimport.simulator.handle import Simulator, records_toml
from waveimport.simulator.schema import TABLES, Kind
from waveimport.simulator.server import SUITEQL_PATH

COMMAND = [sys.executable, "-m", "waveimport", "simulate", "--port", "0", "--scale", "0.001"]


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[dict[str, str]]:
    """An environment whose temporary files all go to one folder, which must be empty in the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    yield {**os.environ, "TMPDIR": str(folder)}
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_it_cleanly(temporary: dict[str, str], number: signal.Signals, code: int) -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=temporary, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(number)
        rest, errors = process.communicate(timeout=30)
    assert process.returncode == code, errors
    assert rest == ""
    assert "Traceback" not in errors
    assert line.startswith("netsuite = {")


def test_its_line_is_a_configuration_that_reaches_it(temporary: dict[str, str]) -> None:
    with subprocess.Popen(
        COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=temporary, text=True
    ) as process:
        assert process.stdout is not None
        given = tomllib.loads(process.stdout.readline())["netsuite"]
        base_url = given.pop("base_url")
        key_file = Path(given.pop("private_key_file"))
        assert key_file.read_text().startswith("-----BEGIN PRIVATE KEY-----")
        assert key_file.stat().st_mode & 0o777 == 0o600
        reply = requests.post(
            base_url + SUITEQL_PATH,
            json={"q": "SELECT COUNT(*) AS n FROM transaction WHERE type = 'SalesOrd'"},
            headers={"Prefer": "transient"},
            auth=signed(Credentials(**given)),
            timeout=30,
        )
        process.terminate()
    assert reply.json()["items"] == [{"links": [], "n": "1500"}]


def test_as_json_it_has_every_promised_member(small_account: Path, temporary: dict[str, str]) -> None:
    command = [*COMMAND, "--json", "--data", str(small_account)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=temporary, text=True) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert list(ready) == [
        "base_url", "account", "consumer_key", "consumer_secret", "token_id", "token_secret", "client_id",
        "certificate_id", "private_key_file",
    ]  # fmt: skip
    assert ready["base_url"].startswith("http://127.0.0.1:")
    assert all(isinstance(value, str) and value for value in ready.values())
    assert not Path(ready["private_key_file"]).exists()
    assert errors == ""  # a kept file needs no building
    assert small_account.exists()


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--faults", "none.toml"], 2, "cannot be read"),
        (["--scale", "7000"], 2, "not between"),
        (["--data", "data.sqlite", "--scale", "0.002"], 2, "scale 0.001, not 0.002"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_2(
    small_account: Path, tmp_path: Path, temporary: dict[str, str], options: list[str], code: int, words: str
) -> None:
    (tmp_path / "data.sqlite").write_bytes(small_account.read_bytes())
    done = subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, env=temporary, cwd=tmp_path, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert done.stderr.startswith("error[WI-")


def test_a_port_in_use_is_one_sentence_and_exit_2(simulator: Simulator, small_account: Path) -> None:
    port = simulator.base_url.rpartition(":")[2]
    command = [*COMMAND, "--data", str(small_account), "--port", port]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"the port {port} cannot be listened on" in done.stderr


@pytest.mark.parametrize("missing", ["oauthlib", "sqlglot"])
def test_without_the_extra_it_names_what_to_install(missing: str, tmp_path: Path) -> None:
    script = (
        f"import sys; sys.modules['{missing}'] = None\nfrom waveimport.cli.main import run\nsys.exit(run(['simulate']))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert "pip install 'waveimport[demo]'" in done.stderr


def test_help_imports_neither_the_parser_nor_the_signer() -> None:
    script = (
        "import sys\nfrom waveimport.cli.main import run\nrun(['simulate', '--help'])\n"
        "heavy = {'sqlglot', 'oauthlib', 'jwt', 'cryptography', 'msgspec', 'sqlalchemy', 'rich'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert "--faults" in done.stdout
    assert done.stderr == "[]\n"


def test_the_handle_prints_the_table_that_reaches_it(simulator: Simulator) -> None:
    table = tomllib.loads(simulator.netsuite_toml())["netsuite"]
    assert table["base_url"] == simulator.base_url
    assert table["token_secret"] == simulator.credentials.token_secret
    table = tomllib.loads(simulator.netsuite_toml("m2m"))["netsuite"]
    assert (table["auth"], table["client_id"]) == ("m2m", simulator.credentials.client_id)


# --- the records ------------------------------------------------------------------------------------------------

TYPES = {Kind.TEXT: "text", Kind.FLAG: "boolean", Kind.DATE: "date", Kind.TIMESTAMP: "timestamp"}


def test_the_records_fit_the_tables_column_by_column() -> None:
    records = tomllib.loads(records_toml())["records"]
    assert list(records) == ["subsidiary", "customer", "vendor", "item", "salesorder", "salesorderline"]
    for name, record in records.items():
        table = TABLES[record.get("table", name)]
        expected = {
            column.name: TYPES.get(column.kind, "decimal(15,2)" if column.scale else "integer")
            for column in table.columns
            if column.name != "recordtype"  # the same for every row of a record
        }
        assert record["columns"] == expected, name


@pytest.mark.parametrize("auth", ["tba", "m2m"])
def test_the_records_are_a_configuration_without_mistakes(simulator: Simulator, tmp_path: Path, auth: str) -> None:
    from waveimport.runtime.config import load_settings

    path = tmp_path / "waveimport.toml"
    path.write_text(f'[database]\nurl = "sqlite:///x.db"\n{simulator.netsuite_toml(auth)}\n{records_toml()}')
    settings = load_settings(path, {}, secrets=True, warn=lambda _message: None)
    line = settings.record("salesorderline")
    assert (line.table, line.key, line.derived_from, line.parent_key) == (
        "transactionline", ("uniquekey",), "salesorder", "transaction",
    )  # fmt: skip
