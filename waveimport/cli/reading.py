"""Reading the coordination tables for a person: never a write, never a new file, never a wait for a run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from waveimport.errors import UnknownJob

if TYPE_CHECKING:
    from waveimport.cli.app import App
    from waveimport.core.progress import Alert, JobProgress
    from waveimport.core.settings import Settings
    from waveimport.core.why import Reason
    from waveimport.store.transactions import Database


@dataclass(frozen=True, slots=True)
class Subject:
    """What is looked at: `database` is None where there is none yet, `job_id` where it has no job; `bundle` is the
    manifest of the file it came from, None for a database."""

    database: "Database | None"
    settings: "Settings"
    job_id: str | None
    bundle: dict[str, str] | None = None


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


@contextmanager
def open_subject(app: "App", word: str | None) -> Iterator["Subject"]:
    """Yield what a person asked to look at: a job of the configured database, the newest where no word is given, or the
    job in a bundle where the word is a file.

    Raises UnknownJob, BadBundle, and what `open_for_reading` raises.
    """
    path = None if word is None else Path(word)
    if path is None or not path.is_file():
        settings = app.settings(secrets=False)
        with open_for_reading(settings) as database:
            yield Subject(database, settings, find_job(database, settings, word))
        return
    import json
    import tempfile
    from dataclasses import fields

    from waveimport.core.settings import DatabaseSettings, NetSuiteSettings, RunSettings, Settings
    from waveimport.store.bundle import unpack

    with tempfile.TemporaryDirectory(prefix="waveimport-bundle-") as folder:
        database, manifest = unpack(path, Path(folder))
        try:
            nowhere = NetSuiteSettings(account="", base_url="")
            known = {field.name for field in fields(RunSettings)}
            run = RunSettings(**{key: value for key, value in json.loads(manifest["run"]).items() if key in known})
            settings = Settings(manifest["profile"], DatabaseSettings(database.url), nowhere, run, ())
            yield Subject(database, settings, manifest["job_id"], manifest)
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
    from waveimport.core.progress import alerts_by
    from waveimport.store.progress import read_progress

    job = database.run(lambda connection: read_progress(connection, job_id))
    return job, alerts_by(job, settings.run)


def reasons(
    database: "Database", settings: "Settings", job: "JobProgress", *, here: bool = True
) -> "tuple[Reason, ...]":
    """Return why a job is not completed; `here` says that its database is on this machine. Raises UnknownJob."""
    import shutil
    from dataclasses import replace

    from waveimport.core.why import explain
    from waveimport.runtime.single_flight import is_gone
    from waveimport.store.engine import sqlite_path
    from waveimport.store.standstill import read_facts

    facts = database.run(lambda connection: read_facts(connection, job))
    file = sqlite_path(settings.database.url)
    free = None if file is None or not here else shutil.disk_usage(file.parent).free
    gone = here and is_gone(facts.lease_owner, facts.lease_machine)
    return explain(replace(facts, lease_seconds=settings.run.lease_seconds, disk_free_bytes=free, holder_gone=gone))
