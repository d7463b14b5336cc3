"""A run from its start to its exit code: single flight, schema, which job, lease, loop, ending.

`run_import` is what `waveimport run` does; everything it can end in is a `RunResult`, or an error that says why
nothing was begun.
"""

import logging
import random
import threading
from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack

from waveimport.core.graph import select
from waveimport.core.settings import Settings
from waveimport.core.waves import UNFINISHED_JOB, JobStatus
from waveimport.errors import (
    DatabaseBusy,
    ExitCode,
    Fenced,
    JobCancelled,
    LoginRefused,
    WaveImportError,
)
from waveimport.log_fields import bound
from waveimport.netsuite.auth import SIGNATURE_SKEW_MOST_SECONDS
from waveimport.netsuite.client import TOKEN_SECONDS_MAX, SuiteQLClient
from waveimport.runtime import adoption, clock
from waveimport.runtime.coordinator import Coordinator, Outcome, SourceHealth, Stop
from waveimport.runtime.destination import Destination
from waveimport.runtime.fetcher import Fetcher
from waveimport.runtime.garbage import collected_rarely
from waveimport.runtime.job_choice import JobChoice, Plan, plan_of
from waveimport.runtime.opening import credential_fingerprint, open_database
from waveimport.runtime.options import RunOptions, RunResult
from waveimport.runtime.readers import Readers, processors_beside
from waveimport.runtime.reconciliation import reconcile
from waveimport.runtime.sharing import AccountShare
from waveimport.runtime.since import targets_of
from waveimport.runtime.single_flight import FileGuard, lock_path, machine_id, owner_name
from waveimport.runtime.stop import StopSwitch
from waveimport.runtime.swap import Swaps
from waveimport.runtime.tracing import OFF, Tracing
from waveimport.runtime.writer import Writer
from waveimport.store import accounts, batches, jobs, lease, schema
from waveimport.store.engine import sqlite_path
from waveimport.store.jobs import Job
from waveimport.store.lease import Held, Holder, Lease
from waveimport.store.transactions import Database

log = logging.getLogger(__name__)

CLIENT_ATTEMPTS = 5
STEP_MARGIN_SECONDS = 300.0


def run_import(
    settings: Settings,
    options: RunOptions,
    *,
    switch: StopSwitch | None = None,
    on_turn: Callable[[str], None] = lambda job_id: None,
    tracing: Tracing = OFF,
) -> RunResult:
    """Resume the unfinished job of the profile or create one, and work until it is done.

    Raises a WaveImportError, nothing having been written, for mistakes that end the run before it begins, and the
    database's errors. `on_turn` is told the job about once a second, `tracing` what is done; to close it is the
    caller's.
    """
    switch = switch or StopSwitch()
    chosen = select(settings.records, options.records)
    plan = plan_of(settings, chosen)
    try:
        return _run(settings, options, plan, switch, on_turn, tracing)
    except DatabaseBusy:
        if switch.thrown is None:
            raise
        # It waited for another process's lock, and was told to stop meanwhile: that is how it ended.
        return _stopped(switch.thrown, None)


def _run(
    settings: Settings,
    options: RunOptions,
    plan: Plan,
    switch: StopSwitch,
    on_turn: Callable[[str], None],
    tracing: Tracing,
) -> RunResult:
    with ExitStack() as stack:
        stack.enter_context(collected_rarely())
        database = open_database(settings, switch=switch)
        stack.callback(database.close)
        guard = FileGuard(lock_path(settings, database.name, sqlite_path(settings.database.url)))
        locked = guard.acquire()
        stack.callback(guard.release)
        if not locked:
            aside = _step_aside(database, settings, guard)
            if aside is not None:
                return aside
        if not schema.require_current(database):
            schema.upgrade(database)
        writer = Writer(database)
        stack.callback(writer.close)
        return _Run(settings, options, plan, writer, guard, switch, on_turn, tracing, stack).go()


def _step_aside(database: Database, settings: Settings, guard: FileGuard) -> RunResult | None:
    """The lock file is busy: leave, unless the lease has lapsed, which proves that its holder no longer works."""
    if not database.run(lambda connection: schema.current_version(connection) is not None):
        return RunResult(ExitCode.OK, message="another run is just starting", stepped_aside=True)
    job = database.run(lambda connection: jobs.newest_job(connection, settings.profile))
    if job is None or job.status not in UNFINISHED_JOB or job.lease_owner is None:
        job_id = None if job is None else job.job_id
        return RunResult(ExitCode.OK, job_id, "another run is just starting or ending", stepped_aside=True)
    if database.run(lambda connection: jobs.lease_lapsed(connection, job.job_id)):
        log.warning("%s holds the lock file %s but let its lease lapse; taking over", job.lease_owner, guard.path)
        return None
    return RunResult(
        ExitCode.OK,
        job.job_id,
        f"another run is at work: {job.lease_owner} holds {job.job_id} until {job.lease_expires_at:%H:%M:%S} UTC",
        stepped_aside=True,
    )


class _Run:
    """The steps of one run that share its means."""

    def __init__(
        self,
        settings: Settings,
        options: RunOptions,
        plan: Plan,
        writer: Writer,
        guard: FileGuard,
        switch: StopSwitch,
        on_turn: Callable[[str], None],
        tracing: Tracing,
        stack: ExitStack,
    ) -> None:
        self.settings = settings
        self.options = options
        self.writer = writer
        self.holder = Holder(owner_name(), machine_id(), guard.identity)
        self.choice = JobChoice(settings, options, plan, writer, self.holder.owner)
        self.switch = switch
        self.on_turn = on_turn
        self.tracing = tracing
        self.stack = stack
        self.destination = Destination(settings, writer, switch, stack)
        self.share: AccountShare | None = None

    def go(self) -> RunResult:
        """Choose the job, take its lease, work."""
        refused = self.writer.transact(
            lambda connection: accounts.recent_refusal(
                connection, self.settings.netsuite.account, credential_fingerprint(self.settings)
            )
        )
        if refused is not None:
            raise LoginRefused(
                f"NetSuite refused these credentials less than 30 minutes ago ({refused}), and five refusals lock the"
                " user",
                where="[netsuite]",
                help="mend them, then `waveimport check` asks once and lets runs go on",
            )
        newest = self.writer.transact(lambda connection: jobs.newest_job(connection, self.settings.profile))
        create = self.choice.must_create(newest)
        if create is None:
            return RunResult(ExitCode.OK, None if newest is None else newest.job_id, "no failed batches")
        self.destination.prepare(self.choice.plan.records)
        if self.switch.thrown is not None:
            return _stopped(self.switch.thrown, None if newest is None else newest.job_id)
        if not create and newest is not None:
            self.destination.check_filled(newest, self.choice.plan.records)
        if create and newest is not None and newest.status is JobStatus.FAILED:
            self.destination.fence_off(newest)
        job = self.choice.create(self.destination.database) if create or newest is None else newest
        if job.status not in UNFINISHED_JOB and job.status is not JobStatus.FAILED:
            return RunResult(ExitCode.OK, job.job_id, "another run completed the job meanwhile")
        taken = self.writer.transact(
            lambda connection: lease.acquire(
                connection,
                job.job_id,
                self.holder,
                lease_seconds=self.settings.run.lease_seconds,
                trigger=self.options.trigger,
                failed_too=True,
            ),
            prove=lambda connection: lease.acquired(connection, job.job_id, self.holder),
        )
        if isinstance(taken, Held):
            if taken.finished:
                return RunResult(ExitCode.OK, job.job_id, "another run completed the job meanwhile")
            until = "" if taken.expires_at is None else f" until {taken.expires_at:%H:%M:%S} UTC"
            message = f"another run is at work: {taken.owner} holds {job.job_id}{until}"
            return RunResult(ExitCode.OK, job.job_id, message, stepped_aside=True)
        if self.switch.thrown is not None:
            self._release(taken)
            return _stopped(self.switch.thrown, job.job_id)
        with (
            bound(job=job.job_id, token=taken.token),
            self.tracing.run(job.job_id, self.settings.profile, job.mode) as tell,
        ):
            result = self._under_lease(job, taken)
            tell(int(result.exit_code))
            return result

    # --- under the lease ----------------------------------------------------------------------------------------

    def _under_lease(self, job: Job, held: Lease) -> RunResult:
        if held.took_over is not None:
            log.info("took over from %s", held.took_over)
        ended: str | None = "by a fault of ours"
        try:
            adoption.bind(self.writer, held, self.choice.binding())
            if job.status is JobStatus.FAILED or self.options.retry_failed:
                count = self.writer.transact(
                    lambda connection: jobs.retry_failed(
                        connection, job.job_id, token=held.token, trigger=self.options.trigger
                    )
                )
                log.info("%d failed batches are tried again", count)
            swaps = self._swaps(held)
            swaps.prepare()
            # From here on a database that goes away is waited for: the job is under way.
            self.writer.be_patient(self.settings.run.give_up_after_seconds)
            outcome, client = self._coordinate(job, held, swaps)
            difference = None
            if outcome.status is JobStatus.COMPLETED:
                swaps.clear()
            if outcome.status is JobStatus.COMPLETED and self.settings.run.reconcile:
                difference = reconcile(
                    self.writer,
                    held,
                    targets_of(self.settings, self.choice.plan.records),
                    client,
                    self.destination.database,
                )
            ended = _ending(outcome)
        except JobCancelled as error:
            return RunResult(ExitCode.INCOMPLETE, job.job_id, error=error)
        except Fenced as error:
            return RunResult(ExitCode.OK, job.job_id, f"taken over: {error.message}", stepped_aside=True)
        except WaveImportError as error:
            ended = f"{error.code}: {error.message}"
            raise
        finally:
            self._release(held, ended)
        if difference is not None:
            return RunResult(ExitCode.RECONCILIATION, job.job_id, error=difference)
        if isinstance(outcome.error, LoginRefused):
            _blame_the_clock(outcome.error, client.clock_skew_seconds(clock.epoch_seconds()))
        return self._result(job, outcome, swaps)

    def _swaps(self, held: Lease) -> Swaps:
        where = "" if self.destination.database is self.writer.database else self.destination.database.name
        targets = targets_of(self.settings, self.choice.plan.records)
        return Swaps(self.writer, self.destination.database, held, targets, profile=self.settings.profile, where=where)

    def _release(self, held: Lease, ended: str | None = None) -> None:
        self.writer.be_patient(0.0)
        try:
            self.writer.transact(lambda connection: lease.release(connection, held, ended=ended))
            if self.share is not None:
                self.share.leave()
        except WaveImportError as error:
            log.debug("neither lease nor batches were given back; they lapse, or are taken over: %s", error.message)

    def _coordinate(self, job: Job, held: Lease, swaps: Swaps) -> tuple[Outcome, SuiteQLClient]:
        settings = self.settings
        timeout = settings.run.request_timeout_seconds
        client = SuiteQLClient(
            settings.netsuite,
            request_timeout_seconds=timeout,
            epoch_seconds=clock.epoch_seconds,
            attempts=CLIENT_ATTEMPTS,
            watch=self.tracing.request,
        )
        self.stack.callback(client.close)
        derived: dict[str, list[tuple[str, int]]] = {}
        records = {record.name: record for record in self.choice.plan.records}
        for wave in self.choice.plan.waves:
            for name in wave.records:
                parent = records[name].derived_from
                if parent is not None:
                    derived.setdefault(parent, []).append((name, wave.wave_number))

        def succeeded_since(moment: float) -> bool:
            last = client.health.last_success
            return last is not None and last > moment

        readers = self._readers(derived)
        share = AccountShare(self.writer, client, settings.netsuite.account, held)
        self.share = share

        def on_turn() -> None:
            share.beat()
            self.on_turn(job.job_id)

        coordinator = Coordinator(
            writer=self.writer,
            lease=held,
            settings=settings.run,
            slots=lambda: min(settings.run.workers, _batches_at_work(client, fast=readers.started)),
            trigger=self.options.trigger,
            source=SourceHealth(failing_since=lambda: client.health.failing_since, halt=client.stop),
            fetch=lambda reports: Fetcher(
                source=client,
                writer=self.writer,
                records=records,
                derived=derived,
                settings=settings.run,
                halted=reports.halted,
                succeeded_since=succeeded_since,
                still_at_work=reports.still_at_work,
                made_batches=reports.made_batches,
                readers=readers,
                tracing=self.tracing,
            ),
            step_seconds=CLIENT_ATTEMPTS * (TOKEN_SECONDS_MAX + timeout) + STEP_MARGIN_SECONDS,
            fraction=random.random,
            on_turn=on_turn,
            complete=swaps.complete,
            complete_alone=swaps.elsewhere,
        )
        self.switch.attach(coordinator)
        if self.options.max_runtime_seconds is not None:
            timer = threading.Timer(self.options.max_runtime_seconds, self.switch, (Stop.MAX_RUNTIME,))
            timer.daemon = True
            timer.start()
            # It ends the counts of a reconciliation too: each may take the source minutes.
            self.stack.callback(timer.cancel)
        try:
            return coordinator.run(), client
        except BaseException:
            client.stop()
            raise

    def _readers(self, derived: Collection[str]) -> Readers:
        place = self.writer.place
        assert place is not None, "the destination is prepared by now"
        processes = min(self.settings.run.reader_processes, processors_beside())
        readers = Readers.of(self.choice.plan.records, place, derived=derived, processes=processes)
        self.stack.callback(readers.close)
        return readers

    def _result(self, job: Job, outcome: Outcome, swaps: Swaps) -> RunResult:
        if outcome.status is JobStatus.COMPLETED:
            left = f"left as it was, for the source shows no row: {_tables(swaps.left)}" if swaps.left else None
            return RunResult(ExitCode.OK, job.job_id, left)
        if outcome.status is JobStatus.FAILED:
            failed = self.writer.transact(lambda connection: len(batches.failed_batches(connection, job.job_id)))
            rest = "the rest is in"
            if swaps.tables:
                rest += f' ({_tables(swaps.tables)} as before, until all is: refresh = "swap")'
            return RunResult(
                ExitCode.INCOMPLETE,
                job.job_id,
                f"{failed} batches failed for good, {rest}: `waveimport status --failed` names them, the next"
                " `waveimport run` tries them again",
            )
        if isinstance(outcome.error, DatabaseBusy) and self.switch.thrown is not None:
            return _stopped(self.switch.thrown, job.job_id)
        if outcome.error is not None:
            if isinstance(outcome.error, LoginRefused):
                reason = outcome.error.message
                self.writer.transact(
                    lambda connection: accounts.remember_refusal(
                        connection, self.settings.netsuite.account, credential_fingerprint(self.settings), reason
                    )
                )
            return RunResult(outcome.error.exit_code, job.job_id, error=outcome.error)
        assert outcome.stop is not None, "it ended for one of the three reasons"
        return _stopped(outcome.stop, job.job_id)


def _ending(outcome: Outcome) -> str | None:
    """Return how a run ended, None where its job did."""
    if outcome.error is not None:
        return f"{outcome.error.code}: {outcome.error.message}"
    if outcome.stop is not None:
        return _stopped(outcome.stop, None).message
    return None


def _batches_at_work(client: SuiteQLClient, *, fast: bool) -> int:
    """Return how many batches keep every request slot in use: one that waits to ask again leaves its slot to another,
    and so does one whose last page is landing, which takes a hundredth of the time or a tenth. Where the source is
    `fast` landing takes as long as asking, and as many pages again share a commit, a few even of one slot."""
    return client.limit + client.pausing + 1 + client.limit // 5 + (max(client.limit, 4) if fast else 0)


def _blame_the_clock(refusal: LoginRefused, ahead_seconds: float | None) -> None:
    """Have a refused login name this machine's clock where that alone explains it: the service does not say."""
    if ahead_seconds is not None and abs(ahead_seconds) > SIGNATURE_SKEW_MOST_SECONDS:
        where = "ahead of" if ahead_seconds > 0 else "behind"
        refusal.help = (
            f"the clock here is {abs(ahead_seconds):.0f} s {where} NetSuite's, and signatures more than"
            f" {SIGNATURE_SKEW_MOST_SECONDS:.0f} s off are refused: set it, then `waveimport check` lets runs go on"
        )


def _tables(names: Sequence[str]) -> str:
    """Return the names of tables as a message has them, the first few of many."""
    shown = ", ".join(f"`{name}`" for name in names[:5])
    return f"table{'s' if len(names) > 1 else ''} {shown}{', …' if len(names) > 5 else ''}"


def _stopped(why: Stop, job_id: str | None) -> RunResult:
    """Return how a run ends that was told to stop."""
    match why:
        case Stop.INTERRUPTED:
            return RunResult(ExitCode.INTERRUPTED, job_id, "interrupted; the next run goes on")
        case Stop.TERMINATED:
            return RunResult(ExitCode.TERMINATED, job_id, "terminated; the next run goes on")
        case Stop.MAX_RUNTIME:
            return RunResult(ExitCode.PAUSED, job_id, "paused by --max-runtime; the next run goes on")
