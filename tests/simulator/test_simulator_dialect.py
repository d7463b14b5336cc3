"""SuiteQL as the account answers and refuses it, asked of the small account's file."""

import re
from pathlib import Path

import msgspec
import pytest

from waveimport.simulator.dataset import ground_truth
from waveimport.simulator.dialect import Translator
from waveimport.simulator.literals import lift
from waveimport.simulator.queries import Queries
from waveimport.simulator.refusals import Refusal

Item = dict[str, str]


@pytest.fixture
def queries(small_account: Path) -> Queries:
    return Queries(small_account)


def items(queries: Queries, query: str, limit: int = 1000) -> list[Item]:
    page = msgspec.json.decode(queries.page(query, (), limit, 0, "http://account"))
    assert page["count"] == len(page["items"])
    return [{name: value for name, value in item.items() if name != "links"} for item in page["items"]]


def one(queries: Queries, expression: str, table: str = "customer WHERE id = 1002") -> str | None:
    (item,) = items(queries, f"SELECT {expression} AS x FROM {table}")
    return item.get("x")


def ids(queries: Queries, tail: str, table: str = "customer") -> list[int]:
    return [int(item["id"]) for item in items(queries, f"SELECT id FROM {table} {tail}")]


def refusal(queries: Queries, query: str) -> str:
    with pytest.raises(Refusal) as caught:
        queries.page(query, (), 1000, 0, "http://account")
    assert caught.value.status == 400
    assert caught.value.place == ("o:errorQueryParam", "q")
    head = "Invalid search query. Detailed unprocessed description follows. "
    assert caught.value.detail.startswith(head)
    return caught.value.detail.removeprefix(head)


# --- times ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("lastmodifieddate", "2/2/1993"),  # the account's format, the time lost
        ("TO_CHAR(SYS_EXTRACT_UTC(lastmodifieddate), 'YYYY-MM-DD HH24:MI:SS')", "1993-02-02 07:13:29"),
        ("TO_CHAR(lastmodifieddate, 'YYYY-MM-DD HH24:MI:SS')", "1993-02-02 00:13:29"),  # seven hours behind UTC
        ("""TO_CHAR(SYS_EXTRACT_UTC(lastmodifieddate), 'YYYY-MM-DD"T"HH24:MI:SS"Z"')""", "1993-02-02T07:13:29Z"),
        ("TO_CHAR(lastmodifieddate, 'DD.MM.YY HH12:MI AM')", "02.02.93 12:13 AM"),
        ("TO_CHAR(lastmodifieddate, 'DD-MON-YYYY')", "02-FEB-1993"),
        ("TO_CHAR(TRUNC(lastmodifieddate, 'MM'), 'YYYY-MM-DD')", "1993-02-01"),
    ],
)
def test_a_time_comes_as_it_was_asked_for(queries: Queries, expression: str, expected: str) -> None:
    assert one(queries, expression) == expected


def test_a_date_has_no_leading_zeros_unless_a_format_asks(queries: Queries) -> None:
    order = "transaction WHERE id = 1"
    assert one(queries, "trandate", order) == "1/2/1996"
    assert one(queries, "TO_CHAR(trandate, 'YYYY-MM-DD')", order) == "1996-01-02"
    assert one(queries, "TO_CHAR(trandate, 'YYYY-MM-DD HH24:MI')", order) == "1996-01-02 00:00"


def test_a_literal_time_is_the_accounts_own(queries: Queries) -> None:
    # 07:13:29 UTC is 00:13:29 in the account's zone, so the first bound takes the row and the second does not.
    for bound, found in (("1993-02-02 00:13:29", True), ("1993-02-02 00:13:30", False)):
        tail = f"WHERE lastmodifieddate >= TO_TIMESTAMP('{bound}', 'YYYY-MM-DD HH24:MI:SS')"
        assert (1002 in ids(queries, tail)) is found


def test_a_date_equals_its_midnight(queries: Queries) -> None:
    for literal in (
        "TO_DATE('1996-01-02', 'YYYY-MM-DD')",
        "TO_DATE('01/02/1996', 'MM/DD/YYYY')",
        "TO_DATE('1996-01-02 00:00', 'YYYY-MM-DD HH24:MI')",
    ):
        assert 1 in ids(queries, f"WHERE trandate = {literal}", "transaction"), literal


def test_a_literal_that_is_not_of_its_format_is_refused(queries: Queries) -> None:
    tail = "WHERE trandate = TO_DATE('1996-13-02', 'YYYY-MM-DD')"
    assert "Invalid or unsupported" in refusal(queries, f"SELECT id FROM transaction {tail}")


# --- numbers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("balance", "711.56"),
        ("balance + 0.004", "711.564"),
        ("balance - 711.57", "-0.01"),
        ("balance * 0.5", "355.78"),
        ("-balance", "-711.56"),
        ("balance - balance", "0"),
        ("id * 2", "2004"),
        ("TRUNC(balance)", "711"),
        ("ABS(0 - balance)", "711.56"),
        ("MOD(id, 10)", "2"),
        ("TO_CHAR(balance)", "711.56"),
        ("id / 4", "250.5"),
    ],
)
def test_decimals_are_exact(queries: Queries, expression: str, expected: str) -> None:
    assert one(queries, expression) == expected


def test_sums_of_money_are_exact(queries: Queries) -> None:
    cents = sum(round(float(item["balance"]) * 100) for item in items(queries, "SELECT balance FROM customer"))
    assert one(queries, "SUM(balance)", "customer") == f"{cents // 100}.{cents % 100:02d}".rstrip("0").rstrip(".")


def test_numbers_are_compared_as_numbers(queries: Queries) -> None:
    assert ids(queries, "WHERE balance = 711.560") == [1002]
    assert ids(queries, "WHERE id = '1002'") == [1002]
    assert ids(queries, "WHERE id IN ('1002', '1004') ORDER BY id") == [1002, 1004]
    assert ids(queries, "WHERE balance IN (711.56, 121.65) ORDER BY id") == [1002, 1004]
    assert ids(queries, "WHERE id > 1001.5 AND id < 1004") == [1002]
    top = [float(item["balance"]) for item in items(queries, "SELECT balance FROM customer ORDER BY balance DESC")]
    assert top == sorted(top, reverse=True)


# --- conditions and functions -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tail", "expected"),
    [
        ("WHERE id IN (1002, 1004, 1006) AND NOT id = 1004 ORDER BY id", [1002, 1006]),
        ("WHERE id <= 1006 AND email IS NULL ORDER BY id", [-5, 1006]),
        ("WHERE id <= 1006 AND email IS NOT NULL ORDER BY id", [1002, 1004]),
        ("WHERE id BETWEEN 1002 AND 1006 AND id NOT IN (1004) ORDER BY id DESC", [1006, 1002]),
        ("WHERE id = 1002 OR id = 1006 AND id <> 1002 ORDER BY 1", [1002, 1006]),
        ("WHERE (id = 1002 OR id = 1006) AND id != 1002", [1006]),
        ("WHERE entityid LIKE 'Customer#00000000_' AND id < 1008 ORDER BY id", [1002, 1004, 1006]),
        ("WHERE entityid LIKE 'customer%'", []),  # upper case is not lower case
        ("WHERE companyname LIKE '%東京%' AND id < 1012", [1008]),
        ("WHERE companyname = 'O''Neil \"Bold\" Supplies 5'", [1010]),
        ("WHERE 'a -- b' = 'a -- b' AND id = 1002 -- id = 1004", [1002]),
        ("WHERE /* IN (1, 2) */ id = 1002", [1002]),
        ("t WHERE t.id = 1002", [1002]),
        ("WHERE id IN (SELECT entity FROM transaction WHERE id = 1)", [1074]),
    ],
)
def test_conditions_find_their_rows(queries: Queries, tail: str, expected: list[int]) -> None:
    assert ids(queries, tail) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("NVL(email, 'none')", "none"),
        ("NVL2(email, 'some', 'none')", "none"),
        ("COALESCE(email, phone)", "11-719-748-3364"),
        ("DECODE(id, 1004, 'four', 1006, 'six')", "six"),
        ("DECODE(id, 1, 'one')", None),
        ("DECODE(email, NULL, 'no mail', 'mail')", "no mail"),
        ("CASE WHEN balance > 7498 THEN 1.5 ELSE 2 END", "1.5"),
        ("CASE id WHEN 1006 THEN 'six' END", "six"),
        ("SUBSTR(entityid, 1, 8)", "Customer"),
        ("UPPER(entityid)", "CUSTOMER#000000003"),
        ("entityid || '/' || email", "Customer#000000003/"),  # NULL is an empty string
        ("BUILTIN.DF(subsidiary)", "ARGENTINA"),
        ("BUILTIN.DF(id)", "1006"),
    ],
)
def test_functions_give_their_values(queries: Queries, expression: str, expected: str | None) -> None:
    assert one(queries, expression, "customer WHERE id = 1006") == expected


def test_an_entity_displays_a_customer_or_a_vendor(queries: Queries) -> None:
    query = "SELECT type, BUILTIN.DF(entity) e FROM transaction WHERE id IN (1, 25) ORDER BY id"
    assert items(queries, query) == [
        {"type": "SalesOrd", "e": "Customer#000000037"},
        {"type": "VendBill", "e": "Supplier#000000001"},
    ]


def test_joins_group_and_count(queries: Queries) -> None:
    by_join = items(
        queries,
        "SELECT t.type, COUNT(*) n, COUNT(DISTINCT t.id) m, COUNT(l.item) i FROM transaction t "
        "INNER JOIN transactionline l ON l.transaction = t.id GROUP BY t.type HAVING COUNT(*) > 100 ORDER BY t.type",
    )
    by_comma = items(
        queries,
        "SELECT t.type, COUNT(*) n, COUNT(DISTINCT t.id) m, COUNT(l.item) i FROM transaction t, transactionline l "
        "WHERE l.transaction = t.id GROUP BY t.type HAVING COUNT(*) > 100 ORDER BY t.type",
    )
    assert by_join == by_comma
    assert by_join[-1] == {"type": "SalesOrd", "n": "6005", "m": "1500", "i": "6005"}
    left = "SELECT COUNT(*) n, COUNT(s.id) m FROM subsidiary t LEFT JOIN subsidiary s ON s.id = t.parent"
    assert items(queries, left) == [{"n": "31", "m": "25"}]


def test_nulls_sort_as_in_oracle(queries: Queries) -> None:
    ascending = items(queries, "SELECT parent FROM subsidiary ORDER BY parent, id")
    assert [item == {} for item in ascending] == [False] * 25 + [True] * 6
    assert items(queries, "SELECT parent FROM subsidiary ORDER BY parent DESC, id")[0] == {}
    assert items(queries, "SELECT parent FROM subsidiary ORDER BY parent DESC NULLS LAST, id")[0] == {"parent": "5"}


def test_a_star_is_every_column(queries: Queries) -> None:
    (item,) = items(queries, "SELECT * FROM subsidiary WHERE id = 1")
    assert list(item) == [
        "id", "name", "fullname", "isinactive", "iselimination", "lastmodifieddate", "custrecord_comment",
        "custrecord_regionkey",
    ]  # fmt: skip


# --- taking rows ------------------------------------------------------------------------------------------------


def test_rownum_is_assigned_before_the_order(queries: Queries) -> None:
    first = ids(queries, "ORDER BY id FETCH FIRST 5 ROWS ONLY")
    taken = ids(queries, "WHERE ROWNUM <= 5 ORDER BY id")
    assert first == [-5, 1002, 1004, 1006, 1008]
    assert len(taken) == 5
    assert taken == sorted(taken)
    assert taken != first


def test_rownum_around_an_ordered_query_takes_the_first(queries: Queries) -> None:
    query = "SELECT id FROM (SELECT id FROM customer WHERE id > 1002 ORDER BY id) WHERE ROWNUM <= 2"
    assert items(queries, query) == [{"id": "1004"}, {"id": "1006"}]
    assert ids(queries, "WHERE ROWNUM < 3") != []
    assert len(ids(queries, "WHERE ROWNUM < 3")) == 2
    assert ids(queries, "WHERE ROWNUM = 2") == []


def test_offset_of_sql_is_ignored(queries: Queries) -> None:
    for offset in (0, 3, 6):
        assert ids(queries, f"ORDER BY id OFFSET {offset} ROWS FETCH NEXT 3 ROWS ONLY") == [-5, 1002, 1004]


def test_top_takes_the_first_rows(queries: Queries) -> None:
    assert [i["id"] for i in items(queries, "SELECT TOP 2 id FROM customer ORDER BY id")] == ["-5", "1002"]


def test_the_total_counts_all_rows_of_the_query(queries: Queries) -> None:
    for query, total in (
        ("SELECT id FROM transaction WHERE type = 'SalesOrd' ORDER BY id", 1500),
        ("SELECT id FROM transaction ORDER BY id FETCH FIRST 70 ROWS ONLY", 70),
        ("SELECT id FROM transaction WHERE ROWNUM <= 60", 60),
        ("SELECT type, COUNT(*) FROM transaction GROUP BY type", 4),
        ("SELECT DISTINCT type FROM transaction", 4),
        ("SELECT COUNT(*) FROM transaction", 1),
    ):
        page = msgspec.json.decode(queries.page(query, (), 1, 0, "http://account"))
        assert page["totalResults"] == total, query


# --- refusals ---------------------------------------------------------------------------------------------------


def test_an_unknown_column_is_an_unknown_identifier(queries: Queries) -> None:
    assert refusal(queries, "SELECT t.subsidiary FROM transaction t") == (
        "Search error occurred: Unknown identifier 't.subsidiary'. Available identifiers are: {t=transaction}."
    )
    assert refusal(queries, "SELECT id FROM transaction WHERE subsidiary = 1") == (
        "Search error occurred: Unknown identifier 'subsidiary'. Available identifiers are: {transaction=transaction}."
    )


def test_an_unknown_table_is_an_invalid_search_type(queries: Queries) -> None:
    assert refusal(queries, "SELECT id FROM salesorder") == "Invalid search type: salesorder."


def test_what_the_role_cannot_see_looks_like_absence(small_account: Path) -> None:
    queries = Queries(small_account, frozenset({"vendor", "transaction.entity"}))
    assert refusal(queries, "SELECT id FROM vendor") == "Search error occurred: Record 'vendor' was not found."
    assert "Unknown identifier 'entity'" in refusal(queries, "SELECT entity FROM transaction")
    assert "entity" not in items(queries, "SELECT * FROM transaction WHERE id = 1")[0]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT id FROM item LIMIT 5",
        "WITH x AS (SELECT id FROM item) SELECT id FROM x",
        "SELECT id FROM transaction WHERE trandate > DATE '2020-01-01'",
        "SELECT id FROM transaction WHERE lastmodifieddate > TIMESTAMP '2020-01-01 00:00:00'",
        "SELECT [id] FROM item",
        "SELECT entityid + companyname FROM customer",
        "SELECT id FROM transaction WHERE trandate > '2020-01-01'",
        "SELECT t.id FROM transaction t, customer c WHERE t.entity = c.id(+)",
        "SELECT LISTAGG(id) FROM item",
        "SELECT LEFT(entityid, 1) FROM customer",
        "SELECT id FROM item UNION SELECT id FROM customer",
        "SELECT id, entityid FROM customer GROUP BY id",
        "SELECT id, COUNT(*) FROM customer",
        "SELECT id FROM item; DELETE FROM item",
        "DELETE FROM item",
        "SELECT id FROM item WHERE id = :id",
        "SELECT id, FROM item",
        "SELECT id FROM item WHERE id = 'unterminated",
        "SELECT id FROM item WHERE",
        "SELECT id FROM item WHERE id = 99999999999999999999",
        "SELECT id FROM main.item",
        "SELECT name FROM sqlite_master",
        "SELECT 1",
        "SELECT ((((((",
        "",
    ],
)
def test_what_the_dialect_has_no_words_for_is_refused(queries: Queries, query: str) -> None:
    assert re.search("Invalid or unsupported search|Invalid search type", refusal(queries, query))


def test_a_column_of_two_tables_is_ambiguous(queries: Queries) -> None:
    query = "SELECT id FROM transaction t, customer c WHERE c.id = t.entity"
    assert refusal(queries, query) == "Search error occurred: Field 'id' is ambiguous."


def test_one_thousand_arguments_of_in_are_the_most(queries: Queries, small_account: Path) -> None:
    def listed(length: int) -> str:
        return ", ".join(str(number) for number in range(length))

    below = [int(str(key)) for (key,) in ground_truth(small_account, "transaction", ["id"], "id < 1000")]
    assert sorted(ids(queries, f"WHERE id IN ({listed(1000)})", "transaction")) == below
    assert "1001 arguments" in refusal(queries, f"SELECT id FROM transaction WHERE id IN ({listed(1001)})")
    words = ", ".join(f"'{number}'" for number in range(1001))
    assert "1001 arguments" in refusal(queries, f"SELECT id FROM transaction WHERE tranid IN ({words})")


# --- shapes -----------------------------------------------------------------------------------------------------


def test_pages_of_one_query_share_a_translation() -> None:
    translator = Translator()
    page = "SELECT id FROM transaction WHERE type = 'SalesOrd' AND id > {} AND entity IN ({}) ORDER BY id"
    first, _ = translator.translate(page.format(5, "1,2,3"))
    second, values = translator.translate(page.format(-77, "4"))
    assert first is second
    assert sorted(map(str, values.values())) == ["-77", "SalesOrd", "[4]"]


def test_kept_translations_are_bounded() -> None:
    translator = Translator()
    for number in range(600):
        translator.translate(f"SELECT id AS a{number} FROM item")
    assert len(translator._kept) == 512


@pytest.mark.parametrize(
    ("query", "shape", "values"),
    [
        ("a = 'it''s' AND b > -1.50", "a = :s_0 AND b > :n2_1", {"s_0": "it's", "n2_1": -150}),
        ("a IN ( 1 ,-2 )", "a IN (:ln_0)", {"ln_0": "[1,-2]"}),
        ("a IN ('x','1 = 2')", "a IN (:ls_0)", {"ls_0": '["x","1 = 2"]'}),
        ("a || ' = 5'", "a || ' = 5'", {}),
        ("TO_CHAR(a, 'YYYY') = '1'", "TO_CHAR(a, 'YYYY') = :s_0", {"s_0": "1"}),
        ("a BETWEEN 1 AND 'b'", "a BETWEEN :n0_0 AND :s_1", {"n0_0": 1, "s_1": "b"}),
        ("a = 1e5", "a = 1e5", {}),
    ],
)
def test_literals_are_lifted_and_nothing_else(query: str, shape: str, values: dict[str, object]) -> None:
    lifted = lift(query)
    assert (lifted.shape, lifted.values) == (shape, values)
