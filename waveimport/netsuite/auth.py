"""Who asks: the ways to log in, each of which puts on a request what the service knows the account by.

The client asks its login for a ticket at every attempt, so another way to log in is another class like the one here;
OAuth 2.0 machine-to-machine is in `netsuite.machine`.
"""

import math
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from waveimport.core.settings import NetSuiteSettings
from waveimport.errors import BadSecret
from waveimport.netsuite.signature import Signature

SIGNATURE_SKEW_MOST_SECONDS = 300.0
"""NetSuite refuses signatures whose timestamp is further off (Oracle, "Token-based Authentication"). The assertions of
machine-to-machine logins are made to last as long (see `netsuite.assertion`), so that one bound holds for both."""

_NONCE_BYTES = 10  # Oracle recommends 20 characters


@dataclass(frozen=True, slots=True)
class Ticket:
    """What one request is sent with: its Authorization header. From `ends_at` on, a moment of the monotonic clock, a
    401 shows only that the ticket is too old."""

    authorization: str = field(repr=False)
    ends_at: float = math.inf


class Login(Protocol):
    """A way to log in. Thread-safe."""

    def ticket(self, method: str, url: str, *, fresh: bool) -> Ticket:
        """Return what the next request is sent with, which goes to `url` as it stands; with `fresh` nothing in it was
        ever sent before.

        Raises the errors of `netsuite.faults` where the service has to be asked for it, and Stopped after `stop`.
        """

    def stop(self) -> None:
        """End every wait, now and later, with Stopped."""


class TokenBasedLogin:
    """Token-based authentication: each request is signed, with a new nonce and timestamp.

    It is OAuth 1.0a with HMAC-SHA256 and nothing else (Oracle ended SHA-1 in 2023.1). The realm is the account in upper
    case with an underscore (`1234567_SB1`): another spelling is an invalid login.
    """

    def __init__(self, settings: NetSuiteSettings, *, epoch_seconds: Callable[[], float]) -> None:
        """`epoch_seconds` is the wall clock, by which signatures are dated. Raises BadSecret when a credential is
        empty."""
        require(settings, "consumer_key", "consumer_secret", "token_id", "token_secret")
        self._epoch_seconds = epoch_seconds
        self._signature = Signature(
            settings.consumer_key,
            settings.consumer_secret,
            settings.token_id,
            settings.token_secret,
            realm=settings.account.upper().replace("-", "_"),
        )

    def ticket(self, method: str, url: str, *, fresh: bool) -> Ticket:
        """Return the signature of one request: it is always fresh."""
        nonce = secrets.token_hex(_NONCE_BYTES)
        return Ticket(self._signature.header(method, url, nonce=nonce, timestamp=int(self._epoch_seconds())))

    def stop(self) -> None:
        """Nobody ever waits here."""


def require(settings: NetSuiteSettings, *names: str) -> None:
    """Raise BadSecret when one of these credentials is empty."""
    for name in names:
        if not getattr(settings, name):
            raise BadSecret(
                f"the credential {name} is empty",
                where=f"[netsuite] {name}",
                help="set it in the configuration or the environment variable that it names",
            )
