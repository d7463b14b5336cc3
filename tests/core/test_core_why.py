"""Why a job does not move, by the very conditions that decide."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from hypothesis import given
from test_core_waves import derived_wave, main_wave, snapshot, snapshots

from waveimport.core.progress import Requests
from waveimport.core.waves import (
    SETTLED,
    UNFINISHED_JOB,
    JobSnapshot,
    JobStatus,
    WaitsFor,
    WaveStatus,
    decide,
    standing,
)
from waveimport.core.why import AtWork, JobFacts, LastPass, Reason, Troubled, WaveFacts, explain

NOW = datetime(2026, 11, 26, 3, 0, 0)
MINUTE = timedelta(minutes=1)


@given(snapshots())
def test_every_wave_that_a_decision_leaves_unsettled_waits_for_something_and_no_other(seen: JobSnapshot) -> None:
    if seen.status not in UNFINISHED_JOB:
        return
    decision = decide(seen)
    after = {wave.wave_number: wave.status for wave in seen.waves}
    after |= {move.wave_number: move.target for move in decision.moves}
    # Of any snapshot, also one that no job can have: a wave completed whose derived waves were not sealed with it.
    before = {wave.wave_number for wave in seen.waves if wave.status in SETTLED}
    waiting = standing(seen)
    assert [one.wave_number for one in waiting] == [number for number, status in after.items() if status not in SETTLED]
    for one in waiting:
        assert all(after[number] not in SETTLED or number in before for number in one.on), (
            "it waits for what is settled"
        )
        assert (one.what is WaitsFor.BATCHES) == (not one.on)


def facts(seen: JobSnapshot, waves: dict[int, WaveFacts] | None = None, **of: Any) -> JobFacts:
    known = {wave.wave_number: WaveFacts(("order",)) for wave in seen.waves if wave.status is not WaveStatus.COMPLETED}
    held = JobFacts(
        "import_1",
        seen,
        NOW,
        NOW - 60 * MINUTE,
        None,
        known | (waves or {}),
        lease_owner="host:1",
        lease_expires_at=NOW + MINUTE,
        lease_seconds=60.0,
    )
    return replace(held, **of)


def told(known: JobFacts) -> dict[str, Reason]:
    return {reason.code: reason for reason in explain(known)}


@given(snapshots())
def test_a_job_that_is_not_finished_is_never_without_a_word(seen: JobSnapshot) -> None:
    known = facts(seen)
    assert bool(explain(known)) == (seen.status is not JobStatus.COMPLETED)


def test_what_keeps_the_tables_from_their_place_is_told() -> None:
    seen = snapshot(main_wave(1))
    assert [reason.code for reason in explain(facts(seen))] == ["pass_due"]
    waits = told(facts(seen, held_up=(NOW - MINUTE, "tables that are to be replaced are being read")))
    assert list(waits) == ["tables_in_use"]
    assert waits["tables_in_use"].since == NOW - MINUTE
    gone = told(facts(seen, held_up=(NOW - MINUTE, "being read"), lease_expires_at=NOW - MINUTE))
    assert list(gone) == ["dead_holder"]


def test_what_a_wave_waits_for_is_told_with_the_waves_that_hold_it_up() -> None:
    seen = snapshot(
        main_wave(1, live=1),
        main_wave(2, WaveStatus.PENDING),
        derived_wave(3, 1),
        derived_wave(4, 3, WaveStatus.PENDING, total=0),
    )
    one = AtWork("1/order/0000007", "host:1", NOW - MINUTE, NOW + MINUTE)
    reasons = told(facts(seen, {1: WaveFacts(("order",), oldest=one)}))
    assert set(reasons) == {"at_work", "waits_for_wave", "not_sealed", "no_parents_yet"}
    assert "1 batch is at work, the oldest 1/order/0000007 by host:1, under a lease" in reasons["at_work"].message
    assert reasons["waits_for_wave"].blocked_by == (1,)
    assert reasons["not_sealed"].message == (
        "every batch of it is done, but wave 1 is not completed: its batch 1/order/0000007 is at work, which can make"
        " new ones"
    )
    assert reasons["no_parents_yet"].blocked_by == (3,)


def test_a_rule_that_decided_otherwise_is_the_cause_and_names_the_wave_it_forgets() -> None:
    """348 passes in a row once found a wave "processing already" and handed out none of 35 batches."""
    seen = snapshot(main_wave(1, WaveStatus.COMPLETED), derived_wave(2, 1, sealed=True, claimable=8, pending=True))
    old = replace(decide(seen), dispatch=())
    known = facts(seen, last_pass=LastPass(41, NOW - MINUTE, seen, old), idle_passes=348)
    first = explain(known)[0]
    assert (first.code, first.wave_number, first.since) == ("decided_otherwise", 2, NOW - MINUTE)
    assert first.message == (
        "the run at work decides by another rule than this program: it hands out no batch of wave 2, though batches"
        " wait and slots are free (journal entry 41, 348 times since)"
    )
    assert first.next == "waveimport replay import_1"
    assert "decided_otherwise" not in told(replace(known, last_pass=LastPass(41, NOW, seen, decide(seen))))


def test_batches_that_wait_are_told_apart_by_what_they_wait_for() -> None:
    seen = snapshot(main_wave(1, claimable=8, pending=True, lapsed=True))
    wave = WaveFacts(
        ("order",),
        backing_off=2,
        next_try=NOW + MINUTE,
        worst=Troubled("1/order/0000003", 4, "WI-SRC-004: no", NOW + MINUTE),
        lapsed=AtWork("1/order/0000004", "host:2", NOW - 2 * MINUTE, NOW - MINUTE),
    )
    reasons = told(facts(seen, {1: wave}))
    assert reasons["back_off"].message == (
        "2 batches wait to be tried again, the first until 03:01:00 UTC; 1/order/0000003 was refused 4 times with"
        " WI-SRC-004: no"
    )
    assert "1/order/0000004 was lost with its worker (host:2)" in reasons["lease_lapsed"].message
    assert reasons["waits_for_slot"].next is None
    cut = Requests("1_SB1", 5, 1, 1, "NetSuite answered 429")
    limited = told(facts(seen, {1: wave}, requests=cut))["limit_cut"]
    assert limited.message == ("batches wait for a slot: 1 of 5 requests may be in flight, NetSuite answered 429")


def test_who_holds_the_job_or_does_not_comes_before_its_waves() -> None:
    seen = snapshot(main_wave(1, claimable=8, pending=True))
    free = facts(seen, lease_owner=None, lease_expires_at=None, ended=(NOW - MINUTE, "paused by --max-runtime"))
    assert [reason.code for reason in explain(free)] == ["no_run"]
    assert explain(free)[0].message.endswith("the last one ended: paused by --max-runtime")
    dead = facts(seen, lease_expires_at=NOW - MINUTE)
    assert [reason.code for reason in explain(dead)] == ["dead_holder"]
    back = facts(seen, lease_expires_at=NOW + 60 * MINUTE)
    assert next(iter(told(back))) == "clock_went_back"
    refused = replace(free, refused=(NOW, "the role may not"))
    assert [reason.code for reason in explain(refused)] == ["login_refused"]
    full = replace(free, disk_free_bytes=1)
    assert [reason.code for reason in explain(full)] == ["disk_full", "no_run"]


def test_an_end_needs_no_reason_or_names_what_failed() -> None:
    failed = main_wave(1, WaveStatus.FAILED, failed=True)
    below = derived_wave(2, 1, WaveStatus.FAILED)
    seen = snapshot(failed, below, status=JobStatus.FAILED)
    known = facts(seen, {1: WaveFacts(("order",), failed=3, first_failed=Troubled("1/order/0", 5, "WI-SRC-009: no"))})
    reasons = told(known)
    assert reasons["batch_failed"].message == (
        "batch 1/order/0 failed for good after 5 tries with WI-SRC-009: no, and 2 more failed"
    )
    assert reasons["parent_failed"].blocked_by == (1,)
    bare = explain(facts(seen, error="UNIQUE constraint failed: unique_job_wave"))
    assert bare[0].message == "the job failed: UNIQUE constraint failed: unique_job_wave"
    assert explain(facts(snapshot(main_wave(1, WaveStatus.COMPLETED), status=JobStatus.COMPLETED))) == ()
    assert [one.code for one in explain(facts(snapshot(status=JobStatus.CANCELLED)))] == ["cancelled"]
