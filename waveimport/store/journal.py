"""The journal: what each coordination pass saw and decided, appended under the job-row lock only.

One row for every pass that moves something, and for every *situation* that passes of one holder meet without moving
anything, an empty decision included: the decision that left 35 batches pending for ever *was* an empty one. A pass that
meets a situation again is counted on its row. The rows of a job are as many as its situations, a few thousand, where a
row whenever anything differed from the last was 0.4 rows of 1.2 kB a batch: half a gigabyte of a million.
`import_jobs.idle_passes` counts the passes in a row that met one situation with nothing done between them.
"""

from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec
from sqlalchemy import and_, bindparam, case, insert, literal, literal_column, select, update
from sqlalchemy.engine import Connection

from waveimport import __version__
from waveimport.core.replay import essence
from waveimport.core.waves import DECISION_VERSION, Decision, JobSnapshot, Trigger
from waveimport.errors import JournalDamaged
from waveimport.store.dialect import Prepared, now
from waveimport.store.tables import batch_events, import_jobs, wave_journal

CODE_VERSION = __version__
KNOWN_MOST = 500
"""Situations whose row is remembered."""

_BUMP = Prepared(
    update(import_jobs)
    .where(import_jobs.c.job_id == bindparam("job"))
    .values(journal_seq=bindparam("number"), updated_at=now())
)
_SEQ = Prepared(select(import_jobs.c.journal_seq).where(import_jobs.c.job_id == bindparam("job")))
_MET = Prepared(
    select(wave_journal.c.seq)
    .where(
        wave_journal.c.job_id == bindparam("job"),
        wave_journal.c.token == bindparam("token"),
        wave_journal.c.situation == bindparam("situation"),
    )
    .order_by(wave_journal.c.seq.desc())
    .limit(1)
)
_REPEAT = Prepared(
    update(wave_journal)
    .where(
        wave_journal.c.job_id == bindparam("job"),
        wave_journal.c.seq == bindparam("number"),
        wave_journal.c.token == bindparam("of_token"),
        wave_journal.c.situation == bindparam("met"),
    )
    .values(repeats=wave_journal.c.repeats + 1, repeated_at=now())
)
# MySQL assigns from left to right, and sees what it assigned: the comparison goes first.
_PASSED = Prepared(
    update(import_jobs)
    .where(import_jobs.c.job_id == bindparam("job"))
    .ordered_values(
        (
            import_jobs.c.idle_passes,
            case(
                (
                    and_(literal(0) == bindparam("worked"), import_jobs.c.pass_seq == bindparam("number")),
                    import_jobs.c.idle_passes + 1,
                ),
                else_=0,
            ),
        ),
        (import_jobs.c.pass_seq, bindparam("number")),
        (import_jobs.c.updated_at, now()),
    )
)
_PASSED_ANEW = Prepared(
    update(import_jobs)
    .where(import_jobs.c.job_id == bindparam("job"))
    .values(journal_seq=bindparam("number"), pass_seq=bindparam("number"), idle_passes=0, updated_at=now())
)
_APPEND = Prepared(
    insert(wave_journal).values(
        job_id=bindparam("job"),
        seq=bindparam("seq"),
        at=now(),
        source=bindparam("source"),
        token=bindparam("token"),
        event=bindparam("event"),
        snapshot=bindparam("snapshot"),
        decision=bindparam("decision"),
        note=bindparam("note"),
        situation=bindparam("situation"),
        decision_version=literal_column(str(DECISION_VERSION)),
        code_version=bindparam("code_version"),
    )
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
    situation: str | None = None,
) -> int:
    """Append one row and return its number. The caller holds the lock of the job row."""
    seq = _insert(
        connection,
        job_id,
        source=source,
        token=token,
        event=event,
        snapshot=snapshot,
        decision=decision,
        note=note,
        situation=situation,
    )
    _BUMP.execute(connection, {"job": job_id, "number": seq})
    return seq


def _insert(
    connection: Connection,
    job_id: str,
    *,
    source: Trigger,
    token: int,
    event: str,
    snapshot: JobSnapshot | None,
    decision: Decision | None,
    note: str | None,
    situation: str | None,
) -> int:
    """Insert the next row and return its number, which is then to be written to the job."""
    seq: int = _SEQ.read(connection, {"job": job_id}).scalar_one() + 1
    _APPEND.execute(
        connection,
        {
            "job": job_id,
            "seq": seq,
            "source": str(source),
            "token": token,
            "event": event,
            "snapshot": None if snapshot is None else msgspec.json.encode(snapshot).decode(),
            "decision": None if decision is None else msgspec.json.encode(decision).decode(),
            "note": note,
            "situation": situation,
            "code_version": CODE_VERSION,
        },
    )
    return seq


def record_pass(
    connection: Connection,
    job_id: str,
    *,
    source: Trigger,
    token: int,
    snapshot: JobSnapshot,
    decision: Decision,
    worked: bool = False,
    known: dict[str, int] | None = None,
) -> bool:
    """Append the pass, or count it on the row of the situation that it met again. Returns whether a row was written.

    Unless something was `worked` since the pass before, one that meets the situation of that pass is idle. `known` are
    the rows of situations that passes with this token have met, and is added to.
    """
    situation = None if decision.changes_rows else situation_of(source, snapshot, decision)
    known = {} if known is None else known
    if situation is not None:
        met = _repeat(connection, job_id, token, situation, known)
        if met is not None:
            _PASSED.execute(connection, {"job": job_id, "number": met, "worked": int(worked)})
            return False
    seq = _insert(
        connection,
        job_id,
        source=source,
        token=token,
        event="pass",
        snapshot=snapshot,
        decision=decision,
        note=None,
        situation=situation,
    )
    _PASSED_ANEW.execute(connection, {"job": job_id, "number": seq})
    if situation is not None:
        _remember(known, situation, seq)
    return True


def _repeat(connection: Connection, job_id: str, token: int, situation: str, known: dict[str, int]) -> int | None:
    """Count a pass on the row of its situation and return that row's number; None where it is met for the first time.

    The number is `known` from the time before; that it is the row of this very situation is asked of the row itself, as
    what was known may have been rolled back.
    """
    binds = {"job": job_id, "of_token": token, "met": situation}
    number = known.get(situation)
    if number is not None and _REPEAT.execute(connection, {**binds, "number": number}) == 1:
        return number
    found: int | None = _MET.read(connection, {"job": job_id, "token": token, "situation": situation}).scalar()
    if found is None:
        return None
    _remember(known, situation, found)
    _REPEAT.execute(connection, {**binds, "number": found})
    return found


def _remember(known: dict[str, int], situation: str, number: int) -> None:
    if len(known) >= KNOWN_MOST:
        known.clear()
    known[situation] = number


def situation_of(source: Trigger, snapshot: JobSnapshot, decision: Decision) -> str:
    """Return what tells a pass that moves nothing from others: a hash of who passed, what it saw and what it decided.

    How many batches a wave has does not count (`core.replay.essence`): a derived wave has more at every pass.
    """
    return blake2b(msgspec.json.encode((source, essence(snapshot), decision)), digest_size=16).hexdigest()


def batch_event(
    connection: Connection, job_id: str, batch_id: str, event: str, attempt: int, detail: str | None = None
) -> None:
    """Keep what happened to a batch out of the ordinary: fenced, failed, requeued, split, handed back."""
    connection.execute(_EVENT, {"job": job_id, "batch": batch_id, "event": event, "attempt": attempt, "detail": detail})


class Entry(msgspec.Struct, frozen=True):
    """One row of the journal, its snapshot and decision decoded (None where the event has none). Of a pass `repeats` is
    how often it was met again, in whatever order with others, and `repeated_at` when last."""

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
    repeats: int = 0
    repeated_at: datetime | None = None


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
        repeats=row.repeats,
        repeated_at=row.repeated_at,
    )
