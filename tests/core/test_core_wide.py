"""Records of more than 100 columns: cut into parts, their pages joined into whole rows or not at all."""

import pytest

from waveimport.core.records import Page
from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.core.wide import COLUMNS_MAX, WideReader, parts_of


def record(columns: int, *, key: tuple[str, ...] = ("c0",), cursor: str | None = None) -> RecordSettings:
    made = tuple(Column(f"c{number}", ColumnKind.INTEGER, target=f"c{number}") for number in range(columns))
    return RecordSettings("r", "r", made, key=key, cursor=cursor)


def names(one: RecordSettings) -> list[str]:
    return [column.name for column in one.columns]


@pytest.mark.parametrize("columns", [1, 99, 100])
def test_a_record_of_up_to_100_columns_is_its_own_only_part(columns: int) -> None:
    narrow = record(columns)
    assert parts_of(narrow) == (narrow,)
    assert parts_of(narrow)[0] is narrow


@pytest.mark.parametrize(
    ("columns", "key", "cursor", "sizes"),
    [
        (101, ("c0",), None, [100, 2]),
        (199, ("c0",), None, [100, 100]),
        (200, ("c0",), None, [100, 100, 2]),
        (250, ("c240", "c7"), "c120", [100, 100, 56]),
    ],
)
def test_every_part_carries_key_and_cursor_and_every_other_column_is_in_one(
    columns: int, key: tuple[str, ...], cursor: str | None, sizes: list[int]
) -> None:
    wide = record(columns, key=key, cursor=cursor)
    parts = parts_of(wide)
    assert [len(part.columns) for part in parts] == sizes
    assert max(sizes) <= COLUMNS_MAX
    carried = {*key, cursor} - {None}
    for part in parts:
        assert carried <= set(names(part))
        assert (part.key, part.cursor, part.table) == (wide.key, wide.cursor, wide.table)
    others = [name for part in parts for name in names(part) if name not in carried]
    assert others == [name for name in names(wide) if name not in carried]


WIDE = record(150, key=("c120", "c3"), cursor="c140")


def pages_of(reader: WideReader, rows: list[tuple[int, ...]]) -> list[Page]:
    """What each part gives of whole rows."""
    at = names(WIDE)
    return [
        Page([tuple(row[at.index(name)] for name in names(part)) for row in rows], True, 77) for part in reader.parts
    ]


def rows(count: int) -> list[tuple[int, ...]]:
    return [tuple(1000 * number + column for column in range(150)) for number in range(count)]


def test_joined_rows_have_the_columns_in_configured_order() -> None:
    reader = WideReader(WIDE)
    first, *others = pages_of(reader, rows(5))
    assert reader.join(first, others) == Page(rows(5), True, 77)
    assert reader.key_of(first.rows[2]) == (2120, 2003)


def test_the_other_parts_may_come_in_another_order_and_with_rows_that_appeared() -> None:
    reader = WideReader(WIDE)
    first, *others = pages_of(reader, rows(5))
    first.rows.pop(3)
    others[0].rows.reverse()
    joined = reader.join(first, others)
    assert joined is not None
    assert joined.rows == [row for number, row in enumerate(rows(5)) if number != 3]


def test_a_row_that_vanished_from_one_part_spoils_the_page() -> None:
    reader = WideReader(WIDE)
    first, *others = pages_of(reader, rows(5))
    others[-1].rows.pop(3)
    assert reader.join(first, others) is None


def test_a_row_whose_cursor_moved_between_the_parts_spoils_the_page() -> None:
    reader = WideReader(WIDE)
    first, *others = pages_of(reader, rows(5))
    changed = list(rows(5)[2])
    changed[140] += 1
    others[0].rows[2] = pages_of(reader, [tuple(changed)])[1].rows[0]
    assert reader.join(first, others) is None
