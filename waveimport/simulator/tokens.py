"""The account's OAuth 2.0 machine-to-machine login: assertions verified, access tokens issued and looked at.

`POST /services/rest/auth/oauth2/v1/token` takes `grant_type=client_credentials` and an assertion, a JWT signed by the
key of an uploaded certificate. Rules, from Oracle's "OAuth 2.0 Client Credentials Flow": `kid` is the certificate's id;
`alg` is PS256, PS384, PS512, ES256, ES384 or ES512; `iss` is the client id, `aud` the endpoint's own URL, `scope` holds
rest_webservices; `exp` is at most 60 minutes after `iat`. The docs do not say how far ahead of the account's clock
`iat` may be; here it is as far as a signature's timestamp. Nor which of its errors answers what: here `invalid_client`
for a client or certificate that is not known, `invalid_grant` for an assertion that does not hold.
"""

import secrets
import threading
import time
from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import parse_qs

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from waveimport.simulator.auth import TIMESTAMP_SECONDS, Credentials
from waveimport.simulator.refusals import OAuthRefusal, Refusal, invalid_token

TOKEN_PATH = "/services/rest/auth/oauth2/v1/token"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_SECONDS_MOST = 3600
RSA_BITS = 3072
_SCOPE = "rest_webservices"
_CURVES = {"ES256": "secp256r1", "ES384": "secp384r1", "ES512": "secp521r1"}
_RSA_ALGORITHMS = ("PS256", "PS384", "PS512")


class TokenDesk:
    """Issues access tokens to who holds the key of a certificate. Safe for many threads."""

    def __init__(self, credentials: Credentials, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._credentials = credentials
        self._monotonic = monotonic
        self._certificates: dict[str, rsa.RSAPublicKey | ec.EllipticCurvePublicKey] = {}
        self._ends: dict[str, float] = {}  # of each token, by the monotonic clock
        self._used: dict[str, float] = {}  # when each assertion's id may be forgotten, by the wall clock
        self._lock = threading.Lock()

    def certify(self, certificate_id: str, public_pem: bytes) -> None:
        """Take a certificate's public key, as an administrator uploads it. Raises ValueError for no such key."""
        key = load_pem_public_key(public_pem)
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise ValueError("a certificate is of RSA or of an elliptic curve")
        self._certificates[certificate_id] = key

    def grant(self, form: bytes, url: str, lifetime_seconds: float) -> bytes:
        """Answer a request for a token that is to be good for `lifetime_seconds`; `url` is this endpoint's.

        Raises OAuthRefusal when any rule is broken.
        """
        given = {name: values[0] for name, values in parse_qs(form.decode("latin-1")).items() if len(values) == 1}
        if given.get("grant_type") != "client_credentials":
            raise OAuthRefusal("unsupported_grant_type")
        if given.get("client_assertion_type") != ASSERTION_TYPE or "client_assertion" not in given:
            raise OAuthRefusal("invalid_request")
        self._verify(given["client_assertion"], url)
        token = secrets.token_urlsafe(48)
        said = int(lifetime_seconds) if lifetime_seconds == int(lifetime_seconds) else lifetime_seconds
        now = self._monotonic()
        with self._lock:
            self._ends = {one: end for one, end in self._ends.items() if end > now}
            self._ends[token] = now + lifetime_seconds
        return msgspec.json.encode({"access_token": token, "expires_in": said, "token_type": "Bearer"})

    def check(self, token: str) -> None:
        """Check an access token. Raises Refusal 401 when it was never issued, is over or was revoked."""
        with self._lock:
            end = self._ends.get(token)
        if end is None or end <= self._monotonic():
            raise self.refusal()

    def refusal(self) -> Refusal:
        """Return the refusal that every unknown token gets."""
        return invalid_token(self._credentials.account)

    def revoke(self) -> None:
        """End every token that was issued so far."""
        with self._lock:
            self._ends.clear()

    def _verify(self, assertion: str, url: str) -> None:
        try:
            header = jwt.get_unverified_header(assertion)
            unverified = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.PyJWTError:
            raise OAuthRefusal("invalid_request") from None
        key = self._certificates.get(str(header.get("kid")))
        if key is None or unverified.get("iss") != self._credentials.client_id:
            raise OAuthRefusal("invalid_client")
        if header.get("typ") != "JWT" or header.get("alg") not in _algorithms_of(key):
            raise OAuthRefusal("invalid_grant")
        try:
            claims = jwt.decode(
                assertion,
                key,
                algorithms=_algorithms_of(key),
                audience=url,
                options={"require": ["exp", "iat"], "verify_iat": False},
            )
        except jwt.PyJWTError:
            raise OAuthRefusal("invalid_grant") from None
        self._check_claims(claims)

    def _check_claims(self, claims: dict[str, Any]) -> None:
        """Check what the library does not. `exp` and `iat` are there; the former is a number that lies ahead."""
        issued, now = claims["iat"], time.time()
        if not isinstance(issued, int | float) or issued > now + TIMESTAMP_SECONDS:
            raise OAuthRefusal("invalid_grant")
        if claims["exp"] - issued > ASSERTION_SECONDS_MOST:
            raise OAuthRefusal("invalid_grant")
        scope = claims.get("scope")
        if _SCOPE not in (scope if isinstance(scope, list) else str(scope).split()):
            raise OAuthRefusal("invalid_scope")
        name = claims.get("jti")
        if name is None:
            return
        with self._lock:
            self._used = {one: until for one, until in self._used.items() if until > now}
            if name in self._used:
                raise OAuthRefusal("invalid_grant")
            self._used[str(name)] = claims["exp"]


def _algorithms_of(key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey) -> list[str]:
    if isinstance(key, rsa.RSAPublicKey):
        return list(_RSA_ALGORITHMS)
    return [name for name, curve in _CURVES.items() if curve == key.curve.name]


@cache
def key_pair() -> tuple[bytes, bytes]:
    """Return a private key and its public one, PEM, as `openssl req -newkey rsa:3072` makes them; one pair a process,
    for they take a while to be found."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    return (
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
        key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
    )
