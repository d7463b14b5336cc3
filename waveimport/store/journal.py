"""The journal: what each coordination pass saw and decided, appended under the job-row lock only.

One row whenever the snapshot or the decision differs from the last row's, an empty decision included: the decision
that left 35 batches pending for ever *was* an empty one. Repeats are counted in `import_jobs.idle_passes`.
"""

from datetime import datetime
from importlib.metadata import version
from typing import Any

import msgspec
from sqlalchemy import bindparam, insert, literal_column, select, update
from sqlalchemy.engine import Connection

from waveimport.core.waves import DECISION_VERSION, Decision, JobSnapshot, Trigger
from waveimport.errors import JournalDamaged
from waveimport.store.dialect import now
from waveimport.store.tables import batch_events, import_jobs, wave_journal

CODE_VERSION = version("waveimport")

_BUMP = (
    update(import_jobs)
    .where(import_jobs.c.job_id == bindparam("job"))
    .values(journal_seq=import_jobs.c.journal_seq + 1, idle_passes=0, updated_at=now())
)
_SEQ = select(import_jobs.c.journal_seq).where(import_jobs.c.job_id == bindparam("job"))
_LAST = (
    select(wave_journal.c.snapshot, wave_journal.c.decision, wave_journal.c.event)
    .where(wave_journal.c.job_id == bindparam("job"))
    .order_by(wave_journal.c.seq.desc())
    .limit(1)
)
_IDLE = (
    update(import_jobs)
    .where(import_jobs.c.job_id == bindparam("job"))
    .values(idle_passes=import_jobs.c.idle_passes + 1, updated_at=now())
)
_APPEND = insert(wave_journal).values(
    job_id=bindparam("job"),
    seq=bindparam("seq"),
    at=now(),
    source=bindparam("source"),
    token=bindparam("token"),
    event=bindparam("event"),
    snapshot=bindparam("snapshot"),
    decision=bindparam("decision"),
    note=bindparam("note"),
    decision_version=literal_column(str(DECISION_VERSION)),
    code_version=bindparam("code_version"),
)
_EVENT = insert(batch_events).values(
    job_id=bindparam("job"),
    batch_id=bindparam("batch"),
    at=now(),
    event=bindparam("event"),
    attempt=bindparam("attempt"),
    detail=bindparam("detail"),
)


def append(
    connection: Connection,
    job_id: str,
    *,
    source: Trigger,
    token: int,
    event: str,
    snapshot: JobSnapshot | None = None,
    decision: Decision | None = None,
    note: str | None = None,
) -> int:
    """Append one row and return its number. The caller holds the lock of the job row."""
    connection.execute(_BUMP, {"job": job_id})
    seq: int = connection.execute(_SEQ, {"job": job_id}).scalar_one()
    connection.execute(
        _APPEND,
        {
            "job": job_id,
            "seq": seq,
            "source": str(source),
            "token": token,
            "event": event,
            "snapshot": None if snapshot is None else msgspec.json.encode(snapshot).decode(),
            "decision": None if decision is None else msgspec.json.encode(decision).decode(),
            "note": note,
            "code_version": CODE_VERSION,
        },
    )
    return seq


def record_pass(
    connection: Connection, job_id: str, *, source: Trigger, token: int, snapshot: JobSnapshot, decision: Decision
) -> bool:
    """Append the pass unless it repeats the last row; count it as idle then. Returns whether a row was written."""
    last = connection.execute(_LAST, {"job": job_id}).first()
    if (
        last is not None
        and last.event == "pass"
        and last.snapshot == msgspec.json.encode(snapshot).decode()
        and last.decision == msgspec.json.encode(decision).decode()
    ):
        connection.execute(_IDLE, {"job": job_id})
        return False
    append(connection, job_id, source=source, token=token, event="pass", snapshot=snapshot, decision=decision)
    return True


def batch_event(
    connection: Connection, job_id: str, batch_id: str, event: str, attempt: int, detail: str | None = None
) -> None:
    """Keep what happened to a batch out of the ordinary: fenced, failed, requeued, split, handed back."""
    connection.execute(_EVENT, {"job": job_id, "batch": batch_id, "event": event, "attempt": attempt, "detail": detail})


class Entry(msgspec.Struct, frozen=True):
    """One row of the journal, its snapshot and decision decoded (None where the event has none)."""

    seq: int
    at: datetime
    source: str
    token: int
    event: str
    note: str | None
    decision_version: int
    code_version: str
    snapshot: JobSnapshot | None
    decision: Decision | None


def entries(
    connection: Connection, job_id: str, *, until: int | None = None, after: int = 0, limit: int | None = None
) -> list[Entry]:
    """Return the journal of a job in order, behind number `after`, up to number `until` (inclusive), at most `limit`.

    A long journal is read in parts by `after` and `limit`. Raises JournalDamaged for an entry that cannot be decoded.
    """
    query = select(wave_journal).where(wave_journal.c.job_id == job_id).order_by(wave_journal.c.seq)
    if until is not None:
        query = query.where(wave_journal.c.seq <= until)
    if after:
        query = query.where(wave_journal.c.seq > after)
    if limit is not None:
        query = query.limit(limit)
    return [_entry(row) for row in connection.execute(query)]


def _entry(row: Any) -> Entry:
    try:
        snapshot = None if row.snapshot is None else msgspec.json.decode(row.snapshot, type=JobSnapshot)
        decision = None if row.decision is None else msgspec.json.decode(row.decision, type=Decision)
    except msgspec.DecodeError as error:
        raise JournalDamaged(
            f"entry {row.seq} of the journal of {row.job_id} cannot be decoded: {error}",
            where=f"wave_journal, seq {row.seq}, written by waveimport {row.code_version}",
            help="another version may have written it, or it was changed by hand; `--until` stops before it",
        ) from None
    return Entry(
        seq=row.seq,
        at=row.at,
        source=row.source,
        token=row.token,
        event=row.event,
        note=row.note,
        decision_version=row.decision_version,
        code_version=row.code_version,
        snapshot=snapshot,
        decision=decision,
    )
