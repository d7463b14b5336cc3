"""The fault matrix, its data and names: what does not fit is refused in a sentence, what fits lands as it is.

The table of all cells is in `test_e2e_fault_matrix`.
"""

import json
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matrix_world import RUN, Account, End, Matrix, page_of
from netsuite_server import Handler, Step, reply

ONE_TRY = RUN.replace("max_tries = 3", "max_tries = 1").replace("= 0.2", "= 20")
POISONED_RANGE = "t.id <= 10"
"""Of the first of three ranges: ten orders, in two pages."""


def items(behind: int = 0, **changed: Any) -> list[dict[str, Any]]:
    """The first page of the range of ten behind a key, its third row changed; `None` leaves a column out."""
    keys = range(behind + 1, behind + 6)
    rows: list[dict[str, Any]] = [{"links": [], "id": str(key), "memo": f"memo {key}"} for key in keys]
    rows[2] = {name: value for name, value in (rows[2] | changed).items() if value is not None}
    return rows


def answer(body: bytes) -> Step:
    return reply(200, body, "application/vnd.oracle.resource+json; type=collection")


# What the service answers for a range of ten behind a key, and a part of the sentence.
REFUSED: dict[str, tuple[Callable[[int], bytes], str]] = {
    "bad JSON": (lambda k: b'{"items": [}', "the reply is not JSON"),
    "NaN": (lambda k: page_of(items(k, memo=float("nan"))), "NaN is no JSON"),
    "NaN in a text": (lambda k: page_of(items(k, id="NaN")), "the value 'NaN' is not an integer"),
    "Infinity": (lambda k: page_of(items(k, memo=float("inf"))), "Infinity is no JSON"),
    "2^63": (lambda k: page_of(items(k, id=str(2**63))), "does not fit into a signed 64-bit integer"),
    "half a surrogate pair": (lambda k: page_of(items(k, memo="\ud800")), "half of a surrogate pair"),
    "NUL": (lambda k: page_of(items(k, memo="a\0b")), "contains a NUL character"),
    "a nested value": (lambda k: page_of(items(k, memo={"a": 1})), "is a JSON object, not a plain value"),
    "no UTF-8": (lambda k: page_of(items(k, memo="~")).replace(b"~", b"\xff"), "the reply is not JSON"),
    "an extra column": (lambda k: page_of(items(k, other="x")), "a column that was not asked for: 'other'"),
    "a column twice": (lambda k: page_of(items(k, MEMO="x")), "carries the column 'MEMO' twice"),
    "a key left out": (lambda k: page_of(items(k, id=None)), "is NULL, but the column is part of the key"),
    "duplicate keys": (lambda k: page_of(items(k, id=str(k + 2))), "have the same key"),
    "rows out of order": (lambda k: page_of(items(k, id=str(k + 9))), "did not come in the order of their key"),
    "a total that is none": (lambda k: page_of(items(k), totalResults=-1), "`totalResults` is no count"),
    "a count that differs": (lambda k: page_of(items(k), count=7), "announces 7 rows and carries 5"),
    "more, but no rows": (lambda k: page_of([], hasMore=True), "paging would never end"),
    "one page for ever": (lambda k: page_of(items(k), hasMore=True, totalResults=10), "sends none beyond the last key"),
}
UPPER_END = re.compile(r"t\.id <= (\d+)")


def test_pages_that_do_not_fit_fail_their_batches_land_nothing_and_hide_nothing(
    matrix_of_both: Matrix, small_account: Account
) -> None:
    """One run whose ranges meet one of these each, all but the last."""
    names = list(REFUSED)
    small_account.source.fill(range(31, 10 * len(names) + 11), lines_each=1)

    def fault(number: int, sql: str) -> Step | None:
        found = UPPER_END.search(sql)
        if found is None or "COUNT(" in sql:
            return None
        body, _ = REFUSED[names[int(found[1]) // 10 - 1]]
        return answer(body(int(found[1]) - 10))

    small_account.fault = fault
    matrix_of_both.write(ONE_TRY)
    done = matrix_of_both.assert_ends(End(3, "failed", f"{len(names)} batches failed for good"))
    errors = matrix_of_both.query(
        "SELECT batch_id, error FROM wave_batches WHERE status = 'failed' AND record = 'order' ORDER BY batch_id"
    )
    for name, (batch_id, error) in zip(names, errors, strict=True):
        words = REFUSED[name][1]
        assert words in error, name
        assert any(f"batch {batch_id} failed" in line and words in line for line in done.stderr.splitlines()), name
    landed = {row[0] for row in matrix_of_both.query("SELECT id FROM `order`")}
    repeated = range(10 * names.index("one page for ever") + 1, 10 * len(names) - 4)
    assert landed == {*repeated, *range(10 * len(names) + 1, 10 * len(names) + 11)}
    small_account.heal()
    matrix_of_both.assert_the_next_run_brings_the_rest()


def test_pages_that_come_round_again_end_in_a_sentence(matrix: Matrix, small_account: Account) -> None:
    """Each page goes on behind the one before, and yet there is no end."""
    pages = [page_of(items(), hasMore=True, totalResults=10)]
    second = [{"id": str(key), "memo": f"memo {key}"} for key in range(6, 11)]
    pages.append(page_of(second, hasMore=True, totalResults=5))
    matrix.write(ONE_TRY)
    small_account.fault = lambda number, sql: answer(pages["t.id > 5" in sql]) if POISONED_RANGE in sql else None
    matrix.assert_ends(End(3, "failed", "sends rows again that it has sent"))
    small_account.heal()
    matrix.assert_the_next_run_brings_the_rest()


def test_pages_of_a_text_key_that_come_round_again_end_in_a_sentence_too(
    make_matrix: Callable[..., Matrix], tmp_path: Path, small_account: Account
) -> None:
    """How a source sorts texts is its own affair: that a page was seen already is known by its end."""
    by_memo = '[records.order]\ntable = "orders"\nkey = "memo"\ncolumns = { memo = "text", id = "integer" }\n'
    pages = [page_of(items(), hasMore=True, totalResults=10)]
    second = [{"id": str(key), "memo": f"memo {key}"} for key in range(6, 9)]
    pages.append(page_of(second, hasMore=True, totalResults=5))
    small_account.fault = lambda number, sql: (
        None if "COUNT(" in sql or "dual" in sql else answer(pages["t.memo > 'memo 5'" in sql])
    )
    matrix = make_matrix(f"sqlite:///{tmp_path / 'test.db'}", run=ONE_TRY, records=by_memo)
    matrix.assert_told(matrix.run("run"), End(3, "failed", "sends rows again that it has sent"))
    assert matrix.query("SELECT status, row_count FROM wave_batches WHERE kind = 'range'") == [("failed", 8)]


def test_a_key_that_stands_on_both_sides_of_a_page_is_missed_and_told(
    matrix_of_both: Matrix, small_account: Account
) -> None:
    """A key that is not unique: what has the last key of a page, and stands on the next, is behind the paging."""
    small_account.source.execute("INSERT INTO orders VALUES (5, 'twin')")
    done = matrix_of_both.run("run")
    assert done.returncode == 6, done.stderr
    assert "`order`: 31 rows counted at the source, 30 landed" in done.stderr
    assert matrix_of_both.query("SELECT status FROM import_jobs") == [("completed",)]


def test_totals_that_change_from_page_to_page_lose_nothing(matrix_of_both: Matrix, small_account: Account) -> None:
    lock = threading.Lock()
    told = iter(range(10**6))

    def other_total(handler: Handler) -> None:
        page = json.loads(small_account.true_answer(handler))
        if page["items"] and "n" not in page["items"][0]:
            with lock:
                page["totalResults"] = (page["totalResults"] or 0) + next(told) * 7 % 40
        handler.send(200, json.dumps(page).encode())

    small_account.strike(other_total)
    matrix_of_both.assert_the_next_run_brings_the_rest()


def test_columns_that_are_left_out_land_as_null(matrix_of_both: Matrix, small_account: Account) -> None:
    small_account.source.execute("UPDATE orders SET memo = NULL WHERE id % 2")
    matrix_of_both.assert_the_next_run_brings_the_rest()
    small_account.source.execute("UPDATE orders SET memo = CASE WHEN id % 2 THEN 'now' END")
    matrix_of_both.assert_the_next_run_brings_the_rest()


def test_rows_that_come_go_and_move_while_pages_are_read_land_as_they_were_read_and_once(
    matrix_of_both: Matrix, small_account: Account
) -> None:
    """Behind the first page of a range: one of its rows goes, one comes before and one behind, a row not yet read
    goes. Of pages by offset each of them would have moved a row past the reader."""
    changed = threading.Event()

    def change(number: int, sql: str) -> Step | None:
        if POISONED_RANGE in sql and "t.id > 5" in sql and not changed.is_set():
            changed.set()
            for statement in (
                "DELETE FROM orders WHERE id IN (2, 8)",
                "INSERT INTO orders VALUES (0, 'memo 0')",
                "UPDATE orders SET memo = 'moved' WHERE id IN (3, 9)",
            ):
                small_account.source.execute(statement)
        return None

    small_account.fault = change
    done = matrix_of_both.run("run")
    assert changed.is_set()
    assert done.returncode == 0, done.stderr
    rows = matrix_of_both.query("SELECT id, memo FROM `order` WHERE id <= 10 ORDER BY id")
    assert rows == [(key, "moved" if key == 9 else f"memo {key}") for key in range(1, 11) if key != 8]
    assert matrix_of_both.query("SELECT SUM(row_count) FROM wave_batches WHERE record = 'order'") == [(29,)]
    matrix_of_both.assert_coordination_is_whole()


def test_a_field_of_16_mib_lands_or_fails_its_batch_alone(matrix_of_both: Matrix, small_account: Account) -> None:
    """MySQL takes a statement of at most max_allowed_packet, which is 16 MiB by default."""
    matrix_of_both.write(ONE_TRY)
    small_account.source.execute("UPDATE orders SET memo = ? WHERE id = 3", "x" * (16 << 20))
    if matrix_of_both.url.startswith("sqlite"):
        matrix_of_both.assert_the_next_run_brings_the_rest()
        return
    matrix_of_both.assert_ends(End(3, "failed", "more than the server takes at once"))
    assert matrix_of_both.query("SELECT COUNT(*) FROM `order`") == [(20,)]
    small_account.source.execute("UPDATE orders SET memo = 'short' WHERE id = 3")
    matrix_of_both.assert_the_next_run_brings_the_rest()


# --- keys and names ---------------------------------------------------------------------------------------------

CODES = [
    "A", "a", "a ", "a  ", " a", "a\t", "á", "a\u0301", "Á", "ß", "ss", "SS", "ẞ", "i", "I", "\u0131", "İ",
    "\ufb01", "fi", "\U0001f642", "\U0001f643", "%", "_", "'", "\\", "0", "00", "0.0", "ｱ", "ア",
]  # fmt: skip
BY_CODE = """
[records.code]
table = "codes"
key = "code"
columns = { code = "text", n = "integer" }

[records.part]
table = "parts"
key = "part"
derived_from = "code"
parent_key = "code"
columns = { part = "text", code = "text" }
"""


def test_text_keys_that_differ_in_case_accent_or_blank_are_rows_and_parents_of_their_own(
    make_matrix: Callable[..., Matrix], database_url: str, small_account: Account
) -> None:
    source = small_account.source
    source.execute("CREATE TABLE codes (code TEXT PRIMARY KEY, n INTEGER)")
    source.execute("CREATE TABLE parts (part TEXT PRIMARY KEY, code TEXT)")
    for n, code in enumerate(CODES):
        source.execute("INSERT INTO codes VALUES (?, ?)", code, n)
        source.execute("INSERT INTO parts VALUES (?, ?)", f"{code}/1", code)
    matrix = make_matrix(database_url, run=RUN.replace("page_size = 5", "page_size = 2"), records=BY_CODE)
    for _ in range(2):  # the second time every row meets itself
        assert matrix.run("run").returncode == 0
        assert dict(matrix.query("SELECT code, n FROM code")) == {code: n for n, code in enumerate(CODES)}
        assert dict(matrix.query("SELECT part, code FROM part")) == {f"{code}/1": code for code in CODES}
    matrix.assert_coordination_is_whole()


NAMES = [
    'a"b', "a'b", "a`b", "a\\b", "[a]", "a]b",
    "a%b", "a%sb", "%(x)s", "100%", ":name", "?1", "{x}", "$1", "@v", "#tmp", "a;b", "a--b", "/*a*/", "a=b", "a,b",
    "(a)", "a b", " a", "a.b", "t.id",
    "select", "order", "table", "key", "rows", "primary", "rowid", "links", "c1", "_job_id", "_synced_at",
    "x" * 52, "x" * 64, "x" * 65, "x" * 128,
    "größe", "日本", "café", "cafe\u0301", "\U0001f600", "1st", "UPPER", "MiXed",
]  # fmt: skip
HOSTILE = '[records.hostile]\ncolumns = {{ id = "integer", {} }}\n'


TWIN_TABLES = HOSTILE.format('a = "text"') + HOSTILE.format('a = "text"').replace("hostile", "HOSTILE")


def test_49_hostile_column_names_land_under_safe_names_that_are_kept(
    make_matrix: Callable[..., Matrix], database_url: str, small_account: Account
) -> None:
    assert len(NAMES) == len(set(NAMES)) == 49
    quoted = [json.dumps(name, ensure_ascii=False) for name in NAMES]
    columns = ", ".join('"' + name.replace('"', '""') + '" TEXT' for name in NAMES)
    small_account.source.execute(f"CREATE TABLE hostile (id INTEGER PRIMARY KEY, {columns})")
    for key in range(1, 8):
        values = [None if at == key else f"{key} of {name}" for at, name in enumerate(NAMES)]
        small_account.source.execute(f"INSERT INTO hostile VALUES ({', '.join('?' * 50)})", key, *values)
    records = HOSTILE.format(", ".join(f'{name} = "text"' for name in quoted))
    matrix = make_matrix(database_url, records=records)
    for _ in range(2):
        assert matrix.run("run").returncode == 0
    targets = dict(matrix.query("SELECT source_name, column_name FROM import_columns WHERE table_name = 'hostile'"))
    assert set(targets) == {"id", *NAMES}
    assert len({target.lower() for target in targets.values()}) == 50
    listed = ", ".join(f"`{targets[name]}`" for name in NAMES)
    for key, *landed in matrix.query(f"SELECT id, {listed} FROM hostile ORDER BY id"):
        assert landed == [None if at == key else f"{key} of {name}" for at, name in enumerate(NAMES)]


@pytest.mark.parametrize(
    ("records", "words"),
    [
        (HOSTILE.format('memo = "text", MEMO = "text"'), "the columns `memo` and `MEMO` in [records.hostile] meet"),
        (HOSTILE.format('"größe" = "text", "GRÖSSE" = "text"'), "meet in one column"),
        (HOSTILE.format('"a\\u0000b" = "text"'), "is empty, not printable or over 128 characters"),
        (HOSTILE.format(f'"{"x" * 129}" = "text"'), "is empty, not printable or over 128 characters"),
        (HOSTILE.format('"" = "text"'), "is empty, not printable or over 128 characters"),
        (
            HOSTILE.format('a = "text"') + HOSTILE.format('a = "text"').replace("hostile", "HOSTILE"),
            "one destination table",
        ),
    ],
    ids=["case twins", "folded twins", "NUL", "129 characters", "empty", "tables that are case twins"],
)
def test_names_that_cannot_stand_are_told_before_anything_is_written(
    make_matrix: Callable[..., Matrix], database_url: str, small_account: Account, records: str, words: str
) -> None:
    matrix = make_matrix(database_url, records=records)
    matrix.assert_ends(End(2, None, words))
    assert small_account.server.asked == []
