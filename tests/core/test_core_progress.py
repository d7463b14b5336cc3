"""A job in numbers: the published object, and what counts as standing wrong."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from waveimport.core.progress import (
    Commit,
    CompleteRun,
    JobProgress,
    Loop,
    OwedBatch,
    Recent,
    WaveProgress,
    alerts_of,
    moment,
)
from waveimport.core.published import job_object
from waveimport.core.waves import BatchStatus, JobStatus, WaveKind, WaveStatus

NOW = datetime(2026, 11, 22, 12, 0, 0)


def wave(
    number: int = 1,
    batches: Mapping[BatchStatus, int] | None = None,
    *,
    idle_seconds: float | None = 0.0,
    status: WaveStatus = WaveStatus.PROCESSING,
) -> WaveProgress:
    return WaveProgress(
        wave_number=number,
        kind=WaveKind.MAIN,
        status=status,
        sealed=False,
        parent_wave=None,
        rows={"order": 10, "item": 5},
        batches={BatchStatus.PENDING: 2, BatchStatus.COMPLETED: 3} if batches is None else batches,
        tries=1,
        expected={"order": 20},
        last_commit=None if idle_seconds is None else NOW - timedelta(seconds=idle_seconds),
    )


def job(*waves: WaveProgress) -> JobProgress:
    return JobProgress(
        job_id="import_1",
        profile="p",
        mode="full",
        status=JobStatus.PROCESSING,
        created_at=NOW - timedelta(hours=1),
        finished_at=None,
        error=None,
        lease_owner="host:1",
        lease_token=3,
        lease_expires_at=NOW + timedelta(seconds=30),
        idle_passes=0,
        waves=waves,
        now=NOW,
    )


def codes(of: JobProgress) -> list[str]:
    return [alert.code for alert in alerts_of(of, stuck_after_seconds=300, passes_without_effect=100)]


def test_a_job_that_commits_has_no_alert() -> None:
    assert codes(job(wave())) == []


@pytest.mark.parametrize(("idle", "stands"), [(299.0, []), (300.0, ["wave_stuck"])])
def test_a_wave_with_work_that_commits_nothing_is_stuck(idle: float, stands: list[str]) -> None:
    assert codes(job(wave(idle_seconds=idle))) == stands


def test_a_heartbeat_does_not_hide_a_stuck_wave() -> None:
    held = replace(job(wave(idle_seconds=301)), lease_expires_at=NOW + timedelta(hours=1))
    assert codes(held) == ["wave_stuck"]


def test_a_wave_that_never_committed_is_stuck_from_the_jobs_creation() -> None:
    assert codes(job(wave(idle_seconds=None))) == ["wave_stuck"]


def test_a_derived_wave_whose_batches_wait_while_none_is_at_work_is_passed_over() -> None:
    """35 of 45 batches once waited for ever, over 348 passes, while orders went on landing."""
    waiting = replace(
        wave(4, {BatchStatus.COMPLETED: 10, BatchStatus.PENDING: 35}, idle_seconds=301), kind=WaveKind.DERIVED
    )
    passed_over, stuck = alerts_of(job(wave(), waiting), stuck_after_seconds=300, passes_without_effect=100)
    assert (passed_over.code, passed_over.wave_number, passed_over.caused_by) == ("derived_not_shrinking", 4, None)
    assert (
        passed_over.message
        == "wave 4 (order, item) has 35 pending batches and none at work: they are made and not handed out"
    )
    assert passed_over.next == "waveimport status import_1 --why"
    assert (stuck.code, stuck.caused_by) == ("wave_stuck", "derived_not_shrinking")
    busy = replace(waiting, batches={BatchStatus.PENDING: 35, BatchStatus.PROCESSING: 1})
    assert codes(job(wave(), busy)) == ["wave_stuck"]
    assert codes(job(wave(), replace(waiting, last_commit=NOW))) == []
    assert codes(job(wave(), replace(waiting, kind=WaveKind.MAIN))) == ["wave_stuck"]


def test_a_wave_without_work_is_not_stuck() -> None:
    assert codes(job(wave(batches={BatchStatus.COMPLETED: 3}, idle_seconds=9999))) == []
    assert codes(job(wave(status=WaveStatus.COMPLETED, idle_seconds=9999))) == []


def test_a_lease_that_lapsed_names_its_dead_holder_and_the_command() -> None:
    lapsed = replace(job(wave()), lease_expires_at=NOW - timedelta(minutes=10))
    (alert,) = alerts_of(lapsed, stuck_after_seconds=300, passes_without_effect=100)
    assert (alert.code, alert.wave_number, alert.next) == ("dead_holder", None, "waveimport run")
    assert alert.message == "host:1 let its lease lapse 10 min ago"


@pytest.mark.parametrize(("passes", "stands"), [(99, []), (100, ["passes_without_effect"])])
def test_passes_that_change_nothing_beside_pending_batches_are_an_alert(passes: int, stands: list[str]) -> None:
    assert codes(replace(job(wave()), idle_passes=passes)) == stands
    assert codes(replace(job(wave(batches={BatchStatus.PROCESSING: 1})), idle_passes=passes)) == []


@pytest.mark.parametrize("status", [JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED])
def test_a_finished_job_has_no_alert(status: JobStatus) -> None:
    stuck = replace(job(wave(idle_seconds=9999)), lease_expires_at=NOW - timedelta(days=1), idle_passes=10**6)
    assert len(codes(stuck)) == 3
    assert codes(replace(stuck, status=status)) == []


def test_the_published_object_has_its_fields() -> None:
    last = NOW - timedelta(days=1)
    # Two rows a second in the first half of twelve seconds, three in the second; ten are still to come.
    commits = [Commit(NOW - timedelta(seconds=second + 0.5), 1, 2 if second >= 6 else 3) for second in range(12)]
    seen = replace(
        job(
            replace(wave(1), expected={"order": 20, "item": 5}),
            replace(wave(2, {}), expected={"order": 10, "item": 5}),
        ),
        as_of=NOW - timedelta(hours=1, seconds=1),
        watermarks={"item": None, "order": last},
        last_complete=CompleteRun("import_0", "full", last - timedelta(seconds=590), last + timedelta(seconds=10)),
        recent=Recent(NOW - timedelta(seconds=12), tuple(commits)),
    )
    published = job_object(seen, alerts_of(seen, stuck_after_seconds=300, passes_without_effect=100))
    assert published == {
        "profile": "p",
        "mode": "full",
        "job_id": "import_1",
        "status": "processing",
        "created_at": "2026-11-22T11:00:00.000000Z",
        "finished_at": None,
        "error": None,
        "lease": {"owner": "host:1", "token": 3, "expires_at": "2026-11-22T12:00:30.000000Z"},
        "rows": 30,
        "waves": [
            {
                "wave_number": 1,
                "kind": "main",
                "records": [{"record": "order", "rows": 10}, {"record": "item", "rows": 5}],
                "status": "processing",
                "sealed": False,
                "batches": {
                    "pending": 2,
                    "dispatched": 0,
                    "processing": 0,
                    "completed": 3,
                    "failed": 0,
                    "total": 5,
                },
                "rows": 15,
                "tries": 1,
                "last_commit": "2026-11-22T12:00:00.000000Z",
            },
            {
                "wave_number": 2,
                "kind": "main",
                "records": [{"record": "order", "rows": 10}, {"record": "item", "rows": 5}],
                "status": "processing",
                "sealed": False,
                "batches": {
                    "pending": 0,
                    "dispatched": 0,
                    "processing": 0,
                    "completed": 0,
                    "failed": 0,
                    "total": 0,
                },
                "rows": 15,
                "tries": 1,
                "last_commit": "2026-11-22T12:00:00.000000Z",
            },
        ],
        "as_of": "2026-11-22T10:59:59.000000Z",
        "rate": {"average": 0.008, "recent": {"low": 2.0, "likely": 2.5, "high": 3.0}},
        "seconds_left": {"low": 3.333, "likely": 4.0, "high": 5.0},
        "watermarks": {"item": None, "order": "2026-11-21T12:00:00.000000Z"},
        "last_complete": {
            "job_id": "import_0",
            "mode": "full",
            "finished_at": "2026-11-21T12:00:10.000000Z",
            "seconds": 600.0,
        },
        "requests": None,
        "owed": [],
        "alerts": [],
    }


def test_a_job_without_a_holder_has_no_lease_and_moments_are_utc() -> None:
    free = replace(job(), lease_owner=None, lease_expires_at=None)
    assert job_object(free, ())["lease"] is None
    assert moment(None) is None
    assert moment(datetime(2026, 1, 2, 3, 4, 5, 6)) == "2026-01-02T03:04:05.000006Z"


def test_elapsed_seconds_end_with_the_job() -> None:
    assert job().elapsed_seconds == 3600
    assert replace(job(), finished_at=NOW - timedelta(minutes=30)).elapsed_seconds == 1800


def test_what_is_owed_and_carried_by_nobody_is_an_alert_once_the_job_has_ended() -> None:
    owed = OwedBatch("import_0", "1/order/3", "order", "WI-SRC-009: no")
    waiting = replace(job(wave()), owed=(owed, replace(owed, batch_id="1/order/4")))
    assert codes(waiting) == [], "the job at work may carry it still"
    ended = replace(waiting, status=JobStatus.COMPLETED)
    (alert,) = alerts_of(ended, stuck_after_seconds=300, passes_without_effect=100)
    assert alert.message == "2 failed batches are owed, the first 1/order/3 of import_0: WI-SRC-009: no"
    assert codes(replace(ended, owed=(replace(owed, carried_by="import_1", carried_as="x"),))) == []


@pytest.mark.parametrize(("hours", "stands"), [(0.0, False), (26.0, False), (25.0, True)])
def test_an_import_that_was_not_complete_for_long_is_an_alert(hours: float, stands: bool) -> None:
    last = CompleteRun("import_0", "full", NOW - timedelta(hours=26), NOW - timedelta(hours=25.5))
    old = replace(job(wave()), last_complete=last)
    found = alerts_of(old, stuck_after_seconds=300, passes_without_effect=100, complete_within_hours=hours)
    assert [alert.code for alert in found] == (["no_complete_run"] if stands else [])
    never = replace(job(wave()), created_at=NOW - timedelta(hours=30))
    (alert,) = alerts_of(never, stuck_after_seconds=300, passes_without_effect=100, complete_within_hours=26)
    assert "no import was ever complete" in alert.message


def test_one_batch_with_one_error_again_and_again_is_an_alert_and_the_cause_of_its_wave() -> None:
    looping = replace(job(wave(idle_seconds=400)), loop=Loop("1/order/3", 1, 4, "429"))
    assert codes(looping) == ["wave_stuck"]
    looping = replace(looping, loop=Loop("1/order/3", 1, 5, "429"))
    found = alerts_of(looping, stuck_after_seconds=300, passes_without_effect=100)
    assert [(alert.code, alert.caused_by) for alert in found] == [("retry_loop", None), ("wave_stuck", "retry_loop")]


def test_what_follows_from_a_dead_holder_says_so() -> None:
    dead = replace(job(wave(idle_seconds=9999)), lease_expires_at=NOW - timedelta(days=1), idle_passes=100)
    found = alerts_of(dead, stuck_after_seconds=300, passes_without_effect=100)
    assert [(alert.code, alert.caused_by) for alert in found] == [
        ("dead_holder", None),
        ("passes_without_effect", "dead_holder"),
        ("wave_stuck", "dead_holder"),
    ]
