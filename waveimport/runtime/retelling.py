"""A journal told again: entry by entry from the database, each decision recomputed by the code of today."""

from collections.abc import Iterator
from dataclasses import dataclass

from waveimport.core.policies import Policy
from waveimport.core.replay import Replayed, replay
from waveimport.core.waves import DECISION_VERSION, decide
from waveimport.store import journal
from waveimport.store.journal import Entry
from waveimport.store.transactions import Database

ENTRIES_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Retold:
    """One entry of the journal, and what today's code makes of its snapshot."""

    entry: Entry
    replayed: Replayed

    @property
    def same_version(self) -> bool:
        """Whether the rules that decided then are, by their number, those of today."""
        return self.entry.decision_version == DECISION_VERSION


def retell(database: Database, job_id: str, *, until: int | None = None, decide: Policy = decide) -> Iterator[Retold]:
    """Yield the journal of a job in order, up to number `until`; a part of it at a time is in memory. Each decision is
    recomputed by `decide`.

    Raises JournalDamaged for an entry that cannot be decoded.
    """
    after = 0
    while True:
        part = _part(database, job_id, until, after)
        folded = replay(((entry.seq, entry.snapshot, entry.decision) for entry in part), decide)
        for entry, replayed in zip(part, folded, strict=True):
            yield Retold(entry, replayed)
        if len(part) < ENTRIES_AT_ONCE:
            return
        after = part[-1].seq


def _part(database: Database, job_id: str, until: int | None, after: int) -> list[Entry]:
    return database.run(
        lambda connection: journal.entries(connection, job_id, until=until, after=after, limit=ENTRIES_AT_ONCE)
    )


def alike(first: Retold, second: Retold) -> bool:
    """Whether two neighbours say the same: passes of one source under one token that move nothing, agree with today's
    code, and differ at most in how much they dispatch."""
    return _kind(first) is not None and _kind(first) == _kind(second)


def _kind(one: Retold) -> tuple[object, ...] | None:
    """Return what alike entries share, None for an entry that stands alone."""
    entry, decision = one.entry, one.entry.decision
    if decision is None or decision.changes_rows or not one.replayed.agrees:
        return None
    waves = tuple(sorted(order.wave_number for order in decision.dispatch))
    return (entry.event, entry.source, entry.token, waves, decision.requeue, decision.reason)
