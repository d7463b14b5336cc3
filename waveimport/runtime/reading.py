"""Pages from replies: their rows typed and packed, and what paging has to know of them.

It is most of the processor time of an import, it needs nothing but the reply, and Python lets one thread of a process
compute at a time. So where the source answers faster than this process can read beside all else, other processes read
for it (`runtime.readers`), and they do what is done here and nothing else.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from waveimport.core.records import Page, PageReader
from waveimport.core.settings_types import RecordSettings
from waveimport.store.packing import Packed, Packing


@dataclass(frozen=True, slots=True)
class Recipe:
    """What is made of the pages of a record: how its rows are packed, and whether batches derive from them."""

    record: RecordSettings
    packing: Packing
    is_parent: bool


@dataclass(frozen=True, slots=True)
class ReadPage:
    """A page that is ready to land. `first` and `last` are the keys of those rows, None where there are none;
    `parents` the different values of the first key column, in order, where batches derive from them."""

    rows: Packed
    first: tuple[Any, ...] | None
    last: tuple[Any, ...] | None
    parents: list[int | str]
    has_more: bool
    total: int | None

    @property
    def done(self) -> bool:
        """Whether no row follows. A page may say that it is the last where a cap cut it: the total says otherwise."""
        return not self.has_more and (self.total is None or self.total <= len(self.rows))


class Reading:
    """Reads the pages of one record. Threads may share it."""

    def __init__(self, recipe: Recipe) -> None:
        self._reader = PageReader(recipe.record)
        self._packing = recipe.packing
        self._is_parent = recipe.is_parent
        names = [column.name for column in recipe.record.columns]
        self._key_at = [names.index(name) for name in recipe.record.key]

    def read(self, body: bytes) -> ReadPage:
        """Return the page that a reply holds. Raises BadReply and BadData as PageReader does."""
        return self.packed(self._reader.read(body))

    def packed(self, page: Page) -> ReadPage:
        """Return a page whose rows are typed already."""
        rows = page.rows
        parents: Sequence[Any] = rows.columns[self._key_at[0]] if self._is_parent and rows else ()
        return ReadPage(
            rows=self._packing.pack(rows),
            first=self._key(rows[0]) if rows else None,
            last=self._key(rows[-1]) if rows else None,
            parents=list(dict.fromkeys(parents)),
            has_more=page.has_more,
            total=page.total,
        )

    def _key(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(row[at] for at in self._key_at)
