"""How fast a job is, how long it will take, and how sure that is.

Rows still to come are known by what was counted at the source and what has landed; the rate by the batches completed in
the last minutes, cut into slices of time. The bounds are what would come of it if all went on as in the slower half of
these slices, or as in the faster half. Where too little was completed to tell the halves apart nothing is said.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from waveimport.core.progress import Commit, JobProgress, Recent, WaveProgress
from waveimport.core.waves import JobStatus, WaveKind, WaveStatus

MOST_SLICES = 10
FEWEST_SLICES = 4
COMMITS_A_SLICE = 3
"""Commits that a slice of time has on average: with fewer, chance alone would leave slices empty."""


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure and its bounds: low <= likely <= high."""

    low: float
    likely: float
    high: float


NOTHING = Spread(0.0, 0.0, 0.0)


def average_rate(job: JobProgress) -> float:
    """Return the rows a second over the whole life of a job, pauses included; 0 for a job without life."""
    return job.rows / job.elapsed_seconds if job.elapsed_seconds else 0.0


def recent_rate(job: JobProgress) -> Spread | None:
    """Return the rows a second of the last minutes; None where no run is at work, or too little was completed."""
    if job.recent is None or not _at_work(job):
        return None
    seconds = (job.now - job.recent.since).total_seconds()
    landed = [commit for commit in job.recent.commits if commit.rows]
    count = min(MOST_SLICES, len(landed) // COMMITS_A_SLICE) // 2 * 2
    if count < FEWEST_SLICES or seconds <= 0.0:
        return None
    slices = sorted(_sliced(landed, job.recent.since, seconds, count))
    half = count // 2
    low, high = sum(slices[:half]) / half, sum(slices[half:]) / half
    if low <= 0.0:
        return None
    return Spread(low, (low + high) / 2, high)


def time_left(job: JobProgress) -> Spread | None:
    """Estimate the seconds until a job ends; all 0 where every row has landed.

    None where nothing can be said: no run is at work, a record is not planned yet, a derived wave has landed nothing to
    judge it by, or the recent rate is not known.
    """
    if not _at_work(job):
        return None
    rows = _rows_left(job)
    if rows is None:
        return None
    if rows.high == 0.0:
        return NOTHING
    rate = recent_rate(job)
    if rate is None:
        return None
    return Spread(rows.low / rate.high, rows.likely / rate.likely, rows.high / rate.low)


def _at_work(job: JobProgress) -> bool:
    return job.status is JobStatus.PROCESSING and job.held


def _sliced(commits: Sequence[Commit], since: datetime, seconds: float, count: int) -> list[float]:
    """Return the rows a second in each of `count` slices of equal length."""
    rows = [0] * count
    for commit in commits:
        place = int((commit.at - since).total_seconds() / seconds * count)
        rows[min(max(place, 0), count - 1)] += commit.rows
    return [landed * count / seconds for landed in rows]


def _rows_left(job: JobProgress) -> Spread | None:
    waves = {wave.wave_number: wave for wave in job.waves}
    left = NOTHING
    for wave in job.waves:
        rows = _main_left(wave) if wave.kind is WaveKind.MAIN else _derived_left(wave, waves, job.recent)
        if rows is None:
            return None
        left = Spread(left.low + rows.low, left.likely + rows.likely, left.high + rows.high)
    return left


def _main_left(wave: WaveProgress) -> Spread | None:
    if wave.status is WaveStatus.COMPLETED:
        return NOTHING
    if any(record not in wave.expected for record in wave.rows):
        return None
    left = float(sum(max(0, wave.expected[record] - rows) for record, rows in wave.rows.items()))
    return Spread(left, left, left)


def _derived_left(wave: WaveProgress, waves: dict[int, WaveProgress], recent: Recent | None) -> Spread | None:
    """Rows of the batches that are still to do: those there are and, as the parents' rows have it, those to come.

    A batch is taken to hold as much as those so far, or as those of late: newer orders may have more lines than old
    ones.
    """
    if wave.sealed and not wave.open_batches:
        return NOTHING
    parent = waves[wave.parent_wave] if wave.parent_wave is not None else None
    if parent is None or not wave.done:
        return None
    growth = 1.0
    if not wave.sealed:
        landed, expected = sum(parent.rows.values()), sum(parent.expected.values())
        if not landed or not expected:
            return None
        growth = max(1.0, expected / landed)
    batches = max(0.0, wave.total * growth - wave.done)
    likely = sum(wave.rows.values()) / wave.done
    sizes = [commit.rows for commit in recent.commits if commit.wave_number == wave.wave_number] if recent else []
    of_late = sum(sizes) / len(sizes) if sizes else likely
    return Spread(min(likely, of_late) * batches, likely * batches, max(likely, of_late) * batches)
