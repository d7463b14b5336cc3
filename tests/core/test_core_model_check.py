"""The production machine, explored to the last state of small jobs; see `job_model`.

CI exhausts scopes of some hundred thousand states, the deep profile scopes of millions. A rule that is broken is told
as the shortest story that leads to it.
"""

import pytest
from job_model import Found, Scope, explore
from project import DEEP

from waveimport.core.graph import PlannedWave
from waveimport.core.waves import BatchKind, WaveKind

ORDER = PlannedWave(1, WaveKind.MAIN, ("order",))
NOTE = PlannedWave(2, WaveKind.MAIN, ("note",))
RANGE, PARENTS = BatchKind.RANGE, BatchKind.PARENTS


def line(number: int) -> PlannedWave:
    return PlannedWave(number, WaveKind.DERIVED, ("line",), parent_wave=1, depth=1)


ONE_LINE = {
    "1/order/plan": ({"1/order/0": (1, RANGE)},),
    "1/order/0": ({"1/order/0/line": (2, PARENTS)},),
}
TWO_PAGES = {
    # The bounds first, then the range: as planning does.
    "1/order/plan": ({}, {"1/order/0": (1, RANGE)}),
    "1/order/0": ({"1/order/0/line/1": (2, PARENTS)}, {"1/order/0/line/2": (2, PARENTS)}),
}
NO_LINE_AND_NOTE = {
    "1/order/plan": ({"1/order/0": (1, RANGE)},),
    "2/note/plan": ({"2/note/0": (2, RANGE)},),
}
TWO_RANGES = {
    "1/order/plan": ({"1/order/0": (1, RANGE), "1/order/1": (1, RANGE)},),
    "1/order/0": ({"1/order/0/line": (2, PARENTS)},),
    "1/order/1": ({"1/order/1/line": (2, PARENTS)},),
}
NESTED = {
    "1/order/plan": ({"1/order/0": (1, RANGE)},),
    "1/order/0": ({"1/order/0/line": (2, PARENTS)},),
    "1/order/0/line": ({"1/order/0/line/part": (3, PARENTS)},),
}

OWED = {"1/order/debt-0000": (1, RANGE), "2/line/debt-0000": (2, PARENTS)}
NOTHING_NEW_AND_DEBTS = {
    "1/order/plan": ({},),
    "1/order/debt-0000": ({"1/order/debt-0000/line": (2, PARENTS)},),
}

ALWAYS = ("completed job", "failed job", "batch run again")
SCOPES = [
    (
        Scope("one line, cancelled", (ORDER, line(2)), ONE_LINE, releases=0, cancels=1),
        ("take-over", "fenced write", "fenced claim", "lost worker", "cancelled job"),
    ),
    (
        Scope("one line, given back and inherited", (ORDER, line(2)), ONE_LINE, lapses=0, deaths=1),
        ("take-over", "fenced write", "lost worker"),
    ),
    (
        Scope("two pages", (ORDER, line(2)), TWO_PAGES, releases=0),
        ("take-over", "fenced write", "fenced claim", "lost worker", "batch made after a sibling had finished"),
    ),
    (
        Scope("an empty wave and a second main", (ORDER, NOTE, line(3)), NO_LINE_AND_NOTE, losses=0, releases=0),
        ("take-over", "fenced claim", "empty wave completed"),
    ),
    (
        Scope("debts", (ORDER, line(2)), NOTHING_NEW_AND_DEBTS, losses=0, releases=0, debts=OWED),
        (),
    ),
]
DEEP_SCOPES = [
    (Scope("one line, every fault", (ORDER, line(2)), ONE_LINE, cancels=1, deaths=1, starts=True), ("fenced write",)),
    (Scope("two ranges", (ORDER, line(2)), TWO_RANGES, releases=0), ("batch made after a sibling had finished",)),
    (
        Scope(
            "lines of lines",
            (ORDER, line(2), PlannedWave(3, WaveKind.DERIVED, ("part",), parent_wave=2, depth=2)),
            NESTED,
            releases=0,
        ),
        ("fenced write",),
    ),
    (Scope("two pages, every fault", (ORDER, line(2)), TWO_PAGES, cancels=1, deaths=1), ("fenced write",)),
    (Scope("one line, most faults twice", (ORDER, line(2)), ONE_LINE, 2, 2, 2, 2, 0, 0, 0), ("fenced write",)),
]
AT_MOST = 6_000_000
"""States of a scope of the deep profile; a scope that has more is searched to that depth."""


def searched(scope: Scope, expected: tuple[str, ...], at_most: int | None = None) -> Found:
    found = explore(scope, at_most=at_most)
    print(f"{scope.name}: {found.states:,} states, {found.transitions:,} steps, {dict(found.seen)}")
    seldom = {word: found.seen[word] for word in (*ALWAYS, *expected) if found.seen[word] < 100}
    assert not seldom, f"hardly ever seen: {seldom}"
    return found


@pytest.mark.parametrize(("scope", "expected"), SCOPES, ids=lambda of: getattr(of, "name", ""))
def test_every_reachable_state_is_safe_and_can_still_end(scope: Scope, expected: tuple[str, ...]) -> None:
    assert searched(scope, expected).complete, "the frontier is not empty"


@pytest.mark.skipif(not DEEP, reason="millions of states: deep profile only")
@pytest.mark.parametrize(("scope", "expected"), DEEP_SCOPES, ids=lambda of: getattr(of, "name", ""))
def test_millions_of_states_are_safe_and_can_still_end(scope: Scope, expected: tuple[str, ...]) -> None:
    found = searched(scope, expected, AT_MOST)
    assert found.complete or found.states == AT_MOST, "the search ended early"
