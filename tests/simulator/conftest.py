"""One account for all tests of the simulator: building is deterministic, so a session needs each scale once."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from simulator_client import Ask, asking

from waveimport.simulator.dataset import build
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator


@pytest.fixture(scope="session")
def small_account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The account at scale 0.001: 1,500 orders, 6,005 lines."""
    path = tmp_path_factory.mktemp("account") / "small.sqlite"
    build(path, 0.001)
    return path


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The account at scale 0.01: 15,000 orders, 60,175 lines."""
    path = tmp_path_factory.mktemp("account") / "account.sqlite"
    build(path, 0.01)
    return path


@pytest.fixture
def simulator(small_account: Path) -> Iterator[Simulator]:
    """The small account, served."""
    with Simulator(data=small_account, scale=0.001) as running:
        yield running


@pytest.fixture
def ask(simulator: Simulator) -> Iterator[Ask]:
    """Ask the small account as a client does: `ask(query, limit=…, offset=…, **of requests.post)`."""
    with requests.Session() as session:
        yield asking(simulator, session)


@pytest.fixture
def with_faults(simulator: Simulator) -> Callable[..., None]:
    """Put a plan of faults into force."""
    return lambda **plan: simulator.set_faults(Faults(**plan))
