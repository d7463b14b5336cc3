"""Who may ask now: the concurrency bound, the stop, and the rule about refused logins, under one lock.

NetSuite locks a user out for 30 minutes after five failed logins, and refuses good logins now and then. So after a 401
nothing new starts; the requests in flight end; then a single request, freshly signed or with a fresh access token,
decides. It is answered: all go on. It is a 401 again, or no token is given for it: the login is refused for every
request, now and later, without asking.

        open ──401──▶ in doubt ──the lone request is accepted──▶ open
                        │  ▲  └─it ends otherwise (429, 503, reset)─┐
                        │  └────────────────────────────────────────┘
                        └──the lone request gets a 401──▶ refused

Whichever thread comes first sends the lone request; a 401 of a request that started before the last decision is old
news and opens no new doubt.

The bound adapts below what is configured, since the account's other integrations share its limit: a 429 takes a quarter
away, a whole round of accepted requests gives one back. Up to where the last 429 struck that takes several rounds, and
twice as many each time that it strikes there again: a trial that fails costs about a round of every slot, since the
account may count what it refuses. Beyond, the others seem to have left, and it goes on as before. The 429s of requests
that started before a cut belong to it. A 401 that the lone request does not confirm was given under load, and cuts too.
"""

import threading
from dataclasses import dataclass
from enum import StrEnum

from waveimport.core.limits import Strike
from waveimport.errors import LoginRefused, Stopped

SLOW_ROUNDS = 8
"""Rounds of accepted requests before one more is tried where the last 429 struck for the first time: few enough to win
back what others give up within seconds."""
SLOWEST_ROUNDS = 64
"""The most of them, where it has struck again and again: a trickle of 429s, at two hundredths of the throughput."""


class Verdict(StrEnum):
    """What an ended request says about the login."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Admission:
    """Leave to send one request. `lone` means that nothing else is in flight and its outcome decides the login; `era`
    and `cuts` say which decision about the login and which cut of the bound it started under."""

    era: int
    cuts: int
    lone: bool


class Gate:
    """Admits at most `bound` requests at a time. Thread-safe; every wait ends at once on `stop`."""

    def __init__(self, bound: int) -> None:
        if bound < 1:
            raise ValueError(f"a gate for {bound} requests admits none")
        self._configured = bound
        self._bound = bound
        self._allowed = float(bound)
        self._struck_at = float("inf")
        self._patience = SLOW_ROUNDS
        self._cuts = 0
        self._changed = threading.Condition()
        self._in_flight = 0
        self._era = 0
        self._in_doubt = False
        self._refusal: LoginRefused | None = None
        self._stopped = False

    @property
    def limit(self) -> int:
        """Requests that may be in flight at a time now: 1 to the configured bound."""
        return int(self._allowed)

    @property
    def bound(self) -> int:
        """What `limit` adapts below: what is configured, or this run's share of it."""
        return self._bound

    def share(self, requests: int) -> None:
        """Adapt below so many requests from now on, at most those configured."""
        with self._changed:
            self._bound = min(self._configured, max(1, requests))
            self._allowed = min(self._allowed, float(self._bound))
            self._changed.notify_all()

    @property
    def in_flight(self) -> int:
        """Requests that are admitted and have not ended."""
        return self._in_flight

    @property
    def stopped(self) -> bool:
        """Whether `stop` was called."""
        return self._stopped

    def enter(self) -> Admission:
        """Wait for a slot. Raises Stopped after `stop`, LoginRefused once the login was refused for good."""
        with self._changed:
            while True:
                if self._stopped:
                    raise Stopped("stopped while waiting for NetSuite")
                if self._refusal is not None:
                    # A fresh exception for each thread: a shared one would collect all their tracebacks.
                    raise LoginRefused(self._refusal.message, where=self._refusal.where, help=self._refusal.help)
                if self._in_flight < (1 if self._in_doubt else self.limit):
                    self._in_flight += 1
                    return Admission(self._era, self._cuts, lone=self._in_doubt)
                self._changed.wait()

    def leave(
        self,
        admission: Admission,
        verdict: Verdict,
        *,
        refusal: LoginRefused | None = None,
        rate_limited: bool = False,
    ) -> Strike | None:
        """Give the slot back and say what the request showed: about the login (`refusal` goes with REFUSED), and
        whether it met a 429. Returns by what this cuts the limit, None where it does not."""
        with self._changed:
            self._in_flight -= 1
            strike = Strike.RATE_LIMITED if self._adapt(admission, verdict, rate_limited) else None
            if admission.lone and verdict is Verdict.ACCEPTED:
                self._in_doubt = False
                self._era += 1
                # What was refused a moment ago is good: the service had more to do than it could.
                self._cut()
                strike = Strike.LOGIN_UNDER_LOAD
            elif admission.lone and verdict is Verdict.REFUSED:
                self._refusal = refusal or LoginRefused("NetSuite refused the login")
            elif verdict is Verdict.REFUSED and admission.era == self._era:
                self._in_doubt = True
            self._changed.notify_all()
            return strike

    def _cut(self) -> None:
        self._cuts += 1
        again = float(self.limit) == self._struck_at
        self._patience = min(SLOWEST_ROUNDS, 2 * self._patience) if again else SLOW_ROUNDS
        self._struck_at = float(self.limit)
        self._allowed = max(1.0, float(min(self.limit * 3 // 4, self.limit - 1)))

    def _adapt(self, admission: Admission, verdict: Verdict, rate_limited: bool) -> bool:
        """Move the limit by what a request met; whether that cut it."""
        if rate_limited and admission.cuts == self._cuts:
            self._cut()
            return True
        if verdict is Verdict.ACCEPTED:
            if self._allowed >= self._struck_at + 1:
                self._struck_at = float("inf")
            rounds = self._patience if self._allowed + 1 >= self._struck_at else 1
            self._allowed = min(float(self._bound), self._allowed + 1 / (rounds * self._allowed))
        return False

    def stop(self) -> None:
        """End every wait, now and later, with Stopped."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
