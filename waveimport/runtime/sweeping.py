"""Sweeps: what an incremental read asks for besides the rows that have changed, since these do not show it.

Rows that are gone from the source, or from the record by its condition; parents of rows that have changed while their
parents have not.
"""

from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from waveimport.core.ranges import sweep_batch_id
from waveimport.core.records import PageReader
from waveimport.core.settings import ColumnKind, Deletes, RecordSettings
from waveimport.core.waves import BatchKind
from waveimport.errors import BadReply, QueryRefused
from waveimport.netsuite.narrowing import DELETED_MEND, alive, changed_parents, deleted, left
from waveimport.netsuite.suiteql import page_query
from waveimport.runtime.job_records import JobRecords
from waveimport.runtime.slices import resume_key
from waveimport.runtime.steps import Steps
from waveimport.runtime.visibility import Visibility
from waveimport.store.batches import Claim
from waveimport.store.landing import KEPT, NewBatch
from waveimport.store.removal import GoneKeys


class Reads(StrEnum):
    """What a sweep reads, as `reads` in the spec of its batch."""

    DELETED = "deleted"
    LEFT = "left"
    CHANGED = "changed"


def is_sweep(claim: Claim) -> bool:
    """Whether a batch is one of `sweeps_of`."""
    return "reads" in claim.spec


def sweeps_of(records: JobRecords, claim: Claim) -> list[NewBatch]:
    """Return the batches of an incremental read, planned by `claim`, that find what its changed rows do not show; none
    of a full one."""
    record, since = records.of(claim), records.since(claim)
    if since is None:
        return []
    whole = len(record.key) == 1
    logged = whole and record.column(record.key[0]).kind is ColumnKind.INTEGER
    reads = [
        (record, claim.wave_number, Reads.DELETED, since, logged),
        (record, claim.wave_number, Reads.LEFT, since, whole and record.where is not None),
    ]
    wanted = [one for one in reads if one[-1] and record.deletes is not Deletes.IGNORE]
    below = claim.spec.get("below")
    for name, moment in below.items() if isinstance(below, dict) else ():
        derived = records.by_name.get(name)
        if derived is not None and derived.cursor is not None and derived.derived_from is not None:
            wave = records.wave_of(derived.derived_from, claim.wave_number)
            wanted.append((derived, wave, Reads.CHANGED, str(moment), True))
    return [
        NewBatch(sweep_batch_id(wave, one.name, how), wave, one.name, BatchKind.RANGE, {"reads": how, "since": moment})
        for one, wave, how, moment, _ in wanted
    ]


class Sweeper:
    """Works on the batches of sweeps. Threads share one."""

    def __init__(self, steps: Steps, records: JobRecords, visibility: Visibility) -> None:
        self._steps = steps
        self._records = records
        self._visibility = visibility

    def sweep(self, claim: Claim) -> None:
        """Read keys: of rows that are gone, to remove them, or of parents whose children changed, to read these anew.

        The log of deletions has one column of ids for all kinds of records, so the source is asked which of them the
        record still has. A role that may not read the log is refused here: a job that cannot see deletions says so.

        Raises Stopped, Fenced, BadReply where paging would not end, and the errors of source and database.
        """
        how = Reads(str(claim.spec["reads"]))
        record, since = self._records.of(claim), str(claim.spec["since"])
        if how is not Reads.DELETED and record.cursor is None:
            # It was taken from the configuration since: of this record nothing is incremental any more.
            self._steps.land(claim, claim.spec, claim.resume_key, done=True)
            return
        match how:
            case Reads.DELETED:
                asked = deleted(since)
            case Reads.LEFT:
                asked = left(record, since)
            case Reads.CHANGED:
                asked = changed_parents(record, self._records.ancestors(record), since)
        reader = PageReader(asked)
        after = resume_key(claim)
        while True:
            self._steps.check_stop()
            query = page_query(asked, after=after, distinct=how is not Reads.LEFT)
            try:
                page = reader.read(self._steps.ask(claim, query))
            except QueryRefused as error:
                if how is not Reads.DELETED:
                    raise
                said = f"the log of deletions cannot be read: {error.message}"
                raise type(error)(said, where=claim.batch_id, help=DELETED_MEND) from error
            keys = list(dict.fromkeys(row[0] for row in page.rows))
            done = not page.has_more and (page.total is None or page.total <= len(page.rows))
            last = (keys[-1],) if keys else after
            if not done and last == after:
                raise BadReply("NetSuite counts more rows but sends none beyond the last key", where=claim.batch_id)
            children: tuple[NewBatch, ...] = ()
            gone: list[Any] = []
            if how is Reads.CHANGED:
                children = self._records.batches_of(claim, record.name, keys)
            elif keys:
                gone = keys if how is Reads.LEFT else self._gone(claim, record, keys)
            removal, event = (GoneKeys(gone) if gone else None), None
            if gone and how is Reads.DELETED and not self._visibility.is_seen(claim, record):
                removal, event = None, KEPT
            self._steps.land(claim, claim.spec, last, children=children, done=done, removal=removal, event=event)
            if done:
                return
            after = last

    def _gone(self, claim: Claim, record: RecordSettings, keys: Sequence[Any]) -> list[Any]:
        """Return which of the keys the source does not have as rows of the record."""
        only = alive(record)
        page = PageReader(only).read(self._steps.ask(claim, page_query(only, parents=keys)))
        if page.has_more or (page.total is not None and page.total > len(page.rows)):
            raise BadReply("NetSuite counts more rows than it sends of the keys it was asked for", where=claim.batch_id)
        there = {row[0] for row in page.rows}
        return [key for key in keys if key not in there]
