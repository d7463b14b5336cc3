"""What a report draws, as numbers: time as a width, batches as bars or columns, errors in groups, a job in a word."""

from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waveimport.core.progress import Alert, JobProgress, WaveProgress
from waveimport.core.report.axis import LABEL_APART, time_axis
from waveimport.core.report.clusters import clusters, shape_of
from waveimport.core.report.gantt import BARS_MOST, bands
from waveimport.core.report.history import BatchEvent, BatchPast, Noted, Span, runs, spans
from waveimport.core.report.series import latency, rate, slots, times
from waveimport.core.report.verdict import State, verdict
from waveimport.core.report.words import ceiling, duration
from waveimport.core.waves import BatchStatus, JobStatus, WaveKind, WaveStatus
from waveimport.core.why import Reason

ZERO = datetime(2026, 3, 1, 23, 59, 50)


def at(seconds: float) -> datetime:
    return ZERO + timedelta(seconds=seconds)


def batch(
    name: str, made: float, ended: float, status: str = "completed", *, rows: int = 10, wave: int = 1
) -> BatchPast:
    return BatchPast(name, wave, "item", BatchStatus(status), 1, 1, 0, 0, rows, at(made), at(ended), None)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0, "0 ms"), (0.04, "40 ms"), (0.9996, "1.0 s"), (9.9, "9.9 s"), (59.96, "1 min"), (61, "1 min 1 s"),
     (3599.7, "1 h"), (5000, "1 h 23 min"), (86399, "1 d"), (273600, "3 d 4 h")],
)  # fmt: skip
def test_a_duration_has_two_units_at_most_and_never_sixty_of_one(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@given(st.floats(0.001, 1e12))
def test_a_scale_ends_at_or_above_its_highest_value_and_near_it(value: float) -> None:
    assert value * (1 - 1e-6) <= ceiling(value) <= value * 2.01


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=30), st.floats(0, 1e7))
def test_moments_are_placed_in_their_order_and_within_the_width(seconds: list[float], end: float) -> None:
    axis = time_axis(map(at, seconds), at(end))
    places = [axis.place(at(one)) for one in sorted([*seconds, end])]
    assert places == sorted(places)
    assert places[0] >= 0
    assert places[-1] <= 100
    labels = axis.ticks()
    assert all(after.left - before.left >= LABEL_APART for before, after in pairwise(labels))
    buckets = axis.buckets(50)
    assert 1 <= len(buckets) <= 50 + 2 * len(axis.stretches)
    assert all(one.left + one.width <= 100.1 for one in buckets)


def test_a_standstill_of_most_of_the_time_is_folded_and_what_happened_keeps_the_width() -> None:
    axis = time_axis([at(0), at(1), at(2), at(3)], at(36_000))
    (fold,) = axis.folds
    assert fold.end - fold.begin > 35_990
    assert axis.place(at(3)) > 85
    assert axis.place(at(36_000)) == 100
    assert not time_axis([at(0), at(70), at(100), at(130)], at(150)).folds


def test_labels_of_more_than_a_day_name_the_day() -> None:
    assert [tick.label for tick in time_axis([at(0)], at(20)).ticks(4)][:2] == ["1 Mar 23:59:50", "1 Mar 23:59:55"]
    assert time_axis([at(-20)], at(-10)).ticks(2)[0].label == "23:59:30"


def test_a_batch_begins_when_a_slot_is_free_in_the_order_of_claims() -> None:
    found = spans([batch("a", 0, 4), batch("b", 0, 9), batch("c", 0, 6), batch("d", 7, 8)], [], 2)
    assert {name: one.began for name, one in found.items()} == {"a": at(0), "b": at(0), "c": at(4), "d": at(7)}


def test_a_batch_that_was_put_back_begins_again_there_and_a_pending_one_has_not_begun() -> None:
    events = [BatchEvent("a", at(3), "refused", 1, "no"), BatchEvent("c", at(5), "failed", 1, "no")]
    members = [
        batch("a", 0, 8),
        batch("b", 0, 0, "pending"),
        batch("c", 0, 99, "failed"),
        batch("d", 0, 2, "processing"),
    ]
    found = spans(members, events, 9)
    assert (found["a"].began, found["a"].ended) == (at(3), at(8))
    assert found["c"].ended == at(5), "what is done with its row later is not its end"
    assert found["d"].ended is None
    assert found["d"].seconds(at(10)) == 10
    assert "b" not in found


def test_a_batch_begins_no_earlier_than_the_run_that_ended_it() -> None:
    members = [batch("a", 0, 4), batch("b", 0, 30), batch("c", 0, 0, "dispatched")]
    found = spans(members, [], 9, [at(1), at(20), at(40)])
    assert {name: one.began for name, one in found.items()} == {"a": at(1), "b": at(20), "c": at(40)}


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), min_size=1, max_size=40), st.integers(1, 5))
def test_no_batch_begins_before_it_was_made_or_behind_its_end(made: list[tuple[int, int]], count: int) -> None:
    members = [batch(f"{number:03}", begin, begin + took) for number, (begin, took) in enumerate(made)]
    found = spans(members, [], count)
    assert len(found) == len(members)
    for one in found.values():
        assert one.ended is not None
        assert one.batch.created_at <= one.began <= one.ended


def test_bars_of_one_lane_never_overlap_and_too_many_become_columns() -> None:
    few = [batch(f"{number:04}", number, number + 7) for number in range(BARS_MOST)]
    many = [batch(f"x{number:04}", number, number + 7, "failed" if number % 9 == 0 else "completed", wave=2)
            for number in range(BARS_MOST + 1)]  # fmt: skip
    members = [*few, *many]
    events = [BatchEvent("0001", at(3), "refused", 1, "no"), BatchEvent("0002", at(3), "requeued", 1, None)]
    axis = time_axis([one.created_at for one in members], at(320))
    first, second = bands(axis, [1, 2], members, events, spans(members, events, 10), at(320))
    assert len(first.bars) == BARS_MOST
    for lane in range(first.lanes):
        row = [one for one in first.bars if one.lane == lane]
        assert all(one.left + one.width <= after.left + 0.02 for one, after in pairwise(row))
    assert {mark.kind for mark in first.marks} == {"retry", "lost"}
    assert len({mark.row for mark in first.marks}) == 2
    assert not second.bars
    assert sum(int(one.title.split()[0]) for one in second.columns) == BARS_MOST + 1
    assert max(one.height for one in second.columns) == 100
    assert any(one.bad for one in second.columns)
    assert second.open is not None
    assert second.open.most > 1


def test_rows_a_second_add_up_to_the_rows() -> None:
    members = [batch(f"{number:03}", 0, number, rows=number) for number in range(1, 101)]
    axis = time_axis([at(0)], at(100))
    drawn = rate(axis, members, spans(members, [], 100), 50.0)
    assert drawn is not None
    assert sum(one.height / 100 * drawn.top * drawn.bucket_seconds for one in drawn.columns) == pytest.approx(
        5050, rel=0.01
    )
    assert rate(axis, [replace(members[0], rows=0)], {}, 0.0) is None


def test_slots_are_told_from_passes_and_cuts_from_the_limit() -> None:
    entries = [
        Noted(1, at(0), "lease", "cron", 1, "taken by a:1"),
        Noted(2, at(1), "pass", "cron", 1, None, 8, 8),
        Noted(3, at(2), "limit", "worker", 1, "4 of 8 requests may be in flight: NetSuite answered 429"),
        Noted(4, at(3), "pass", "worker", 1, None, 4, 2),
    ]
    drawn = slots(time_axis([at(0)], at(10)), entries, [at(5)], [Span(batch("old", 0, 4), at(0), at(4))], at(10))
    assert drawn is not None
    assert (drawn.top, drawn.peak) == (8, 8)
    assert [(cut.allowed, cut.configured, cut.left) for cut in drawn.cuts] == [(4, 8, 20.0)]
    assert drawn.used == "M100 100V0H300V75H500V100H1000V100Z"
    assert drawn.allowed == "M100 0H300V50H500V100"


def claimed(name: str, claim: float, ended: float, **more: Any) -> BatchPast:
    return replace(batch(name, 0, ended), claimed_at=at(claim), **more)


def test_a_batch_begins_when_it_was_claimed_where_that_is_on_record() -> None:
    members = [claimed("a", 3, 8), batch("b", 0, 9)]
    found = spans(members, [], 1, [at(1)])
    assert (found["a"].began, found["b"].began) == (at(3), at(1))


def test_batches_at_work_are_told_from_their_claims_where_all_are_on_record() -> None:
    """A pass that meets an old situation again leaves no entry of its own: passes alone would miss most."""
    entries = [
        Noted(2, at(0), "pass", "cron", 1, None, 4, 1),
        Noted(3, at(1), "pass", "worker", 1, None, 2, 1, at(6)),
    ]
    found = spans([claimed("a", 0, 6), claimed("b", 2, 8), claimed("c", 4, 5)], [], 9)
    drawn = slots(time_axis([at(0)], at(10)), entries, [at(8)], list(found.values()), at(10))
    assert drawn is not None
    assert (drawn.top, drawn.peak) == (4, 3)
    assert drawn.used == "M0 100V75H100V75H200V50H400V25H500V50H600V75H800V100H1000V100Z"


def test_latency_is_the_mean_of_the_requests_of_a_batch() -> None:
    members = [claimed("a", 0, 6, requests=4, request_seconds=2.0), claimed("b", 0, 6)]
    told = latency(time_axis([at(0)], at(10)), spans(members, [], 9).values(), at(10))
    assert told is not None
    assert (told.count, told.longest) == (1, 0.5)
    assert latency(time_axis([at(0)], at(10)), spans(members[1:], [], 9).values(), at(10)) is None


def test_what_batches_took_is_told_by_half_most_and_all() -> None:
    found = [Span(batch(str(took), 0, took), at(0), at(took)) for took in range(1, 101)]
    told = times(time_axis([at(0)], at(100)), found, at(100))
    assert told is not None
    assert (told.half, told.most, told.longest, told.count) == (51, 96, 100, 100)
    assert times(time_axis([at(0)], at(1)), [], at(1)) is None


def test_runs_are_told_with_who_was_lost_and_who_took_over() -> None:
    entries = [
        Noted(1, at(0), "lease", "cron", 1, "taken by a:1"),
        Noted(2, at(4), "pass", "worker", 1, None, 8, 8),
        Noted(3, at(60), "lease", "watchdog", 2, "taken by b:2 from a:1, whose lease had lapsed"),
        Noted(4, at(70), "ended", "worker", 2, "paused by --max-runtime"),
        Noted(5, at(90), "lease", "manual", 3, "taken by c:3"),
    ]
    first, second, third = runs(entries, finished_at=None, lease_until=at(130), now=at(100))
    assert (first.owner, first.ended, first.lost) == ("a:1", at(4), True)
    assert (second.took_over, second.how) == ("a:1, whose lease had lapsed", "paused by --max-runtime")
    assert (third.ended, third.at_work) == (at(100), True)
    assert runs(entries, finished_at=None, lease_until=at(95), now=at(100))[-1].lost
    assert runs(entries, finished_at=at(99), lease_until=None, now=at(100))[-1].ended == at(99)


def test_errors_that_differ_in_ids_and_numbers_are_one_and_codes_stay() -> None:
    errors = [
        ("a", "WI-SRC-007: NetSuite failed inside (500): Error ID: kq3jjjzz at row 17", at(2)),
        ("b", "WI-SRC-007: NetSuite failed inside (500): Error ID: plmmmjja at row 8", at(1)),
        ("b", "WI-SRC-007: NetSuite failed inside (503): Error ID: plmmmjja at row 8", at(3)),
        ("c", "value 'O''Neil' of column \"a\" does not fit", at(4)),
    ]
    found = clusters(errors)
    assert [(one.count, one.batches) for one in found] == [(2, 2), (1, 1), (1, 1)]
    assert found[0].shape == "WI-SRC-007: NetSuite failed inside (500): Error ID: [n] at row [n]"
    assert (found[0].first, found[0].last, found[0].example_batch) == (at(1), at(2), "a")
    assert shape_of("HTTP 429 after 3 tries") == "HTTP 429 after [n] tries"
    assert len(shape_of("x" * 9999)) < 300


def progress(status: JobStatus, **more: Any) -> JobProgress:
    wave = WaveProgress(1, WaveKind.MAIN, WaveStatus.PROCESSING, False, None, {"item": 10},
                        {BatchStatus.COMPLETED: 2, BatchStatus.FAILED: 1}, 0, {}, None)  # fmt: skip
    return replace(
        JobProgress("j", "p", "full", status, at(0), None, None, "a:1", 1, at(99), 0, (wave,), at(50)),
        **more,
    )


HANGS = Alert("wave_stuck", 1, "wave 1 hangs", "x")
OLD = Alert("no_complete_run", None, "the last complete import is old", "x")
WHY = Reason("decided_otherwise", "another rule decides", None, "waveimport replay j", 2)


@pytest.mark.parametrize(
    ("job", "alerts", "causes", "state", "said"),
    [
        (progress(JobStatus.COMPLETED), (), (), State.DONE, "All 3 batches landed: 10 rows in 50 s."),
        (progress(JobStatus.COMPLETED, error="item: 9 and 10"), (), (), State.DIFFERS, "item: 9 and 10"),
        (progress(JobStatus.PROCESSING), (), (), State.RUNNING, "2 of 3 batches so far, 10 rows in 50 s"),
        (progress(JobStatus.PROCESSING, lease_owner=None), (), (), State.PAUSED, "No run is at work on it."),
        (
            progress(JobStatus.PROCESSING),
            (Alert("wave_stuck", 1, "wave 1 hangs", "x"),),
            (),
            State.STUCK,
            "wave 1 hangs",
        ),
        (progress(JobStatus.PROCESSING), (OLD,), (), State.RUNNING, "2 of 3 batches so far, 10 rows in 50 s"),
        (progress(JobStatus.PROCESSING), (OLD, HANGS), (), State.STUCK, "wave 1 hangs"),
        (progress(JobStatus.PROCESSING), (), (WHY,), State.STUCK, "Wave 2: another rule decides"),
        (progress(JobStatus.FAILED), (), (), State.FAILED, "1 batch failed for good; the other 2 of 3 landed"),
        (progress(JobStatus.CANCELLED), (), (), State.CANCELLED, "2 of 3 batches had landed"),
    ],
)
def test_a_job_is_told_in_a_word_and_a_sentence(
    job: JobProgress, alerts: tuple[Alert, ...], causes: tuple[Reason, ...], state: State, said: str
) -> None:
    told = verdict(job, alerts, causes)
    assert told.state is state
    assert told.sentence.startswith(said)
