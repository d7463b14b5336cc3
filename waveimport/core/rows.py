"""Rows kept by column: how a page is read, how a statement is made of it, and at the cost of neither a tuple a row.

To whom it is no matter they are a sequence of tuples.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

Row = tuple[Any, ...]


class Rows(Sequence[Row]):
    """Rows of equal width; `columns` has the values of each column, in the order of the rows."""

    __slots__ = ("columns",)

    def __init__(self, columns: Sequence[Sequence[Any]]) -> None:
        self.columns = columns

    @classmethod
    def of(cls, rows: Iterable[Row]) -> "Rows":
        """Return the rows by column, themselves where they are so already. Raises ValueError where widths differ."""
        return rows if isinstance(rows, cls) else cls(list(zip(*rows, strict=True)))

    def __len__(self) -> int:
        return len(self.columns[0]) if self.columns else 0

    def __iter__(self) -> Iterator[Row]:
        return zip(*self.columns, strict=True)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> "Rows": ...
    def __getitem__(self, at: int | slice) -> "Row | Rows":
        if isinstance(at, slice):
            return Rows([column[at] for column in self.columns])
        if not self.columns:
            raise IndexError("there are no rows")
        return tuple([column[at] for column in self.columns])

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Rows | list | tuple):
            return list(self) == list(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]  # as a list

    def __repr__(self) -> str:
        return repr(list(self))

    def flat(self) -> list[Any]:
        """Return all values in one list, row by row."""
        width = len(self.columns)
        values: list[Any] = [None] * (len(self) * width)
        for at, column in enumerate(self.columns):
            values[at::width] = column
        return values
