"""`replay --repair`: batches whose worker is lost are put back and one pass is made, under the lease and journalled.

A run does the same when it begins. This is for whoever wants to see what it would do before anything fetches.
"""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from waveimport.core.settings import Settings
from waveimport.core.waves import Decision, JobSnapshot, JobStatus, Trigger, decide
from waveimport.runtime.cancel import opened_for
from waveimport.runtime.single_flight import FileGuard, lock_path, machine_id, owner_name
from waveimport.store import batches, jobs, lease, waves
from waveimport.store.batches import AtWorkBatch
from waveimport.store.engine import sqlite_path
from waveimport.store.lease import Held, Holder, Lease
from waveimport.store.transactions import Database


@dataclass(frozen=True, slots=True)
class Repair:
    """What a repair does, or did. `refused` says why it does nothing, None where it can; `put_back` are the batches
    that go back to pending (or fail, lost too often); `decision` is the pass behind that, None where it would complete
    the job, which is left to a run."""

    job_id: str
    status: JobStatus
    refused: str | None = None
    took_over: str | None = None
    put_back: tuple[AtWorkBatch, ...] = ()
    decision: Decision | None = None


class _Undone(Exception):
    """Takes back the transaction in which a repair was tried."""


class _WouldComplete(Exception):
    """The pass would complete the job."""


@dataclass(slots=True)
class _Found:
    """What the steps of a repair leave for one another."""

    held: Lease | Held | None = None
    put_back: tuple[AtWorkBatch, ...] = ()
    decision: Decision | None = None


def preview(settings: Settings, job_id: str, *, trigger: Trigger) -> Repair:
    """Return what `repair` would do: all of it is done in one transaction, which is taken back. Raises UnknownJob."""
    return _with_lock(settings, job_id, trigger, kept=False)


def repair(settings: Settings, job_id: str, *, trigger: Trigger) -> Repair:
    """Put back what lost workers had in hand, make one pass, and give the lease back. Raises UnknownJob.

    It does nothing (`refused`) beside a run that is at work, and to a job that has ended.
    """
    return _with_lock(settings, job_id, trigger, kept=True)


def _with_lock(settings: Settings, job_id: str, trigger: Trigger, *, kept: bool) -> Repair:
    with ExitStack() as stack:
        database = stack.enter_context(opened_for(settings, job_id))
        job = database.run(lambda connection: jobs.get_job(connection, job_id))
        # The lock is of the job's profile, which need not be the configured one.
        own = replace(settings, profile=job.profile)
        guard = FileGuard(lock_path(own, database.name, sqlite_path(settings.database.url)))
        guard.acquire()
        stack.callback(guard.release)
        holder = Holder(owner_name(), machine_id(), guard.identity)
        found = _Found()
        steps = _steps(job_id, holder, settings, trigger, found)
        try:
            if kept:
                for step in steps:
                    while database.run(step):
                        pass
            else:
                _try(database, steps)
        except _WouldComplete:
            if kept:
                database.run(steps[-1])
        return _told(job_id, job.status, found)


def _try(database: Database, steps: list[Callable[[Any], bool]]) -> None:
    def all_of_it(connection: Any) -> None:
        for step in steps:
            while step(connection):
                pass
        raise _Undone

    try:
        database.run(all_of_it)
    except _Undone:
        return


def _steps(
    job_id: str, holder: Holder, settings: Settings, trigger: Trigger, found: _Found
) -> list[Callable[[Any], bool]]:
    """Return the transactions of a repair; each says whether it is to be done again."""

    def take(connection: Any) -> bool:
        before = jobs.get_job(connection, job_id)
        seconds = settings.run.lease_seconds
        found.held = lease.acquire(connection, job_id, holder, lease_seconds=seconds, trigger=trigger)
        found.put_back = ()
        if isinstance(found.held, Lease):
            everything = found.held.proven or before.lease_owner is None
            found.put_back = tuple(batches.at_work(connection, job_id, lapsed_only=not everything))
        return False

    def put_back(connection: Any) -> bool:
        if not isinstance(found.held, Lease) or not found.put_back:
            return False
        everything = not all(one.lapsed for one in found.put_back)
        count = batches.requeue(connection, found.held, proven_dead=everything)
        return count >= batches.REQUEUE_AT_ONCE

    def advance(connection: Any) -> bool:
        if not isinstance(found.held, Lease):
            return False
        limit = max(1, settings.run.workers)
        _, found.decision = waves.advance(
            connection, found.held, limit=limit, free_slots=limit, trigger=trigger, decide=_short_of_completion
        )
        return False

    def give_back(connection: Any) -> bool:
        if isinstance(found.held, Lease):
            lease.release(connection, found.held, ended=_note(found))
        return False

    return [take, put_back, advance, give_back]


def _short_of_completion(snapshot: JobSnapshot) -> Decision:
    """Decide as a run does, but leave the completion of a job to one: it swaps tables and compares with the source."""
    decision = decide(snapshot)
    if decision.job is JobStatus.COMPLETED:
        raise _WouldComplete
    return decision


def _note(found: _Found) -> str:
    count = len(found.put_back)
    return f"repaired by hand: {count} {'batch' if count == 1 else 'batches'} put back; the next run goes on"


def _told(job_id: str, status: JobStatus, found: _Found) -> Repair:
    if isinstance(found.held, Lease):
        return Repair(
            job_id,
            status,
            took_over=found.held.took_over,
            put_back=found.put_back,
            decision=found.decision,
        )
    assert found.held is not None, "it was asked for"
    if found.held.finished:
        return Repair(job_id, status, refused=f"the job is {status}: there is nothing to put back")
    return Repair(job_id, status, refused=_at_work(found.held.owner, found.held.expires_at))


def _at_work(owner: str | None, until: datetime | None) -> str:
    moment = "" if until is None else f" until {until:%Y-%m-%d %H:%M:%S} UTC"
    return f"a run is at work: {owner} holds the job{moment}"
