"""The writing off of a failed batch by a person's word: what it covers is owed no more."""

from waveimport.core.settings import Settings
from waveimport.core.waves import Trigger
from waveimport.errors import UnknownJob
from waveimport.runtime.importer import open_database
from waveimport.store import schema, skipping
from waveimport.store.engine import sqlite_path
from waveimport.store.skipping import Skipped


def skip_batch(settings: Settings, job_id: str, batch_id: str, *, reason: str, trigger: Trigger) -> Skipped:
    """Write a failed batch off, and say what was written.

    Raises UnknownJob (also where there is no database yet, which is not made), UnknownBatch, and NotFailed for a batch
    that has not failed or that a later job is at work on.
    """
    file = sqlite_path(settings.database.url)
    if file is not None and not file.exists():
        raise UnknownJob(f"no job `{job_id}` is in the database", help="no job yet; `waveimport run` creates one")
    database = open_database(settings)
    try:
        if not schema.require_current(database):
            raise UnknownJob(f"no job `{job_id}` is in the database", help="no job yet; `waveimport run` creates one")
        return database.run(
            lambda connection: skipping.skip(connection, job_id, batch_id, reason=reason, trigger=trigger)
        )
    finally:
        database.close()
