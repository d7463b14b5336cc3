"""Which families are read beside their tables, and the names of tables that only one job has."""

from dataclasses import replace

import pytest

from waveimport.core.names import aside_name, beside_name, is_swap_name
from waveimport.core.settings import Column, ColumnKind, RecordSettings, Refresh
from waveimport.core.swaps import roots_to_swap

ID = (Column("id", ColumnKind.INTEGER, target="id"),)
CUSTOMER = RecordSettings("customer", "customer", ID, refresh=Refresh.SWAP)
ORDER = RecordSettings("order", "order", ID, refresh=Refresh.SWAP)
LINE = RecordSettings("line", "line", ID, derived_from="order", parent_key="id", refresh=Refresh.SWAP)
ITEM = RecordSettings("item", "item", ID)
ALL = (CUSTOMER, ORDER, LINE, ITEM)


@pytest.mark.parametrize(
    ("incremental", "filled", "swapped"),
    [
        ((), (), ()),
        ((), ("customer", "order", "line", "item"), ("customer", "order")),
        ((), ("line",), ("order",)),
        (("customer",), ("customer", "order"), ("order",)),
        (("customer", "order"), ("customer", "order", "line"), ()),
    ],
)
def test_a_family_is_swapped_that_is_read_in_full_while_one_of_its_tables_holds_rows(
    incremental: tuple[str, ...], filled: tuple[str, ...], swapped: tuple[str, ...]
) -> None:
    assert roots_to_swap(ALL, incremental=incremental, filled=filled) == swapped
    in_place = tuple(replace(record, refresh=Refresh.IN_PLACE) for record in ALL)
    assert roots_to_swap(in_place, incremental=incremental, filled=filled) == ()


def test_the_names_of_a_job_are_its_own_however_long_the_table_and_are_known_again() -> None:
    tables = ["a", "x" * 64, "x" * 63 + "y"]
    names = {of(table, job) for table in tables for job in ("import_1", "import_2") for of in (beside_name, aside_name)}
    assert len(names) == len(tables) * 2 * 2
    assert all(len(name) <= 64 and is_swap_name(name) for name in names)
    assert beside_name("customer", "import_1").startswith("customer__new_")
    assert not any(map(is_swap_name, ["customer", "customer__new_", "customer__new_12345", "old_12345678"]))
