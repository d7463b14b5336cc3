"""One account for all tests of whole runs; each test serves it with faults of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from waveimport.simulator.dataset import build
from waveimport.simulator.handle import Simulator

SCALE = 0.002


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An account of 3,000 orders and their lines."""
    path = tmp_path_factory.mktemp("account") / "account.sqlite"
    build(path, SCALE)
    return path


@pytest.fixture
def simulator(account: Path) -> Iterator[Simulator]:
    """The account, served by threads of this process."""
    with Simulator(data=account, scale=SCALE) as running:
        yield running
