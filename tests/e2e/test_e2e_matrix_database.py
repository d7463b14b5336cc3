"""The fault matrix, its database and its disk: what the server, the wire or the file system does to a run.

The table of all cells is in `test_e2e_fault_matrix`.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mysql_server
import pytest
from matrix_world import RUN, Account, End, Matrix, black_hole
from mysql_wire import Blow, Cut, Fault, Refusal, Wire, no_fault
from netsuite_server import Step
from project import DEEP
from sqlalchemy import Engine, event

from waveimport.runtime import coordinator
from waveimport.store.schema import HEAD

SOON_LAPSED = RUN.replace("lease_seconds = 30", "lease_seconds = 2").replace("= 0.2", "= 30")


@pytest.fixture
def wire(mysql_url: str) -> Iterator[Wire]:
    """A wire to an empty database of a MySQL server."""
    with mysql_server.fresh_database(mysql_url) as url, Wire(url) as broken:
        yield broken


# Where a fault strikes: a statement, and what its transaction has done before.
Place = Callable[[str, list[str]], bool]


def _commit_behind(words: str) -> Place:
    return lambda statement, before: statement == "COMMIT" and any(words in one for one in before)


PLACES: dict[str, Place] = {
    "a read under the lock of the job": lambda statement, before: (
        "FROM import_jobs" in statement and "FOR UPDATE" in statement
    ),
    "a read of batches": lambda statement, before: "SKIP LOCKED" in statement,
    "a write of the job": lambda statement, before: statement.startswith("INSERT INTO import_jobs"),
    "a write of rows": lambda statement, before: statement.startswith("INSERT INTO `order`"),
    "a write of derived batches": lambda statement, before: (
        statement.startswith("INSERT INTO wave_batches") and "'parents'" in statement
    ),
    "the COMMIT of a job": _commit_behind("INSERT INTO import_jobs"),
    "the COMMIT of a lease": _commit_behind("lease_machine="),
    "the COMMIT of a pass": _commit_behind("INSERT INTO wave_journal"),
    "the COMMIT of a claim": _commit_behind("SET status='dispatched'"),
    "the COMMIT of a page": _commit_behind("INSERT INTO `order`"),
    "the COMMIT of a last page": _commit_behind("INSERT INTO `line`"),
}


def at_each(places: list[str], blows: list[Blow]) -> tuple[Fault, dict[str, list[Blow]]]:
    """Strike at each of the places with one blow after the other; what is left of them was never come to."""
    left = {place: list(blows) for place in places}

    def fault(statement: str, before: list[str]) -> Blow | None:
        for name in places:
            if left.get(name) and PLACES[name](statement, before):
                blow = left[name].pop(0)
                if not left[name]:
                    del left[name]
                return blow
        return None

    return fault, left


CONFLICTS: list[Blow] = [Refusal(code) for code in (1213, 1020, 1205, 1317, 1969)]


@pytest.mark.mysql
@pytest.mark.parametrize(
    "blows",
    [CONFLICTS, *([cut] for cut in Cut)],
    ids=["1213, 1020, 1205, 1317, 1969", *(cut.name for cut in Cut)],
)
def test_what_strikes_a_read_a_write_or_a_commit_and_passes_costs_nothing(
    make_matrix: Callable[..., Matrix], wire: Wire, monkeypatch: pytest.MonkeyPatch, blows: list[Blow]
) -> None:
    """Conflicts as the server sends them; 2006 and 2013 as they come of a wire that is cut: before the server got the
    statement, after it did it, and between two statements."""
    monkeypatch.setattr(coordinator, "PASS_EVERY_SECONDS", 0.5)
    fault, left = at_each(list(PLACES), blows)
    matrix = make_matrix(wire.url, run=SOON_LAPSED)
    wire.fault = fault
    matrix.assert_the_next_run_brings_the_rest()
    assert left == {}, "the fault never came there"
    assert matrix.query("SELECT COUNT(*) FROM import_jobs") == [(1,)]
    matrix.assert_nothing_is_half_written()


EVERYWHERE: list[Blow] = [Refusal(1213), *Cut]


@pytest.mark.mysql
@pytest.mark.skipif(not DEEP, reason="some hundred runs: the deep profile's")
@pytest.mark.parametrize("first", range(len(EVERYWHERE)), ids=map(str, EVERYWHERE))
def test_what_strikes_any_statement_of_a_run_costs_nothing(
    make_matrix: Callable[..., Matrix], mysql_url: str, monkeypatch: pytest.MonkeyPatch, first: int
) -> None:
    """Every fourth statement of a run, each blow beginning at another: together they strike all. Before the job is
    under way a lost connection may end the run with 5; the next then goes on."""
    monkeypatch.setattr(coordinator, "PASS_EVERY_SECONDS", 0.5)
    blow, at, runs = EVERYWHERE[first], first + 1, 0
    said = at
    while at <= said:
        with mysql_server.fresh_database(mysql_url) as url, Wire(url) as wire:

            def strike(statement: str, before: list[str], wire: Wire = wire, at: int = at) -> Blow | None:
                return blow if len(wire.statements) == at else None

            wire.fault = strike
            matrix = make_matrix(wire.url, run=SOON_LAPSED)
            done = matrix.run("run")
            wire.fault, said = no_fault, max(said, len(wire.statements))
            struck = f"statement {at}: {wire.statements[at - 1 : at]}"
            assert done.returncode in (0, 5), f"{struck}\n{done.stderr}"
            assert "Traceback" not in done.stderr, struck
            if done.returncode:
                matrix.assert_the_next_run_brings_the_rest()
            matrix.assert_equals_account()
            matrix.assert_nothing_is_half_written()
        at += len(EVERYWHERE)
        runs += 1
    assert runs > 25


@pytest.mark.mysql
@pytest.mark.parametrize(
    ("statement", "cut"),
    [("SET AUTOCOMMIT = 1", Cut.REQUEST_LOST), ("CREATE TABLE", Cut.REPLY_LOST)],
    ids=["as the lock's connection is set up", "behind a table"],
)
def test_a_connection_that_is_lost_while_the_tables_are_made_is_told_or_made_good(
    make_matrix: Callable[..., Matrix], wire: Wire, statement: str, cut: Cut
) -> None:
    matrix = make_matrix(wire.url)
    struck: list[str] = []

    def once(said: str, before: list[str]) -> Blow | None:
        if struck or statement not in said:
            return None
        struck.append(said)
        return cut

    wire.fault = once
    done = matrix.run("db", "upgrade")
    assert struck
    end = End(0, None, "") if done.returncode == 0 else End(5, None, "the database cannot be reached (2013)")
    matrix.assert_told(done, end)
    matrix.assert_the_next_run_brings_the_rest()


def always_at(place: str, blow: Blow) -> Fault:
    """Strike each time."""
    return lambda statement, before: blow if PLACES[place](statement, before) else None


FOR_GOOD = [
    ("a write of rows", 1213, "the database refused a statement (1213: refused by the wire)"),
    ("the COMMIT of a page", 1205, "the database refused a statement (1205: refused by the wire)"),
    ("a write of rows", 1114, "the disk of the database is full or failing (1114)"),
    ("the COMMIT of a page", 1021, "the disk of the database is full or failing (1021)"),
    ("a write of rows", 1290, "the database refused: it cannot be opened or written (1290)"),
    ("a write of rows", 1792, "the database refused: it cannot be opened or written (1792)"),
    ("a write of rows", 1142, "the database refused: the user lacks a privilege on a table (1142)"),
    ("a read of batches", 1049, "the database refused: the database does not exist (1049)"),
    ("a read of batches", 2003, "the database cannot be reached (2003)"),
    ("a write of derived batches", 1153, "the database refused a statement (1153: refused by the wire)"),
]


@pytest.mark.mysql
def test_what_strikes_for_good_ends_each_run_in_its_sentence_and_the_last_goes_on_with_the_job(
    make_matrix: Callable[..., Matrix], wire: Wire
) -> None:
    """One job that every one of these faults has struck, run after run: nothing of it is lost."""
    matrix = make_matrix(wire.url)
    for place, code, words in FOR_GOOD:
        wire.fault = always_at(place, Refusal(code))
        matrix.assert_ends(End(5, "processing", words))
    wire.fault = no_fault
    matrix.assert_the_next_run_brings_the_rest()
    assert matrix.query("SELECT COUNT(*) FROM import_jobs") == [(1,)]
    matrix.assert_nothing_is_half_written()


@pytest.mark.mysql
def test_a_database_that_lets_nobody_in_is_told_and_nothing_is_asked_of_the_source(
    make_matrix: Callable[..., Matrix], wire: Wire, small_account: Account
) -> None:
    matrix = make_matrix(wire.url)
    right = matrix.url
    for wrong, words in (
        (right.replace("//root@", "//nobody:wrong-password@"), "the password or user is refused (1045)"),
        (right + "_none", "the database does not exist (1049)"),
    ):
        matrix.url = wrong
        matrix.write(RUN)
        matrix.assert_ends(End(5, None, words))
    assert small_account.server.asked == []
    matrix.url = right
    matrix.write(RUN)
    matrix.assert_the_next_run_brings_the_rest()


# --- tables -----------------------------------------------------------------------------------------------------


def test_tables_of_another_version_are_told_and_left_alone(matrix_of_both: Matrix, small_account: Account) -> None:
    assert matrix_of_both.run("db", "upgrade").returncode == 0
    for version, words in (("9999", "newer than this program's"), ("0000", "older than this program's")):
        matrix_of_both.execute(f"UPDATE waveimport_version SET version_num = '{version}'")
        matrix_of_both.assert_ends(End(2, None, words))
        assert matrix_of_both.query("SELECT COUNT(*) FROM import_jobs") == [(0,)]
    assert small_account.server.asked == []
    matrix_of_both.execute(f"UPDATE waveimport_version SET version_num = '{HEAD}'")
    matrix_of_both.assert_the_next_run_brings_the_rest()


def test_a_coordination_table_that_is_dropped_under_a_run_ends_it_and_the_next_names_it(
    matrix_of_both: Matrix, small_account: Account
) -> None:
    dropped: list[str] = []

    def drop(number: int, sql: str) -> None:
        if "FROM lines" in sql and not dropped:
            dropped.append(sql)
            matrix_of_both.execute("DROP TABLE wave_journal")

    small_account.fault = drop
    matrix_of_both.assert_told(matrix_of_both.run("run"), End(5, None, "the database refused a statement"))
    told = matrix_of_both.run("run")
    matrix_of_both.assert_told(told, End(2, None, "but the table `wave_journal` is missing"))
    matrix_of_both.execute("DROP TABLE waveimport_version")
    matrix_of_both.assert_the_next_run_brings_the_rest()


# --- SQLite's file ----------------------------------------------------------------------------------------------


@pytest.fixture
def pragma() -> Iterator[Callable[[str], None]]:
    """Have every connection that is opened from now on begin with a PRAGMA."""
    added: list[Any] = []

    def add(words: str) -> None:
        def set_it(connection: Any, record: Any) -> None:
            connection.execute(f"PRAGMA {words}")

        event.listen(Engine, "connect", set_it)
        added.append(set_it)

    yield add
    for set_it in added:
        event.remove(Engine, "connect", set_it)


@pytest.mark.parametrize(
    ("words", "mended", "told"),
    [
        ("max_page_count = 60", "max_page_count = 100000", "the disk of the database is full or failing (SQLITE_FULL)"),
        ("query_only = ON", "query_only = OFF", "the file cannot be opened or written (SQLITE_READONLY)"),
    ],
    ids=["full", "read-only"],
)
def test_a_file_that_takes_no_more_ends_the_run_and_the_next_goes_on(
    make_matrix: Callable[..., Matrix],
    tmp_path: Path,
    small_account: Account,
    pragma: Callable[[str], None],
    words: str,
    mended: str,
    told: str,
) -> None:
    matrix = make_matrix(f"sqlite:///{tmp_path / 'test.db'}")
    matrix.run("db", "upgrade")
    small_account.source.execute("UPDATE orders SET memo = printf('%5000c', 'x')")
    pragma(words)
    matrix.assert_told(matrix.run("run"), End(5, None, told))
    matrix.assert_nothing_is_half_written()
    pragma(mended)
    matrix.assert_the_next_run_brings_the_rest()


def test_a_file_that_is_no_database_or_is_damaged_is_told_and_left_as_it_is(
    make_matrix: Callable[..., Matrix], tmp_path: Path
) -> None:
    file = tmp_path / "test.db"
    matrix = make_matrix(f"sqlite:///{file}")
    file.write_bytes(b"no database " * 1000)
    before = file.read_bytes()
    matrix.assert_told(matrix.run("run"), End(5, None, "is no SQLite database, or is damaged (SQLITE_NOTADB)"))
    assert file.read_bytes() == before
    file.unlink()
    matrix.assert_the_next_run_brings_the_rest()
    content = bytearray(file.read_bytes())
    content[4096 : len(content)] = bytes(len(content) - 4096)
    file.write_bytes(content)
    matrix.assert_told(matrix.run("run"), End(5, None, "is no SQLite database, or is damaged (SQLITE_CORRUPT"))


def test_a_file_that_is_deleted_under_a_run_ends_it_and_the_next_begins_anew(
    make_matrix: Callable[..., Matrix], tmp_path: Path, small_account: Account
) -> None:
    matrix = make_matrix(f"sqlite:///{tmp_path / 'test.db'}", run=RUN.replace("= 30", "= 0.3"))

    def delete(number: int, sql: str) -> Step | None:
        if "FROM lines" not in sql:
            return None
        (tmp_path / "test.db").unlink(missing_ok=True)
        return black_hole

    small_account.fault = delete
    matrix.assert_told(matrix.run("run"), End(5, None, "the database file was deleted or replaced"))
    small_account.heal()
    matrix.assert_the_next_run_brings_the_rest()


# --- locks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "mend", "words"),
    [
        (
            lambda folder: (folder / "locks").write_text(""),
            lambda folder: (folder / "locks").unlink(),
            "locks cannot be used: ",
        ),
        (
            lambda folder: (folder / "test.db.write").mkdir(),
            lambda folder: (folder / "test.db.write").rmdir(),
            "the write lock cannot be opened: Is a directory",
        ),
    ],
    ids=["the folder is a file", "the write lock is a folder"],
)
def test_a_lock_that_cannot_be_had_is_told_and_nothing_is_asked_of_the_source(
    make_matrix: Callable[..., Matrix],
    tmp_path: Path,
    small_account: Account,
    spoil: Callable[[Path], Any],
    mend: Callable[[Path], Any],
    words: str,
) -> None:
    matrix = make_matrix(f"sqlite:///{tmp_path / 'test.db'}")
    matrix.config.write_text(
        matrix.config.read_text().replace(f'lock_dir = "{tmp_path}"', f'lock_dir = "{tmp_path / "locks"}"')
    )
    spoil(tmp_path)
    matrix.assert_ends(End(2, None, words))
    assert small_account.server.asked == []
    mend(tmp_path)
    matrix.assert_the_next_run_brings_the_rest()
