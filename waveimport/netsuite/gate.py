"""Who may ask now: the concurrency bound, the stop, and the rule about refused logins, under one lock.

NetSuite locks a user out for 30 minutes after five failed logins, and refuses good logins now and then. So after a 401
nothing new starts; the requests in flight end; then a single request, freshly signed, decides. It is answered: all go
on. It is a 401 again: the login is refused for every request, now and later, without asking.

        open ──401──▶ in doubt ──the lone request is accepted──▶ open
                        │  ▲  └─it ends otherwise (429, 503, reset)─┐
                        │  └────────────────────────────────────────┘
                        └──the lone request gets a 401──▶ refused

Whichever thread comes first sends the lone request; a 401 of a request that started before the last decision is old
news and opens no new doubt.
"""

import threading
from dataclasses import dataclass
from enum import StrEnum

from waveimport.errors import LoginRefused, Stopped


class Verdict(StrEnum):
    """What an ended request says about the login."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Admission:
    """Leave to send one request. `lone` means that nothing else is in flight and its outcome decides the login."""

    era: int
    lone: bool


class Gate:
    """Admits at most `limit` requests at a time. Thread-safe; every wait ends at once on `stop`."""

    def __init__(self, limit: int) -> None:
        if limit < 1:
            raise ValueError(f"a gate for {limit} requests admits none")
        self.limit = limit
        self._changed = threading.Condition()
        self._in_flight = 0
        self._era = 0
        self._in_doubt = False
        self._refusal: LoginRefused | None = None
        self._stopped = False

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
                    return Admission(self._era, lone=self._in_doubt)
                self._changed.wait()

    def leave(self, admission: Admission, verdict: Verdict, refusal: LoginRefused | None = None) -> None:
        """Give the slot back and say what the request showed about the login; `refusal` goes with REFUSED."""
        with self._changed:
            self._in_flight -= 1
            if admission.lone and verdict is Verdict.ACCEPTED:
                self._in_doubt = False
                self._era += 1
            elif admission.lone and verdict is Verdict.REFUSED:
                self._refusal = refusal or LoginRefused("NetSuite refused the login")
            elif verdict is Verdict.REFUSED and admission.era == self._era:
                self._in_doubt = True
            self._changed.notify_all()

    def stop(self) -> None:
        """End every wait, now and later, with Stopped."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
