"""A run's part in the limit of its account: told to the other runs of the database, taken from them, and journalled."""

import logging
from dataclasses import replace
from typing import Any, Protocol

from waveimport.core.limits import Limits, reason, share_of
from waveimport.core.waves import Trigger
from waveimport.errors import DatabaseError
from waveimport.runtime import clock
from waveimport.runtime.writer import Writer
from waveimport.store import jobs, journal, sharing
from waveimport.store.lease import Lease

log = logging.getLogger(__name__)

BEAT_SECONDS = 5.0
LAPSES_AFTER_SECONDS = 30.0
"""A run that was killed holds a part of the limit for so long: several beats, so that a slow commit costs nothing."""
JOURNAL_EVERY_SECONDS = 30.0
"""A limit that is tried again and again moves up and down; the journal of a long job takes it this often at most."""


class LimitedSource(Protocol):
    """What sharing needs of the client."""

    @property
    def limits(self) -> Limits:
        """The requests that may be in flight now, and why no more."""

    def share(self, requests: int) -> None:
        """Have no more than so many requests in flight from now on."""


class AccountShare:
    """Keeps a run's row. `beat` is called about once a second, by the thread that coordinates."""

    def __init__(self, writer: Writer, source: LimitedSource, account: str, lease: Lease) -> None:
        self._writer = writer
        self._source = source
        self._account = account
        self._lease = lease
        self._next = 0.0
        self._runs = 1
        self._journalled: tuple[int, bool] | None = None
        self._next_entry = 0.0

    def beat(self) -> None:
        """Every few seconds, tell how many requests this run has in flight, and take its part of the limit.

        Raises Fenced where another run has taken the job over, and the database's errors in writing the journal.
        """
        now = clock.monotonic()
        if now < self._next:
            return
        self._next = now + BEAT_SECONDS
        limits = replace(self._source.limits, runs=self._runs)
        why = reason(limits)
        owner, job_id = self._lease.owner, self._lease.job_id

        def tell(connection: Any) -> list[str]:
            sharing.tell(connection, self._account, owner, job_id, limits, why, seconds=LAPSES_AFTER_SECONDS)
            return sharing.owners(connection, self._account)

        try:
            at_work = self._writer.transact(tell)
        except DatabaseError as error:
            # The rows only spare runs the account's 429s. A database that is gone ends the run where it counts.
            log.debug("the limit is not shared: %s", error.message)
            return
        if owner in at_work:
            if len(at_work) != self._runs:
                log.info("%d runs on this database ask the account %s", len(at_work), self._account)
            self._runs = len(at_work)
            self._source.share(share_of(at_work.index(owner), self._runs, limits.configured))
        self._journal(now)

    def _journal(self, now: float) -> None:
        """Append the limit to the journal where it has changed since it was last there."""
        limits = replace(self._source.limits, runs=self._runs)
        state = (limits.allowed, limits.share < limits.configured)
        if state == self._journalled or now < self._next_entry:
            return
        if self._journalled is None and limits.allowed == limits.configured:
            self._journalled = state
            return
        note = f"{limits.allowed} of {limits.configured} requests may be in flight"
        why = reason(limits)
        lease = self._lease

        def work(connection: Any) -> None:
            jobs.lock_job(connection, lease.job_id, lease.token)
            journal.append(
                connection,
                lease.job_id,
                source=Trigger.WORKER,
                token=lease.token,
                event="limit",
                note=note if why is None else f"{note}: {why}",
            )

        self._writer.transact(work)
        self._journalled, self._next_entry = state, now + JOURNAL_EVERY_SECONDS

    def leave(self) -> None:
        """Give the part back, and take the rows of runs that were killed along."""
        owner = self._lease.owner
        gone = self._writer.transact(lambda connection: sharing.lapsed(connection, self._account))
        self._writer.transact(lambda connection: sharing.forget(connection, self._account, {owner, *gone}))
