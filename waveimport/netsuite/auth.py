"""Who asks: the ways to log in, each of which puts on a request what the service knows the account by.

The client asks its login for a ticket at every attempt, so another way to log in is another class like the one here;
OAuth 2.0 machine-to-machine is in `netsuite.machine`.
"""

import logging
import math
from dataclasses import dataclass
from typing import Protocol

import requests
from requests.auth import AuthBase
from requests_oauthlib import OAuth1

from waveimport.core.settings import NetSuiteSettings
from waveimport.errors import BadSecret

SIGNATURE_SKEW_MOST_SECONDS = 300.0
"""NetSuite refuses signatures whose timestamp is further off (Oracle, "Token-based Authentication"). The assertions of
machine-to-machine logins are made to last as long (see `netsuite.assertion`), so that one bound holds for both."""

# Both log signatures, and what they are made of, at DEBUG.
_TALKATIVE_LOGGERS = ("oauthlib", "requests_oauthlib")


@dataclass(frozen=True, slots=True)
class Ticket:
    """What one request is sent with. From `ends_at` on, a moment of the monotonic clock, a 401 shows only that the
    ticket is too old."""

    auth: AuthBase
    ends_at: float = math.inf


class Login(Protocol):
    """A way to log in. Thread-safe."""

    def ticket(self, *, fresh: bool) -> Ticket:
        """Return what the next request is sent with; with `fresh` nothing in it was ever sent before.

        Raises the errors of `netsuite.faults` where the service has to be asked for it, and Stopped after `stop`.
        """

    def stop(self) -> None:
        """End every wait, now and later, with Stopped."""


class Ready(AuthBase):
    """Puts on a request what is given, and nothing else: without any, requests would look for a password in ~/.netrc.
    Nothing given is a request without a login."""

    def __init__(self, authorization: str | None = None) -> None:
        self._authorization = authorization

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._authorization is not None:
            request.headers["Authorization"] = self._authorization
        return request


class TokenBasedLogin:
    """Token-based authentication: each request is signed, with a new nonce and timestamp.

    It is OAuth 1.0a with HMAC-SHA256 and nothing else (Oracle ended SHA-1 in 2023.1). The realm is the account in upper
    case with an underscore (`1234567_SB1`): another spelling is an invalid login.
    """

    def __init__(self, settings: NetSuiteSettings) -> None:
        """Raises BadSecret when a credential is empty."""
        require(settings, "consumer_key", "consumer_secret", "token_id", "token_secret")
        for name in _TALKATIVE_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        self._ticket = Ticket(
            OAuth1(
                settings.consumer_key,
                client_secret=settings.consumer_secret,
                resource_owner_key=settings.token_id,
                resource_owner_secret=settings.token_secret,
                signature_method="HMAC-SHA256",
                realm=settings.account.upper().replace("-", "_"),
            )
        )

    def ticket(self, *, fresh: bool) -> Ticket:
        """Return what signs a request, each anew: the one ticket is always fresh."""
        return self._ticket

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
