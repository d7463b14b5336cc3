"""`waveimport db`: the tables are made once, and their DDL is that of the project."""

from pathlib import Path

import pytest
from cli_world import World
from sqlalchemy import text

from waveimport.cli.main import run
from waveimport.errors import ExitCode
from waveimport.runtime.single_flight import FileGuard, lock_path
from waveimport.store.schema import HEAD, ddl


def test_upgrade_creates_the_tables_and_says_so_once(world: World) -> None:
    said = world.call("db", "upgrade")
    assert said.code == ExitCode.OK
    assert said.out.startswith(f"created the tables, version {HEAD}, in ")
    again = world.call("db", "upgrade")
    assert again.code == ExitCode.OK
    assert again.out.startswith(f"the tables are of version {HEAD} already, in ")
    assert world.call("status").out.startswith("no job yet")


def test_upgrade_makes_the_folder_of_the_file(sqlite_world: World) -> None:
    sqlite_world.configure(url="sqlite:///deep/er/test.db", run="")
    text_of = sqlite_world.config.read_text().replace(f'lock_dir = "{sqlite_world.folder / "locks"}"\n', "")
    sqlite_world.config.write_text(text_of)
    assert sqlite_world.call("db", "upgrade").code == ExitCode.OK
    assert (sqlite_world.folder / "deep/er/test.db").exists()


def test_a_run_at_work_keeps_an_upgrade_away(world: World) -> None:
    settings = world.settings()
    database = world.database()
    file = world.folder / "test.db" if database.is_sqlite else None
    guard = FileGuard(lock_path(settings, database.name, file))
    assert guard.acquire()
    said = world.call("db", "upgrade")
    guard.release()
    assert said.code == ExitCode.USAGE
    assert "a run is at work on this database" in said.err
    assert not database.run(lambda c: c.dialect.has_table(c, "import_jobs"))
    database.close()


def test_newer_tables_are_left_alone(world: World) -> None:
    world.call("db", "upgrade")
    database = world.database()
    database.run(lambda c: c.execute(text("UPDATE waveimport_version SET version_num = '9999'")))
    said = world.call("db", "upgrade")
    assert said.code == ExitCode.USAGE
    assert "newer than this program's" in said.err
    assert database.run(lambda c: c.execute(text("SELECT version_num FROM waveimport_version")).scalar()) == "9999"
    database.close()


@pytest.mark.parametrize("dialect", ["mysql", "sqlite"])
def test_schema_needs_no_configuration_when_the_dialect_is_named(
    dialect: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WAVEIMPORT_CONFIG", raising=False)
    assert run(["db", "schema", "--dialect", dialect]) == ExitCode.OK
    assert capsys.readouterr().out == ddl(dialect)


def test_schema_is_that_of_the_configured_database(world: World) -> None:
    said = world.call("db", "schema")
    assert said.code == ExitCode.OK
    assert said.out == ddl("sqlite" if world.url.startswith("sqlite") else "mysql")
    assert ("ENGINE=InnoDB" in said.out) != world.url.startswith("sqlite")


def test_schema_without_dialect_and_configuration_is_a_usage_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("WAVEIMPORT_CONFIG", raising=False)
    assert run(["db", "schema"]) == ExitCode.USAGE
    assert "error[WI-CFG-002]" in capsys.readouterr().err
