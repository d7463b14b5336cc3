"""Rows as a statement takes them: for SQLite the values row by row, for MySQL the text of each row.

This is most of what landing costs the processor, and it needs the rows alone: so it is done where they are read, and no
transaction waits for it. Nothing here knows of connections, and SQLAlchemy is not imported.
"""

import contextlib
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from waveimport.core.rows import Row, Rows
from waveimport.core.settings_types import ColumnKind, RecordSettings

STAGED = "waveimport_page"
"""The table of a page that is a database."""


@dataclass(frozen=True, slots=True)
class Packed:
    """So many rows, packed: the `parts` are their values, row by row, or one text each; as bytes where they came from
    another process, which takes a tenth of the memory while they wait for their turn: as MessagePack or, where it
    `is_database`, as `store.staging` has it."""

    count: int
    parts: tuple[Any, ...] | bytes
    is_database: bool = False

    def __len__(self) -> int:
        return self.count

    def objects(self) -> tuple[Any, ...]:
        """Return the parts as objects. Raises ValueError where they cannot be read from the bytes."""
        if not isinstance(self.parts, bytes):
            return self.parts
        return _values_of(self.parts) if self.is_database else _parts_of(self.parts)

    def to_land(self) -> "Packed":
        """Return the same rows as a statement takes them: a database as it is, all else as objects."""
        return self if self.is_database or isinstance(self.parts, tuple) else Packed(self.count, self.objects())

    def as_bytes(self) -> "Packed":
        """Return the same rows as they go from process to process."""
        return Packed(self.count, msgspec.msgpack.encode(self.objects()))


_parts_of = msgspec.msgpack.Decoder(tuple[Any, ...]).decode


def _values_of(database: bytes) -> tuple[Any, ...]:
    """Return the values of a staged page, row by row. Raises ValueError where it is none."""
    # Needed where a page could not be hung in beside its destination, which is hardly ever.
    import sqlite3

    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        try:
            connection.deserialize(database)
            rows = connection.execute(f"SELECT * FROM {STAGED} ORDER BY rowid").fetchall()
        except sqlite3.Error as error:
            raise ValueError(f"this is no page: {error}") from None
    return tuple(itertools.chain.from_iterable(rows))


@dataclass(frozen=True, slots=True)
class Packing:
    """How rows with columns of these kinds are packed: as texts for MySQL, as values for SQLite."""

    kinds: tuple[ColumnKind, ...]
    mysql: bool

    @classmethod
    def of(cls, record: RecordSettings, *, mysql: bool) -> "Packing":
        """Return how the rows of a record are packed."""
        return cls(tuple(column.kind for column in record.columns), mysql)

    def pack(self, rows: "Sequence[Row] | Packed") -> Packed:
        """Return the rows packed, themselves where they are so already. `core.records` has typed their values."""
        if isinstance(rows, Packed):
            return rows
        by_column = Rows.of(rows)
        if not self.mysql:
            return Packed(len(by_column), tuple(by_column.flat()))
        # Column by column it takes a fraction of the time that it takes value by value.
        columns = (
            [_WRITERS.get(kind, _quoted)(values) for kind, values in zip(self.kinds, by_column.columns, strict=True)]
            if by_column
            else []
        )
        return Packed(len(by_column), tuple(map(", ".join, zip(*columns, strict=True))))


def _numbers(values: Sequence[Any]) -> Sequence[str]:
    """Write integers for MySQL: as one list of JSON numbers, which takes half the time."""
    return msgspec.json.encode(values).decode()[1:-1].split(",")


def _decimals(values: Sequence[Any]) -> Sequence[str]:
    """Write decimals, which are plain text by now, for MySQL."""
    return values if None not in values else ["NULL" if value is None else value for value in values]


def _quoted(values: Sequence[Any]) -> Sequence[str]:
    """Write dates, timestamps and floats for MySQL: digits and signs, in quotes."""
    return ["NULL" if value is None else f"'{value}'" for value in values]


ESCAPED = "\0\n\r\x1a\"'\\"
"""What PyMySQL's `escape_string` changes."""


def _texts(values: Sequence[Any]) -> Sequence[str]:
    """Write texts for MySQL. All of a column are looked at at once for what must be escaped: mostly there is none."""
    # Not a part of every command's start.
    from pymysql.converters import escape_string

    present: Iterable[str] = values if None not in values else filter(None, values)
    every = "".join(present)
    if any(map(every.__contains__, ESCAPED)):
        values = [None if value is None else escape_string(value) for value in values]
    return _quoted(values)


_WRITERS = {
    ColumnKind.INTEGER: _numbers,
    ColumnKind.BOOLEAN: _numbers,
    ColumnKind.DECIMAL: _decimals,
    ColumnKind.TEXT: _texts,
}
"""How the values of a column are written that `core.records` has typed."""
