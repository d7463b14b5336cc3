"""Ranges cover every integer exactly once; batch ids are deterministic, unique and fit their column."""

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waveimport.core.ranges import (
    MAX_BATCH_ID,
    Bounds,
    KeyRange,
    chunks,
    derived_batch_id,
    main_batch_id,
    plan_batch_id,
    range_count,
    sibling_batch_id,
    split,
    split_rest,
)

HUGE = 2**63 - 1
KEYS = st.integers(-HUGE - 1, HUGE)


@st.composite
def bounds(draw: st.DrawFn) -> Bounds:
    low, high = sorted([draw(KEYS), draw(KEYS)])
    if draw(st.booleans()):
        high = min(HUGE, low + draw(st.integers(0, 50)))
    return Bounds(draw(st.integers(1, min(high - low + 1, 10_000))), low, high)


def holds(keys: KeyRange, key: int) -> bool:
    return (keys.lower is None or keys.lower < key) and (keys.upper is None or key <= keys.upper)


@given(bounds(), st.integers(1, 500))
@example(Bounds(1, -7, -7), 1)
@example(Bounds(2, -HUGE - 1, HUGE), 1)
@example(Bounds(3, 0, 10**12), 1)
def test_ranges_cover_every_integer_exactly_once(given_bounds: Bounds, batch_size: int) -> None:
    ranges = [keys for _, keys in split(given_bounds, batch_size)]
    assert ranges[0].lower is None
    assert ranges[-1].upper is None
    for before, behind in itertools.pairwise(ranges):
        assert before.upper is not None
        assert before.upper == behind.lower, "no key between two ranges, none in both"
    for keys in ranges:
        if keys.lower is not None and keys.upper is not None:
            assert keys.lower < keys.upper, "no range is empty of integers"
    assert given_bounds.lowest is not None
    assert given_bounds.highest is not None
    for key in (given_bounds.lowest, given_bounds.highest, -(2**80), 2**80, 0):
        assert sum(holds(keys, key) for keys in ranges) == 1


@given(bounds(), st.integers(1, 500), st.data())
def test_planning_that_was_cut_off_goes_on_with_the_very_ranges(
    given_bounds: Bounds, batch_size: int, data: st.DataObject
) -> None:
    whole = list(split(given_bounds, batch_size))
    start = data.draw(st.integers(0, len(whole)))
    assert [number for number, _ in whole] == list(range(range_count(given_bounds, batch_size)))
    assert list(split(given_bounds, batch_size, start)) == whole[start:]


@given(bounds(), st.integers(1, 500))
def test_a_table_gets_as_many_ranges_as_its_rows_need_and_no_more_than_it_has_keys(
    given_bounds: Bounds, batch_size: int
) -> None:
    assert given_bounds.lowest is not None
    assert given_bounds.highest is not None
    count = range_count(given_bounds, batch_size)
    span = given_bounds.highest - given_bounds.lowest + 1
    assert 1 <= count <= span
    assert count == min(-(-given_bounds.count // batch_size), span)


@pytest.mark.parametrize("empty", [Bounds(0, None, None), Bounds(5000, None, None)])
def test_a_table_without_integer_bounds_is_one_range_open_on_both_sides(empty: Bounds) -> None:
    assert list(split(empty, 10)) == [(0, KeyRange(None, None))]
    assert list(split(empty, 10, 1)) == []


def test_one_row_is_one_range_that_takes_a_row_written_meanwhile() -> None:
    assert list(split(Bounds(1, 42, 42), 10)) == [(0, KeyRange(None, None))]


def test_a_first_key_far_from_the_rest_leaves_no_hole() -> None:
    ranges = [keys for _, keys in split(Bounds(30, -1_000_000, 20), 10)]
    assert [sum(holds(keys, key) for keys in ranges) for key in (-1_000_000, -500_000, 1, 20)] == [1, 1, 1, 1]


# --- cutting a heavy range --------------------------------------------------------------------------------------


@given(KEYS, KEYS, st.integers(0, 10**6), st.integers(1, 1000), st.booleans())
def test_a_cut_leaves_keys_on_both_sides(after: int, end: int, remaining: int, size: int, is_open: bool) -> None:
    cut = split_rest(after, None if is_open else end, end if is_open else None, remaining, size)
    if cut is None:
        assert remaining <= 2 * size or end - after < 2
    else:
        assert after < cut < end


def test_a_range_that_is_not_heavy_or_whose_end_nobody_knows_is_not_cut() -> None:
    assert split_rest(0, 1000, None, 20, 10) is None
    assert split_rest(0, 1000, None, 21, 10) == 500
    assert split_rest(0, None, None, 10**6, 10) is None
    assert split_rest(0, None, 1000, 10**6, 10) == 500
    assert split_rest(998, 1000, None, 10**6, 10) == 999
    assert split_rest(999, 1000, None, 10**6, 10) is None


# --- ids --------------------------------------------------------------------------------------------------------

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=255)
NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,50}", fullmatch=True)


def fits(batch_id: str) -> bool:
    return batch_id.isascii() and len(batch_id) <= MAX_BATCH_ID and not batch_id.endswith(" ")


@given(st.lists(st.tuples(NAMES, st.one_of(KEYS, TEXTS)), min_size=1, max_size=6))
@example([("line", "a ")])
@example([("line", "é" * 200 + " ")])
def test_ids_however_deep_fit_the_column_and_come_out_alike_twice(path: list[tuple[str, int | str]]) -> None:
    def made() -> list[str]:
        ids = [main_batch_id(3, path[0][0], 7), plan_batch_id(3, path[0][0])]
        batch_id = ids[0]
        for name, key in path:
            batch_id = derived_batch_id(batch_id, name, key)
            ids += [batch_id, sibling_batch_id(batch_id, 2)]
        return ids

    assert all(fits(batch_id) for batch_id in made())
    assert made() == made()
    assert len(set(made())) == len(made())


@given(NAMES, NAMES, st.one_of(TEXTS, KEYS), st.one_of(TEXTS, KEYS))
@example("a", "a", "x", "x ")
@example("a", "a", "é", "è")
@example("a", "a", "x" * 200 + "1" + "y" * 100, "x" * 200 + "2" + "y" * 100)
def test_different_parents_make_different_ids(one: str, other: str, first: int | str, second: int | str) -> None:
    # MySQL's `ascii_bin` pads: two ids that differ in trailing blanks only are one key there.
    ids = {derived_batch_id("1/order/0000000", name, key).rstrip(" ") for name, key in [(one, first), (other, second)]}
    assert len(ids) == len({(one, str(first)), (other, str(second))})


def test_ids_of_ranges_sort_in_key_order() -> None:
    ids = [main_batch_id(1, "customer", number) for number in (0, 9, 10, 99, 100, 9_999_999)]
    assert ids == sorted(ids)
    assert ids[0] == "1/customer/0000000"
    assert plan_batch_id(1, "customer") == "1/customer/plan"
    assert derived_batch_id(ids[0], "line", -5) == "1/customer/0000000/line/-5"
    assert sibling_batch_id(ids[0], 1) == "1/customer/0000000+1"


@given(st.lists(st.integers()), st.integers(1, 7))
def test_chunks_hold_every_item_once_in_order(items: list[int], size: int) -> None:
    parts = list(chunks(items, size))
    assert [item for part in parts for item in part] == items
    assert all(1 <= len(part) <= size for part in parts)
    assert all(len(part) == size for part in parts[:-1])


def test_a_parent_that_is_a_text_is_told_by_a_hash_in_the_id() -> None:
    """Ids stand in logs, and in bundles that hold no value of a row."""
    ids = [derived_batch_id("1/customer/0000000", "address", name) for name in ("Katharina", "Katharina ", "katharina")]
    assert len(set(ids)) == 3
    assert not any("atharina" in one for one in ids)
    assert ids[0] == derived_batch_id("1/customer/0000000", "address", "Katharina")
