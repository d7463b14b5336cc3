"""Records of more than 100 columns: cut into SELECTs that the service answers, and their pages joined into whole rows.

SuiteQL answers a SELECT of more than 100 columns with no rows and no error. So such a record is read in parts, each a
record of its own of at most 100 columns. Every part carries the key, to match the rows by, and the cursor, if there
is one: a row that was changed between two SELECTs is told by it. Without a cursor such a row can be half old and half
new, until it is imported again.

Source: Estuary's connector for SuiteQL, "netsuite-suiteql", which met the bound in live accounts.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from operator import itemgetter
from typing import Any, Final

from waveimport.core.records import Page, PageReader
from waveimport.core.rows import Rows
from waveimport.core.settings import RecordSettings

COLUMNS_MAX: Final = 100
"""Columns of a SELECT beyond which the service gives no rows."""


def parts_of(record: RecordSettings) -> tuple[RecordSettings, ...]:
    """Return the record as parts of at most 100 columns; itself alone where it has no more.

    Each part has the columns of the key and the cursor; every other column is in one part, in configured order.
    """
    if len(record.columns) <= COLUMNS_MAX:
        return (record,)
    carried = {*record.key, record.cursor}
    common = [column for column in record.columns if column.name in carried]
    others = [column for column in record.columns if column.name not in carried]
    room = COLUMNS_MAX - len(common)
    return tuple(
        replace(record, columns=(*common, *others[start : start + room])) for start in range(0, len(others), room)
    )


class WideReader:
    """Reads the parts of one record and joins their pages. Threads may share it; `parts` has two members or more."""

    def __init__(self, record: RecordSettings) -> None:
        self.parts = parts_of(record)
        self.readers = tuple(map(PageReader, self.parts))
        carried = {*record.key, record.cursor}
        self._carried = sum(column.name in carried for column in record.columns)
        names = [column.name for column in self.parts[0].columns]
        self._key_at = tuple(map(names.index, record.key))
        for part in self.parts[1:]:
            names += [column.name for column in part.columns[self._carried :]]
        self._in_order: Callable[[tuple[Any, ...]], tuple[Any, ...]] = itemgetter(
            *(names.index(column.name) for column in record.columns)
        )

    def key_of(self, row: tuple[Any, ...]) -> tuple[Any, ...]:
        """Return the key of a row of any part, in the order of the record's key."""
        return tuple(row[at] for at in self._key_at)

    def join(self, first: Page, others: Sequence[Page]) -> Page | None:
        """Return the page of whole rows, one for each row of `first`; None where one of them is not to be had whole.

        That is where a row has gone, or its cursor has changed, between the SELECTs, or did not fit into the page of
        another part because rows came in before it. Rows that only the others have appeared meanwhile: they are left
        for a later page or job.
        """
        carried = self._carried
        by_key = [{self.key_of(row): row for row in page.rows} for page in others]
        whole = []
        for row in first.rows:
            key = self.key_of(row)
            joined = row
            for rows in by_key:
                rest = rows.get(key)
                if rest is None or rest[:carried] != row[:carried]:
                    return None
                joined += rest[carried:]
            whole.append(self._in_order(joined))
        return Page(Rows.of(whole), first.has_more, first.total)
