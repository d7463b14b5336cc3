"""An account whose clocks are set forward and back, and that writes its dates in a way of its own."""

import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import SCALE
from project import SMALL, Project, simulated

from waveimport.errors import ExitCode
from waveimport.runtime.config import load_settings
from waveimport.runtime.importer import run_import
from waveimport.runtime.options import RunOptions
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator, records_toml

BACK = "2025-11-02 09:00:00"
"""When clocks went from 02:00 back to 01:00 in Los Angeles, in UTC."""
FORWARD = "2026-03-08 10:00:00"
"""When they went from 02:00 to 03:00."""
EVENING = "2025-11-02 02:00:00"
"""A day in UTC, the evening of the day before in Los Angeles."""
RECORDS = (("customer", "comments", FORWARD), ("salesorder", "memo", BACK), ("item", "description", EVENING))
"""Records, a text of each, and the moment around which the rows of each have changed."""
TABLES = {"salesorder": "transaction"}


@pytest.fixture
def los_angeles(account: Path, tmp_path: Path) -> Iterator[Simulator]:
    """An account whose rows have changed, minute by minute, half a day before and after the moment of their record."""
    own = tmp_path / "los_angeles.sqlite"
    shutil.copy(account, own)
    minutes = "datetime(?, '-12 hours', (id * 7 % 1440) || ' minutes')"
    with contextlib.closing(sqlite3.connect(own)) as source, source:
        for name, _, moment in RECORDS:
            source.execute(f'UPDATE "{TABLES.get(name, name)}" SET lastmodifieddate = {minutes}', (moment,))
    faults = Faults(time_zone="America/Los_Angeles", date_format="DD.MM.YYYY")
    with Simulator(data=own, scale=SCALE, faults=faults, live=True) as running:
        yield running


def run(project: Project) -> None:
    result = run_import(load_settings(project.config, {}, secrets=True), RunOptions())
    assert result.exit_code is ExitCode.OK, result


def test_an_import_across_changes_of_the_accounts_clocks_equals_the_source(
    tmp_path: Path, los_angeles: Simulator
) -> None:
    """In full; and of the daily run, that it reads what changed since the watermark to the very second, no row of the
    hour that the clocks showed twice too many or too few."""
    records = records_toml()
    for name, _, _ in RECORDS:
        records = records.replace(f"[records.{name}]\n", f'[records.{name}]\ncursor = "lastmodifieddate"\n')
    url = f"sqlite:///{tmp_path / 'test.db'}"  # whichever: it is the queries that could be wrong
    project = simulated(tmp_path, url, los_angeles, run=f"{SMALL}\nlookback_seconds = 1", records=records)
    run(project)
    project.assert_equals_source(los_angeles.data)

    for name, text, moment in RECORDS:
        with contextlib.closing(sqlite3.connect(los_angeles.data)) as source, source:
            source.execute(f"UPDATE \"{TABLES.get(name, name)}\" SET {text} = 'later'")
        mark = f"{moment[:-1]}1"  # less the look-back, the moment itself
        project.execute(f"UPDATE import_watermarks SET watermark = '{mark}' WHERE record = '{name}'")
    run(project)
    for name, text, moment in RECORDS:
        since = project.query(f"SELECT id FROM {name} WHERE lastmodifieddate >= '{moment}' ORDER BY id")
        assert project.query(f"SELECT id FROM {name} WHERE {text} = 'later' ORDER BY id") == since, name
        assert 0 < len(since) < project.query(f"SELECT COUNT(*) FROM {name}")[0][0]
