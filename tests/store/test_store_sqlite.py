"""SQLite's traps, each shown beside its cure."""

import contextlib
import sqlite3
import threading
import time
from pathlib import Path

import pytest
import store_world as world
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import OperationalError

from waveimport.errors import DatabaseError, DiskFull
from waveimport.store.engine import open_engine, open_reader, parse_url, public_name, sqlite_path
from waveimport.store.sqlite_driver import moment
from waveimport.store.transactions import Database


@pytest.fixture
def url(tmp_path: Path) -> str:
    engine = open_engine(f"sqlite:///{tmp_path / 'own.db'}")
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE counter (n INTEGER)")
        connection.exec_driver_sql("INSERT INTO counter VALUES (0)")
    engine.dispose()
    return f"sqlite:///{tmp_path / 'own.db'}"


def test_the_moment_of_a_commit_is_asked_for_once_and_anew_for_the_next(url: str) -> None:
    database = Database.open(url)
    seen = []

    def twice(connection: Connection) -> None:
        first = moment(connection)
        time.sleep(0.002)  # the clock goes on, by the millisecond
        seen.append((first, moment(connection)))

    database.run(twice)
    database.run(twice)
    (one, again), (other, other_again) = seen
    assert (one, other) == (again, other_again)
    assert one < other
    database.close()


def lost_updates(engine: Engine) -> tuple[int, int]:
    """Two read, then each writes what it read plus one: return how many updates are missing, and how many failed."""
    both_read = threading.Barrier(2)
    failed: list[BaseException] = []

    def one() -> None:
        try:
            with engine.begin() as connection:
                n = connection.exec_driver_sql("SELECT n FROM counter").scalar_one()
                # Where a transaction begins by taking the write lock the other cannot have read by now.
                with contextlib.suppress(threading.BrokenBarrierError):
                    both_read.wait(0.3)
                connection.exec_driver_sql(f"UPDATE counter SET n = {n + 1}")
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with engine.connect() as connection:
        n = connection.exec_driver_sql("SELECT n FROM counter").scalar_one()
    engine.dispose()
    return 2 - len(failed) - int(n), len(failed)


def test_the_drivers_own_transactions_lose_an_update_and_ours_do_not(url: str) -> None:
    """By default the driver begins no transaction before a SELECT, and `with_for_update` compiles to nothing."""
    assert lost_updates(create_engine(url, connect_args={"timeout": 10})) == (1, 0)
    engine = open_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE counter SET n = 0")
    assert lost_updates(engine) == (0, 0), "none lost, and none refused for its stale reading"


def test_an_immediate_isolation_level_alone_loses_an_update_too(url: str) -> None:
    assert lost_updates(create_engine(url, connect_args={"timeout": 10, "isolation_level": "IMMEDIATE"})) == (1, 0)


def test_a_deferred_begin_fails_with_a_snapshot_that_no_timeout_cures(url: str) -> None:
    path = url.removeprefix("sqlite:///")
    first, second = (sqlite3.connect(path, isolation_level=None, timeout=60) for _ in range(2))
    first.execute("BEGIN")
    first.execute("SELECT n FROM counter").fetchone()
    second.execute("UPDATE counter SET n = n + 1")
    with pytest.raises(sqlite3.OperationalError) as busy:
        first.execute("UPDATE counter SET n = n + 1")
    assert busy.value.sqlite_errorname == "SQLITE_BUSY_SNAPSHOT"
    first.close()
    second.close()


def test_ours_is_durable_in_wal_and_private(url: str, tmp_path: Path) -> None:
    with open_engine(url).connect() as connection:
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("journal_mode", "synchronous")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}
    assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}


def test_a_transaction_that_sqlite_ended_by_itself_takes_no_further_statement(url: str) -> None:
    """After FULL, IOERR or INTERRUPT the transaction is gone, and the next INSERT would commit by itself."""
    database = Database.open(url)

    def work(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO counter VALUES (1)")
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("ROLLBACK")  # what SQLite does on those errors
        connection.exec_driver_sql("INSERT INTO counter VALUES (2)")

    with pytest.raises(DatabaseError, match="ended the transaction by itself"):
        database.run(work)
    assert world.query(database, "SELECT n FROM counter") == [(0,)]

    # The same without the guard: half of the work is committed, though the whole of it failed.
    bare = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    bare.execute("BEGIN IMMEDIATE")
    bare.execute("INSERT INTO counter VALUES (1)")
    bare.execute("ROLLBACK")
    bare.execute("INSERT INTO counter VALUES (2)")
    bare.close()
    assert world.query(database, "SELECT n FROM counter ORDER BY n") == [(0,), (2,)]
    database.close()


def test_a_savepoint_does_not_begin_a_transaction_where_sqlite_ended_the_last(url: str) -> None:
    """SQLite takes a SAVEPOINT outside a transaction for the beginning of one, which RELEASE commits."""
    database = Database.open(url)

    def work(connection: Connection) -> None:
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("ROLLBACK")
        with connection.begin_nested():
            connection.exec_driver_sql("INSERT INTO counter VALUES (2)")

    with pytest.raises(DatabaseError, match="ended the transaction by itself"):
        database.run(work)
    assert world.query(database, "SELECT n FROM counter") == [(0,)]
    database.close()


def test_a_savepoint_that_sqlite_refuses_is_an_error_like_any_other(url: str) -> None:
    database = Database.open(url)

    def work(connection: Connection) -> None:
        with connection.begin_nested():
            driver = connection.connection.driver_connection
            assert driver is not None
            driver.execute("RELEASE sa_savepoint_1")

    with pytest.raises(DatabaseError, match="no such savepoint"):
        database.run(work)
    database.close()


def test_a_transaction_that_sqlite_ended_by_itself_is_not_called_committed(url: str) -> None:
    database = Database.open(url)

    def work(connection: Connection) -> str:
        connection.exec_driver_sql("INSERT INTO counter VALUES (1)")
        driver = connection.connection.driver_connection
        assert driver is not None
        driver.execute("ROLLBACK")
        return "done"

    with pytest.raises(DatabaseError, match="nothing of it was committed"):
        database.run(work)
    assert world.query(database, "SELECT n FROM counter") == [(0,)]
    database.close()


def test_a_full_disk_is_told_and_nothing_is_half_written_and_room_lets_it_go_on(url: str) -> None:
    database = Database.open(url)

    def fill(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO counter VALUES (1)")
        connection.exec_driver_sql("CREATE TABLE big (t TEXT)")
        for _ in range(100):
            connection.execute(text("INSERT INTO big VALUES (:t)"), {"t": "x" * 10_000})

    def limit(pages: int) -> None:
        with database.engine.connect() as connection:
            connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    limit(20)
    with pytest.raises(DiskFull) as full:
        database.run(fill)
    assert full.value.help is not None
    assert world.query(database, "SELECT n FROM counter") == [(0,)]
    assert world.query(database, "SELECT COUNT(*) FROM sqlite_master WHERE name = 'big'") == [(0,)]
    limit(10_000)
    database.run(fill)
    assert world.query(database, "SELECT COUNT(*) FROM big") == [(100,)]
    database.close()


def test_a_commit_that_fails_leaves_no_lock_behind(url: str) -> None:
    """A disk that fills up at the COMMIT leaves the transaction open; its connection would block every later write."""
    database, other = Database.open(url), Database.open(url)
    with other.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA busy_timeout = 100")

    def full(connection: Connection) -> None:
        error = sqlite3.OperationalError("database or disk is full")
        error.sqlite_errorcode = sqlite3.SQLITE_FULL
        raise OperationalError("COMMIT", None, error)

    event.listen(database.engine, "commit", full)
    with pytest.raises(DiskFull):
        world.execute(database, "UPDATE counter SET n = 1")
    event.remove(database.engine, "commit", full)
    world.execute(other, "UPDATE counter SET n = n + 10")
    world.execute(database, "UPDATE counter SET n = n + 100")
    assert world.query(database, "SELECT n FROM counter") == [(110,)]
    database.close()
    other.close()


def test_a_reader_neither_writes_nor_makes_a_file_nor_waits_for_a_writer(url: str, tmp_path: Path) -> None:
    writer, reader = Database.open(url), Database.open_reader(url)
    with writer.engine.connect() as busy, busy.begin():
        busy.exec_driver_sql("UPDATE counter SET n = 5")
        assert world.query(reader, "SELECT n FROM counter") == [(0,)]
    with pytest.raises(DatabaseError):
        world.execute(reader, "UPDATE counter SET n = 7")
    missing = Database.open_reader(f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(DatabaseError):
        world.query(missing, "SELECT 1")
    assert not (tmp_path / "none.db").exists()
    for database in (writer, reader, missing):
        database.close()


def test_urls_are_read_and_named_without_their_secrets() -> None:
    assert public_name("mysql+pymysql://user:secret@db:3307/x?charset=utf8") == "mysql://db:3307/x"
    assert public_name("mariadb://u@db/x") == "mysql://db:3306/x"
    assert public_name("sqlite:///a/b.db") == "sqlite:///a/b.db"
    assert sqlite_path("sqlite:////tmp/x.db") == Path("/tmp/x.db")
    assert sqlite_path("mysql://u@h/x") is None
    assert parse_url("mariadb://u@h/x").drivername == "mysql+pymysql"
    from waveimport.errors import BadValue

    for wrong in ("postgresql://u@h/x", "not a url"):
        with pytest.raises(BadValue):
            parse_url(wrong)
    with pytest.raises(BadValue, match="memory"):
        sqlite_path("sqlite://")
    assert "secret" not in repr(Database.open("mysql://user:secret@db/x"))


def test_opening_a_reader_needs_the_path_only(tmp_path: Path) -> None:
    odd = tmp_path / "a b%3f#.db"
    url = f"sqlite:///{odd}"
    database = Database.open(url)
    world.execute(database, "CREATE TABLE t (n INTEGER)")
    with open_reader(url).connect() as connection:
        assert connection.exec_driver_sql("SELECT COUNT(*) FROM t").scalar() == 0
    database.close()
