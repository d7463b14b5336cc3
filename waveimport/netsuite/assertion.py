"""The assertion of a machine-to-machine login: a JWT by which the client proves that it holds the certificate's key.

Header: `typ`, `alg`, `kid` (the certificate id). Claims: `iss` (the client id), `scope`, `aud` (the token endpoint's
URL), `iat`, `exp`, `jti`. Sources: Oracle, "The Request Token Structure" under "OAuth 2.0 Client Credentials Flow";
RFC 7523, section 3.
"""

import secrets
from typing import TYPE_CHECKING, Final

from waveimport.core.settings import NetSuiteSettings

if TYPE_CHECKING:
    from waveimport.netsuite.private_key import SigningKey

SCOPE: Final = "rest_webservices"

LIFETIME_SECONDS: Final = 300
"""How long an assertion is good for. Oracle allows up to 60 minutes. It is used within the second it is made in, so
all it needs to outlast is a clock that is behind; five minutes of that NetSuite allows to signatures too."""


def assertion(settings: NetSuiteSettings, key: "SigningKey", token_url: str, now_epoch_seconds: float) -> str:
    """Return a signed assertion for `token_url`, another at every call; `now_epoch_seconds` is the wall clock."""
    import jwt  # as late as the key's own library

    issued = int(now_epoch_seconds)
    claims = {
        "iss": settings.client_id,
        "scope": [SCOPE],
        "aud": token_url,
        "iat": issued,
        "exp": issued + LIFETIME_SECONDS,
        "jti": secrets.token_urlsafe(24),
    }
    return jwt.encode(claims, key, settings.algorithm, headers={"typ": "JWT", "kid": settings.certificate_id})
