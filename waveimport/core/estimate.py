"""How long an unfinished job will take: rows still to come, by what was counted and what has landed."""

from waveimport.core.progress import JobProgress, WaveProgress
from waveimport.core.waves import BatchStatus, JobStatus, WaveKind, WaveStatus


def seconds_left(job: JobProgress) -> float | None:
    """Estimate the seconds until a job at work ends, at the rate of its whole life so far.

    None where nothing can be said: the job is not at work (no lease, or a lapsed one), a record is not planned yet,
    or a derived wave has landed nothing to judge it by.
    """
    held = job.lease_expires_at is not None and job.lease_expires_at >= job.now
    if job.status is not JobStatus.PROCESSING or not held or not job.rows or not job.elapsed_seconds:
        return None
    waves = {wave.wave_number: wave for wave in job.waves}
    left = 0.0
    for wave in job.waves:
        rows = _main_left(wave) if wave.kind is WaveKind.MAIN else _derived_left(wave, waves)
        if rows is None:
            return None
        left += rows
    return left * job.elapsed_seconds / job.rows


def _main_left(wave: WaveProgress) -> float | None:
    if wave.status is WaveStatus.COMPLETED:
        return 0.0
    if any(record not in wave.expected for record in wave.rows):
        return None
    return float(sum(max(0, wave.expected[record] - rows) for record, rows in wave.rows.items()))


def _derived_left(wave: WaveProgress, waves: dict[int, WaveProgress]) -> float | None:
    """Rows a batch so far, for the batches there are and, as the parents' rows have it, will be."""
    if wave.sealed and not wave.open_batches:
        return 0.0
    parent = waves[wave.parent_wave] if wave.parent_wave is not None else None
    done = wave.batches.get(BatchStatus.COMPLETED, 0)
    if parent is None or not done:
        return None
    growth = 1.0
    if not wave.sealed:
        landed, expected = sum(parent.rows.values()), sum(parent.expected.values())
        if not landed or not expected:
            return None
        growth = max(1.0, expected / landed)
    rows = sum(wave.rows.values())
    return max(0.0, rows / done * wave.total * growth - rows)
