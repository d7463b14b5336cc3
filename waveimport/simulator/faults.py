"""The faults an account may show, as a plan: what, when, and how often, the same at every run of the same seed.

A plan is a TOML or JSON file (by its suffix), or `Faults(...)` in a program. All keys are optional; an unknown one is
a mistake.

    seed = 1                       # decides every probability, together with the request's number
    latency_seconds = 0.2          # before each answer
    latency_jitter_seconds = 0.1   # up to this much more, by chance
    slow_count_seconds = 5.0       # more, for queries that call COUNT
    concurrency = 5                # more requests in flight get 429; 0, the default: no limit
    rivals = 0                     # requests that others always have in flight, of the same limit
    retry_after_seconds = 2        # said in the header Retry-After of every 429; absent by default, as in the service
    token_seconds = 3600           # how long each access token is good for
    row_cap = 100000               # rows of a query that can be paged to
    cap_mode = "stop"              # beyond: "stop" hasMore ends, "empty" pages without rows, "error" 400
    hidden_tables = ["vendor"]     # the role cannot see them
    hidden_columns = ["transaction.entity"]
    changes_every = 0              # rows come, change and go at every so many requests (see changes.py); 0: none do
    changes_seed = 1
    one_world = false              # an account without subsidiaries: neither the table nor the columns
    catalogue = false              # the role may not read the metadata catalogue: 403
    suiteql = false                # the role may not query at all: 400 USER_ERROR
    time_zone = "America/Phoenix"  # the account's, in which it shows times and takes literals
    date_format = "M/D/YYYY"       # the account's, for dates that are not asked for by TO_CHAR

    [[fault]]
    kind = "server_error"          # see FaultKind
    probability = 0.01             # of the requests that the fault is meant for
    requests = [3, 7]              # and these, by number; the first request of its resource is 1
    resource = "token"             # strikes requests for access tokens; by default "query"
    matching = "FROM transaction"  # only queries that contain this text, in any case
    times = 10                     # at most so often
    seconds = 2.0                  # for "delay", "late_login": wait so long; for "drip": take so long over the answer
    location = "http://127.0.0.1:9/"  # for "redirect"

A fault with neither `probability` nor `requests` strikes every request it is meant for. Of several that would strike
one request the first in the plan does. Faults strike before the login is looked at, all but `delay` and `drip`, after
which the true answer comes. Queries and requests for tokens are numbered apart, so that a plan does the same to an
import whichever way it logs in.
"""

import json
import random
import threading
import tomllib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from waveimport.errors import BadToml, BadValue, ConfigError, UnknownKey
from waveimport.simulator.account_time import DATE_FORMAT, TIME_ZONE, AccountTime
from waveimport.simulator.schema import TABLES


class FaultKind(StrEnum):
    """What can go wrong with one request."""

    RATE_LIMIT = "rate_limit"  # 429, whatever is in flight
    SERVER_ERROR = "server_error"  # 500 with an Error ID
    UNAVAILABLE = "unavailable"  # 503 with a page of HTML
    HTML = "html"  # 200, but a page of HTML
    RESET = "reset"  # the connection is reset before a byte is answered
    TRUNCATE = "truncate"  # half of the true answer, then the connection closes
    DRIP = "drip"  # the true answer, slowly
    REDIRECT = "redirect"  # 302 to elsewhere
    LOGIN = "login"  # 401, though the login was right
    LATE_LOGIN = "late_login"  # 401 after a while: what some accounts say to more requests than their limit, after 61 s
    DELAY = "delay"  # the true answer, late
    REVOKE = "revoke"  # every access token issued so far ends, the request's own too; then the true answer


class Resource(StrEnum):
    """What a request is for."""

    QUERY = "query"
    TOKEN = "token"


class CapMode(StrEnum):
    """How a query behaves beyond the rows that can be paged to; reports from real accounts differ."""

    STOP = "stop"
    EMPTY = "empty"
    ERROR = "error"


class Fault(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One rule of the plan; the module's docstring says what each key means."""

    kind: FaultKind
    probability: float = 0.0
    requests: tuple[int, ...] = ()
    resource: Resource = Resource.QUERY
    matching: str = ""
    times: int | None = None
    seconds: float = 1.0
    location: str = "http://127.0.0.1:9/elsewhere"


class Faults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A whole plan; the module's docstring says what each key means."""

    seed: int = 1
    latency_seconds: float = 0.0
    latency_jitter_seconds: float = 0.0
    slow_count_seconds: float = 0.0
    concurrency: int = 0
    rivals: int = 0
    retry_after_seconds: int | None = None
    token_seconds: float = 3600.0
    row_cap: int = 100_000
    cap_mode: CapMode = CapMode.STOP
    hidden_tables: tuple[str, ...] = ()
    hidden_columns: tuple[str, ...] = ()
    changes_every: int = 0
    changes_seed: int = 1
    one_world: bool = True
    catalogue: bool = True
    suiteql: bool = True
    time_zone: str = TIME_ZONE
    date_format: str = DATE_FORMAT
    fault: tuple[Fault, ...] = ()

    @property
    def hidden(self) -> frozenset[str]:
        """Tables and columns that the role cannot see or the account has not, in lower case: NetSuite tells no
        difference."""
        absent = () if self.one_world else ("subsidiary", *(f"{table}.subsidiary" for table in TABLES))
        return frozenset(name.lower() for name in (*self.hidden_tables, *self.hidden_columns, *absent))


@dataclass(frozen=True, slots=True)
class Blow:
    """What happens to one request: how long it waits, and which fault strikes it, if any."""

    delay_seconds: float
    fault: Fault | None


class Plan:
    """A plan at work: it counts how often each fault struck. Safe for many threads."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._struck = [0] * len(faults.fault)
        self._lock = threading.Lock()

    def blow(self, number: int, query: str, counting: bool, resource: Resource = Resource.QUERY) -> Blow:
        """Return what happens to request `number` (from 1) of that resource, with that query; `counting` if it calls
        COUNT."""
        faults = self.faults
        delay = faults.latency_seconds + faults.latency_jitter_seconds * self._chance(number, "latency")
        if counting:
            delay += faults.slow_count_seconds
        for position, fault in enumerate(faults.fault):
            if fault.resource is resource and self._strikes(position, fault, number, query):
                if fault.kind is FaultKind.DELAY:
                    return Blow(delay + fault.seconds, None)
                late = fault.seconds if fault.kind is FaultKind.LATE_LOGIN else 0.0
                return Blow(delay + late, fault)
        return Blow(delay, None)

    def _strikes(self, position: int, fault: Fault, number: int, query: str) -> bool:
        if fault.matching and fault.matching.lower() not in query.lower():
            return False
        always = not fault.probability and not fault.requests
        if not (always or number in fault.requests or self._chance(number, str(position)) < fault.probability):
            return False
        with self._lock:
            if fault.times is not None and self._struck[position] >= fault.times:
                return False
            self._struck[position] += 1
        return True

    def _chance(self, number: int, what: str) -> float:
        return random.Random(f"{self.faults.seed}/{number}/{what}").random()


def load(path: Path) -> Faults:
    """Read a plan from a TOML file, or a JSON file if its name ends in .json.

    Raises BadToml, UnknownKey or BadValue with the file as place; nothing in a plan is ever ignored.
    """
    where = str(path)
    try:
        words = path.read_text(encoding="utf-8")
        plan = json.loads(words) if path.suffix == ".json" else tomllib.loads(words)
    except OSError as error:
        raise ConfigError(f"the fault plan cannot be read: {error.strerror}", where=where) from None
    except (ValueError, RecursionError) as error:
        raise BadToml(f"the fault plan cannot be parsed: {error}", where=where) from None
    try:
        return check(msgspec.convert(plan, Faults))
    except msgspec.ValidationError as error:
        said = str(error)
        kind = UnknownKey if "unknown field" in said else BadValue
        raise kind(f"in the fault plan: {said}", where=where, help="see `waveimport simulate --help`") from None


def check(faults: Faults) -> Faults:
    """Return the plan. Raises msgspec.ValidationError for a value out of its bounds."""
    times = (faults.latency_seconds, faults.latency_jitter_seconds, faults.slow_count_seconds)
    if min(*times, faults.concurrency, faults.rivals, faults.changes_every) < 0 or faults.row_cap < 1:
        raise msgspec.ValidationError("only the seeds may be negative, and row_cap is at least 1")
    if faults.token_seconds <= 0:
        raise msgspec.ValidationError("token_seconds must be above 0")
    try:
        AccountTime(faults.time_zone, faults.date_format)
    except ValueError as error:
        raise msgspec.ValidationError(str(error)) from None
    for fault in faults.fault:
        if not 0 <= fault.probability <= 1 or fault.seconds < 0 or min(fault.requests, default=1) < 1:
            raise msgspec.ValidationError(f"a probability lies in 0..1, seconds and requests above: {fault.kind}")
    return faults
