"""One account for all tests of whole runs; each test serves it with faults of its own."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mysql_server
import pytest
from matrix_world import Account, Matrix, in_process
from project import DEEP

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


@pytest.fixture
def small_account() -> Iterator[Account]:
    """Thirty orders and their lines, over HTTP; faults strike it as a test says."""
    served = Account()
    yield served
    served.close()


@pytest.fixture
def make_matrix(
    tmp_path: Path, small_account: Account, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Matrix]]:
    """Make configured folders that import the small account into a database, by commands called in this process."""
    for name in [*os.environ]:
        ours = name.startswith("WAVEIMPORT_") and "MYSQL" not in name
        if ours or name.lower() in ("http_proxy", "https_proxy", "all_proxy", "requests_ca_bundle", "curl_ca_bundle"):
            monkeypatch.delenv(name)

    def make(url: str, **how: Any) -> Matrix:
        return Matrix(tmp_path, url, small_account, capsys, **how)

    with in_process(monkeypatch):
        yield make


@pytest.fixture(params=["sqlite", *([pytest.param("mysql", marks=pytest.mark.mysql)] if DEEP else [])])
def matrix(request: pytest.FixtureRequest, make_matrix: Callable[..., Matrix], tmp_path: Path) -> Iterator[Matrix]:
    """A configured folder with an empty SQLite database; in the deep profile with one of MySQL too. For faults that
    have nothing to do with the database."""
    if request.param == "sqlite":
        yield make_matrix(f"sqlite:///{tmp_path / 'test.db'}")
        return
    with mysql_server.fresh_database(request.getfixturevalue("mysql_url")) as url:
        yield make_matrix(url)


@pytest.fixture
def matrix_of_both(make_matrix: Callable[..., Matrix], database_url: str) -> Matrix:
    """A configured folder with an empty database, on each of the two backends in turn."""
    return make_matrix(database_url)
