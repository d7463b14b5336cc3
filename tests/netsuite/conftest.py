"""The scripted server, and a client of it that never really sleeps."""

import time
from collections.abc import Callable, Iterator

import pytest
from netsuite_server import ScriptedServer

from waveimport.core.settings import NetSuiteSettings
from waveimport.netsuite.client import SuiteQLClient


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the machine's own proxies and certificates out of the tests."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer()
    yield scripted
    scripted.close()


@pytest.fixture
def slept() -> list[float]:
    return []


@pytest.fixture
def make_client(server: ScriptedServer, slept: list[float]) -> Iterator[Callable[..., SuiteQLClient]]:
    clients: list[SuiteQLClient] = []

    def make(*, concurrency: int = 5, base_url: str | None = None, **options: object) -> SuiteQLClient:
        settings = NetSuiteSettings(
            account="1234567_sb1",
            base_url=base_url or server.url,
            consumer_key="consumer-key",
            consumer_secret="consumer-secret-canary",
            token_id="token-id",
            token_secret="token-secret-canary",
            concurrency=concurrency,
        )
        options = {
            "request_timeout_seconds": 20.0,
            "epoch_seconds": time.time,
            "sleep": slept.append,
            "random": lambda: 0.5,
        } | options
        client = SuiteQLClient(settings, **options)
        clients.append(client)
        return client

    yield make
    for client in clients:
        client.close()
