"""The writing off of a failed batch by a person's word: what it covers is owed no more."""

from waveimport.core.settings import Settings
from waveimport.core.waves import Trigger
from waveimport.runtime.cancel import opened_for
from waveimport.store import skipping
from waveimport.store.skipping import Skipped


def skip_batch(settings: Settings, job_id: str, batch_id: str, *, reason: str, trigger: Trigger) -> Skipped:
    """Write a failed batch off, and say what was written.

    Raises UnknownJob (also where there is no database yet, which is not made), UnknownBatch, and NotFailed for a batch
    that has not failed or that a later job is at work on.
    """
    with opened_for(settings, job_id) as database:
        return database.run(
            lambda connection: skipping.skip(connection, job_id, batch_id, reason=reason, trigger=trigger)
        )
