"""TLS and proxies as the environment sets them, over real sockets."""

import json
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from netsuite_certificates import CERTIFICATE, KEY
from netsuite_server import PAGE, Handler, ScriptedServer, page, reply

from waveimport.errors import SourceDown, UntrustedServer
from waveimport.netsuite.client import SuiteQLClient

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
