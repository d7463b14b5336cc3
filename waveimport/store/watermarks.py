"""Watermarks: from when on the next job of a profile reads the changes of a record.

They move in the transaction that ends a job. What failed in it is then behind them, and owed (`store.debts`); the
first full import of a profile moves them only once it is completed, or all that failed in it was skipped.
"""

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import and_, delete, select, update
from sqlalchemy.engine import Connection

from waveimport.core.increments import MOMENT_FORMAT, Since, Watermark
from waveimport.store.dialect import now, upsert
from waveimport.store.plans import plans_of
from waveimport.store.tables import batch_events, import_jobs, import_watermarks, wave_batches


def read(connection: Connection, profile: str) -> dict[str, Watermark]:
    """Return the watermarks of a profile, by record."""
    rows = connection.execute(
        select(import_watermarks.c.record, import_watermarks.c.watermark, import_jobs.c.config_text)
        .select_from(import_watermarks.outerjoin(import_jobs, import_jobs.c.job_id == import_watermarks.c.job_id))
        .where(import_watermarks.c.profile == profile)
    )
    return {row.record: Watermark(row.watermark.strftime(MOMENT_FORMAT), row.config_text) for row in rows}


def plan_spec(since: Since | None) -> dict[str, object]:
    """Return what the planning batch of a main record is told: nothing for a full read."""
    return {} if since is None else {"since": since.record, "below": dict(since.below)}


def since_of(connection: Connection, job_id: str) -> dict[str, str]:
    """Return, by main record, since when a job reads it; records that it reads in full are not in it."""
    found = plans_of(connection, job_id)
    return {plan.record: plan.spec["since"] for plan in found if isinstance(plan.spec.get("since"), str)}


def as_of(connection: Connection, job_id: str) -> dict[str, str]:
    """Return, by main record, the source's clock when a job began to read it; only of families with a cursor."""
    found = plans_of(connection, job_id)
    return {plan.record: plan.spec["as_of"] for plan in found if isinstance(plan.spec.get("as_of"), str)}


def move(connection: Connection, job_id: str, *, planned_only: bool = False) -> None:
    """Set the watermarks of a job that is ending, and its `as_of`, by what its planning batches have kept.

    A family of which a record was not to be seen at the source keeps its own: nothing of it may be taken as read. Nor,
    with `planned_only`, does one move whose planning is not completed: a part of it is in no batch; or which was read
    beside its tables: what stands in them is as it was.
    """
    (profile,) = connection.execute(select(import_jobs.c.profile).where(import_jobs.c.job_id == job_id)).one()
    earliest: datetime | None = None
    unseen = kept_records(connection, job_id)
    for plan in plans_of(connection, job_id, completed_only=planned_only):
        spec = plan.spec
        if planned_only and spec.get("swap"):
            continue
        if "as_of" not in spec or not unseen.isdisjoint(spec["family"]):
            continue
        as_of = datetime.strptime(spec["as_of"], MOMENT_FORMAT)
        earliest = as_of if earliest is None else min(earliest, as_of)
        watermark = as_of - timedelta(seconds=spec["lookback"])
        for record in spec["cursors"]:
            set_watermark(connection, profile, record, watermark, job_id)
    if earliest is not None:
        connection.execute(update(import_jobs).where(import_jobs.c.job_id == job_id).values(as_of=earliest))


def set_watermark(connection: Connection, profile: str, record: str, moment: datetime, job_id: str | None) -> None:
    """Set one watermark, to the second."""
    connection.execute(
        upsert(connection, import_watermarks).values(
            profile=profile, record=record, watermark=moment.replace(microsecond=0), job_id=job_id, updated_at=now()
        )
    )


def keep_only(connection: Connection, profile: str, records: Collection[str]) -> None:
    """Forget the watermarks of a profile but those of some records.

    A job that reads a record in full may be cancelled midway, under a configuration that is then taken back: what
    stands in the table is not what the old watermark says any more.
    """
    connection.execute(
        delete(import_watermarks).where(
            import_watermarks.c.profile == profile, import_watermarks.c.record.not_in(list(records))
        )
    )


def kept_records(connection: Connection, job_id: str) -> set[str]:
    """Return the records of which a job has removed nothing because the source showed no row of them at all."""
    rows = connection.execute(
        select(wave_batches.c.record)
        .select_from(
            batch_events.join(
                wave_batches,
                and_(
                    wave_batches.c.job_id == batch_events.c.job_id, wave_batches.c.batch_id == batch_events.c.batch_id
                ),
            )
        )
        .where(batch_events.c.job_id == job_id, batch_events.c.event == "kept")
        .distinct()
    )
    return set(rows.scalars())


def shift(connection: Connection, profile: str, record: str, moment: datetime) -> bool:
    """Set a watermark by a person's word; False where there is none, since nothing says that what lies before is in."""
    moved = connection.execute(
        update(import_watermarks)
        .where(import_watermarks.c.profile == profile, import_watermarks.c.record == record)
        .values(watermark=moment.replace(microsecond=0), updated_at=now())
    )
    return moved.rowcount == 1


def forget(connection: Connection, profile: str, job_id: str) -> None:
    """Forget the watermarks that a job has set: the next reads those families in full."""
    connection.execute(
        delete(import_watermarks).where(import_watermarks.c.profile == profile, import_watermarks.c.job_id == job_id)
    )


def reset(connection: Connection, profile: str, record: str) -> None:
    """Forget a watermark: the next job reads the record's family in full."""
    connection.execute(
        delete(import_watermarks).where(import_watermarks.c.profile == profile, import_watermarks.c.record == record)
    )
