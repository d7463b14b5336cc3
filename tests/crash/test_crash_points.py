"""A run that is killed at any of its boundaries is gone on with by the next, on both databases; see `crash_run`."""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import mysql_server
import pytest
from project import DEEP

PROGRAM = Path(__file__).with_name("crash_run.py")
PAIRS = 300 if DEEP else 0


def searched(url: str, *options: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(dir=mysql_server.in_memory()) as folder:
        done = subprocess.run(
            [sys.executable, str(PROGRAM), url, folder, *options], capture_output=True, text=True, timeout=1500
        )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(found)
    return found


def test_on_sqlite_a_run_may_be_killed_at_any_boundary() -> None:
    found = searched("sqlite", "--pairs", str(PAIRS))
    assert found["faults"] == []
    assert found["boundaries"] > 150
    # Threads may take a step more in one run than in another, which then ends before its blow.
    assert found["kills"] >= found["boundaries"] - 2


@pytest.mark.mysql
def test_on_mysql_a_run_may_be_killed_at_any_boundary(mysql_url: str) -> None:
    """At every third one in CI, whose minutes are few; SQLite, by the same code, at every one."""
    step = 1 if DEEP else 3
    with mysql_server.fresh_database(mysql_url) as url:
        found = searched(url, "--pairs", str(PAIRS), "--step", str(step))
    assert found["faults"] == []
    assert found["boundaries"] > 150
    assert found["kills"] >= found["boundaries"] // step - 2


@pytest.mark.skipif(not DEEP, reason="the making of tables has some hundred boundaries more: deep profile only")
def test_a_first_run_may_be_killed_while_it_makes_its_tables() -> None:
    found = searched("sqlite", "--bare")
    assert found["faults"] == []
    assert found["kills"] >= found["boundaries"] > 200
