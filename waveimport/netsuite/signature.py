"""Signatures of token-based authentication: OAuth 1.0a (RFC 5849) by HMAC-SHA256, prepared once for each address.

What is signed is METHOD&ADDRESS&PARAMETERS, each part percent-encoded; the parameters are those of the address and of
the protocol, encoded and in order. Of all that only nonce and timestamp differ between two requests for an address, so
the text around them and the key are made ready once. The tests hold it against oauthlib.

A body is not signed: it is JSON, no form (RFC 5849, section 3.4.1.3.1).
"""

import hmac
from binascii import b2a_base64
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import parse_qsl, quote, urlsplit

_METHOD = "HMAC-SHA256"
_ADDRESSES_KEPT = 64
_DEFAULT_PORTS = {"http": 80, "https": 443}
_NONCE, _TIMESTAMP = "oauth_nonce", "oauth_timestamp"


@dataclass(frozen=True, slots=True)
class _Prepared:
    """The text to sign, but for a nonce and a timestamp in its gaps."""

    before_nonce: str
    before_timestamp: str
    after: str


class Signature:
    """Signs for one consumer and token. Thread-safe."""

    def __init__(self, consumer_key: str, consumer_secret: str, token_id: str, token_secret: str, realm: str) -> None:
        """`realm` goes into the header as it is. Raises ValueError where a header cannot hold it."""
        if not (realm.isascii() and realm.isprintable()) or '"' in realm:
            raise ValueError("a realm is printable ASCII without quotes")
        self._protocol = {
            "oauth_version": "1.0",
            "oauth_signature_method": _METHOD,
            "oauth_consumer_key": consumer_key,
            "oauth_token": token_id,
        }
        self._key = hmac.new(f"{_encoded(consumer_secret)}&{_encoded(token_secret)}".encode(), digestmod="sha256")
        self._opening = f'OAuth realm="{realm}", ' if realm else "OAuth "
        self._constant = "".join(f'{name}="{_encoded(value)}", ' for name, value in self._protocol.items())
        self._prepared = lru_cache(_ADDRESSES_KEPT)(self._prepare)

    def header(self, method: str, url: str, *, nonce: str, timestamp: int) -> str:
        """Return the Authorization header of a request. `url` is the address as it is sent, its query included; `nonce`
        is of letters and digits, `timestamp` in seconds since 1970.
        """
        prepared = self._prepared(method, url)
        text = f"{prepared.before_nonce}{nonce}{prepared.before_timestamp}{timestamp}{prepared.after}"
        keyed = self._key.copy()
        keyed.update(text.encode())
        signature = _encoded(b2a_base64(keyed.digest(), newline=False).decode())
        return (
            f'{self._opening}oauth_nonce="{nonce}", oauth_timestamp="{timestamp}", {self._constant}'
            f'oauth_signature="{signature}"'
        )

    def _prepare(self, method: str, url: str) -> _Prepared:
        parts = urlsplit(url)
        given = [*parse_qsl(parts.query, keep_blank_values=True), *self._protocol.items()]
        encoded = sorted((_encoded(name), _encoded(value)) for name, value in given)
        # Both go where their names belong: nothing that is encoded here bears the name of either.
        groups = (
            [(name, value) for name, value in encoded if name < _NONCE],
            [(name, value) for name, value in encoded if _NONCE < name < _TIMESTAMP],
            [(name, value) for name, value in encoded if name > _TIMESTAMP],
        )
        first, second, third = ([f"{name}={value}" for name, value in group] for group in groups)
        opening = f"{_encoded(method.upper())}&{_encoded(_address(url))}&"
        return _Prepared(
            opening + _encoded("&".join([*first, f"{_NONCE}="])),
            _encoded("".join(f"&{pair}" for pair in [*second, f"{_TIMESTAMP}="])),
            _encoded("".join(f"&{pair}" for pair in third)),
        )


def _address(url: str) -> str:
    """Return an address as it is signed: without query, and without the port that goes without saying."""
    parts = urlsplit(url)
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname
    port = "" if parts.port in (None, _DEFAULT_PORTS.get(parts.scheme)) else f":{parts.port}"
    return f"{parts.scheme}://{host}{port}{parts.path or '/'}"


def _encoded(text: str) -> str:
    """Encode all but letters, digits and `-._~` (RFC 5849, section 3.6)."""
    return quote(text, safe="")
