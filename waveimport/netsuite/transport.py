"""One thread's connection to the account: what is sent in one piece, what is read under one deadline.

A general client's work on a request costs several times what the request itself does, and an import sends hundreds of
thousands that differ in little. So only connections are opened by urllib3, which knows TLS and proxies, and answers are
read by `http.client`; what is sent is put together here.

A timeout of a socket is one for each read. A server that sends one byte now and then resets it with every byte, in the
headers as in the body, and would hold a thread for ever. So a socket is read through a `Deadline`: each time that bytes
are waited for, it is no longer than what is left, and several times a second it is looked whether the run was told to
stop.
"""

import errno
import http.client
import io
import os
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.request import getproxies

import certifi
from urllib3 import PoolManager
from urllib3.connection import HTTPConnection, port_by_scheme
from urllib3.connectionpool import HTTPConnectionPool
from urllib3.exceptions import HTTPError, ProxyError
from urllib3.util import parse_url
from urllib3.util.connection import is_connection_dropped

TRANSPORT_ERRORS = (OSError, http.client.HTTPException, HTTPError)
"""What a request can end in beside an answer."""

_CONNECT_SECONDS_MAX = 30.0
_LOOK_UP_SECONDS = 0.25
_READ_BUFFER_BYTES = 16 * 1024
"""Enough for a head. What is left of a body is read past the buffer, straight to where it stays."""


class Headers(Mapping[str, str]):
    """An answer's headers; their names are the same in upper and lower case. What comes twice is joined by a comma."""

    def __init__(self, items: Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, str] = {}
        for name, value in items:
            key = name.lower()
            self._values[key] = f"{self._values[key]}, {value}" if key in self._values else value

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply, its body unpacked."""

    status: int
    headers: Headers
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


class _Incoming(io.RawIOBase):
    """A socket's bytes as they come in, under a deadline. It leaves the socket open."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock = sock
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

    def makefile(self, mode: str) -> io.BufferedReader:
        """Be to `http.client` the socket that an answer is read from; it asks for nothing else."""
        return io.BufferedReader(self, _READ_BUFFER_BYTES)


class Connection:
    """One thread's kept-alive connection to one host. It knows neither redirects nor cookies.

    `ask`, read the answer, `release`. Proxies and the certificates to trust are taken from the environment
    (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE, CURL_CA_BUNDLE) once, at the first request; certificates are always
    verified. Of its methods only `close` is for other threads.
    """

    def __init__(self, url: str, deadline: Deadline) -> None:
        """`url` is any address of the host, as `sendable` returns it."""
        self._url = url
        self.deadline = deadline
        parts = parse_url(url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        goes_without_saying = parts.port in (None, port_by_scheme.get(parts.scheme or ""))
        self._host = (parts.host if goes_without_saying else parts.netloc) or ""
        self._way: _Way | None = None
        self._idle: HTTPConnection | None = None
        self._busy: HTTPConnection | None = None
        self._answer: http.client.HTTPResponse | None = None
        self._closed = False

    def ask(self, method: str, url: str, headers: str, body: bytes | None) -> http.client.HTTPResponse:
        """Send a request to an address of the host, and return its answer as soon as its head has come.

        `headers` are those that `header_lines` returns; Host and Content-Length come by themselves. Raises one of
        TRANSPORT_ERRORS.
        """
        if self._way is None:
            self._way = _Way(self._url)
        link = self._busy = self._taken() or self._way.opened(self.deadline.remaining_seconds())
        sock = cast(socket.socket, link.sock)
        target = url if self._way.is_forwarded else url.removeprefix(self._origin)
        length = "" if body is None else f"Content-Length: {len(body)}\r\n"
        head = f"{method} {target} HTTP/1.1\r\nHost: {self._host}\r\n{self._way.headers}{headers}{length}\r\n"
        sock.settimeout(self.deadline.remaining_seconds())
        # An answer may have come before all was sent; where there is none, reading tells.
        with suppress(BrokenPipeError, ConnectionResetError):
            sock.sendall(head.encode("latin-1") + (body or b""))
        incoming = cast(socket.socket, _Incoming(sock, self.deadline))
        answer = self._answer = http.client.HTTPResponse(incoming, method=method)
        answer.begin()
        return answer

    def release(self) -> None:
        """End the request under way: its connection is kept if the answer was read to its end and allows it."""
        link, answer = self._busy, self._answer
        self._busy = self._answer = None
        if link is None:
            return
        if answer is not None and answer.isclosed() and not answer.will_close:
            self._idle = link
            if self._closed:  # meanwhile, by another thread, which has not seen this connection
                self.close()
        else:
            if answer is not None:
                answer.close()
            link.close()

    def close(self) -> None:
        """Close the connection; one in use is closed by `release`, which has to come soon: stop the deadline."""
        self._closed = True
        link, self._idle = self._idle, None
        if link is not None:
            link.close()

    def _taken(self) -> HTTPConnection | None:
        """Return the kept connection, None where there is none or the other side has closed it meanwhile."""
        link, self._idle = self._idle, None
        if link is not None and is_connection_dropped(link):
            link.close()
            return None
        return link


class _Way:
    """How a host is reached, by the environment: straight or through a proxy, and by whose word for its certificate."""

    def __init__(self, url: str) -> None:
        parts = parse_url(url)
        self._trust: Mapping[str, Any] = _trusted() if parts.scheme == "https" else {}
        self._pool = _pool(url, _proxy_for(url), self._trust)
        self.is_forwarded = self._pool.proxy is not None and parts.scheme == "http"
        """Whether a proxy is to be told the whole address with each request; else it only carries bytes."""
        self.headers = header_lines(self._pool.proxy_headers) if self.is_forwarded else ""
        """What a proxy that forwards is to be told beside."""

    def opened(self, seconds: float) -> HTTPConnection:
        """Return a new connection. Raises one of TRANSPORT_ERRORS, ProxyError where it is the proxy's fault."""
        pool = self._pool
        proxy = pool.proxy
        to = pool if proxy is None else proxy
        link = cast(
            HTTPConnection,
            pool.ConnectionCls(
                to.host or "", to.port, timeout=min(_CONNECT_SECONDS_MAX, seconds), **pool.conn_kw, **self._trust
            ),
        )
        try:
            if proxy is not None and not self.is_forwarded:
                scheme = "https" if proxy.scheme == "https" else "http"
                link.set_tunnel(pool.host, pool.port, pool.proxy_headers, scheme)
            link.connect()
        except TRANSPORT_ERRORS as fault:
            link.close()
            if proxy is None:
                raise
            raise ProxyError("no connection through the proxy", fault) from fault
        return link


def sendable(url: str) -> str:
    """Return an address as it is sent, and signed: what no address may hold is percent-encoded.

    Raises ValueError where it cannot be one.
    """
    return parse_url(url).url


def header_lines(headers: Mapping[str, str]) -> str:
    """Return headers as the lines of a request. Raises ValueError where a value would be a header of its own."""
    for name, value in headers.items():
        if "\r" in value or "\n" in value:
            raise ValueError(f"the header {name} holds a line break")
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def _pool(url: str, proxy: str | None, trust: Mapping[str, Any]) -> HTTPConnectionPool:
    if proxy is None:
        return PoolManager(**trust).connection_from_url(url)
    from requests.adapters import HTTPAdapter  # as late as `_proxy_for`

    return cast(HTTPConnectionPool, HTTPAdapter().proxy_manager_for(proxy, **trust).connection_from_url(url))


def _proxy_for(url: str) -> str | None:
    """Return the proxy by which the environment has an address reached, None where it is reached straight."""
    if not getproxies().keys() - {"no"}:
        return None
    # It knows all that NO_PROXY may say; without a proxy nobody needs it, or has to load it.
    from requests.utils import get_environ_proxies, prepend_scheme_if_needed, select_proxy

    proxy = select_proxy(url, get_environ_proxies(url, no_proxy=None))
    return str(prepend_scheme_if_needed(proxy, "http")) if proxy else None  # type: ignore[no-untyped-call]


def _trusted() -> dict[str, str]:
    """Return where the certificates are that others' are vouched for by, as urllib3 is told."""
    named = next((name for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE") if os.environ.get(name)), None)
    place = Path(certifi.where() if named is None else os.environ[named])
    if not place.exists():
        raise FileNotFoundError(errno.ENOENT, f"{named or 'certifi'} names {place}, and there is no such file")
    return {"cert_reqs": "CERT_REQUIRED", "ca_cert_dir" if place.is_dir() else "ca_certs": str(place)}
