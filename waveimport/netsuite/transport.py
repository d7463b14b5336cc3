"""A deadline for the whole of a request, where requests has one only for each read.

A server that sends one byte now and then resets requests' timeout with every byte, in the headers as in the body, and
would hold a thread for ever. So the connections here read their socket through a `Deadline`: each time they wait for
bytes they wait no longer than what is left, and look several times a second whether the run was told to stop.
"""

import http.client
import io
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

_LOOK_UP_SECONDS = 0.25
_READ_BUFFER_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply, its body unpacked."""

    status: int
    headers: CaseInsensitiveDict[str]
    body: bytes


class Deadline:
    """When the request under way must have ended. One for each thread; `start` begins a request."""

    def __init__(self, monotonic: Callable[[], float], stopped: Callable[[], bool]) -> None:
        self._monotonic = monotonic
        self._stopped = stopped
        self._at = 0.0

    def start(self, seconds: float) -> None:
        """Let the request that begins now take `seconds`."""
        self._at = self._monotonic() + seconds

    def shorten(self, seconds: float) -> None:
        """Let the request under way take no more than `seconds` from now."""
        self._at = min(self._at, self._monotonic() + seconds)

    def remaining_seconds(self) -> float:
        """Return what is left, above zero. Raises TimeoutError when nothing is, or the run was told to stop."""
        remaining = self._at - self._monotonic()
        if remaining <= 0 or self._stopped():
            raise TimeoutError("the request's time is up")
        return remaining

    def passed(self) -> bool:
        """Say whether the time is up."""
        return self._monotonic() >= self._at


class _DeadlineReader(io.RawIOBase):
    """A socket's incoming bytes under a deadline. `keeper` is a file of the same socket: while it is open the socket
    stays open, although http.client may close its own hold on it before the body is read."""

    def __init__(self, sock: socket.socket, keeper: io.BufferedIOBase, deadline: Deadline) -> None:
        self._sock = sock
        self._keeper = keeper
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while True:  # bounded by the deadline
            self._sock.settimeout(min(self._deadline.remaining_seconds(), _LOOK_UP_SECONDS))
            try:
                return self._sock.recv_into(buffer)
            except TimeoutError:
                continue

    def close(self) -> None:
        self._keeper.close()
        super().close()


class _DeadlineAdapter(HTTPAdapter):
    def __init__(self, deadline: Deadline) -> None:
        class Reply(http.client.HTTPResponse):
            def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
                super().__init__(sock, *args, **kwargs)
                self.fp = io.BufferedReader(_DeadlineReader(sock, self.fp, deadline), _READ_BUFFER_BYTES)

        class Plain(HTTPConnection):
            response_class = Reply

        class Secure(HTTPSConnection):
            response_class = Reply

        class PlainPool(HTTPConnectionPool):
            ConnectionCls = Plain

        class SecurePool(HTTPSConnectionPool):
            ConnectionCls = Secure

        self._pool_classes = {"http": PlainPool, "https": SecurePool}
        super().__init__(pool_connections=1, pool_maxsize=1, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = self._pool_classes

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(proxy, **kwargs)
        manager.pool_classes_by_scheme = self._pool_classes
        return manager


class Session(requests.Session):
    """One thread's kept-alive connection to one host, bound by `deadline`. It knows neither redirects nor cookies."""

    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self.deadline = deadline
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        adapter = _DeadlineAdapter(deadline)
        self.mount("https://", adapter)
        self.mount("http://", adapter)
        self._environment: Mapping[str, Any] | None = None

    def environment(self, url: str) -> Mapping[str, Any]:
        """Return the proxies and the certificates to trust that the environment sets for the session's one host.

        Certificates are always verified. Read once: requests would look at every variable for every request.
        """
        if self._environment is None:
            self._environment = self.merge_environment_settings(url, {}, True, None, None)
        return self._environment

    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return None: even when told not to follow, requests would first read the redirect's body, of any size."""
        return None
