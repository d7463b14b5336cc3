"""Why a job does not move: for each wave the condition that is false, since when, who holds what, what to type.

The conditions are those by which `core.waves.decide` does not move a wave. What stands behind "its batches can still
move" (nobody at work, a back-off, a worker that is gone, a limit that is cut, a rule that decided otherwise) is told by
the facts of its batches. Causes come before what they hold up: a wave that waits for another is told as waiting, and
only the other has a command.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from waveimport.core.progress import Requests, moment
from waveimport.core.replay import differences
from waveimport.core.waves import (
    Decision,
    JobSnapshot,
    JobStatus,
    Waits,
    WaitsFor,
    WaveStatus,
    decide,
    standing,
)

_MORE_REQUESTS = (
    "see who asks (in NetSuite: Setup > Integration > Integration Governance); the limit grows by itself as they stop"
)
DISK_LOW_BYTES = 16 * 1024 * 1024
"""A page of rows with its journal and write-ahead log needs as much."""


@dataclass(frozen=True, slots=True)
class AtWork:
    """A batch under a lease: since when (its last landing or claim), whose, and until when."""

    batch_id: str
    owner: str
    since: datetime
    until: datetime


@dataclass(frozen=True, slots=True)
class Troubled:
    """A batch that was refused or has failed: how often and with what."""

    batch_id: str
    tries: int
    error: str
    not_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class WaveFacts:
    """The batches of a wave that is not completed. `backing_off` wait until `next_try`; of those at work `oldest` has
    the oldest last sign, `lapsed` a lease that has run out; `worst` is the pending one with the most refusals. `failed`
    counts those that nobody has skipped, `first_failed` names one."""

    records: tuple[str, ...]
    failed: int = 0
    first_failed: Troubled | None = None
    backing_off: int = 0
    next_try: datetime | None = None
    oldest: AtWork | None = None
    lapsed: AtWork | None = None
    worst: Troubled | None = None
    last_commit: datetime | None = None


@dataclass(frozen=True, slots=True)
class LastPass:
    """The newest entry of the journal that records a decision."""

    seq: int
    at: datetime
    snapshot: JobSnapshot
    decision: Decision


@dataclass(frozen=True, slots=True)
class JobFacts:
    """A job as `explain` needs it; moments are UTC by the database's clock. `ended` is when and how its last run ended;
    `held_up` since when and by what the run at work cannot complete it; `refused` the login's refusal that keeps runs
    from asking. `snapshot` is of now, with the slots of the run at work (or one). `lease_seconds` is how long a lease
    lasts as configured, `disk_free_bytes` what the disk of a SQLite database has left; None where not known.
    `holder_gone` says that the holder was a process of this machine and runs no more."""

    job_id: str
    snapshot: JobSnapshot
    now: datetime
    created_at: datetime
    error: str | None
    waves: Mapping[int, WaveFacts]
    lease_owner: str | None = None
    lease_expires_at: datetime | None = None
    idle_passes: int = 0
    requests: Requests | None = None
    last_pass: LastPass | None = None
    ended: tuple[datetime, str] | None = None
    held_up: tuple[datetime, str] | None = None
    refused: tuple[datetime, str] | None = None
    lease_seconds: float | None = None
    disk_free_bytes: int | None = None
    lease_machine: str | None = None
    holder_gone: bool = False


@dataclass(frozen=True, slots=True)
class Reason:
    """One cause, or one wave that waits for one. `wave_number` is None where it is about the whole job; `next` is the
    command to type, None where nothing is to be done but wait; `blocked_by` the waves that hold it up."""

    code: str
    message: str
    since: datetime | None = None
    next: str | None = None
    wave_number: int | None = None
    blocked_by: tuple[int, ...] = ()


def explain(facts: JobFacts) -> tuple[Reason, ...]:
    """Return why the job is not completed: causes of the whole job, then its waves in order; nothing once it is."""
    if facts.snapshot.status is JobStatus.COMPLETED:
        return ()
    if facts.snapshot.status is JobStatus.CANCELLED:
        return (Reason("cancelled", "the job was cancelled", next="waveimport run"),)
    if facts.snapshot.status is JobStatus.FAILED:
        return tuple(_failed(facts))
    causes = list(_of_the_run(facts))
    waiting = standing(facts.snapshot)
    reasons = [reason for waits in waiting for reason in _of_wave(facts, waits, held=bool(causes))]
    if not causes and not reasons:
        reasons = [Reason("pass_due", "nothing holds the job up: the next pass settles what is left of it")]
    return (*causes, *reasons)


def _failed(facts: JobFacts) -> Iterator[Reason]:
    """A failed job: each wave with a batch that failed for good, then those that failed with them."""
    named = False
    for number, wave in sorted(facts.waves.items()):
        if wave.first_failed is not None:
            named = True
            yield _failures(facts, number, wave)
    if not named:
        yield Reason("failed", f"the job failed: {facts.error or 'no cause is on record'}", next="waveimport run")
    for view in facts.snapshot.waves:
        known = facts.waves.get(view.wave_number)
        if view.status is WaveStatus.FAILED and (known is None or known.first_failed is None):
            yield Reason(
                "parent_failed",
                f"it failed with wave {view.parent_wave}, whose parents it is derived from",
                wave_number=view.wave_number,
                blocked_by=() if view.parent_wave is None else (view.parent_wave,),
            )


def _failures(facts: JobFacts, number: int, wave: WaveFacts) -> Reason:
    assert wave.first_failed is not None, "it names one"
    one = wave.first_failed
    more = "" if wave.failed == 1 else f", and {wave.failed - 1} more failed"
    return Reason(
        "batch_failed",
        f"batch {one.batch_id} failed for good after {one.tries} {_times(one.tries, 'try', 'tries')} with"
        f" {one.error}{more}",
        next=f"waveimport status {facts.job_id} --failed",
        wave_number=number,
    )


def _of_the_run(facts: JobFacts) -> Iterator[Reason]:
    """What holds up every wave: nobody is at work, or who is decides otherwise than this program."""
    if facts.refused is not None:
        yield Reason(
            "login_refused",
            f"NetSuite refused the login, so no run asks: {facts.refused[1]}",
            facts.refused[0],
            "waveimport check",
        )
    if facts.disk_free_bytes is not None and facts.disk_free_bytes < DISK_LOW_BYTES:
        yield Reason(
            "disk_full",
            f"the disk of the database has {facts.disk_free_bytes // 1024:,} KB left: nothing can be committed",
            next="make room, then: waveimport run",
        )
    otherwise = _decided_otherwise(facts)
    if otherwise is not None:
        yield otherwise
    if facts.lease_owner is None and facts.refused is not None:
        pass  # that is why nobody is
    elif facts.lease_owner is None:
        ended = "" if facts.ended is None else f"; the last one ended: {facts.ended[1]}"
        since = facts.ended[0] if facts.ended is not None else facts.created_at
        yield Reason("no_run", f"no run is at work on the job{ended}", since, "waveimport run")
    elif facts.lease_expires_at is not None and facts.lease_expires_at < facts.now:
        yield Reason(
            "dead_holder",
            f"{facts.lease_owner} held the job and has not renewed its lease: it hangs or was killed",
            facts.lease_expires_at,
            "waveimport run",
        )
    elif facts.holder_gone:
        yield Reason(
            "dead_holder",
            f"{facts.lease_owner} holds the job and runs no more on this machine: the next run here takes over at once",
            None,
            "waveimport run",
        )
    elif facts.held_up is not None:
        yield Reason(
            "tables_in_use",
            f"all is fetched, and the job cannot be completed: {facts.held_up[1]}",
            facts.held_up[0],
            "end the transaction that reads them (SHOW PROCESSLIST names its connection)",
        )
    elif _lasts_too_long(facts):
        assert facts.lease_expires_at is not None, "it lasts too long"
        yield Reason(
            "clock_went_back",
            f"{facts.lease_owner} holds the job until {facts.lease_expires_at:%Y-%m-%d %H:%M:%S} UTC, longer than a"
            " lease lasts: the database's clock was set back. A run on the host of a dead holder takes over at once",
            next="waveimport run",
        )


def _lasts_too_long(facts: JobFacts) -> bool:
    if facts.lease_expires_at is None or facts.lease_seconds is None:
        return False
    return (facts.lease_expires_at - facts.now).total_seconds() > 2 * facts.lease_seconds


def _decided_otherwise(facts: JobFacts) -> Reason | None:
    last = facts.last_pass
    if last is None:
        return None
    today = decide(last.snapshot)
    found = list(differences(last.decision, today))
    if not found:
        return None
    held = sorted({order.wave_number for order in today.dispatch} - {one.wave_number for one in last.decision.dispatch})
    what = found[0]
    if held:
        waves = " and ".join(f"wave {number}" for number in held)
        what = f"it hands out no batch of {waves}, though batches wait and slots are free"
    repeated = f", {facts.idle_passes} times since" if facts.idle_passes else ""
    return Reason(
        "decided_otherwise",
        f"the run at work decides by another rule than this program: {what} (journal entry {last.seq}{repeated})",
        last.at,
        f"waveimport replay {facts.job_id}",
        held[0] if held else None,
    )


def _of_wave(facts: JobFacts, waits: Waits, *, held: bool) -> Iterator[Reason]:
    number = waits.wave_number
    wave = facts.waves.get(number)
    match waits.what:
        case WaitsFor.MAIN_WAVES:
            which = _waves(waits.on)
            yield Reason("waits_for_wave", f"it starts once {which} settled", wave_number=number, blocked_by=waits.on)
        case WaitsFor.PARENT:
            yield Reason(
                "no_parents_yet",
                f"wave {waits.on[0]} has landed no parent yet that it would fetch anything of",
                wave_number=number,
                blocked_by=waits.on,
            )
        case WaitsFor.SEAL:
            yield Reason(
                "not_sealed",
                f"every batch of it is done, but {_parent_at_work(facts, waits.on[0])}, which can make new ones",
                wave_number=number,
                blocked_by=waits.on,
            )
        case WaitsFor.BATCHES if wave is not None:
            yield from _of_batches(facts, number, wave, held=held)
    if wave is not None and wave.first_failed is not None:
        yield _failures(facts, number, wave)


def _parent_at_work(facts: JobFacts, number: int) -> str:
    parent = facts.waves.get(number)
    if parent is not None and parent.oldest is not None:
        return f"wave {number} is not completed: its batch {parent.oldest.batch_id} is at work"
    return f"wave {number} is not completed"


def _of_batches(facts: JobFacts, number: int, wave: WaveFacts, *, held: bool) -> Iterator[Reason]:
    """Batches can still move: say of each kind what it waits for."""
    view = next(one for one in facts.snapshot.waves if one.wave_number == number)
    if wave.lapsed is not None:
        yield Reason(
            "lease_lapsed",
            f"batch {wave.lapsed.batch_id} was lost with its worker ({wave.lapsed.owner}); the next pass puts it back",
            wave.lapsed.until,
            None if not held else "waveimport run",
            number,
        )
    if wave.backing_off and wave.next_try is not None:
        worst = "" if wave.worst is None else f"; {_refused(wave.worst)}"
        yield Reason(
            "back_off",
            f"{wave.backing_off} {_times(wave.backing_off, 'batch waits', 'batches wait')} to be tried again, the first"
            f" until {wave.next_try:%H:%M:%S} UTC{worst}",
            wave.last_commit,
            f"waveimport status {facts.job_id} --failed" if wave.worst is not None else None,
            number,
        )
    elif wave.worst is not None:
        yield Reason(
            "refused",
            f"batch {_refused(wave.worst)}",
            wave.last_commit,
            None,
            number,
        )
    if wave.oldest is not None:
        yield Reason(
            "at_work",
            f"{view.live} {_times(view.live, 'batch is', 'batches are')} at work, the oldest {wave.oldest.batch_id} by"
            f" {wave.oldest.owner}, under a lease until {wave.oldest.until:%H:%M:%S} UTC",
            wave.oldest.since,
            None,
            number,
        )
    waiting = view.claimable + view.claimable_plans
    if waiting and not held:
        yield from _for_a_slot(facts, number, wave)


def _for_a_slot(facts: JobFacts, number: int, wave: WaveFacts) -> Iterator[Reason]:
    requests = facts.requests
    if requests is not None and requests.reason is not None:
        message = (
            f"batches wait for a slot: {requests.allowed} of {requests.configured} requests may be in flight,"
            f" {requests.reason}"
        )
        yield Reason("limit_cut", message, wave.last_commit, _MORE_REQUESTS, number)
    elif wave.oldest is None:
        yield Reason(
            "waits_for_slot", "batches wait for a slot: all are with other waves", wave.last_commit, None, number
        )


def _waves(numbers: Sequence[int]) -> str:
    if len(numbers) == 1:
        return f"wave {numbers[0]} is"
    return f"waves {', '.join(map(str, numbers[:-1]))} and {numbers[-1]} are"


def _refused(batch: Troubled) -> str:
    return f"{batch.batch_id} was refused {batch.tries} {_times(batch.tries, 'time', 'times')} with {batch.error}"


def _times(count: int, one: str, more: str) -> str:
    return one if count == 1 else more


def reason_object(reason: Reason) -> dict[str, Any]:
    """Return a reason as `status --why --json` has it."""
    return {
        "code": reason.code,
        "wave_number": reason.wave_number,
        "message": reason.message,
        "since": moment(reason.since),
        "blocked_by": list(reason.blocked_by),
        "next": reason.next,
    }
