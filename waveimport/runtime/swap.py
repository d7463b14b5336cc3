"""A job that reads families beside their tables: the tables made for it, put into place, and dropped after it.

Everything here is done under the lease of the job. The swap happens within the transaction that completes the job (T2),
before its commit: on SQLite in one database it is part of it; else it is committed first, on the ground of nothing but
what is durable, while the job is locked under this run's token, so that no other run can be about the same. Killed
between the two, a job is unfinished with its new tables in place: the next run sees the old ones aside and only
completes it. So a completed job has its new tables in place, a failed or cancelled one its old ones, and the old ones
are dropped after the completion alone.

A family of which the source showed no row of a record is not swapped: what is hidden from the role looks empty.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from waveimport.core.increments import family
from waveimport.core.waves import UNFINISHED_JOB
from waveimport.errors import TableClash, TablesInUse, WaveImportError
from waveimport.runtime.writer import Writer
from waveimport.store import jobs, landed, swap, watermarks
from waveimport.store.destination import Target, Upsert
from waveimport.store.lease import Lease
from waveimport.store.swap import Swap
from waveimport.store.transactions import Database

log = logging.getLogger(__name__)
T = TypeVar("T")


class Swaps:
    """The swaps of one job, whoever goes on with it. `where` is the database of the tables as `import_columns` calls
    it, empty for the coordination's own."""

    def __init__(
        self, writer: Writer, destination: Database, held: Lease, targets: Sequence[Target], *, profile: str, where: str
    ) -> None:
        self._writer = writer
        self._destination = destination
        self._held = held
        self._targets = {target.record.name: target for target in targets}
        self._profile = profile
        self._where = where
        self._one_file = destination is writer.database and destination.is_sqlite
        self._families: dict[str, list[Swap]] = {}
        self._unseen: set[str] = set()

    @property
    def tables(self) -> list[str]:
        """The tables that the job is to replace."""
        return sorted(one.target.table for one in self._all())

    @property
    def left(self) -> list[str]:
        """The tables that the completed job has left as they were, since the source showed no row of them."""
        return sorted(one.target.table for root in self._unseen for one in self._families[root])

    @property
    def elsewhere(self) -> bool:
        """Whether the swap is committed by itself: all that it rests on must have been committed before."""
        return bool(self._families) and not self._one_file

    def prepare(self) -> None:
        """Drop what other jobs have left behind, make what this one lacks, and have its rows land there.

        Raises TableClash for a table of somebody else under one of the names, for one with something that would be
        lost, and for one that was dropped with rows in it; Fenced where the job is another run's.
        """
        held = self._held

        def look(connection: Any) -> tuple[set[str], set[str], set[str]]:
            status, _ = jobs.lock_job(connection, held.job_id, held.token)
            known = swap.registered(connection, profile=self._profile, destination=self._where)
            # An unfinished job is the only one of its profile, so what others have registered by now is of no use.
            others = {name for name, job_id in known.items() if job_id != held.job_id and status in UNFINISHED_JOB}
            return swap.swapped_roots(connection, held.job_id), set(known), others

        roots, known, leftovers = self._writer.transact(look)
        try:
            self._drop(leftovers)
        except TablesInUse as error:
            log.warning("tables of earlier swaps were not dropped; the next run does it: %s", error.message)
        records = [target.record for target in self._targets.values()]
        for root in sorted(roots & self._targets.keys()):
            targets = [self._targets[one.name] for one in family(root, records)]
            self._families[root] = [swap.swap_of(target, held.job_id) for target in targets]
        if not self._families:
            return
        self._at_destination(lambda connection: self._refuse(connection, known))
        self._writer.transact(self._register)
        self._writer.transact(self._make)
        self._land_there()

    def complete(self, connection: Any) -> None:
        """Put the new tables into place, in the transaction that completes the job."""
        if not self._families:
            return
        unseen = watermarks.kept_records(connection, self._held.job_id)
        self._unseen = {
            root for root, swaps in self._families.items() if any(one.target.record.name in unseen for one in swaps)
        }
        swaps = [one for root, each in self._families.items() if root not in self._unseen for one in each]
        if self._one_file:
            swap.replace_tables(connection, swaps)
        else:
            swap.change_tables(self._destination, lambda there: swap.replace_tables(there, swaps))

    def clear(self) -> None:
        """Drop what the completed job needs no more. What cannot be dropped now is left to the next job."""
        if self.left:
            log.warning("the source shows no row for %s: left as it was", ", ".join(f"`{name}`" for name in self.left))
        try:
            self._drop({name for one in self._all() for name in one.names})
        except WaveImportError as error:
            log.warning("tables of the swap were not dropped; the next job does it: %s", error.message)

    # --- steps --------------------------------------------------------------------------------------------------

    def _all(self) -> Iterable[Swap]:
        return (one for swaps in self._families.values() for one in swaps)

    def _at_destination(self, work: Callable[[Any], T]) -> T:
        if self._one_file:
            return self._writer.transact(work)
        return swap.change_tables(self._destination, work)

    def _drop(self, names: set[str]) -> None:
        if not names:
            return
        self._at_destination(lambda connection: swap.drop_tables(connection, names))
        self._writer.transact(lambda connection: swap.forget(connection, names, profile=self._profile))

    def _refuse(self, connection: Any, known: set[str]) -> None:
        there = swap.tables_there(connection)
        swap.check_replaceable(connection, [one.target for one in self._all()])
        foreign = (there & {name for one in self._all() for name in one.names}) - known
        if foreign:
            raise TableClash(
                f"table `{min(foreign)}` has the name of one that this job needs, and is not the importer's",
                help="rename or drop it",
            )

    def _register(self, connection: Any) -> None:
        jobs.lock_job(connection, self._held.job_id, self._held.token)
        names = [name for one in self._all() for name in one.names]
        swap.register(connection, names, profile=self._profile, destination=self._where, job_id=self._held.job_id)

    def _make(self, connection: Any) -> None:
        # Under the lock of the job: one that has lost it must not make tables which the job has put into place.
        jobs.lock_job(connection, self._held.job_id, self._held.token)
        counted = landed.counted_by_batches(connection, self._held.job_id)

        def make(there: Any) -> None:
            tables = swap.tables_there(there)
            for one in self._all():
                if one.aside in tables:
                    continue
                if one.beside.table not in tables and counted.get(one.target.record.name):
                    raise swap.gone(one)
                swap.make_beside(there, one)

        if self._one_file:
            make(connection)
        else:
            swap.change_tables(self._destination, make)

    def _land_there(self) -> None:
        """Have the rows of the job land beside the tables. They meet no others there, so nothing is to be removed."""
        place = self._writer.place
        assert place is not None, "the destination is prepared"
        targets = [one.beside for one in self._all()]
        made = self._at_destination(lambda connection: [Upsert(connection, target) for target in targets])
        names = {target.record.name for target in targets}
        self._writer.place = replace(
            place,
            upserts={**place.upserts, **{upsert.target.record.name: upsert for upsert in made}},
            removers={name: remover for name, remover in place.removers.items() if name not in names},
        )
