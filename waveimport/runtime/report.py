"""A job as one HTML page that needs nothing but itself: no network, no script, also while the job is at work."""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from waveimport import __version__
from waveimport.core.progress import Alert, JobProgress, alerts_by
from waveimport.core.replay import decision_words, reason_words
from waveimport.core.report import words
from waveimport.core.report.axis import time_axis
from waveimport.core.report.clusters import clusters
from waveimport.core.report.gantt import MARKS, bands, look_of
from waveimport.core.report.history import (
    GAVE_UP,
    PUT_BACK,
    BatchEvent,
    BatchPast,
    Noted,
    RunPast,
    runs,
    spans,
)
from waveimport.core.report.series import latency, rate, slots, times
from waveimport.core.report.verdict import verdict
from waveimport.core.settings import RunSettings, Settings
from waveimport.core.waves import DECISION_VERSION, UNFINISHED_JOB, BatchStatus, JobStatus, WaveKind
from waveimport.core.why import Reason, explain
from waveimport.errors import JournalDamaged
from waveimport.runtime.failures import read_failures
from waveimport.runtime.retelling import Retold, alike, retell
from waveimport.store import past
from waveimport.store.progress import read_progress
from waveimport.store.standstill import read_facts
from waveimport.store.transactions import Database

LOG_ROWS = 120
REPLAYED_ROWS = 1500
"""Rows of the decision log, alike neighbours folded: its last ones, in a report and in a replay."""
FAILURES_SHOWN = 40
CLUSTERS_SHOWN = 20
SLOWEST_SHOWN = 10
OWED_SHOWN = 20
LONGEST_TEXT = 2000
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffe\uffff\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Report:
    """A page, and what its fold of the journal came to: whether an entry `diverged` under the same version of the
    rules, or could not be read (`damaged` says why)."""

    html: str
    diverged: bool
    damaged: JournalDamaged | None


@dataclass(frozen=True, slots=True)
class Told:
    """A job in numbers, what stands wrong with it, and why it does not move."""

    job: JobProgress
    alerts: tuple[Alert, ...]
    causes: tuple[Reason, ...]


@dataclass(slots=True)
class LogRow:
    """One entry of the decision log, or alike neighbours in one; `verdict` is agrees, otherwise, diverged or empty."""

    first: int
    last: int
    count: int
    at: datetime
    until: datetime
    source: str
    token: int
    event: str
    what: str
    why: str
    verdict: str
    differences: tuple[str, ...] = ()
    dispatched: int = 0


@dataclass(slots=True)
class Log:
    """The decision log: its last rows, the entry that differs first (of the same rules where there is one), and how
    many entries there are."""

    rows: deque[LogRow]
    entries: int = 0
    recomputed: int = 0
    otherwise: int = 0
    passes: int = 0
    left_out: int = 0
    divergence: LogRow | None = None
    diverged: bool = False
    damaged: JournalDamaged | None = None
    noted: list[Noted] = field(default_factory=list)
    at_once: int = 1


def write_report(
    database: Database,
    job_id: str,
    *,
    settings: Settings | None = None,
    told: Told | None = None,
    replayed: bool = False,
    bundle: str | None = None,
) -> Report:
    """Return the page of a job. It is read only.

    `settings` gives failed batches their queries and alerts their thresholds; without it there are no queries, and the
    thresholds are the usual ones. `told` is what the caller knows of the job already; with `replayed` the log is longer
    and says of each entry whether it agrees; `bundle` says what bundle the job is read from. Raises UnknownJob.
    """
    job, alerts, causes = _told(database, job_id, settings) if told is None else (told.job, told.alerts, told.causes)
    log = _log(database, job_id, REPLAYED_ROWS if replayed else LOG_ROWS, replayed=replayed)
    batches = database.run(lambda connection: past.read_batches(connection, job_id))
    events = database.run(lambda connection: past.read_events(connection, job_id))
    compared = database.run(lambda connection: past.compared_at(connection, job_id))
    failures = read_failures(database, settings, job_id)
    page = {
        "job": job,
        "alerts": alerts,
        "causes": [cause for cause in causes if not cause.blocked_by] + [cause for cause in causes if cause.blocked_by],
        "verdict": verdict(job, alerts, causes),
        "replayed": replayed,
        "bundle": bundle,
        "log": log,
        "rules": DECISION_VERSION,
        "version": __version__,
        "compared": compared,
        "failures": failures[:FAILURES_SHOWN],
        "failures_left": max(0, len(failures) - FAILURES_SHOWN),
        "owed": job.owed[:OWED_SHOWN],
        "owed_left": max(0, len(job.owed) - OWED_SHOWN),
        **_drawn(job, batches, events, log),
    }
    return Report(_environment().get_template("report.html.jinja").render(page), log.diverged, log.damaged)


def _told(
    database: Database, job_id: str, settings: Settings | None
) -> tuple[JobProgress, tuple[Alert, ...], tuple[Reason, ...]]:
    thresholds = RunSettings() if settings is None else settings.run
    job = database.run(lambda connection: read_progress(connection, job_id))
    alerts = alerts_by(job, thresholds)
    facts = database.run(lambda connection: read_facts(connection, job))
    return job, alerts, explain(replace(facts, lease_seconds=thresholds.lease_seconds))


def _drawn(job: JobProgress, batches: Sequence[BatchPast], events: Sequence[BatchEvent], log: Log) -> dict[str, Any]:
    """Return the figures of the page: all on one axis of time."""
    ran = runs(log.noted, finished_at=job.finished_at, lease_until=job.lease_expires_at, now=job.now)
    found = spans(batches, events, log.at_once, [run.began for run in ran])
    signs = [job.created_at, *(entry.at for entry in log.noted), *(event.at for event in events)]
    signs += [moment for batch in batches for moment in (batch.created_at, batch.updated_at)]
    last = max(signs)
    # A finished job ends with its last sign; one that stands still goes on to now, and that is the point.
    axis = time_axis(signs, max(last, job.now) if job.status in UNFINISHED_JOB else max(last, job.finished_at or last))
    seen = clusters(_errors(batches, events))
    slowest = sorted(
        (one for one in found.values() if one.batch.status in (BatchStatus.COMPLETED, BatchStatus.PROCESSING)),
        key=lambda one: (-one.seconds(job.now), one.batch.batch_id),
    )
    drawn = bands(axis, [wave.wave_number for wave in job.waves], batches, events, found, job.now)
    return {
        "axis": axis,
        "ticks": axis.ticks(),
        "folds": axis.folds,
        "runs": [_run(axis, run) for run in ran],
        "notes": [
            {"left": axis.place(one.at), "event": one.event, "at": one.at, "note": one.note or ""}
            for one in log.noted
            if one.event in ("retry", "cancel")
        ],
        "bands": {band.wave_number: band for band in drawn},
        "marks": MARKS,
        "mark_counts": {kind: sum(band.counts.get(kind, 0) for band in drawn) for kind in MARKS},
        "rate": rate(axis, batches, found, job.rows / job.elapsed_seconds if job.elapsed_seconds else 0.0),
        "slots": slots(axis, log.noted, [run.ended for run in ran if not run.at_work], found.values(), job.now),
        "claims_known": all(one.batch.claimed_at is not None for one in found.values()),
        "latency": latency(axis, found.values(), job.now),
        "at_once": log.at_once,
        "times": times(axis, found.values(), job.now),
        "clusters": seen[:CLUSTERS_SHOWN],
        "clusters_left": max(0, len(seen) - CLUSTERS_SHOWN),
        "slowest": [(one, one.seconds(job.now), look_of(one.batch)) for one in slowest[:SLOWEST_SHOWN]],
        "graph": _graph(job),
        "took_over": sum(run.took_over is not None for run in ran),
        "lost_runs": sum(run.lost for run in ran),
        "totals": _totals(job),
    }


def _run(axis: Any, run: RunPast) -> dict[str, Any]:
    left = axis.place(run.began)
    right = axis.place(run.ended)
    return {"run": run, "left": min(left, 99.5), "width": round(max(0.4, right - left), 2), "right": right}


def _errors(batches: Sequence[BatchPast], events: Sequence[BatchEvent]) -> list[tuple[str, str, datetime]]:
    """Return what batches met: by their events, and the errors of failed ones that have none."""
    met = [
        (event.batch_id, event.detail, event.at)
        for event in events
        if event.event in PUT_BACK | GAVE_UP and event.detail is not None
    ]
    told = {event.batch_id for event in events if event.event in GAVE_UP}
    met += [
        (batch.batch_id, batch.error, batch.updated_at)
        for batch in batches
        if batch.status is BatchStatus.FAILED and batch.error is not None and batch.batch_id not in told
    ]
    return met


def _totals(job: JobProgress) -> dict[str, int]:
    by = {status.value: sum(wave.batches.get(status, 0) for wave in job.waves) for status in BatchStatus}
    return {**by, "total": sum(wave.total for wave in job.waves), "tries": sum(wave.tries for wave in job.waves)}


def _graph(job: JobProgress) -> list[list[Any]]:
    """Return the main waves in order, each with the waves derived from it beneath it, children after parents."""
    columns = [[wave] for wave in job.waves if wave.kind is WaveKind.MAIN]
    home = {column[0].wave_number: column for column in columns}
    for wave in job.waves:
        if wave.parent_wave is not None and wave.parent_wave in home:
            home[wave.parent_wave].append(wave)
            home[wave.wave_number] = home[wave.parent_wave]
    return columns


def _log(database: Database, job_id: str, most: int, *, replayed: bool) -> Log:
    """Fold the journal into its last rows, and keep of every entry what is drawn."""
    log = Log(deque(maxlen=most))
    shown: Retold | None = None
    row: LogRow | None = None
    try:
        for one in retell(database, job_id):
            _note(log, one)
            folds = shown is not None and (alike(shown, one) or (not replayed and _differ_alike(shown, one)))
            if row is not None and folds:
                row.last, row.until = one.entry.seq, max(row.until, _until(one))
                row.count += 1 + one.entry.repeats
                row.dispatched += _dispatched(one) * (1 + one.entry.repeats)
                continue
            shown, row = one, _row(one, replayed=replayed)
            log.left_out += len(log.rows) == most
            log.rows.append(row)
            if not one.replayed.agrees and (log.divergence is None or (one.same_version and not log.diverged)):
                log.divergence, log.diverged = row, one.same_version
    except JournalDamaged as error:
        # A job in trouble is when a report is wanted: the page has what can be read, and says what cannot.
        log.damaged = error
    return log


def _differ_alike(first: Retold, second: Retold) -> bool:
    """Whether two neighbours recorded the same, and today's code decides otherwise of both."""
    if first.replayed.agrees or second.replayed.agrees or first.same_version != second.same_version:
        return False
    return first.entry.token == second.entry.token and first.entry.decision == second.entry.decision


def _note(log: Log, one: Retold) -> None:
    entry = one.entry
    log.entries += 1
    log.passes += 1 + entry.repeats if entry.snapshot is not None else 0
    log.recomputed += one.replayed.recomputed is not None
    log.otherwise += not one.replayed.agrees
    slots = in_use = None
    if entry.snapshot is not None:
        slots = entry.snapshot.limit
        in_use = min(slots, slots - entry.snapshot.free_slots + _dispatched(one))
        # A batch whose last page is landing leaves its slot to another: more can be at work than there are slots.
        at_work = sum(wave.live for wave in entry.snapshot.waves) + _dispatched(one)
        log.at_once = max(log.at_once, slots, at_work)
    log.noted.append(
        Noted(entry.seq, entry.at, entry.event, entry.source, entry.token, entry.note, slots, in_use, entry.repeated_at)
    )


def _until(one: Retold) -> datetime:
    return one.entry.repeated_at or one.entry.at


def _dispatched(one: Retold) -> int:
    return sum(order.count for order in one.entry.decision.dispatch) if one.entry.decision else 0


def _row(one: Retold, *, replayed: bool) -> LogRow:
    entry, decision = one.entry, one.entry.decision
    judged = ""
    if not one.replayed.agrees:
        judged = "diverged" if one.same_version else "otherwise"
    elif replayed and one.replayed.recomputed is not None:
        judged = "agrees"
    return LogRow(
        first=entry.seq,
        last=entry.seq,
        count=1 + entry.repeats,
        at=entry.at,
        until=_until(one),
        source=entry.source,
        token=entry.token,
        event=entry.event,
        what=decision_words(decision) if decision is not None else entry.note or "-",
        why=reason_words(decision) if decision is not None else "",
        verdict=judged,
        differences=one.replayed.differences,
        dispatched=_dispatched(one) * (1 + entry.repeats),
    )


@lru_cache(maxsize=1)
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("waveimport.runtime", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_printable,
    )
    environment.filters.update(
        duration=words.duration,
        number=words.number,
        counted=words.counted,
        moment=_moment,
        clock=_clock,
        second=_second,
        short=_short,
    )
    environment.globals.update(JobStatus=JobStatus, BatchStatus=BatchStatus)
    return environment


def _printable(value: Any) -> Any:
    """Take out what no HTML page may hold: errors quote whatever a server sent."""
    if isinstance(value, str) and not isinstance(value, Markup) and _CONTROLS.search(value):
        return _CONTROLS.sub("\ufffd", value)
    return value


def _moment(value: datetime) -> str:
    return f"{value:%Y-%m-%d %H:%M:%S} UTC"


def _second(value: datetime) -> str:
    return f"{value.day} {value:%b} {value:%H:%M:%S}"


def _clock(value: datetime) -> str:
    return value.isoformat(sep=" ", timespec="milliseconds")


def _short(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else text[:LONGEST_TEXT] + f"… ({len(text):,} characters)"
