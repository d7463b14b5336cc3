"""The connection over real sockets: TLS and proxies as the environment sets them, and when it is kept."""

import gzip
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from netsuite_certificates import CERTIFICATE, KEY
from netsuite_server import PAGE, Handler, ScriptedServer, page, reply

from waveimport.errors import BadReply, BadValue, GarbledReply, SourceDown, UntrustedServer
from waveimport.netsuite.client import SUITEQL_PATH, SuiteQLClient
from waveimport.netsuite.transport import Connection, Deadline, Headers, header_lines

MakeClient = Callable[..., SuiteQLClient]
SQL = "SELECT t.id FROM customer t ORDER BY t.id"


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    path = tmp_path / "certificate.pem"
    path.write_text(CERTIFICATE)
    return path


@pytest.fixture
def tls_server(tmp_path: Path, certificate: Path) -> Iterator[ScriptedServer]:
    key = tmp_path / "key.pem"
    key.write_text(KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server = ScriptedServer(context)
    yield server
    server.close()


def test_a_certificate_that_nobody_vouches_for_is_refused_without_a_request(
    tls_server: ScriptedServer, make_client: MakeClient, slept: list[float]
) -> None:
    with pytest.raises(UntrustedServer, match=r"certificate of 127\.0\.0\.1 is not accepted: self-signed certificate"):
        make_client(base_url=tls_server.url).query(SQL)
    assert tls_server.asked == []
    assert slept == []


def test_the_bundle_of_the_environment_is_trusted_and_the_connection_kept(
    tls_server: ScriptedServer, make_client: MakeClient, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    large = json.dumps(PAGE | {"padding": "x" * 300_000}).encode()
    tls_server.script = [page, reply(200, large), page]
    client = make_client(base_url=tls_server.url)
    assert [len(client.query(SQL)) for _ in range(3)] == [len(json.dumps(PAGE)), len(large), len(json.dumps(PAGE))]
    assert len({asked.client for asked in tls_server.asked}) == 1


def test_a_certificate_for_another_host_is_refused(
    tls_server: ScriptedServer, make_client: MakeClient, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    elsewhere = tls_server.url.replace("127.0.0.1", "localhost")
    with pytest.raises(UntrustedServer, match="localhost"):
        make_client(base_url=elsewhere).query(SQL)
    assert tls_server.asked == []


def test_the_proxy_of_the_environment_is_used_and_its_password_never_shown(
    server: ScriptedServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handler: Handler) -> None:
        handler.send(403, b"")

    server.script = [refuse]
    monkeypatch.setenv("HTTPS_PROXY", server.url.replace("://", "://user:password-canary@"))
    with pytest.raises(SourceDown) as raised:
        make_client(base_url="https://1234567-sb1.suitetalk.api.netsuite.com", attempts=1).query(SQL)
    [asked] = server.asked
    assert (asked.method, asked.path) == ("CONNECT", "1234567-sb1.suitetalk.api.netsuite.com:443")
    assert "Proxy-Authorization" in asked.headers
    assert "Authorization" not in asked.headers
    assert "canary" not in raised.value.render()
    assert raised.value.message.endswith("through the proxy: Tunnel connection failed: 403 Forbidden")


def carry(handler: Handler, to_port: int | None = None) -> None:
    """Be a proxy: connect to where a CONNECT asks for, and carry bytes both ways until both sides have ended."""
    host, _, port = handler.path.rpartition(":")
    handler.close_connection = True
    with socket.create_connection((host, to_port or int(port))) as there:
        handler.send_response(200)
        handler.end_headers()

        def carry_from(source: socket.socket, sink: socket.socket) -> None:
            while some := source.recv(1 << 16):
                sink.sendall(some)
            with suppress(OSError):  # the other side may have gone altogether
                sink.shutdown(socket.SHUT_WR)

        back = threading.Thread(target=carry_from, args=(there, handler.connection), daemon=True)
        back.start()
        carry_from(handler.connection, there)
        back.join(10)


def test_a_proxy_carries_the_connection_and_is_told_no_more_than_the_host(
    server: ScriptedServer,
    tls_server: ScriptedServer,
    make_client: MakeClient,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server.script = [carry]
    monkeypatch.setenv("HTTPS_PROXY", server.url.replace("://", "://user%40home:pass%3Aword@"))
    monkeypatch.setenv("CURL_CA_BUNDLE", str(certificate))
    client = make_client(base_url=tls_server.url)
    assert [json.loads(client.query(SQL)) for _ in range(2)] == [PAGE] * 2
    [asked] = server.asked
    assert (asked.method, asked.path) == ("CONNECT", tls_server.url.removeprefix("https://"))
    assert asked.headers["Proxy-Authorization"] == "Basic " + b64encode(b"user@home:pass:word").decode()
    assert "Authorization" not in asked.headers
    assert len(tls_server.asked) == 2
    assert not any("Proxy-Authorization" in asked.headers for asked in tls_server.asked)


def test_a_certificate_is_not_accepted_because_it_came_through_a_proxy(
    server: ScriptedServer, tls_server: ScriptedServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.script = [carry]
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    with pytest.raises(UntrustedServer, match="self-signed certificate"):
        make_client(base_url=tls_server.url).query(SQL)
    assert tls_server.asked == []


def test_a_port_that_goes_without_saying_is_not_said(
    server: ScriptedServer,
    tls_server: ScriptedServer,
    make_client: MakeClient,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is left out of what is signed, so Host must not name it either."""
    server.script = [lambda handler: carry(handler, tls_server.server_address[1])]
    monkeypatch.setenv("HTTPS_PROXY", server.url)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    for base_url in ("https://127.0.0.1", "https://127.0.0.1:443"):
        assert json.loads(make_client(base_url=base_url).query(SQL)) == PAGE
    assert [asked.path for asked in server.asked] == ["127.0.0.1:443"] * 2
    assert [asked.headers["Host"] for asked in tls_server.asked] == ["127.0.0.1"] * 2


def test_a_proxy_that_forwards_is_told_the_whole_address(
    server: ScriptedServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", server.url.replace("://", "://user:word@"))
    assert json.loads(make_client(base_url="http://localhost:9").query(SQL)) == PAGE
    [asked] = server.asked
    assert asked.path == f"http://localhost:9{SUITEQL_PATH}?limit=1000&offset=0"
    assert asked.headers["Host"] == "localhost:9"
    assert asked.headers["Proxy-Authorization"] == "Basic " + b64encode(b"user:word").decode()


@pytest.mark.parametrize("spared", ["127.0.0.1", "10.0.0.0/8, 127.0.0.0/8", "*"])
def test_a_host_that_no_proxy_spares_is_asked_straight(
    server: ScriptedServer, make_client: MakeClient, monkeypatch: pytest.MonkeyPatch, spared: str
) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("NO_PROXY", spared)
    assert json.loads(make_client().query(SQL)) == PAGE
    monkeypatch.setenv("NO_PROXY", "127.0.0.2")
    with pytest.raises(SourceDown, match="through the proxy: Connection refused"):
        make_client(attempts=1).query(SQL)


def test_a_bundle_that_is_not_there_is_named(
    tls_server: ScriptedServer, make_client: MakeClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "gone.pem"))
    with pytest.raises(SourceDown, match=r"REQUESTS_CA_BUNDLE names .*gone\.pem, and there is no such file"):
        make_client(base_url=tls_server.url, attempts=1).query(SQL)


def test_a_slow_server_is_waited_for_over_tls(
    tls_server: ScriptedServer, make_client: MakeClient, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each look at the clock while it is waited for ends a read, which must not end the connection."""
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    looks = threading.Semaphore(0)
    body = json.dumps(PAGE).encode()

    def monotonic() -> float:
        looks.release()
        return time.monotonic()

    def await_looks(handler: Handler) -> None:
        while looks.acquire(blocking=False):
            pass
        for _ in range(2):
            assert looks.acquire(timeout=10)

    def slow(handler: Handler) -> None:
        await_looks(handler)
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body[:20])
        await_looks(handler)
        handler.wfile.write(body[20:])

    tls_server.script = [slow, page]
    client = make_client(base_url=tls_server.url, monotonic=monotonic)
    assert [client.query(SQL) for _ in range(2)] == [body] * 2
    assert len({asked.client for asked in tls_server.asked}) == 1


# --- which connection is kept -----------------------------------------------------------------------------------


def test_a_kept_connection_that_the_server_has_closed_costs_no_attempt(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    closed = threading.Event()

    def close_after(handler: Handler) -> None:
        page(handler)
        handler.wfile.flush()
        handler.connection.shutdown(socket.SHUT_RDWR)
        handler.close_connection = True
        closed.set()

    server.script = [close_after, page]
    client = make_client(attempts=1)
    client.query(SQL)
    assert closed.wait(10)
    client.query(SQL)
    assert len({asked.client for asked in server.asked}) == 2


def test_a_connection_that_the_server_says_it_will_close_is_not_used_again(
    server: ScriptedServer, make_client: MakeClient
) -> None:
    server.script = [reply(200, json.dumps(PAGE).encode(), Connection="close"), page]
    client = make_client(attempts=1)
    client.query(SQL)
    client.query(SQL)
    assert len({asked.client for asked in server.asked}) == 2


@pytest.mark.parametrize("unread", [reply(302, b"x" * 100), reply(200, b"{" + b" " * 2000 + b"}")])
def test_a_connection_whose_answer_was_not_read_to_its_end_is_not_used_again(
    server: ScriptedServer, make_client: MakeClient, unread: Callable[[Handler], None]
) -> None:
    server.script = [unread, page]
    client = make_client(attempts=1, max_reply_bytes=1000)
    with pytest.raises(BadReply):
        client.query(SQL)
    assert json.loads(client.query(SQL)) == PAGE
    assert len({asked.client for asked in server.asked}) == 2


def test_a_connection_that_is_closed_while_in_use_is_not_kept(server: ScriptedServer) -> None:
    ended = threading.Event()

    def until_closed(handler: Handler) -> None:
        page(handler)
        handler.wfile.flush()
        assert handler.rfile.read(1) == b""
        ended.set()

    server.script = [until_closed]
    deadline = Deadline(time.monotonic, lambda: False)
    connection = Connection(server.url, deadline)
    deadline.start(20)
    answer = connection.ask("GET", server.url + "/page", "", None)
    connection.close()
    assert json.loads(answer.read()) == PAGE
    connection.release()
    assert ended.wait(10)


# --- what is sent and read --------------------------------------------------------------------------------------


@pytest.mark.parametrize("refused", [BrokenPipeError, ConnectionResetError])
def test_an_answer_that_came_before_all_was_sent_is_read(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, refused: type[OSError]
) -> None:
    early = [b"HTTP/1.1 413 Too much\r\nContent-Length: 0\r\n\r\n"]

    class Socket:
        def settimeout(self, seconds: float) -> None:
            assert seconds > 0

        def sendall(self, data: bytes) -> None:
            raise refused

        def recv_into(self, buffer: memoryview) -> int:
            some = early.pop() if early else b""
            buffer[: len(some)] = some
            return len(some)

    deadline = Deadline(time.monotonic, lambda: False)
    connection = Connection(server.url, deadline)
    link = SimpleNamespace(sock=Socket(), is_connected=True, close=lambda: None)
    monkeypatch.setattr(connection, "_idle", link)
    deadline.start(20)
    assert connection.ask("POST", server.url + "/page", "", b"x" * 1000).status == 413


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"Transfer-Encoding": "chunked"}, b"40\r\n{}"),
        ({"Content-Encoding": "gzip", "Content-Length": "100"}, gzip.compress(b"{}")),
        ({"Content-Length": "100"}, b"{}"),
    ],
    ids=["chunk", "gzip", "plain"],
)
def test_a_page_is_garbled_whose_connection_ends_before_its_body(
    server: ScriptedServer, make_client: MakeClient, headers: dict[str, str], body: bytes
) -> None:
    def cut(handler: Handler) -> None:
        handler.send_response(200)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)
        handler.close_connection = True

    server.script = [cut]
    with pytest.raises(GarbledReply, match="connection ended before the body did"):
        make_client(attempts=1).query(SQL)


def test_headers_know_no_case_and_join_what_comes_twice() -> None:
    headers = Headers([("Content-Type", "application/json"), ("Warning", "one"), ("WARNING", "two")])
    assert headers["content-TYPE"] == "application/json"
    assert headers.get("warning") == "one, two"
    assert headers.get("Date") is None
    assert "DATE" not in headers
    assert len(headers) == 2


@pytest.mark.parametrize("value", ["a\r\nX: y", "a\nX: y", "a\rX: y"])
def test_a_header_does_not_hold_another(value: str) -> None:
    with pytest.raises(ValueError, match="line break"):
        header_lines({"Accept": value})


def test_a_base_url_that_is_no_address_is_told_at_once(make_client: MakeClient) -> None:
    with pytest.raises(BadValue, match="is no address"):
        make_client(base_url="http://127.0.0.1:port")


def test_a_run_that_asks_straight_does_not_load_what_only_others_need() -> None:
    script = (
        "import sys\n"
        "import waveimport.runtime.importer\n"
        "print(sorted({'requests', 'requests_oauthlib', 'oauthlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "[]\n"
