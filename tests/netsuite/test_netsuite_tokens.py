"""The access token that threads share: one request for all, renewed in time, and never a storm."""

import threading
import time
from collections.abc import Callable

import pytest

from waveimport.errors import LoginRefused, SourceDown, Stopped
from waveimport.netsuite.tokens import AccessToken, Tokens

THREADS = 8


class Desk:
    """Gives tokens of an hour by its own clock; `gate` holds an errand up until it is opened."""

    def __init__(self, lifetime_seconds: float = 3600.0) -> None:
        self.now = 0.0
        self.asked = 0
        self.lifetime_seconds = lifetime_seconds
        self.fault: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.tokens = Tokens(self.obtain, lambda: self.now)

    def obtain(self) -> AccessToken:
        self.asked += 1
        number, fault = self.asked, self.fault
        assert self.gate.wait(30)
        if fault is not None:
            raise fault
        return AccessToken.asked_at(self.now, f"token-{number}", self.lifetime_seconds)

    def at_once(self) -> tuple[list[threading.Thread], list[str | Exception]]:
        """Let threads ask at once, all but the first of which wait for its errand; return them and what they get."""
        self.gate.clear()
        got: list[str | Exception] = []

        def ask() -> None:
            try:
                got.append(self.tokens.token().value)
            except Exception as error:
                got.append(error)

        threads = [threading.Thread(target=ask) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        until(lambda: self.asked > 0 and len(self.tokens._changed._waiters) == THREADS - 1)
        return threads, got


def until(true: Callable[[], bool]) -> None:
    for _ in range(5000):
        if true():
            return
        time.sleep(0.002)  # a thread that waits tells nobody
    raise AssertionError("it never came true")


def joined(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_threads_that_ask_at_once_cost_one_request() -> None:
    desk = Desk()
    threads, got = desk.at_once()
    desk.gate.set()
    joined(threads)
    assert got == ["token-1"] * THREADS
    assert desk.asked == 1


def test_a_token_is_used_until_a_minute_before_its_end() -> None:
    desk = Desk()
    desk.tokens.token()
    desk.now = 3539.9
    assert desk.tokens.token().value == "token-1"
    desk.now = 3540.0
    assert desk.tokens.token().value == "token-2"
    assert desk.asked == 2


@pytest.mark.parametrize(("lifetime_seconds", "renew_at"), [(3600.0, 3540.0), (600.0, 540.0), (10.0, 9.0), (1.0, 0.9)])
def test_a_short_token_is_renewed_a_tenth_before_its_end(lifetime_seconds: float, renew_at: float) -> None:
    token = AccessToken.asked_at(100.0, "x", lifetime_seconds)
    assert token.renew_at == pytest.approx(100.0 + renew_at)
    assert token.ends_at == 100.0 + lifetime_seconds


def test_a_renewal_costs_one_request_for_all_threads_too() -> None:
    desk = Desk()
    desk.tokens.token()
    desk.now, desk.asked = 3600.0, 0
    threads, got = desk.at_once()
    desk.gate.set()
    joined(threads)
    assert got == ["token-1"] * THREADS
    assert desk.asked == 1


def test_a_fresh_one_is_asked_for_whatever_is_there_and_used_from_then_on() -> None:
    desk = Desk()
    assert [desk.tokens.token().value, desk.tokens.token(fresh=True).value] == ["token-1", "token-2"]
    assert desk.tokens.token().value == "token-2"
    assert desk.asked == 2


@pytest.mark.parametrize("fault", [LoginRefused("no", where="w", help="h"), SourceDown("down", retry_after_seconds=7)])
def test_a_refusal_is_shared_by_all_who_waited_each_with_an_exception_of_its_own(fault: Exception) -> None:
    desk = Desk()
    desk.fault = fault
    threads, got = desk.at_once()
    desk.gate.set()
    joined(threads)
    assert desk.asked == 1
    assert {(type(error), str(error), error.help, getattr(error, "retry_after_seconds", None)) for error in got} == {
        (type(fault), str(fault), fault.help, getattr(fault, "retry_after_seconds", None))
    }
    assert len({id(error) for error in got}) == THREADS


def test_after_a_fault_the_next_asks_again() -> None:
    desk = Desk()
    desk.fault = SourceDown("down")
    with pytest.raises(SourceDown):
        desk.tokens.token()
    desk.fault = None
    assert desk.tokens.token().value == "token-2"


def test_a_renewal_that_fails_leaves_no_token_behind() -> None:
    desk = Desk()
    desk.tokens.token()
    desk.fault = LoginRefused("no")
    with pytest.raises(LoginRefused):
        desk.tokens.token(fresh=True)
    with pytest.raises(LoginRefused):
        desk.tokens.token()
    assert desk.asked == 3


def test_stop_ends_every_wait_and_lets_no_other_begin() -> None:
    desk = Desk()
    threads, got = desk.at_once()
    desk.tokens.stop()
    until(lambda: len(got) == THREADS - 1)
    assert {type(error) for error in got} == {Stopped}
    desk.gate.set()
    joined(threads)
    with pytest.raises(Stopped):
        desk.tokens.token()
    assert desk.asked == 1


def test_a_token_shows_in_no_representation() -> None:
    assert "canary" not in repr(AccessToken.asked_at(0.0, "canary", 3600.0))
