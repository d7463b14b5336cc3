"""Compare what was counted at the source with what landed, once a job is completed."""

import logging
from collections.abc import Mapping

from waveimport.core.reconcile import unsettled_counts, verdict
from waveimport.core.records import parse_bounds
from waveimport.core.settings import RecordSettings
from waveimport.errors import Reconciliation, SourceError
from waveimport.netsuite.suiteql import bounds_query
from waveimport.runtime.fetcher import Source
from waveimport.runtime.writer import Writer
from waveimport.store import jobs
from waveimport.store.lease import Lease
from waveimport.store.progress import read_progress

log = logging.getLogger(__name__)


def reconcile(
    writer: Writer, held: Lease, records: Mapping[str, RecordSettings], source: Source
) -> Reconciliation | None:
    """Compare, and keep and return the difference if there is one; see `core.reconcile` for what is one.

    A source that cannot be asked any more leaves the job completed, and says so.
    """
    progress = writer.transact(lambda connection: read_progress(connection, held.job_id))
    doubtful = [found for wave in progress.waves for found in unsettled_counts(wave)]
    try:
        counted = {
            found.record: parse_bounds(source.query(bounds_query(records[found.record])))[0] for found in doubtful
        }
    except SourceError as error:
        log.warning("the rows were not reconciled: %s", error.message)
        return None
    wrong = [words for found in doubtful if (words := verdict(found, counted[found.record])) is not None]
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
