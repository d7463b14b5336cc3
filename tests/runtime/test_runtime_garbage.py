import gc

import pytest

from waveimport.runtime.garbage import NEW_OBJECTS, collected_rarely


@pytest.fixture(autouse=True)
def thresholds():
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)


@pytest.mark.parametrize(
    ("before", "inside"),
    [((700, 10, 5), (NEW_OBJECTS, 10, 5)), ((0, 10, 5), (0, 10, 5)), ((10**7, 3, 2), (10**7, 3, 2))],
)
def test_cycles_are_looked_for_rarely_inside_and_as_before_behind(
    before: tuple[int, int, int], inside: tuple[int, int, int]
) -> None:
    gc.set_threshold(*before)
    seen = []

    def fail() -> None:
        with collected_rarely():
            seen.append(gc.get_threshold())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert seen == [inside]
    assert gc.get_threshold() == before
