"""A job as `status`, `run` and `demo` show it: what it is, its waves, what stands wrong, and why it does not move."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING

from waveimport.cli.render import Screen, ago, between, figure, span
from waveimport.cli.wave_table import wave_lines
from waveimport.core.estimate import average_rate, recent_rate, time_left
from waveimport.core.progress import Alert, JobProgress
from waveimport.core.waves import BatchStatus, JobStatus

if TYPE_CHECKING:
    from waveimport.core.why import Reason

OWED_SHOWN = 5
MOMENT = "%Y-%m-%d %H:%M:%S"


def job_lines(
    job: JobProgress,
    alerts: Sequence[Alert] = (),
    *,
    screen: Screen | None = None,
    of_profile: bool = False,
    most_waves: int | None = None,
) -> Iterator[str]:
    """Yield the lines of a job, made for `screen`, by default what standard output is: what it is, a table of its waves
    (at most `most_waves`, if given), with `of_profile` the bounds of what is in, what is owed, its alerts."""
    screen = screen or Screen.of_stdout()
    yield from _name(job, screen)
    yield from _speed(job)
    if job.lease_owner is not None and job.lease_expires_at is not None:
        state = "lapsed at" if job.lease_expires_at < job.now else "until"
        yield f"lease: {job.lease_owner}, token {job.lease_token}, {state} {job.lease_expires_at:{MOMENT}} UTC"
    if job.requests is not None:
        why = "" if job.requests.reason is None else f": {job.requests.reason}"
        yield (
            f"requests: {job.requests.in_flight} in flight, {job.requests.allowed} of {job.requests.configured}"
            f" allowed{why}"
        )
    if job.error:
        yield f"error: {job.error}"
    yield ""
    yield from wave_lines(job, screen, most=most_waves)
    if of_profile:
        yield ""
        yield from _bounds(job, screen)
    yield from _owed(job)
    for alert in alerts:
        yield ""
        yield f"{screen.coloured(f'alert[{alert.code}]', 'failed')}: {alert.message}"
        yield f"  next: {alert.next}"


def _name(job: JobProgress, screen: Screen) -> Iterator[str]:
    first, profile = f"{job.job_id}  {screen.coloured(job.status.value)}  {job.mode}", f"profile {job.profile}"
    if screen.columns is None or len(f"{job.job_id}  {job.status.value}  {job.mode}  {profile}") <= screen.columns:
        yield f"{first}  {profile}"
    else:
        yield first
        yield profile


def _speed(job: JobProgress) -> Iterator[str]:
    recent, left = recent_rate(job), time_left(job)
    of_late = ""
    if recent is not None and job.recent is not None:
        within = figure((job.now - job.recent.since).total_seconds())
        of_late = f", {recent.likely:,.0f} rows/s in the last {within}"
    yield f"{job.rows:,} rows in {span(job.elapsed_seconds)} ({average_rate(job):,.0f} rows/s){of_late}"
    if left is not None:
        likely, bounds = between(left.low, left.likely, left.high)
        yield f"about {likely} left" + (f" ({bounds})" if left.high else "")


def _bounds(job: JobProgress, screen: Screen) -> Iterator[str]:
    """As of when a job reads, from when on the next one reads the changes, and when all was in last."""
    if job.as_of is not None:
        yield f"as of:         {job.as_of:{MOMENT}} UTC"
    head = "watermarks:"
    by_mark = sorted(job.watermarks.items(), key=lambda item: (item[1] is None, item[1] or job.now, item[0]))
    for mark, records in groupby(by_mark, key=lambda item: item[1]):
        told = "(none yet)" if mark is None else f"{mark:{MOMENT}} UTC"
        line = f"{head:<15}{told:<25}{', '.join(record for record, _ in records)}"
        yield line if screen.columns is None else screen.cut(line, screen.columns)
        head = ""
    last = job.last_complete
    if last is None:
        yield "last complete: (none yet)"
    else:
        took = span((last.finished_at - last.created_at).total_seconds())
        which = "this job" if last.job_id == job.job_id else f"{last.mode}, in {took}"
        yield f"last complete: {last.finished_at:{MOMENT}} UTC, {ago(last.finished_at, job.now)}, {which}"
        if last.job_id != job.job_id:
            yield f"{'':<15}{last.job_id}"


def _owed(job: JobProgress) -> Iterator[str]:
    if job.owed:
        yield ""
        yield f"owed: {len(job.owed)} failed {'batch' if len(job.owed) == 1 else 'batches'} behind the watermarks"
    for owed in job.owed[:OWED_SHOWN]:
        state = "the next run carries it"
        if owed.carried_by is not None:
            state = f"carried by {owed.carried_by} as {owed.carried_as}"
        yield f"  {owed.batch_id} of {owed.job_id}: {state}; it failed with {owed.error}"
    if len(job.owed) > OWED_SHOWN:
        yield f"  and {len(job.owed) - OWED_SHOWN} more: `waveimport status --json` lists them all"
    if job.owed:
        first = next((owed for owed in job.owed if owed.carried_by is None), None)
        which = "JOB_ID BATCH_ID" if first is None else f"{first.job_id} {first.batch_id}"
        yield f'  to write it off: waveimport skip {which} --reason "…"'


def brief_line(job: JobProgress, alerts: Sequence[Alert] = ()) -> str:
    """Return a job in one line, for a prompt, a log or a watch."""
    total = sum(wave.total for wave in job.waves)
    done = sum(wave.done for wave in job.waves)
    failed = sum(wave.batches.get(BatchStatus.FAILED, 0) for wave in job.waves)
    left = time_left(job)
    parts = [f"{job.job_id} {job.status.value}", f"{done}/{total} batches", f"{job.rows:,} rows"]
    parts += [f"{failed} failed"] * bool(failed)
    parts += [f"{len(job.owed)} owed"] * bool(job.owed)
    parts += [] if left is None else [f"about {between(left.low, left.likely, left.high)[0]} left"]
    parts += [f"alerts: {' '.join(alert.code for alert in alerts)}"] * bool(alerts)
    return ", ".join(parts)


def why_lines(causes: "Sequence[Reason]", status: JobStatus, now: datetime) -> Iterator[str]:
    """Yield the lines of `status --why`: causes first, then the waves that wait for them."""
    screen = Screen.of_stdout()
    yield ""
    if not causes:
        yield f"why: nothing holds the job up; it is {status}"
        return
    roots = [cause for cause in causes if not cause.blocked_by]
    for cause in (*roots, *(cause for cause in causes if cause.blocked_by)):
        where = "job" if cause.wave_number is None else f"wave {cause.wave_number}"
        since = "" if cause.since is None else f" (since {cause.since:{MOMENT}} UTC, {ago(cause.since, now)})"
        yield f"{screen.coloured(f'why[{cause.code}]', 'failed')}: {where}: {cause.message}{since}"
        if cause.next is not None:
            yield f"  next: {cause.next}"
