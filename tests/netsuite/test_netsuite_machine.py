"""Logging in by certificate, against a scripted server: when a token is asked for, and what each refusal becomes."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qs

import jwt
import pytest
from netsuite_keys import key, pem
from netsuite_server import (
    BROKEN,
    LOGIN_REFUSED,
    MAINTENANCE,
    PAGE,
    TOO_MANY,
    Asked,
    Handler,
    ScriptedServer,
    Step,
    page,
    refusal,
    reply,
    reset,
    truncated,
)

from waveimport.core.settings import NetSuiteSettings
from waveimport.errors import (
    BadReply,
    BadSecret,
    BadValue,
    GarbledReply,
    LoginRefused,
    RateLimited,
    SourceDown,
    Stopped,
    WaveImportError,
)
from waveimport.netsuite.client import SuiteQLClient
from waveimport.netsuite.machine import TOKEN_PATH

SQL = "SELECT t.id FROM customer t ORDER BY t.id"
TOKEN_OVER = refusal(
    401,
    "Invalid login attempt.",
    "INVALID_LOGIN",
    WWW_Authenticate='Bearer realm="1234567_SB1", error="invalid_token"',
)


def oauth_error(error: str, status: int = 400) -> Step:
    return reply(status, json.dumps({"error": error}).encode())


class MachineServer(ScriptedServer):
    """Answers queries by `queries` and requests for tokens by `grants`, each the last step for ever; without a step
    left in the way it gives `token-1`, `token-2` …, of `expires_in`."""

    def __init__(self) -> None:
        super().__init__()
        self.queries: list[Step] = [page]
        self.grants: list[Step] = [self.grant]
        self.expires_in: object = 3600
        self.script = [self.dispatch]
        self.turns = {"query": 0, "token": 0}

    def dispatch(self, handler: Handler) -> None:
        kind, steps = ("token", self.grants) if handler.path == TOKEN_PATH else ("query", self.queries)
        with self.lock:
            turn = self.turns[kind]
            self.turns[kind] += 1
        steps[min(turn, len(steps) - 1)](handler)

    def grant(self, handler: Handler) -> None:
        token = {"access_token": f"token-{self.turns['token']}", "expires_in": self.expires_in, "token_type": "Bearer"}
        handler.send(200, json.dumps(token).encode())

    @property
    def sent(self) -> list[str]:
        """What came, in order: `TOKEN`, or the token that a query was sent with."""
        return [
            "TOKEN" if asked.path == TOKEN_PATH else asked.headers["Authorization"].removeprefix("Bearer ")
            for asked in self.asked
        ]


@pytest.fixture
def machine_server() -> Iterator[MachineServer]:
    scripted = MachineServer()
    yield scripted
    scripted.close()


MakeMachine = Callable[..., SuiteQLClient]


@pytest.fixture
def make_machine(machine_server: MachineServer, slept: list[float]) -> Iterator[MakeMachine]:
    clients: list[SuiteQLClient] = []

    def make(*, settings: dict[str, object] | None = None, **options: object) -> SuiteQLClient:
        given = {
            "account": "1234567_SB1",
            "base_url": machine_server.url,
            "auth": "m2m",
            "client_id": "client-canary",
            "certificate_id": "certificate-canary",
            "private_key": pem("P-256"),
            "algorithm": "ES256",
        }
        options = {
            "request_timeout_seconds": 20.0,
            "epoch_seconds": time.time,
            "sleep": slept.append,
            "random": lambda: 0.5,
        } | options
        client = SuiteQLClient(NetSuiteSettings(**given | (settings or {})), **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()


def assertion_of(asked: Asked) -> str:
    """Return the assertion of a request for a token; the rest of its form must be what is documented."""
    form = parse_qs(asked.body.decode(), strict_parsing=True)
    [assertion] = form.pop("client_assertion")
    assert form == {
        "grant_type": ["client_credentials"],
        "client_assertion_type": ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"],
    }
    return assertion


# --- when a token is asked for ----------------------------------------------------------------------------------


def test_a_query_is_sent_with_a_token_that_a_signed_assertion_was_given_for(
    machine_server: MachineServer, make_machine: MakeMachine
) -> None:
    assert json.loads(make_machine(epoch_seconds=lambda: 1_800_000_000.0).query(SQL)) == PAGE
    assert machine_server.sent == ["TOKEN", "token-1"]
    asked = machine_server.asked[0]
    assert asked.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert "Authorization" not in asked.headers
    assertion = assertion_of(asked)
    claims = jwt.decode(
        assertion,
        key("P-256").public_key(),
        algorithms=["ES256"],
        audience=machine_server.url + TOKEN_PATH,
        options={"verify_exp": False, "verify_iat": False},
    )
    assert (claims["iss"], claims["iat"]) == ("client-canary", 1_800_000_000)
    assert jwt.get_unverified_header(assertion)["kid"] == "certificate-canary"


def test_nothing_is_sent_before_the_first_query(machine_server: MachineServer, make_machine: MakeMachine) -> None:
    make_machine()
    assert machine_server.asked == []


def test_threads_that_start_at_once_share_one_token(machine_server: MachineServer, make_machine: MakeMachine) -> None:
    client = make_machine(settings={"concurrency": 8})
    start = threading.Barrier(8)

    def ask(_: int) -> bytes:
        start.wait(30)
        return client.query(SQL)

    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(ask, range(8)))) == 8
    assert machine_server.sent.count("TOKEN") == 1
    assert machine_server.sent.count("token-1") == 8


def test_a_token_is_renewed_before_it_ends(machine_server: MachineServer, make_machine: MakeMachine) -> None:
    now = [0.0]
    client = make_machine(monotonic=lambda: now[0])
    client.query(SQL)
    now[0] = 3530.0
    client.query(SQL)
    now[0] = 3541.0
    client.query(SQL)
    assert machine_server.sent == ["TOKEN", "token-1", "token-1", "TOKEN", "token-2"]


@pytest.mark.parametrize(
    ("expires_in", "renewed_after"),
    [("600", 540.0), (600.0, 540.0), (None, 3540.0), ("soon", 3540.0), (-1, 3540.0), (0, 3540.0), ([], 3540.0)],
)
def test_a_lifetime_is_taken_as_a_number_or_in_quotes_else_as_documented(
    machine_server: MachineServer, make_machine: MakeMachine, expires_in: object, renewed_after: float
) -> None:
    machine_server.expires_in = expires_in
    now = [0.0]
    client = make_machine(monotonic=lambda: now[0])
    for moment in (0.0, renewed_after - 1, renewed_after + 1):
        now[0] = moment
        client.query(SQL)
    assert machine_server.sent == ["TOKEN", "token-1", "token-1", "TOKEN", "token-2"]


def test_a_password_in_netrc_is_not_sent_to_the_token_endpoint(
    machine_server: MachineServer, make_machine: MakeMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    make_machine().query(SQL)
    assert "Authorization" not in machine_server.asked[0].headers


# --- a 401 on a query -------------------------------------------------------------------------------------------


def test_a_revoked_token_costs_one_renewal_and_one_request_more(
    machine_server: MachineServer, make_machine: MakeMachine, slept: list[float]
) -> None:
    machine_server.queries = [page, TOKEN_OVER, page]
    client = make_machine()
    for _ in range(3):
        assert json.loads(client.query(SQL)) == PAGE
    assert machine_server.sent == ["TOKEN", "token-1", "token-1", "TOKEN", "token-2", "token-2"]
    assert slept == []
    names = {jwt.decode(assertion_of(asked), options={"verify_signature": False})["jti"]
             for asked in machine_server.asked if asked.path == TOKEN_PATH}  # fmt: skip
    assert len(names) == 2


def test_a_token_revoked_under_all_threads_is_renewed_once_and_all_go_on(
    machine_server: MachineServer, make_machine: MakeMachine
) -> None:
    """All are in flight with the same token, and all get their 401 before any comes back for another."""
    all_there = threading.Barrier(6)

    def over_for_the_first(handler: Handler) -> None:
        if handler.asked.headers["Authorization"] == "Bearer token-1":
            all_there.wait(30)
            TOKEN_OVER(handler)
        else:
            page(handler)

    machine_server.queries = [over_for_the_first]
    client = make_machine(settings={"concurrency": 6})
    with ThreadPoolExecutor(6) as pool:
        bodies = list(pool.map(lambda _: client.query(SQL), range(6)))
    assert [json.loads(body) for body in bodies] == [PAGE] * 6
    assert machine_server.sent.count("TOKEN") == 2
    assert machine_server.sent.count("token-1") == machine_server.sent.count("token-2") == 6


def test_the_request_that_decides_has_a_token_of_its_own_at_every_try(
    machine_server: MachineServer, make_machine: MakeMachine
) -> None:
    machine_server.queries = [TOKEN_OVER, reply(503, b"", "text/html"), page]
    make_machine().query(SQL)
    assert machine_server.sent == ["TOKEN", "token-1", "TOKEN", "token-2", "TOKEN", "token-3"]


def test_a_second_401_with_a_fresh_token_refuses_the_login_for_good(
    machine_server: MachineServer, make_machine: MakeMachine
) -> None:
    machine_server.queries = [TOKEN_OVER]
    client = make_machine()
    for _ in range(3):
        with pytest.raises(LoginRefused, match=r"refused the login \(401\): Invalid login attempt"):
            client.query(SQL)
    assert machine_server.sent == ["TOKEN", "token-1", "TOKEN", "token-2"]


def test_a_401_after_the_tokens_time_is_no_word_about_the_login(
    machine_server: MachineServer, make_machine: MakeMachine, slept: list[float]
) -> None:
    """However often a slow service looks at a token too late, the login stands."""
    now = [0.0]

    def slow(handler: Handler) -> None:
        now[0] += 3600.0
        TOKEN_OVER(handler)

    machine_server.queries = [slow, slow, slow, page]
    client = make_machine(monotonic=lambda: now[0], request_timeout_seconds=100_000.0)
    assert json.loads(client.query(SQL)) == PAGE
    assert machine_server.sent == [part for n in range(1, 5) for part in ("TOKEN", f"token-{n}")]
    assert len(slept) == 3
    machine_server.queries = [slow]
    with pytest.raises(SourceDown, match="after the access token's time was up"):
        client.query(SQL)


# --- the token endpoint refuses, or is not there ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (oauth_error("invalid_grant"), r"no access token \(400\): invalid_grant"),
        (oauth_error("invalid_client"), r"no access token \(400\): invalid_client"),
        (oauth_error("invalid_client", 401), r"no access token \(401\): invalid_client"),
        (reply(400, b'{"error": "invalid_grant", "error_description": "cert\\u001b expired"}'), "grant: cert expired"),
        (reply(404, b"<html>", "text/html"), r"\(404\): no reason given"),
        (reply(400, b'{"error": 5}'), r"\(400\): no reason given"),
        (reply(400, b"[]"), r"\(400\): no reason given"),
        (LOGIN_REFUSED, r"\(401\): Invalid login attempt"),
    ],
)
def test_a_refused_assertion_is_a_refused_login_after_a_second_one_for_good(
    machine_server: MachineServer, make_machine: MakeMachine, answer: Step, words: str
) -> None:
    machine_server.grants = [answer]
    client = make_machine()
    for _ in range(3):
        with pytest.raises(LoginRefused, match=words) as raised:
            client.query(SQL)
    assert machine_server.sent == ["TOKEN", "TOKEN"]
    for cause in ("certificate_id", "expired", "clock", "algorithm", "role", "Login Audit Trail"):
        assert cause in (raised.value.help or "")


def test_threads_that_wait_for_a_token_that_is_refused_cost_two_requests_in_all(
    machine_server: MachineServer, make_machine: MakeMachine
) -> None:
    machine_server.grants = [oauth_error("invalid_grant")]
    client = make_machine(settings={"concurrency": 6})
    start = threading.Barrier(6)

    def ask(_: int) -> str:
        start.wait(30)
        with pytest.raises(LoginRefused) as raised:
            client.query(SQL)
        return type(raised.value).__name__

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(ask, range(6))) == ["LoginRefused"] * 6
    # One that comes when the first errand is over asks by itself; then the lone one decides for all.
    assert 2 <= len(machine_server.sent) <= 7
    assert set(machine_server.sent) == {"TOKEN"}


def test_an_assertion_that_is_refused_once_costs_one_more(
    machine_server: MachineServer, make_machine: MakeMachine, slept: list[float]
) -> None:
    machine_server.grants = [oauth_error("invalid_grant"), machine_server.grant]
    assert json.loads(make_machine().query(SQL)) == PAGE
    assert machine_server.sent == ["TOKEN", "TOKEN", "token-2"]
    assert slept == []


@pytest.mark.parametrize(
    ("fault", "error", "requests"),
    [
        (TOO_MANY, RateLimited, 5),
        (BROKEN, SourceDown, 5),
        (reply(503, b"", "text/html"), SourceDown, 5),
        (reset, SourceDown, 5),
        (truncated, GarbledReply, 5),
        (MAINTENANCE, GarbledReply, 5),
        (reply(200, b"{}"), GarbledReply, 5),
        (reply(200, b'{"access_token": "a\\r\\nX-Injected: b"}'), GarbledReply, 5),
        (reply(200, b'{"access_token": "a", "token_type": "mac"}'), GarbledReply, 5),
        (reply(200, b"[" * 50_000 + b"}"), GarbledReply, 5),
        (reply(302, b"", Location="https://attacker.example/"), BadReply, 1),
        (reply(407, b"", "text/html"), BadReply, 1),
    ],
    ids=["429", "500", "503", "reset", "cut", "html", "empty", "header", "kind", "deep", "redirect", "proxy"],
)
def test_a_fault_of_the_token_endpoint_has_the_class_and_the_attempts_of_a_querys(
    machine_server: MachineServer, make_machine: MakeMachine, fault: Step, error: type[WaveImportError], requests: int
) -> None:
    machine_server.grants = [fault]
    client = make_machine()
    with pytest.raises(WaveImportError) as raised:
        client.query(SQL)
    assert type(raised.value) is error
    assert machine_server.sent == ["TOKEN"] * requests
    assert client.health.requests == requests
    assert client.health.failing_since is not None
    machine_server.grants = [machine_server.grant]
    client.query(SQL)
    assert client.health.failing_since is None


def test_a_token_too_large_is_not_read(machine_server: MachineServer, make_machine: MakeMachine) -> None:
    machine_server.grants = [reply(200, b"{" + b" " * 100_000 + b"}")]
    with pytest.raises(BadReply, match="larger than 65536 bytes"):
        make_machine(max_reply_bytes=65_536).query(SQL)


def test_a_429_for_a_token_lowers_the_bound(machine_server: MachineServer, make_machine: MakeMachine) -> None:
    machine_server.grants = [TOO_MANY, machine_server.grant]
    client = make_machine()
    client.query(SQL)
    assert client.limit < 5


def test_stop_ends_the_request_for_a_token_and_all_who_wait_for_it(
    machine_server: MachineServer, make_machine: MakeMachine
) -> None:
    arrived, gone = threading.Event(), threading.Event()

    def hang(handler: Handler) -> None:
        arrived.set()
        gone.wait(30)
        handler.close_connection = True

    machine_server.grants = [hang]
    client = make_machine(settings={"concurrency": 4})

    def ask(_: int) -> str:
        with pytest.raises(Stopped):
            client.query(SQL)
        return "stopped"

    with ThreadPoolExecutor(4) as pool:
        ends = [pool.submit(ask, number) for number in range(4)]
        assert arrived.wait(30)
        client.stop()
        assert [end.result(30) for end in ends] == ["stopped"] * 4
    gone.set()
    assert machine_server.sent == ["TOKEN"]


def test_stop_ends_the_wait_for_a_token_while_its_request_cannot_be_ended(
    make_machine: MakeMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As while a connection is being made, which may take half a minute."""
    arrived, let_go = threading.Event(), threading.Event()

    def connecting(*_: object) -> NoReturn:
        arrived.set()
        assert let_go.wait(30)
        raise SourceDown("never reached")

    client = make_machine(settings={"concurrency": 2})
    monkeypatch.setattr(client._login, "_send", connecting)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(client.query, SQL)
        assert arrived.wait(30)
        second = pool.submit(client.query, SQL)
        while client.in_flight < 2:
            time.sleep(0.002)  # a thread that waits tells nobody
        client.stop()
        with pytest.raises(Stopped):
            second.result(30)
        assert not first.done()
        let_go.set()
        with pytest.raises(Stopped):
            first.result(30)


# --- secrets, and what cannot log in --------------------------------------------------------------------------------


def test_neither_key_nor_assertion_nor_token_is_logged(
    machine_server: MachineServer, make_machine: MakeMachine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    machine_server.queries = [page, TOKEN_OVER, page]
    machine_server.grants = [oauth_error("invalid_grant"), machine_server.grant]
    client = make_machine()
    client.query(SQL)
    client.query(SQL)
    assert "invalid_grant" in caplog.text
    secrets = [*pem("P-256").splitlines()[1:-1], "token-2", "token-3", "client-canary", "certificate-canary"]
    secrets += [assertion_of(asked) for asked in machine_server.asked if asked.path == TOKEN_PATH]
    for secret in secrets:
        assert secret not in caplog.text


def test_the_key_is_in_no_representation(make_machine: MakeMachine) -> None:
    settings = NetSuiteSettings("1", "https://h", auth="m2m", private_key=pem("P-256"))
    for shown in (repr(settings), repr(make_machine()), repr(make_machine()._login.__dict__)):
        for line in pem("P-256").splitlines():
            assert line not in shown


@pytest.mark.parametrize("name", ["client_id", "certificate_id", "private_key"])
def test_an_empty_credential_is_refused_at_once(make_machine: MakeMachine, name: str) -> None:
    with pytest.raises(BadSecret, match=f"{name} is empty"):
        make_machine(settings={name: ""})


def test_a_key_of_another_kind_is_refused_at_once(make_machine: MakeMachine) -> None:
    with pytest.raises(BadValue, match="EC P-256, and PS256 signs with RSA"):
        make_machine(settings={"algorithm": "PS256"})


def test_whoever_logs_in_by_token_does_not_pay_for_the_libraries_of_keys() -> None:
    script = (
        "import sys\n"
        "from waveimport.core.settings import NetSuiteSettings\n"
        "from waveimport.netsuite.client import SuiteQLClient\n"
        "import waveimport.runtime.config\n"
        "keys = dict.fromkeys(('consumer_key', 'consumer_secret', 'token_id', 'token_secret'), 'x')\n"
        "settings = NetSuiteSettings('1', 'http://127.0.0.1:1', **keys)\n"
        "SuiteQLClient(settings, request_timeout_seconds=1, epoch_seconds=lambda: 0.0)\n"
        "print(sorted({'jwt', 'cryptography'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
