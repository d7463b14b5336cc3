"""Machine-to-machine logins: which assertions the account takes, and how long its tokens are good for."""

import time
from collections.abc import Callable

import jwt
import pytest
import requests
from netsuite_keys import KIND_OF, key, public_pem
from simulator_client import Ask, said

from waveimport.simulator.faults import Fault, FaultKind, Faults, Resource
from waveimport.simulator.handle import Simulator
from waveimport.simulator.tokens import ASSERTION_TYPE, TOKEN_PATH, key_pair

QUERY = "SELECT id FROM subsidiary WHERE id = 1"
CHALLENGE = 'Bearer realm="1234567_SB1", error="invalid_token", error_description="Invalid login attempt."'


def asserted(
    simulator: Simulator,
    *,
    signing: object | None = None,
    algorithm: str = "PS256",
    header: dict[str, object] | None = None,
    **claims: object,
) -> str:
    """Return an assertion with all it needs; `header` and `claims` replace parts of it, None takes one away."""
    now = int(time.time())
    good = {
        "iss": simulator.credentials.client_id,
        "scope": ["rest_webservices"],
        "aud": simulator.base_url + TOKEN_PATH,
        "iat": now,
        "exp": now + 300,
    }
    assert simulator.private_key_file.exists()
    headers = {"kid": simulator.credentials.certificate_id, **(header or {})}
    return jwt.encode(
        {name: value for name, value in {**good, **claims}.items() if value is not None},
        signing or key_pair()[0],
        algorithm,
        headers={name: value for name, value in headers.items() if value is not None},
    )


def exchanged(simulator: Simulator, assertion: str, **form: object) -> requests.Response:
    given = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION_TYPE, "client_assertion": assertion}
    return requests.post(simulator.base_url + TOKEN_PATH, data={**given, **form}, timeout=30)


def token_of(simulator: Simulator) -> str:
    reply = exchanged(simulator, asserted(simulator))
    assert reply.status_code == 200, reply.text
    token: str = reply.json()["access_token"]
    return token


def bearer(token: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    def put(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return put


def assert_refused(reply: requests.Response, error: str) -> None:
    assert (reply.status_code, reply.json()) == (400, {"error": error})
    assert reply.headers["Content-Type"].startswith("application/json")


# --- assertions -------------------------------------------------------------------------------------------------


def test_a_good_assertion_gets_a_bearer_token_of_an_hour(simulator: Simulator) -> None:
    granted = exchanged(simulator, asserted(simulator)).json()
    assert set(granted) == {"access_token", "expires_in", "token_type"}
    assert (granted["expires_in"], granted["token_type"]) == (3600, "Bearer")


@pytest.mark.parametrize("algorithm", KIND_OF)
def test_each_algorithm_is_taken_with_a_certificate_of_its_kind(simulator: Simulator, algorithm: str) -> None:
    kind = KIND_OF[algorithm]
    simulator.tokens.certify("another", public_pem(kind).encode())
    assertion = asserted(simulator, signing=key(kind), algorithm=algorithm, header={"kid": "another"})
    assert exchanged(simulator, assertion).status_code == 200


@pytest.mark.parametrize(
    ("kind", "algorithm"), [("RSA 3072", "RS256"), ("P-384", "ES256"), ("P-256", "ES512"), ("secp256k1", "ES256K")]
)
def test_an_algorithm_that_is_not_listed_or_of_another_key_is_refused(
    simulator: Simulator, kind: str, algorithm: str
) -> None:
    simulator.tokens.certify("another", public_pem(kind).encode())
    signing = key(kind)
    if algorithm in ("ES256", "ES512"):  # the library itself may refuse to sign with a curve of another algorithm
        signing = key(KIND_OF[algorithm])
    assertion = asserted(simulator, signing=signing, algorithm=algorithm, header={"kid": "another"})
    assert_refused(exchanged(simulator, assertion), "invalid_grant")


@pytest.mark.parametrize("algorithm", ["HS256", "none"])
def test_an_assertion_that_no_key_has_signed_is_refused(simulator: Simulator, algorithm: str) -> None:
    secret = "x" * 64 if algorithm == "HS256" else ""
    now = int(time.time())
    claims = {"iss": simulator.credentials.client_id, "aud": simulator.base_url + TOKEN_PATH, "iat": now}
    kid = simulator.credentials.certificate_id
    assert simulator.private_key_file.exists()
    unsigned = jwt.encode({**claims, "exp": now + 300}, secret or None, algorithm, headers={"kid": kid})
    assert_refused(exchanged(simulator, unsigned), "invalid_grant")


def test_a_signature_by_another_key_is_refused(simulator: Simulator) -> None:
    assert_refused(exchanged(simulator, asserted(simulator, signing=key("RSA 3072"))), "invalid_grant")


@pytest.mark.parametrize(
    ("header", "claims", "error"),
    [
        ({"kid": "unknown"}, {}, "invalid_client"),
        ({"kid": None}, {}, "invalid_client"),
        ({}, {"iss": "unknown"}, "invalid_client"),
        ({}, {"iss": None}, "invalid_client"),
        ({"typ": "at+jwt"}, {}, "invalid_grant"),
        ({}, {"aud": "https://1234567-sb1.suitetalk.api.netsuite.com" + TOKEN_PATH}, "invalid_grant"),
        ({}, {"aud": None}, "invalid_grant"),
        ({}, {"iat": None}, "invalid_grant"),
        ({}, {"exp": None}, "invalid_grant"),
        ({}, {"scope": ["restlets"]}, "invalid_scope"),
        ({}, {"scope": None}, "invalid_scope"),
    ],
)
def test_an_assertion_with_a_wrong_or_missing_part_is_refused(
    simulator: Simulator, header: dict[str, object], claims: dict[str, object], error: str
) -> None:
    assertion = asserted(simulator, header=header, **claims)
    assert_refused(exchanged(simulator, assertion), error)


@pytest.mark.parametrize(
    ("issued", "expires", "taken"),
    [
        (0, 3600, True),
        (0, 3601, False),
        (-3000, 500, True),
        (-400, -1, False),
        (250, 550, True),
        (350, 650, False),
    ],
)
def test_an_assertion_is_good_within_the_hour_from_when_it_was_issued(
    simulator: Simulator, issued: int, expires: int, taken: bool
) -> None:
    now = int(time.time())
    reply = exchanged(simulator, asserted(simulator, iat=now + issued, exp=now + expires))
    if taken:
        assert reply.status_code == 200
    else:
        assert_refused(reply, "invalid_grant")


def test_the_scope_may_be_a_text_too(simulator: Simulator) -> None:
    assert exchanged(simulator, asserted(simulator, scope="restlets rest_webservices")).status_code == 200


def test_an_assertion_with_an_id_is_good_once(simulator: Simulator) -> None:
    assertion = asserted(simulator, jti="once")
    assert exchanged(simulator, assertion).status_code == 200
    assert_refused(exchanged(simulator, assertion), "invalid_grant")
    assert exchanged(simulator, asserted(simulator, jti="another")).status_code == 200


@pytest.mark.parametrize(
    ("form", "error"),
    [
        ({"grant_type": "authorization_code"}, "unsupported_grant_type"),
        ({"grant_type": ""}, "unsupported_grant_type"),
        ({"client_assertion_type": "jwt"}, "invalid_request"),
        ({"client_assertion": ""}, "invalid_request"),
        ({"client_assertion": "no.jwt.atall"}, "invalid_request"),
    ],
)
def test_a_form_that_is_not_the_documented_one_is_refused(
    simulator: Simulator, form: dict[str, str], error: str
) -> None:
    assert_refused(exchanged(simulator, asserted(simulator), **form), error)


def test_another_method_is_not_allowed(simulator: Simulator) -> None:
    assert requests.get(simulator.base_url + TOKEN_PATH, timeout=30).status_code == 405


def test_a_key_that_no_certificate_can_have_is_not_taken(simulator: Simulator) -> None:
    with pytest.raises(ValueError, match="elliptic curve"):
        simulator.tokens.certify("x", public_pem("Ed25519").encode())


# --- tokens -----------------------------------------------------------------------------------------------------


def test_a_query_with_a_token_is_answered_and_one_that_is_signed_too(simulator: Simulator, ask: Ask) -> None:
    assert ask(QUERY, auth=bearer(token_of(simulator))).status_code == 200
    assert ask(QUERY).status_code == 200


def test_an_unknown_token_is_refused_with_the_challenge_of_bearers(ask: Ask) -> None:
    refused = ask(QUERY, auth=bearer("unknown"))
    assert refused.status_code == 401
    assert refused.json()["title"] == "Unauthorized"
    assert refused.json()["o:errorDetails"][0]["o:errorCode"] == "INVALID_LOGIN"
    assert said(refused).startswith("Invalid login attempt.")
    assert refused.headers["WWW-Authenticate"] == CHALLENGE


def test_a_token_ends_after_its_seconds(simulator: Simulator, ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1000.0]
    monkeypatch.setattr(simulator.tokens, "_monotonic", lambda: now[0])
    simulator.set_faults(Faults(token_seconds=90))
    granted = exchanged(simulator, asserted(simulator)).json()
    assert granted["expires_in"] == 90
    now[0] += 89
    assert ask(QUERY, auth=bearer(granted["access_token"])).status_code == 200
    now[0] += 1
    assert ask(QUERY, auth=bearer(granted["access_token"])).status_code == 401


def test_a_revocation_ends_every_token_and_the_next_is_good(simulator: Simulator, ask: Ask) -> None:
    first, second = token_of(simulator), token_of(simulator)
    simulator.set_faults(Faults(fault=(Fault(FaultKind.REVOKE, times=1),)))
    assert [ask(QUERY, auth=bearer(token)).status_code for token in (first, first, second)] == [401, 401, 401]
    assert ask(QUERY, auth=bearer(token_of(simulator))).status_code == 200
    assert ask(QUERY).status_code == 200  # a signature has nothing to be revoked


# --- faults -----------------------------------------------------------------------------------------------------


def test_a_fault_of_the_token_endpoint_strikes_no_query_and_the_other_way_round(simulator: Simulator, ask: Ask) -> None:
    token = token_of(simulator)
    simulator.set_faults(Faults(fault=(Fault(FaultKind.UNAVAILABLE, resource=Resource.TOKEN),)))
    assert exchanged(simulator, asserted(simulator)).status_code == 503
    assert ask(QUERY, auth=bearer(token)).status_code == 200
    simulator.set_faults(Faults(fault=(Fault(FaultKind.UNAVAILABLE),)))
    assert exchanged(simulator, asserted(simulator)).status_code == 200
    assert ask(QUERY, auth=bearer(token)).status_code == 503


@pytest.mark.parametrize(
    ("kind", "status"),
    [(FaultKind.RATE_LIMIT, 429), (FaultKind.SERVER_ERROR, 500), (FaultKind.HTML, 200), (FaultKind.LOGIN, 400)],
)
def test_each_fault_has_its_form_at_the_token_endpoint(simulator: Simulator, kind: FaultKind, status: int) -> None:
    simulator.set_faults(Faults(fault=(Fault(kind, resource=Resource.TOKEN),)))
    reply = exchanged(simulator, asserted(simulator))
    assert reply.status_code == status
    if kind is FaultKind.LOGIN:
        assert_refused(reply, "invalid_grant")


def test_a_refused_login_has_the_challenge_of_the_way_it_was_tried(simulator: Simulator, ask: Ask) -> None:
    token = token_of(simulator)
    simulator.set_faults(Faults(fault=(Fault(FaultKind.LOGIN),)))
    assert ask(QUERY, auth=bearer(token)).headers["WWW-Authenticate"] == CHALLENGE
    assert ask(QUERY).headers["WWW-Authenticate"].startswith("OAuth ")


def test_requests_for_tokens_and_queries_are_numbered_apart(simulator: Simulator, ask: Ask) -> None:
    token = token_of(simulator)
    ask(QUERY, auth=bearer(token))
    token_of(simulator)
    ask(QUERY)
    assert [(one.resource, one.number) for one in simulator.requests] == [
        ("token", 1), ("query", 1), ("token", 2), ("query", 2),
    ]  # fmt: skip


# --- the key ----------------------------------------------------------------------------------------------------


def test_the_key_is_the_owners_alone_and_gone_at_the_end(small_account: object) -> None:
    with Simulator(data=small_account, scale=0.001) as simulator:
        path = simulator.private_key_file
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert path == simulator.private_key_file
    assert not path.parent.exists()
