"""A page into rows: the table of types, the shapes that are refused, and the fast reader equal to the slow one."""

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from waveimport.core.records import Page, PageReader, parse_bounds, reply_keys
from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.errors import BadData, BadReply, SourceError

COLUMNS = (
    Column("id", ColumnKind.INTEGER),
    Column("name", ColumnKind.TEXT),
    Column("flag", ColumnKind.BOOLEAN),
    Column("amount", ColumnKind.DECIMAL, 7, 2),
    Column("rate", ColumnKind.FLOAT),
    Column("day", ColumnKind.DATE),
    Column("changed", ColumnKind.TIMESTAMP),
    Column("whole", ColumnKind.DECIMAL, 4, 0),
    Column("share", ColumnKind.DECIMAL, 3, 3),
    Column("number", ColumnKind.INTEGER),
)
RECORD = RecordSettings("thing", "thing", COLUMNS)
READER = PageReader(RECORD)


def body(*items: dict[str, Any], has_more: bool = False, **envelope: Any) -> bytes:
    reply = {
        "links": [{"rel": "self", "href": "http://elsewhere/"}],
        "count": len(items),
        "hasMore": has_more,
        "items": [{"links": []} | item for item in items],
        "offset": 0,
        "totalResults": len(items),
    }
    return json.dumps(reply | envelope).encode()


def read_one(column: str, value: Any) -> Any:
    """Return what `value` becomes in that column, by both readers where the fast one dares."""
    page = READER.read(body({"id": "1", column: value}))
    position = [known.name for known in COLUMNS].index(column)
    return page.rows[0][position]


def test_a_page_comes_back_typed_in_column_order() -> None:
    page = READER.read(
        body(
            {
                "changed": "2026-01-31 23:59:59",
                "name": "Ünal 北",
                "id": "-7",
                "flag": "T",
                "amount": "12.5",
                "rate": "0.25",
                "day": "2024-02-29",
                "whole": "12",
                "share": "-0.125",
                "number": "9223372036854775807",
            },
            {"id": "8"},
            has_more=True,
            totalResults=150_000,
        )
    )
    assert page == Page(
        [
            (
                -7, "Ünal 北", 1, "12.50", 0.25, "2024-02-29", "2026-01-31 23:59:59", "12", "-0.125",
                9223372036854775807,
            ),
            (8, None, None, None, None, None, None, None, None, None),
        ],
        True,
        150_000,
    )  # fmt: skip


def test_an_empty_page_has_no_rows() -> None:
    assert READER.read(body()) == Page([], False, 0)


def test_a_reply_without_a_total_is_read() -> None:
    assert READER.read(b'{"hasMore": false, "items": []}') == Page([], False, None)


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        ("name", "", ""),
        ("name", "null", "null"),
        ("name", 1.50, "1.5"),
        ("name", 9007199254740993, "9007199254740993"),
        ("flag", "F", 0),
        ("flag", True, 1),
        ("flag", False, 0),
        ("number", "-9223372036854775808", -(2**63)),
        ("number", "9007199254740993.0", 9007199254740993),
        ("number", 12, 12),
        ("number", "1e3", 1000),
        ("number", None, None),
        ("amount", "12.50", "12.50"),
        ("amount", "12", "12.00"),
        ("amount", "-0", "0.00"),
        ("amount", "-0.00", "0.00"),
        ("amount", ".5", "0.50"),
        ("amount", "-.5", "-0.50"),
        ("amount", "+7.", "7.00"),
        ("amount", "007.10", "7.10"),
        ("amount", "12.5000000", "12.50"),
        ("amount", "1.25E+2", "125.00"),
        ("amount", "99999.99", "99999.99"),
        ("amount", 12.5, "12.50"),
        ("amount", "0e999999999", "0.00"),
        ("whole", "1e3", "1000"),
        ("whole", "12.0", "12"),
        ("whole", "-0", "0"),
        ("share", "0.125", "0.125"),
        ("share", "0", "0.000"),
        ("rate", "1e-400", 0.0),
        ("rate", 5, 5.0),
        ("rate", ".5", 0.5),
        ("day", "0001-01-01", "0001-01-01"),
        ("day", "9999-12-31", "9999-12-31"),
        ("changed", "2000-02-29 00:00:00", "2000-02-29 00:00:00"),
    ],
)
def test_a_value_becomes(column: str, value: Any, expected: Any) -> None:
    got = read_one(column, value)
    assert (got, type(got)) == (expected, type(expected))


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("name", "a\0b", "NUL"),
        ("name", True, "boolean where text"),
        ("name", [], "JSON list"),
        ("name", {}, "JSON object"),
        ("flag", "true", "neither T nor F"),
        ("flag", "", "neither T nor F"),
        ("flag", "t", "neither T nor F"),
        ("number", "9223372036854775808", "64-bit"),
        ("number", "-9223372036854775809", "64-bit"),
        ("number", "1.5", "has decimals"),
        ("number", "1e-999999999", "has decimals"),
        ("number", "4.99999999999999999999", "has decimals"),
        ("number", "1,2", "not an integer"),
        ("number", "1e999999999999999999999", "not an integer"),
        ("number", "007", "not an integer"),
        ("number", " 7", "not an integer"),
        ("number", "1_0", "not an integer"),
        ("number", "\u0667", "not an integer"),
        ("number", "", "not an integer"),
        ("number", "null", "not an integer"),
        ("number", True, "boolean where integer"),
        ("number", "9" * 5000, "not an integer"),
        ("amount", "1.005", "has 3 decimals"),
        ("amount", "100000.00", "has 6 digits"),
        ("amount", "1e999999999", "digits before the point"),
        ("amount", "NaN", "not a decimal"),
        ("amount", "Infinity", "not a decimal"),
        ("amount", "1,5", "not a decimal"),
        ("amount", "\u0667.50", "not a decimal"),
        ("amount", "", "not a decimal"),
        ("amount", "0" * 300, "not a decimal"),
        ("whole", "12.5", "has 1 decimals"),
        ("share", "1", "has 1 digits"),
        ("rate", "NaN", "not a finite number"),
        ("rate", "inf", "not a finite number"),
        ("rate", "1e999", "too large"),
        ("rate", "null", "not a finite number"),
        ("day", "2026-02-29", "calendar"),
        ("day", "0000-01-01", "calendar"),
        ("day", "3/2/2026", "not a date"),
        ("day", "2026-1-1", "not a date"),
        ("day", "20260101", "not a date"),
        ("day", "2026-01-01 00:00:00", "not a date"),
        ("day", "2026-01-01\n", "not a date"),
        ("changed", "2026-01-01", "not a timestamp"),
        ("changed", "2026-01-01T00:00:00", "not a timestamp"),
        ("changed", "2026-01-01 24:00:00", "calendar"),
        ("changed", "2026-13-01 00:00:00", "calendar"),
    ],
)
def test_a_value_that_does_not_fit_is_refused(column: str, value: Any, reason: str) -> None:
    with pytest.raises(BadData, match=reason) as raised:
        READER.read(body({"id": "1"}, {"id": "42", column: value}))
    assert f"column {column} of thing" in raised.value.message
    assert "id='42'" in raised.value.message
    assert raised.value.where == f"[records.thing] columns.{column}"


@pytest.mark.parametrize("half", ["\\ud800", "\\udc00", "\\udc00\\ud800"])
def test_half_a_surrogate_pair_is_refused(half: str) -> None:
    with pytest.raises(BadData, match="surrogate"):
        READER.read(body({"id": "1", "name": "HERE"}).replace(b"HERE", half.encode()))
    whole = body({"id": "1", "name": "HERE"}).replace(b"HERE", b"\\ud83d\\ude00")
    assert READER.read(whole).rows[0][1] == "😀"


def test_an_error_shows_no_more_than_60_characters_of_a_value() -> None:
    with pytest.raises(BadData) as raised:
        read_one("number", "x" * 59 + "yz" + "SECRET" * 100)
    assert "x" * 59 + "y'" in raised.value.message
    assert "z" not in raised.value.message.partition("'x")[2].partition("'")[0]
    assert "SECRET" not in raised.value.message


# --- keys -------------------------------------------------------------------------------------------------------

NAMED = PageReader(RecordSettings("c", "c", (Column("symbol", ColumnKind.TEXT),), key=("symbol",)))
PAIR = PageReader(
    RecordSettings("p", "p", (Column("a", ColumnKind.INTEGER), Column("b", ColumnKind.INTEGER)), key=("a", "b"))
)


def test_a_null_key_is_refused_sent_or_left_out() -> None:
    for item in ({"name": "x"}, {"id": None}):
        with pytest.raises(BadData, match="is NULL, but the column is part of the key"):
            READER.read(body(item))
    with pytest.raises(BadData, match="is NULL"):
        NAMED.read(body({}))


def test_a_text_key_has_1_to_255_characters() -> None:
    assert NAMED.read(body({"symbol": "é" * 255})).rows == [("é" * 255,)]
    with pytest.raises(BadData, match="256 characters"):
        NAMED.read(body({"symbol": "é" * 256}))
    with pytest.raises(BadData, match="empty text"):
        NAMED.read(body({"symbol": ""}))


def test_a_key_that_comes_twice_is_refused() -> None:
    with pytest.raises(BadData, match="same key '5'"):
        READER.read(body({"id": "4"}, {"id": "5"}, {"id": "5"}))
    with pytest.raises(BadData, match="same key 'b'"):
        NAMED.read(body({"symbol": "b"}, {"symbol": "a"}, {"symbol": "b"}))
    with pytest.raises(BadData, match="same key"):
        PAIR.read(body({"a": "1", "b": "2"}, {"a": "1", "b": "2"}))


def test_integer_keys_must_come_in_order() -> None:
    with pytest.raises(BadReply, match="order of their key"):
        READER.read(body({"id": "9"}, {"id": "10"}, {"id": "2"}))
    with pytest.raises(BadReply, match="order of their key"):
        PAIR.read(body({"a": "1", "b": "2"}, {"a": "1", "b": "1"}))
    assert len(PAIR.read(body({"a": "1", "b": "2"}, {"a": "2", "b": "1"})).rows) == 2


def test_text_keys_come_in_the_sources_own_order() -> None:
    assert NAMED.read(body({"symbol": "b"}, {"symbol": "A"})).rows == [("b",), ("A",)]


# --- shapes -----------------------------------------------------------------------------------------------------


def test_the_casing_of_keys_does_not_matter() -> None:
    assert READER.read(body({"ID": "1", "Name": "x"})).rows[0][:2] == (1, "x")


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(BadReply, match="not asked for: 'surprise'"):
        READER.read(body({"id": "1", "surprise": "x"}))


def test_a_column_that_comes_twice_in_two_casings_is_refused() -> None:
    with pytest.raises(BadReply, match="twice"):
        READER.read(body({"id": "1", "ID": "2"}))


@pytest.mark.parametrize(
    ("reply", "sentence"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'\xef\xbb\xbf{"hasMore": false, "items": []}', "not JSON"),
        (b'{"hasMore": false, "items": []} x', "not JSON"),
        (b'{"hasMore": false, "items": [{"id": NaN}]}', "not JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b"5", "not an object"),
        (b'{"hasMore": false}', "no list of rows"),
        (b'{"hasMore": false, "items": {}}', "no list of rows"),
        (b'{"hasMore": false, "items": [5]}', "no list of rows"),
        (b'{"items": []}', "hasMore"),
        (b'{"items": [], "hasMore": "true"}', "hasMore"),
        (b'{"items": [], "hasMore": 1}', "hasMore"),
        (b'{"items": [{"id": "1"}], "hasMore": "true"}', "hasMore"),
        (b'{"items": [{"id": "1"}], "hasMore": false, "count": "1"}', "no count"),
        (b'{"items": [], "hasMore": true}', "never end"),
        (b'{"items": [{"id": "1"}], "hasMore": false, "count": 2}', "announces 2 rows and carries 1"),
        (b'{"items": [], "hasMore": false, "totalResults": -1}', "no count"),
        (b'{"items": [], "hasMore": false, "totalResults": 1.5}', "no count"),
        (b'{"items": [], "hasMore": false, "totalResults": true}', "no count"),
        (b'{"items": [], "hasMore": false, "totalResults": ' + b"9" * 5000 + b"}", "no count"),
        (b'{"items": [], "hasMore": false, "x": ' + b"[" * 10**6 + b"]" * 10**6 + b"}", "too deeply"),
        (b'{"items": [{"links": ' + b"[" * 10**5 + b"]" * 10**5 + b'}], "hasMore": false}', "too deeply"),
    ],
)
def test_a_reply_of_another_shape_is_refused_in_a_sentence(reply: bytes, sentence: str) -> None:
    with pytest.raises(BadReply, match=sentence) as raised:
        READER.read(reply)
    assert len(raised.value.message) < 200


def test_reply_keys_are_unique_whatever_the_columns_are_called() -> None:
    names = ("id", "ID", "links", "a b", "c1", "c2", "é", "c3")
    keys = reply_keys(RecordSettings("r", "r", tuple(Column(name, ColumnKind.TEXT) for name in names)))
    assert len(set(keys)) == len(names)
    assert keys[0] == "id"
    assert "links" not in keys
    assert all(key == key.lower() and key.isascii() and key.isidentifier() for key in keys)


# --- the fast reader against the slow one -----------------------------------------------------------------------

digits = st.text("0123456789.,-+eE", min_size=1, max_size=24)
short = st.decimals(-99999, 99999, places=2).map(lambda value: f"{value.normalize():f}")
numbers = st.one_of(
    digits,
    st.integers(-(2**64), 2**64).map(str),
    st.decimals(allow_nan=True, allow_infinity=True).map(str),
    st.floats().map(str),
    st.builds("{}.{}".format, st.integers(-(2**54), 2**54), st.integers(0, 100)),
    short,
    st.sampled_from(["-0", "-0.0", "-0.00", "0.0", "-0.5", "1,2", "1,", ",", "12.", ".5", "-.5"]),
)
moments = st.one_of(
    st.dates().map(str),
    st.datetimes().map(lambda moment: str(moment)[:19]),
    st.text("0123456789-: ", max_size=20),
)
texts = st.one_of(st.text(max_size=20), st.sampled_from(["T", "F", "null", "true", "", "\0", "\ud800"]))
scalars = st.one_of(
    numbers, moments, texts, st.none(), st.booleans(), st.integers(-(2**65), 2**65), st.floats(allow_nan=False)
)
fitting = {
    "name": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20),
    "flag": st.sampled_from("TF"),
    "amount": st.decimals(-99999, 99999, places=2).map(str) | short,
    "rate": st.floats(allow_nan=False, allow_infinity=False).map(repr),
    "day": st.dates().map(str),
    "changed": st.datetimes().map(lambda moment: moment.strftime("%Y-%m-%d %H:%M:%S").zfill(19)),
    "whole": st.integers(-9999, 9999).map(str),
    "share": st.decimals("-0.999", "0.999", places=3).map(str),
    "number": st.integers(-(10**18) + 1, 10**18 - 1).map(str),
}
columns = st.sampled_from([column.name for column in COLUMNS])
items = st.lists(st.dictionaries(columns, scalars, max_size=3), max_size=3)


def slow(reply: bytes) -> Page | type[SourceError]:
    try:
        return READER._read_slow(reply)
    except SourceError as error:
        return type(error)


@settings(max_examples=1000, deadline=None)
@given(items)
@example([{"number": "9007199254740993.0"}])
@example([{"number": "4.99999999999999999999"}])
@example([{"number": "1e-999999999"}])
@example([{"number": "null"}, {"rate": "null"}, {"rate": "nan"}])
@example([{"flag": "1"}, {"flag": "true"}])
@example([{"rate": "-0"}, {"rate": "-0.0"}, {"rate": "0"}])
@example([{"amount": "1,2"}, {"amount": "3.50"}])
@example([{"amount": "-0"}, {"amount": "-0.0"}, {"amount": "1.5"}, {"amount": "7"}])
def test_the_fast_reader_never_differs_from_the_slow_one(rows: list[dict[str, Any]]) -> None:
    reply = body(*[{"id": str(number)} | row for number, row in enumerate(rows)])
    fast = READER._read_fast(reply)
    if fast is not None:
        truth = slow(reply)
        assert fast == truth
        assert repr(fast) == repr(truth)  # 1 is not 1.0


@settings(max_examples=300, deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional=fitting), max_size=5))
def test_a_page_of_fitting_values_is_read_fast(rows: list[dict[str, Any]]) -> None:
    reply = body(*[{"id": str(number)} | row for number, row in enumerate(rows)])
    fast = READER._read_fast(reply)
    assert fast is not None
    assert repr(fast) == repr(slow(reply))


@settings(max_examples=500, deadline=None)
@given(
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5)),
        lambda inner: st.one_of(
            st.lists(inner, max_size=3),
            st.dictionaries(st.sampled_from(["items", "hasMore", "count", "totalResults", "id"]), inner, max_size=4),
        ),
    )
)
def test_any_json_is_a_page_or_a_named_error(reply: Any) -> None:
    text = json.dumps(reply).encode()
    fast = READER._read_fast(text)
    truth = slow(text)
    assert fast is None or fast == truth


@settings(max_examples=300, deadline=None)
@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**6), max_value=10**6))
def test_a_decimal_is_exact_or_refused(number: Any) -> None:
    from decimal import Decimal

    try:
        text = read_one("amount", str(number))
    except BadData:
        assert number != round(number, 2) or abs(number) >= 10**5
        return
    assert Decimal(text) == number
    assert text == f"{Decimal(text):.2f}"
    assert not text.startswith("-0.00")


# --- bounds -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"n": "143", "lo": "-7", "hi": "99"}, (143, -7, 99)),
        ({"N": "143", "LO": "5", "HI": "5"}, (143, 5, 5)),
        ({"n": "0"}, (0, None, None)),
        ({"n": 3}, (3, None, None)),
    ],
)
def test_bounds_are_a_count_and_two_ends(row: dict[str, Any], expected: tuple[int, int | None, int | None]) -> None:
    assert parse_bounds(body(row)) == expected


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (body(), BadReply),
        (body({"n": "1"}, {"n": "2"}), BadReply),
        (body({"lo": "1", "hi": "2"}), BadReply),
        (body({"n": "-1"}), BadReply),
        (body({"n": "2", "lo": "1"}), BadReply),
        (body({"n": "2", "lo": "3", "hi": "1"}), BadReply),
        (body({"n": "many"}), BadData),
        (body({"n": "2", "lo": "1.5", "hi": "2"}), BadData),
        (body({"n": "2", "lo": "1", "hi": str(2**63)}), BadData),
    ],
)
def test_bounds_that_make_no_sense_are_refused(reply: bytes, error: type[SourceError]) -> None:
    with pytest.raises(SourceError) as raised:
        parse_bounds(reply)
    assert type(raised.value) is error
