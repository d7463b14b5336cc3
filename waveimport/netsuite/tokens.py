"""One access token for all threads: obtained by one of them while the others wait, renewed before it ends.

The tokens live in memory only. Moments are of the monotonic clock: a wall clock that jumps must neither end a token
nor keep one that is over.
"""

import copy
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from waveimport.errors import Stopped

MARGIN_SECONDS = 60.0
MARGIN_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A bearer token: from `renew_at` on another is used, at `ends_at` the service must have forgotten this one."""

    value: str = field(repr=False)
    renew_at: float
    ends_at: float

    @classmethod
    def asked_at(cls, moment: float, value: str, lifetime_seconds: float) -> "AccessToken":
        """Return the token of a request that was sent at `moment`, good for `lifetime_seconds`.

        The service counts from when it answered, which is later: what this says is over may still be good for as long
        as the answer took, never the other way round.
        """
        margin = min(MARGIN_SECONDS, lifetime_seconds * MARGIN_SHARE)
        return cls(value, moment + lifetime_seconds - margin, moment + lifetime_seconds)


class _Errand:
    """One request for a token: under way until it has brought a token or a fault."""

    def __init__(self) -> None:
        self.token: AccessToken | None = None
        self.fault: BaseException | None = None


class Tokens:
    """Hands the token out. Thread-safe; every wait ends at once on `stop`.

    `obtain` asks the service for a token, without retries; it is called by one thread at a time.
    """

    def __init__(self, obtain: Callable[[], AccessToken], monotonic: Callable[[], float]) -> None:
        self._obtain = obtain
        self._monotonic = monotonic
        self._changed = threading.Condition()
        self._token: AccessToken | None = None
        self._errand: _Errand | None = None
        self._stopped = False

    def token(self, *, fresh: bool = False) -> AccessToken:
        """Return a token that has not reached its renewal; with `fresh` one that is asked for now, whatever is there.

        Raises what `obtain` raised, also in each thread that waited for it: they must not ask once more, one after
        another, for what was just refused. Raises Stopped after `stop`.
        """
        with self._changed:
            if self._stopped:
                raise _stopped()
            current = self._token
            if current is not None and not fresh and self._monotonic() < current.renew_at:
                return current
            errand = self._errand
            if errand is not None:
                return self._await(errand)
            errand = self._errand = _Errand()
        try:
            token = errand.token = self._obtain()
        except BaseException as fault:
            errand.fault = fault
            raise
        finally:
            with self._changed:
                self._errand = None
                self._token = errand.token
                self._changed.notify_all()
        return token

    def _await(self, errand: _Errand) -> AccessToken:
        """Wait for another thread's errand; the lock is held by the caller."""
        while self._errand is errand:
            if self._stopped:
                raise _stopped()
            self._changed.wait()
        if errand.token is not None:
            return errand.token
        assert errand.fault is not None, "an errand ends with one of the two"
        # A copy for each thread: a shared exception would collect all their tracebacks.
        raise copy.copy(errand.fault)

    def stop(self) -> None:
        """End every wait, now and later, with Stopped."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()


def _stopped() -> Stopped:
    return Stopped("stopped while waiting for an access token")
