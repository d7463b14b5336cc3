"""Which old jobs may go: by one rule each, and as a set to which no job that stays points."""

from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from waveimport.core.retention import History, Past, Reason, journals, retention
from waveimport.core.waves import UNFINISHED_JOB, JobStatus

START = datetime(2026, 1, 1)
DAY = 86_400.0


def past(number: int, status: JobStatus = JobStatus.COMPLETED, **more: Any) -> Past:
    """A job made on day `number`, as seen on day 100."""
    ended = None if status in UNFINISHED_JOB else (100 - number) * DAY
    return Past(f"j{number}", status, START + timedelta(days=number), ended_seconds_ago=ended, **more)


def history(*jobs: Past, **more: Any) -> History:
    return History(sorted(jobs, key=lambda job: job.created_at, reverse=True), **more)


TEN = tuple(past(number) for number in range(1, 11))


def test_the_newest_are_kept_and_the_oldest_go_first() -> None:
    found = retention(history(*TEN), keep=7, older_than_seconds=None)
    assert found.delete == ("j1", "j2", "j3")
    assert found.kept == {
        Reason.NEWEST: ("j10",),
        Reason.RECENT: ("j9", "j8", "j7", "j6", "j5", "j4"),
    }


def test_an_age_alone_and_beside_a_number() -> None:
    assert retention(history(*TEN), keep=None, older_than_seconds=96 * DAY).delete == ("j1", "j2", "j3", "j4")
    assert retention(history(*TEN), keep=8, older_than_seconds=96 * DAY).delete == ("j1", "j2")


def test_a_profile_never_looks_as_if_it_had_no_completed_job() -> None:
    jobs = [past(1), past(2), *(past(number, JobStatus.CANCELLED) for number in range(3, 6))]
    found = retention(history(*jobs), keep=0, older_than_seconds=None)
    assert found.delete == ("j1", "j3", "j4")
    assert found.kept[Reason.COMPLETED] == ("j2",)


def test_while_the_newest_compares_the_one_before_it_stays_too() -> None:
    comparing = past(11, held=True)
    assert retention(history(*TEN, comparing), keep=0, older_than_seconds=None).kept[Reason.COMPLETED] == ("j10",)


def test_a_carrier_stays_as_long_as_what_it_carries_and_so_on_along_the_chain() -> None:
    jobs = [*(past(number, JobStatus.FAILED) for number in range(1, 5)), *TEN[4:]]
    chain = {("j1", "j2"), ("j2", "j3"), ("j3", "j4")}
    found = retention(history(*jobs, owing={"j2"}, carried=chain), keep=0, older_than_seconds=None)
    assert found.kept[Reason.OWED] == ("j2",)
    assert found.kept[Reason.CARRIER] == ("j4", "j3")
    assert "j1" in found.delete


def test_what_was_written_off_stays_until_it_is_read_in_full() -> None:
    skipped = {("j2", "line"), ("j4", "line")}
    never = retention(history(*TEN, skipped=skipped), keep=0, older_than_seconds=None)
    assert never.kept[Reason.WRITTEN_OFF] == ("j4",)
    read = {"line": "j6"}
    later = retention(history(*TEN, skipped=skipped, full_reads=read), keep=0, older_than_seconds=None)
    assert {"j2", "j4", "j6"} <= set(later.delete)
    held = retention(
        history(*TEN, skipped=skipped, full_reads=read, watermarks={"j2"}), keep=0, older_than_seconds=None
    )
    assert held.kept[Reason.FULL_READ] == ("j6",)
    assert "j4" in held.delete


def test_comparisons_that_still_speak_stay() -> None:
    some = frozenset({"a"})
    jobs = [
        past(1, reconciled_seconds_ago=3 * DAY),
        past(2, reconciled_seconds_ago=2 * DAY),
        past(3, selection=some, reconciled_seconds_ago=1 * DAY),
        past(4, selection=some),
        past(5, uncounted=True),
        past(6),
        past(7, selection=some),
    ]
    found = retention(history(*jobs), keep=0, older_than_seconds=None)
    assert set(found.kept[Reason.COMPARED]) == {"j2", "j3", "j5", "j6"}
    assert found.delete == ("j1", "j4")


def test_a_page_that_may_still_land_keeps_its_job() -> None:
    found = retention(history(*TEN), keep=0, older_than_seconds=None, landing_seconds=91.5 * DAY)
    assert found.kept[Reason.LANDING] == ("j9",)


def test_a_deletion_that_was_cut_short_is_gone_on_with_whatever_is_asked() -> None:
    half = past(3, JobStatus.CANCELLED, condemned=True)
    jobs = (*TEN[:2], half, *TEN[3:])
    assert retention(history(*jobs), keep=30, older_than_seconds=None).delete == ("j3",)
    assert journals(history(*jobs), keep=30, older_than_seconds=None).delete == ()


def test_journals_of_jobs_that_are_needed_may_go() -> None:
    found = journals(history(*TEN, past(11, JobStatus.PROCESSING), owing={"j2"}), keep=0, older_than_seconds=None)
    assert found.delete == tuple(f"j{number}" for number in range(1, 11))
    assert found.kept == {Reason.UNFINISHED: ("j11",)}


ids = st.integers(1, 8).map("j{}".format)


@given(
    statuses=st.lists(st.sampled_from(list(JobStatus)), min_size=8, max_size=8),
    carried=st.sets(st.tuples(st.integers(1, 8), st.integers(1, 8)).filter(lambda pair: pair[0] < pair[1])),
    owing=st.sets(ids),
    watermarks=st.sets(ids),
    skipped=st.sets(st.tuples(ids, st.sampled_from("ab"))),
    keep=st.integers(0, 4),
)
def test_nothing_that_stays_points_to_what_goes(
    statuses: list[JobStatus],
    carried: set[tuple[int, int]],
    owing: set[str],
    watermarks: set[str],
    skipped: set[tuple[str, str]],
    keep: int,
) -> None:
    jobs = [past(number, status) for number, status in enumerate(statuses, 1)]
    pairs = {(f"j{one}", f"j{other}") for one, other in carried}
    full = {"a": next((job.job_id for job in reversed(jobs) if job.status is JobStatus.COMPLETED), "")}
    all_of_it = history(
        *jobs,
        carried=pairs,
        owing=owing,
        watermarks=watermarks,
        skipped=skipped,
        full_reads={record: job_id for record, job_id in full.items() if job_id},
    )
    found = retention(all_of_it, keep=keep, older_than_seconds=None)
    gone = set(found.delete)
    kept = {job.job_id for job in jobs} - gone
    assert kept == {job_id for job_ids in found.kept.values() for job_id in job_ids}
    assert not gone & (owing | watermarks)
    assert not [pair for pair in pairs if pair[0] in kept and pair[1] in gone]
    assert not [job for job in jobs if job.job_id in gone and job.status in UNFINISHED_JOB]
    completed = [job.job_id for job in jobs if job.status is JobStatus.COMPLETED]
    assert not completed or completed[-1] in kept
    rest = History(
        [job for job in all_of_it.jobs if job.job_id in kept],
        carried={pair for pair in pairs if pair[0] in kept},
        owing=owing,
        watermarks=watermarks,
        skipped={pair for pair in skipped if pair[0] in kept},
        full_reads={record: job_id for record, job_id in full.items() if job_id in kept},
    )
    assert retention(rest, keep=keep, older_than_seconds=None).delete == ()
