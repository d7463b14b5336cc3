"""Everything a run needs, tried one by one, each with its mend where it is missing."""

import os
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC
from enum import StrEnum
from pathlib import Path

from waveimport.core.settings import DatabaseSettings, Deletes, Settings
from waveimport.core.wide import parts_of
from waveimport.errors import (
    ConfigErrors,
    ExitCode,
    LoginRefused,
    SchemaMismatch,
    SourceError,
    WaveImportError,
)
from waveimport.netsuite.auth import SIGNATURE_SKEW_MOST_SECONDS
from waveimport.netsuite.client import SuiteQLClient
from waveimport.netsuite.narrowing import DELETED, DELETED_MEND
from waveimport.netsuite.suiteql import trial_query
from waveimport.runtime import clock
from waveimport.runtime.opening import credential_fingerprint, open_database
from waveimport.runtime.single_flight import FileGuard, lock_path
from waveimport.store import accounts, schema
from waveimport.store.engine import public_name, sqlite_path
from waveimport.store.interleavings import try_interleavings
from waveimport.store.probe import Server, ask_server, try_privileges
from waveimport.store.transactions import Database

SKEW_WARN_SECONDS = 60.0
DATABASE_SKEW_WARN_SECONDS = 60.0
QUERY_SECONDS = 60.0
QUERY_ATTEMPTS = 2
SQLITE_WAL_MENDED = (3, 51, 3)

_DIRECTLY = (
    "connect to one server, and directly: a proxy that shares or changes sessions, or a cluster written to on several"
    " nodes, keeps neither locks nor transactions together"
)
BROKEN_PROMISES = {
    "fresh_count": ("a count beside a locked row is stale, and would call a job complete too early", _DIRECTLY),
    "no_lost_update": ("two that write under one row's lock lose an update, and two runs could hold a job", _DIRECTLY),
    "claims_apart": (
        "two claimers do not pass over each other's rows",
        "use MariaDB 10.6, MySQL 8.0.17 or newer, and " + _DIRECTLY,
    ),
    "commit_is_whole": ("a connection that is lost leaves half of its work, or hides the whole of it", _DIRECTLY),
    "one_winner": ("a guarded update is not won by one of two", _DIRECTLY),
}
"""What it means, and the mend, where an interleaving of two connections does not end as a run needs it, by its name."""
_LOCAL_DISK = "put the file on a local disk: the file system it lies on does not keep locks"


class Level(StrEnum):
    """How a part of the check came out."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the check. `code` is the error's, None where there is none; `exit_code` counts on `fail` only."""

    part: str
    level: Level
    message: str
    help: str | None = None
    code: str | None = None
    exit_code: ExitCode = ExitCode.OK


def failures_of(part: str, error: WaveImportError) -> Iterator[Finding]:
    """Yield an error as findings: each mistake of a configuration is one of its own."""
    for one in error.errors if isinstance(error, ConfigErrors) else [error]:
        place = f" ({one.where})" if one.where else ""
        yield Finding(part, Level.FAIL, one.message + place, one.help, one.code, one.exit_code)


def check_up(settings: Settings) -> Iterator[Finding]:
    """Try the databases, the lock directory, the login and the clocks; yield what was found as it is found.

    Raises nothing of the errors it looks for. NetSuite is asked one query, also when a refused login is remembered:
    an accepted login is then forgotten as refused, a refused one remembered.
    """
    memory = None
    yield Finding("configuration", Level.OK, _configured(settings))
    try:
        memory, findings = _database("database", settings, settings.database)
        yield from findings
        if memory is not None:
            yield _schema(memory)
        if settings.destination is not None and not settings.one_database:
            landing, findings = _database("destination", settings, settings.destination)
            yield from findings
            if landing is not None:
                landing.close()
        yield from _locks(settings)
        yield from _source(settings, memory)
    finally:
        if memory is not None:
            memory.close()


def _configured(settings: Settings) -> str:
    names = ", ".join(record.name for record in settings.records)
    return f"{settings.path}: profile {settings.profile}, {len(settings.records)} records ({names})"


# --- databases --------------------------------------------------------------------------------------------------


def _database(part: str, settings: Settings, which: DatabaseSettings) -> tuple[Database | None, list[Finding]]:
    """Return the open database and what was found; None where it is not there yet or out of reach."""
    file = sqlite_path(which.url)
    name = public_name(which.url)
    if file is not None and not file.exists():
        return None, [_file_to_be(part, file)]
    database = open_database(replace(settings, database=which))
    try:
        server = database.run(ask_server)
    except WaveImportError as error:
        database.close()
        return None, list(failures_of(part, error))
    findings = [_version(part, server, name), *_isolation(part, server), *_database_clock(part, server)]
    table = f"_waveimport_check_{secrets.token_hex(6)}"
    try:
        database.run(lambda connection: try_privileges(connection, table))
        findings.append(Finding(part, Level.OK, "tables can be created, written and dropped"))
        findings.extend(_two_connections(part, database, table))
    except WaveImportError as error:
        findings.extend(failures_of(part, error))
    return database, findings


def _file_to_be(part: str, file: Path) -> Finding:
    folder = file.parent
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return Finding(part, Level.OK, f"{file} is not there yet; `waveimport run` creates it")
    return Finding(
        part,
        Level.FAIL,
        f"{file} is not there, and {folder} cannot be written",
        help="name a folder that this user may write, in `url` of the configuration",
        exit_code=ExitCode.UNREACHABLE,
    )


def _version(part: str, server: Server, name: str) -> Finding:
    said = f"{name}: {server.product} {server.version_text}"
    if server.version < server.lowest:
        lowest = ".".join(map(str, server.lowest))
        return Finding(
            part,
            Level.FAIL,
            f"{said} is older than {lowest}",
            help=f"use {server.product} {lowest} or newer",
            exit_code=ExitCode.USAGE,
        )
    if server.product == "SQLite" and server.version < SQLITE_WAL_MENDED:
        said += (
            f" (below {'.'.join(map(str, SQLITE_WAL_MENDED))} its WAL can be damaged by several writing threads;"
            " waveimport writes with one)"
        )
    return Finding(part, Level.OK, said)


def _isolation(part: str, server: Server) -> Iterator[Finding]:
    if server.product == "SQLite":
        if server.journal != "wal":
            yield Finding(
                part,
                Level.WARN,
                f"the journal mode is {server.journal}, not wal: readers wait for the run",
                help="put the file on a local disk",
            )
        return
    if server.isolation.upper() == "READ COMMITTED":
        yield Finding(part, Level.OK, "transactions are READ COMMITTED")
    else:
        yield Finding(
            part,
            Level.FAIL,
            f"transactions are {server.isolation or 'of an unknown isolation'}, not READ COMMITTED",
            help="something between here and the server (a proxy?) changes the session; connect directly",
            exit_code=ExitCode.USAGE,
        )


def _two_connections(part: str, database: Database, prefix: str) -> Iterator[Finding]:
    """Yield a line for each promise to two connections that the database breaks, one for all where it keeps them."""
    broken = [one for one in try_interleavings(database, prefix) if not one.held]
    for one in broken:
        meaning, mend = BROKEN_PROMISES[one.name]
        yield Finding(
            part,
            Level.FAIL,
            f"{meaning} ({one.name}: {one.seen})",
            help=_LOCAL_DISK if database.is_sqlite else mend,
            exit_code=ExitCode.USAGE,
        )
    if not broken:
        said = "two connections at once: counts fresh, no update lost, claims apart, commits whole, one winner"
        yield Finding(part, Level.OK, said)


def _database_clock(part: str, server: Server) -> Iterator[Finding]:
    if server.product == "SQLite":
        return  # its clock is ours
    ahead = (clock.utc_now() - server.now.replace(tzinfo=UTC)).total_seconds()
    if abs(ahead) > DATABASE_SKEW_WARN_SECONDS:
        yield Finding(
            part,
            Level.WARN,
            f"the clock here is {_ahead(ahead)} the database's; leases go by the database's, so nothing breaks",
            help="let both keep time by NTP",
        )
    else:
        yield Finding(part, Level.OK, f"its clock and this machine's differ by {abs(ahead):.1f} s")


def _schema(database: Database) -> Finding:
    try:
        there = schema.require_current(database)
    except SchemaMismatch as error:
        return next(failures_of("tables", error))
    if there:
        return Finding("tables", Level.OK, f"the coordination tables are of version {schema.HEAD}")
    return Finding("tables", Level.OK, "no coordination tables yet; `waveimport run` creates them")


# --- this machine -----------------------------------------------------------------------------------------------


def _locks(settings: Settings) -> Iterator[Finding]:
    try:
        path = lock_path(settings, public_name(settings.database.url), sqlite_path(settings.database.url))
        guard = FileGuard(path)
        free = guard.acquire()
    except WaveImportError as error:
        yield from failures_of("lock directory", error)
        return
    if free:
        guard.release()
    said = f"{path.parent} can be used" + ("" if free else "; a run is at work and holds the lock")
    yield Finding("lock directory", Level.OK, said)


# --- NetSuite ---------------------------------------------------------------------------------------------------


def _source(settings: Settings, memory: Database | None) -> Iterator[Finding]:
    netsuite = settings.netsuite
    record = settings.records[0]
    try:
        client = SuiteQLClient(
            netsuite,
            request_timeout_seconds=min(QUERY_SECONDS, settings.run.request_timeout_seconds),
            epoch_seconds=clock.epoch_seconds,
            attempts=QUERY_ATTEMPTS,
        )
    except WaveImportError as error:
        yield from failures_of("credentials", error)
        return
    refusal: SourceError | None = None
    with client:
        try:
            for part in parts_of(record):
                client.query(trial_query(part), limit=1)
        except SourceError as error:
            refusal = error
        deletions = list(_log_of_deletions(settings, client)) if refusal is None else []
        ahead = client.clock_skew_seconds(clock.epoch_seconds())
    yield from _answer(settings, record.name, refusal, memory)
    yield from deletions
    yield from _source_clock(ahead)


def _answer(settings: Settings, record: str, error: SourceError | None, memory: Database | None) -> Iterator[Finding]:
    account, base_url = settings.netsuite.account, settings.netsuite.base_url
    if isinstance(error, LoginRefused):
        yield from failures_of("credentials", error)
        yield from _remember(settings, memory, error)
        return
    if error is not None and error.exit_code is not ExitCode.INCOMPLETE:
        yield from failures_of("NetSuite", error)
        return
    yield Finding("credentials", Level.OK, f"{base_url} accepts the login to account {account}")
    yield from _remember(settings, memory, None)
    if error is not None:
        yield from failures_of("query", error)
    else:
        yield Finding("query", Level.OK, f"the record {record} can be read with all its columns")


def _log_of_deletions(settings: Settings, client: SuiteQLClient) -> Iterator[Finding]:
    """Say whether the log can be read where incremental records follow deletions by it: a run needs it from the second
    day on, and would fail then."""
    following = [one.name for one in settings.records if one.cursor is not None and one.deletes is not Deletes.IGNORE]
    if not following:
        return
    try:
        client.query(trial_query(DELETED), limit=1)
    except SourceError as error:
        yield Finding("deletions", Level.FAIL, error.message, DELETED_MEND, exit_code=error.exit_code)
    else:
        yield Finding("deletions", Level.OK, "the service's log of deletions can be read")


def _remember(settings: Settings, memory: Database | None, refusal: LoginRefused | None) -> Iterator[Finding]:
    """Remember a refused login, so that no run asks again for a while, or forget one that is accepted now."""
    account, credential = settings.netsuite.account, credential_fingerprint(settings)
    try:
        if memory is None or not schema.require_current(memory):
            return
        if refusal is not None:
            reason = refusal.message
            memory.run(lambda connection: accounts.remember_refusal(connection, account, credential, reason))
            return
        known = memory.run(lambda connection: accounts.recent_refusal(connection, account, credential))
        if known is not None:
            memory.run(lambda connection: accounts.forget_refusal(connection, account, credential))
            yield Finding("credentials", Level.OK, "a refusal of these credentials was remembered; runs go on from now")
    except WaveImportError as error:
        if not isinstance(error, SchemaMismatch):  # told already
            yield from failures_of("database", error)


def _source_clock(ahead: float | None) -> Iterator[Finding]:
    if ahead is None:
        return  # no answer, which was told, or one without a date
    said = f"the clock here is {_ahead(ahead)} NetSuite's"
    if abs(ahead) > SIGNATURE_SKEW_MOST_SECONDS:
        yield Finding(
            "clock",
            Level.FAIL,
            f"{said}: signatures more than {SIGNATURE_SKEW_MOST_SECONDS:.0f} s off are refused",
            help="set the clock, and let it keep time by NTP",
            exit_code=ExitCode.LOGIN,
        )
    elif abs(ahead) > SKEW_WARN_SECONDS:
        mend = f"let it keep time by NTP: from {SIGNATURE_SKEW_MOST_SECONDS:.0f} s on logins fail"
        yield Finding("clock", Level.WARN, said, help=mend)
    else:
        yield Finding("clock", Level.OK, f"NetSuite's clock and this machine's differ by about {abs(ahead):.0f} s")


def _ahead(seconds: float) -> str:
    return f"{abs(seconds):.0f} s {'ahead of' if seconds > 0 else 'behind'}"
