"""The records of a job: how a batch asks for one, and the batches that derive from its rows."""

from collections.abc import Mapping, Sequence
from typing import Any

from waveimport.core import increments
from waveimport.core.ranges import chunks, derived_batch_id
from waveimport.core.settings import RecordSettings
from waveimport.core.waves import BatchKind
from waveimport.netsuite.narrowing import changed
from waveimport.store.batches import Claim
from waveimport.store.landing import NewBatch


class JobRecords:
    """Looks records up and makes derived batches of at most `parents_per_batch` parents. `derived` names, by record,
    the derived records and their waves. Threads share one: nothing in it changes."""

    def __init__(
        self,
        by_name: Mapping[str, RecordSettings],
        derived: Mapping[str, Sequence[tuple[str, int]]],
        parents_per_batch: int,
    ) -> None:
        self.by_name = by_name
        self._derived = derived
        self._waves = {name: wave for children in derived.values() for name, wave in children}
        self._parents_per_batch = parents_per_batch

    def of(self, claim: Claim) -> RecordSettings:
        """Return the record of a batch as it is configured."""
        return self.by_name[claim.record]

    def since(self, claim: Claim) -> str | None:
        """Return from when on the batch reads changes. A cursor that was taken from the configuration makes it full."""
        since = claim.spec.get("since")
        return since if isinstance(since, str) and self.of(claim).cursor is not None else None

    def narrowed(self, claim: Claim) -> RecordSettings:
        """Return the record as the batch asks for it: all of it, or what has changed."""
        record, since = self.of(claim), self.since(claim)
        return record if since is None else changed(record, since)

    def family(self, record: RecordSettings) -> list[RecordSettings]:
        """Return a main record and everything that derives from it, in configured order."""
        return increments.family(record.name, list(self.by_name.values()))

    def ancestors(self, record: RecordSettings) -> list[RecordSettings]:
        """Return what a record derives from, its parent first; none of a main record."""
        found: list[RecordSettings] = []
        while record.derived_from is not None:
            record = self.by_name[record.derived_from]
            found.append(record)
        return found

    def wave_of(self, name: str, main: int) -> int:
        """Return the wave of a derived record, `main` for one that is not derived."""
        return self._waves.get(name, main)

    def children(self, claim: Claim, record: RecordSettings, keys: Sequence[Any]) -> tuple[NewBatch, ...]:
        """Return the batches of everything that derives directly from the rows of a record with these keys."""
        derived = self._derived.get(record.name, ())
        return tuple(child for name, _ in derived for child in self.batches_of(claim, name, keys))

    def batches_of(self, claim: Claim, name: str, parents: Sequence[Any]) -> tuple[NewBatch, ...]:
        """Return the batches, made by `claim`, that read the rows of one derived record that these parents have."""
        wave = self._waves[name]
        return tuple(
            NewBatch(
                derived_batch_id(claim.batch_id, name, part[0]), wave, name, BatchKind.PARENTS, {"parents": list(part)}
            )
            for part in chunks(parents, self._parents_per_batch)
        )
