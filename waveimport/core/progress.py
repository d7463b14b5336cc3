"""A job in the numbers that people and programs watch, and what stands wrong with it by them."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from waveimport.core.settings_types import RunSettings
from waveimport.core.waves import LEASED, BatchStatus, JobStatus, WaveKind, WaveStatus


@dataclass(frozen=True, slots=True)
class WaveProgress:
    """One wave. `batches` counts by status; `rows` are landed rows by record, in the order of the wave's records;
    `expected` are the rows counted at the source when the record was planned (only main records that were)."""

    wave_number: int
    kind: WaveKind
    status: WaveStatus
    sealed: bool
    parent_wave: int | None
    rows: Mapping[str, int]
    batches: Mapping[BatchStatus, int]
    tries: int
    expected: Mapping[str, int]
    last_commit: datetime | None

    @property
    def total(self) -> int:
        """All batches of the wave so far."""
        return sum(self.batches.values())

    @property
    def done(self) -> int:
        """Batches that are completed."""
        return self.batches.get(BatchStatus.COMPLETED, 0)

    @property
    def open_batches(self) -> int:
        """Batches that are not completed."""
        return self.total - self.done


@dataclass(frozen=True, slots=True)
class Alert:
    """A standing fault: a stable code, the wave it is about (None for the job), one sentence, the command to type.
    `caused_by` is the code of the alert that it follows from; None for one that stands by itself."""

    code: str
    wave_number: int | None
    message: str
    next: str
    caused_by: str | None = None


@dataclass(frozen=True, slots=True)
class OwedBatch:
    """A failed batch that no run has made good yet; `carried_by` and `carried_as` name the job and the batch at work on
    it, None for none."""

    job_id: str
    batch_id: str
    record: str
    error: str
    carried_by: str | None = None
    carried_as: str | None = None


@dataclass(frozen=True, slots=True)
class Loop:
    """A batch that is tried again and again with one error."""

    batch_id: str
    wave_number: int
    times: int
    error: str


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests of the run at work, as it told last: `allowed` of `configured` may be in flight, for `reason`."""

    account: str
    configured: int
    allowed: int
    in_flight: int
    reason: str | None


@dataclass(frozen=True, slots=True)
class Commit:
    """The commit that completed a batch, with all rows of the batch."""

    at: datetime
    wave_number: int
    rows: int


@dataclass(frozen=True, slots=True)
class Recent:
    """What was completed after `since`, in any order: none is left out."""

    since: datetime
    commits: tuple[Commit, ...]


@dataclass(frozen=True, slots=True)
class CompleteRun:
    """The job of a profile that was completed last."""

    job_id: str
    mode: str
    created_at: datetime
    finished_at: datetime


@dataclass(frozen=True, slots=True)
class JobProgress:
    """A job at the moment `now` (of the database's clock). Moments are UTC, without zone, as the database has them.
    `owed` is of its profile, whatever job failed it; `requests` is None where no run is at work; `loop` the batch that
    was tried most often in vain, None where none was; `last_complete` the job of the profile that was completed last.

    What has changed at the source after `as_of` may be missing. `watermarks` are those of the profile by record, None
    for a record with a cursor that has none yet. `recent` is None where no run is at work."""

    job_id: str
    profile: str
    mode: str
    status: JobStatus
    created_at: datetime
    finished_at: datetime | None
    error: str | None
    lease_owner: str | None
    lease_token: int
    lease_expires_at: datetime | None
    idle_passes: int
    waves: tuple[WaveProgress, ...]
    now: datetime
    owed: tuple[OwedBatch, ...] = ()
    requests: Requests | None = None
    loop: Loop | None = None
    last_complete: CompleteRun | None = None
    as_of: datetime | None = None
    watermarks: Mapping[str, datetime | None] = field(default_factory=dict)
    recent: Recent | None = None

    @property
    def held(self) -> bool:
        """Whether a run is at work: its lease has not lapsed."""
        return self.lease_expires_at is not None and self.lease_expires_at >= self.now

    @property
    def rows(self) -> int:
        """Rows landed so far."""
        return sum(sum(wave.rows.values()) for wave in self.waves)

    @property
    def elapsed_seconds(self) -> float:
        """Seconds from the creation of the job to its end, or to now."""
        return max(0.0, ((self.finished_at or self.now) - self.created_at).total_seconds())


LOOP_TIMES = 5
"""Tries of one batch that end in one error: fewer may be a bad minute of the service."""


def alerts_of(
    job: JobProgress,
    *,
    stuck_after_seconds: float,
    passes_without_effect: int,
    complete_within_hours: float = 0.0,
) -> tuple[Alert, ...]:
    """Return what stands wrong with a job, judged by committed progress and never by heartbeats; causes come first.

    `complete_within_hours` is how old the last complete import of the profile may be, 0 for any age.
    """
    return (*_of_profile(job, complete_within_hours), *_of_job(job, stuck_after_seconds, passes_without_effect))


def alerts_by(job: JobProgress, run: RunSettings) -> tuple[Alert, ...]:
    """Return what stands wrong with a job by the thresholds of `[run]`."""
    return alerts_of(
        job,
        stuck_after_seconds=run.stuck_after_seconds,
        passes_without_effect=run.passes_without_effect,
        complete_within_hours=run.complete_within_hours,
    )


def _of_profile(job: JobProgress, complete_within_hours: float) -> Iterator[Alert]:
    waiting = [owed for owed in job.owed if owed.carried_by is None]
    if waiting and job.status not in (JobStatus.PENDING, JobStatus.PROCESSING):
        batches = "1 failed batch is" if len(waiting) == 1 else f"{len(waiting)} failed batches are"
        message = f"{batches} owed, the first {waiting[0].batch_id} of {waiting[0].job_id}: {waiting[0].error}"
        yield Alert("owed", None, message, "waveimport run")
    since = job.last_complete.finished_at if job.last_complete else job.created_at
    age = (job.now - since).total_seconds()
    if complete_within_hours and age > complete_within_hours * 3600:
        what = "the last complete import ended" if job.last_complete else "no import was ever complete; the first began"
        message = f"{what} {_span(age)} ago, more than the {complete_within_hours:g} h of `complete_within_hours`"
        yield Alert("no_complete_run", None, message, "waveimport status --why")


def _of_job(job: JobProgress, stuck_after_seconds: float, passes_without_effect: int) -> Iterator[Alert]:
    if job.status is JobStatus.COMPLETED and job.error is not None:
        # The only thing that can be wrong with a completed job.
        yield Alert("reconciliation", None, job.error, "waveimport run")
    if job.status not in (JobStatus.PENDING, JobStatus.PROCESSING):
        return
    resume = f"waveimport replay {job.job_id}"
    cause = None
    if job.lease_owner is not None and job.lease_expires_at is not None and job.lease_expires_at < job.now:
        lapsed = (job.now - job.lease_expires_at).total_seconds()
        cause = "dead_holder"
        yield Alert(cause, None, f"{job.lease_owner} let its lease lapse {_span(lapsed)} ago", "waveimport run")
    claimable = any(
        wave.status is WaveStatus.PROCESSING and wave.batches.get(BatchStatus.PENDING, 0) for wave in job.waves
    )
    if claimable and job.idle_passes >= passes_without_effect:
        message = f"{job.idle_passes} coordination passes in a row changed nothing, while batches are pending"
        yield Alert("passes_without_effect", None, message, resume, cause)
        cause = cause or "passes_without_effect"
    if job.loop is not None and job.loop.times >= LOOP_TIMES:
        message = f"batch {job.loop.batch_id} was tried {job.loop.times} times with one error: {job.loop.error}"
        yield Alert("retry_loop", job.loop.wave_number, message, f"waveimport status {job.job_id} --why", cause)
        cause = cause or "retry_loop"
    for wave in job.waves:
        if wave.status is not WaveStatus.PROCESSING or not wave.open_batches:
            continue
        since = (job.now - (wave.last_commit or job.created_at)).total_seconds()
        if since >= stuck_after_seconds:
            message = (
                f"wave {wave.wave_number} ({', '.join(wave.rows)}) has {wave.open_batches} open batches,"
                f" {wave.batches.get(BatchStatus.PENDING, 0)} of them pending, and committed nothing for {_span(since)}"
            )
            blame = cause
            if _is_passed_over(wave):
                pending = wave.batches[BatchStatus.PENDING]
                yield Alert(
                    "derived_not_shrinking",
                    wave.wave_number,
                    f"wave {wave.wave_number} ({', '.join(wave.rows)}) has {pending} pending batches and none at work:"
                    " they are made and not handed out",
                    f"waveimport status {job.job_id} --why",
                    cause,
                )
                blame = cause or "derived_not_shrinking"
            yield Alert("wave_stuck", wave.wave_number, message, resume, blame)


def _is_passed_over(wave: WaveProgress) -> bool:
    """Whether the batches of a derived wave wait while none of them is at work: how 35 of 45 once waited for ever."""
    at_work = sum(wave.batches.get(status, 0) for status in LEASED)
    return wave.kind is WaveKind.DERIVED and bool(wave.batches.get(BatchStatus.PENDING, 0)) and not at_work


def moment(value: datetime | None) -> str | None:
    """Return a moment of the database as ISO-8601 UTC, None for none."""
    return None if value is None else value.isoformat(timespec="microseconds") + "Z"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
