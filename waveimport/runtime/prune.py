"""Old jobs deleted, in both databases where there are two: beside a run, a few thousand rows a transaction."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from waveimport.core.graph import root_of
from waveimport.core.retention import Reason, Retention, journals, retention
from waveimport.core.settings import Settings
from waveimport.core.waves import Trigger
from waveimport.errors import DatabaseDown, DatabaseError
from waveimport.runtime import clock
from waveimport.runtime.opening import open_database
from waveimport.store import pruning, schema
from waveimport.store.engine import sqlite_path
from waveimport.store.pruning import Rows
from waveimport.store.transactions import Database

ROWS_AT_ONCE: Final = 2_000
PAUSE_SECONDS: Final = 0.002
"""Between two transactions, as a run's writer makes it: whoever polls for the write lock would starve otherwise."""
LANDING_SECONDS: Final = 3_600.0
"""How long after a job has ended, beyond the time limit of a request, the fences of its batches are kept in a
destination of its own: they are all that stops a page that is still on its way there."""


@dataclass(frozen=True, slots=True)
class Pruned:
    """What was deleted (or would be), by job, the oldest first; and the jobs that were kept, by reason."""

    deleted: Mapping[str, Rows]
    kept: Mapping[Reason, tuple[str, ...]]


def prune(
    settings: Settings,
    *,
    keep: int | None,
    older_than_seconds: float | None,
    journal_only: bool,
    dry_run: bool,
    trigger: Trigger,
) -> Pruned:
    """Delete the old jobs of the profile that nothing depends on any more, or their journals and events alone.

    Old are those beyond the newest `keep`, and those that ended `older_than_seconds` ago or longer; both where both
    are given. With `dry_run` nothing is written. Stopped midway, each call goes on where the last one was. Raises the
    database's errors, DatabaseDown also for a destination of its own.
    """
    file = sqlite_path(settings.database.url)
    if file is not None and not file.exists():
        return Pruned({}, {})
    database = Database.open_reader(settings.database.url) if dry_run else open_database(settings)
    try:
        if not schema.require_current(database):
            return Pruned({}, {})
        chosen = _choose(settings, database, keep, older_than_seconds, journal_only)
        if dry_run:
            deleted = {job_id: _count(database, job_id, journal_only) for job_id in chosen.delete}
        elif journal_only:
            deleted = {job_id: _delete_journal(database, job_id, trigger) for job_id in chosen.delete}
        else:
            with _destination(settings, wanted=bool(chosen.delete)) as destination:
                deleted = {job_id: _delete(database, destination, job_id) for job_id in chosen.delete}
    finally:
        database.close()
    return Pruned({job_id: rows for job_id, rows in deleted.items() if rows != Rows()}, chosen.kept)


def forget_old_journals(settings: Settings, *, trigger: Trigger) -> Mapping[str, Rows]:
    """Delete the journals of jobs that ended `journal_days` ago or longer, as `prune --journal-only` would; none at 0.

    Returns what was deleted, by job; raises the database's errors.
    """
    days = settings.run.journal_days
    if not days:
        return {}
    old = prune(
        settings, keep=None, older_than_seconds=days * 86_400.0, journal_only=True, dry_run=False, trigger=trigger
    )
    return old.deleted


def _choose(
    settings: Settings, database: Database, keep: int | None, older_than_seconds: float | None, journal_only: bool
) -> Retention:
    roots = {record.name: root_of(record.name, settings.records) for record in settings.records}
    history = database.run(lambda connection: pruning.read_history(connection, settings.profile, roots))
    if journal_only:
        return journals(history, keep=keep, older_than_seconds=older_than_seconds)
    return retention(
        history,
        keep=keep,
        older_than_seconds=older_than_seconds,
        landing_seconds=0.0 if settings.one_database else LANDING_SECONDS + settings.run.request_timeout_seconds,
    )


def _count(database: Database, job_id: str, journal_only: bool) -> Rows:
    return database.run(lambda connection: pruning.count_rows(connection, job_id, journal_only=journal_only))


def _delete(database: Database, destination: Database | None, job_id: str) -> Rows:
    done = Rows()
    if not database.run(lambda connection: pruning.condemn(connection, job_id)):
        return done
    if destination is not None:
        # Before the job: of a job that is gone nobody would look for them again.
        while destination.run(lambda connection: pruning.delete_some_fences(connection, job_id, ROWS_AT_ONCE)):
            clock.pause(PAUSE_SECONDS)
    while (some := database.run(lambda connection: pruning.delete_some(connection, job_id, ROWS_AT_ONCE))) is not None:
        done += some
        clock.pause(PAUSE_SECONDS)
    return done


def _delete_journal(database: Database, job_id: str, trigger: Trigger) -> Rows:
    done = Rows()
    while True:
        some = database.run(
            lambda connection: pruning.delete_some_of_journal(connection, job_id, ROWS_AT_ONCE, trigger=trigger)
        )
        if some is None:
            return done
        done += some
        clock.pause(PAUSE_SECONDS)


@contextmanager
def _destination(settings: Settings, *, wanted: bool) -> Iterator[Database | None]:
    """Yield the destination where it is a database of its own and there is one, else None."""
    apart = None if settings.one_database else settings.destination
    file = None if apart is None else sqlite_path(apart.url)
    if apart is None or not wanted or (file is not None and not file.exists()):
        yield None
        return
    destination = open_database(replace(settings, database=apart))
    try:
        # Asked before a job is begun, so that none is left half deleted for it.
        destination.run(lambda connection: None)
        yield destination
    except DatabaseError as error:
        if error.where != destination.name:
            raise
        raise DatabaseDown(
            f"the destination, which holds fences of the jobs to delete: {error.message}",
            where=error.where,
            help="`waveimport prune` again once it can be reached; with --journal-only it is not needed",
        ) from error
    finally:
        destination.close()
