"""The account's login: token-based authentication, checked by oauthlib's own server side.

Rules, from Oracle's "Token-based Authentication (TBA)": HMAC-SHA256 only; the realm is the account id in its exact
case; a timestamp is good for 300 seconds either way; a nonce is good once for its timestamp and token.
"""

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass, field

from oauthlib.oauth1 import SIGNATURE_HMAC_SHA256, RequestValidator, SignatureOnlyEndpoint

from waveimport.simulator.refusals import Refusal, invalid_login

TIMESTAMP_SECONDS = 300
_NONCES_KEPT = 500_000

# It logs each refused signature; refusals are ordinary here, and without a handler they would go to stderr.
logging.getLogger("oauthlib").addHandler(logging.NullHandler())


@dataclass(frozen=True, slots=True)
class Credentials:
    """What a client logs in with, but for the private key of its certificate, which each process makes anew. The
    are the same in every process, so that a pasted configuration keeps working; they open nothing but a simulated
    account on this machine."""

    account: str = "1234567_SB1"
    consumer_key: str = "5f1d3c2b8a964e70b1c9d8e7f6a5b4c3d2e1f00918273645aabbccddeeff0011"
    consumer_secret: str = field(default="c0ffee5ec2e7a1b2c3d4e5f60718293a4b5c6d7e8f90a1b2c3d4e5f607182930", repr=False)
    token_id: str = "70ce1d9b8a7c6d5e4f30213243546576879809a1b2c3d4e5f6a7b8c9d0e1f203"
    token_secret: str = field(default="5ec2e770ce9f8e7d6c5b4a392817065f4e3d2c1b0a99887766554433221100ff", repr=False)
    client_id: str = "c11e27a0b9d8c7f6e5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d3e2"
    certificate_id: str = "simulated-certificate-ZQ8mW2xN4vTjR6yK0pLcA9sD"


class Login:
    """Verifies the signature of requests. Safe for many threads."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials
        self._endpoint = SignatureOnlyEndpoint(_Validator(credentials))

    def check(self, url: str, method: str, headers: dict[str, str]) -> None:
        """Check the request's signature. `url` is the whole URL as the client signed it.

        Raises Refusal 401 with the header WWW-Authenticate when any rule is broken.
        """
        # The body is JSON, which OAuth 1.0a does not sign.
        valid, request = self._endpoint.validate_request(url, method, "", headers)
        if not valid or request.realm != self._credentials.account:
            raise self.refusal()

    def refusal(self) -> Refusal:
        """Return the refusal that every failed login gets."""
        return invalid_login(self._credentials.account)


class _Validator(RequestValidator):  # type: ignore[misc]
    """The answers that oauthlib's endpoint asks of an account."""

    enforce_ssl = False
    timestamp_lifetime = TIMESTAMP_SECONDS
    allowed_signature_methods = (SIGNATURE_HMAC_SHA256,)
    dummy_client = "no such consumer"
    nonce_length = (6, 64)

    def __init__(self, credentials: Credentials) -> None:
        super().__init__()
        self._credentials = credentials
        self._seen: set[tuple[str, str, str]] = set()
        self._order: deque[tuple[float, tuple[str, str, str]]] = deque()
        self._lock = threading.Lock()

    def check_client_key(self, client_key: str) -> bool:
        """Tell whether the key has a key's form; any other is an unknown consumer all the same."""
        return bool(client_key)

    def check_nonce(self, nonce: str) -> bool:
        """Tell whether the nonce has a length that is allowed."""
        shortest, longest = self.nonce_length
        return shortest <= len(nonce) <= longest

    def validate_client_key(self, client_key: str, request: object) -> bool:
        """Tell whether the consumer is known."""
        return client_key == self._credentials.consumer_key

    def validate_timestamp_and_nonce(
        self,
        client_key: str,
        timestamp: str,
        nonce: str,
        request: object,
        request_token: str | None = None,
        access_token: str | None = None,
    ) -> bool:
        """Tell whether the nonce is new for its timestamp and consumer, and remember it.

        A nonce is forgotten once its timestamp alone would refuse it, and the oldest when there are too many.
        """
        entry = (client_key, timestamp, nonce)
        now = time.monotonic()
        with self._lock:
            while self._order and (self._order[0][0] < now - 2 * TIMESTAMP_SECONDS or len(self._order) >= _NONCES_KEPT):
                self._seen.discard(self._order.popleft()[1])
            if entry in self._seen:
                return False
            self._seen.add(entry)
            self._order.append((now, entry))
            return True

    def get_client_secret(self, client_key: str, request: object) -> str:
        """Return the consumer's secret; an unknown consumer has none, and its request fails anyway."""
        return self._credentials.consumer_secret

    def get_access_token_secret(self, client_key: str, token: str, request: object) -> str:
        """Return the token's secret, or one that signs nothing for a token that the account does not know."""
        return self._credentials.token_secret if token == self._credentials.token_id else ""
