"""Shared fixtures: both databases, hypothesis profiles, the simulated account."""

import os
import signal
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mysql_server
import pytest
from hypothesis import HealthCheck, Phase, settings

from waveimport.store.schema import upgrade
from waveimport.store.transactions import Database

# A shell starts background jobs with SIGINT ignored, and what we start would inherit that: its tests would hang.
signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("ci", max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("deep", max_examples=3000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
# For a run that is meant to fail: the same examples each time, and no search for the smallest that fails.
settings.register_profile(
    "mutant", settings.get_profile("ci"), derandomize=True, database=None, phases=[Phase.explicit, Phase.generate]
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


PARTS = (
    ("model check", "test_core_model_check"),
    ("stateful", "/stateful/"),
    ("crash points", "/crash/"),
    ("mutants", "/mutants/"),
    ("end to end", "/e2e/"),
    ("incidents", "/examples/"),
    ("all others", ""),
)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Where the time goes: the seconds of each part of the suite, added up over its processes. CI asks for it."""
    if not os.environ.get("WAVEIMPORT_TEST_PARTS"):
        return
    seconds, tests = Counter[str](), Counter[str]()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                part = next(name for name, mark in PARTS if mark in f"/{report.nodeid}")
                seconds[part] += report.duration
                tests[part] += report.when == "call"
    terminalreporter.section("parts")
    for name, _ in PARTS:
        terminalreporter.write_line(f"{name:<12} {tests[name]:5} tests {seconds[name]:6.0f} s")


@pytest.fixture(scope="session")
def mysql_url() -> Iterator[str]:
    """The URL of a MySQL server, ending in `/`. Skips without one, or fails if WAVEIMPORT_REQUIRE_MYSQL is set."""
    try:
        context = mysql_server.server_url()
        url = context.__enter__()
    except mysql_server.NoServer as error:
        if os.environ.get("WAVEIMPORT_REQUIRE_MYSQL"):
            pytest.fail(f"WAVEIMPORT_REQUIRE_MYSQL is set, but {error}")
        pytest.skip(str(error))
    yield url
    context.__exit__(None, None, None)


@pytest.fixture(params=["sqlite", pytest.param("mysql", marks=pytest.mark.mysql)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database, on each of the two backends in turn."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'test.db'}"
        return
    with mysql_server.fresh_database(request.getfixturevalue("mysql_url")) as url:
        yield url


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """An open database with the coordination tables, on each of the two backends in turn."""
    database = Database.open(database_url)
    upgrade(database)
    yield database
    database.close()
