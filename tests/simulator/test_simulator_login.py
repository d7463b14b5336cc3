"""The login: oauthlib's server side, and the account's own rules on top."""

import time
from dataclasses import replace

import pytest
import requests
from oauthlib.oauth1 import Client
from simulator_client import Ask, said, signed

from waveimport.simulator import auth
from waveimport.simulator.handle import Simulator
from waveimport.simulator.server import SUITEQL_PATH

QUERY = "SELECT id FROM subsidiary WHERE id = 1"


def status(ask: Ask, **options: object) -> int:
    return ask(QUERY, **options).status_code


def test_a_signed_request_is_answered(ask: Ask) -> None:
    assert status(ask) == 200


def test_a_request_without_a_signature_is_refused_with_a_challenge(ask: Ask) -> None:
    refused = ask(QUERY, auth=None)
    assert refused.status_code == 401
    assert refused.json()["title"] == "Unauthorized"
    assert refused.json()["o:errorDetails"][0]["o:errorCode"] == "INVALID_LOGIN"
    assert said(refused).startswith("Invalid login attempt.")
    assert refused.headers["WWW-Authenticate"] == (
        'OAuth realm="1234567_SB1", error="token_rejected", error_description="Invalid login attempt."'
    )


@pytest.mark.parametrize("secret", ["consumer_secret", "token_secret", "consumer_key", "token_id"])
def test_any_wrong_credential_is_refused(simulator: Simulator, ask: Ask, secret: str) -> None:
    wrong = replace(simulator.credentials, **{secret: "0" * 64})
    assert status(ask, auth=signed(wrong)) == 401


def test_a_realm_in_lower_case_is_refused(simulator: Simulator, ask: Ask) -> None:
    assert status(ask, auth=signed(simulator.credentials, realm="1234567_sb1")) == 401


def test_hmac_sha1_is_refused(simulator: Simulator, ask: Ask) -> None:
    assert status(ask, auth=signed(simulator.credentials, signature_method="HMAC-SHA1")) == 401


def header(simulator: Simulator, timestamp: int, nonce: str) -> dict[str, str]:
    """Sign the request to the account by hand, at that time, with that nonce."""
    given = simulator.credentials
    client = Client(
        given.consumer_key,
        given.consumer_secret,
        given.token_id,
        given.token_secret,
        signature_method="HMAC-SHA256",
        realm=given.account,
        timestamp=str(timestamp),
        nonce=nonce,
    )
    url = f"{simulator.base_url}{SUITEQL_PATH}?limit=1000&offset=0"
    _, headers, _ = client.sign(url, "POST", headers={"Prefer": "transient"})
    return headers


def test_a_replayed_nonce_is_refused(simulator: Simulator, ask: Ask) -> None:
    headers = header(simulator, int(time.time()), "once-and-never-again")
    assert status(ask, auth=None, headers=headers) == 200
    assert status(ask, auth=None, headers=headers) == 401


def test_a_nonce_is_good_again_at_another_time(simulator: Simulator, ask: Ask) -> None:
    now = int(time.time())
    assert status(ask, auth=None, headers=header(simulator, now, "nonce-of-two-times")) == 200
    assert status(ask, auth=None, headers=header(simulator, now - 1, "nonce-of-two-times")) == 200


@pytest.mark.parametrize(("age", "expected"), [(290, 200), (310, 401), (-290, 200), (-310, 401)])
def test_a_timestamp_is_good_for_five_minutes_either_way(
    simulator: Simulator, ask: Ask, age: int, expected: int
) -> None:
    assert status(ask, auth=None, headers=header(simulator, int(time.time()) - age, f"nonce-of-age-{age}")) == expected


def test_a_signature_over_other_parameters_is_refused(simulator: Simulator, ask: Ask) -> None:
    headers = header(simulator, int(time.time()), "signed-for-offset-0")
    assert status(ask, auth=None, headers=headers, offset=1000) == 401


def test_a_signed_hash_of_the_body_is_accepted(simulator: Simulator) -> None:
    reply = requests.post(
        simulator.base_url + SUITEQL_PATH,
        json={"q": QUERY},
        headers={"Prefer": "transient"},
        auth=signed(simulator.credentials, force_include_body=True),
        timeout=30,
    )
    assert reply.status_code == 200


def test_the_memory_for_nonces_is_bounded(simulator: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_NONCES_KEPT", 3)
    validator = auth._Validator(simulator.credentials)
    for number in range(10):
        assert validator.validate_timestamp_and_nonce("key", "1", f"nonce-{number}", None)
    assert len(validator._seen) == 3
    assert not validator.validate_timestamp_and_nonce("key", "1", "nonce-9", None)


def test_no_secret_shows_in_the_representation_of_credentials(simulator: Simulator) -> None:
    shown = repr(simulator.credentials)
    assert simulator.credentials.consumer_secret not in shown
    assert simulator.credentials.token_secret not in shown
