"""The client against a scripted server: each fault of the network and the service is one script."""

import gzip
import json
import logging
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from types import SimpleNamespace
from urllib.parse import unquote, urlsplit

import pytest
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
    chunked,
    cut_without_length,
    page,
    refusal,
    reply,
    reset,
    truncated,
)
from oauthlib.common import urldecode
from oauthlib.oauth1.rfc5849 import signature
from oauthlib.oauth1.rfc5849.utils import parse_authorization_header

from waveimport.errors import (
    BadReply,
    BadSecret,
    BadValue,
    CatalogueRefused,
    GarbledReply,
    LoginRefused,
    QueryRefused,
    RateLimited,
    ServerFault,
    SourceDown,
    Stopped,
    TableRefused,
    WaveImportError,
)
from waveimport.log_fields import bound, fields
from waveimport.netsuite.client import SUITEQL_PATH, SuiteQLClient

MakeClient = Callable[..., SuiteQLClient]
SQL = "SELECT t.id FROM customer t ORDER BY t.id"


def oauth_parameters(asked: Asked) -> dict[str, str]:
    return dict(parse_authorization_header(asked.headers["Authorization"]))


def assert_signed(server: ScriptedServer, asked: Asked) -> None:
    """Check the signature with oauthlib's server side, over the URL with its query and without the body."""
    given = oauth_parameters(asked)
    url = server.url + asked.path
    parameters = [(name, value) for name, value in given.items() if name not in ("realm", "oauth_signature")]
    parameters += urldecode(asked.path.partition("?")[2])
    request = SimpleNamespace(
        http_method=asked.method, uri=url, params=parameters, signature=unquote(given["oauth_signature"])
    )
    assert given["realm"] == "1234567_SB1"
    assert given["oauth_signature_method"] == "HMAC-SHA256"
    assert signature.verify_hmac_sha256(request, "consumer-secret-canary", "token-secret-canary")


def assert_each_attempt_is_signed_anew(server: ScriptedServer) -> None:
    for asked in server.asked:
        assert_signed(server, asked)
    nonces = [oauth_parameters(asked)["oauth_nonce"] for asked in server.asked]
    signatures = [oauth_parameters(asked)["oauth_signature"] for asked in server.asked]
    assert len(set(nonces)) == len(set(signatures)) == len(server.asked)


# --- one request ------------------------------------------------------------------------------------------------


def test_a_query_is_one_signed_post_that_returns_the_body(server: ScriptedServer, make_client: MakeClient) -> None:
    body = make_client().query(SQL, limit=500, offset=1000)
    assert json.loads(body) == PAGE
    [asked] = server.asked
    assert asked.path == "/services/rest/query/v1/suiteql?limit=500&offset=1000"
    assert json.loads(asked.body) == {"q": SQL}
    assert asked.headers["Prefer"] == "transient"
    assert asked.headers["Content-Type"] == "application/json"
    assert_signed(server, asked)


def test_a_wrong_secret_does_not_pass_the_check_of_signatures(server: ScriptedServer, make_client: MakeClient) -> None:
    make_client().query(SQL)
    given = oauth_parameters(server.asked[0])
    parameters = [(name, value) for name, value in given.items() if name not in ("realm", "oauth_signature")]
    parameters += urldecode(server.asked[0].path.partition("?")[2])
    request = SimpleNamespace(
        http_method="POST",
        uri=server.url + server.asked[0].path,
        params=parameters,
        signature=unquote(given["oauth_signature"]),
    )
    assert not signature.verify_hmac_sha256(request, "consumer-secret-canary", "another")


def test_a_thread_keeps_its_connection(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script = [page, chunked([json.dumps(PAGE).encode()]), page]
    client = make_client()
    for _ in range(3):
        client.query(SQL)
    assert len({asked.client for asked in server.asked}) == 1


def test_a_cookie_is_not_sent_back(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script = [reply(200, json.dumps(PAGE).encode(), Set_Cookie="NS_ROUTING=1; Path=/")]
    client = make_client()
    client.query(SQL)
    client.query(SQL)
    assert "Cookie" not in server.asked[1].headers


@pytest.mark.parametrize(("limit", "offset"), [(0, 0), (1001, 0), (1000, 500), (10, -10)])
def test_a_page_beyond_the_services_rules_is_not_asked_for(
    server: ScriptedServer, make_client: MakeClient, limit: int, offset: int
) -> None:
    with pytest.raises(ValueError, match="limit"):
        make_client().query(SQL, limit=limit, offset=offset)
    assert not server.asked


def test_a_gzipped_page_is_unpacked(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script = [reply(200, gzip.compress(json.dumps(PAGE).encode()), Content_Encoding="gzip")]
    assert json.loads(make_client().query(SQL)) == PAGE


# --- faults that pass -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault",
    [
        TOO_MANY,
        BROKEN,
        MAINTENANCE,
        reset,
        truncated,
        cut_without_length,
        reply(502, b"<html>", "text/html"),
        reply(503, b"", "text/html"),
        reply(504, b"", "text/html"),
        reply(200, b"not gzip at all}", Content_Encoding="gzip"),
        reply(200, gzip.compress(json.dumps(PAGE).encode())[:-12], Content_Encoding="gzip"),
        reply(200, gzip.compress(json.dumps(PAGE).encode())[:-4], Content_Encoding="gzip"),
        reply(200, b"{}", Content_Encoding="br"),
        reply(200, json.dumps(PAGE).encode(), "text/html"),
    ],
    ids=[
        "429",
        "500",
        "html",
        "reset",
        "truncated",
        "cut",
        "502",
        "503",
        "504",
        "no gzip",
        "half a gzip",
        "gzip without end",
        "brotli",
        "no json",
    ],
)
def test_a_passing_fault_is_asked_again_with_a_fresh_signature(
    server: ScriptedServer, make_client: MakeClient, slept: list[float], fault: Step
) -> None:
    server.script = [fault, page]
    client = make_client()
    assert json.loads(client.query(SQL)) == PAGE
    assert len(server.asked) == 2
    assert_each_attempt_is_signed_anew(server)
    assert len(slept) == 1
    assert client.health.requests == 2
    assert client.health.retries == 1
    assert client.health.failing_since is None


@pytest.mark.parametrize(
    ("fault", "error", "requests"),
    [
        (TOO_MANY, RateLimited, 5),
        (BROKEN, ServerFault, 3),
        (MAINTENANCE, GarbledReply, 5),
        (reset, SourceDown, 5),
        (truncated, GarbledReply, 5),
        (cut_without_length, GarbledReply, 5),
        (reply(503, b"", "text/html"), SourceDown, 5),
        (reply(302, b"", Location="http://127.0.0.1:9/elsewhere"), BadReply, 1),
        (reply(307, b"", Location="https://attacker.example/"), BadReply, 1),
        (refusal(404, "no such resource", "NONEXISTENT"), QueryRefused, 1),
        (reply(407, b"", "text/html"), BadReply, 1),
        (refusal(403, "no", "INSUFFICIENT_PERMISSION"), LoginRefused, 1),
        (refusal(400, "Your current role does not have permission to do this.", "USER_ERROR"), LoginRefused, 1),
    ],
)
def test_a_fault_that_stays_becomes_its_error_after_its_attempts(
    server: ScriptedServer, make_client: MakeClient, fault: Step, error: type[WaveImportError], requests: int
) -> None:
    server.script = [fault]
    with pytest.raises(WaveImportError) as raised:
        make_client().query(SQL)
    assert type(raised.value) is error
    assert len(server.asked) == requests
    assert_each_attempt_is_signed_anew(server)


def test_delays_grow_and_are_jittered(server: ScriptedServer, make_client: MakeClient, slept: list[float]) -> None:
    server.script = [TOO_MANY]
    fractions = iter([0.5, 0.25, 1.0, 0.75, 0.0])  # the last is drawn, but not slept
    with pytest.raises(RateLimited):
        make_client(random=lambda: next(fractions)).query(SQL)
    assert slept == [0.5 * 0.5, 0.25 * 1, 1.0 * 2, 0.75 * 4]


def test_retry_after_is_honoured_and_bounded(
    server: ScriptedServer, make_client: MakeClient, slept: list[float]
) -> None:
    def with_date(handler: Handler) -> None:
        handler.send_response_only(503)
        handler.send_header("Date", "Mon, 23 Nov 2026 06:00:00 GMT")
        handler.send_header("Retry-After", "Mon, 23 Nov 2026 06:00:20 GMT")
        handler.send_header("Content-Length", "0")
        handler.end_headers()

    limited = refusal(429, "Concurrent request limit exceeded.", "USER_ERROR", Retry_After="7")
    endless = refusal(429, "Concurrent request limit exceeded.", "USER_ERROR", Retry_After="86400")
    server.script = [limited, with_date, endless, page]
    make_client(random=lambda: 0.5).query(SQL)
    assert slept == [7.25, 20.25, 300.25]


def test_no_slot_is_held_while_waiting_to_ask_again(server: ScriptedServer, make_client: MakeClient) -> None:
    in_flight: list[int] = []
    server.script = [TOO_MANY, page]
    client = make_client(concurrency=1, sleep=lambda _: in_flight.append(client.in_flight))
    client.query(SQL)
    assert in_flight == [0]


# --- refusals ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("detail", "error"),
    [
        ("Invalid search query. Search error occurred: Unknown identifier 'subsidiary'.", TableRefused),
        ("Invalid search query. Search error occurred: Invalid search type: nosuchtable.", TableRefused),
        ("Invalid search query. Search error occurred: Record 'customer' was not found.", TableRefused),
        ("Invalid search query. Search error occurred: Field 'custbody_x' for record 'transaction'", TableRefused),
        ("Invalid search query. Search error occurred: Invalid or unsupported search.", QueryRefused),
    ],
)
def test_a_refused_query_carries_the_services_own_words(
    server: ScriptedServer, make_client: MakeClient, detail: str, error: type[WaveImportError]
) -> None:
    server.script = [refusal(400, detail, "INVALID_PARAMETER")]
    client = make_client()
    with pytest.raises(QueryRefused) as raised:
        client.query(SQL)
    assert type(raised.value) is error
    assert detail in raised.value.message
    if error is TableRefused:
        assert "misspelt" in raised.value.message
        assert "hidden from the role" in raised.value.message
    assert len(server.asked) == 1
    assert client.health.failing_since is None


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"null", b'{"o:errorDetails": 5}', b"[" * 60_000, b"\xff\xfe"])
def test_an_error_without_an_envelope_is_still_a_sentence(
    server: ScriptedServer, make_client: MakeClient, body: bytes
) -> None:
    server.script = [reply(400, body, "text/html")]
    with pytest.raises(QueryRefused, match="no reason given"):
        make_client().query(SQL)


@pytest.mark.parametrize("size", [30_000, 1_000_000])
def test_an_error_of_any_size_is_a_short_sentence(server: ScriptedServer, make_client: MakeClient, size: int) -> None:
    server.script = [refusal(400, "x" * size, "INVALID_PARAMETER")]
    with pytest.raises(QueryRefused) as raised:
        make_client().query(SQL)
    assert len(raised.value.message) < 1000


# --- limits -----------------------------------------------------------------------------------------------------


def test_a_body_over_the_limit_is_refused_before_it_is_read(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script = [reply(200, b"{" + b" " * 100_000 + b"}")]
    with pytest.raises(BadReply, match="larger than 65536 bytes"):
        make_client(max_reply_bytes=65_536).query(SQL)
    assert len(server.asked) == 1


def test_a_body_that_is_announced_to_be_over_the_limit_is_not_waited_for(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    def announced(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", "100000")
        handler.end_headers()
        handler.rfile.read(1)  # until the client leaves
        handler.close_connection = True

    server.script = [announced]
    with pytest.raises(BadReply, match="larger than 65536 bytes"):
        make_client(max_reply_bytes=65_536, request_timeout_seconds=5.0, attempts=1).query(SQL)


def test_a_chunked_body_over_the_limit_is_refused(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script = [chunked([b"{" + b" " * 40_000, b" " * 40_000 + b"}"])]
    with pytest.raises(BadReply, match="larger than 65536 bytes"):
        make_client(max_reply_bytes=65_536).query(SQL)


def test_a_body_at_the_limit_is_taken(server: ScriptedServer, make_client: MakeClient) -> None:
    body = b"{" + b" " * 998 + b"}"
    server.script = [reply(200, body), chunked([body]), reply(200, gzip.compress(body), Content_Encoding="gzip")]
    client = make_client(max_reply_bytes=1000)
    assert [client.query(SQL) for _ in range(3)] == [body] * 3


def test_a_gzip_bomb_is_not_unpacked(server: ScriptedServer, make_client: MakeClient) -> None:
    packer = zlib.compressobj(9, wbits=31)
    bomb = packer.compress(b"{") + b"".join(packer.compress(b" " * 1_000_000) for _ in range(300)) + packer.flush()
    unpacked: list[int] = []
    real = zlib.decompressobj

    class Watched:
        def __init__(self, wbits: int) -> None:
            self._inner = real(wbits=wbits)

        def decompress(self, data: bytes, max_length: int = 0) -> bytes:
            part = self._inner.decompress(data, max_length)
            unpacked.append(len(part))
            return part

        @property
        def unconsumed_tail(self) -> bytes:
            return self._inner.unconsumed_tail

        eof = False

    server.script = [reply(200, bomb, Content_Encoding="gzip")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zlib, "decompressobj", Watched)
        with pytest.raises(BadReply, match="larger than"):
            make_client(max_reply_bytes=1_000_000).query(SQL)
    assert sum(unpacked) <= 1_000_001


def test_a_bomb_is_unpacked_in_small_pieces(server: ScriptedServer, make_client: MakeClient) -> None:
    """Unpacked at one go, the limit of one reply would stand in memory three times, and that for each in flight."""
    bomb = gzip.compress(b"{" + b" " * 40_000_000 + b"}")
    server.script = [reply(200, bomb, Content_Encoding="gzip")]
    tracemalloc.start()
    try:
        with pytest.raises(BadReply, match="larger than 20000000 bytes"):
            make_client(max_reply_bytes=20_000_000).query(SQL)
        assert tracemalloc.get_traced_memory()[1] < 30_000_000
    finally:
        tracemalloc.stop()


def test_what_stands_behind_the_end_of_a_compression_is_not_gathered(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    behind = gzip.compress(b"{}") + b" " * 5_000_000
    server.script = [chunked([behind[:100], behind[100:]])]
    server.script[0] = _compressed(server.script[0])
    with pytest.raises(GarbledReply, match="goes on behind the end of its compression"):
        make_client(attempts=1).query(SQL)


def _compressed(step: Step) -> Step:
    """Have an answer say that it is gzip."""

    def compressed(handler: Handler) -> None:
        headers = handler.end_headers

        def end_headers() -> None:
            handler.send_header("Content-Encoding", "gzip")
            headers()

        handler.end_headers = end_headers
        step(handler)

    return compressed


@pytest.mark.parametrize("length", ["9" * 18, "9" * 5000])
def test_an_absurd_length_is_an_error_of_the_source(
    server: ScriptedServer, make_client: MakeClient, length: str
) -> None:
    def absurd(handler: Handler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", length)
        handler.end_headers()
        handler.wfile.write(b"{")
        handler.close_connection = True

    server.script = [absurd]
    with pytest.raises(BadReply):
        make_client(attempts=1).query(SQL)


def test_an_answer_that_never_came_is_told_apart_from_what_was_asked_before(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    """A request may be sent while another's error is dealt with, and Python then hangs the one on the other."""

    def closed(handler: Handler) -> None:
        handler.close_connection = True

    server.script = [truncated, closed]
    client = make_client(attempts=1)
    try:
        client.query(SQL)
    except GarbledReply:
        with pytest.raises(SourceDown) as raised:
            client.query(SQL)
    assert raised.value.message == "127.0.0.1 could not be reached: the connection was closed without an answer"


def test_the_body_of_a_redirect_is_not_waited_for(server: ScriptedServer, make_client: MakeClient) -> None:
    answered = threading.Event()
    ended = threading.Event()
    left_in_time: list[bool] = []

    def endless(handler: Handler) -> None:
        handler.send_response(302)
        handler.send_header("Location", "/elsewhere")
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        left_in_time.append(answered.wait(5))
        handler.close_connection = True
        ended.set()

    server.script = [endless]
    with pytest.raises(BadReply, match="redirect"):
        make_client().query(SQL)
    answered.set()
    assert ended.wait(10)
    assert left_in_time == [True]


@pytest.mark.parametrize("where", ["headers", "body", "error"])
def test_a_dripping_server_is_cut_at_the_deadline(server: ScriptedServer, make_client: MakeClient, where: str) -> None:
    # The client's clock goes on each time it is read, and each reading lets the server send one more byte.
    readings = threading.Semaphore(0)
    gone = threading.Event()
    now = [0.0]

    def monotonic() -> float:
        now[0] += 0.7  # so that nothing is ever left to the exact second
        readings.release()
        return now[0]

    def drip(handler: Handler) -> None:
        status = b"503 Down" if where == "error" else b"200 OK"
        head = b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\nContent-Length: 100000\r\nX-Long: "
        handler.wfile.write(head if where == "headers" else head + b"x\r\n\r\n")
        while not gone.is_set() and readings.acquire(timeout=5):
            handler.wfile.write(b"x")
        handler.close_connection = True

    server.script = [drip]
    client = make_client(monotonic=monotonic, request_timeout_seconds=500.0, attempts=1)
    try:
        # An error's status is known although its body does not end, so less time is given to it.
        expected = r"not available \(503\)" if where == "error" else "did not answer completely within 500 s"
        with pytest.raises(SourceDown, match=expected):
            client.query(SQL)
    finally:
        gone.set()
        readings.release()
    assert (30 if where == "error" else 500) <= now[0] < (100 if where == "error" else 600)


def test_a_refused_connection_names_the_host_and_no_secret(make_client: MakeClient) -> None:
    with pytest.raises(SourceDown) as raised:
        make_client(base_url="http://127.0.0.1:1").query(SQL)
    assert raised.value.message == "127.0.0.1 could not be reached: Connection refused"


# --- the login --------------------------------------------------------------------------------------------------


def test_a_401_that_passes_costs_one_request_more(
    server: ScriptedServer, make_client: MakeClient, slept: list[float]
) -> None:
    server.script = [LOGIN_REFUSED, page]
    client = make_client()
    assert json.loads(client.query(SQL)) == PAGE
    assert len(server.asked) == 2
    assert slept == []
    assert_each_attempt_is_signed_anew(server)


def test_a_second_401_refuses_the_login_for_good(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script = [LOGIN_REFUSED, LOGIN_REFUSED, page]
    client = make_client()
    for _ in range(3):
        with pytest.raises(LoginRefused, match="Invalid login attempt"):
            client.query(SQL)
    assert len(server.asked) == 2


def test_a_401_whose_body_is_broken_is_still_a_401(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script = [reply(401, b"no gzip", Content_Encoding="gzip", WWW_Authenticate="OAuth error=token_rejected")]
    with pytest.raises(LoginRefused, match="token_rejected"):
        make_client().query(SQL)
    assert len(server.asked) == 2


def test_a_lone_request_that_ends_otherwise_leaves_the_login_in_doubt(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    server.script = [LOGIN_REFUSED, TOO_MANY, reset, LOGIN_REFUSED, page]
    client = make_client()
    with pytest.raises(LoginRefused):
        client.query(SQL)
    assert len(server.asked) == 4


def in_threads(count: int, client: SuiteQLClient) -> list[object]:
    """Query from `count` threads at once; return each one's body or error."""
    outcomes: list[object] = []

    def run() -> None:
        try:
            outcomes.append(client.query(SQL))
        except WaveImportError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads)
    return outcomes


@pytest.mark.parametrize("accepted", [True, False])
def test_after_a_401_one_lone_request_decides_for_all_threads(
    server: ScriptedServer, make_client: MakeClient, accepted: bool
) -> None:
    first = threading.Barrier(4)
    in_flight = [0]
    seen_by_the_lone: list[int] = []

    def refuse_all_four(handler: Handler) -> None:
        with server.lock:
            in_flight[0] += 1
        first.wait(10)
        with server.lock:
            in_flight[0] -= 1
        LOGIN_REFUSED(handler)

    def lone(handler: Handler) -> None:
        with server.lock:
            seen_by_the_lone.append(in_flight[0])
        (page if accepted else LOGIN_REFUSED)(handler)

    server.script = [refuse_all_four] * 4 + [lone, page]
    outcomes = in_threads(8, make_client(concurrency=4))
    assert seen_by_the_lone == [0]
    if accepted:
        assert [json.loads(outcome) for outcome in outcomes] == [PAGE] * 8
        assert len(server.asked) == 4 + 8
    else:
        assert [type(outcome) for outcome in outcomes] == [LoginRefused] * 8
        assert len(server.asked) == 4 + 1
    assert_each_attempt_is_signed_anew(server)


# --- the bound and the stop -------------------------------------------------------------------------------------


def test_no_more_than_the_limit_are_in_flight(server: ScriptedServer, make_client: MakeClient) -> None:
    together = threading.Barrier(3)
    in_flight = [0]
    most = [0]

    def measured(handler: Handler) -> None:
        with server.lock:
            in_flight[0] += 1
            most[0] = max(most[0], in_flight[0])
        together.wait(10)  # three are there at once: the bound is used in full
        with server.lock:
            in_flight[0] -= 1
        page(handler)

    server.script = [measured]
    client = make_client(concurrency=3)
    assert client.limit == 3
    assert len(in_threads(12, client)) == 12
    assert most == [3]


def test_stop_ends_a_wait_between_attempts_at_once(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script = [refusal(429, "Concurrent request limit exceeded.", "USER_ERROR", Retry_After="300")]
    client = make_client(sleep=None)
    original = client._halted.wait
    waiting = threading.Event()

    def wait(seconds: float) -> bool:
        waiting.set()
        return original(seconds)

    client._halted.wait = wait
    stopper = threading.Thread(target=lambda: (waiting.wait(10), client.stop()))
    stopper.start()
    with pytest.raises(Stopped):
        client.query(SQL)
    stopper.join(10)
    assert len(server.asked) == 1


def test_stop_ends_a_wait_for_a_slot_and_a_request_in_flight(server: ScriptedServer, make_client: MakeClient) -> None:
    arrived = threading.Event()
    gone = threading.Event()

    def hang(handler: Handler) -> None:
        arrived.set()
        gone.wait(60)

    server.script = [hang]
    client = make_client(concurrency=1, request_timeout_seconds=600.0)
    stopper = threading.Thread(target=lambda: (arrived.wait(10), client.stop()))
    stopper.start()
    try:
        outcomes = in_threads(3, client)
    finally:
        gone.set()
    stopper.join(10)
    assert [type(outcome) for outcome in outcomes] == [Stopped] * 3
    assert len(server.asked) == 1


def test_a_stopped_client_asks_nothing(server: ScriptedServer, make_client: MakeClient) -> None:
    client = make_client()
    client.close()
    with pytest.raises(Stopped):
        client.query(SQL)
    assert not server.asked


def test_a_429_lowers_the_bound_and_answers_raise_it_again(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script = [TOO_MANY, page]
    client = make_client(concurrency=5)
    client.query(SQL)
    assert client.limit == 3
    for _ in range(80):
        client.query(SQL)
    assert client.limit == 5


# --- what it tells ----------------------------------------------------------------------------------------------


def test_failing_since_is_the_first_failure_after_the_last_answer(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    now = [100.0]
    server.script = [page, TOO_MANY, reply(503, b""), page]
    seen: list[float | None] = []

    def sleep(_: float) -> None:
        seen.append(client.health.failing_since)
        now[0] += 10

    client = make_client(monotonic=lambda: now[0], sleep=sleep)
    client.query(SQL)
    now[0] = 105.0
    client.query(SQL)
    assert seen == [105.0, 105.0]
    assert client.health.failing_since is None
    assert client.health.last_success == 125.0
    assert client.health.rate_limited == 1
    assert client.health.requests == 4
    assert client.health.retries == 2


def test_a_stop_says_nothing_of_the_source(server: ScriptedServer, make_client: MakeClient) -> None:
    server.script = [TOO_MANY]
    now = [7.0]
    client = make_client(monotonic=lambda: now[0], sleep=lambda _: client.stop())
    with pytest.raises(Stopped):
        client.query(SQL)
    assert client.health.failing_since == 7.0
    now[0] = 9.0
    with pytest.raises(Stopped):
        client.query(SQL)
    assert client.health.failing_since == 7.0


def test_clock_skew_is_told_from_the_date_of_the_last_reply(server: ScriptedServer, make_client: MakeClient) -> None:
    def dated(handler: Handler) -> None:
        body = json.dumps(PAGE).encode()
        handler.send_response_only(200)
        handler.send_header("Date", "Mon, 23 Nov 2026 06:00:00 GMT")
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    server.script = [dated]
    now = [50.0]
    client = make_client(monotonic=lambda: now[0])
    assert client.clock_skew_seconds(0.0) is None
    client.query(SQL)
    now[0] = 60.0  # ten seconds later
    six_o_clock = 1_795_413_600.0
    assert client.clock_skew_seconds(six_o_clock + 10.5) == 0
    assert client.clock_skew_seconds(six_o_clock + 310.5) == 300


def test_no_secret_is_logged_whatever_the_level(
    server: ScriptedServer, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="waveimport")
    server.script = [TOO_MANY, reset, page]
    make_client().query("SELECT secretcolumn FROM customer")
    assert "Concurrent request limit exceeded" in caplog.text
    for secret in ("secret-canary", "oauth_signature", "consumer-key", "token-id", "secretcolumn"):
        assert secret not in caplog.text


def test_each_request_has_an_id_of_its_own_that_its_lines_bear(
    server: ScriptedServer,
    make_client: MakeClient,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG, logger="waveimport")
    bound: list[tuple[str, object]] = []

    def note(record: logging.LogRecord) -> bool:
        if record.name.startswith("waveimport"):
            bound.append((record.getMessage()[:24].strip(), fields().get("request_id")))
        return True

    monkeypatch.setattr(caplog.handler, "filters", [note])
    watched: list[tuple[str, str, str, object]] = []

    @contextmanager
    def watch(request_id: str, method: str, url: str) -> Iterator[Callable[[int], None]]:
        answers: list[int] = []
        try:
            yield answers.append
        finally:
            watched.append((request_id, method, urlsplit(url).path, *answers))

    numbers = count(1)
    operation = reply(200, json.dumps(PAGE).encode(), X_N_OperationId="a8a9294c-680d")
    server.script = [refusal(500, "An unexpected error", "UNEXPECTED_ERROR"), reset, operation]
    make_client(new_request_id=lambda: f"r{next(numbers)}", watch=watch).query("SELECT secretcolumn FROM customer")
    assert bound == [
        ("POST suiteql: 500", "r1"),
        ("NetSuite failed inside (", "r1"),
        ("POST suiteql: SourceDown", "r2"),
        ("127.0.0.1 could not be r", "r2"),
        ("POST suiteql: 200", "r3"),
    ]
    assert watched == [
        ("r1", "POST", SUITEQL_PATH, 500), ("r2", "POST", SUITEQL_PATH), ("r3", "POST", SUITEQL_PATH, 200),
    ]  # fmt: skip
    answered = caplog.records[-1].__dict__
    assert {name: answered[name] for name in ("method", "kind", "status", "rows", "operation_id")} == {
        "method": "POST", "kind": "suiteql", "status": 200, "rows": 1, "operation_id": "a8a9294c-680d",
    }  # fmt: skip
    assert answered["bytes"] == len(json.dumps(PAGE))


def test_the_last_request_is_left_bound_only_for_a_caller_that_asks_for_it(make_client: MakeClient) -> None:
    client = make_client(new_request_id=lambda: "r1")
    client.query(SQL)
    assert "request_id" not in fields()
    with bound(request_id=None):
        client.query(SQL)
        assert fields()["request_id"] == "r1"


def test_an_operation_id_that_is_none_is_not_logged(
    server: ScriptedServer, make_client: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="waveimport")
    server.script = [reply(200, json.dumps(PAGE).encode(), X_N_OperationId="a b")]
    make_client().query(SQL)
    assert "operation_id" not in caplog.records[-1].__dict__


def test_an_empty_credential_or_an_unknown_way_to_log_in_is_refused_at_once(make_client: MakeClient) -> None:
    from waveimport.core.settings import NetSuiteSettings

    def client(**changes: str) -> SuiteQLClient:
        given = dict.fromkeys(("consumer_key", "consumer_secret", "token_id", "token_secret"), "x") | changes
        settings = NetSuiteSettings(account="1", base_url="http://127.0.0.1:1", **given)
        return SuiteQLClient(settings, request_timeout_seconds=1, epoch_seconds=time.time)

    with pytest.raises(BadSecret, match="token_secret is empty"):
        client(token_secret="")
    with pytest.raises(BadValue, match="'kerberos' is not supported"):
        client(auth="kerberos")


# --- the metadata catalogue -------------------------------------------------------------------------------------


def test_the_catalogue_is_asked_by_signed_gets(server: ScriptedServer, make_client: MakeClient) -> None:
    client = make_client()
    assert json.loads(client.catalogue()) == PAGE
    client.catalogue("salesOrder")
    client.catalogue("odd name/?")
    base = "/services/rest/record/v1/metadata-catalog"
    assert [(asked.method, asked.path, asked.headers["Accept"], asked.body) for asked in server.asked] == [
        ("GET", base, "application/json", b""),
        ("GET", f"{base}/salesOrder", "application/schema+json", b""),
        ("GET", f"{base}/odd%20name%2F%3F", "application/schema+json", b""),
    ]
    assert_each_attempt_is_signed_anew(server)


def test_the_catalogue_is_asked_again_like_a_query(
    server: ScriptedServer, make_client: MakeClient, slept: list[float]
) -> None:
    server.script = [TOO_MANY, MAINTENANCE, reset, page]
    client = make_client()
    assert json.loads(client.catalogue("customer")) == PAGE
    assert len(slept) == 3
    assert client.health.requests == 4
    assert_each_attempt_is_signed_anew(server)


@pytest.mark.parametrize("status", [400, 403, 404])
def test_a_catalogue_that_refuses_says_nothing_of_the_login(
    server: ScriptedServer, make_client: MakeClient, status: int
) -> None:
    server.script = [refusal(status, "Permission Violation: you need more.", "INSUFFICIENT_PERMISSION"), page]
    client = make_client()
    with pytest.raises(CatalogueRefused, match="Permission Violation") as caught:
        client.catalogue("customer")
    assert caught.value.exit_code == 3
    assert json.loads(client.query(SQL)) == PAGE
    assert len(server.asked) == 2


def test_a_login_that_the_catalogue_refuses_is_refused_for_queries_too(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    server.script = [LOGIN_REFUSED]
    client = make_client()
    for ask in (client.catalogue, lambda: client.query(SQL)):
        with pytest.raises(LoginRefused):
            ask()
    assert len(server.asked) == 2
