"""The tables: frozen migration, code and `schema.sql` say the same; older, newer and missing versions are told."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mysql_server
import pytest
import store_world as world
from sqlalchemy import Connection, Dialect, Table, event, inspect

from waveimport.errors import SchemaMismatch
from waveimport.store import schema
from waveimport.store.schema import HEAD, ddl, require_current, upgrade
from waveimport.store.tables import metadata
from waveimport.store.transactions import Database

TOP = Path(schema.__file__).parents[2]
MIGRATIONS = Path(schema.__file__).parent / "migrations" / "versions"


@pytest.fixture
def empty(database_url: str) -> Iterator[Database]:
    database = Database.open(database_url)
    yield database
    database.close()


@pytest.fixture
def twin(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A second database of the same kind, its tables made from the code and not by the migrations."""
    if database_url.startswith("sqlite"):
        other = Database.open(f"sqlite:///{tmp_path / 'twin.db'}")
        other.run(metadata.create_all)
        yield other
        other.close()
        return
    with mysql_server.fresh_database(request.getfixturevalue("mysql_url")) as url:
        other = Database.open(url)
        other.run(metadata.create_all)
        yield other
        other.close()


def test_schema_sql_is_what_the_code_prints() -> None:
    text = (TOP / "schema.sql").read_text(encoding="utf-8")
    parts = re.split(r"^-- ---- .* ----\n\n", text, flags=re.MULTILINE)
    assert [part.strip() for part in parts[1:]] == [ddl("mysql").strip(), ddl("sqlite").strip()]


def normal(sql: str) -> str:
    sql = re.sub(r"IF NOT EXISTS ", "", sql)
    sql = re.sub(r"AUTO_INCREMENT=\d+ ?", "", sql)
    # The order of a table's columns and indexes means nothing, nor does what SQLite leaves of an ALTER between them.
    parts = (part.strip(" \t()") for part in re.split(r"[,\n]", sql))
    return " ".join(sorted(filter(None, parts)))


def definitions(database: Database) -> dict[str, str]:
    """Every coordination table and index as the database itself tells it."""
    if database.is_sqlite:
        rows = world.query(database, "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL")
        return {name: normal(sql) for name, sql in rows if name != schema.VERSION_TABLE}
    return {name: normal(world.query(database, f"SHOW CREATE TABLE {name}")[0][1]) for name in sorted(metadata.tables)}


def test_the_migrations_make_the_very_tables_that_the_code_describes(
    empty: Database, twin: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "_create", schema._migrate)
    assert upgrade(empty) == (None, HEAD)
    made, described = definitions(empty), definitions(twin)
    assert set(metadata.tables) <= set(made)
    assert made == described
    assert sum("CHECK" in sql.upper() for sql in made.values()) >= 3
    assert empty.run(reflected) == twin.run(reflected)


def test_an_empty_database_gets_the_very_tables_that_the_code_describes(database: Database, twin: Database) -> None:
    assert definitions(database) == definitions(twin)


def test_the_version_is_kept_as_the_migrations_keep_it(
    empty: Database, twin: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def kept(database: Database) -> str:
        sql = f"SELECT sql FROM sqlite_master WHERE name = '{schema.VERSION_TABLE}'"
        sql = sql if database.is_sqlite else f"SHOW CREATE TABLE {schema.VERSION_TABLE}"
        return normal(" ".join(str(world.query(database, sql)[0][-1]).split()).replace("( ", "(").replace(" )", ")"))

    upgrade(empty)
    monkeypatch.setattr(schema, "_create", schema._migrate)
    for name in metadata.tables:
        world.execute(twin, f"DROP TABLE {name}")
    upgrade(twin)
    assert kept(empty) == kept(twin)


def reflected(connection: Connection) -> dict[str, Any]:
    inspector = inspect(connection)
    return {
        name: (
            sorted((column["name"], str(column["type"]), column["nullable"]) for column in inspector.get_columns(name)),
            inspector.get_pk_constraint(name)["constrained_columns"],
            sorted((index["name"], tuple(index["column_names"])) for index in inspector.get_indexes(name)),
            sorted(tuple(unique["column_names"]) for unique in inspector.get_unique_constraints(name)),
            sorted(check["name"] for check in inspector.get_check_constraints(name)),
            inspector.get_foreign_keys(name),
        )
        for name in metadata.tables
    }


def test_reflection_finds_the_same_columns_keys_indexes_and_checks(database: Database, twin: Database) -> None:
    made = database.run(reflected)
    assert made == twin.run(reflected)
    assert not any(keys for *_, keys in made.values()), "a foreign key's insert would lock the job row"


def test_head_is_the_newest_migration() -> None:
    versions = sorted(path.name[1:5] for path in MIGRATIONS.glob("v*.py"))
    assert versions[-1] == HEAD


def test_missing_tables_are_made_and_making_them_again_is_a_no_op(empty: Database) -> None:
    assert require_current(empty) is False
    assert upgrade(empty) == (None, HEAD)
    assert require_current(empty) is True
    world.create(empty)
    assert upgrade(empty) == (HEAD, HEAD)
    assert world.job_status(empty) == "pending"


@pytest.mark.parametrize(
    ("version", "word", "command"), [("0000", "older", "db upgrade"), ("9999", "newer", "install")]
)
def test_an_older_or_newer_schema_is_refused_with_the_way_on(
    database: Database, version: str, word: str, command: str
) -> None:
    world.execute(database, f"UPDATE {schema.VERSION_TABLE} SET version_num = '{version}'")
    with pytest.raises(SchemaMismatch, match=word) as refused:
        require_current(database)
    assert command in (refused.value.help or "")


def test_a_newer_schema_is_not_upgraded(database: Database) -> None:
    world.execute(database, f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(SchemaMismatch, match="newer"):
        upgrade(database)
    assert world.query(database, f"SELECT version_num FROM {schema.VERSION_TABLE}") == [("9999",)]


def test_four_upgrades_at_once_make_the_tables_once(empty: Database, database_url: str) -> None:
    after = world.race(database_url, 4, lambda mine, at: upgrade(mine))
    assert sorted(before is None for before, _ in after) == [False, False, False, True]
    assert world.query(empty, f"SELECT version_num FROM {schema.VERSION_TABLE}") == [(HEAD,)]
    assert definitions(empty)


def test_an_upgrade_that_was_cut_off_is_finished_by_the_next(
    empty: Database, twin: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """MySQL commits each CREATE by itself, so some tables may be there without the version."""
    if empty.is_sqlite:
        pytest.skip("SQLite undoes its DDL with the transaction")
    whole = schema._made_with_its_indexes
    for there in (2, len(metadata.tables)):
        last = list(metadata.tables)[there - 1]

        def cut_off(table: Table, dialect: Dialect, last: str = last) -> Iterator[str]:
            yield from whole(table, dialect)
            if table.name == last:
                raise RuntimeError("cut off")

        monkeypatch.setattr(schema, "_made_with_its_indexes", cut_off)
        with pytest.raises(RuntimeError):
            upgrade(empty)
        assert len(metadata.tables) - len(empty.run(schema._missing)) == there
        monkeypatch.undo()
        assert upgrade(empty) == (None, HEAD)
        assert require_current(empty)
        assert definitions(empty) == definitions(twin)
        for name in (schema.VERSION_TABLE, *metadata.tables):
            world.execute(empty, f"DROP TABLE {name}")


@pytest.mark.mysql
def test_tables_as_first_released_are_brought_on_with_what_is_in_them(empty: Database) -> None:
    """Cut off at any point, as MySQL leaves it, the upgrade is run again."""
    kind = "sqlite" if empty.is_sqlite else "mysql"
    script = (MIGRATIONS / f"v0001_coordination.{kind}.sql").read_text(encoding="utf-8")
    for statement in (part for part in script.split(";\n") if part.strip()):
        world.execute(empty, statement)
    world.execute(empty, f"CREATE TABLE {schema.VERSION_TABLE} (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
    world.execute(empty, f"INSERT INTO {schema.VERSION_TABLE} VALUES ('0001')")
    world.execute(
        empty,
        "INSERT INTO wave_batches (job_id, batch_id, wave_number, record, kind, status, spec, created_at, updated_at)"
        " VALUES ('a', '1/x/0', 1, 'x', 'range', 'pending', '{}', '2026-01-01', '2026-01-01')",
    )
    world.execute(empty, "ALTER TABLE wave_batches ADD COLUMN carried_by VARCHAR(64)")
    with pytest.raises(SchemaMismatch, match=r"of version 0001, older"):
        require_current(empty)
    assert upgrade(empty) == ("0001", HEAD)
    assert upgrade(empty) == (HEAD, HEAD)
    assert world.query(empty, "SELECT batch_id, owed, carried_by FROM wave_batches") == [("1/x/0", 0, None)]
    assert world.query(empty, "SELECT COUNT(*) FROM account_runs") == [(0,)]


def test_the_lock_of_upgrades_is_held_until_the_version_is_committed_and_given_back_whatever_happens(
    mysql_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Given back before the COMMIT, the next upgrade finds no version and inserts its own beside it; kept by a failed
    one in its pool, it blocks every other for a minute."""
    database, other = Database.open(mysql_database_url), Database.open(mysql_database_url)
    free: list[int] = []

    def commit(connection: Connection) -> None:
        free.append(int(world.query(other, "SELECT IS_FREE_LOCK('waveimport_upgrade')")[0][0]))

    event.listen(database.engine, "commit", commit)
    monkeypatch.setattr(schema, "_create", schema._migrate)
    upgrade(database)
    assert free
    assert set(free) == {0}
    assert world.query(other, "SELECT IS_FREE_LOCK('waveimport_upgrade')") == [(1,)]

    from alembic import command

    def broken(*args: object) -> None:
        raise RuntimeError("in the middle")

    monkeypatch.setattr(command, "upgrade", broken)
    world.execute(other, f"UPDATE {schema.VERSION_TABLE} SET version_num = '0001'")
    with pytest.raises(RuntimeError):
        upgrade(database)
    assert world.query(other, "SELECT IS_FREE_LOCK('waveimport_upgrade')") == [(1,)]
    monkeypatch.undo()
    world.execute(other, f"UPDATE {schema.VERSION_TABLE} SET version_num = '9999'")
    with pytest.raises(SchemaMismatch):
        upgrade(database)
    assert world.query(other, "SELECT IS_FREE_LOCK('waveimport_upgrade')") == [(1,)]
    database.close()
    other.close()


def test_ddl_is_printed_for_both_databases_without_one() -> None:
    assert "ENGINE=InnoDB" in ddl("mysql")
    assert "ENGINE" not in ddl("sqlite")
    for name in metadata.tables:
        assert f"CREATE TABLE {name}" in ddl("mysql")
        assert f"CREATE TABLE {name}" in ddl("sqlite")
