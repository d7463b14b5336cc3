"""How runs share a limit, and what is said of one that is cut."""

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from waveimport.core.limits import Limits, Strike, reason, share_of

AT = datetime(2026, 11, 26, 3, 4, 5)


@given(runs=st.integers(1, 40), configured=st.integers(1, 100))
def test_the_shares_are_the_whole_and_none_is_nothing(runs: int, configured: int) -> None:
    shares = [share_of(rank, runs, configured) for rank in range(runs)]
    assert min(shares) >= 1
    assert max(shares) - min(shares) <= 1
    assert sum(shares) == max(configured, runs)


def test_a_limit_that_is_not_cut_needs_no_reason() -> None:
    assert reason(Limits(5, 5, 1, 5, 2)) is None
    assert reason(Limits(5, 5, 1, 5, 2, AT, Strike.RATE_LIMITED)) is None, "it was won back"


def test_each_cut_is_told_with_its_cause() -> None:
    cut = reason(Limits(5, 5, 1, 3, 3, AT, Strike.RATE_LIMITED))
    assert cut is not None
    assert "429" in cut
    assert "03:04:05 UTC" in cut
    refused = reason(Limits(5, 5, 1, 3, 3, AT, Strike.LOGIN_UNDER_LOAD))
    assert refused is not None
    assert "401" in refused
    shared = reason(Limits(5, 3, 2, 3, 3))
    assert shared == "1 other run on this database asks the same account, which leaves 3 of 5"
    both = reason(Limits(5, 2, 3, 1, 1, AT, Strike.RATE_LIMITED))
    assert both is not None
    assert "2 other runs on this database ask the same account, which leaves 2 of 5; NetSuite answered 429" in both
