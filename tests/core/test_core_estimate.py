"""The time left of a job at work: by what was counted at the source and what a derived wave has landed so far."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from waveimport.core.estimate import seconds_left
from waveimport.core.progress import JobProgress, WaveProgress
from waveimport.core.waves import BatchStatus, JobStatus, WaveKind, WaveStatus

BEGAN = datetime(2026, 1, 1)


def wave(
    number: int, rows: int, expected: int | None, done: int, pending: int, parent: int | None = None
) -> WaveProgress:
    return WaveProgress(
        wave_number=number,
        kind=WaveKind.MAIN if parent is None else WaveKind.DERIVED,
        status=WaveStatus.PROCESSING,
        sealed=False,
        parent_wave=parent,
        rows={f"r{number}": rows},
        batches={BatchStatus.COMPLETED: done, BatchStatus.PENDING: pending},
        tries=0,
        expected={} if expected is None else {f"r{number}": expected},
        last_commit=None,
    )


def job(*waves: WaveProgress, seconds: float = 100.0) -> JobProgress:
    now = BEGAN + timedelta(seconds=seconds)
    return JobProgress(
        job_id="import_1", profile="p", mode="full", status=JobStatus.PROCESSING, created_at=BEGAN, finished_at=None,
        error=None, lease_owner="h:1", lease_token=1, lease_expires_at=now, idle_passes=0, waves=waves, now=now,
    )  # fmt: skip


def test_what_was_counted_and_has_not_landed_takes_as_long_as_what_has() -> None:
    assert seconds_left(job(wave(1, 500, 2000, 5, 15))) == pytest.approx(300.0)


def test_a_derived_wave_grows_with_its_parents_and_ends_by_its_batches() -> None:
    # Half of the parents landed and made 4 batches, so 8 will be; 2 of them hold 200 rows, so 800 rows will come.
    growing = job(wave(1, 500, 1000, 5, 5), wave(2, 200, None, 2, 2, parent=1))
    assert seconds_left(growing) == pytest.approx((500 + 600) * 100 / 700)
    sealed = replace(growing.waves[1], sealed=True)
    settled = replace(growing.waves[0], status=WaveStatus.COMPLETED)
    assert seconds_left(replace(growing, waves=(settled, sealed))) == pytest.approx(200 * 100 / 700)


@pytest.mark.parametrize("change", [
    {"status": JobStatus.PENDING},
    {"status": JobStatus.COMPLETED},
    {"lease_expires_at": None},
    {"lease_expires_at": BEGAN},
    {"waves": (wave(1, 500, None, 5, 15),)},
    {"waves": (wave(1, 0, 2000, 0, 20),)},
    {"waves": (wave(1, 500, 1000, 5, 5), wave(2, 0, None, 0, 4, parent=1))},
])  # fmt: skip
def test_where_nothing_can_be_said_nothing_is(change: dict[str, object]) -> None:
    assert seconds_left(replace(job(wave(1, 500, 2000, 5, 15)), **change)) is None
