"""What was found of an account as `[records.*]` tables: TOML to paste, or the same as a plain document.

What had to be left out stands beside the record as remarks, which become comments.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from waveimport.core.names import target_name
from waveimport.core.settings import Column, ColumnKind

COMMENT_COLUMNS: Final = 118


@dataclass(frozen=True, slots=True)
class FoundRecord:
    """One record as the account has it. `columns` maps names to types, both as the configuration writes them; all names
    are plain identifiers. The other members are those of a preset."""

    name: str
    table: str
    columns: Mapping[str, str]
    key: tuple[str, ...]
    where: str | None = None
    depends_on: tuple[str, ...] = ()
    derived_from: str | None = None
    parent_key: str | None = None
    cursor: str | None = None
    remarks: tuple[str, ...] = ()

    def document(self) -> dict[str, Any]:
        """Return the record as its table of the configuration; keys at their defaults are left out."""
        given: dict[str, Any] = {
            "table": self.table if self.table != self.name else None,
            "where": self.where,
            "key": None if self.key == ("id",) else self.key[0] if len(self.key) == 1 else list(self.key),
            "cursor": self.cursor,
            "depends_on": list(self.depends_on) or None,
            "derived_from": self.derived_from,
            "parent_key": self.parent_key,
        }
        return {**{key: value for key, value in given.items() if value is not None}, "columns": dict(self.columns)}


def column_of(name: str, type_text: str) -> Column:
    """Return the column of a type as the configuration writes it: `text`, `decimal(15,2)`."""
    kind, _, size = type_text.rstrip(")").partition("(")
    precision, scale = map(int, size.split(",")) if size else (0, 0)
    return Column(name, ColumnKind(kind), precision, scale, target_name(name))


def link(found: Sequence[FoundRecord], absent_for_good: Collection[str] = ()) -> tuple[FoundRecord, ...]:
    """Return the records with only those dependencies that are among them.

    Of the others a remark is made, except of those that the account does not have: there is nothing to do about them.
    """
    names = {record.name for record in found}
    linked = []
    for record in found:
        absent = [name for name in record.depends_on if name not in names and name not in absent_for_good]
        remarks = record.remarks
        if absent:
            remarks += (f"it refers to {', '.join(absent)}: import those too, and name them in depends_on",)
        kept = tuple(name for name in record.depends_on if name in names)
        linked.append(replace(record, depends_on=kept, remarks=remarks))
    return tuple(linked)


def toml_lines(found: Sequence[FoundRecord], remarks: Sequence[str] = ()) -> Iterator[str]:
    """Yield the lines of the records' tables, their remarks as comments above them; `remarks` are about all."""
    for remark in remarks:
        yield from _comment(remark)
    for number, record in enumerate(found):
        if number or remarks:
            yield ""
        for remark in record.remarks:
            yield from _comment(remark)
        yield f"[records.{record.name}]"
        document = record.document()
        columns = document.pop("columns")
        for key, value in document.items():
            yield f"{key} = {json.dumps(value, ensure_ascii=False)}"
        # A table of their own: an inline one would be a single line, which nobody can edit.
        yield f"[records.{record.name}.columns]"
        for name, type_text in columns.items():
            yield f"{name} = {json.dumps(type_text)}"


def _comment(remark: str) -> Iterator[str]:
    line = "#"
    # What the service says may hold anything; a line break in a comment would end it.
    for word in "".join(letter if letter.isprintable() else " " for letter in remark).split():
        if len(line) + 1 + len(word) > COMMENT_COLUMNS and line != "#":
            yield line
            line = "#  "
        line += f" {word}"
    yield line
