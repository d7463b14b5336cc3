"""OAuth 2.0 machine-to-machine: an assertion signed by the certificate's key is exchanged for an access token.

`POST /services/rest/auth/oauth2/v1/token`, form-encoded: `grant_type=client_credentials`, `client_assertion_type`,
`client_assertion`. The answer is `{"access_token": ..., "expires_in": 3600, "token_type": "Bearer"}`; there is no
refresh token, the next one costs another assertion. Source: Oracle, "OAuth 2.0 Client Credentials Flow".
"""

import json
import math
import re
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlencode

from waveimport.core.settings import NetSuiteSettings
from waveimport.errors import GarbledReply
from waveimport.netsuite.assertion import assertion
from waveimport.netsuite.auth import Ticket, require
from waveimport.netsuite.faults import token_error_of
from waveimport.netsuite.private_key import signing_key
from waveimport.netsuite.tokens import AccessToken, Tokens
from waveimport.netsuite.transport import Reply

TOKEN_PATH: Final = "/services/rest/auth/oauth2/v1/token"
LIFETIME_SECONDS: Final = 3600.0
"""How long a token is good for where its answer does not say (Oracle, as above)."""

Send = Callable[[str, bytes, Mapping[str, str]], Reply]
"""Posts a body with headers to an address. Raises SourceDown, GarbledReply, BadReply, Stopped."""

_HEADERS: Final = {
    "Accept": "application/json",
    "Content-Type": "application/x-www-form-urlencoded",
    "User-Agent": "waveimport",
}
_BEARER_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*")  # RFC 6750, section 2.1


class MachineLogin:
    """Logs in by certificate; the token is shared by all threads, see `netsuite.tokens`."""

    def __init__(
        self,
        settings: NetSuiteSettings,
        send: Send,
        *,
        monotonic: Callable[[], float],
        epoch_seconds: Callable[[], float],
    ) -> None:
        """Take the credentials; nothing is sent yet. Raises BadSecret or BadValue for those that are of no use."""
        require(settings, "client_id", "certificate_id", "private_key")
        self._settings = settings
        self._key = signing_key(settings.private_key, settings.algorithm)
        self._url = settings.base_url.rstrip("/") + TOKEN_PATH
        self._send = send
        self._monotonic = monotonic
        self._epoch_seconds = epoch_seconds
        self._tokens = Tokens(self._obtain, monotonic)

    def ticket(self, method: str, url: str, *, fresh: bool) -> Ticket:
        """Return the access token, which is good for any request; with `fresh` one that is asked for now."""
        token = self._tokens.token(fresh=fresh)
        return Ticket(f"Bearer {token.value}", token.ends_at)

    def stop(self) -> None:
        """End every wait for a token, now and later, with Stopped."""
        self._tokens.stop()

    def _obtain(self) -> AccessToken:
        form = {
            "grant_type": "client_credentials",
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
            "client_assertion": assertion(self._settings, self._key, self._url, self._epoch_seconds()),
        }
        asked_at = self._monotonic()
        reply = self._send(self._url, urlencode(form).encode(), _HEADERS)
        if reply.status != 200:
            raise token_error_of(reply.status, reply.headers, reply.body)
        value, lifetime_seconds = _granted(reply.body)
        return AccessToken.asked_at(asked_at, value, lifetime_seconds)


def _granted(body: bytes) -> tuple[str, float]:
    """Return the token of an answer and how many seconds it is good for. Raises GarbledReply where there is none."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    members = document if isinstance(document, dict) else {}
    value = members.get("access_token")
    kind = members.get("token_type", "Bearer")
    if not isinstance(value, str) or _BEARER_TOKEN.fullmatch(value) is None or str(kind).lower() != "bearer":
        raise GarbledReply(
            "NetSuite's answer to the login holds no bearer token",
            help="if it stays, something else answers at base_url: a proxy, or a login page",
        )
    return value, _seconds(members.get("expires_in"))


def _seconds(said: object) -> float:
    """Return a lifetime as the service gives it, a number or digits in quotes, else the documented one."""
    try:
        seconds = float(said) if isinstance(said, str | int | float) else LIFETIME_SECONDS
    except ValueError:
        seconds = LIFETIME_SECONDS
    return seconds if math.isfinite(seconds) and seconds > 0 else LIFETIME_SECONDS
