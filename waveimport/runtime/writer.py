"""Who writes to the databases during a run.

SQLite has one writer at a time, so one thread commits what all others hand it: several pieces of work a commit, and
results are told after the COMMIT. Where one of them raises, nothing of the group is kept and each is done again by
itself, so that nobody suffers for another; a page that is fenced changes nothing and raises nothing. On MySQL
coordination runs in the thread that asks, a few threads with a connection each land pages, and one more says of
batches that they are at work: a run has as many connections however many requests are in flight.
"""

import logging
import queue
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

from waveimport.core.rows import Row
from waveimport.errors import DatabaseDown, DiskFull, Fenced, WaveImportError
from waveimport.runtime import clock
from waveimport.store.destination import Upsert
from waveimport.store.landing import Load, land, land_rows_apart, landed
from waveimport.store.packing import Packed
from waveimport.store.removal import Remover
from waveimport.store.staging import lay_out
from waveimport.store.transactions import Database

log = logging.getLogger(__name__)
T = TypeVar("T")
Work = Callable[[Any], Any]

GROUP_MOST = 32
"""Pieces of work in one commit."""
GROUP_ROWS = 5_000
PAUSE_SECONDS = 0.002
"""Between groups, so that an occasional writer of another process gets its turn."""
MYSQL_LOADERS = 3
"""Two connections land nearly twice what one does, three an eighth more (on two cores that the server shares)."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows land: `apart` is the destination's own database, None when it is the coordination's; `upserts` by
    record, and `removers` take from it what is gone; `packet_bytes` bounds a statement."""

    upserts: Mapping[str, Upsert]
    packet_bytes: int
    apart: Database | None = None
    removers: Mapping[str, Remover] = field(default_factory=dict)


@dataclass(slots=True)
class _Job:
    """One piece of work on its way to a commit; `alone` keeps all others out of that commit. It is done in the
    `context` of who handed it in, whose batch its log lines then name."""

    work: Work
    prove: Work | None = None
    load: Load | None = None
    alone: bool = False
    future: "Future[Any]" = field(default_factory=Future)
    context: Context = field(default_factory=copy_context)

    @property
    def page(self) -> Sequence[Row] | Packed:
        return self.load.rows if self.load is not None else ()


_Queue = queue.SimpleQueue[_Job | None]


class Writer:
    """Runs transactions and lands pages; see the module. `place` is set once the destination is prepared."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.place: Place | None = None
        self._queue: _Queue = queue.SimpleQueue()
        # On MySQL what is begun and not waited for does not stand behind the pages that land.
        self._begun: _Queue = self._queue if database.is_sqlite else queue.SimpleQueue()
        self._held_over: _Job | None = None
        self._committed = 0.0
        self._closed = threading.Event()
        self._threads: list[tuple[threading.Thread, _Queue]] = []
        if database.is_sqlite:
            self._start(self._write_groups, "writer", self._queue)
        else:
            self._start(self._one_by_one, "starter", self._begun)

    def prepare(self, place: Place) -> None:
        """Tell where rows land; pages may be handed in from now on."""
        self.place = place
        if not self.database.is_sqlite:
            # A SQLite destination beside a MySQL coordination database has one writer all the same.
            lone = place.apart is not None and place.apart.is_sqlite
            for number in range(1 if lone else MYSQL_LOADERS):
                self._start(self._one_by_one, f"loader-{number + 1}", self._queue)

    def _start(self, target: Callable[[_Queue], None], name: str, jobs: _Queue) -> None:
        thread = threading.Thread(target=target, args=(jobs,), name=name, daemon=True)
        thread.start()
        self._threads.append((thread, jobs))

    def be_patient(self, seconds: float) -> None:
        """Wait at most so long for a database that is gone, from now on; 0 for not at all."""
        self.database.patience_seconds = seconds
        if self.place is not None and self.place.apart is not None:
            self.place.apart.patience_seconds = seconds

    def transact(
        self, work: Callable[[Any], T], *, prove: Callable[[Any], T | None] | None = None, alone: bool = False
    ) -> T:
        """Run `work` in a transaction and return its answer once that is durable. Raises what it raises.

        `alone`: what `work` reads is durable already. Else, on SQLite, it may be of a page in the same commit, which
        must not be the ground of anything that is done elsewhere.
        """
        if not self.database.is_sqlite:
            return self.database.run(work, prove=prove)
        return cast(T, self._queued(_Job(work, alone=alone)).result())

    def begin(self, work: Callable[[Any], T], *, prove: Callable[[Any], T | None] | None = None) -> "Future[T]":
        """Have a transaction done as `transact` does, without waiting. What builds on it waits for its answer."""
        job = _Job(work, prove=prove)
        self._begun.put(job)
        return job.future

    def _queued(self, job: "_Job") -> "Future[Any]":
        self._queue.put(job)
        return job.future

    def load(self, load: Load) -> "Future[bool]":
        """Hand a page in to land (T4). The answer is False when its attempt was fenced, an error where it cannot."""
        place = self.place
        assert place is not None, "the destination is not prepared"
        upsert = place.upserts.get(load.claim.record)
        remover = place.removers.get(load.claim.record)
        own = (upsert, remover) if place.apart is None else (None, None)
        job = _Job(
            work=lambda connection: land(connection, load, own[0], place.packet_bytes, own[1]),
            prove=lambda connection: landed(connection, load),
            load=load,
        )
        return self._queued(job)

    def close(self) -> None:
        """Finish what was handed in and end the threads."""
        if self._closed.is_set():
            return
        self._closed.set()
        for _, jobs in self._threads:
            jobs.put(None)
        for thread, _ in self._threads:
            thread.join(timeout=60)

    # --- SQLite -------------------------------------------------------------------------------------------------

    def _write_groups(self, jobs: _Queue) -> None:
        while not self._write_group(jobs):
            # What came behind the commit, in which this thread held no lock, is a part of the pause.
            left = self._committed + PAUSE_SECONDS - clock.monotonic()
            if left > 0:
                clock.pause(left)

    def _write_group(self, jobs: _Queue) -> bool:
        """Wait for work, commit what is there; True when it was the last. On return no page is held here any more."""
        first, self._held_over = self._held_over or jobs.get(), None
        if first is None:
            return True
        group, rows, last = [first], len(first.page), False
        while not first.alone and len(group) < GROUP_MOST and rows < GROUP_ROWS:
            try:
                job = jobs.get_nowait()
            except queue.Empty:
                break
            if job is None:
                last = True
                break
            if job.alone:
                self._held_over = job
                break
            group.append(job)
            rows += len(job.page)
        self._commit(group)
        return last

    def _commit(self, group: list[_Job]) -> None:
        """Commit a group in one transaction; where that fails as a whole, tell everyone."""
        answers: list[Any] = []

        def work(connection: Any) -> None:
            answers.clear()
            for job in group:
                answers.append(job.context.run(job.work, connection))

        try:
            self._land_apart(group)
            here = [] if self.place is None or self.place.apart is not None else [job.page for job in group]
            self.database.run(work, before=lambda connection: lay_out(connection, here))
            self._committed = clock.monotonic()
        except BaseException as error:
            if len(group) > 1 and isinstance(error, Exception) and not isinstance(error, DatabaseDown | DiskFull):
                # One piece of work was refused: the others must not suffer for it. What ends a program is no refusal.
                for job in group:
                    self._commit([job])
                return
            for job in group:
                _fail(job, error)
            return
        for job, answer in zip(group, answers, strict=True):
            job.future.set_result(answer)

    def _land_apart(self, group: list[_Job]) -> None:
        """Land the rows of a group in the destination's own database. A page that is fenced or refused there is told so
        and leaves the group: what is to be committed with it has not failed."""
        place = self.place
        if place is None or place.apart is None:
            return
        for job in list(group):
            if job.load is not None and _changes_rows(job.load):
                try:
                    job.context.run(self._rows_apart, place, place.apart, job.load)
                except WaveImportError as error:
                    group.remove(job)
                    _fail(job, error)

    @staticmethod
    def _rows_apart(place: Place, apart: Database, load: Load) -> None:
        upsert = place.upserts[load.claim.record]
        remover = place.removers.get(load.claim.record)
        landed_there = apart.run(
            lambda connection: land_rows_apart(connection, load, upsert, place.packet_bytes, remover),
            before=lambda connection: lay_out(connection, [load.rows]),
        )
        if not landed_there:
            raise Fenced(f"batch {load.claim.batch_id} was taken over")

    # --- MySQL --------------------------------------------------------------------------------------------------

    def _one_by_one(self, jobs: _Queue) -> None:
        while (job := jobs.get()) is not None:
            place = self.place
            try:
                if place is not None and place.apart is not None and job.load is not None and _changes_rows(job.load):
                    job.context.run(self._rows_apart, place, place.apart, job.load)
                job.future.set_result(job.context.run(self.database.run, job.work, prove=job.prove))
            except BaseException as error:
                _fail(job, error)


def _changes_rows(load: Load) -> bool:
    return bool(load.rows) or load.removal is not None


def _fail(job: _Job, error: BaseException) -> None:
    if not job.future.done():
        job.future.set_exception(error)
