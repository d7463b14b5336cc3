"""The incidents of the predecessor happen again by its rules, and not by ours; a weakened rule fails the example."""

import contextlib
import importlib.util
import io
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.engine import Connection

from waveimport.cli import main
from waveimport.runtime import coordinator
from waveimport.simulator.dataset import build
from waveimport.store import lease

INCIDENTS = Path(__file__).parents[2] / "examples" / "incidents"


@pytest.fixture(scope="module")
def account_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of the smallest simulated account."""
    path = tmp_path_factory.mktemp("incidents") / "account.sqlite"
    build(path, 0.001)
    return path


def example(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, INCIDENTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(name: str, *words: str) -> list[str]:
    """Run an example as its reader does; it must end well. Returns the lines it tells."""
    command = [sys.executable, str(INCIDENTS / f"{name}.py"), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "NOT SO" not in done.stdout
    return [line.strip() for line in done.stdout.splitlines()]


def waveimport(*words: str) -> tuple[int, list[str]]:
    """Call the command in this process, without any configuration. Returns the exit code and the lines it said."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        code = main.run(words)
    return code, said.getvalue().splitlines()


def test_a_second_trigger_once_failed_the_job_and_steps_aside_now(account_file: Path, tmp_path: Path) -> None:
    bundle = str(tmp_path / "failed.bundle")
    told = run("second_trigger", "--speed", "60", "--data", str(account_file), "--bundle", bundle)
    _, why = waveimport("status", bundle, "--why")
    [cause] = [line for line in why if line.startswith("why[")]
    assert cause.startswith("why[failed]: job: the job failed: UNIQUE constraint failed: wave_coordination.job_id")
    code, lines = waveimport("replay", bundle)
    assert code == 21
    assert "DIVERGENCE: job: recorded failed, recomputed nothing" in lines[2]
    assert lines[-1].startswith("1 entries, 1 decisions recomputed; stopped at the first divergence, entry 1: ")
    assert "=> the job is failed: 6,503 lines counted, 0 batches handed out, none imported" in told
    assert "=> 1 job, completed; 1 wave; 1 COUNT; 6,503 of 6,503 lines imported" in told
    asides = [line for line in told if ": exit 0, another run is at work: " in line]
    assert [line.split()[0] for line in asides] == ["watchdog", "retry"]


def test_a_lease_that_lets_a_second_holder_in_fails_the_example(
    account_file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    acquire = lease.acquire

    def lets_anybody_in(connection: Connection, job_id: str, *holder: Any, **how: Any) -> Any:
        lapse = "UPDATE import_jobs SET lease_expires_at = '2026-01-01 00:00:00' WHERE lease_owner IS NOT NULL"
        connection.execute(text(lapse))
        return acquire(connection, job_id, *holder, **how)

    monkeypatch.setattr(lease, "acquire", lets_anybody_in)
    assert example("second_trigger").main(["--speed", "60", "--data", str(account_file)]) == 1
    told = capsys.readouterr().out
    assert "NOT SO: the second trigger from elsewhere stepped aside with exit 0" in told
    assert "NOT SO: the first ended with exit 0 and was not taken over" in told
    assert "NOT SO: by the old rule" not in told


def test_35_of_45_derived_batches_once_waited_for_ever_and_all_complete_now(tmp_path: Path) -> None:
    bundle = str(tmp_path / "stalled.bundle")
    told = run("derived_batches", "--speed", "60", "--bundle", bundle)
    _, why = waveimport("status", bundle, "--why")
    [cause] = [line for line in why if line.startswith("why[decided_otherwise]")]
    rule = "wave 2: the run at work decides by another rule than this program: it hands out no batch of wave 2, though"
    assert rule in cause
    code, lines = waveimport("replay", bundle)
    assert code == 21
    assert any("DIVERGENCE: dispatch: recorded " in line for line in lines)
    assert "stopped at the first divergence, entry " in lines[-2] + lines[-1]
    [then] = [line for line in told if line.startswith("saw       10 completed, 35 pending of 45")]
    assert int(then.split()[-2]) >= 348
    assert "=> the job is processing, and would be for ever" in told
    assert "today's rule goes on with that very job: 45 completed, the job is completed" in told
    assert [line for line in told if line.startswith("saw       45 completed of 45 derived batches")]
    assert "=> the job is completed: 4,500 of 4,500 lines imported" in told


def test_the_old_rule_in_the_place_of_ours_fails_the_example(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(coordinator, "PASS_EVERY_SECONDS", coordinator.PASS_EVERY_SECONDS)  # put back afterwards
    module = example("derived_batches")
    assert module.main(["--speed", "60"], rule=module.as_it_was) == 1
    told = capsys.readouterr().out
    assert "NOT SO: all 45 derived batches ended completed" in told
    assert "NOT SO: no pass left a derived batch waiting beside a free slot" in told
    assert "NOT SO: by the old rule" not in told
