"""Paging: the rows of a batch page by page, each behind the last key of the one before.

While a page is parsed and landed the next one is asked for.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

from waveimport.core.ranges import DEBT_PART, sibling_batch_id, split_rest
from waveimport.core.settings import ColumnKind, RecordSettings
from waveimport.core.waves import BatchKind
from waveimport.core.wide import COLUMNS_MAX, WideReader
from waveimport.errors import BadReply, WaveImportError
from waveimport.runtime.job_records import JobRecords
from waveimport.runtime.readers import Readers
from waveimport.runtime.reading import ReadPage
from waveimport.runtime.slices import Key, Slice, integer, resume_key
from waveimport.runtime.steps import Landing, Steps
from waveimport.runtime.visibility import Visibility
from waveimport.runtime.wide_pages import read_wide
from waveimport.store.batches import Claim
from waveimport.store.landing import KEPT, NewBatch
from waveimport.store.removal import ReadParents, ReadRange, Removal


class Pager:
    """Works on the batches of rows: ranges, and parents whose rows are read. Threads share one."""

    def __init__(self, steps: Steps, records: JobRecords, visibility: Visibility, readers: Readers) -> None:
        self._steps = steps
        self._records = records
        self._visibility = visibility
        self._readers = readers
        self._wide = {
            name: WideReader(record) for name, record in records.by_name.items() if len(record.columns) > COLUMNS_MAX
        }

    def fetch(self, claim: Claim, starting: "Future[bool]") -> None:
        """Read and land the rows of a batch, from where an earlier attempt has come to; with them the batches of what
        derives from them, and a sibling for the far part of a range that turns out heavy. `starting` tells when it is
        said to be processing: the first page is asked for meanwhile.

        Raises Stopped, Fenced, BadReply where paging would not end, and the errors of source and database.
        """
        record, narrowed = self._records.of(claim), self._records.narrowed(claim)
        spec = dict(claim.spec)
        covered = replace(Slice.of(spec), after=resume_key(claim))
        forward = _Forward(claim, ordered=all(record.column(name).kind is ColumnKind.INTEGER for name in record.key))
        landing: Landing | None = None
        try:
            while True:
                self._steps.check_stop()
                page = self._read(claim, narrowed, covered)
                rows = page.rows
                if rows:
                    self._visibility.saw(record)
                last = page.last if rows else covered.after
                done = page.done
                forward.check(page.first, last, covered.after, done=done)
                children = self._children(claim, record, page.parents, covered.after)
                cut = None if done else self._cut(claim, record, spec, last, page.total, len(rows))
                event = None
                if cut is not None:
                    spec, sibling = _halves(claim, spec, cut)
                    covered = replace(covered, upper=cut)
                    children += (sibling,)
                    event = "split"
                if landing is None:
                    self._steps.require_started(claim, starting)
                else:
                    self._steps.wait_until_durable(claim, landing)
                removal = _read_whole(claim, spec, covered) if done else None
                if removal is not None and not self._visibility.is_seen(claim, record):
                    removal, event = None, KEPT
                self._steps.still_at_work(claim)
                # Not before: of two pages of a batch one is still landing while the next waits for its turn.
                rows = rows.to_land()
                landing = self._steps.hand_in(
                    claim, spec, last, rows=rows, children=children, done=done, removal=removal, event=event
                )
                if done:
                    self._steps.wait_until_durable(claim, landing)
                    return
                covered = replace(covered, after=last)
                # The page is the writer's now; kept here it would stand in memory beside the next one.
                del page, rows, children
        except WaveImportError:
            if landing is not None and not landing.future.done():
                # What was handed in is let land first: the next attempt then goes on behind it.
                landing.future.exception()
            raise

    def _read(self, claim: Claim, narrowed: RecordSettings, covered: Slice) -> ReadPage:
        wide = self._wide.get(claim.record)
        if wide is not None:
            return self._readers.packed(claim.record, read_wide(self._steps, claim, wide, narrowed.where, covered))
        return self._readers.read(claim.record, self._steps.ask(claim, covered.query(narrowed)))

    def _cut(
        self,
        claim: Claim,
        record: RecordSettings,
        spec: Mapping[str, object],
        last: Key | None,
        total: int | None,
        rows: int,
    ) -> int | None:
        """Return where to cut a range that holds far more than planned, None where it need not be cut."""
        first = record.column(record.key[0])
        if claim.kind is not BatchKind.RANGE or first.kind is not ColumnKind.INTEGER or total is None or last is None:
            return None
        if len(claim.batch_id) > 150:
            # Each cut lengthens the id of the sibling; halving a range this often leaves single keys.
            return None
        upper, highest = integer(spec.get("upper")), integer(spec.get("highest"))
        return split_rest(int(last[0]), upper, highest, total - rows, self._steps.settings.batch_size)

    def _children(
        self, claim: Claim, record: RecordSettings, parents: Sequence[Any], after: Key | None
    ) -> tuple[NewBatch, ...]:
        """Return the derived batches of the parents that begin in a page, or go on in it.

        Of a key of several columns the first, which names the parent, may go on from the page before: that page has
        made the parent's batch already.
        """
        if not parents:
            return ()
        goes_on = after is not None and parents[0] == after[0]
        return self._records.children(claim, record, parents[1:] if goes_on else parents)


class _Forward:
    """Whether the pages of a batch go forward. Integer keys sort the same everywhere; of others, whose order is the
    source's own affair, it is known only that no page ends where an earlier one has."""

    def __init__(self, claim: Claim, *, ordered: bool) -> None:
        self._claim = claim
        self._ordered = ordered
        self._ends: set[Key | None] = set()

    def check(self, first: Key | None, last: Key | None, after: Key | None, *, done: bool) -> None:
        """Check the page from key `first` (None: it has no rows) to `last` that was asked for behind `after`. Raises
        BadReply when paging would never end."""
        if not done and (first is None or last == after):
            raise BadReply(
                "NetSuite counts more rows but sends none beyond the last key",
                where=self._claim.batch_id,
                help="the key is not unique, or the source does not sort by it",
            )
        if first is not None and not self._goes(first, last, after):
            raise BadReply(
                "NetSuite sends rows again that it has sent",
                where=self._claim.batch_id,
                help="is a proxy or another program answering? Paging by key would never end",
            )

    def _goes(self, first: Key, last: Key | None, after: Key | None) -> bool:
        if self._ordered:
            return after is None or first > after
        if last in self._ends:
            return False
        self._ends |= {after, last}
        return True


def _halves(claim: Claim, spec: Mapping[str, object], cut: int) -> tuple[dict[str, object], NewBatch]:
    """Return the spec that a batch keeps of its range up to `cut`, and the sibling that gets the rest."""
    kept: dict[str, object] = {name: spec[name] for name in ("since", "keep") if name in spec}
    rest = {"lower": cut, "upper": spec.get("upper"), "highest": spec.get("highest"), **kept}
    cuts = (integer(spec.get("cuts")) or 0) + 1
    sibling = sibling_batch_id(claim.batch_id, cuts)
    return (
        {"lower": spec.get("lower"), "upper": cut, "cuts": cuts, **kept},
        NewBatch(sibling, claim.wave_number, claim.record, BatchKind.RANGE, rest),
    )


def _read_whole(claim: Claim, spec: Mapping[str, object], covered: Slice) -> Removal | None:
    """Return what a batch that is done has read whole, so that other rows there are gone; None where it has not."""
    if covered.parents is not None:
        return ReadParents(covered.parents, orphans_too=DEBT_PART in claim.batch_id)
    if "since" in spec or "keep" in spec:
        return None
    return ReadRange(covered.lower, covered.upper)
