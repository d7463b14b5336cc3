"""The probes of `check`: each holds on the connections of a run, and fails on ones that are set wrongly."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mysql_server
import pymysql
import pytest
import store_world as world
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError

from waveimport.errors import DatabaseDown, DatabaseError
from waveimport.store import interleavings
from waveimport.store.engine import open_engine
from waveimport.store.interleavings import (
    PROBES,
    WAIT_SECONDS,
    Interleaving,
    Probe,
    Stage,
    claims_apart,
    commit_is_whole,
    fresh_count,
    no_lost_update,
    one_winner,
    play,
    prepared,
    try_interleavings,
)
from waveimport.store.transactions import Database

PREFIX = "_waveimport_check_0123456789ab"


@pytest.fixture
def plain(database_url: str) -> Iterator[Database]:
    """An open database without any table, on each of the two backends in turn."""
    database = Database.open(database_url)
    yield database
    database.close()


@pytest.fixture
def sqlite_file(tmp_path: Path) -> str:
    """The URL of an empty SQLite database, in WAL as those of runs are."""
    url = f"sqlite:///{tmp_path / 'own.db'}"
    engine = open_engine(url)
    engine.connect().close()
    engine.dispose()
    return url


def tables(database: Database) -> list[Any]:
    return world.query(database, "SELECT name FROM sqlite_master" if database.is_sqlite else "SHOW TABLES")


def tried(engine: Engine, probe: Probe) -> Interleaving:
    try:
        with prepared(engine, PREFIX) as stage:
            return play(probe, engine, stage)
    finally:
        engine.dispose()


def deferred(url: str) -> Engine:
    """SQLite with a plain BEGIN, which takes no lock before the first write."""
    engine = create_engine(url, connect_args={"timeout": 1, "isolation_level": None})
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    return engine


def drivers_own(url: str) -> Engine:
    """SQLite with the transactions of Python's driver, which begin with the first write."""
    return create_engine(url, connect_args={"timeout": 1})


def autocommit(url: str) -> Engine:
    """Each statement commits by itself, as behind a proxy that shares connections between statements."""
    return create_engine(url, isolation_level="AUTOCOMMIT")


def repeatable_read(url: str) -> Engine:
    """MySQL as it comes."""
    return create_engine(url, isolation_level="REPEATABLE READ")


def test_every_promise_holds_on_the_connections_of_a_run_and_nothing_is_left(plain: Database) -> None:
    found = try_interleavings(plain, PREFIX)
    assert [one.name for one in found] == [probe.__name__ for probe in PROBES]
    assert all(one.held for one in found), found
    assert tables(plain) == []


def test_what_was_seen_is_told(plain: Database) -> None:
    seen = {one.name: one.seen for one in try_interleavings(plain, PREFIX)}
    count, beside = (4, "nothing") if plain.is_sqlite else (5, "[3, 4]")
    assert seen == {
        "fresh_count": f"{count} unfinished batches were counted where {count} were committed",
        "no_lost_update": "of 2 updates of one row 2 are there",
        "claims_apart": f"one claimed [1, 2], a second beside it {beside}, and [1, 2, 3, 4] when the first was gone",
        "commit_is_whole": "one that died before its COMMIT left the fence as it was and 0 of 1 row;"
        " one that died after its COMMIT left the fence moved and 1 of 1 row",
        "one_winner": "of two guarded updates 1 found the row as they had seen it",
    }


@pytest.mark.parametrize(
    ("wrong", "probe", "seen"),
    [
        (deferred, fresh_count, "4 unfinished batches were counted where 5 were committed"),
        (drivers_own, no_lost_update, "of 2 updates of one row 1 are there"),
        (drivers_own, claims_apart, "a second beside it [1, 2, 3, 4]"),
        (autocommit, commit_is_whole, "died before its COMMIT left the fence moved and 1 of 1 row"),
    ],
)
def test_a_sqlite_connection_that_is_set_wrongly_is_found(
    sqlite_file: str, wrong: Callable[[str], Engine], probe: Probe, seen: str
) -> None:
    found = tried(wrong(sqlite_file), probe)
    assert not found.held
    assert seen in found.seen
    assert tried(open_engine(sqlite_file), probe).held


@pytest.mark.mysql
@pytest.mark.parametrize(
    ("wrong", "probe", "seen"),
    [
        (repeatable_read, fresh_count, "4 unfinished batches were counted where 5 were committed"),
        (autocommit, no_lost_update, "of 2 updates of one row 1 are there"),
        (autocommit, claims_apart, "and [3, 4] when the first was gone"),
        (autocommit, commit_is_whole, "died before its COMMIT left the fence moved and 1 of 1 row"),
    ],
)
def test_a_mysql_connection_that_is_set_wrongly_is_found(
    mysql_database_url: str, wrong: Callable[[str], Engine], probe: Probe, seen: str
) -> None:
    found = tried(wrong(mysql_database_url), probe)
    assert not found.held
    assert seen in found.seen
    assert tried(open_engine(mysql_database_url), probe).held


def test_an_update_that_writes_back_what_it_tests_is_won_by_both(database_url: str) -> None:
    engine = open_engine(database_url)

    def same_value(engine: Engine, stage: Stage) -> tuple[bool, str]:
        return one_winner(engine, stage, change=stage.batch.c.attempt)

    found = tried(engine, same_value)
    assert not found.held
    assert found.seen == "of two guarded updates 2 found the row as they had seen it"
    assert tried(engine, one_winner).held


@pytest.mark.mysql
@pytest.mark.parametrize("wrong", [open_engine, autocommit])
def test_where_no_connection_can_be_killed_it_is_hung_up(
    mysql_database_url: str, wrong: Callable[[str], Engine]
) -> None:
    engine = wrong(mysql_database_url)
    refused: list[str] = []

    def refuse(
        connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> tuple[str, Any]:
        if not statement.startswith("KILL"):
            return statement, parameters
        refused.append(statement)
        return "KILL 0", parameters

    event.listen(engine, "before_cursor_execute", refuse, retval=True)
    assert tried(engine, commit_is_whole).held is (wrong is open_engine)
    assert len(refused) == 2


@pytest.mark.mysql
def test_a_server_that_cannot_skip_locked_rows_is_found(mysql_database_url: str) -> None:
    """MariaDB before 10.6 and MySQL before 8 refuse the words."""
    engine = open_engine(mysql_database_url)

    def old(
        connection: Connection, cursor: Any, statement: str, parameters: Any, context: Any, many: bool
    ) -> tuple[str, Any]:
        return statement.replace("SKIP LOCKED", "SKIP WHAT"), parameters

    event.listen(engine, "before_cursor_execute", old, retval=True)
    found = tried(engine, claims_apart)
    assert not found.held
    assert found.seen.startswith("a statement was refused (1064: ")


def test_the_tables_are_dropped_when_a_probe_breaks(plain: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(engine: Engine, stage: Stage) -> tuple[bool, str]:
        with engine.begin() as connection:
            connection.execute(stage.job.update().values(n=7))
            raise KeyError("mine")

    monkeypatch.setattr(interleavings, "PROBES", (broken,))
    with pytest.raises(KeyError, match="mine"):
        try_interleavings(plain, PREFIX)
    assert tables(plain) == []


def test_tables_that_cannot_all_be_made_are_dropped_and_the_refusal_is_told(plain: Database) -> None:
    world.execute(plain, f"CREATE TABLE {PREFIX}_row (id INTEGER)")
    with pytest.raises(DatabaseError, match="refused a statement"):
        try_interleavings(plain, PREFIX)
    assert PREFIX + "_job" not in [name for (name,) in tables(plain)]
    assert PREFIX + "_batch" not in [name for (name,) in tables(plain)]


def test_a_server_that_is_lost_is_no_broken_promise(plain: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(engine: Engine, stage: Stage) -> tuple[bool, str]:
        raise OperationalError("x", None, pymysql.err.OperationalError(2013, "lost"))

    monkeypatch.setattr(interleavings, "PROBES", (lost,))
    with pytest.raises(DatabaseDown):
        try_interleavings(plain, PREFIX)


@pytest.mark.mysql
def test_no_wait_of_a_probe_is_long(mysql_database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []
    settings = "SELECT @@innodb_lock_wait_timeout, @@lock_wait_timeout"

    def ask(engine: Engine, stage: Stage) -> tuple[bool, str]:
        with engine.begin() as connection:
            asked.append(tuple(connection.execute(text(settings)).one()))
        return True, ""

    monkeypatch.setattr(interleavings, "PROBES", (ask,))
    database = Database.open(mysql_database_url)
    try_interleavings(database, PREFIX)
    assert asked == [(WAIT_SECONDS, WAIT_SECONDS)]
    database.close()


@pytest.mark.mysql
def test_the_privileges_that_are_documented_are_enough(mysql_url: str) -> None:
    """KILL is allowed to a user for its own connections."""
    grants = Path(__file__).parents[2].joinpath("examples", "mysql-grants.sql").read_text(encoding="utf-8")
    [grant] = [line for line in grants.splitlines() if line.startswith("GRANT")]
    with mysql_server.fresh_database(mysql_url) as url:
        name = url.rpartition("/")[2]
        user = f"importer_{name[-8:]}"
        # An anonymous user of localhost, as fresh servers have, goes before one of any host.
        users = f"{user}@'localhost'", f"{user}@'%'"
        with mysql_server.connect(mysql_url) as connection, connection.cursor() as cursor:
            for one in users:
                cursor.execute(f"CREATE USER {one} IDENTIFIED BY 'word'")
                cursor.execute(grant.replace("netsuite.*", f"{name}.*").replace("'waveimport'@'%'", one))
            try:
                owner = url.partition("//")[2].partition("@")[0]
                database = Database.open(url.replace(owner, f"{user}:word", 1))
                found = try_interleavings(database, PREFIX)
                assert tables(database) == []
                database.close()
            finally:
                cursor.execute(f"DROP USER {', '.join(users)}")
    assert all(one.held for one in found), found
