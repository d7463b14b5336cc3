"""Old jobs and their journals, deleted in small transactions beside whatever is at work.

A job of a million batches cannot go in one transaction, and what is left of it must break no rule of `store.audit` in
between. So the first transaction condemns it: it is cancelled and says in `error` what is happening to it, its waves
are open again, and its token grows, so that nothing that still works for it can write. From then on batches and the
totals of their waves go down together, the journal is cut from its end, and the job goes with the last of it. A
deletion that was cut short is found by its words and gone on with.

Of a job whose journal alone is deleted, the first entry is kept and becomes the mark of it: a journal of one entry
"pruned", numbered 1, is whole, while one that was damaged has lost entries that the job still counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from sqlalchemy import and_, bindparam, delete, func, inspect, select, text, update
from sqlalchemy.engine import Connection

from waveimport.core.reconcile import RECONCILE_EVERY_DAYS
from waveimport.core.retention import History, Past
from waveimport.core.waves import UNFINISHED_JOB, BatchKind, BatchStatus, JobStatus, Trigger, WaveStatus
from waveimport.store import debts, reconciled
from waveimport.store.destination import FENCE_TABLE
from waveimport.store.dialect import now
from waveimport.store.tables import (
    batch_events,
    import_jobs,
    import_watermarks,
    wave_batches,
    wave_coordination,
    wave_journal,
)

CONDEMNED: Final = "being deleted by `waveimport prune`, which goes on where it was stopped"
PRUNED: Final = "pruned"
"""The event of the one entry of a journal that was deleted."""
_PRUNED_NOTE: Final = "the entries up to here were deleted, by `prune --journal-only` or for their age (`journal_days`)"
_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows of each kind: jobs, batches, entries of the journal, events of batches."""

    jobs: int = 0
    batches: int = 0
    entries: int = 0
    events: int = 0

    def __add__(self, other: "Rows") -> "Rows":
        """Return the sum, kind by kind."""
        return Rows(
            self.jobs + other.jobs,
            self.batches + other.batches,
            self.entries + other.entries,
            self.events + other.events,
        )


# --- what there is ----------------------------------------------------------------------------------------------


def read_history(connection: Connection, profile: str, roots: Mapping[str, str]) -> History:
    """Return the jobs of a profile and what hangs on them; `roots` has the main record of each configured record.

    What was written off of a record that is configured no more is nobody's concern: if it ever is again, it is read in
    full.
    """
    moment = connection.execute(select(now())).scalar_one()
    rows = connection.execute(
        select(
            import_jobs.c.job_id,
            import_jobs.c.status,
            import_jobs.c.selection,
            import_jobs.c.created_at,
            func.coalesce(import_jobs.c.finished_at, import_jobs.c.updated_at).label("ended_at"),
            import_jobs.c.lease_owner,
            import_jobs.c.reconciled_at,
            import_jobs.c.error,
        )
        .where(import_jobs.c.profile == profile)
        .order_by(import_jobs.c.created_at.desc(), import_jobs.c.job_id.desc())
    ).all()
    uncounted = _uncounted(connection, profile)

    def past(row: Any) -> Past:
        status = JobStatus(row.status)
        compared = None if row.reconciled_at is None else (moment - row.reconciled_at).total_seconds()
        return Past(
            job_id=row.job_id,
            status=status,
            created_at=row.created_at,
            selection=None if row.selection is None else frozenset(msgspec.json.decode(row.selection)),
            ended_seconds_ago=None if status in UNFINISHED_JOB else (moment - row.ended_at).total_seconds(),
            held=row.lease_owner is not None,
            reconciled_seconds_ago=None if compared is None or compared > RECONCILE_EVERY_DAYS * _DAY else compared,
            uncounted=row.job_id in uncounted,
            condemned=status is JobStatus.CANCELLED and row.error == CONDEMNED,
        )

    found = [past(row) for row in rows]
    skipped = [pair for pair in _skipped(connection, profile) if pair[1] in roots]
    watermarks = connection.execute(
        select(import_watermarks.c.job_id).where(import_watermarks.c.profile == profile).distinct()
    ).scalars()
    newest = next((job.job_id for job in found if not job.condemned), None)
    return History(
        jobs=found,
        watermarks=frozenset(job_id for job_id in watermarks if job_id is not None),
        owing=_owing(connection, profile, newest),
        carried=_carried(connection, profile),
        skipped=skipped,
        full_reads=_full_reads(connection, profile, {record: roots[record] for _, record in skipped}),
    )


def _uncounted(connection: Connection, profile: str) -> set[str]:
    rows = connection.execute(
        select(batch_events.c.job_id)
        .select_from(batch_events.join(import_jobs, import_jobs.c.job_id == batch_events.c.job_id))
        .where(import_jobs.c.profile == profile, *reconciled.refused_lately())
        .distinct()
    )
    return set(rows.scalars())


def _owing(connection: Connection, profile: str, newest: str | None) -> frozenset[str]:
    """Return the jobs of which something is owed, or would be again: what failed anew in the newest job may be tried
    again there, and left to others when that job is cancelled then."""
    carrying = wave_batches.alias("carrying")
    again = connection.execute(
        select(wave_batches.c.job_id)
        .select_from(
            wave_batches.join(
                carrying,
                and_(carrying.c.job_id == wave_batches.c.carried_by, carrying.c.batch_id == wave_batches.c.carried_as),
            ).join(import_jobs, import_jobs.c.job_id == wave_batches.c.job_id)
        )
        .where(
            import_jobs.c.profile == profile,
            wave_batches.c.status == BatchStatus.FAILED.value,
            wave_batches.c.carried_by == newest,
            carrying.c.status != BatchStatus.COMPLETED.value,
            carrying.c.skipped_at.is_(None),
        )
        .distinct()
    ).scalars()
    return frozenset([*again, *(debt.job_id for debt in debts.standing(connection, profile))])


def _carried(connection: Connection, profile: str) -> frozenset[tuple[str, str]]:
    # Only a failed batch is ever carried, and it stays failed: the index of statuses finds them.
    rows = connection.execute(
        select(wave_batches.c.job_id, wave_batches.c.carried_by)
        .select_from(wave_batches.join(import_jobs, import_jobs.c.job_id == wave_batches.c.job_id))
        .where(
            import_jobs.c.profile == profile,
            wave_batches.c.status == BatchStatus.FAILED.value,
            wave_batches.c.carried_by.is_not(None),
        )
        .distinct()
    )
    return frozenset((row.job_id, row.carried_by) for row in rows)


def _skipped(connection: Connection, profile: str) -> list[tuple[str, str]]:
    rows = connection.execute(
        select(wave_batches.c.job_id, wave_batches.c.record)
        .select_from(wave_batches.join(import_jobs, import_jobs.c.job_id == wave_batches.c.job_id))
        .where(
            import_jobs.c.profile == profile,
            wave_batches.c.status == BatchStatus.FAILED.value,
            wave_batches.c.skipped_at.is_not(None),
        )
        .distinct()
    )
    return [(row.job_id, row.record) for row in rows]


def _full_reads(connection: Connection, profile: str, roots: Mapping[str, str]) -> dict[str, str]:
    """Return, by record, the newest completed job that read all of its main record."""
    if not roots:
        return {}
    rows = connection.execute(
        select(wave_batches.c.job_id, wave_batches.c.record, wave_batches.c.spec)
        .select_from(wave_batches.join(import_jobs, import_jobs.c.job_id == wave_batches.c.job_id))
        .where(
            import_jobs.c.profile == profile,
            import_jobs.c.status == JobStatus.COMPLETED.value,
            wave_batches.c.kind == BatchKind.PLAN.value,
            wave_batches.c.record.in_(sorted(set(roots.values()))),
        )
        .order_by(import_jobs.c.created_at)
    )
    newest = {row.record: row.job_id for row in rows if "since" not in msgspec.json.decode(row.spec)}
    return {record: newest[root] for record, root in roots.items() if root in newest}


def count_rows(connection: Connection, job_id: str, *, journal_only: bool = False) -> Rows:
    """Return what a job has, or with `journal_only` what its journal and events are, without the mark of a pruned
    one."""

    def count(table: Any, *conditions: Any) -> int:
        counted: int = connection.execute(
            select(func.count()).select_from(table).where(table.c.job_id == job_id, *conditions)
        ).scalar_one()
        return counted

    entries = count(wave_journal, *([wave_journal.c.event != PRUNED] if journal_only else []))
    if journal_only:
        return Rows(entries=entries, events=count(batch_events))
    return Rows(1, count(wave_batches), entries, count(batch_events))


# --- what goes --------------------------------------------------------------------------------------------------

_LOCK = (
    select(import_jobs.c.status, import_jobs.c.error, import_jobs.c.journal_seq)
    .where(import_jobs.c.job_id == bindparam("job"))
    .with_for_update()
)


def condemn(connection: Connection, job_id: str) -> bool:
    """Begin the deletion of a job. False where it is gone already, or has not ended: nothing is changed then.

    What still works for it finds itself fenced: its token grows.
    """
    row = connection.execute(_LOCK, {"job": job_id}).first()
    if row is None or JobStatus(row.status) in UNFINISHED_JOB:
        return False
    if row.error == CONDEMNED:
        return True
    connection.execute(
        update(import_jobs)
        .where(import_jobs.c.job_id == job_id)
        .values(
            status=JobStatus.CANCELLED.value,
            error=CONDEMNED,
            lease_token=import_jobs.c.lease_token + 1,
            lease_owner=None,
            lease_expires_at=None,
            updated_at=now(),
        )
    )
    # An open wave may have any number of batches in any state; a settled one must have what it was settled by.
    connection.execute(
        update(wave_coordination)
        .where(wave_coordination.c.job_id == job_id)
        .values(status=WaveStatus.PROCESSING.value, sealed=0, updated_at=now())
    )
    return True


def delete_some(connection: Connection, job_id: str, limit: int) -> Rows | None:
    """Delete at most about `limit` rows of a condemned job, the job itself with the last of them. Returns what was
    deleted; None where nothing of the job is left. A job that is not condemned is left as it is: None too."""
    row = connection.execute(_LOCK, {"job": job_id}).first()
    if row is None or row.error != CONDEMNED:
        return None
    done = Rows(batches=_delete_batches(connection, job_id, limit))
    if done.batches < limit:
        done += Rows(entries=_cut_journal(connection, job_id, row.journal_seq, limit - done.batches, 0))
    if done.batches + done.entries < limit:
        done += Rows(events=_delete_events(connection, job_id, limit - done.batches - done.entries))
    if done.batches + done.entries + done.events < limit:
        # Entries behind the number that the job counts are damage, and go with it.
        connection.execute(delete(wave_journal).where(wave_journal.c.job_id == job_id))
        connection.execute(delete(wave_coordination).where(wave_coordination.c.job_id == job_id))
        connection.execute(delete(import_jobs).where(import_jobs.c.job_id == job_id))
        done += Rows(jobs=1)
    return done


def delete_some_of_journal(connection: Connection, job_id: str, limit: int, *, trigger: Trigger) -> Rows | None:
    """Delete at most about `limit` entries and events of a job that has ended, all but the mark that stands for them.

    Returns what was deleted; None where nothing is left to delete, or the job has not ended.
    """
    row = connection.execute(_LOCK, {"job": job_id}).first()
    if row is None or JobStatus(row.status) in UNFINISHED_JOB:
        return None
    marked = (
        update(wave_journal)
        .where(wave_journal.c.job_id == job_id, wave_journal.c.seq == 1, wave_journal.c.event != PRUNED)
        .values(event=PRUNED, source=trigger.value, snapshot=None, decision=None, note=_PRUNED_NOTE, at=now())
    )
    changed = connection.execute(marked).rowcount
    if row.journal_seq > 1 and not changed:
        connection.execute(
            update(wave_journal).where(wave_journal.c.job_id == job_id, wave_journal.c.seq == 1).values(at=now())
        )
    cut = _cut_journal(connection, job_id, row.journal_seq, limit, 1)
    events = _delete_events(connection, job_id, limit - cut) if cut < limit else 0
    # What the first entry said is gone as well.
    done = Rows(entries=cut + changed, events=events)
    return None if done == Rows() else done


def _delete_batches(connection: Connection, job_id: str, limit: int) -> int:
    of_job = wave_batches.c.job_id == job_id
    last = connection.execute(
        select(wave_batches.c.batch_id).where(of_job).order_by(wave_batches.c.batch_id).limit(1).offset(limit - 1)
    ).scalar()
    these = of_job if last is None else and_(of_job, wave_batches.c.batch_id <= last)
    counts = connection.execute(
        select(wave_batches.c.wave_number, func.count()).where(these).group_by(wave_batches.c.wave_number)
    ).all()
    if not counts:
        return 0
    deleted = connection.execute(delete(wave_batches).where(these)).rowcount
    for wave_number, count in counts:
        connection.execute(
            update(wave_coordination)
            .where(wave_coordination.c.job_id == job_id, wave_coordination.c.wave_number == wave_number)
            .values(total=wave_coordination.c.total - count)
        )
    return deleted


def _cut_journal(connection: Connection, job_id: str, length: int, limit: int, leave: int) -> int:
    """Cut the journal from its end, so that what is left of it is whole, down to `leave` entries."""
    left = max(leave, length - limit)
    if left >= length:
        return 0
    cut = connection.execute(delete(wave_journal).where(wave_journal.c.job_id == job_id, wave_journal.c.seq > left))
    connection.execute(update(import_jobs).where(import_jobs.c.job_id == job_id).values(journal_seq=left))
    return cut.rowcount


def _delete_events(connection: Connection, job_id: str, limit: int) -> int:
    ids = connection.execute(select(batch_events.c.id).where(batch_events.c.job_id == job_id).limit(limit))
    found = list(ids.scalars())
    if found:
        connection.execute(delete(batch_events).where(batch_events.c.id.in_(found)))
    return len(found)


def delete_some_fences(connection: Connection, job_id: str, limit: int) -> int:
    """Delete at most `limit` fences of a job in a destination of its own. Returns how many; 0 where none is left."""
    if not inspect(connection).has_table(FENCE_TABLE):
        return 0
    binds = {"job": job_id, "before": limit - 1}
    last = connection.execute(
        text(f"SELECT batch_id FROM {FENCE_TABLE} WHERE job_id = :job ORDER BY batch_id LIMIT 1 OFFSET :before"), binds
    ).scalar()
    within = "" if last is None else " AND batch_id <= :last"
    return connection.execute(
        text(f"DELETE FROM {FENCE_TABLE} WHERE job_id = :job{within}"),
        {"job": job_id} | ({} if last is None else {"last": last}),
    ).rowcount
