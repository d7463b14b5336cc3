"""No acknowledged commit is lost by a power cut, and SQLite without its syncs loses some; see `power_cuts`."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from project import DEEP

PROGRAM = Path(__file__).with_name("power_cuts.py")

pytestmark = pytest.mark.skipif(shutil.which("cc") is None, reason="the recorder is compiled by cc, which is missing")


def cut(folder: Path, cuts: int, synchronous: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, str(PROGRAM), "--cuts", str(cuts), "--synchronous", synchronous, "--folder", str(folder)],
        capture_output=True,
        text=True,
        timeout=1500,
    )
    assert done.stdout, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    print(found)
    return found


def test_a_power_cut_after_any_write_loses_no_acknowledged_commit(tmp_path: Path) -> None:
    found = cut(tmp_path, 20_000 if DEEP else 600, "FULL")
    assert (found["lost"], found["broken"], found["examples"]) == (0, 0, [])
    assert found["cuts"] > found["writes"] > 300
    assert found["commits"] > 20
    assert found["finished"] > 0


@pytest.mark.parametrize("synchronous", ["OFF", "NORMAL"])
def test_with_fewer_syncs_acknowledged_commits_are_lost(tmp_path: Path, synchronous: str) -> None:
    """The control: what is looked for can be seen."""
    assert cut(tmp_path, 2_000 if DEEP else 100, synchronous)["lost"] > 10
