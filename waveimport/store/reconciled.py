"""When the tables of a profile were last compared with the source as a whole, and when that is due again.

`import_jobs.reconciled_at` is set by the job that compared all of its records and found them equal. A source that would
not count is kept as an event, or each job would ask it for the same minutes again.
"""

from collections.abc import Mapping
from typing import Final

import msgspec
from sqlalchemy import func, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from waveimport.core.reconcile import RECONCILE_EVERY_DAYS, covers
from waveimport.core.waves import BatchKind, BatchStatus, JobStatus
from waveimport.store import journal
from waveimport.store.dialect import after, now
from waveimport.store.jobs import get_job
from waveimport.store.tables import batch_events, import_jobs, wave_batches

UNCOUNTED: Final = "uncounted"
"""The event of a batch that planned a record of which the source could not be asked for a count afterwards."""
_DAY: Final = 86_400.0
_JOBS_MOST: Final = 1_000


def is_due(connection: Connection, job_id: str) -> bool:
    """Whether a completed job is to compare whole tables, by the database's clock.

    So it is when no job of the same selection, or of all records, has found them equal within the week, and when the
    last one found a difference: that stands until a comparison says otherwise. For a day after the source would not
    count it is not.
    """
    job = get_job(connection, job_id)
    jobs = select(import_jobs.c.selection, import_jobs.c.error).where(
        import_jobs.c.profile == job.profile, import_jobs.c.job_id != job_id
    )
    refused = (
        select(batch_events.c.id)
        .select_from(batch_events.join(import_jobs, import_jobs.c.job_id == batch_events.c.job_id))
        .where(import_jobs.c.profile == job.profile, *refused_lately())
    )
    if connection.execute(refused.limit(1)).first() is not None:
        return False
    completed = jobs.where(import_jobs.c.status == JobStatus.COMPLETED.value).order_by(
        import_jobs.c.created_at.desc(), import_jobs.c.job_id.desc()
    )
    for row in connection.execute(completed.limit(_JOBS_MOST)):
        if covers(_names(row.selection), job.selection):
            if row.error is not None:
                return True
            break
    equal = jobs.where(import_jobs.c.reconciled_at > after(-RECONCILE_EVERY_DAYS * _DAY))
    return not any(covers(_names(row.selection), job.selection) for row in connection.execute(equal))


def refused_lately() -> tuple[ColumnElement[bool], ...]:
    """Return the conditions on `batch_events` and `import_jobs` for an event that puts the comparison off."""
    return (
        import_jobs.c.created_at > after(-RECONCILE_EVERY_DAYS * _DAY),
        batch_events.c.event == UNCOUNTED,
        batch_events.c.at > after(-_DAY),
    )


def written_off(connection: Connection, profile: str, roots: Mapping[str, str]) -> set[str]:
    """Return the records of which a person has written a batch off that no completed job has read since: rows are
    missing, and known to be. `roots` has the main record of each."""
    skipped = connection.execute(
        select(wave_batches.c.record, func.max(import_jobs.c.created_at).label("last"))
        .select_from(wave_batches.join(import_jobs, import_jobs.c.job_id == wave_batches.c.job_id))
        .where(
            import_jobs.c.profile == profile,
            wave_batches.c.status == BatchStatus.FAILED.value,
            wave_batches.c.skipped_at.is_not(None),
        )
        .group_by(wave_batches.c.record)
    ).all()
    found = set()
    for row in skipped:
        plans = (
            select(wave_batches.c.spec)
            .select_from(wave_batches.join(import_jobs, import_jobs.c.job_id == wave_batches.c.job_id))
            .where(
                import_jobs.c.profile == profile,
                import_jobs.c.status == JobStatus.COMPLETED.value,
                import_jobs.c.created_at > row.last,
                wave_batches.c.record == roots.get(row.record, row.record),
                wave_batches.c.kind == BatchKind.PLAN.value,
            )
        )
        if all("since" in msgspec.json.decode(spec) for spec in connection.execute(plans).scalars()):
            found.add(row.record)
    return found


def mark(connection: Connection, job_id: str, token: int) -> None:
    """Keep that a job's tables were compared as a whole and found equal; under its token."""
    connection.execute(
        update(import_jobs)
        .where(import_jobs.c.job_id == job_id, import_jobs.c.lease_token == token)
        .values(reconciled_at=now(), updated_at=now())
    )


def note_uncounted(connection: Connection, job_id: str, plan_batch_id: str, why: str) -> None:
    """Keep that the source could not be asked for a count of the family that a batch planned."""
    journal.batch_event(connection, job_id, plan_batch_id, UNCOUNTED, 0, why)


def _names(selection: str | None) -> tuple[str, ...] | None:
    return None if selection is None else tuple(msgspec.json.decode(selection))
