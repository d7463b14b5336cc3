"""A job in one word and one sentence, for whoever reads nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from waveimport.core.estimate import time_left
from waveimport.core.progress import Alert, JobProgress
from waveimport.core.report.words import counted, duration
from waveimport.core.waves import BatchStatus, JobStatus
from waveimport.core.why import Reason

STANDS_STILL = frozenset({"decided_otherwise", "dead_holder", "login_refused", "disk_full", "clock_went_back"})
"""Causes that no waiting mends."""
STALLS = frozenset({"dead_holder", "passes_without_effect", "retry_loop", "wave_stuck"})
"""Alerts of a job at work that does not get on; others are of its profile."""


class State(StrEnum):
    """What a job comes to, as its reader sees it."""

    DONE = "done"
    DIFFERS = "differs"
    RUNNING = "running"
    PAUSED = "paused"
    STUCK = "stuck"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state of a job, its heading, and what to know of it first. `next` is the command to type, None for none."""

    state: State
    title: str
    sentence: str
    next: str | None = None


def verdict(job: JobProgress, alerts: Sequence[Alert], causes: Sequence[Reason]) -> Verdict:
    """Judge a job by its status, what stands wrong with it and why it does not move."""
    done = sum(wave.batches.get(BatchStatus.COMPLETED, 0) for wave in job.waves)
    total = sum(wave.total for wave in job.waves)
    failed = sum(wave.batches.get(BatchStatus.FAILED, 0) for wave in job.waves)
    in_all = f"{counted(job.rows, 'row')} in {duration(job.elapsed_seconds)}"
    match job.status:
        case JobStatus.COMPLETED if job.error is not None:
            return Verdict(State.DIFFERS, "Done, and counts differ", job.error, "waveimport run")
        case JobStatus.COMPLETED:
            return Verdict(State.DONE, "Done", f"All {counted(total, 'batch', 'batches')} landed: {in_all}.")
        case JobStatus.CANCELLED:
            return Verdict(State.CANCELLED, "Cancelled", f"{done} of {total} batches had landed: {in_all}.")
        case JobStatus.FAILED:
            what = counted(failed, "batch failed", "batches failed") if failed else job.error or "it could not go on"
            sentence = f"{what} for good; the other {done:,} of {total:,} landed: {in_all}."
            return Verdict(State.FAILED, "Failed", sentence, _first_next(causes) or "waveimport run")
    so_far = f"{done:,} of {total:,} batches so far, {in_all}"
    wrong = next((cause for cause in causes if cause.code in STANDS_STILL), None)
    if wrong is not None:
        where = "" if wrong.wave_number is None else f"Wave {wrong.wave_number}: "
        return Verdict(State.STUCK, "Stuck", f"{where}{wrong.message}. {so_far}.", wrong.next)
    stalled = next((alert for alert in alerts if alert.code in STALLS), None)
    if stalled is not None:
        return Verdict(State.STUCK, "Stuck", f"{stalled.message}. {so_far}.", _first_next(causes) or stalled.next)
    if job.lease_owner is None:
        sentence = f"No run is at work on it. {so_far}."
        return Verdict(State.PAUSED, "Waiting for a run", sentence, _first_next(causes) or "waveimport run")
    left = time_left(job)
    rest = "." if left is None else f"; about {duration(left.likely)} left at the rate of late."
    return Verdict(State.RUNNING, "Running", f"{so_far}{rest}")


def _first_next(causes: Sequence[Reason]) -> str | None:
    return next((cause.next for cause in causes if cause.next is not None), None)
