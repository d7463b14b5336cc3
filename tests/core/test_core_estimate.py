"""The time left of a job at work and how sure it is: by what was counted, what has landed, and how evenly of late."""

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waveimport.core.estimate import NOTHING, Spread, average_rate, recent_rate, time_left
from waveimport.core.progress import Commit, JobProgress, Recent, WaveProgress
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


def landed(*rows: int, seconds: float = 100.0, wave_number: int = 1) -> Recent:
    """Commits of so many rows, evenly over the seconds before the job's now, which is at `seconds`."""
    step = seconds / max(1, len(rows))
    at = [BEGAN + timedelta(seconds=step * (number + 0.5)) for number in range(len(rows))]
    return Recent(BEGAN, tuple(Commit(moment, wave_number, count) for moment, count in zip(at, rows, strict=True)))


EVENLY = landed(*[10] * 50)
"""Five rows a second, in each part of the time."""


def job(*waves: WaveProgress, seconds: float = 100.0, recent: Recent | None = EVENLY) -> JobProgress:
    now = BEGAN + timedelta(seconds=seconds)
    return JobProgress(
        job_id="import_1", profile="p", mode="full", status=JobStatus.PROCESSING, created_at=BEGAN, finished_at=None,
        error=None, lease_owner="h:1", lease_token=1, lease_expires_at=now, idle_passes=0, waves=waves, now=now,
        recent=recent,
    )  # fmt: skip


def test_what_was_counted_and_has_not_landed_takes_as_long_as_the_recent_rate_has_it() -> None:
    seen = job(wave(1, 500, 2000, 5, 15))
    assert average_rate(seen) == 5.0
    assert time_left(seen) == Spread(pytest.approx(300.0), pytest.approx(300.0), pytest.approx(300.0))
    assert time_left(replace(seen, created_at=BEGAN - timedelta(days=1))) == time_left(seen), "a night between two runs"


def test_the_bounds_are_those_of_the_slower_and_the_faster_half() -> None:
    # Twice as fast in the second half of the time as in the first.
    uneven = job(wave(1, 500, 2000, 5, 15), recent=landed(*[20] * 12, *[40] * 12))
    rate = recent_rate(uneven)
    assert rate is not None
    assert (rate.low, rate.likely, rate.high) == pytest.approx((4.8, 7.2, 9.6))
    left = time_left(uneven)
    assert left is not None
    assert (left.low, left.likely, left.high) == pytest.approx((1500 / 9.6, 1500 / 7.2, 1500 / 4.8))


def test_a_derived_wave_grows_with_its_parents_and_ends_by_its_batches() -> None:
    # Half of the parents landed and made 4 batches, so 8 will be; 2 of them hold 200 rows, so 600 rows will come.
    growing = job(wave(1, 500, 1000, 5, 5), wave(2, 200, None, 2, 2, parent=1))
    left = time_left(growing)
    assert left is not None
    assert left.likely == pytest.approx((500 + 600) / 5)
    sealed = replace(growing.waves[1], sealed=True)
    settled = replace(growing.waves[0], status=WaveStatus.COMPLETED)
    left = time_left(replace(growing, waves=(settled, sealed)))
    assert left is not None
    assert left.likely == pytest.approx(200 / 5)


def test_batches_that_hold_more_of_late_widen_the_bounds() -> None:
    settled = replace(wave(1, 1000, 1000, 10, 0), status=WaveStatus.COMPLETED)
    lines = replace(wave(2, 200, None, 2, 2, parent=1), sealed=True)
    left = time_left(job(settled, lines, recent=landed(*[150] * 40, wave_number=2)))
    assert left is not None
    assert (left.low, left.likely, left.high) == pytest.approx((200 / 60, 200 / 60, 300 / 60))


@pytest.mark.parametrize("change", [
    {"status": JobStatus.PENDING},
    {"status": JobStatus.COMPLETED},
    {"lease_expires_at": None},
    {"lease_expires_at": BEGAN},
    {"recent": None},
    {"recent": landed()},
    {"recent": landed(*[25] * 11)},
    {"recent": landed(*[0] * 20)},
    {"recent": replace(EVENLY, since=BEGAN + timedelta(seconds=100))},
    {"waves": (wave(1, 500, None, 5, 15),)},
    {"waves": (wave(1, 500, 1000, 5, 5), wave(2, 0, None, 0, 4, parent=1))},
])  # fmt: skip
def test_where_nothing_can_be_said_nothing_is(change: dict[str, object]) -> None:
    assert time_left(job(wave(1, 500, 2000, 5, 15))) is not None
    assert time_left(replace(job(wave(1, 500, 2000, 5, 15)), **change)) is None


def test_a_stall_in_half_of_the_time_leaves_the_worst_unknown() -> None:
    """No bound can be given for a job that may stop again: nothing is said, rather than a false figure."""
    stalled = landed(*[25] * 12, seconds=40.0)
    assert recent_rate(job(wave(1, 500, 2000, 5, 15), recent=stalled)) is None


def test_nothing_is_left_where_all_has_landed_whatever_the_rate() -> None:
    assert time_left(job(wave(1, 2000, 2000, 20, 0), recent=None)) == NOTHING


commits = st.lists(st.tuples(st.floats(0.0, 100.0), st.integers(1, 2), st.integers(0, 10**6)), max_size=60)


@given(commits, st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 50), st.integers(0, 50), st.booleans())
def test_the_bounds_hold_what_is_likely(
    found: list[tuple[float, int, int]], rows: int, expected: int, done: int, pending: int, sealed: bool
) -> None:
    made = tuple(Commit(BEGAN + timedelta(seconds=at), number, count) for at, number, count in found)
    lines = replace(wave(2, rows // 2, None, done, pending, parent=1), sealed=sealed)
    seen = job(wave(1, rows, expected, done, pending), lines, recent=Recent(BEGAN, made))
    rate, left = recent_rate(seen), time_left(seen)
    for spread in (rate, left):
        if spread is not None:
            assert 0.0 <= spread.low <= spread.likely <= spread.high
    if rate is not None:
        assert rate.low > 0.0
        # Within the slices of time no row is lost or told twice.
        assert rate.likely * 100.0 == pytest.approx(sum(count for _, _, count in found))
    assert (left is None) or (rate is not None) or (left == NOTHING)
