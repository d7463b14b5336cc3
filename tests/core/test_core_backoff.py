"""Delays grow, stay within their bounds, and spread."""

from hypothesis import given
from hypothesis import strategies as st

from waveimport.core.backoff import (
    OUTAGE_MOST_SECONDS,
    REFUSED_MOST_SECONDS,
    after_outage,
    after_refusal,
    growing,
    is_over,
)

FRACTIONS = st.floats(0, 1, exclude_max=True)


@given(st.integers(0, 10_000), FRACTIONS)
def test_no_delay_is_longer_than_its_bound_however_many_came_before(count: int, fraction: float) -> None:
    assert 0 < after_refusal(count, fraction) <= REFUSED_MOST_SECONDS
    assert 0 < after_outage(count, fraction) <= OUTAGE_MOST_SECONDS


@given(st.integers(0, 60), FRACTIONS)
def test_a_later_delay_is_never_shorter_for_the_same_fraction(count: int, fraction: float) -> None:
    assert after_refusal(count, fraction) <= after_refusal(count + 1, fraction)
    assert after_outage(count, fraction) <= after_outage(count + 1, fraction)


def test_delays_double_and_spread_over_their_upper_half() -> None:
    assert [growing(n, 0.0, base_seconds=1, most_seconds=6) for n in range(5)] == [0.5, 1, 2, 3, 3]
    assert growing(2, 0.5, base_seconds=1, most_seconds=100) == 3
    assert (after_refusal(0, 0.0), after_refusal(1, 0.0)) == (0.25, 0.5)
    assert (after_outage(0, 0.0), after_outage(1, 0.0)) == (0.5, 1.0)


def test_a_wait_is_over_at_its_end_and_where_no_delay_could_have_set_it() -> None:
    assert [is_over(until, 1000.0) for until in (0.0, 1000.0, 1000.5, 1060.0)] == [True, True, False, False]
    assert is_over(4600.0, 1000.0), "set before the clock went back by an hour"
