"""The gate's rules one by one, without a network and mostly without threads."""

import threading
import time
from itertools import pairwise

import pytest

from waveimport.core.limits import Strike
from waveimport.errors import LoginRefused, Stopped
from waveimport.netsuite.gate import SLOWEST_ROUNDS, Admission, Gate, Verdict


def doubted(bound: int = 3) -> Gate:
    """Return a gate whose login one request has put in doubt."""
    gate = Gate(bound)
    gate.leave(gate.enter(), Verdict.REFUSED)
    return gate


def enter_in_thread(gate: Gate) -> tuple[threading.Thread, list[Admission | str]]:
    got: list[Admission | str] = []

    def run() -> None:
        try:
            got.append(gate.enter())
        except (LoginRefused, Stopped) as error:
            got.append(type(error).__name__)

    waiting_before = len(gate._changed._waiters)
    thread = threading.Thread(target=run)
    thread.start()
    for _ in range(2000):  # until it is through or waits, so that what is asserted next is settled
        if got or len(gate._changed._waiters) > waiting_before:
            return thread, got
        time.sleep(0.002)  # a thread that waits tells nobody
    raise AssertionError("the thread neither entered nor waits")


def test_a_gate_for_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="admits none"):
        Gate(0)


def test_a_freed_slot_admits_the_one_who_waits() -> None:
    gate = Gate(1)
    first = gate.enter()
    thread, got = enter_in_thread(gate)
    assert gate.in_flight == 1
    gate.leave(first, Verdict.ACCEPTED)
    thread.join(10)
    assert len(got) == 1


def test_after_a_401_the_next_request_is_alone() -> None:
    gate = Gate(3)
    first, second = gate.enter(), gate.enter()
    gate.leave(first, Verdict.REFUSED)
    thread, got = enter_in_thread(gate)
    assert got == []  # the second is still in flight
    gate.leave(second, Verdict.ACCEPTED)
    thread.join(10)
    assert isinstance(got[0], Admission)
    assert got[0].lone
    rival, rival_got = enter_in_thread(gate)
    assert rival_got == []  # and nothing joins the lone one
    gate.leave(got[0], Verdict.ACCEPTED)
    rival.join(10)
    assert isinstance(rival_got[0], Admission)
    assert not rival_got[0].lone


def test_a_request_that_was_in_flight_does_not_decide() -> None:
    gate = Gate(3)
    first, second = gate.enter(), gate.enter()
    gate.leave(first, Verdict.REFUSED)
    gate.leave(second, Verdict.ACCEPTED)
    assert gate.enter().lone


def test_a_401_from_before_the_decision_is_old_news() -> None:
    gate = Gate(3)
    late, first = gate.enter(), gate.enter()
    gate.leave(first, Verdict.REFUSED)
    gate.leave(late, Verdict.REFUSED)
    lone = gate.enter()
    gate.leave(lone, Verdict.ACCEPTED)
    # A slot of the era before cannot be held across the decision; what is tested is that its mark would be seen.
    again = gate.enter()
    gate.leave(Admission(late.era, late.cuts, lone=False), Verdict.REFUSED)
    assert not gate.enter().lone
    gate.leave(again, Verdict.ACCEPTED)


def test_a_lone_request_that_says_nothing_leaves_the_doubt() -> None:
    gate = doubted()
    lone = gate.enter()
    gate.leave(lone, Verdict.UNKNOWN)
    assert gate.enter().lone


def test_a_lone_401_refuses_everyone_with_the_services_words() -> None:
    gate = doubted()
    lone = gate.enter()
    thread, got = enter_in_thread(gate)
    gate.leave(lone, Verdict.REFUSED, refusal=LoginRefused("because", where="there", help="so"))
    thread.join(10)
    assert got == ["LoginRefused"]
    raised = []
    for _ in range(2):
        with pytest.raises(LoginRefused) as refused:
            gate.enter()
        raised.append(refused.value)
    assert raised[0].render() == LoginRefused("because", where="there", help="so").render()
    assert raised[0] is not raised[1]


def test_stop_ends_every_wait() -> None:
    gate = Gate(1)
    gate.enter()
    waiting = [enter_in_thread(gate) for _ in range(3)]
    gate.stop()
    for thread, got in waiting:
        thread.join(10)
        assert got == ["Stopped"]
    with pytest.raises(Stopped):
        gate.enter()


def test_one_burst_of_429s_is_one_cut() -> None:
    gate = Gate(15)
    burst = [gate.enter() for _ in range(15)]
    for admission in burst:
        gate.leave(admission, Verdict.UNKNOWN, rate_limited=True)
    assert gate.limit == 11
    gate.leave(gate.enter(), Verdict.UNKNOWN, rate_limited=True)
    assert gate.limit == 8


def test_the_bound_never_falls_below_one_nor_rises_above_what_is_configured() -> None:
    gate = Gate(2)
    for _ in range(5):
        gate.leave(gate.enter(), Verdict.UNKNOWN, rate_limited=True)
    assert gate.limit == 1
    for _ in range(200):
        gate.leave(gate.enter(), Verdict.ACCEPTED)
    assert gate.limit == 2


def rounds_until(gate: Gate, limit: int) -> int:
    """Have whole rounds of requests accepted until the gate admits so many; return how many rounds it took."""
    for count in range(200):
        if gate.limit >= limit:
            return count
        for admission in [gate.enter() for _ in range(gate.limit)]:
            gate.leave(admission, Verdict.ACCEPTED)
    raise AssertionError(f"it stays at {gate.limit}")


def test_where_a_429_struck_one_more_is_tried_seldom_and_beyond_quickly() -> None:
    """A rival that stays costs a 429 in many rounds; one that leaves is followed within seconds."""
    gate = Gate(20)
    for admission in [gate.enter() for _ in range(20)]:
        gate.leave(admission, Verdict.UNKNOWN, rate_limited=True)
    assert gate.limit == 15
    for _ in range(3):
        gate.leave(gate.enter(), Verdict.UNKNOWN, rate_limited=True)
    assert gate.limit == 6, "15, 11, 8, 6: struck at 8"
    assert rounds_until(gate, 7) <= 2
    assert 7 <= rounds_until(gate, 8) <= 10
    assert 7 <= rounds_until(gate, 9) <= 10
    assert rounds_until(gate, 15) <= 12


@pytest.mark.parametrize("free", [1, 2, 3, 4, 9])
def test_beside_rivals_that_stay_429s_are_a_trickle_and_most_of_the_slots_are_used(free: int) -> None:
    """Rounds of an account that has so many slots left for us."""
    gate = Gate(12)
    sent = limited = used = 0
    for number in range(400):
        admissions = [gate.enter() for _ in range(gate.limit)]
        over = max(0, len(admissions) - free)
        for position, admission in enumerate(admissions):
            struck = position >= free
            gate.leave(admission, Verdict.UNKNOWN if struck else Verdict.ACCEPTED, rate_limited=struck)
        if number >= 40:  # the beginning is the search for the limit
            sent, limited, used = sent + len(admissions), limited + over, used + len(admissions) - over
    assert used / (360 * free) > 0.9
    assert limited / sent < 0.12


def test_a_good_login_that_was_refused_under_load_cuts_as_a_429_does() -> None:
    gate = Gate(8)
    burst = [gate.enter() for _ in range(8)]
    for admission in burst:
        assert gate.leave(admission, Verdict.REFUSED, refusal=LoginRefused("no")) is None
    lone = gate.enter()
    assert gate.leave(lone, Verdict.ACCEPTED) is Strike.LOGIN_UNDER_LOAD
    assert gate.limit == 6


def test_where_it_strikes_again_and_again_one_more_is_tried_ever_more_seldom() -> None:
    gate = Gate(5)
    waits = []
    for _ in range(7):
        waits.append(rounds_until(gate, 4))
        assert gate.leave(gate.enter(), Verdict.UNKNOWN, rate_limited=True) is Strike.RATE_LIMITED
        assert gate.limit == 3
    assert waits[0] == 0
    assert [later > before for before, later in pairwise(waits[2:])] == [True, True, True, False]
    assert waits[-1] <= SLOWEST_ROUNDS * 1.2


def test_a_share_of_the_limit_bounds_it_from_the_next_request_on_and_is_given_back() -> None:
    gate = Gate(5)
    held = [gate.enter() for _ in range(5)]
    gate.share(2)
    assert (gate.limit, gate.bound) == (2, 2)
    waiting, got = enter_in_thread(gate)
    for admission in held[:3]:
        gate.leave(admission, Verdict.ACCEPTED)
    assert got == []
    gate.leave(held[3], Verdict.ACCEPTED)
    waiting.join(10)
    assert gate.in_flight == 2
    for admission in (held[4], *got):
        assert isinstance(admission, Admission)
        gate.leave(admission, Verdict.ACCEPTED)
    gate.share(99)
    assert gate.bound == 5
    assert rounds_until(gate, 5) <= 4
