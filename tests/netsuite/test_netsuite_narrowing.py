"""Conditions of incremental queries: exact to the second in UTC, and such that an index can serve."""

from dataclasses import replace

import pytest

from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.netsuite.narrowing import (
    alive,
    changed,
    changed_parents,
    deleted,
    left,
    of_family,
    touched,
    touched_keys,
)
from waveimport.netsuite.suiteql import count_query, page_query

SINCE = "2026-03-01 02:30:00"
ID = Column("id", ColumnKind.INTEGER, target="id")
AT = Column("lastmodifieddate", ColumnKind.TIMESTAMP, target="lastmodifieddate")
ORDER = RecordSettings("order", "transaction", (ID, AT), where="type = 'SalesOrd'", cursor="lastmodifieddate")
LINE = RecordSettings(
    "line",
    "transactionline",
    (ID, Column("transaction", ColumnKind.INTEGER, target="transaction"), AT),
    derived_from="order",
    parent_key="transaction",
    cursor="lastmodifieddate",
)
TAX = replace(LINE, name="tax", table="tax", derived_from="line", parent_key="transaction", where="amount <> 0")
EXACT = "TO_CHAR(SYS_EXTRACT_UTC(t.lastmodifieddate),'YYYY-MM-DD HH24:MI:SS')"
COARSE = "t.lastmodifieddate >= TO_DATE('2026-02-28','YYYY-MM-DD')"
NOW_ON = f"{COARSE} AND {EXACT} >= '{SINCE}'"


def test_changes_are_those_of_the_moment_and_later_beside_the_records_own_condition() -> None:
    """The coarse bound lies a day before: no clock of an account is further from UTC."""
    assert changed(ORDER, SINCE).where == f"(type = 'SalesOrd') AND {NOW_ON}"
    assert changed(LINE, SINCE).where == NOW_ON


def test_a_cursor_that_is_a_date_is_compared_by_the_day_before() -> None:
    by_day = replace(ORDER, columns=(ID, replace(AT, kind=ColumnKind.DATE)), where=None)
    assert changed(by_day, SINCE).where == COARSE


def test_a_record_without_a_cursor_has_no_changes() -> None:
    with pytest.raises(ValueError, match="order has no cursor"):
        changed(replace(ORDER, cursor=None), SINCE)


def test_what_left_is_what_changed_and_does_not_meet_the_condition_nor_fails_to_say_so() -> None:
    narrowed = left(ORDER, SINCE)
    assert narrowed.where == f"(CASE WHEN (type = 'SalesOrd') THEN 1 ELSE 0 END = 0) AND {NOW_ON}"
    assert [column.name for column in narrowed.columns] == ["id"]


def test_the_log_of_deletions_is_read_by_the_number_of_what_was_deleted() -> None:
    query = page_query(deleted(SINCE), after=(7,))
    assert query.startswith("SELECT t.recordid FROM deletedrecord t ")
    assert query.endswith("AND t.recordid > 7 ORDER BY t.recordid")
    assert "t.deleteddate >= TO_DATE('2026-02-28','YYYY-MM-DD')" in query


def test_a_key_is_alive_where_the_record_still_has_it() -> None:
    assert page_query(alive(ORDER), parents=[1, 2]) == (
        "SELECT t.id FROM transaction t WHERE (type = 'SalesOrd') AND t.id IN (1,2) ORDER BY t.id"
    )


def test_parents_of_changed_rows_are_each_asked_for_once_and_of_the_main_record_only() -> None:
    query = page_query(changed_parents(LINE, [ORDER], SINCE), after=(5,), distinct=True)
    within = "SELECT id FROM transaction WHERE (type = 'SalesOrd')"
    assert query == (
        f"SELECT DISTINCT t.transaction FROM transactionline t WHERE ({NOW_ON} AND t.transaction IN ({within}))"
        " AND t.transaction > 5 ORDER BY t.transaction"
    )


def test_a_record_of_the_third_degree_is_held_to_all_above_it() -> None:
    lines = "SELECT id FROM transactionline WHERE transaction IN (SELECT id FROM transaction WHERE (type = 'SalesOrd'))"
    narrowed = changed_parents(TAX, [LINE, ORDER], SINCE)
    assert narrowed.where == f"{NOW_ON} AND t.transaction IN ({lines})", "what left its condition has changed too"


def test_a_parent_of_another_kind_or_none_is_never_asked_for() -> None:
    """A contact may be of a customer, of a vendor or of nobody."""
    narrowed = changed_parents(LINE, [replace(ORDER, where=None)], SINCE)
    assert narrowed.where == f"{NOW_ON} AND t.transaction IN (SELECT id FROM transaction)"


def test_a_derived_record_is_counted_over_the_parents_of_its_family() -> None:
    lines = "SELECT id FROM transactionline WHERE transaction IN (SELECT id FROM transaction WHERE (type = 'SalesOrd'))"
    assert count_query(of_family(TAX, [LINE, ORDER])) == (
        f"SELECT COUNT(*) AS n FROM tax t WHERE ((amount <> 0) AND t.transaction IN ({lines}))"
    )


def test_lines_are_touched_by_their_own_cursor_or_by_that_of_any_above() -> None:
    """Inside a subquery columns stand alone: `t` is the table that is counted."""
    orders = "SELECT id FROM transaction WHERE (type = 'SalesOrd')"
    since = NOW_ON.replace("t.", "")
    narrowed = touched(LINE, [ORDER], SINCE)
    assert narrowed is not None
    assert narrowed.where == (
        f"t.transaction IN ({orders}) AND (({NOW_ON}) OR t.transaction IN ({orders} AND {since}))"
    )
    silent = replace(LINE, cursor=None)
    narrowed = touched(replace(TAX, cursor=None), [silent, ORDER], SINCE)
    assert narrowed is not None
    lines = "SELECT id FROM transactionline WHERE transaction IN ({})"
    assert narrowed.where == (
        f"(amount <> 0) AND t.transaction IN ({lines.format(orders)})"
        f" AND (t.transaction IN ({lines.format(f'{orders} AND {since}')}))"
    )
    assert touched(silent, [replace(ORDER, cursor=None)], SINCE) is None


def test_what_was_touched_may_never_have_been_the_records() -> None:
    assert page_query(touched_keys(ORDER, SINCE)) == f"SELECT t.id FROM transaction t WHERE ({NOW_ON}) ORDER BY t.id"
