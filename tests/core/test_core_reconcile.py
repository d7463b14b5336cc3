"""Counts that differ: what a source that is written to explains, and what it does not."""

from collections.abc import Iterator

import pytest

from waveimport.core.reconcile import Comparison, Window, changed_meanwhile, covers, distance, verdict

WINDOW = Window("2026-09-21 14:13:20", "2026-09-21 15:00:00")


@pytest.mark.parametrize(
    ("counted", "here", "beside"),
    [
        ((10, 10), 10, 0),
        ((10, 14), 12, 0),
        ((14, 10), 12, 0),
        ((10, 10), 9, 1),
        ((10, 11), 13, 2),
        ((0, 5), 0, 0),
        ((7,), 7, 0),
        ((7,), 5, 2),
        ((7,), 8, 1),
    ],
)
def test_what_is_here_lies_between_two_counts_or_so_far_beside_them(
    counted: tuple[int, ...], here: int, beside: int
) -> None:
    found = Comparison("order", here, counted)
    assert distance(found) == beside
    assert (verdict(found, WINDOW) is None) is (beside == 0)


def test_rows_that_came_and_went_meanwhile_explain_as_many_and_no_more() -> None:
    found = Comparison("order", 3001, (2999, 2999))
    assert verdict(found, WINDOW, 2) is None
    assert verdict(found, WINDOW, 1) == (
        "`order`: 2,999 rows counted at the source, 3,001 landed, while 1 changed from 2026-09-21 14:13:20 to 15:00:00"
        " UTC"
    )


def test_words_name_both_counts_what_they_are_of_and_a_window_over_midnight() -> None:
    night = Window("2026-09-21 23:00:00", "2026-09-22 01:00:00")
    assert verdict(Comparison("order", 3001, (2999, 2998)), night) == (
        "`order`: 2,999, then 2,998 rows counted at the source, 3,001 landed, while 0 changed from 2026-09-21 23:00:00"
        " to 2026-09-22 01:00:00 UTC"
    )
    whole = verdict(Comparison("line", 5, (6,), whole=True), night)
    assert whole is not None
    assert whole.startswith("`line`: 6 rows counted at the source, 5 in the table, ")


def test_changes_are_asked_for_until_they_explain_the_difference_and_not_at_all_without_one() -> None:
    asked: list[int] = []

    def changes() -> Iterator[int]:
        for count in (1, 2, 100):
            asked.append(count)
            yield count

    assert changed_meanwhile(Comparison("line", 5, (5,)), changes()) == 0
    assert asked == []
    assert changed_meanwhile(Comparison("line", 5, (8,)), changes()) == 3
    assert asked == [1, 2]
    assert changed_meanwhile(Comparison("line", 500, (8,)), changes()) == 103


@pytest.mark.parametrize(
    ("past", "now", "does"),
    [
        (None, None, True),
        (None, ("a",), True),
        (("a", "b"), ("b", "a"), True),
        (("a",), None, False),
        (("a",), ("a", "b"), False),
        (("a", "b"), ("a",), False),
    ],
)
def test_a_job_of_all_records_or_of_the_same_speaks_for_another(
    past: tuple[str, ...] | None, now: tuple[str, ...] | None, does: bool
) -> None:
    assert covers(past, now) is does
