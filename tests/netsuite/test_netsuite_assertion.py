"""The assertion, read by the library that wrote it and by the primitives of another."""

import base64
import json

import jwt
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from netsuite_keys import KIND_OF, key, pem

from waveimport.core.settings import NetSuiteSettings
from waveimport.netsuite.assertion import LIFETIME_SECONDS, assertion
from waveimport.netsuite.auth import SIGNATURE_SKEW_MOST_SECONDS
from waveimport.netsuite.private_key import signing_key

URL = "https://1234567-sb1.suitetalk.api.netsuite.com/services/rest/auth/oauth2/v1/token"
NOW = 1_800_000_000.9
HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}


def made(algorithm: str, now: float = NOW) -> str:
    settings = NetSuiteSettings(
        "1234567_SB1",
        "https://h",
        auth="m2m",
        client_id="the-client",
        certificate_id="the-certificate",
        algorithm=algorithm,
    )
    return assertion(settings, signing_key(pem(KIND_OF[algorithm]), algorithm), URL, now)


def decoded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def verify_by_hand(token: str, algorithm: str) -> None:
    """Check the signature by RFC 7518, sections 3.4 and 3.5, without a JWT library."""
    signed, _, part = token.rpartition(".")
    signature, digest = decoded(part), HASHES[algorithm[2:]]
    public = key(KIND_OF[algorithm]).public_key()
    if isinstance(public, rsa.RSAPublicKey):
        pss = padding.PSS(padding.MGF1(digest), salt_length=digest.digest_size)
        public.verify(signature, signed.encode(), pss, digest)
    else:
        assert isinstance(public, ec.EllipticCurvePublicKey)
        half = len(signature) // 2
        assert half == (public.key_size + 7) // 8
        numbers = (int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big"))
        public.verify(encode_dss_signature(*numbers), signed.encode(), ec.ECDSA(digest))


@pytest.mark.parametrize("algorithm", KIND_OF)
def test_the_signature_is_good_by_the_library_and_by_hand(algorithm: str) -> None:
    token = made(algorithm)
    public = key(KIND_OF[algorithm]).public_key()
    jwt.decode(token, public, algorithms=[algorithm], audience=URL, options={"verify_exp": False, "verify_iat": False})
    verify_by_hand(token, algorithm)


def test_a_changed_claim_is_noticed_by_hand() -> None:
    header, claims, signature = made("ES256").split(".")
    other = made("ES256", NOW + 1).split(".")[1]
    assert other != claims
    with pytest.raises(InvalidSignature):
        verify_by_hand(f"{header}.{other}.{signature}", "ES256")


def test_header_and_claims_are_those_that_netsuite_documents() -> None:
    header, claims = (json.loads(decoded(part)) for part in made("PS256").split(".")[:2])
    assert header == {"typ": "JWT", "alg": "PS256", "kid": "the-certificate"}
    assert len(claims.pop("jti")) >= 20
    assert claims == {
        "iss": "the-client",
        "scope": ["rest_webservices"],
        "aud": URL,
        "iat": 1_800_000_000,
        "exp": 1_800_000_000 + LIFETIME_SECONDS,
    }


def test_no_two_assertions_are_alike_even_in_one_second() -> None:
    names = {json.loads(decoded(made("ES256").split(".")[1]))["jti"] for _ in range(50)}
    assert len(names) == 50


def test_it_is_short_and_yet_outlasts_a_clock_that_signatures_may_have() -> None:
    assert SIGNATURE_SKEW_MOST_SECONDS <= LIFETIME_SECONDS <= 59 * 60
