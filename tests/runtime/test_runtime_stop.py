"""A run that is told to stop before it has begun its loop: it ends as stopped, and leaves nothing held."""

import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runtime_world import LINE, ORDER, World
from sqlalchemy import text

from waveimport.core.settings import DatabaseSettings, NetSuiteSettings, RunSettings, Settings
from waveimport.errors import DatabaseBusy, DatabaseDown, ExitCode
from waveimport.runtime import importer, single_flight
from waveimport.runtime.coordinator import Outcome, Stop
from waveimport.runtime.importer import run_import
from waveimport.runtime.opening import open_database
from waveimport.runtime.options import RunOptions, RunResult
from waveimport.runtime.single_flight import WriteLock
from waveimport.runtime.stop import StopSwitch
from waveimport.store import lease
from waveimport.store.engine import sqlite_path
from waveimport.store.schema import upgrade

STOPS = [
    (Stop.INTERRUPTED, ExitCode.INTERRUPTED),
    (Stop.TERMINATED, ExitCode.TERMINATED),
    (Stop.MAX_RUNTIME, ExitCode.PAUSED),
]


def settings_of(url: str, tmp_path: Path) -> Settings:
    return Settings(
        profile="p",
        database=DatabaseSettings(url),
        netsuite=NetSuiteSettings("1_SB1", "http://127.0.0.1:9", consumer_key="k"),
        run=RunSettings(lock_dir=str(tmp_path / "locks")),
        records=(ORDER, LINE),
    )


@pytest.fixture
def sqlite_settings(tmp_path: Path) -> Settings:
    return settings_of(f"sqlite:///{tmp_path / 'x.db'}", tmp_path)


def start(settings: Settings, switch: StopSwitch) -> RunResult:
    return run_import(settings, RunOptions(), switch=switch)


def query(settings: Settings, sql: str) -> list[tuple[Any, ...]]:
    database = open_database(settings)
    try:
        return database.run(lambda connection: [tuple(row) for row in connection.execute(text(sql))])
    finally:
        database.close()


@pytest.mark.parametrize(("why", "code"), STOPS)
def test_a_run_that_waits_for_the_write_lock_ends_as_it_was_told_to(
    sqlite_settings: Settings, tmp_path: Path, why: Stop, code: ExitCode
) -> None:
    switch = StopSwitch()
    with WriteLock(tmp_path / "x.db"):
        switch(why)
        began = time.monotonic()
        result = start(sqlite_settings, switch)
        assert time.monotonic() - began < single_flight.WRITE_WAIT_SECONDS / 2
    assert (result.exit_code, result.error) == (code, None)
    assert "the next run goes on" in (result.message or "")


def test_a_write_lock_that_nobody_gives_back_is_still_an_error(
    sqlite_settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(single_flight, "WRITE_WAIT_SECONDS", 0.1)
    with WriteLock(tmp_path / "x.db"), pytest.raises(DatabaseBusy):
        start(sqlite_settings, StopSwitch())


def test_a_stop_while_the_loop_waits_for_the_write_lock_is_told_as_a_stop(
    sqlite_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch = StopSwitch()

    def coordinate(self: Any, *_: object) -> tuple[Outcome, None]:
        switch(Stop.TERMINATED)
        return Outcome(stop=Stop.TERMINATED, error=DatabaseBusy("held until told to stop")), None

    monkeypatch.setattr(importer._Run, "_coordinate", coordinate)
    result = start(sqlite_settings, switch)
    assert (result.exit_code, result.error) == (ExitCode.TERMINATED, None)
    assert result.job_id is not None


@pytest.mark.parametrize(("why", "code"), STOPS)
def test_a_stop_before_the_lease_makes_no_job(database_url: str, tmp_path: Path, why: Stop, code: ExitCode) -> None:
    settings = settings_of(database_url, tmp_path)
    switch = StopSwitch()
    switch(why)
    assert start(settings, switch).exit_code is code
    assert query(settings, "SELECT job_id FROM import_jobs") == []


@pytest.mark.parametrize(("why", "code"), STOPS)
def test_a_stop_beside_the_lease_gives_it_back_and_begins_nothing(
    database_url: str, tmp_path: Path, why: Stop, code: ExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of(database_url, tmp_path)
    switch = StopSwitch()
    acquire = lease.acquire

    def taken(*things: Any, **how: Any) -> Any:
        switch(why)
        return acquire(*things, **how)

    def never(*_: object) -> None:
        raise AssertionError("it began")

    monkeypatch.setattr(lease, "acquire", taken)
    monkeypatch.setattr(importer._Run, "_under_lease", never)
    result = start(settings, switch)
    assert result.exit_code is code
    assert query(settings, "SELECT job_id, status, lease_owner, lease_token FROM import_jobs") == [
        (result.job_id, "pending", None, 1)
    ]


@pytest.mark.parametrize("how", ["deleted", "replaced"])
def test_a_run_whose_database_file_was_deleted_or_replaced_ends_at_its_next_renewal(tmp_path: Path, how: str) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    file = sqlite_path(url)
    assert file is not None
    database = open_database(settings_of(url, tmp_path))
    upgrade(database)
    world = World(database)
    world.source.fill(range(1, 31))
    lost = threading.Event()

    def lose() -> None:
        if not lost.is_set():
            lost.set()
            if how == "replaced":
                (tmp_path / "other").touch()
                (tmp_path / "other").replace(file)
            else:
                file.unlink()

    coordinator = world.coordinator(on_turn=lose, slots=lambda: 1)
    # Each turn renews.
    coordinator._settings = replace(world.settings, lease_seconds=0)
    try:
        with pytest.raises(DatabaseDown, match="deleted or replaced") as down:
            coordinator.run()
        assert down.value.where == str(file)
        assert down.value.help
        assert down.value.exit_code == ExitCode.UNREACHABLE
    finally:
        world.close()
        database.close()
    assert lost.is_set()
