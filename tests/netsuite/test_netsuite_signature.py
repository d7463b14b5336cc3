"""Signatures, held against those that requests-oauthlib makes of the same requests."""

from urllib.parse import quote, urlencode

import pytest
import requests
from hypothesis import example, given
from hypothesis import strategies as st
from requests_oauthlib import OAuth1

from waveimport.netsuite.signature import Signature
from waveimport.netsuite.transport import sendable

ORIGINS = [
    "https://1234567-sb1.suitetalk.api.netsuite.com",
    "https://1234567.suitetalk.api.netsuite.com:443",
    "http://127.0.0.1:8765",
    "http://localhost:80",
    "http://[::1]:8080",
    "https://Example.COM:8443/Behind/a%20Proxy",
]
words = st.text(st.characters(blacklist_categories=("Cs",)), max_size=20)
credentials = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=40)
# No parameter of ours has the name of one of the protocol's.
names = words.filter(lambda name: not name.startswith("oauth_"))
queries = st.lists(st.tuples(names, words), max_size=5)
paths = st.lists(words.filter(lambda part: part not in (".", "..")), min_size=1, max_size=4)
nonces = st.text("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=32)
timestamps = st.integers(0, 2**40)


def by_requests_oauthlib(
    secrets: tuple[str, str, str, str], realm: str, method: str, url: str, nonce: str, timestamp: int
) -> tuple[str, str]:
    """Return the Authorization header that requests-oauthlib makes, and the address that requests sends it to."""
    consumer_key, consumer_secret, token_id, token_secret = secrets
    auth = OAuth1(
        consumer_key,
        client_secret=consumer_secret,
        resource_owner_key=token_id,
        resource_owner_secret=token_secret,
        signature_method="HMAC-SHA256",
        realm=realm,
        nonce=nonce,
        timestamp=str(timestamp),
    )
    headers = {"Content-Type": "application/json", "Prefer": "transient"}
    body = b'{"q": "SELECT 1"}' if method == "POST" else None
    prepared = requests.Request(method, url, headers=headers, data=body, auth=auth).prepare()
    header = prepared.headers["Authorization"]
    return header if isinstance(header, str) else header.decode(), str(prepared.url)


@given(
    secrets=st.tuples(credentials, credentials, credentials, credentials),
    realm=st.sampled_from(["1234567_SB1", "TSTDRV1", "1"]),
    method=st.sampled_from(["POST", "GET"]),
    origin=st.sampled_from(ORIGINS),
    path=paths,
    query=queries,
    nonce=nonces,
    timestamp=timestamps,
)
@example(
    secrets=("a b+c%2B", "&=/?~-._", "é漢😀", '"\\\r\n'),
    realm="1234567_SB1",
    method="POST",
    origin=ORIGINS[0],
    path=["services", "rest", "query", "v1", "suiteql"],
    query=[("limit", "1000"), ("offset", "0")],
    nonce="f3b1",
    timestamp=1_795_413_600,
)
@example(
    secrets=("k", "s", "t", "u"), realm="1", method="GET", origin=ORIGINS[2], path=["a~b", "c d"],
    query=[("b", ""), ("a", "2"), ("a", "1"), ("a%20", "ü+&="), ("p", "z"), ("", "x"), ("oauth", "1"), ("oauthz", "2")],
    nonce="0", timestamp=0,
)  # fmt: skip
def test_a_signature_is_the_one_that_requests_oauthlib_makes(
    secrets: tuple[str, str, str, str],
    realm: str,
    method: str,
    origin: str,
    path: list[str],
    query: list[tuple[str, str]],
    nonce: str,
    timestamp: int,
) -> None:
    url = origin + "".join("/" + quote(part, safe="") for part in path)
    url += f"?{urlencode(query)}" if query else ""
    expected, sent_to = by_requests_oauthlib(secrets, realm, method, url, nonce, timestamp)
    signature = Signature(*secrets, realm)
    for _ in range(2):  # what was made ready is used a second time
        assert signature.header(method, sendable(url), nonce=nonce, timestamp=timestamp) == expected
    assert sendable(url) == sent_to


@given(steps=st.lists(st.tuples(st.sampled_from(["POST", "GET"]), st.integers(0, 100), nonces), max_size=200))
def test_what_is_made_ready_for_one_address_is_used_for_no_other(steps: list[tuple[str, int, str]]) -> None:
    secrets = ("key", "secret", "token", "token secret")
    signature = Signature(*secrets, "1")
    for method, offset, nonce in steps:
        url = f"http://127.0.0.1:8765/suiteql?limit=1&offset={offset}"
        fresh = Signature(*secrets, "1")
        assert signature.header(method, url, nonce=nonce, timestamp=7) == fresh.header(
            method, url, nonce=nonce, timestamp=7
        )


@pytest.mark.parametrize("realm", ['1"', "1\r\nHost: elsewhere", "é"])
def test_a_realm_that_no_header_can_hold_is_refused(realm: str) -> None:
    with pytest.raises(ValueError, match="realm"):
        Signature("key", "secret", "token", "token secret", realm)
