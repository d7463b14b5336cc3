"""Reading the coordination tables for a person: never a write, never a new file, never a wait for a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from waveimport.errors import UnknownJob

if TYPE_CHECKING:
    from waveimport.core.progress import Alert, JobProgress
    from waveimport.core.settings import Settings
    from waveimport.core.why import Reason
    from waveimport.store.transactions import Database

NO_JOB_YET = "no job yet; `waveimport run` creates one"


@contextmanager
def open_for_reading(settings: "Settings") -> Iterator["Database | None"]:
    """Yield the coordination database, None where there is no database file or it has no tables yet.

    Raises SchemaMismatch for tables of another version, DatabaseDown for a server out of reach.
    """
    from waveimport.store import schema
    from waveimport.store.engine import sqlite_path
    from waveimport.store.transactions import Database

    file = sqlite_path(settings.database.url)
    if file is not None and not file.exists():
        yield None
        return
    database = Database.open_reader(settings.database.url)
    try:
        yield database if schema.require_current(database) else None
    finally:
        database.close()


def find_job(database: "Database | None", settings: "Settings", job_id: str | None) -> str | None:
    """Return the id of the job meant: the one named, else the newest of the profile, None where there is none.

    Raises UnknownJob for a name that no job has.
    """
    from waveimport.store import jobs

    if database is None:
        if job_id is not None:
            raise UnknownJob(f"no job `{job_id}` is in the database", help=NO_JOB_YET)
        return None
    if job_id is not None:
        return database.run(lambda connection: jobs.get_job(connection, job_id)).job_id
    newest = database.run(lambda connection: jobs.newest_job(connection, settings.profile))
    return None if newest is None else newest.job_id


def look(database: "Database", settings: "Settings", job_id: str) -> "tuple[JobProgress, tuple[Alert, ...]]":
    """Return a job in numbers, and what stands wrong with it by the thresholds of `[run]`. Raises UnknownJob."""
    from waveimport.core.progress import alerts_of
    from waveimport.store.progress import read_progress

    job = database.run(lambda connection: read_progress(connection, job_id))
    alerts = alerts_of(
        job,
        stuck_after_seconds=settings.run.stuck_after_seconds,
        passes_without_effect=settings.run.passes_without_effect,
    )
    return job, alerts


def reasons(database: "Database", settings: "Settings", job_id: str) -> "tuple[Reason, ...]":
    """Return why a job is not completed. Raises UnknownJob."""
    import shutil
    from dataclasses import replace

    from waveimport.core.why import explain
    from waveimport.store.engine import sqlite_path
    from waveimport.store.standstill import read_facts

    facts = database.run(lambda connection: read_facts(connection, job_id))
    file = sqlite_path(settings.database.url)
    free = None if file is None else shutil.disk_usage(file.parent).free
    return explain(replace(facts, lease_seconds=settings.run.lease_seconds, disk_free_bytes=free))
