"""How jobs look to people: plain text that reads the same on a terminal, in a pipe and in a mail from cron."""

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import click

from waveimport.core.estimate import seconds_left
from waveimport.core.progress import Alert, JobProgress
from waveimport.core.waves import BatchStatus, JobStatus
from waveimport.core.why import Reason

OWED_SHOWN = 5
_COLOURS = {"completed": "green", "failed": "red", "processing": "cyan", "cancelled": "yellow"}


def print_json(document: Any) -> None:
    """Write one JSON document to stdout."""
    click.echo(json.dumps(document, ensure_ascii=False, indent=2, default=str))


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> Iterator[str]:
    """Yield lines of columns as wide as they need be; columns in `right` are flush right. The first row is a head."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def job_lines(job: JobProgress, alerts: Sequence[Alert] = ()) -> Iterator[str]:
    """Yield the lines of `status`: the job, a table of its waves, its alerts."""
    rate = job.rows / job.elapsed_seconds if job.elapsed_seconds else 0.0
    left = seconds_left(job)
    rest = "" if left is None else f", about {span(left)} left"
    yield (
        f"{job.job_id}  {coloured(job.status.value)}  {job.mode}  profile {job.profile}  {job.rows:,} rows"
        f" in {span(job.elapsed_seconds)} ({rate:,.0f} rows/s){rest}"
    )
    if job.lease_owner is not None and job.lease_expires_at is not None:
        state = "lapsed at" if job.lease_expires_at < job.now else "until"
        yield f"lease: {job.lease_owner}, token {job.lease_token}, {state} {job.lease_expires_at:%Y-%m-%d %H:%M:%S} UTC"
    if job.requests is not None:
        why = "" if job.requests.reason is None else f": {job.requests.reason}"
        yield (
            f"requests: {job.requests.in_flight} in flight, {job.requests.allowed} of {job.requests.configured}"
            f" allowed{why}"
        )
    if job.error:
        yield f"error: {job.error}"
    yield ""
    rows = [["WAVE", "KIND", "RECORDS", "STATUS", "SEALED", "BATCHES", "FAILED", "ROWS"]]
    for wave in job.waves:
        rows.append(
            [
                str(wave.wave_number),
                wave.kind.value,
                ", ".join(wave.rows),
                wave.status.value,
                "yes" if wave.sealed else "no",
                f"{wave.total - wave.open_batches}/{wave.total}",
                str(wave.batches.get(BatchStatus.FAILED, 0) or "-"),
                f"{sum(wave.rows.values()):,}",
            ]
        )
    for number, line in enumerate(table(rows, right=frozenset({0, 5, 6, 7}))):
        status = rows[number][3]
        yield line.replace(status, coloured(status), 1) if number and status in _COLOURS else line
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
    for alert in alerts:
        yield ""
        yield f"alert[{alert.code}]: {alert.message}"
        yield f"  next: {alert.next}"


def brief_line(job: JobProgress, alerts: Sequence[Alert] = ()) -> str:
    """Return a job in one line, for a prompt, a log or a watch."""
    total = sum(wave.total for wave in job.waves)
    done = total - sum(wave.open_batches for wave in job.waves)
    failed = sum(wave.batches.get(BatchStatus.FAILED, 0) for wave in job.waves)
    left = seconds_left(job)
    parts = [f"{job.job_id} {job.status.value}", f"{done}/{total} batches", f"{job.rows:,} rows"]
    parts += [f"{failed} failed"] * bool(failed)
    parts += [f"{len(job.owed)} owed"] * bool(job.owed)
    parts += [] if left is None else [f"about {span(left)} left"]
    parts += [f"alerts: {' '.join(alert.code for alert in alerts)}"] * bool(alerts)
    return ", ".join(parts)


def why_lines(causes: Sequence[Reason], status: JobStatus, now: datetime) -> Iterator[str]:
    """Yield the lines of `status --why`: causes first, then the waves that wait for them."""
    yield ""
    if not causes:
        yield f"why: nothing holds the job up; it is {status}"
        return
    roots = [cause for cause in causes if not cause.blocked_by]
    for cause in (*roots, *(cause for cause in causes if cause.blocked_by)):
        where = "job" if cause.wave_number is None else f"wave {cause.wave_number}"
        since = "" if cause.since is None else f" (since {cause.since:%Y-%m-%d %H:%M:%S} UTC, {_ago(cause.since, now)})"
        yield f"why[{cause.code}]: {where}: {cause.message}{since}"
        if cause.next is not None:
            yield f"  next: {cause.next}"


def _ago(since: datetime, now: datetime) -> str:
    return f"{span(max(0.0, (now - since).total_seconds()))} ago"


def coloured(status: str) -> str:
    """Return a status in its colour; click takes it out again off a terminal, and NO_COLOR is obeyed there."""
    import os

    if os.environ.get("NO_COLOR"):
        return status
    return click.style(status, fg=_COLOURS.get(status))


def span(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"
