"""Destination tables: what is written comes back as it was, every hostile text, every key apart."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
import store_world as world
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.errors import BadData, TableClash, WaveImportError
from waveimport.store.destination import Target, Upsert, create_statement, ensure_tables, packet_bytes, remember_columns
from waveimport.store.transactions import Database

KINDS = {
    "id": Column("id", ColumnKind.INTEGER, target="id"),
    "memo": Column("memo", ColumnKind.TEXT, target="memo"),
    "flag": Column("flag", ColumnKind.BOOLEAN, target="flag"),
    "small": Column("small", ColumnKind.DECIMAL, 15, 2, "small"),
    "wide": Column("wide", ColumnKind.DECIMAL, 30, 10, "wide"),
    "ratio": Column("ratio", ColumnKind.FLOAT, target="ratio"),
    "day": Column("day", ColumnKind.DATE, target="day"),
    "at": Column("at", ColumnKind.TIMESTAMP, target="at"),
}


def target(*names: str, key: tuple[str, ...] = ("id",), table: str = "thing") -> Target:
    return Target(table, RecordSettings("thing", "thing", tuple(KINDS[name] for name in names), key=key))


def put(database: Database, into: Target, rows: Sequence[tuple[Any, ...]], *, bytes_most: int | None = None) -> None:
    database.run(
        lambda connection: Upsert(connection, into).execute(
            connection, rows, job_id=world.JOB, packet_bytes=bytes_most or packet_bytes(connection)
        )
    )


def made(database: Database, into: Target) -> Target:
    database.run(lambda connection: ensure_tables(connection, [into], fence=False))
    return into


HOSTILE = [
    "100%",
    "%s %(x)s %%",
    ":name :1 \\:x",
    'it\'s "quoted" `so`',
    "back\\slash \\' \\0 \\n",
    "line\nfeed\ttab\r",
    "'); DROP TABLE thing; --",
    "Ünal Ж 日本",
    "\U0001f600 \U00010348",
    " lead and trail ",
    "",
    "NULL",
    "\x1a\x07",
    "?1 ?",
]


def test_hostile_texts_come_back_as_they_were(database: Database) -> None:
    into = made(database, target("id", "memo"))
    rows = [*enumerate(HOSTILE), (99, None)]
    put(database, into, rows)
    assert world.query(database, "SELECT id, memo FROM thing ORDER BY id") == rows


def test_any_text_at_all_comes_back_as_it_was(database: Database) -> None:
    into = made(database, target("id", "memo"))

    @settings(max_examples=25, suppress_health_check=list(HealthCheck), deadline=None)
    @given(st.lists(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")), max_size=8))
    def check(texts: list[str]) -> None:
        world.execute(database, "DELETE FROM thing")
        rows = list(enumerate(texts))
        put(database, into, rows)
        assert world.query(database, "SELECT id, memo FROM thing ORDER BY id") == rows

    check()


def test_text_keys_that_differ_in_case_accent_or_blank_are_rows_of_their_own(database: Database) -> None:
    into = made(database, target("memo", "id", key=("memo",)))
    keys = ["A", "a", "a ", "á", "a\t", "\U0001f600", "\U0001f601"]
    put(database, into, [(key, number) for number, key in enumerate(keys)])
    put(database, into, [("a", 77)])
    assert dict(world.query(database, "SELECT memo, id FROM thing")) == {
        **{key: number for number, key in enumerate(keys)},
        "a": 77,
    }


@pytest.mark.mysql
def test_under_the_usual_collation_those_keys_would_overwrite_each_other(mysql_database: Database) -> None:
    world.execute(
        mysql_database,
        "CREATE TABLE thing (memo VARCHAR(255) PRIMARY KEY, id BIGINT, _job_id VARCHAR(64), _synced_at DATETIME(6))"
        " DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
    )
    put(mysql_database, target("memo", "id", key=("memo",)), [(key, 1) for key in ("A", "a", "a ", "á")])
    assert world.query(mysql_database, "SELECT COUNT(*) FROM thing") == [(1,)]


def test_every_type_comes_back_exactly(database: Database) -> None:
    into = made(database, target(*KINDS))
    row = (
        -(2**63),
        "x",
        1,
        "9999999999999.99",
        "-12345678901234567890.0123456789",
        0.1,
        "2026-02-28",
        "1999-12-31 23:59:59",
    )
    none = (2**63 - 1, *[None] * 7)
    put(database, into, [row, none])
    back = world.query(database, "SELECT id, memo, flag, small, wide, ratio, day, at FROM thing ORDER BY id")
    assert [str(value) for value in back[0]] == [str(value) for value in row]
    assert back[1] == none


def test_a_second_landing_of_a_key_replaces_every_column_nulls_included(database: Database) -> None:
    into = made(database, target("id", "memo", "small"))
    put(database, into, [(1, "old", "1.00"), (2, "stays", "2.00")])
    put(database, into, [(1, None, None)])
    assert world.query(database, "SELECT id, memo FROM thing ORDER BY id") == [(1, None), (2, "stays")]
    assert world.query(database, "SELECT small FROM thing WHERE id = 1") == [(None,)]


def test_a_record_of_key_columns_only_and_a_composite_key_land_twice_as_once(database: Database) -> None:
    into = made(database, target("id", "memo", key=("id", "memo")))
    rows = [(1, "a"), (1, "b"), (2, "a")]
    put(database, into, rows)
    put(database, into, rows)
    assert world.query(database, "SELECT id, memo FROM thing ORDER BY id, memo") == rows


def test_pages_longer_than_a_statement_land_whole(database: Database) -> None:
    into = made(database, target(*KINDS))
    rows = [
        (number, "x" * 20, 0, "1.00", "1.0000000000", 1.5, "2026-01-01", "2026-01-01 00:00:00")
        for number in range(2505)
    ]
    put(database, into, rows)
    assert world.query(database, "SELECT COUNT(*), MIN(id), MAX(id) FROM thing") == [(2505, 0, 2504)]


@pytest.mark.mysql
def test_a_number_is_never_rounded_by_the_server_unnoticed_because_it_never_gets_there(
    mysql_database: Database,
) -> None:
    """MariaDB rounds 1.005 into decimal(15,2) with only a note, in strict mode too: so values are typed before."""
    into = made(mysql_database, target("id", "small"))
    put(mysql_database, into, [(1, "1.005")])
    assert str(world.query(mysql_database, "SELECT small FROM thing")[0][0]) == "1.01", "what the server would do"
    from waveimport.core.values import convert

    with pytest.raises(ValueError, match="3 decimals"):
        convert(KINDS["small"], "1.005")


@pytest.mark.mysql
@pytest.mark.parametrize("row", [(1, "99999999999999.99"), (2**63, "1.00"), ("notanint", "1.00")])
def test_what_does_not_fit_its_column_is_refused_by_the_server_as_bad_data(
    mysql_database: Database, row: tuple[Any, ...]
) -> None:
    """IGNORE, which is never used, would make 0 of 'notanint' and cut the rest."""
    into = made(mysql_database, target("id", "small"))
    with pytest.raises(WaveImportError):
        put(mysql_database, into, [(5, "5.00"), row])
    assert world.query(mysql_database, "SELECT COUNT(*) FROM thing") == [(0,)]


@pytest.mark.mysql
def test_rows_are_split_into_statements_that_fit_the_packet_and_a_row_that_does_not_is_bad_data(
    mysql_database: Database,
) -> None:
    """An oversized packet ends the connection with the error of a lost server: it would be sent again for ever."""
    into = made(mysql_database, target("id", "memo"))
    statements: list[int] = []
    from sqlalchemy import event

    def measure(connection: object, cursor: object, statement: str, *rest: object) -> None:
        statements.append(len(statement.encode()))

    event.listen(mysql_database.engine, "before_cursor_execute", measure)
    put(mysql_database, into, [(number, "é" * 1000) for number in range(40)], bytes_most=20_000)
    assert len(statements) > 4
    assert max(statements) <= 20_000
    assert world.query(mysql_database, "SELECT COUNT(*) FROM thing") == [(40,)]
    with pytest.raises(BadData, match="takes at once"):
        put(mysql_database, into, [(100, "fits"), (101, "\U0001f600" * 5000)], bytes_most=20_000)
    assert world.query(mysql_database, "SELECT COUNT(*) FROM thing") == [(40,)]


def test_a_table_with_another_key_or_without_a_column_is_a_clash_before_anything_is_made(database: Database) -> None:
    made(database, target("id", "memo"))
    other = target("id", table="other")
    for wrong in (
        target("id", "memo", "flag"),
        target("id", "memo", key=("memo",)),
        target("id", "memo", key=("id", "memo")),
    ):
        with pytest.raises(TableClash) as clash:
            database.run(lambda connection, wrong=wrong: ensure_tables(connection, [other, wrong], fence=False))
        assert clash.value.help
    with pytest.raises(WaveImportError):
        world.query(database, "SELECT * FROM other")
    made(database, target("id"))  # fewer columns than the table has are no clash


def test_making_tables_again_changes_nothing(database: Database) -> None:
    into = made(database, target("id", "memo"))
    put(database, into, [(1, "kept")])
    made(database, into)
    assert world.query(database, "SELECT memo FROM thing") == [("kept",)]


def test_the_table_of_a_destination_is_made_for_bytes(database: Database) -> None:
    sql = database.run(lambda connection: create_statement(connection, target("memo", "id", "at", key=("memo",))))
    if database.is_sqlite:
        assert "memo` TEXT NOT NULL" in sql or '"memo" TEXT NOT NULL' in sql or "memo TEXT NOT NULL" in sql
    else:
        assert "ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_nopad_bin" in sql
        assert "VARCHAR(255) NOT NULL" in sql


def remember(database: Database, *into: Target, profile: str = "p", destination: str = "") -> None:
    database.run(
        lambda connection: remember_columns(connection, into, profile=profile, destination=destination),
    )


def test_the_source_of_each_column_is_remembered_and_a_column_that_goes_is_forgotten(database: Database) -> None:
    for into in (target("id", "memo", "small"), target("id", "small")):
        remember(database, into)
    remembered = "SELECT profile, table_name, column_name, source_name, type FROM import_columns ORDER BY column_name"
    assert world.query(database, remembered) == [
        ("p", "thing", "id", "id", "integer"),
        ("p", "thing", "small", "small", "decimal(15,2)"),
    ]


def test_runs_that_start_at_once_remember_the_columns_without_hindering_each_other(
    database: Database, database_url: str
) -> None:
    wide = target(*KINDS)
    world.race(database_url, 8, lambda mine, at: remember(mine, wide))
    assert world.query(database, "SELECT COUNT(*) FROM import_columns") == [(len(KINDS),)]


def test_a_table_belongs_to_the_profile_that_wrote_it_and_what_another_would_remember_is_undone(
    database: Database,
) -> None:
    remember(database, target("id", "memo"))
    kept = world.query(database, "SELECT * FROM import_columns ORDER BY column_name")
    for other in (target("id", "memo"), target("small", key=("small",)), target("id", table="THING")):
        with pytest.raises(TableClash, match="holds the rows of profile `p`, and this is profile `q`") as clash:
            remember(database, target("id", table="fresh"), other, profile="q")
        assert "prefix" in (clash.value.help or "")
        assert world.query(database, "SELECT * FROM import_columns ORDER BY column_name") == kept
    remember(database, target("id", table="q_thing"), profile="q")
    remember(database, target("id"), profile="q", destination="mysql://elsewhere/db")
    remember(database, target("id"))


def test_the_statements_that_the_help_names_give_a_table_to_another_profile(database: Database) -> None:
    into = target("id")
    for at in (0, 1):
        owner, other = f"owner{at}", f"owner{at + 1}"
        remember(database, into, profile=owner)
        with pytest.raises(TableClash) as clash:
            remember(database, into, profile=other)
        mend = clash.value.help or ""
        statements = re.findall(r"(?:UPDATE|DELETE)[^.]*", mend)
        assert len(statements) == 2
        world.execute(database, statements[at])
        remember(database, into, profile=other)


def test_of_two_profiles_that_begin_at_once_one_gets_the_table(database: Database, database_url: str) -> None:
    def begin(mine: Database, at: int) -> bool:
        try:
            remember(mine, target("id") if at % 2 else target("memo", key=("memo",)), profile=f"p{at}")
        except TableClash:
            return False
        return True

    for _ in range(5):
        world.execute(database, "DELETE FROM import_columns")
        assert sum(world.race(database_url, 4, begin)) == 1


def test_a_refusal_is_remembered_for_half_an_hour_by_account_and_credentials(
    database: Database, database_url: str
) -> None:
    from waveimport.store import accounts

    def remembered(account: str, credential: str) -> str | None:
        return database.run(lambda connection: accounts.recent_refusal(connection, account, credential))

    world.race(
        database_url,
        4,
        lambda mine, at: mine.run(lambda connection: accounts.remember_refusal(connection, "1_SB1", "abc", "401")),
    )
    assert remembered("1_SB1", "abc") == "401"
    assert (remembered("1_SB1", "other"), remembered("2", "abc")) == (None, None)
    for minutes, reason in ((29, "401"), (31, None)):
        clock = (
            f"strftime('%Y-%m-%d %H:%M:%f', 'now', '-{minutes} minutes')"
            if database.is_sqlite
            else f"UTC_TIMESTAMP(6) - INTERVAL {minutes} MINUTE"
        )
        world.execute(database, f"UPDATE import_accounts SET refused_at = {clock}")
        assert remembered("1_SB1", "abc") == reason
    database.run(lambda connection: accounts.remember_refusal(connection, "1_SB1", "abc", "403"))
    assert remembered("1_SB1", "abc") == "403"
    database.run(lambda connection: accounts.forget_refusal(connection, "1_SB1", "abc"))
    assert remembered("1_SB1", "abc") is None
