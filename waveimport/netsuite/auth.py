"""Who asks: the ways to sign a request.

The client asks for one signer and calls it for every attempt, so another way to log in is another function here.
"""

import logging

from requests.auth import AuthBase
from requests_oauthlib import OAuth1

from waveimport.core.settings import NetSuiteSettings
from waveimport.errors import BadSecret, BadValue

SIGNATURE_SKEW_MOST_SECONDS = 300.0
"""NetSuite refuses signatures whose timestamp is further off (Oracle, "Token-based Authentication")."""

# Both log signatures, and what they are made of, at DEBUG.
_TALKATIVE_LOGGERS = ("oauthlib", "requests_oauthlib")


def signer(settings: NetSuiteSettings) -> AuthBase:
    """Return what signs a prepared request, with a new nonce and timestamp at every call.

    Token-based authentication is OAuth 1.0a with HMAC-SHA256 and nothing else (Oracle ended SHA-1 in 2023.1). The
    realm is the account in upper case with an underscore (`1234567_SB1`): another spelling is an invalid login.
    Raises BadSecret when a credential is empty, BadValue for a way to log in that is not known.
    """
    if settings.auth != "tba":
        raise BadValue(
            f"logging in by {settings.auth!r} is not supported",
            where="[netsuite] auth",
            help='use auth = "tba", token-based authentication',
        )
    for name in ("consumer_key", "consumer_secret", "token_id", "token_secret"):
        if not getattr(settings, name):
            raise BadSecret(
                f"the credential {name} is empty",
                where=f"[netsuite] {name}",
                help="set it in the configuration or the environment variable that it names",
            )
    for name in _TALKATIVE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    oauth1: AuthBase = OAuth1(
        settings.consumer_key,
        client_secret=settings.consumer_secret,
        resource_owner_key=settings.token_id,
        resource_owner_secret=settings.token_secret,
        signature_method="HMAC-SHA256",
        realm=settings.account.upper().replace("-", "_"),
    )
    return oauth1
