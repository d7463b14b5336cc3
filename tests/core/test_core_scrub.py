"""No value of a row leaves with a text."""

import json

from hypothesis import given
from hypothesis import strategies as st

from waveimport.core.scrub import has_words, names_of, without_values, without_words

NAMES = frozenset({"customer", "balance"})


def test_what_is_quoted_goes_and_known_names_stay() -> None:
    said = "column balance of customer, row 2 (id='1002'): the value 'much' is not a decimal number; Record 'customer'"
    assert without_values(said, NAMES) == (
        "column balance of customer, row 2 (id='…'): the value '…' is not a decimal number; Record 'customer'"
    )
    assert without_values("Duplicate entry 'a''b' for key", NAMES) == "Duplicate entry '…' for key"
    assert without_values('the value "it\'s" is', NAMES) == 'the value "…" is'
    assert without_values("the value 'a\\'b c' is", NAMES) == "the value '…' is"
    assert without_values("in `customer`: no", NAMES) == "in `customer`: no"


@given(st.text(max_size=30))
def test_no_value_that_is_quoted_as_we_quote_survives(value: str) -> None:
    secret = f"<<{value}>>"
    assert secret not in without_values(f"the value {secret!r} is not a date", NAMES)


def test_keys_that_are_words_go_and_numbers_stay() -> None:
    spec = {"parents": [1, "anna@example.com"], "since": "2026-11-26 00:00:00", "lower": 5, "below": {"line": "x"}}
    assert without_words(spec) == {
        "parents": [1, "…"],
        "since": "2026-11-26 00:00:00",
        "lower": 5,
        "below": {"line": "x"},
    }
    assert without_words(["anna@example.com", [7, "b"]]) == ["…", [7, "…"]]


def test_names_are_those_of_the_configuration() -> None:
    found = set(names_of({"records": {"customer": {"columns": {"balance": "decimal(15,2)"}, "table": "customer"}}}))
    assert {"customer", "balance"} <= found
    assert "decimal(15,2)" not in found


def test_what_a_cut_or_an_apostrophe_leaves_open_goes_too() -> None:
    cut = "have the same key ('Katharina Musterfrau-Hohenzollern, born 1970… (73 characters)"
    assert "Katharina" not in without_values(cut, NAMES)
    limited = "NetSuite's concurrency limit is in use (429): near 'Katharina Musterfrau'"
    assert without_values(limited, NAMES) == "NetSuite's concurrency limit is in use (429): near '…'"


_KEYS = st.one_of(st.sampled_from(["parents", "lower", "highest"]), st.text(max_size=4))
_LEAVES = st.one_of(st.integers(), st.none(), st.booleans(), st.text(max_size=6), st.just('"a":'), st.just('\\"a":'))


@given(st.recursive(_LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3)))
def test_what_is_said_to_hold_no_words_holds_none(value: object) -> None:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert has_words(text) or without_words(value) == value


def test_lists_of_numbers_are_not_taken_apart() -> None:
    assert not has_words('{"parents":[1,2,3],"lower":null,"cuts":2}')
    assert has_words('{"parents":["anna@example.com"]}')
