"""The account over HTTP/1.1, on the loopback interface only.

Queries are `POST /services/rest/query/v1/suiteql?limit=&offset=` with `Prefer: transient`, in the rules of Oracle's
"Executing SuiteQL Queries Through REST Web Services": limit 1 to 1000, offset divisible by limit. The metadata is `GET
/services/rest/record/v1/metadata-catalog`, with or without a record behind it. Each request bears a signature or an
access token; tokens are given by `POST /services/rest/auth/oauth2/v1/token`, see `simulator.tokens`.
"""

import contextlib
import re
import socket
import struct
import sys
import threading
import time
from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit
from uuid import uuid4

import msgspec

from waveimport.simulator import catalogue
from waveimport.simulator.auth import Login
from waveimport.simulator.changes import Changes
from waveimport.simulator.faults import Blow, FaultKind, Plan, Resource
from waveimport.simulator.queries import Queries
from waveimport.simulator.refusals import (
    OAuthRefusal,
    Refusal,
    bad_parameter,
    catalogue_forbidden,
    query_forbidden,
    too_many_requests,
    unexpected,
)
from waveimport.simulator.tokens import TOKEN_PATH, TokenDesk

SUITEQL_PATH = "/services/rest/query/v1/suiteql"
LIMIT_MAXIMUM = 1000
_BODY_MAXIMUM = 10_000_000
_BEARER = "Bearer "
_COLLECTION = "application/vnd.oracle.resource+json; type=collection; charset=UTF-8"
_ERROR = "application/vnd.oracle.resource+json; type=error; charset=UTF-8"
_JSON = "application/json; charset=UTF-8"
_HTML = "text/html; charset=UTF-8"
_MAINTENANCE = (
    b"<!DOCTYPE html><html><head><title>NetSuite</title></head><body><p>The account you are trying to access is "
    b"currently unavailable while we undergo our regularly scheduled maintenance.</p></body></html>"
)
_DRIPS = 20
_COUNT = re.compile(r"\bCOUNT\s*\(", re.IGNORECASE)
_LOG_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """One request as the account saw it. `number` counts the requests of its resource; `status` is 0 where no answer
    was sent; `fault` the kind that struck."""

    number: int
    query: str
    limit: int
    offset: int
    status: int
    seconds: float
    fault: str = ""
    resource: Resource = Resource.QUERY


@dataclass(frozen=True, slots=True)
class Account:
    """What the server serves; replaced as a whole, so that one request sees one plan and one state."""

    queries: Queries
    plan: Plan
    changes: Changes | None = None


class _Body(msgspec.Struct):
    q: str
    params: list[str | int] = []


@dataclass(slots=True)
class _Asked:
    """What is known of a request so far; -1 where its URL did not say."""

    resource: Resource
    query: str = ""
    limit: int = -1
    offset: int = -1


@dataclass(slots=True)
class _Reply:
    status: int
    body: bytes
    content_type: str
    headers: dict[str, str]


class AccountServer(ThreadingHTTPServer):
    """Serves one account, a thread a connection. `requests` is the log of the latest 20,000 requests, oldest first."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 256

    def __init__(self, port: int, account: Account, login: Login, tokens: TokenDesk) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.account = account
        self.login = login
        self.tokens = tokens
        self.requests: deque[LoggedRequest] = deque(maxlen=_LOG_KEPT)
        self.in_flight_peak = 0
        self._in_flight = 0
        self._counts = dict.fromkeys(Resource, 0)
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def base_url(self) -> str:
        """The origin that clients talk to."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def begin(self, resource: Resource) -> tuple[int, int]:
        """Note a request's arrival; return its number, from 1, and how many of any resource are in flight with it."""
        with self._lock:
            self._counts[resource] += 1
            self._in_flight += 1
            self.in_flight_peak = max(self.in_flight_peak, self._in_flight)
            return self._counts[resource], self._in_flight

    def end(self) -> None:
        """Note that a request is done with."""
        with self._lock:
            self._in_flight -= 1

    def get_request(self) -> tuple[socket.socket, Any]:
        """Accept a connection and remember it, to be cut when the server closes."""
        accepted, address = super().get_request()
        with self._lock:
            self._open.add(accepted)
        return accepted, address

    def shutdown_request(self, request: Any) -> None:
        """Forget a connection and close it."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent about clients that hang up: killed importers are what the account is here for."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)

    def cut_connections(self) -> None:
        """Close every open connection, as a machine that goes down does."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: AccountServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = 0

    def log_message(self, format: str, *args: Any) -> None:
        """Keep the log in memory only, see AccountServer.requests."""

    def do_POST(self) -> None:
        """Answer one request, by the plan."""
        self._serve()

    def do_GET(self) -> None:
        """Answer what the catalogue is asked; refuse the rest in the service's envelope."""
        self._serve()

    do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET

    def _serve(self) -> None:
        started = time.perf_counter()
        path = urlsplit(self.path).path
        asked = _Asked(Resource.TOKEN if path == TOKEN_PATH else Resource.QUERY)
        number, in_flight = self.server.begin(asked.resource)
        try:
            blow, reply = self._answer(asked, number, in_flight)
        finally:
            # Before the reply goes out: who has read it may at once send the next request, or read the log.
            self.server.end()
        fault = blow.fault.kind.value if blow.fault else ""
        seconds = time.perf_counter() - started
        self.server.requests.append(
            LoggedRequest(number, asked.query, asked.limit, asked.offset, reply.status, seconds, fault, asked.resource)
        )
        self._send(reply, blow)

    def _answer(self, asked: _Asked, number: int, in_flight: int) -> tuple[Blow, _Reply]:
        """Return what strikes the request and the reply to it; note in `asked` what is known of it."""
        account = self.server.account
        body = _Body("")
        raw = self._read_body()
        if asked.resource is Resource.QUERY:
            with contextlib.suppress(msgspec.DecodeError):
                body = msgspec.json.decode(raw, type=_Body)
        asked.query = body.q
        blow = account.plan.blow(number, body.q, _COUNT.search(body.q) is not None, asked.resource)
        every = account.plan.faults.changes_every
        if account.changes is not None and every and number % every == 0:
            account.changes.round()
        if blow.delay_seconds:
            time.sleep(blow.delay_seconds)
        try:
            self._check_concurrency(account.plan, in_flight)
            early = self._early_fault(account.plan, blow, number, asked.resource)
            if early is not None:
                return blow, early
            if asked.resource is Resource.TOKEN:
                return blow, self._grant(raw, account.plan.faults.token_seconds)
            resource = self._check_request()
            if resource != SUITEQL_PATH:
                return blow, self._catalogue(resource.removeprefix(catalogue.PATH).strip("/"))
            if not account.plan.faults.suiteql:
                raise query_forbidden()
            asked.limit, asked.offset = _bounds(dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True)))
            url = self.server.base_url + SUITEQL_PATH
            page = account.queries.page(body.q, tuple(body.params), asked.limit, asked.offset, url)
            return blow, _Reply(200, page, _COLLECTION, {})
        except Refusal as refusal:
            content_type = _JSON if isinstance(refusal, OAuthRefusal) else _ERROR
            return blow, _Reply(refusal.status, refusal.body(), content_type, refusal.headers)

    def _read_body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if not length.isdigit() or int(length) > _BODY_MAXIMUM or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            return b""
        return self.rfile.read(int(length))

    def _check_concurrency(self, plan: Plan, in_flight: int) -> None:
        if plan.faults.concurrency and in_flight + plan.faults.rivals > plan.faults.concurrency:
            raise too_many_requests(plan.faults.retry_after_seconds)

    def _grant(self, form: bytes, lifetime_seconds: float) -> _Reply:
        self._check_method("POST")
        granted = self.server.tokens.grant(form, self.server.base_url + TOKEN_PATH, lifetime_seconds)
        return _Reply(200, granted, _JSON, {})

    def _check_request(self) -> str:
        """Return the path of the resource that is asked for. Raises Refusal."""
        self._check_login()
        path = unquote(urlsplit(self.path).path)
        of_catalogue = path == catalogue.PATH or path.startswith(f"{catalogue.PATH}/")
        if path != SUITEQL_PATH and not of_catalogue:
            raise Refusal(404, "NONEXISTENT_ENDPOINT", "The requested endpoint does not exist.")
        self._check_method("GET" if of_catalogue else "POST")
        if of_catalogue:
            return path
        preferences = [one.strip() for one in self.headers.get("Prefer", "").split(",")]
        if "transient" not in preferences:
            raise Refusal(
                400,
                "INVALID_HEADER",
                "The required request header 'Prefer' is missing or invalid. Set it to 'transient'.",
                place=("o:errorHeader", "Prefer"),
            )
        return path

    def _check_method(self, method: str) -> None:
        if self.command != method:
            raise Refusal(405, "METHOD_NOT_ALLOWED", f"The method {self.command} is not allowed here.")

    def _check_login(self) -> None:
        authorization = self.headers.get("Authorization", "")
        if authorization.startswith(_BEARER):
            self.server.tokens.check(authorization.removeprefix(_BEARER))
            return
        url = f"http://{self.headers.get('Host', '')}{self.path}"
        self.server.login.check(url, self.command, dict(self.headers.items()))

    def _catalogue(self, record: str) -> _Reply:
        faults = self.server.account.plan.faults
        if not faults.catalogue:
            raise catalogue_forbidden()
        accepted = self.headers.get("Accept", "")
        if not record and catalogue.OPEN_API not in accepted:
            return _Reply(200, catalogue.listing(faults.hidden, self.server.base_url), _COLLECTION, {})
        if not record or catalogue.SCHEMA not in accepted:
            # The service would serve OpenAPI too: better no answer than another than the one that was asked for.
            raise Refusal(
                406, "NOT_ACCEPTABLE", f"Only {catalogue.SCHEMA} of one record, and the list, are served here."
            )
        return _Reply(200, catalogue.schema(record, faults.hidden), f"{catalogue.SCHEMA}; charset=UTF-8", {})

    def _refused_login(self, resource: Resource) -> Refusal:
        """Return what a login that is not accepted gets, by the way it was tried."""
        if resource is Resource.TOKEN:
            return OAuthRefusal("invalid_grant")
        bearer = self.headers.get("Authorization", "").startswith(_BEARER)
        return self.server.tokens.refusal() if bearer else self.server.login.refusal()

    def _early_fault(self, plan: Plan, blow: Blow, number: int, resource: Resource) -> _Reply | None:
        """Return the answer of a fault that strikes before the request is looked at, or None."""
        if blow.fault is None:
            return None
        match blow.fault.kind:
            case FaultKind.RATE_LIMIT:
                raise too_many_requests(plan.faults.retry_after_seconds)
            case FaultKind.SERVER_ERROR:
                raise unexpected(f"{number:020d}".translate(str.maketrans("0123456789", "jrgbpylhsk")))
            case FaultKind.LOGIN | FaultKind.LATE_LOGIN:
                raise self._refused_login(resource)
            case FaultKind.UNAVAILABLE:
                return _Reply(503, _MAINTENANCE, _HTML, {})
            case FaultKind.HTML:
                return _Reply(200, _MAINTENANCE, _HTML, {})
            case FaultKind.REDIRECT:
                return _Reply(302, b"", _HTML, {"Location": blow.fault.location})
            case FaultKind.RESET:
                return _Reply(0, b"", _HTML, {})
            case FaultKind.REVOKE:
                self.server.tokens.revoke()
                return None
            case FaultKind.TRUNCATE | FaultKind.DRIP | FaultKind.DELAY:
                return None

    def _send(self, reply: _Reply, blow: Blow) -> None:
        """Send the reply in one write, or as the fault has it."""
        kind = blow.fault.kind if blow.fault else None
        if kind is FaultKind.RESET:
            # With no time to linger, closing sends RST instead of FIN.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
            return
        head = self._head(reply)
        whole = head if self.command == "HEAD" else head + reply.body
        if kind is FaultKind.TRUNCATE:
            self.close_connection = True
            whole = whole[: len(head) + len(reply.body) // 2]
        if kind is FaultKind.DRIP and blow.fault is not None:
            self._drip(whole, blow.fault.seconds)
        else:
            self.wfile.write(whole)

    def _head(self, reply: _Reply) -> bytes:
        lines = [
            f"HTTP/1.1 {reply.status} {HTTPStatus(reply.status).phrase}",
            f"Content-Type: {reply.content_type}",
            f"Content-Length: {len(reply.body)}",
            f"Date: {self.date_time_string()}",
            f"X-N-OperationId: {uuid4()}",  # by which the service's support finds a request
            *(f"{name}: {value}" for name, value in reply.headers.items()),
        ]
        if self.close_connection:
            lines.append("Connection: close")
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def _drip(self, whole: bytes, seconds: float) -> None:
        size = max(1, len(whole) // _DRIPS)
        for start in range(0, len(whole), size):
            self.wfile.write(whole[start : start + size])
            time.sleep(seconds / _DRIPS)


def _bounds(parameters: dict[str, str]) -> tuple[int, int]:
    """Return limit and offset of the URL. Raises Refusal when they break a rule."""
    limit, offset = parameters.get("limit", str(LIMIT_MAXIMUM)), parameters.get("offset", "0")
    if not limit.isdecimal() or not 1 <= int(limit) <= LIMIT_MAXIMUM:
        raise bad_parameter("limit", f"The limit query parameter must be a whole number between 1 and {LIMIT_MAXIMUM}.")
    if not offset.isdecimal() or int(offset) % int(limit):
        raise bad_parameter("offset", "The offset query parameter must be a whole number divisible by limit.")
    return int(limit), int(offset)
