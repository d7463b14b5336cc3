"""Fixtures of the tests of commands: a small simulated account, and a configured folder on either database."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_world import World

from waveimport.simulator.dataset import build
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator


@pytest.fixture(scope="session")
def small_account_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data of an account at scale 0.001: 1,500 orders, 6,005 lines."""
    path = tmp_path_factory.mktemp("cli-account") / "small.sqlite"
    build(path, 0.001)
    return path


@pytest.fixture(scope="session")
def served_account(small_account_file: Path) -> Iterator[Simulator]:
    """The small account, served for the session."""
    with Simulator(data=small_account_file, scale=0.001) as simulator:
        yield simulator


@pytest.fixture
def account(served_account: Simulator) -> Iterator[Simulator]:
    """The small account, without the faults that an earlier test put into force."""
    served_account.set_faults(Faults())
    yield served_account
    served_account.set_faults(Faults())


@pytest.fixture
def quiet_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of the machine decides a test, and logging is left as it was."""
    for option in ("CONFIG", "VERBOSE", "QUIET", "LOG_FORMAT", "JSON", "FAILED", "WATCH", "LIMIT", "DIALECT", "SCALE"):
        monkeypatch.delenv(f"WAVEIMPORT_{option}", raising=False)
    root, ours = logging.getLogger(), logging.getLogger("waveimport")
    before = (list(root.handlers), root.level, ours.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.fixture
def world(tmp_path: Path, database_url: str, capsys: pytest.CaptureFixture[str], quiet_environment: None) -> World:
    """A configured folder with an empty database, on each of the two backends in turn."""
    return World(tmp_path, database_url, capsys)


@pytest.fixture
def sqlite_world(tmp_path: Path, capsys: pytest.CaptureFixture[str], quiet_environment: None) -> World:
    """A configured folder with an empty SQLite database."""
    return World(tmp_path, f"sqlite:///{tmp_path / 'test.db'}", capsys)
