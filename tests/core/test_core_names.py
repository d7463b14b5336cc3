"""Destination names: safe ones stay, others are mapped so that two never meet."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from waveimport.core.names import is_safe_name, target_name

SAFE = re.compile(r"[a-z][a-z0-9_]{0,50}")
ANY_NAME = st.text(min_size=0, max_size=80)
# Names that differ little, so that a mapping without the hash would let many of them meet.
ALIKE = st.text(alphabet="aA_-. %é", min_size=1, max_size=4)


@given(st.from_regex(SAFE, fullmatch=True))
def test_a_safe_name_stays(name: str) -> None:
    assert target_name(name) == name


@given(ANY_NAME)
@example("")
@example("x" * 52)
@example("_" * 60)
@example("\ud800")
@example("naïve %s")
def test_every_name_becomes_a_safe_one(name: str) -> None:
    assert SAFE.fullmatch(target_name(name))


@given(ANY_NAME)
def test_mapping_a_mapped_name_again_changes_nothing(name: str) -> None:
    assert target_name(target_name(name)) == target_name(name)


@given(st.lists(ALIKE, unique=True, min_size=2, max_size=30))
def test_names_that_look_alike_never_meet(names: list[str]) -> None:
    assert len({target_name(name) for name in names}) == len(names)


@given(st.text(alphabet="ab", min_size=52, max_size=60), st.text(alphabet="ab", min_size=52, max_size=60))
def test_long_names_with_one_beginning_never_meet(one: str, other: str) -> None:
    assert one == other or target_name(one) != target_name(other)


@pytest.mark.parametrize("own", ["_job_id", "_synced_at", "_waveimport_fence"])
def test_a_source_cannot_take_a_name_of_ours(own: str) -> None:
    assert not is_safe_name(own)
    assert target_name(own) != own
    assert not target_name(own).startswith("_")


@pytest.mark.parametrize(
    ("source", "start"),
    [("Größe in m", "gr_e_in_m_"), ("ID", "id_"), ("1st", "x_1st_"), ("日本", "x_"), ("custbody-a%b", "custbody_a_b_")],
)
def test_a_mapped_name_can_still_be_read(source: str, start: str) -> None:
    assert re.fullmatch(re.escape(start) + "[0-9a-f]{10}", target_name(source))


def test_the_mapping_is_the_same_for_ever() -> None:
    # Tables made by an older version keep their names.
    assert target_name("Customer") == "customer_bf3763383a"
