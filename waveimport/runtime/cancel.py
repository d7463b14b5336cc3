"""The end of a job by a person's word (T8), in both databases where there are two."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from waveimport.core.settings import Settings
from waveimport.core.waves import JobStatus, Trigger
from waveimport.errors import DatabaseDown, DatabaseError, UnknownJob
from waveimport.runtime.opening import open_database
from waveimport.store import jobs, overview, schema
from waveimport.store.destination import raise_fence
from waveimport.store.engine import sqlite_path
from waveimport.store.transactions import Database


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What `cancel_import` found and did: the status before, who held the lease, how many batches were at work.

    `status` completed or cancelled means that there was nothing to cancel.
    """

    job_id: str
    status: JobStatus
    holder: str | None
    taken_back: int


def cancel_import(settings: Settings, job_id: str, *, trigger: Trigger) -> Cancelled:
    """Cancel a job: no commit of its workers can pass any more, what has landed stays.

    Where the rows land in a database of their own, the fences of every batch that was ever claimed are raised there
    too; calling again does that part again. Raises UnknownJob (also where there is no database yet, which is not
    made), and DatabaseDown when the job is cancelled but its destination out of reach.
    """
    with opened_for(settings, job_id) as database:
        before, live = database.run(lambda connection: jobs.cancel_job(connection, job_id, trigger=trigger))
        if before.status is not JobStatus.COMPLETED and not settings.one_database:
            claims = database.run(lambda connection: overview.taken_back(connection, job_id))
            _raise_fences(settings, job_id, claims)
    return Cancelled(job_id, before.status, before.lease_owner, len(live))


@contextmanager
def opened_for(settings: Settings, job_id: str) -> Iterator[Database]:
    """Yield the coordination database, to change a job. Raises UnknownJob where there is none yet: none is made."""
    none = UnknownJob(f"no job `{job_id}` is in the database", help="no job yet; `waveimport run` creates one")
    file = sqlite_path(settings.database.url)
    if file is not None and not file.exists():
        raise none
    database = open_database(settings)
    try:
        if not schema.require_current(database):
            raise none
        yield database
    finally:
        database.close()


def _raise_fences(settings: Settings, job_id: str, claims: Sequence[tuple[str, int]]) -> None:
    """Raise the fence of each batch above its latest attempt, so that no landing under way can pass it."""
    assert settings.destination is not None, "two databases are two tables of the configuration"
    if not claims:
        return
    destination = open_database(replace(settings, database=settings.destination))
    try:
        destination.run(
            lambda connection: [raise_fence(connection, job_id, batch_id, attempt + 1) for batch_id, attempt in claims]
        )
    except DatabaseError as error:
        raise DatabaseDown(
            f"the job is cancelled, but a page of it that is on its way can still land: {error.message}",
            where=error.where,
            help=f"`waveimport cancel {job_id}` again once the destination can be reached",
        ) from error
    finally:
        destination.close()
