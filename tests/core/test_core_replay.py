"""A journal folds through the function that decides today; the first difference is named field by field."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from waveimport.core.replay import differences, replay, words
from waveimport.core.waves import (
    CoordinationStatus,
    Decision,
    Dispatch,
    JobSnapshot,
    JobStatus,
    WaveKind,
    WaveStatus,
    WaveView,
    decide,
)


def seen(claimable: int = 3) -> JobSnapshot:
    wave = WaveView(1, WaveKind.MAIN, WaveStatus.PROCESSING, False, total=5, claimable=claimable, pending=True)
    return JobSnapshot(JobStatus.PROCESSING, CoordinationStatus.PLANNED, (wave,), limit=4, free_slots=4)


@given(st.lists(st.integers(0, 4), max_size=6))
def test_what_was_decided_by_this_code_agrees(counts: list[int]) -> None:
    entries = [(seq, seen(count), decide(seen(count))) for seq, count in enumerate(counts, 1)]
    replayed = list(replay(entries))
    assert [one.seq for one in replayed] == [seq for seq, _, _ in entries]
    assert all(one.agrees for one in replayed)
    assert [one.recomputed for one in replayed] == [decision for _, _, decision in entries]


def test_an_empty_decision_beside_claimable_batches_is_the_divergence() -> None:
    """The decision that left 35 of 45 batches pending for ever was an empty one: replay must show it."""
    entries = [(1, seen(), decide(seen())), (2, seen(35), Decision(reason="wave 1 is processing already"))]
    fine, wrong = replay(entries)
    assert fine.agrees
    assert not wrong.agrees
    assert wrong.seq == 2
    assert wrong.recomputed == decide(seen(35))
    assert any(line.startswith("dispatch: recorded nothing, recomputed dispatch(") for line in wrong.differences)


def test_entries_without_a_decision_are_passed_over() -> None:
    (lease,) = replay([(1, None, None)])
    assert (lease.recomputed, lease.agrees) == (None, True)


def test_another_deciding_function_can_be_asked() -> None:
    (one,) = replay([(1, seen(), decide(seen()))], decide=lambda snapshot: Decision(reason="asleep"))
    assert not one.agrees


def test_every_field_that_differs_is_named() -> None:
    old = decide(seen())
    new = replace(old, job=JobStatus.FAILED, requeue=(7,), reason="another")
    assert [line.split(":")[0] for line in differences(old, new)] == ["job", "requeue", "reason"]
    assert list(differences(old, old)) == []


def test_words_leave_reasons_out() -> None:
    assert words(Dispatch(2, 3, True, "because")) == "dispatch(wave_number=2, count=3, plans_only=True)"
    assert words((1, 2)) == "1; 2"
    assert (words(None), words(())) == ("nothing", "nothing")
