"""What a reply that is no page means, and what is done about it.

| answer | error | asked again |
|---|---|---|
| no connection, reset, deadline passed, 408, 5xx but 500 | SourceDown | yes, up to `attempts` |
| certificate not accepted | UntrustedServer | no |
| 429 | RateLimited | yes, up to `attempts` |
| cut short, or 200 that is no JSON (a maintenance page) | GarbledReply | yes, up to `attempts` |
| 500 | ServerFault | twice: it may pass, or be caused by one column for ever |
| 400 on a table or column | TableRefused | no |
| 400 without permission, 403 | LoginRefused | no |
| 400, 403, 404 of the metadata catalogue | CatalogueRefused | no |
| 401 | LoginRefused | by the gate alone: five failures lock the user out for 30 minutes |
| any other 4xx | QueryRefused | no |
| redirect, over the size limit, 407 | BadReply | no |

The token endpoint of machine-to-machine logins answers by the same rules but for these:

| answer of the token endpoint | error | asked again |
|---|---|---|
| 400, 401 and any other 4xx but 407, 408, 429 | LoginRefused | by the gate alone |
| 500 | SourceDown: no query is to blame | yes, up to `attempts` |
| 200 without a token | GarbledReply | yes, up to `attempts` |

The service's error envelope is `{"type": ..., "title": ..., "status": n, "o:errorDetails": [{"detail": ...,
"o:errorCode": ...}]}`; status and code count, never the title. The token endpoint's is `{"error": ...,
"error_description": ...}`. Sources: Oracle, "REST Web Services Error Handling"; RFC 6749, section 5.2.
"""

import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from http.client import IncompleteRead, RemoteDisconnected

from tenacity import RetryCallState
from urllib3.exceptions import ProxyError

from waveimport.errors import (
    BadReply,
    CatalogueRefused,
    GarbledReply,
    LoginRefused,
    QueryRefused,
    RateLimited,
    ServerFault,
    SourceDown,
    SourceError,
    TableRefused,
    UntrustedServer,
    WaveImportError,
)
from waveimport.netsuite.gate import Verdict

SERVER_FAULT_ATTEMPTS = 3
RETRY_AFTER_MAX_SECONDS = 300.0

# First step and ceiling of the growing delays, by class. A fault that passes is over at once; one that does not is the
# batch's to wait for, whose own delays grow on from there.
_DELAYS: dict[type[SourceError], tuple[float, float]] = {
    RateLimited: (0.5, 30.0),
    ServerFault: (0.5, 30.0),
    SourceDown: (0.5, 60.0),
    GarbledReply: (0.5, 60.0),
}

_DETAIL_MAX_CHARACTERS = 500
_NOT_SHOWN = re.compile(r"Invalid search type|Record '[^']*' was not found|Unknown identifier|Field '[^']*'", re.I)
_NO_PERMISSION = re.compile(r"does not have permission|INSUFFICIENT_PERMISSION", re.I)


def error_of(status: int, headers: Mapping[str, str], body: bytes) -> SourceError:
    """Return the error that a reply with another status than 200 stands for; see the table above.

    `headers` must be case-insensitive. The service's own words are in the message, at most 500 characters.
    """
    words = _detail(body)
    if status in (401, 403):
        return LoginRefused(
            f"NetSuite refused the login ({status}): {words or _challenge(headers) or 'no reason given'}",
            where="[netsuite]",
            help="the reason is in NetSuite under Setup > Users/Roles > View Login Audit Trail; check account, keys, "
            "token and the role's permission for REST Web Services and SuiteAnalytics Workbook",
        )
    if status == 429:
        return RateLimited(
            f"NetSuite's concurrency limit is in use (429): {words or 'no reason given'}",
            retry_after_seconds=retry_after_seconds(headers),
            help="lower `concurrency` in [netsuite], or let the account's other integrations finish",
        )
    if status == 500:
        return ServerFault(
            f"NetSuite failed inside (500): {words or 'no reason given'}",
            help="if it stays, one of the columns may cause it: leave columns out to find which",
        )
    if status > 500 or status == 408:
        return SourceDown(
            f"NetSuite is not available ({status}){': ' + words if words else ''}",
            retry_after_seconds=retry_after_seconds(headers),
        )
    if 300 <= status < 400:
        return BadReply(
            f"NetSuite's address answered with a redirect ({status}), and those are not followed",
            where="[netsuite] base_url",
            help="set base_url to the address that the account's SuiteTalk has (Setup > Company > Company URLs)",
        )
    if status == 407:
        return BadReply("the proxy asks for a login (407)", help="put user and password into HTTPS_PROXY")
    if 400 <= status < 500:
        return _refusal(status, words)
    return GarbledReply(f"NetSuite answered with status {status} where a page was due")


def token_error_of(status: int, headers: Mapping[str, str], body: bytes) -> SourceError:
    """Return the error that a reply of the token endpoint with another status than 200 stands for.

    The service says little of why, and less than it writes into its Login Audit Trail.
    """
    if 400 <= status < 500 and status not in (407, 408, 429):
        words = _oauth_error(body) or _detail(body) or _challenge(headers) or "no reason given"
        return LoginRefused(
            f"NetSuite gave no access token ({status}): {words}",
            where="[netsuite]",
            help="the reason is in NetSuite under Setup > Users/Roles > View Login Audit Trail; check client_id,"
            " certificate_id, that the certificate has not expired and is of this private key, algorithm, this"
            " machine's clock, and the role that OAuth 2.0 Client Credentials (M2M) Setup maps the certificate to",
        )
    if status == 500:
        return SourceDown("NetSuite failed inside (500) where an access token was asked for")
    return error_of(status, headers, body)


def catalogue_error_of(status: int, headers: Mapping[str, str], body: bytes) -> SourceError:
    """Return `error_of` for a reply of the metadata catalogue: what it refuses need not be refused to SuiteQL.

    A role can be without the catalogue (403) and have all that an import needs, and how the service words a record
    that it has not is not documented, so the three statuses of a refusal are taken alike.
    """
    if status in (400, 403, 404):
        return CatalogueRefused(
            f"NetSuite's metadata catalogue refused ({status}): {_detail(body) or 'no reason given'}",
            help="the role needs REST Web Services, and View permission for the record",
        )
    return error_of(status, headers, body)


def login_verdict(status: int) -> Verdict:
    """Return what a reply's status says about the login: the service looks at it before it looks at the query."""
    if status == 401:
        return Verdict.REFUSED
    if status in (200, 500) or (400 <= status < 500 and status not in (407, 408, 429)):
        return Verdict.ACCEPTED
    return Verdict.UNKNOWN


def _refusal(status: int, words: str) -> SourceError:
    if _NO_PERMISSION.search(words):
        return LoginRefused(
            f"the role may not use SuiteQL ({status}): {words}",
            where="[netsuite]",
            help="give the role REST Web Services, SuiteAnalytics Workbook and Log in using Access Tokens, for auth ="
            ' "m2m" Log in using OAuth 2.0 Access Tokens',
        )
    if _NOT_SHOWN.search(words):
        return TableRefused(
            "NetSuite does not show this table or column: it is misspelt, or hidden from the role, which the service "
            f"answers alike ({status}): {words}",
            help="compare the name with NetSuite's Records Catalog, and give the role View permission for the record",
        )
    return QueryRefused(f"NetSuite refused the query ({status}): {words or 'no reason given'}")


def _detail(body: bytes) -> str:
    """Return the details and codes of an error envelope as one line, or "" when `body` is no envelope."""
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(envelope, dict):
        return ""
    details = envelope.get("o:errorDetails")
    words = [
        " ".join(str(part[key]) for key in ("detail", "o:errorCode") if part.get(key))
        for part in (details if isinstance(details, list) else [])
        if isinstance(part, dict)
    ]
    return _one_line("; ".join(filter(None, words)) or str(envelope.get("title") or ""))


def _oauth_error(body: bytes) -> str:
    """Return code and description of the token endpoint's error as one line, or "" when `body` is no such error."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        return ""
    if not isinstance(document, dict):
        return ""
    parts = [document.get(key) for key in ("error", "error_description")]
    return _one_line(": ".join(part for part in parts if isinstance(part, str) and part))


def _challenge(headers: Mapping[str, str]) -> str:
    return _one_line(headers.get("WWW-Authenticate", ""))


def _one_line(words: str) -> str:
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in words).split())
    return line if len(line) <= _DETAIL_MAX_CHARACTERS else line[:_DETAIL_MAX_CHARACTERS] + "…"


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return how long the service asks to wait, 0 to 300 seconds, or None when it does not say.

    A moment is counted from the reply's own Date, so that the local clock does not matter.
    """
    asked = headers.get("Retry-After")
    if asked is None:
        return None
    if asked.strip().isdecimal():
        return min(float(asked), RETRY_AFTER_MAX_SECONDS)
    try:
        seconds = (parsedate_to_datetime(asked) - parsedate_to_datetime(headers.get("Date", ""))).total_seconds()
    except (ValueError, TypeError):  # TypeError: only one of the two carries a time zone
        return None
    return min(max(seconds, 0.0), RETRY_AFTER_MAX_SECONDS)


def late(host: str, seconds: float) -> SourceDown:
    """Return the error of a request that was not answered completely by its deadline of `seconds`."""
    return SourceDown(
        f"{host} did not answer completely within {seconds:g} s",
        help="ask for less at a time, or raise request_timeout_seconds",
    )


def transport_error(fault: Exception, host: str, *, answered: bool) -> SourceError:
    """Return the error that an exception of http.client, urllib3 or the system stands for.

    `answered` says whether a status had arrived. The words are ours or the system's: the libraries' texts carry
    addresses, and a proxy's password with them.
    """
    causes = list(_causes(fault))
    certificate = next((cause for cause in causes if isinstance(cause, ssl.SSLCertVerificationError)), None)
    if certificate is not None:
        return UntrustedServer(
            f"the certificate of {host} is not accepted: {certificate.verify_message}",
            where="[netsuite] base_url",
            help="check base_url; behind a proxy that inspects TLS set REQUESTS_CA_BUNDLE to its certificate",
        )
    if any(isinstance(cause, IncompleteRead) for cause in causes):
        return GarbledReply("NetSuite's answer was cut short: the connection ended before the body did")
    if any(isinstance(cause, ProxyError) for cause in causes):
        return SourceDown(
            f"{host} could not be reached through the proxy: {_reason(causes)}",
            help="check HTTPS_PROXY, its user and password, and what the proxy allows",
        )
    happened = "broke off while answering" if answered else "could not be reached"
    return SourceDown(
        f"{host} {happened}: {_reason(causes)}",
        help="check the network, HTTPS_PROXY, and that account and base_url are spelt right",
    )


def _causes(fault: BaseException) -> Iterator[BaseException]:
    """Yield the error and all that it wraps, outermost first: urllib3 nests them in arguments too.

    One of our own is never wrapped: it is what another request had ended in, behind which this one was sent.
    """
    waiting: list[BaseException] = [fault]
    seen: set[int] = set()
    while waiting:
        error = waiting.pop()
        if id(error) in seen or isinstance(error, WaveImportError):
            continue
        seen.add(id(error))
        yield error
        inner = [error.__cause__, error.__context__, getattr(error, "reason", None), *error.args]
        waiting.extend(cause for cause in inner if isinstance(cause, BaseException))


def _reason(causes: list[BaseException]) -> str:
    for cause in causes:
        if isinstance(cause, OSError):
            if cause.strerror:
                return cause.strerror
            if str(cause).startswith("Tunnel connection failed"):
                return _one_line(str(cause))
            if isinstance(cause, RemoteDisconnected):
                return "the connection was closed without an answer"
    return type(causes[-1]).__name__


def attempts_for(error: BaseException, attempts: int) -> int:
    """Return how often, in all, a request that ends in `error` is sent; 1 means that asking again changes nothing."""
    match error:
        case UntrustedServer():
            return 1
        case ServerFault():
            return min(SERVER_FAULT_ATTEMPTS, attempts)
        case SourceDown() | GarbledReply():
            return attempts
        case _:
            return 1


def delay_seconds(error: BaseException, attempt_number: int, fraction: float) -> float:
    """Return how long to wait after the failed attempt of that number (from 1); `fraction` is random in [0, 1).

    Full jitter: anything from nothing to a ceiling that doubles. A wait that the service asked for comes first, and
    on top of it up to one step, or all who were refused together would come back together.
    """
    step, ceiling = next((delay for kind, delay in _DELAYS.items() if isinstance(error, kind)), (1.0, 60.0))
    asked = getattr(error, "retry_after_seconds", None)
    if asked is not None:
        return float(asked) + fraction * step
    return fraction * min(ceiling, step * 2.0 ** (attempt_number - 1))


class Policy:
    """The table above as tenacity asks for it: `retry`, `stop` and `wait`. `random` gives fractions in [0, 1)."""

    def __init__(self, attempts: int, random: Callable[[], float]) -> None:
        self._attempts = attempts
        self._random = random

    def retry(self, state: RetryCallState) -> bool:
        """Say whether the outcome is an error that asking again may cure."""
        error = _error(state)
        return error is not None and attempts_for(error, self._attempts) > 1

    def stop(self, state: RetryCallState) -> bool:
        """Say whether the error has had its attempts."""
        error = _error(state)
        return error is None or state.attempt_number >= attempts_for(error, self._attempts)

    def wait(self, state: RetryCallState) -> float:
        """Return the seconds until the next attempt."""
        error = _error(state)
        assert error is not None
        return delay_seconds(error, state.attempt_number, self._random())


def _error(state: RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None
