"""The counts of a comparison: how many rows are here, how many the source has, how many have changed meanwhile.

What has changed is told in pieces, cheapest first, and none is asked for before it is needed: a count over millions of
lines takes the source a minute and more.
"""

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from waveimport.core.ranges import chunks
from waveimport.core.records import PageReader, parse_bounds
from waveimport.core.settings import ColumnKind, RecordSettings
from waveimport.errors import BadReply, QueryRefused
from waveimport.netsuite.narrowing import alive, changed, deleted, left, of_family, touched, touched_keys
from waveimport.netsuite.suiteql import PARENTS_MAX, count_query, page_query
from waveimport.runtime.source import Source
from waveimport.store.destination import Target
from waveimport.store.landed import rows_below, rows_in_table, rows_there
from waveimport.store.transactions import Database


@dataclass(frozen=True, slots=True)
class Member:
    """A record of a family: its table, and those of its parent, that one's parent and so on to the main record."""

    target: Target
    above: tuple[Target, ...]

    @property
    def record(self) -> RecordSettings:
        """The record itself."""
        return self.target.record

    @property
    def root(self) -> RecordSettings:
        """The main record of the family, the record itself if it is main."""
        return (self.above or (self.target,))[-1].record

    @property
    def ancestors(self) -> list[RecordSettings]:
        """What it derives from, its parent first."""
        return [one.record for one in self.above]


def members(targets: Sequence[Target]) -> list[Member]:
    """Return each record with what it derives from."""
    by_name = {target.record.name: target for target in targets}

    def above(target: Target) -> tuple[Target, ...]:
        parent = target.record.derived_from
        return () if parent is None else (by_name[parent], *above(by_name[parent]))

    return [Member(target, above(target)) for target in targets]


class Recount:
    """Counts at both ends. Its methods raise what the source and the destination raise."""

    def __init__(self, source: Source, destination: Database) -> None:
        self._source = source
        self._destination = destination

    def here(self, member: Member, job_id: str | None) -> int:
        """Return how many rows a table has that a job wrote last, or has in all."""
        if job_id is None:
            return self._destination.run(partial(rows_there, target=member.target))
        return self._destination.run(partial(rows_in_table, target=member.target, job_id=job_id))

    def at_source(self, member: Member, since: str | None = None) -> int:
        """Return how many rows of a record the source has, all or those changed since a moment."""
        record = member.record
        if since is not None:
            return self._count(changed(record, since))
        return self._count(of_family(record, member.ancestors) if member.above else record)

    def changes(self, member: Member, since: str, job_id: str | None) -> Iterator[int]:
        """Yield how many rows have changed, come or gone since a moment, in pieces. `job_id` as for `here`.

        Of a main record: those that its cursor shows, what was deleted in the account, what left its condition. Of a
        derived one: those that changed, or whose ancestors did, as the source has them; then those that are here of
        parents that have changed, left or gone, since a line that its order has no more is in no count of the source.
        """
        record = member.record
        if member.above:
            narrowed = touched(record, member.ancestors, since)
            if narrowed is not None:
                yield self._count(narrowed)
            keys = self._touched_or_gone(member.root, since)
            line = (member.target, *member.above[:-1])
            yield self._destination.run(partial(rows_below, line=line, keys=list(keys), job_id=job_id))
            return
        if record.cursor is not None:
            yield self._count(changed(record, since))
            if record.where is not None:
                yield self._count(left(record, since))
        # A role may be without the log of deletions.
        with suppress(QueryRefused):
            yield self._count(deleted(since))

    def _touched_or_gone(self, root: RecordSettings, since: str) -> Collection[Any]:
        found: dict[Any, None] = {}
        if root.cursor is not None:
            found.update(dict.fromkeys(self._keys(touched_keys(root, since))))
        if len(root.key) > 1 or root.column(root.key[0]).kind is not ColumnKind.INTEGER:
            return found
        with suppress(QueryRefused):
            logged = list(self._keys(deleted(since)))
            for part in chunks(logged, PARENTS_MAX):
                # One number may be of records of several kinds.
                there = set(self._keys(alive(root), part))
                found.update(dict.fromkeys(key for key in part if key not in there))
        return found

    def _count(self, record: RecordSettings) -> int:
        return parse_bounds(self._source.query(count_query(record)))[0]

    def _keys(self, asked: RecordSettings, parents: Sequence[Any] | None = None) -> Iterator[Any]:
        """Yield the keys of a record that is narrowed to its first key, each once and in order."""
        reader = PageReader(asked)
        after: tuple[Any, ...] | None = None
        while True:
            page = reader.read(self._source.query(page_query(asked, after=after, parents=parents, distinct=True)))
            yield from (row[0] for row in page.rows)
            if not page.has_more and (page.total is None or page.total <= len(page.rows)):
                return
            last = (page.rows[-1][0],) if page.rows else after
            if last == after:
                raise BadReply("NetSuite counts more keys but sends none beyond the last")
            after = last
