"""Two lists agree by digest exactly where they hold the same keys as often."""

from collections import Counter
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from waveimport.core.multiset import digest

KEYS = st.lists(st.one_of(st.integers(-5, 5), st.sampled_from(["a", "a ", "A", "á"])), max_size=8)


@given(KEYS, KEYS)
def test_equal_digests_are_equal_multisets(one: list[int | str], other: list[int | str]) -> None:
    assert (digest(one) == digest(other)) is (Counter(one) == Counter(other))


@given(KEYS, st.randoms())
def test_the_order_has_no_part_in_it(keys: list[int | str], chance: Random) -> None:
    shuffled = list(keys)
    chance.shuffle(shuffled)
    assert digest(shuffled) == digest(keys)


def test_a_key_that_comes_twice_and_one_that_is_missing_do_not_make_up_for_each_other() -> None:
    assert digest([1, 2, 3]) != digest([1, 1, 3])
    assert digest([1, 1]) != digest([])
