"""Ask NetSuite one SuiteQL query and get one page's JSON back, or a named error; likewise its metadata catalogue.

The client owns everything between a query's text and its reply's bytes: the login of each attempt, the bound on
requests in flight, deadlines, the limit on size, retries, and the rule about refused logins. It knows nothing of
records or rows. It never follows a link or a redirect.

Source: Oracle, "Executing SuiteQL Queries Through REST Web Services" and "Working with JSON Schema Metadata".
"""

import http.client
import json
import logging
import random as random_module
import re
import secrets
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urlsplit
from weakref import WeakSet

from tenacity import RetryCallState, Retrying

from waveimport.core.limits import Limits, Strike
from waveimport.core.settings import NetSuiteSettings
from waveimport.errors import (
    BadReply,
    BadValue,
    GarbledReply,
    LoginRefused,
    RateLimited,
    ServerFault,
    SourceDown,
    SourceError,
    Stopped,
)
from waveimport.log_fields import bind, bound, fields
from waveimport.netsuite.auth import Login, TokenBasedLogin
from waveimport.netsuite.faults import (
    Policy,
    catalogue_error_of,
    error_of,
    late,
    login_verdict,
    token_error_of,
    transport_error,
)
from waveimport.netsuite.gate import Gate, Verdict
from waveimport.netsuite.machine import MachineLogin
from waveimport.netsuite.transport import (
    TRANSPORT_ERRORS,
    Connection,
    Deadline,
    Headers,
    Reply,
    header_lines,
    sendable,
)

log = logging.getLogger(__name__)

SUITEQL_PATH = "/services/rest/query/v1/suiteql"
CATALOGUE_PATH = "/services/rest/record/v1/metadata-catalog"
PAGE_ROWS_MAX = 1000
DEFAULT_REPLY_BYTES_MAX = 64 * 1024 * 1024
TOKEN_SECONDS_MAX = 60.0
"""What one request for an access token may take, however long a query may."""

Watch = Callable[[str, str, str], AbstractContextManager[Callable[[int], None]]]
"""Told of each request as it is sent: its id, method and address. The block that it opens ends with the request, and
what the block gets is told the status of the answer."""

_ERROR_BODY_BYTES_MAX = 64 * 1024
_ERROR_BODY_SECONDS_MAX = 30.0
_CHUNK_BYTES = 1024 * 1024
_LOGIN_ROUNDS = 3
_ROWS = re.compile(rb'"count"\s*:\s*(\d+)')  # within a row a quote is escaped, and a value is a string
_OPERATION_ID = re.compile(r"[\w.:-]{1,100}")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True)
class Health:
    """How the source has been answering. Moments are of the client's monotonic clock, in seconds.

    `requests` counts every attempt sent, those for an access token too; `retries` those that followed a failed one;
    `rate_limited` the 429s. `failing_since` is the moment of the first failure (transport, 429, 5xx, garbled) since the
    source last answered, None while it answers; a refused query is an answer.
    """

    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    last_success: float | None = None
    failing_since: float | None = None


@dataclass(frozen=True, slots=True)
class _Call:
    """One thing to ask for, as often as it takes. `url` is as it is sent, `headers` are lines of a request; `refused`
    says what a reply with another status than 200 means."""

    method: str
    url: str
    headers: str
    data: bytes | None
    refused: Callable[[int, Mapping[str, str], bytes], SourceError]
    kind: str = "suiteql"


class _Local(threading.local):
    connection: Connection | None = None


class SuiteQLClient:
    """Asks one account. Thread-safe: each thread has its own kept-alive connection, all share the concurrency bound.

    Proxies and the CA bundle are taken from the environment (HTTPS_PROXY, NO_PROXY, REQUESTS_CA_BUNDLE); certificates
    are always verified.
    """

    def __init__(
        self,
        settings: NetSuiteSettings,
        *,
        request_timeout_seconds: float,
        epoch_seconds: Callable[[], float],
        max_reply_bytes: int = DEFAULT_REPLY_BYTES_MAX,
        attempts: int = 5,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] | None = None,
        random: Callable[[], float] = random_module.random,
        new_request_id: Callable[[], str] = lambda: secrets.token_hex(4),
        watch: Watch = lambda request_id, method, url: nullcontext(lambda status: None),
    ) -> None:
        """Take the account and the bounds; nothing is sent yet.

        `request_timeout_seconds` bounds one attempt from connecting to its last byte, `max_reply_bytes` a reply's body
        after decompression, `attempts` the requests that one query may cost, refused logins and access tokens aside.
        `epoch_seconds` is the wall clock, by which signatures and assertions are dated. `sleep` replaces the wait
        between attempts, which otherwise ends at once on `stop`. `new_request_id` names one request, and log lines bear
        that name; `watch` is told of each. Raises BadSecret or BadValue for credentials, or an address, that cannot be
        used.
        """
        try:
            self._origin = sendable(settings.base_url).rstrip("/")
        except ValueError:
            raise BadValue(f"{settings.base_url!r} is no address", where="[netsuite] base_url") from None
        self._url = self._origin + SUITEQL_PATH
        self._host = urlsplit(self._url).hostname or settings.base_url
        every = {
            # A page of 300 KB costs a millisecond to unpack: less than a network takes for it, more than loopback.
            "Accept-Encoding": "identity" if self._host in _LOOPBACK else "gzip",
            "User-Agent": "waveimport",
        }
        query = {"Accept": "application/json", "Content-Type": "application/json", "Prefer": "transient"}
        self._query_headers = header_lines(every | query)
        self._catalogue_headers = every
        self._request_timeout_seconds = request_timeout_seconds
        self._max_reply_bytes = max_reply_bytes
        self._attempts = attempts
        self._policy = Policy(attempts, random)
        self._monotonic = monotonic
        self._new_request_id = new_request_id
        self._watch = watch
        self._sleep = sleep
        self._epoch_seconds = epoch_seconds
        self._last_strike: tuple[float, Strike] | None = None
        self._login = self._way_to_log_in(settings, epoch_seconds)
        self._configured = settings.concurrency
        self._gate = Gate(settings.concurrency)
        self._halted = threading.Event()
        self._local = _Local()
        self._connections: WeakSet[Connection] = WeakSet()
        self._lock = threading.Lock()
        self._health = _Tally()
        self._pausing = 0
        self._last_date: tuple[str, float] | None = None

    def _way_to_log_in(self, settings: NetSuiteSettings, epoch_seconds: Callable[[], float]) -> Login:
        match settings.auth:
            case "tba":
                return TokenBasedLogin(settings, epoch_seconds=epoch_seconds)
            case "m2m":
                return MachineLogin(
                    settings, self._ask_for_token, monotonic=self._monotonic, epoch_seconds=epoch_seconds
                )
            case other:
                raise BadValue(
                    f"logging in by {other!r} is not supported",
                    where="[netsuite] auth",
                    help='use auth = "m2m", OAuth 2.0 machine-to-machine, or auth = "tba", token-based authentication',
                )

    @property
    def limit(self) -> int:
        """Requests that may be in flight at a time now; below the configured `concurrency` after a 429."""
        return self._gate.limit

    @property
    def limits(self) -> Limits:
        """The requests that may be in flight now, and by what they were cut; `runs` is the caller's to know."""
        struck = self._last_strike
        return Limits(
            configured=self._configured,
            share=self._gate.bound,
            runs=1,
            allowed=self._gate.limit,
            in_flight=self._gate.in_flight,
            struck_at=None if struck is None else datetime.fromtimestamp(struck[0], UTC),
            strike=None if struck is None else struck[1],
        )

    def share(self, requests: int) -> None:
        """Have no more than so many requests in flight from now on; those configured at most."""
        self._gate.share(requests)

    @property
    def in_flight(self) -> int:
        """Requests in flight now."""
        return self._gate.in_flight

    @property
    def pausing(self) -> int:
        """Queries that wait before they are sent again, and hold no slot meanwhile."""
        return self._pausing

    @property
    def health(self) -> Health:
        """How the source has been answering, at one moment."""
        with self._lock:
            return self._health.health()

    def query(self, sql: str, *, limit: int = PAGE_ROWS_MAX, offset: int = 0) -> bytes:
        """Return the body (JSON bytes) of one page of the query's result: `limit` rows from `offset` on.

        Waits for a slot, and retries by class of fault; a slot is held only while a request is in flight. Raises
        QueryRefused, TableRefused, LoginRefused, BadReply (asking again changes nothing), SourceDown, RateLimited,
        ServerFault, GarbledReply (after all attempts), Stopped (after `stop`).
        """
        if not 1 <= limit <= PAGE_ROWS_MAX or offset < 0 or offset % limit:
            raise ValueError(f"limit {limit}, offset {offset}: a limit is 1 to 1000, an offset a multiple of it")
        url = f"{self._url}?limit={limit}&offset={offset}"
        return self._retrying(_Call("POST", url, self._query_headers, json.dumps({"q": sql}).encode(), error_of))

    def catalogue(self, record: str | None = None) -> bytes:
        """Return the metadata catalogue as JSON bytes: the list of its records, or the JSON Schema of one `record`.

        Shares slots, signatures, deadlines and retries with `query`. Raises CatalogueRefused where the role may not
        read it or it has no such record, and what `query` raises.
        """
        accept = "application/json" if record is None else "application/schema+json"
        url = self._origin + CATALOGUE_PATH + ("" if record is None else f"/{quote(record, safe='')}")
        headers = header_lines({**self._catalogue_headers, "Accept": accept})
        return self._retrying(_Call("GET", sendable(url), headers, None, catalogue_error_of, "catalogue"))

    def _retrying(self, call: _Call) -> bytes:
        # A caller that has bound `request_id` is to know, when this returns, which request it was.
        kept = "request_id" in fields()
        with nullcontext() if kept else bound(request_id=None):
            # Most requests need no second attempt, and what counts attempts costs as much as a signature.
            try:
                return self._ask(call)
            except SourceError as error:
                failed = error
            return self._again(call, failed)

    def _again(self, call: _Call, failed: SourceError) -> bytes:
        """Go on behind a first attempt that has failed."""
        first: list[SourceError] = [failed]

        def attempt() -> bytes:
            if first:
                raise first.pop()
            return self._ask(call)

        retrying = Retrying(
            retry=self._policy.retry,
            stop=self._policy.stop,
            wait=self._policy.wait,
            sleep=self._pause,
            before_sleep=self._note_retry,
            reraise=True,
        )
        return retrying(attempt)

    def clock_skew_seconds(self, now_epoch_seconds: float) -> float | None:
        """Return by how much the local clock, which reads `now_epoch_seconds`, is ahead of the service's.

        Exact to a second or so; None before the first reply. NetSuite refuses signatures more than 300 seconds off.
        """
        there = self.epoch_seconds()
        # The header's second has been cut off; on average half of it is over.
        return None if there is None else now_epoch_seconds - (there + 0.5)

    def epoch_seconds(self) -> float | None:
        """Return the service's clock, by the `Date` of its latest reply and the time since then.

        Never too late, and up to a second (and the reply's way) too early. None before the first reply that says it.
        """
        last = self._last_date
        if last is None:
            return None
        date, at = last
        try:
            return parsedate_to_datetime(date).timestamp() + self._monotonic() - at
        except ValueError:
            return None

    def stop(self) -> None:
        """End every wait and request of every thread with Stopped, now and later."""
        self._halted.set()
        self._gate.stop()
        self._login.stop()

    def close(self) -> None:
        """Stop, and close the connections."""
        self.stop()
        for connection in list(self._connections):
            connection.close()

    def __enter__(self) -> "SuiteQLClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- one call -----------------------------------------------------------------------------------------------

    def _ask(self, call: _Call) -> bytes:
        refusal: LoginRefused | None = None
        for _ in range(_LOGIN_ROUNDS):
            refusal = None
            admission = self._gate.enter()
            verdict = Verdict.UNKNOWN
            error: SourceError | None = None
            try:
                ticket = self._login.ticket(call.method, call.url, fresh=admission.lone)
                reply = self._exchange(call, ticket.authorization, self._request_timeout_seconds)
                error = None if reply.status == 200 else call.refused(reply.status, reply.headers, reply.body)
                verdict = login_verdict(reply.status)
                if verdict is Verdict.REFUSED and self._monotonic() >= ticket.ends_at:
                    # It was sent in time and looked at too late: that tells nothing about the login.
                    verdict = Verdict.UNKNOWN
                    error = SourceDown("NetSuite answered after the access token's time was up")
            except LoginRefused as fault:  # by the token endpoint
                error, verdict = fault, Verdict.REFUSED
            except SourceError as fault:
                error = fault
            finally:
                if verdict is Verdict.REFUSED and isinstance(error, LoginRefused):
                    refusal = error
                limited = isinstance(error, RateLimited)
                strike = self._gate.leave(admission, verdict, refusal=refusal, rate_limited=limited)
                if strike is not None:
                    self._last_strike = (self._epoch_seconds(), strike)
            self._note(error)
            if error is None:
                return reply.body
            if refusal is None:
                raise error
            log.warning("%s; a single request decides whether the login still holds", refusal.message)
        assert refusal is not None
        raise refusal

    def _pause(self, seconds: float) -> None:
        with self._lock:
            self._pausing += 1
        try:
            if self._sleep is None:
                self._halted.wait(seconds)
            elif not self._halted.is_set():
                self._sleep(seconds)
        finally:
            with self._lock:
                self._pausing -= 1
        if self._halted.is_set():
            raise Stopped("stopped while waiting to ask NetSuite again")

    def _note(self, error: SourceError | None) -> None:
        if isinstance(error, Stopped):  # says nothing about the source
            return
        now = self._monotonic()
        with self._lock:
            self._health.ended(error, now)

    def _note_retry(self, state: RetryCallState) -> None:
        with self._lock:
            self._health.retries += 1
        error = state.outcome.exception() if state.outcome else None
        seconds = state.next_action.sleep if state.next_action else 0.0
        log.warning("%s; attempt %d failed, again in %.1f s", error, state.attempt_number, seconds)

    # --- one request --------------------------------------------------------------------------------------------

    def _ask_for_token(self, url: str, form: bytes, headers: Mapping[str, str]) -> Reply:
        """Send what asks for an access token, in the slot of the query that needs it, and read the reply."""
        call = _Call("POST", sendable(url), header_lines(headers), form, token_error_of, "token")
        return self._exchange(call, None, min(TOKEN_SECONDS_MAX, self._request_timeout_seconds))

    def _exchange(self, call: _Call, authorization: str | None, seconds: float) -> Reply:
        """Send one request, which may take so many seconds, and read its reply.

        From here on this thread's log lines bear the request's id. Raises SourceDown, GarbledReply, BadReply, Stopped.
        """
        request_id = self._new_request_id()
        bind(request_id=request_id)
        began = self._monotonic()
        try:
            with self._watch(request_id, call.method, call.url) as answered:
                reply = self._send(call, authorization, seconds)
                answered(reply.status)
        except SourceError as error:
            self._tell(call, began, type(error).__name__)
            raise
        self._tell(call, began, reply)
        return reply

    def _tell(self, call: _Call, began: float, came: Reply | str) -> None:
        """Tell under `-v` of a request, since `began` (monotonic): its reply, or the kind of error that it ended in.

        Neither the query nor a byte of the answer is told, nor a header but the one by which the service's support
        finds the request: X-N-OperationId.
        """
        if not log.isEnabledFor(logging.DEBUG):
            return
        facts: dict[str, object] = {"method": call.method, "kind": call.kind}
        outcome: int | str = came if isinstance(came, str) else came.status
        if isinstance(came, Reply):
            facts |= {"status": came.status, "bytes": len(came.body)}
            rows = _ROWS.search(came.body) if came.status == 200 and call.kind == "suiteql" else None
            if rows is not None:
                facts["rows"] = int(rows[1])
            operation_id = came.headers.get("X-N-OperationId", "")
            if _OPERATION_ID.fullmatch(operation_id):
                facts["operation_id"] = operation_id
        facts["seconds"] = round(self._monotonic() - began, 3)
        log.debug("%s %s: %s", call.method, call.kind, outcome, extra=facts)

    def _send(self, call: _Call, authorization: str | None, seconds: float) -> Reply:
        connection = self._connection()
        connection.deadline.start(seconds)
        with self._lock:
            self._health.requests += 1
        headers = call.headers if authorization is None else f"{call.headers}Authorization: {authorization}\r\n"
        answer: http.client.HTTPResponse | None = None
        try:
            answer = connection.ask(call.method, call.url, headers, call.data)
            return self._read(answer)
        except TRANSPORT_ERRORS as fault:
            if self._halted.is_set():
                raise Stopped("stopped while NetSuite was answering") from None
            if connection.deadline.passed():
                raise late(self._host, seconds) from fault
            raise transport_error(fault, self._host, answered=answer is not None) from fault
        finally:
            connection.release()

    def _connection(self) -> Connection:
        connection = self._local.connection
        if connection is None:
            connection = Connection(self._url, Deadline(self._monotonic, self._halted.is_set))
            self._local.connection = connection
            self._connections.add(connection)
        return connection

    def _read(self, answer: http.client.HTTPResponse) -> Reply:
        headers = Headers(answer.headers.items())
        date = headers.get("Date")
        if date is not None:
            self._last_date = (date, self._monotonic())
        status = answer.status
        if status != 200:
            return Reply(status, headers, self._read_error(answer, headers))
        media_type = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        if media_type != "application/json" and not media_type.endswith("+json"):
            raise GarbledReply(
                f"NetSuite answered with {media_type or 'no content type'} instead of JSON, as it does in maintenance",
                help="if it stays, open base_url in a browser: a proxy or a login page may be answering",
            )
        body = _unpacked(answer, headers, self._max_reply_bytes, cut=False)
        if not body.rstrip().endswith(b"}"):
            raise GarbledReply("NetSuite's answer was cut short: its JSON has no end")
        return Reply(status, headers, body)

    def _read_error(self, answer: http.client.HTTPResponse, headers: Headers) -> bytes:
        """Return what can be had of an error's body: the status counts, above all a 401's, whatever its body does."""
        if 300 <= answer.status < 400:
            return b""
        self._connection().deadline.shorten(_ERROR_BODY_SECONDS_MAX)
        try:
            return _unpacked(answer, headers, _ERROR_BODY_BYTES_MAX, cut=True)
        except (SourceError, *TRANSPORT_ERRORS):
            return b""


@dataclass(slots=True)
class _Tally:
    """Counts up to what `Health` tells; its owner locks it."""

    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    last_success: float | None = None
    failing_since: float | None = None

    def ended(self, error: SourceError | None, now: float) -> None:
        """Count a request that has ended, at a moment of the monotonic clock."""
        if error is None:
            self.last_success = now
        self.rate_limited += isinstance(error, RateLimited)
        if not isinstance(error, SourceDown | ServerFault | BadReply):
            self.failing_since = None
        elif self.failing_since is None:
            self.failing_since = now

    def health(self) -> Health:
        """Return what was counted up to now."""
        return Health(self.requests, self.retries, self.rate_limited, self.last_success, self.failing_since)


def _unpacked(answer: http.client.HTTPResponse, headers: Headers, max_bytes: int, *, cut: bool) -> bytes:
    """Return the body, decompressed; no more than `max_bytes` are ever unpacked.

    At the limit the rest is dropped if `cut`, else BadReply is raised: before anything is read where the length that
    is announced lies beyond it. Raises GarbledReply when the compression is broken or another than gzip.
    """
    encoding = headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise GarbledReply(f"NetSuite's answer is compressed by {encoding[:20]!r}, which was not asked for")
    if encoding == "identity" and answer.length is not None:
        if answer.length <= max_bytes:
            return answer.read()
        if not cut:
            raise _too_large(max_bytes)
    unpacker = zlib.decompressobj(wbits=31) if encoding != "identity" else None
    return b"".join(_pieces(answer, unpacker, max_bytes, cut=cut))


def _pieces(
    answer: http.client.HTTPResponse, unpacker: "zlib._Decompress | None", max_bytes: int, *, cut: bool
) -> Iterator[bytes]:
    """Yield the body as it comes."""
    left = max_bytes
    while chunk := answer.read(_CHUNK_BYTES):
        while chunk:
            part, chunk = _piece(unpacker, chunk, left + 1)
            if len(part) > left:
                if cut:
                    yield part[:left]
                    return
                raise _too_large(max_bytes)
            left -= len(part)
            yield part
    if answer.length:
        raise http.client.IncompleteRead(b"", answer.length)
    if unpacker is not None and not unpacker.eof and not cut:
        raise GarbledReply("NetSuite's answer was cut short: its compression has no end")


def _piece(unpacker: "zlib._Decompress | None", packed: bytes, max_bytes: int) -> tuple[bytes, bytes]:
    """Return a piece of what was packed, and what of `packed` is left to unpack: one MiB of it may hold a GiB."""
    if unpacker is None:
        return packed, b""
    if unpacker.eof:
        raise GarbledReply("NetSuite's answer goes on behind the end of its compression")
    try:
        return unpacker.decompress(packed, min(max_bytes, _CHUNK_BYTES)), unpacker.unconsumed_tail
    except zlib.error:
        raise GarbledReply("NetSuite's answer is damaged: it cannot be decompressed") from None


def _too_large(max_bytes: int) -> BadReply:
    return BadReply(
        f"NetSuite's answer is larger than {max_bytes} bytes",
        help="select fewer or shorter columns, or lower page_size in [run]",
    )
