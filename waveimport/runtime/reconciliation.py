"""Compare what was counted at the source with what landed, once a job is completed."""

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from waveimport.core.reconcile import distance, unsettled_counts, verdict
from waveimport.core.records import parse_bounds
from waveimport.core.settings import RecordSettings
from waveimport.errors import Reconciliation, SourceError
from waveimport.netsuite.narrowing import changed, deleted, left
from waveimport.netsuite.suiteql import bounds_query
from waveimport.runtime.fetcher import Source
from waveimport.runtime.writer import Writer
from waveimport.store import debts, jobs, watermarks
from waveimport.store.destination import Target, holds_rows
from waveimport.store.lease import Lease
from waveimport.store.progress import read_progress
from waveimport.store.transactions import Database

log = logging.getLogger(__name__)


def reconcile(
    writer: Writer, held: Lease, targets: Sequence[Target], source: Source, destination: Database
) -> Reconciliation | None:
    """Compare, and keep and return the difference if there is one; see `core.reconcile` for what is one.

    A record of which the source showed no row at all, while its table holds rows of earlier jobs, is a difference too:
    a table that is hidden from the role looks empty. A source that cannot be asked any more leaves the job completed,
    and says so.
    """
    progress = writer.transact(lambda connection: read_progress(connection, held.job_id))
    since = writer.transact(lambda connection: watermarks.since_of(connection, held.job_id))
    kept = writer.transact(lambda connection: watermarks.kept_records(connection, held.job_id))
    as_of = writer.transact(lambda connection: watermarks.as_of(connection, held.job_id))
    carried = writer.transact(lambda connection: debts.landed_rows(connection, held.job_id))
    by_name = {target.record.name: target for target in targets}
    doubtful = [found for wave in progress.waves for found in unsettled_counts(wave, carried)]

    def query(name: str) -> str:
        record = by_name[name].record
        narrow = name in since and record.cursor is not None
        return bounds_query(changed(record, since[name]) if narrow else record)

    try:
        counted = {found.record: parse_bounds(source.query(query(found.record)))[0] for found in doubtful}
    except SourceError as error:
        log.warning("the rows were not reconciled: %s", error.message)
        return None
    wrong = []
    for found in doubtful:
        again, changes = counted[found.record], 0
        if distance(found, again) and found.record in as_of:
            changes = _changes(source, by_name[found.record].record, as_of[found.record])
        words = verdict(found, again, changes)
        if words is not None:
            wrong.append(words)
    landed = {name: rows for wave in progress.waves for name, rows in wave.rows.items()}
    for name in sorted(kept & by_name.keys()):
        if not landed.get(name) and destination.run(partial(holds_rows, target=by_name[name])):
            wrong.append(
                f"`{name}`: the source shows no row, while `{by_name[name].table}` holds rows of earlier jobs, which"
                " were kept"
            )
    if not wrong:
        return None
    difference = Reconciliation(
        "; ".join(wrong),
        where=f"job {held.job_id}",
        help="all rows read are in; run again, and if it stays look for a role that sees only a part of the rows",
    )
    text = f"{difference.code}: {difference.message}"
    writer.transact(lambda connection: jobs.note_error(connection, held.job_id, held.token, text))
    return difference


def _changes(source: Source, record: RecordSettings, as_of: str) -> int:
    """Return how many rows the source has changed or deleted since a moment; 0 where it does not say."""
    if record.cursor is None:
        return 0
    changes = 0
    asked = [changed(record, as_of), deleted(as_of)]
    if record.where is not None:
        asked.append(left(record, as_of))
    for narrowed in asked:
        # A role may be without the log of deletions.
        with suppress(SourceError):
            changes += parse_bounds(source.query(bounds_query(narrowed)))[0]
    return changes
