"""One converter of values serves several threads at a time: wherever another comes between, nothing is lost."""

import sys
from types import FrameType
from typing import Any

import pytest

from waveimport.core import values
from waveimport.core.settings import Column, ColumnKind
from waveimport.core.values import column_converter


@pytest.mark.parametrize("most", [0, 1, 50_000])
@pytest.mark.parametrize(
    ("kind", "page"),
    [
        (ColumnKind.DATE, [None, "2024-02-29", "2024-03-01"]),
        (ColumnKind.TIMESTAMP, [None, "2024-02-29 23:59:59", "2024-03-01 00:00:00"]),
    ],
)
def test_another_thread_may_come_between_any_two_lines(
    kind: ColumnKind, page: list[str | None], most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(values, "_REMEMBERED_MAX", most)
    convert = column_converter(Column("when", kind))
    assert convert is not None
    entered: list[int] = []

    def between_lines(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code.co_filename != values.__file__:
            return None
        if event == "line" and frame.f_code.co_name == "check_column":
            # A trace function is not traced: this is the other thread's whole call.
            entered.append(frame.f_lineno)
            assert convert([None, *page]) == [None, *page]
        return between_lines

    before = sys.gettrace()
    sys.settrace(between_lines)
    try:
        for _ in range(3):
            assert convert(page) is page
    finally:
        sys.settrace(before)
    assert len(set(entered)) > 5


@pytest.mark.parametrize("kind", [ColumnKind.DATE, ColumnKind.TIMESTAMP])
def test_a_wrong_value_is_refused_every_time(kind: ColumnKind) -> None:
    convert = column_converter(Column("when", kind))
    assert convert is not None
    for _ in range(2):
        with pytest.raises(ValueError, match=r"."):
            convert([None, "2023-02-29 00:00:00" if kind is ColumnKind.TIMESTAMP else "2023-02-29"])
