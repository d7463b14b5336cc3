"""Records into waves: levels in order, derived ones after the main ones, circles refused."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waveimport.core.graph import PlannedWave, plan_waves, root_of, select
from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.core.waves import WaveKind
from waveimport.errors import BadRecords

ID = (Column("id", ColumnKind.INTEGER, target="id"),)


def record(name: str, *depends_on: str, of: str | None = None) -> RecordSettings:
    return RecordSettings(name=name, table=name, columns=ID, depends_on=depends_on, derived_from=of)


@st.composite
def configurations(draw: st.DrawFn) -> list[RecordSettings]:
    """Main records that depend on earlier ones only, derived ones of anything earlier, in any order of the file."""
    mains = [f"m{n}" for n in range(draw(st.integers(1, 6)))]
    records = [
        record(name, *draw(st.lists(st.sampled_from(mains[:at]), unique=True)) if at else ())
        for at, name in enumerate(mains)
    ]
    for number in range(draw(st.integers(0, 5))):
        parent = draw(st.sampled_from([one.name for one in records]))
        records.append(record(f"d{number}", of=parent))
    return draw(st.permutations(records))


@given(configurations())
def test_every_record_is_in_one_wave_and_waves_are_numbered_from_1(records: list[RecordSettings]) -> None:
    waves = plan_waves(records)
    assert sorted(name for wave in waves for name in wave.records) == sorted(one.name for one in records)
    assert [wave.wave_number for wave in waves] == list(range(1, len(waves) + 1))
    assert waves == plan_waves(list(reversed(records))), "the order in the file decides nothing"


@given(configurations())
def test_what_a_record_depends_on_is_in_an_earlier_wave(records: list[RecordSettings]) -> None:
    waves = plan_waves(records)
    home = {name: wave for wave in waves for name in wave.records}
    for one in records:
        for needed in one.depends_on:
            assert home[needed].wave_number < home[root_of(one.name, records)].wave_number


@given(configurations())
def test_derived_waves_come_after_all_main_ones_with_one_record_and_their_parents_wave(
    records: list[RecordSettings],
) -> None:
    waves = plan_waves(records)
    kinds = [wave.kind for wave in waves]
    assert kinds == sorted(kinds, key=lambda kind: kind is WaveKind.DERIVED)
    by_name = {one.name: one for one in records}
    home = {name: wave for wave in waves for name in wave.records}
    derived = [wave for wave in waves if wave.kind is WaveKind.DERIVED]
    assert [(wave.depth, wave.records[0]) for wave in derived] == sorted((w.depth, w.records[0]) for w in derived)
    for wave in derived:
        (name,) = wave.records
        parent = by_name[name].derived_from
        assert parent is not None
        assert wave.parent_wave == home[parent].wave_number < wave.wave_number
        assert wave.depth == home[parent].depth + 1


def test_levels_are_by_the_longest_way_and_sorted_by_name() -> None:
    waves = plan_waves(
        [record("order", "customer", "item"), record("item"), record("customer", "currency"), record("currency")]
    )
    assert [wave.records for wave in waves] == [("currency", "item"), ("customer",), ("order",)]


def test_what_a_derived_record_depends_on_holds_back_its_root() -> None:
    waves = plan_waves([record("order"), record("item"), record("line", "item", of="order")])
    assert waves == (
        PlannedWave(1, WaveKind.MAIN, ("item",)),
        PlannedWave(2, WaveKind.MAIN, ("order",)),
        PlannedWave(3, WaveKind.DERIVED, ("line",), parent_wave=2, depth=1),
    )


def test_a_dependency_that_was_left_out_counts_as_satisfied() -> None:
    assert [wave.records for wave in plan_waves([record("order", "customer")])] == [("order",)]


@pytest.mark.parametrize(
    "records",
    [
        [record("a", "b"), record("b", "a")],
        [record("a"), record("b", "c"), record("c", "b")],
        [record("order"), record("item", "order"), record("line", "item", of="order")],
    ],
)
def test_records_that_wait_for_each_other_are_refused(records: list[RecordSettings]) -> None:
    with pytest.raises(BadRecords, match="depend on each other"):
        plan_waves(records)


def test_records_that_derive_from_each_other_are_refused() -> None:
    with pytest.raises(BadRecords, match="a -> b -> a"):
        plan_waves([record("m"), record("a", of="b"), record("b", of="a")])


ALL = [record("order"), record("line", of="order"), record("part", of="line"), record("item")]


def test_a_chosen_record_brings_what_derives_from_it() -> None:
    assert [one.name for one in select(ALL, ["order"])] == ["order", "line", "part"]
    assert [one.name for one in select(ALL, None)] == ["order", "line", "part", "item"]
    assert [one.name for one in select(ALL, ["item"])] == ["item"]


@pytest.mark.parametrize("names", [["nothing"], ["line"], ["part", "item"]])
def test_a_name_that_is_unknown_or_lacks_its_parent_is_refused(names: list[str]) -> None:
    with pytest.raises(BadRecords) as refused:
        select(ALL, names)
    assert refused.value.help is not None


def test_root_of_follows_every_parent() -> None:
    assert [root_of(name, ALL) for name in ("order", "line", "part", "item")] == ["order", "order", "order", "item"]
    with pytest.raises(BadRecords):
        root_of("a", [replace(record("a"), derived_from="a")])
