"""What README says is true: its configuration loads, its tables are those of the code, its commands exist."""

import re
import subprocess
from pathlib import Path

import pytest
from netsuite_keys import pem

from waveimport.cli.lazy import COMMANDS
from waveimport.core.waves import BATCH_MOVES, JOB_MOVES, WAVE_MOVES
from waveimport.errors import EXIT_CODES
from waveimport.netsuite.private_key import signing_key
from waveimport.runtime.config import load_settings

PROJECT = Path(__file__).parents[2]
README = (PROJECT / "README.md").read_text(encoding="utf-8")
SECRETS = {
    "WAVEIMPORT_DB_PASSWORD": "p",
    "NETSUITE_CLIENT_ID": "a",
    "NETSUITE_CERTIFICATE_ID": "b",
}


@pytest.mark.parametrize("source", ["README.md", "examples/waveimport.toml"])
def test_the_configurations_that_are_shown_load(tmp_path: Path, source: str) -> None:
    text = (PROJECT / source).read_text(encoding="utf-8")
    if source == "README.md":
        (text,) = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    path = tmp_path / "waveimport.toml"
    path.write_text(text, encoding="utf-8")
    key = tmp_path / "netsuite-key.pem"
    key.touch(mode=0o600)
    key.write_text(pem("RSA 3072"))
    settings = load_settings(path, SECRETS, secrets=True)
    assert {record.name for record in settings.records} >= {"customer", "salesorder", "salesorderline"}


def test_the_command_that_makes_a_certificate_makes_a_key_that_is_taken(tmp_path: Path) -> None:
    (command,) = re.findall(r"(openssl req .*?)\n```", README, re.DOTALL)
    subprocess.run(["sh", "-c", command.replace("\\\n", " ")], cwd=tmp_path, check=True, capture_output=True)
    key = tmp_path / "netsuite-key.pem"
    assert key.stat().st_mode & 0o077 == 0
    signing_key(key.read_text(), "PS256")
    assert "BEGIN CERTIFICATE" in (tmp_path / "netsuite-cert.pem").read_text()


def test_the_diagram_of_moves_is_the_table_of_the_code() -> None:
    lines = []
    for name, moves in (("wave", WAVE_MOVES), ("job", JOB_MOVES), ("batch", BATCH_MOVES)):
        for source, targets in moves.items():
            if targets:
                lines.append(f"{name:<5} {source} -> {', '.join(sorted(targets))}")
    assert "```\n" + "\n".join(lines) + "\n```" in README


def test_every_command_is_in_the_table() -> None:
    table = README[README.index("| command | does |") :]
    for name in COMMANDS:
        assert f"`{name}" in table, name


def test_every_exit_code_is_in_the_table() -> None:
    table = README[README.index("| exit code | meaning |") :]
    for code in EXIT_CODES:
        assert re.search(rf"\b{int(code)}\b", table), code


def test_the_status_that_is_shown_is_one_that_was_captured() -> None:
    screen = (PROJECT / "tests" / "cli" / "screens" / "running-80.txt").read_text(encoding="utf-8")
    assert f"```\n$ waveimport status\n{screen[screen.index('import_') :]}```" in README


def test_ci_runs_the_test_command_that_is_shown() -> None:
    shown = re.search(r"\.venv/bin/(pytest -q -n \d --dist worksteal)\n", README)
    assert shown is not None
    assert shown[1].replace("pytest", 'pytest"') in (PROJECT / ".ci" / "run").read_text(encoding="utf-8")
