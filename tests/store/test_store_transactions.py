"""`Database.run`: the whole closure again, or not at all; errors told apart by code."""

import sqlite3
import threading
import time
from collections.abc import Callable
from typing import Any

import pymysql
import pytest
import store_world as world
from sqlalchemy import Connection, event, text
from sqlalchemy.exc import OperationalError
from store_world import A

from waveimport.errors import BadData, DatabaseDown, DatabaseError, DiskFull
from waveimport.store.landing import landed
from waveimport.store.transactions import MAX_CONFLICTS, Database, Verdict, classify, translate


def raising(code: int, times: int, ran: list[int]) -> Callable[[Connection], str]:
    """Work that inserts a row, then meets a driver's error as often as asked."""

    def work(connection: Connection) -> str:
        ran.append(code)
        connection.exec_driver_sql("INSERT INTO counter VALUES (1)")
        if len(ran) <= times:
            raise OperationalError("x", None, pymysql.err.OperationalError(code, "text 'with a value'"))
        return "done"

    return work


@pytest.fixture
def counter(database: Database) -> Database:
    world.execute(database, "CREATE TABLE counter (n INTEGER)")
    database.sleep = lambda seconds: True
    return database


def count(database: Database) -> int:
    return int(world.query(database, "SELECT COUNT(*) FROM counter")[0][0])


@pytest.mark.parametrize("code", [1213, 1020, 1205, 3572, 1317, 1969])
def test_after_a_conflict_the_whole_closure_is_run_again(counter: Database, code: int) -> None:
    ran: list[int] = []
    assert counter.run(raising(code, 3, ran)) == "done"
    assert (len(ran), count(counter)) == (4, 1)


def test_a_conflict_that_never_ends_is_given_up(counter: Database) -> None:
    ran: list[int] = []
    with pytest.raises(DatabaseError):
        counter.run(raising(1213, 10**6, ran))
    assert (len(ran), count(counter)) == (MAX_CONFLICTS + 1, 0)


def test_what_work_raises_comes_out_and_rolls_back(counter: Database) -> None:
    def work(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO counter VALUES (1)")
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        counter.run(work)
    assert count(counter) == 0


def test_a_server_that_is_gone_is_waited_for_as_long_as_there_is_patience(counter: Database) -> None:
    waits: list[float] = []
    counter.sleep = lambda seconds: waits.append(seconds) or True
    ran: list[int] = []
    with pytest.raises(DatabaseDown):
        counter.run(raising(2003, 10**6, ran))
    assert (len(ran), waits) == (1, []), "without patience at once"
    counter.patience_seconds = 30.0
    ran.clear()
    assert counter.run(raising(2003, 5, ran)) == "done"
    assert len(waits) == 5
    waits.clear()
    with pytest.raises(DatabaseDown):
        counter.run(raising(2003, 10**6, []))
    assert 30.0 <= sum(waits) <= 36.0
    counter.sleep = lambda seconds: False
    with pytest.raises(DatabaseDown):
        counter.run(raising(2003, 10**6, []))


@pytest.mark.parametrize("code", [1045, 1044, 1049, 1142, 1290])
def test_a_refusal_is_told_at_once_in_words_without_values(counter: Database, code: int) -> None:
    counter.patience_seconds = 1000.0
    ran: list[int] = []
    with pytest.raises(DatabaseDown, match="refused") as refused:
        counter.run(raising(code, 10**6, ran))
    assert len(ran) == 1
    assert refused.value.help
    assert "value" not in refused.value.render()


@pytest.mark.parametrize(
    ("error", "verdict", "kind"),
    [
        (pymysql.err.OperationalError(1213, "deadlock"), Verdict.CONFLICT, DatabaseError),
        (pymysql.err.OperationalError(2013, "lost"), Verdict.LOST, DatabaseDown),
        (pymysql.err.OperationalError(2006, "gone"), Verdict.LOST, DatabaseDown),
        (pymysql.err.InterfaceError(0, ""), Verdict.LOST, DatabaseDown),
        (pymysql.err.OperationalError(1040, "many"), Verdict.UNREACHABLE, DatabaseDown),
        (pymysql.err.OperationalError(1114, "full"), Verdict.DISK_FULL, DiskFull),
        (pymysql.err.DataError(1406, "long"), Verdict.BAD_VALUE, BadData),
        (pymysql.err.DataError(1264, "range"), Verdict.BAD_VALUE, BadData),
        (pymysql.err.ProgrammingError(1064, "syntax near 'secret'"), Verdict.FATAL, DatabaseError),
        (pymysql.err.IntegrityError(1062, "Duplicate entry 'secret'"), Verdict.FATAL, DatabaseError),
        (ValueError("no driver's"), Verdict.FATAL, DatabaseError),
    ],
)
def test_errors_are_told_apart_by_code_and_their_values_are_cut_off(
    error: Exception, verdict: Verdict, kind: type[Exception]
) -> None:
    assert classify(error) is verdict
    told = translate(error, "mysql://db/x")
    assert type(told) is kind
    assert "secret" not in told.render()


@pytest.mark.parametrize(
    ("sql", "verdict"), [("SELECT * FROM nothing", Verdict.FATAL), ("ATTACH '/none/x' AS y", Verdict.REFUSED)]
)
def test_errors_of_sqlite_are_told_apart_by_code(sql: str, verdict: Verdict) -> None:
    with pytest.raises(sqlite3.OperationalError) as error:
        sqlite3.connect(":memory:").execute(sql)
    assert classify(error.value) is verdict


# --- MySQL ------------------------------------------------------------------------------------------------------


@pytest.mark.mysql
def test_a_deadlock_runs_the_whole_unit_again_and_never_commits_half_of_it(mysql_database: Database) -> None:
    """After 1213 the server has rolled all back while the client thinks it is in a transaction: an INSERT and a COMMIT
    behind it save half of the unit."""
    database = mysql_database
    world.execute(database, "CREATE TABLE pair (id INT PRIMARY KEY, n INT)")
    world.execute(database, "CREATE TABLE unit (part INT)")
    world.execute(database, "INSERT INTO pair VALUES (1, 0), (2, 0)")

    def unit(meet: Callable[[Connection], None], *, swallow: bool) -> Callable[[Connection], int]:
        runs = 0

        def work(connection: Connection) -> int:
            nonlocal runs
            runs += 1
            connection.exec_driver_sql("INSERT INTO unit VALUES (1)")
            connection.exec_driver_sql("UPDATE pair SET n = n + 1 WHERE id = 1")
            if runs == 1:
                meet(connection)
            try:
                connection.exec_driver_sql("UPDATE pair SET n = n + 1 WHERE id = 2")
            except OperationalError as error:
                if classify(error) is not Verdict.CONFLICT or not swallow:
                    raise
            connection.exec_driver_sql("INSERT INTO unit VALUES (2)")
            return runs

        return work

    def against_a_rival(work_of: Callable[[Callable[[Connection], None]], Callable[[Connection], int]]) -> int:
        rivals: list[threading.Thread] = []

        def meet(connection: Connection) -> None:
            """Return once a rival with more work done (so that it survives) waits for the row that this one holds."""
            holds = threading.Event()

            def rival() -> None:
                with database.engine.begin() as other:
                    other.exec_driver_sql("UPDATE pair SET n = n + 10 WHERE id = 2")
                    for number in range(50):
                        other.exec_driver_sql(f"INSERT INTO pair VALUES ({100 + number}, 0)")
                    holds.set()
                    other.exec_driver_sql("UPDATE pair SET n = n + 10 WHERE id = 1")
                    other.exec_driver_sql("DELETE FROM pair WHERE id >= 100")

            thread = threading.Thread(target=rival)
            rivals.append(thread)
            thread.start()
            assert holds.wait(30)
            waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
            for _ in range(200):
                if world.query(database, waiting)[0][0]:
                    break
                # The server makes this table anew only when nobody has read it for a tenth of a second.
                time.sleep(0.15)
            else:
                raise AssertionError("the rival never waited")

        runs = database.run(work_of(meet))
        for thread in rivals:
            thread.join(30)
        return runs

    assert against_a_rival(lambda meet: unit(meet, swallow=True)) == 1
    assert world.query(database, "SELECT part FROM unit") == [(2,)], "half of a unit was saved"

    world.execute(database, "DELETE FROM unit")
    world.execute(database, "UPDATE pair SET n = 0")
    assert against_a_rival(lambda meet: unit(meet, swallow=False)) == 2
    assert world.query(database, "SELECT part FROM unit ORDER BY part") == [(1,), (2,)]
    assert world.query(database, "SELECT n FROM pair ORDER BY id") == [(11,), (11,)]


def lose_next_commit(database: Database, *, after: bool) -> list[str]:
    """Have the next COMMIT end in a lost connection, before or after the server has done it."""
    lost: list[str] = []

    def commit(connection: Connection) -> None:
        if lost:
            return
        lost.append("commit")
        driver: Any = connection.connection.driver_connection
        if after:
            driver.commit()
        number = driver.thread_id()
        with database.engine.connect() as other:
            other.exec_driver_sql(f"KILL {number}")

    event.listen(database.engine, "commit", commit)
    return lost


@pytest.mark.mysql
@pytest.mark.parametrize("after", [True, False])
def test_a_commit_whose_reply_was_lost_is_proven_and_not_done_twice(mysql_database: Database, after: bool) -> None:
    """The outcome is unknown: the row was there or was not, both are seen. The batch row tells."""
    database = mysql_database
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    load = world.page(one, [(1, "a", "1.00")], (world.line(A),))
    runs: list[int] = []

    def work(connection: Connection) -> bool:
        from waveimport.store.destination import Upsert, packet_bytes
        from waveimport.store.landing import land

        runs.append(1)
        return land(connection, load, Upsert(connection, world.TARGET), packet_bytes(connection))

    lost = lose_next_commit(database, after=after)
    assert database.run(work, prove=lambda connection: landed(connection, load)) is True
    assert lost == ["commit"]
    assert len(runs) == (1 if after else 2)
    assert world.query(database, "SELECT row_count, status FROM wave_batches WHERE batch_id = :b", b=A) == [
        (1, "completed")
    ]
    assert world.query(database, "SELECT total FROM wave_coordination WHERE wave_number = 2") == [(1,)]


@pytest.mark.mysql
def test_without_a_proof_what_had_landed_would_look_fenced(mysql_database: Database) -> None:
    database = mysql_database
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    lose_next_commit(database, after=True)
    assert world.put(database, world.page(one)) is False
    assert world.status_of(database, A) == "completed"


@pytest.mark.mysql
def test_a_connection_that_was_killed_before_the_commit_is_replaced_and_the_work_done_once(
    mysql_database: Database,
) -> None:
    database = mysql_database
    world.execute(database, "CREATE TABLE counter (n INTEGER)")
    runs: list[int] = []

    def work(connection: Connection) -> None:
        runs.append(1)
        connection.exec_driver_sql("INSERT INTO counter VALUES (1)")
        if len(runs) == 1:
            driver: Any = connection.connection.driver_connection
            with database.engine.connect() as other:
                other.exec_driver_sql(f"KILL {driver.thread_id()}")
        connection.exec_driver_sql("INSERT INTO counter VALUES (2)")

    database.run(work)
    assert (len(runs), count(database)) == (2, 2)


@pytest.mark.mysql
def test_a_statement_larger_than_the_servers_packet_ends_and_is_not_sent_for_ever(mysql_database: Database) -> None:
    database = mysql_database
    world.execute(database, "CREATE TABLE big (t LONGTEXT)")
    most = int(world.query(database, "SELECT @@max_allowed_packet")[0][0])
    runs: list[int] = []

    def work(connection: Connection) -> None:
        runs.append(1)
        connection.execute(text("INSERT INTO big VALUES (:t)"), {"t": "x" * (most + 1)})

    with pytest.raises(DatabaseError):
        database.run(work)
    assert len(runs) < 6


@pytest.mark.mysql
def test_every_connection_is_strict_in_utc_read_committed_and_patient_within_bounds(mysql_database: Database) -> None:
    settings = "SELECT @@time_zone, @@sql_mode, @@innodb_lock_wait_timeout, @@character_set_client"
    ((zone, mode, wait, charset),) = world.query(mysql_database, settings)
    assert (zone, wait, charset) == ("+00:00", 20, "utf8mb4")
    assert "STRICT_ALL_TABLES" in mode
    ((version,),) = world.query(mysql_database, "SELECT VERSION()")
    if "maria" in version.lower():
        assert world.query(mysql_database, "SELECT @@idle_transaction_timeout") == [(30,)]
    ((drift,),) = world.query(mysql_database, "SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), NOW())")
    assert drift == 0


@pytest.mark.mysql
def test_a_reader_of_mysql_writes_nothing(mysql_database: Database) -> None:
    world.create(mysql_database)
    reader = Database.open_reader(mysql_database.url)
    with pytest.raises(DatabaseError):
        world.execute(reader, "DELETE FROM import_jobs")
    assert world.query(reader, "SELECT COUNT(*) FROM import_jobs") == [(1,)]
    reader.close()
