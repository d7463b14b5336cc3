"""The text of the queries: each example of the docstrings, and what each rule of the service forbids."""

import pytest

from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.core.values import Value
from waveimport.netsuite.suiteql import bounds_query, page_query, trial_query

ID = Column("id", ColumnKind.INTEGER)
ORDER = RecordSettings(
    "salesorder",
    "transaction",
    (ID, Column("tranid", ColumnKind.TEXT), Column("trandate", ColumnKind.DATE)),
    where="type = 'SalesOrd'",
)
LINE = RecordSettings(
    "salesorderline",
    "transactionline",
    (Column("transaction", ColumnKind.INTEGER), ID, Column("foreignamount", ColumnKind.DECIMAL, 15, 2)),
    key=("transaction", "id"),
    derived_from="salesorder",
    parent_key="transaction",
)
ACCOUNT = RecordSettings("account", "account", (ID,))


def condition(query: str) -> str:
    return query.partition(" WHERE ")[2].partition(" ORDER BY ")[0]


def test_the_bounds_of_an_integer_key_are_asked_with_the_count() -> None:
    assert bounds_query(ORDER) == (
        "SELECT COUNT(*) AS n, MIN(t.id) AS lo, MAX(t.id) AS hi FROM transaction t WHERE (type = 'SalesOrd')"
    )
    assert bounds_query(ACCOUNT) == "SELECT COUNT(*) AS n, MIN(t.id) AS lo, MAX(t.id) AS hi FROM account t"


def test_a_key_that_is_no_integer_has_a_count_alone() -> None:
    currency = RecordSettings("currency", "currency", (Column("symbol", ColumnKind.TEXT),), key=("symbol",))
    assert bounds_query(currency) == "SELECT COUNT(*) AS n FROM currency t"


def test_a_page_inside_a_range_starts_after_the_last_row() -> None:
    assert page_query(ORDER, lower=0, upper=5000, after=(1000,)) == (
        "SELECT t.id, t.tranid, TO_CHAR(t.trandate,'YYYY-MM-DD') AS trandate FROM transaction t"
        " WHERE (type = 'SalesOrd') AND t.id <= 5000 AND t.id > 1000 ORDER BY t.id"
    )


def test_a_range_excludes_its_lower_end_and_includes_its_upper_one() -> None:
    assert condition(page_query(ACCOUNT, lower=-7, upper=20)) == "t.id > -7 AND t.id <= 20"


def test_an_open_range_has_no_condition() -> None:
    assert page_query(ACCOUNT) == "SELECT t.id FROM account t ORDER BY t.id"


def test_the_configured_condition_is_kept_together() -> None:
    either = RecordSettings("a", "a", (ID,), where="x = 1 OR y = 2")
    assert condition(page_query(either, lower=5)) == "(x = 1 OR y = 2) AND t.id > 5"


def test_a_composite_key_goes_on_inside_the_same_first_key() -> None:
    query = page_query(LINE, after=(70, 3))
    assert condition(query) == "(t.transaction >= 70 AND (t.transaction > 70 OR t.id > 3))"
    assert query.endswith(" ORDER BY t.transaction, t.id")


def test_a_key_of_three_is_compared_as_a_tuple() -> None:
    columns = tuple(Column(name, ColumnKind.INTEGER) for name in "abc")
    three = RecordSettings("three", "three", columns, key=("a", "b", "c"))
    text = condition(page_query(three, after=(1, 1, 1)))
    python = text.replace("t.", "").replace(" AND ", " and ").replace(" OR ", " or ")
    for row in [(a, b, c) for a in range(3) for b in range(3) for c in range(3)]:
        named = dict(zip("abc", row, strict=True))
        assert eval(python, {}, named) == (row > (1, 1, 1)), row


def test_parents_are_an_in_list() -> None:
    assert condition(page_query(LINE, parents=[5, -7, 12])) == "t.transaction IN (5,-7,12)"
    assert condition(page_query(LINE, parents=["a'b"])) == "t.transaction IN ('a''b')"


@pytest.mark.parametrize("count", [0, 1001])
def test_more_parents_than_the_service_takes_are_refused(count: int) -> None:
    with pytest.raises(ValueError, match="1 to 1000"):
        page_query(LINE, parents=range(count))
    page_query(LINE, parents=range(1000))


def test_parents_of_a_main_record_are_refused() -> None:
    with pytest.raises(ValueError, match="no parent key"):
        page_query(ACCOUNT, parents=[1])


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        (Column("k", ColumnKind.TEXT), "O'Brien", "t.k > 'O''Brien'"),
        (Column("k", ColumnKind.BOOLEAN), 0, "t.k > 'F'"),
        (Column("k", ColumnKind.DECIMAL, 5, 2), "-1.50", "t.k > -1.50"),
        (Column("k", ColumnKind.FLOAT), 1.5, "t.k > 1.5"),
        (Column("k", ColumnKind.DATE), "2026-01-31", "TO_CHAR(t.k,'YYYY-MM-DD') > '2026-01-31'"),
        (
            Column("k", ColumnKind.TIMESTAMP),
            "2026-01-31 12:00:00",
            "TO_CHAR(SYS_EXTRACT_UTC(t.k),'YYYY-MM-DD HH24:MI:SS') > '2026-01-31 12:00:00'",
        ),
    ],
)
def test_a_key_is_selected_compared_and_ordered_by_one_expression(column: Column, value: Value, expected: str) -> None:
    record = RecordSettings("r", "r", (column,), key=("k",))
    query = page_query(record, after=(value,))
    assert condition(query) == expected
    expression = expected.rpartition(" > ")[0]
    assert query.startswith(f"SELECT {expression}")
    assert query.endswith(f" ORDER BY {expression}")


def test_a_value_that_is_not_of_its_keys_type_is_refused() -> None:
    texts = (ColumnKind.TEXT, ColumnKind.DATE, ColumnKind.TIMESTAMP)
    for kind in ColumnKind:
        record = RecordSettings("r", "r", (Column("id", kind, 5, 2),))
        for value in (5, None) if kind in texts else ("1 OR 1=1", None):
            with pytest.raises(ValueError, match="no value of the key column id"):
                page_query(record, after=(value,))
    with pytest.raises(ValueError, match="2 key values for the 1 key columns"):
        page_query(ACCOUNT, after=(1, 2))


def test_a_name_that_is_no_plain_identifier_is_quoted_and_given_an_alias() -> None:
    record = RecordSettings(
        "odd",
        "odd",
        (ID, Column('a "b"', ColumnKind.TEXT), Column("Links", ColumnKind.TEXT), Column("ID", ColumnKind.TEXT)),
    )
    assert page_query(record) == ('SELECT t.id, t."a ""b""" AS c1, t.Links AS c2, t.ID AS c3 FROM odd t ORDER BY t.id')


def test_neither_to_date_nor_to_timestamp_is_used() -> None:
    record = RecordSettings(
        "r",
        "r",
        (Column("d", ColumnKind.DATE), Column("s", ColumnKind.TIMESTAMP), ID),
        key=("d", "s", "id"),
    )
    query = page_query(record, after=("2026-01-01", "2026-01-01 00:00:00", 1))
    assert "TO_DATE" not in query
    assert "TO_TIMESTAMP" not in query


def test_a_page_that_was_read_in_part_is_asked_for_up_to_its_last_row() -> None:
    assert condition(page_query(ACCOUNT, lower=-7, upper=20, until=(12,))) == (
        "t.id > -7 AND t.id <= 20 AND t.id <= 12"
    )
    assert condition(page_query(LINE, after=(70, 3), until=(80, 1))).endswith(
        " AND (t.transaction <= 80 AND (t.transaction < 80 OR t.id <= 1))"
    )
    with pytest.raises(ValueError, match="2 key values"):
        page_query(ACCOUNT, until=(1, 2))


def test_a_trial_reads_no_row_where_the_key_is_an_integer() -> None:
    assert condition(trial_query(ACCOUNT)) == "t.id > 0 AND t.id <= 0"
    named = RecordSettings("c", "c", (Column("symbol", ColumnKind.TEXT),), key=("symbol",))
    assert trial_query(named) == "SELECT t.symbol FROM c t ORDER BY t.symbol"
