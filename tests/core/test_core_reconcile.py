"""Counts that differ: what a source that is written to explains, and what it does not."""

import pytest

from waveimport.core.reconcile import UnsettledCount, distance, verdict


@pytest.mark.parametrize(
    ("planned", "landed", "again", "beside"),
    [(10, 10, 10, 0), (10, 12, 14, 0), (14, 12, 10, 0), (10, 9, 10, 1), (10, 13, 11, 2), (0, 0, 5, 0)],
)
def test_what_landed_lies_between_two_counts_or_so_far_beside_them(
    planned: int, landed: int, again: int, beside: int
) -> None:
    found = UnsettledCount("order", planned, landed)
    assert distance(found, again) == beside
    assert (verdict(found, again) is None) is (beside == 0)


def test_rows_that_came_and_went_meanwhile_explain_as_many_and_no_more() -> None:
    found = UnsettledCount("order", 2999, 3001)
    assert verdict(found, 2999, 2) is None
    assert verdict(found, 2999, 1) == "`order`: 2,999 rows counted at the source, 3,001 landed"
    assert verdict(found, 2998) == "`order`: 2,998, then 2,999 rows counted at the source, 3,001 landed".replace(
        "2,998, then 2,999", "2,999, then 2,998"
    )
