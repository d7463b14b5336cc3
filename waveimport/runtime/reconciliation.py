"""Compare what was counted at the source with what is here, once a job is completed.

What landed of a derived record is counted in its table, by `_job_id`, and not added up from its batches: two rows that
the source sends under one key, or that a trigger keeps out, are two in a batch's count and one or none in the table.

The job is completed by then, so nobody can take it over: its token stays, though its lease is renewed no more. Another
run steps aside while this process holds the lock file, but one on another host may begin the next job and write its own
`_job_id` into rows that are being counted. What was counted beside another job is not told: that job, or one after it,
compares the tables again.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum, auto
from typing import Any

from waveimport.core.increments import MOMENT_FORMAT
from waveimport.core.progress import JobProgress
from waveimport.core.ranges import plan_batch_id
from waveimport.core.reconcile import Comparison, Window, changed_meanwhile, distance, verdict
from waveimport.core.settings import Deletes
from waveimport.errors import BadData, BadReply, QueryRefused, Reconciliation, ServerFault, SourceError
from waveimport.runtime import clock
from waveimport.runtime.recount import Member, Recount, members
from waveimport.runtime.source import Source
from waveimport.runtime.writer import Writer
from waveimport.store import debts, jobs, reconciled, watermarks
from waveimport.store.destination import Target
from waveimport.store.lease import Lease
from waveimport.store.progress import read_progress
from waveimport.store.transactions import Database

log = logging.getLogger(__name__)


def reconcile(
    writer: Writer, held: Lease, targets: Sequence[Target], source: Source, destination: Database
) -> Reconciliation | None:
    """Compare, and keep and return the difference if there is one; see `core.reconcile` for what is one.

    A record of which the source showed no row at all, while its table holds rows of earlier jobs, is a difference too:
    a table that is hidden from the role looks empty. A count that the source refuses, or does not give in time, leaves
    its record uncompared, and says so.

    Three kinds of whole tables an incremental job cannot compare: those with `deletes = "ignore"`, which keep rows that
    the source has no more; those of which a batch is owed or was written off, which are known to lack some; and what
    derives from either.
    """
    return _Reconciling(writer, held, targets, source, destination).go()


class _Rows(Enum):
    """Which rows of a record are compared."""

    PLANNED = auto()
    """Those that the plan of a main record counted, with those that its batches landed."""
    LANDED = auto()
    """Those of a derived record that the job wrote last."""
    WHOLE = auto()
    """All of the table."""


@dataclass(frozen=True, slots=True)
class _Facts:
    """What the job says of itself. `since`, `as_of` and `plans` (the batches that planned them) by main record;
    `carried` are the rows that came by the debts of earlier jobs, which no count of this one has; of `lacking` records
    something is owed or written off."""

    progress: JobProgress
    since: Mapping[str, str]
    as_of: Mapping[str, str]
    plans: Mapping[str, str]
    carried: Mapping[str, int]
    kept: frozenset[str]
    lacking: frozenset[str]
    due: bool


@dataclass(frozen=True, slots=True)
class _Open:
    """A comparison for which the source is still to be asked; `since` where it is about changes alone."""

    member: Member
    rows: _Rows
    found: Comparison
    since: str | None = None


class _Reconciling:
    """One comparison of a job, in the order in which it is made."""

    def __init__(
        self, writer: Writer, held: Lease, targets: Sequence[Target], source: Source, destination: Database
    ) -> None:
        self._writer = writer
        self._held = held
        self._source = source
        self._members = members(targets)
        self._recount = Recount(source, destination)
        self._uncounted: dict[str, str] = {}
        """By record, why it could not be compared."""
        self._facts = writer.transact(self._read)

    def go(self) -> Reconciliation | None:
        """Count here, then at the source; keep what came of it."""
        open_ones = self._counted_here()
        wrong = [words for member in self._members if (words := self._hidden(member)) is not None]
        if self._is_overtaken():
            return None
        wrong = self._ask(open_ones) + wrong
        if wrong and self._is_overtaken():
            return None
        for why in dict.fromkeys(self._uncounted.values()):
            names = ", ".join(f"`{name}`" for name, other in self._uncounted.items() if other == why)
            log.warning("the rows of %s were not reconciled: %s", names, why)
        return self._keep(wrong)

    def _read(self, connection: Any) -> _Facts:
        job_id = self._held.job_id
        progress, due = read_progress(connection, job_id), reconciled.is_due(connection, job_id)
        lacking = {debt.record for debt in progress.owed}
        if due:
            roots = {member.record.name: member.root.name for member in self._members}
            lacking |= reconciled.written_off(connection, progress.profile, roots)
        return _Facts(
            progress=progress,
            since=watermarks.since_of(connection, job_id),
            as_of=watermarks.as_of(connection, job_id),
            plans={name: plan_batch_id(wave.wave_number, name) for wave in progress.waves for name in wave.expected},
            carried=debts.landed_rows(connection, job_id),
            kept=frozenset(watermarks.kept_records(connection, job_id)),
            lacking=frozenset(lacking),
            due=due,
        )

    def _is_overtaken(self) -> bool:
        profile = self._facts.progress.profile
        newest = self._writer.transact(lambda connection: jobs.newest_job(connection, profile))
        if newest is None or newest.job_id == self._held.job_id:
            return False
        log.warning("the rows were not reconciled: another run has begun %s meanwhile", newest.job_id)
        return True

    # --- here ---------------------------------------------------------------------------------------------------

    def _counted_here(self) -> list[_Open]:
        """Return what the source is to be asked for, small tables first: where one count takes too long for it, the
        others are in."""
        facts, found = self._facts, list[_Open]()
        for wave in facts.progress.waves:
            for member in self._members:
                name = member.record.name
                planned = wave.expected.get(name)
                if planned is None:
                    continue
                landed = Comparison(name, wave.rows.get(name, 0) - facts.carried.get(name, 0), (planned,))
                if distance(landed):
                    since = facts.since[name] if self._is_incremental(member) else None
                    found.append(_Open(member, _Rows.PLANNED, landed, since))
        for member in self._members:
            rows = self._rows_of(member)
            if rows is not None:
                job_id = self._held.job_id if rows is _Rows.LANDED else None
                here = self._recount.here(member, job_id)
                whole = rows is _Rows.WHOLE
                found.append(_Open(member, rows, Comparison(member.record.name, here, (), whole)))
        return sorted(found, key=lambda one: (bool(one.member.above), one.found.here))

    def _rows_of(self, member: Member) -> _Rows | None:
        """Return which rows of a record are counted anew, None where the count of its plan is all there is."""
        if self._is_hidden(member):
            return None
        if not self._is_incremental(member):
            return _Rows.LANDED if member.above else None
        records = [member.record, *member.ancestors]
        whole = all(one.deletes is not Deletes.IGNORE and one.name not in self._facts.lacking for one in records)
        return _Rows.WHOLE if self._facts.due and whole else None

    def _is_incremental(self, member: Member) -> bool:
        # A cursor that was taken from the configuration meanwhile made the family's read a full one.
        return member.root.name in self._facts.since and member.root.cursor is not None

    def _is_hidden(self, member: Member) -> bool:
        return any(one.name in self._facts.kept for one in (member.record, *member.ancestors))

    def _hidden(self, member: Member) -> str | None:
        """Return in words that a record was not to be seen at the source, while there are rows of it here."""
        name = member.record.name
        landed = sum(wave.rows.get(name, 0) for wave in self._facts.progress.waves)
        if name not in self._facts.kept or landed:
            return None
        rows = self._recount.here(member, None)
        if not rows:
            return None
        return (
            f"`{name}`: the source shows no row, while `{member.target.table}` holds {rows:,} rows of earlier jobs,"
            f" which were kept, {self._window(member)}"
        )

    # --- at the source ------------------------------------------------------------------------------------------

    def _ask(self, open_ones: Sequence[_Open]) -> list[str]:
        """Return what is wrong, in words.

        A query that is refused is that record's own; after any other error nothing more is asked.
        """
        wrong: list[str] = []
        gone: str | None = None
        for one in open_ones:
            name = one.member.record.name
            if gone is None:
                try:
                    words = self._compared(one)
                except (QueryRefused, ServerFault, BadReply, BadData) as error:
                    self._uncounted[name] = error.message
                except SourceError as error:
                    gone = error.message
                else:
                    wrong += [] if words is None else [words]
            if gone is not None:
                self._uncounted[name] = gone
        return wrong

    def _compared(self, one: _Open) -> str | None:
        member, job_id = one.member, None if one.rows is _Rows.WHOLE else self._held.job_id
        if one.rows is not _Rows.PLANNED:
            log.info("`%s` is counted at the source, to compare %d rows", member.record.name, one.found.here)
        again = self._recount.at_source(member, one.since)
        found = replace(one.found, counted=(*one.found.counted, again))
        changed, as_of = 0, self._facts.as_of.get(member.root.name)
        if as_of is not None:
            changed = changed_meanwhile(found, self._recount.changes(member, as_of, job_id))
        elif distance(found) and one.rows is _Rows.LANDED and not self._stood_still(member):
            self._uncounted[member.record.name] = (
                f"{again:,} are counted and {found.here:,} landed, while `{member.root.name}` was written to; no record"
                " of its family has a cursor to tell how much has changed"
            )
            return None
        return verdict(found, self._window(member), changed)

    def _stood_still(self, member: Member) -> bool:
        """Whether the source has as many rows of a family's main record as were planned and landed. Where nothing says
        what has changed meanwhile this alone does: a difference is then not explained by an account at work."""
        name = member.root.name
        wave = next(wave for wave in self._facts.progress.waves if name in wave.rows)
        root = next(one for one in self._members if one.record.name == name)
        return wave.expected.get(name) == wave.rows[name] == self._recount.at_source(root)

    def _window(self, member: Member) -> Window:
        """Return the time in which rows may have changed, by the source's clock where it is known."""
        began = self._facts.as_of.get(member.root.name)
        now = self._source.epoch_seconds() or clock.epoch_seconds()
        return Window(
            began or self._facts.progress.created_at.strftime(MOMENT_FORMAT),
            datetime.fromtimestamp(now, UTC).strftime(MOMENT_FORMAT),
        )

    # --- what came of it ----------------------------------------------------------------------------------------

    def _keep(self, wrong: Sequence[str]) -> Reconciliation | None:
        held, facts = self._held, self._facts
        whole = all(facts.due or not self._is_incremental(member) for member in self._members)
        difference = None
        if wrong:
            difference = Reconciliation(
                "; ".join(wrong),
                where=f"job {held.job_id}",
                help="all rows read are in. `waveimport run --full` reads everything anew and removes what the source"
                " has no more; if it stays, look for a role that sees only a part of the rows",
            )

        def work(connection: Any) -> None:
            for one in self._members:
                why = self._uncounted.get(one.record.name)
                if why is not None and one.root.name in facts.plans:
                    reconciled.note_uncounted(connection, held.job_id, facts.plans[one.root.name], why)
            if difference is not None:
                jobs.note_error(connection, held.job_id, held.token, f"{difference.code}: {difference.message}")
            elif whole and not self._uncounted:
                reconciled.mark(connection, held.job_id, held.token)

        self._writer.transact(work)
        return difference
