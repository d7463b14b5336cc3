"""The loop of a run: read, decide, apply, dispatch, wait; and what ends it.

One thread coordinates. Each turn is a pass (T2), the claims (T3) that it decided, with it or, where it moved something,
after its commit and the requeue (T5), and the hand-over of the claims to idle workers. Passes are coalesced: one serves
all that happened since the last. Between turns the thread renews leases, so a coordinator that hangs lets its lease
lapse.
"""

import heapq
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from typing import Any

from waveimport.core.backoff import after_outage, after_refusal
from waveimport.core.settings import RunSettings
from waveimport.core.waves import BatchStatus, Decision, Dispatch, JobSnapshot, JobStatus, Trigger, decide
from waveimport.errors import Fenced, LoginRefused, SourceDown, TablesInUse, WaveImportError
from waveimport.runtime import clock
from waveimport.runtime.fetcher import Ended, Ending, Fetcher
from waveimport.runtime.log_context import about
from waveimport.runtime.writer import Writer
from waveimport.store import batches, counted, jobs, journal, lease, waves
from waveimport.store.batches import Claim
from waveimport.store.engine import require_same_file
from waveimport.store.lease import Lease

log = logging.getLogger(__name__)

PASS_EVERY_SECONDS = 5.0
"""A pass without an event, for leases that lapsed and back-offs that ended."""
COUNT_EVERY_SECONDS = 60.0
"""How often what was completed a while ago is counted for `status`, which would else count it each time."""
STOP_GRACE_SECONDS = 20.0
"""How long a run that was told to stop waits for pages in flight to land."""


class Stop(Enum):
    """Why a run was told to stop."""

    INTERRUPTED = auto()
    TERMINATED = auto()
    MAX_RUNTIME = auto()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the loop ended: the job's status if it is settled, why it was stopped, or the error that ended it."""

    status: JobStatus | None = None
    stop: Stop | None = None
    error: WaveImportError | None = None


@dataclass(slots=True)
class _Flight:
    """A batch in this run's hands. Its lease is renewed while its step is inside `deadline` (monotonic)."""

    claim: Claim
    deadline: float


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """What the loop asks of the client, so that it needs no HTTP: since when everything fails (monotonic seconds,
    None while the source answers)."""

    failing_since: Callable[[], float | None]
    halt: Callable[[], None]


@dataclass(frozen=True, slots=True)
class Reports:
    """How a fetcher reports to the loop: a step of a claim begins, a commit made new batches; and `halted`, by which
    the loop tells it to end."""

    still_at_work: Callable[[Claim], None]
    made_batches: Callable[[], None]
    halted: threading.Event


class Coordinator:
    """Runs one job to its end under a lease. `fetch` makes the fetcher, told how to report to this loop; `slots`
    says how many batches may be at work, and may change while the job runs; `complete` is what must be done before the
    job is completed (see `store.waves.advance`), `complete_alone` that it is done elsewhere than in that commit."""

    def __init__(
        self,
        *,
        writer: Writer,
        lease: Lease,
        settings: RunSettings,
        slots: Callable[[], int],
        trigger: Trigger,
        source: SourceHealth,
        fetch: Callable[["Reports"], Fetcher],
        step_seconds: float,
        fraction: Callable[[], float],
        on_turn: Callable[[], None] = lambda: None,
        decide: Callable[[JobSnapshot], Decision] = decide,
        complete: Callable[[Any], None] = lambda connection: None,
        complete_alone: bool = False,
    ) -> None:
        self._writer = writer
        self._lease = lease
        self._settings = settings
        self._slots = slots
        self._trigger = trigger
        self._source = source
        self._step_seconds = step_seconds
        self._fraction = fraction
        self._on_turn = on_turn
        self._decide = decide
        self._complete = complete
        self._complete_alone = complete_alone
        self._memory = waves.Memory()
        self._in_use_since: float | None = None
        self._halted = threading.Event()
        self._fetcher = fetch(Reports(self._still_at_work, self._look, self._halted))
        self._flights: dict[tuple[str, int], _Flight] = {}
        self._events: queue.SimpleQueue[Ended | Stop | None] = queue.SimpleQueue()
        self._work: queue.SimpleQueue[Claim | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._stop: Stop | None = None
        self._error: WaveImportError | None = None
        self._outages = 0
        self._outage_ends = 0.0
        self._idle = True
        self._worked = False
        self._next_pass = 0.0
        self._next_renewal = 0.0
        self._next_count = 0.0
        self._back_offs: list[float] = []
        self._last_outage: WaveImportError | None = None

    def stop(self, why: Stop) -> None:
        """Ask the loop to end: no batch is started any more, pages in flight land or are handed back. Any thread."""
        self._halted.set()
        self._source.halt()
        self._events.put(why)

    def run(self) -> Outcome:
        """Coordinate until the job is settled, the run is stopped, or an error ends it.

        Raises Fenced when another run took the job over, and the database's errors.
        """
        self._next_renewal = clock.monotonic() + self._settings.lease_seconds / 3
        self._next_count = clock.monotonic() + COUNT_EVERY_SECONDS
        try:
            if self._lease.proven:
                self._requeue(proven_dead=True)
            while True:
                outcome = self._turn()
                if outcome is not None:
                    return outcome
        finally:
            self._halted.set()
            for _ in self._threads:
                self._work.put(None)

    # --- one turn -----------------------------------------------------------------------------------------------

    def _turn(self) -> Outcome | None:
        now = clock.monotonic()
        if now >= self._next_renewal:
            self._renew(now)
        if self._stop is not None or self._error is not None:
            return self._wind_down()
        while self._back_offs and self._back_offs[0] <= now:
            heapq.heappop(self._back_offs)
            self._next_pass = 0.0
        if now >= self._next_pass:
            trigger, self._trigger = self._trigger, Trigger.WATCHDOG
            status = self._pass(trigger)
            if status in (JobStatus.COMPLETED, JobStatus.FAILED):
                return Outcome(status=status)
        if now >= self._next_count:
            self._next_count = now + COUNT_EVERY_SECONDS
            self._writer.transact(partial(counted.keep_counts, job_id=self._lease.job_id))
        self._on_turn()
        self._check_outage()
        self._wait()
        return None

    def _pass(self, trigger: Trigger) -> JobStatus | None:
        """Advance, requeue, claim and hand out, until nothing more can be handed out. Returns the job's status."""
        self._next_pass = clock.monotonic() + PASS_EVERY_SECONDS
        while True:
            slots = max(1, self._slots())
            free = max(0, slots - len(self._flights))
            worked, self._worked = self._worked, False
            try:
                turn = self._writer.transact(
                    partial(
                        waves.advance_and_claim,
                        lease=self._lease,
                        limit=slots,
                        free_slots=free,
                        trigger=trigger,
                        lease_seconds=self._settings.lease_seconds,
                        worked=worked,
                        decide=self._decide,
                        complete=self._complete,
                        memory=self._memory,
                    ),
                    alone=self._complete_alone,
                )
            except TablesInUse as error:
                self._wait_for_tables(error)
                return None
            decision = turn.decision
            status = decision.job or turn.snapshot.status
            if status not in (JobStatus.PENDING, JobStatus.PROCESSING):
                return status
            requeued = self._requeue() if decision.requeue else 0
            claims = turn.claims if turn.claims is not None else self._claim(decision.dispatch)
            for claim in claims:
                self._hand_out(claim)
            handed = len(claims)
            self._idle = slots > len(self._flights)
            # What was requeued, or left over by an order that found less than it asked, is looked at once more.
            wanted = sum(order.count for order in decision.dispatch)
            if not requeued and (handed == wanted or handed == 0):
                return status

    def _claim(self, orders: Sequence[Dispatch]) -> list[Claim]:
        """Claim what a pass decided, each order in a transaction of its own."""
        claims: list[Claim] = []
        for order in orders:
            claims += self._writer.transact(
                partial(
                    batches.claim,
                    lease=self._lease,
                    wave_number=order.wave_number,
                    count=order.count,
                    plans_only=order.plans_only,
                    lease_seconds=self._settings.lease_seconds,
                )
            )
        return claims

    def _wait_for_tables(self, error: TablesInUse) -> None:
        """Leave the completion to the next pass, so that leases are renewed meanwhile; for so long as an outage is
        waited for."""
        if self._in_use_since is None:
            self._in_use_since = clock.monotonic()
            log.warning("%s; trying again", error.message)
            self._writer.transact(lambda connection: self._say_it_waits(connection, error.message))
        elif clock.monotonic() - self._in_use_since >= self._settings.give_up_after_seconds:
            self._end_with(error)

    def _say_it_waits(self, connection: Any, why: str) -> None:
        jobs.lock_job(connection, self._lease.job_id, self._lease.token)
        journal.append(
            connection, self._lease.job_id, source=Trigger.WORKER, token=self._lease.token, event="waits", note=why
        )

    def _requeue(self, *, proven_dead: bool = False) -> int:
        total = 0
        while True:
            count = self._writer.transact(
                lambda connection: batches.requeue(connection, self._lease, proven_dead=proven_dead)
            )
            total += count
            if count < batches.REQUEUE_AT_ONCE:
                break
        if total:
            log.warning("%d batches of a lost worker were put back", total)
        return total

    def _hand_out(self, claim: Claim) -> None:
        self._worked = True
        self._flights[claim.batch_id, claim.attempt] = _Flight(claim, clock.monotonic() + self._step_seconds)
        if len(self._threads) < len(self._flights):
            # What this thread has bound, the job and the run's span, is the worker's too.
            context, name = copy_context(), f"fetcher-{len(self._threads) + 1}"
            thread = threading.Thread(target=context.run, args=(self._serve,), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)
        self._work.put(claim)

    def _serve(self) -> None:
        """A worker's life: one batch after the other."""
        while (claim := self._work.get()) is not None:
            self._events.put(self._fetcher.work(claim))

    def _look(self) -> None:
        """Called by the writer when new batches were made: an idle slot is to take one now."""
        if self._idle:
            self._events.put(None)

    def _still_at_work(self, claim: Claim) -> None:
        """Called by a worker at the start of each step: only a step inside its deadline keeps its lease."""
        flight = self._flights.get((claim.batch_id, claim.attempt))
        if flight is not None:
            flight.deadline = clock.monotonic() + self._step_seconds
            self._worked = True

    # --- leases -------------------------------------------------------------------------------------------------

    def _renew(self, now: float) -> None:
        """Renew the job's lease and those of the batches whose step is inside its deadline. Raises Fenced.

        A step beyond its deadline hangs. The job's lease is then let lapse, so that another run can take over what
        this one can no longer do.
        """
        ttl = self._settings.lease_seconds
        live = [flight.claim for flight in self._flights.values() if flight.deadline > now]
        hung = [flight.claim for flight in self._flights.values() if flight.deadline <= now]
        self._next_renewal = now + ttl / 3
        if hung:
            with about(hung[0]):
                log.error("batch %s hangs beyond every time limit; the lease of the job is let lapse", hung[0].batch_id)

        def work(connection: Any) -> bool:
            require_same_file(connection)
            if not hung and not lease.renew(connection, self._lease, lease_seconds=ttl):
                # Raises with the name of who has it now.
                jobs.lock_job(connection, self._lease.job_id, self._lease.token)
                return False
            batches.renew(connection, live, lease_seconds=ttl)
            return True

        if not self._writer.transact(work):
            raise Fenced(f"the job {self._lease.job_id} is no longer this run's to coordinate")

    # --- waiting and ending -------------------------------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for something to happen, at most until the next renewal or pass, and take in all that has."""
        until = min(self._next_renewal, self._next_pass, *self._back_offs[:1])
        try:
            self._take_in(self._events.get(timeout=min(1.0, max(0.0, until - clock.monotonic()))))
            while True:
                self._take_in(self._events.get_nowait())
        except queue.Empty:
            return

    def _take_in(self, event: Ended | Stop | None) -> None:
        if isinstance(event, Stop):
            self._stop = self._stop or event
            return
        self._next_pass = 0.0
        self._trigger = Trigger.WORKER
        if event is None:
            return
        self._flights.pop((event.claim.batch_id, event.claim.attempt), None)
        if event.ending is Ending.COMPLETED:
            self._outages, self._outage_ends = 0, 0.0
            self._worked = True
            return
        with about(event.claim, event.request_id):
            self._end(event)

    def _end(self, event: Ended) -> None:
        """Do with a batch that is not completed what its ending asks for."""
        claim, error = event.claim, event.error
        match event.ending:
            case Ending.FENCED:
                log.info("batch %s was taken over by another worker; this one's page was not kept", claim.batch_id)
            case Ending.STOPPED:
                self._hand_back(claim, None, 0.0)
            case Ending.OUTAGE:
                delay = self._outage_delay()
                self._last_outage = error
                self._hand_back(claim, error, delay)
                self._look_again_in(delay)
            case Ending.LOGIN | Ending.FAULT:
                self._end_with(error)
                self._hand_back(claim, error, 0.0)
            case Ending.DATABASE:
                self._end_with(error)
                # It was waited for already; what is left of the run must not wait for it once more.
                self._writer.be_patient(0.0)
            case Ending.REFUSED:
                self._refused(claim, error)

    def _outage_delay(self) -> float:
        """Return how long a batch waits that met an outage: all that fail within one delay are one failure of the
        source, or the more batches are at work the longer each would wait."""
        now = clock.monotonic()
        if now >= self._outage_ends:
            self._outages += 1
            self._outage_ends = now + after_outage(self._outages - 1, 1.0)
        return after_outage(self._outages - 1, self._fraction())

    def _hand_back(self, claim: Claim, error: WaveImportError | None, delay: float) -> None:
        text = None if error is None else f"{error.code}: {error.message}"
        self._writer.transact(lambda connection: batches.hand_back(connection, claim, error=text, delay_seconds=delay))

    def _refused(self, claim: Claim, error: WaveImportError | None) -> None:
        assert error is not None
        delay = after_refusal(claim.tries, self._fraction())
        went = self._writer.transact(
            lambda connection: batches.fail_attempt(
                connection,
                claim,
                error=f"{error.code}: {error.message}" + (f" ({error.where})" if error.where else ""),
                max_tries=self._settings.max_tries,
                delay_seconds=delay,
            )
        )
        if went is BatchStatus.FAILED:
            log.error("batch %s failed for good: %s", claim.batch_id, error.message)
        else:
            log.warning("batch %s was refused, try %d: %s", claim.batch_id, claim.tries + 1, error.message)
            self._look_again_in(delay)

    def _look_again_in(self, delay: float) -> None:
        """Have a pass when a back-off ends; a little later, as that is by the database's clock."""
        heapq.heappush(self._back_offs, clock.monotonic() + delay + 0.05)

    def _end_with(self, error: WaveImportError | None) -> None:
        """Let the first error end the run; what follows from it is not told as well."""
        assert error is not None
        if self._error is None:
            self._error = error
        self._halted.set()
        self._source.halt()

    def _check_outage(self) -> None:
        since = self._source.failing_since()
        if since is None:
            return
        seconds = clock.monotonic() - since
        if seconds >= self._settings.give_up_after_seconds:
            last = "" if self._last_outage is None else f"; the last answer: {self._last_outage.message}"
            self._end_with(
                SourceDown(
                    f"NetSuite answered no request for {seconds:.0f} s{last}",
                    where=f"job {self._lease.job_id}",
                    help="the job stays as it is; the next run goes on where this one was",
                )
            )

    def _wind_down(self) -> Outcome:
        """Let pages in flight land for a while, and say how the run ended.

        What is still at work then goes back with the lease of the job (`store.lease.release`).
        """
        until = clock.monotonic() + STOP_GRACE_SECONDS
        broken = isinstance(self._error, WaveImportError) and not isinstance(self._error, LoginRefused)
        while self._flights and (left := until - clock.monotonic()) > 0:
            try:
                event = self._events.get(timeout=min(left, 0.5))
            except queue.Empty:
                if clock.monotonic() >= self._next_renewal:
                    self._renew(clock.monotonic())
                continue
            try:
                self._take_in(event)
            except WaveImportError as error:
                # The database that ended the run cannot take a batch back now; that is tried again with the lease.
                if not broken:
                    raise
                log.debug("not handed back: %s", error.message)
        return Outcome(stop=self._stop, error=self._error)
