"""Every error that waveimport shows, as a tree: a stable code, an exit code, and a sentence.

The docstring of a class is what `waveimport explain CODE` prints. The exit codes are those of
`waveimport help exit-codes`. An error is raised with a message (one sentence, no full stop needed), and where
known a place (`where`) and a mend (`help`). Secrets must never be put into any of the three.
"""

from collections.abc import Iterator
from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of every command; the numbers are public and never change."""

    OK = 0
    FAULT = 1
    USAGE = 2
    INCOMPLETE = 3
    LOGIN = 4
    UNREACHABLE = 5
    RECONCILIATION = 6
    PAUSED = 7
    ALERT = 20
    DIVERGED = 21
    RUNNING = 75
    INTERRUPTED = 130
    TERMINATED = 143


EXIT_CODES: dict[ExitCode, str] = {
    ExitCode.OK: "complete, or nothing to do, or another run is at work or took over",
    ExitCode.FAULT: "a fault of waveimport's own",
    ExitCode.USAGE: "usage or configuration, schema older or newer than the program, file exists; nothing was written",
    ExitCode.INCOMPLETE: "incomplete: some batches failed for good, a table or column was refused, or the job was"
    " cancelled meanwhile; the rest is in",
    ExitCode.LOGIN: "login refused, or the role may not use SuiteQL at all",
    ExitCode.UNREACHABLE: "source or database unreachable: the job stays as it is, the next run goes on",
    ExitCode.RECONCILIATION: "reconciliation: counted at the source and landed differ",
    ExitCode.PAUSED: "paused by --max-runtime; the next run goes on",
    ExitCode.ALERT: "`status --exit-code`: an alert stands",
    ExitCode.DIVERGED: "`replay`: the journal and the code of the same decision version disagree",
    ExitCode.RUNNING: "`run --fail-if-running`: another run is at work",
    ExitCode.INTERRUPTED: "SIGINT, after batches in flight were committed or handed back",
    ExitCode.TERMINATED: "SIGTERM, after batches in flight were committed or handed back",
}


class WaveImportError(Exception):
    """A fault of waveimport's own: please report it with the output of `-vv`."""

    code = "WI-INT-001"
    exit_code = ExitCode.FAULT

    def __init__(self, message: str, *, where: str | None = None, help: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.help = help

    def render(self) -> str:
        """Return the error as a person reads it: `error[CODE]: message`, then `where:` and `help:` lines."""
        lines = [f"error[{self.code}]: {self.message}"]
        if self.where:
            lines.append(f"  where: {self.where}")
        if self.help:
            lines.append(f"  help:  {self.help}")
        return "\n".join(lines)


def all_errors(base: type[WaveImportError] = WaveImportError) -> Iterator[type[WaveImportError]]:
    """Yield `base` and every error class below it, parents first."""
    yield base
    for child in base.__subclasses__():
        yield from all_errors(child)


# --- configuration and usage: exit 2, nothing was written -------------------------------------------------------


class ConfigError(WaveImportError):
    """The configuration is wrong; nothing was written."""

    code = "WI-CFG-001"
    exit_code = ExitCode.USAGE


class ConfigMissing(ConfigError):
    """No configuration file was found where it was looked for."""

    code = "WI-CFG-002"


class UnknownKey(ConfigError):
    """A key that waveimport does not know stands in the configuration; it is a mistake rather than ignored, because
    a misspelt key would silently leave its default in force."""

    code = "WI-CFG-003"


class BadValue(ConfigError):
    """A configured value has the wrong type or lies outside what is allowed."""

    code = "WI-CFG-004"


class MissingKey(ConfigError):
    """A required key is missing from the configuration."""

    code = "WI-CFG-005"


class BadRecords(ConfigError):
    """The records contradict each other: a cycle, an unknown parent, two records with one destination table."""

    code = "WI-CFG-006"


class BadSecret(ConfigError):
    """A secret could not be resolved: an environment variable is not set, a secret file cannot be read, or a private
    key is none, is encrypted, or lies open to others."""

    code = "WI-CFG-007"


class BadToml(ConfigError):
    """The configuration file is not valid TOML."""

    code = "WI-CFG-008"


class ConfigErrors(ConfigError):
    """Several mistakes were found in the configuration; all are listed."""

    code = "WI-CFG-009"

    def __init__(self, errors: list[ConfigError]) -> None:
        super().__init__(f"{len(errors)} mistakes in the configuration")
        self.errors = errors

    def render(self) -> str:
        """Return every mistake in the form of a single one, in the order of the file."""
        return "\n".join(error.render() for error in self.errors)


class UsageError(WaveImportError):
    """The command was called with words that do not fit; nothing was written."""

    code = "WI-USE-001"
    exit_code = ExitCode.USAGE


class FileExists(UsageError):
    """The file to write exists already, and waveimport never overwrites."""

    code = "WI-USE-002"


class UnknownJob(UsageError):
    """No job of that id is in the database."""

    code = "WI-USE-003"


class ModeConflict(UsageError):
    """An unfinished job of another mode exists: finish it with `run`, or end it with `cancel`."""

    code = "WI-USE-004"


class ConfigChanged(UsageError):
    """The unfinished job was created under another account, destination or set of records: going on would mix two
    imports. Cancel it, or adopt the new configuration where that is safe."""

    code = "WI-USE-005"


class SchemaMismatch(UsageError):
    """The coordination tables are older or newer than this program."""

    code = "WI-USE-006"


class MissingExtra(UsageError):
    """The command needs an optional part that is not installed."""

    code = "WI-USE-007"


class UnknownBatch(UsageError):
    """No batch of that id is in the job."""

    code = "WI-USE-008"


class NotFailed(UsageError):
    """Only a batch that failed for good, and that no later job is at work on, can be skipped."""

    code = "WI-USE-009"


# --- the source -------------------------------------------------------------------------------------------------


class SourceError(WaveImportError):
    """NetSuite could not be asked, or answered with an error."""

    code = "WI-SRC-001"


class SourceDown(SourceError):
    """NetSuite could not be reached or answered with a passing fault; the request is tried again."""

    code = "WI-SRC-002"
    exit_code = ExitCode.UNREACHABLE

    def __init__(
        self,
        message: str,
        *,
        retry_after_seconds: float | None = None,
        where: str | None = None,
        help: str | None = None,
    ) -> None:
        super().__init__(message, where=where, help=help)
        self.retry_after_seconds = retry_after_seconds


class RateLimited(SourceDown):
    """NetSuite refused the request because the account's concurrency limit is in use (429)."""

    code = "WI-SRC-003"


class UntrustedServer(SourceDown):
    """The certificate of whoever answered in NetSuite's place is not one to trust: expired, for another host, or signed
    by an authority that this machine does not know. Nothing was sent to it."""

    code = "WI-SRC-010"


class QueryRefused(SourceError):
    """NetSuite refused this query (400, or another answer that asking again will not change)."""

    code = "WI-SRC-004"
    exit_code = ExitCode.INCOMPLETE


class TableRefused(QueryRefused):
    """NetSuite does not show this table or column to the role: it is misspelt, or hidden from the role; the service
    answers both the same way."""

    code = "WI-SRC-005"


class CatalogueRefused(QueryRefused):
    """NetSuite's metadata catalogue is not open to the role, or has no such record; SuiteQL may well answer."""

    code = "WI-SRC-013"


class LoginRefused(SourceError):
    """NetSuite refused the login (401), gave no access token for the certificate (400, 401), or the role may not use
    SuiteQL at all (403, or 400 without permission)."""

    code = "WI-SRC-006"
    exit_code = ExitCode.LOGIN


class ServerFault(SourceError):
    """NetSuite answered 500 with an Error ID; this may pass, or be caused by one column for ever, so it is retried
    and counted against the batch."""

    code = "WI-SRC-007"
    exit_code = ExitCode.INCOMPLETE


class BadReply(SourceError):
    """NetSuite's answer is not what the service documents: truncated, not JSON, too large, or a redirect."""

    code = "WI-SRC-008"
    exit_code = ExitCode.UNREACHABLE


class GarbledReply(BadReply):
    """An answer was cut short, or is no JSON at all (a maintenance page, a proxy's page); it is asked for again."""

    code = "WI-SRC-011"


class BadData(SourceError):
    """A value of the source does not fit the type that the configuration declares; it is never rounded or cut."""

    code = "WI-SRC-009"
    exit_code = ExitCode.INCOMPLETE


class Stopped(SourceError):
    """The run was told to stop while it waited for NetSuite; nothing is wrong, the next run goes on."""

    code = "WI-SRC-012"
    exit_code = ExitCode.PAUSED


# --- the database -----------------------------------------------------------------------------------------------


class DatabaseError(WaveImportError):
    """The database refused a statement for a reason that trying again will not change."""

    code = "WI-DB-001"
    exit_code = ExitCode.UNREACHABLE


class DatabaseDown(DatabaseError):
    """The database could not be reached, or refused the login; nothing was lost, the next run goes on."""

    code = "WI-DB-002"


class DatabaseBusy(DatabaseDown):
    """Another process has held the write lock of the SQLite database for a minute; it may hang, or be stopped."""

    code = "WI-DB-005"


class DiskFull(DatabaseError):
    """The disk of the database is full; nothing is half-written, the next run goes on once there is room."""

    code = "WI-DB-003"


class TableClash(DatabaseError):
    """A destination table exists with columns, types, a key or an owner that the configuration contradicts, or was
    changed or dropped while a run was at work."""

    code = "WI-DB-004"
    exit_code = ExitCode.USAGE


class KeyTooWide(DatabaseError):
    """The key of a record is wider than MySQL can index: a text column of a key takes 1,020 bytes of 3,072."""

    code = "WI-DB-006"
    exit_code = ExitCode.USAGE


class TablesInUse(DatabaseError):
    """A table is to take the place of another, and somebody has been reading the old one for too long; the job stays
    as it is, the next run goes on."""

    code = "WI-DB-007"


# --- coordination -----------------------------------------------------------------------------------------------


class Fenced(WaveImportError):
    """Another run took the job over, and this one's write was refused; nothing is wrong with the data."""

    code = "WI-RUN-001"
    exit_code = ExitCode.OK


class JobCancelled(Fenced):
    """The job was cancelled while this run worked on it; what had landed stays, the rest was not fetched."""

    code = "WI-RUN-004"
    exit_code = ExitCode.INCOMPLETE


class Reconciliation(WaveImportError):
    """Counted at the source and landed differ, beyond what changed meanwhile. The job is completed: every page that the
    service gave is in. The usual cause is a role that sees only a part of the rows, or a source that drops rows from
    its pages; where whole tables were compared (once a week), rows that came or went without a change that a daily run
    asks for: `waveimport run --full` mends that."""

    code = "WI-RUN-005"
    exit_code = ExitCode.RECONCILIATION


class LockUnusable(WaveImportError):
    """The lock directory cannot be used."""

    code = "WI-RUN-003"
    exit_code = ExitCode.USAGE


class BadBundle(UsageError):
    """The file is no support bundle, is damaged, or was made by a newer program."""

    code = "WI-USE-010"


class BadPolicy(UsageError):
    """What `replay --what-if` names is no policy: neither `limit=N` nor a Python file with a function `decide` that
    takes a snapshot and returns a Decision."""

    code = "WI-USE-011"


class JournalDamaged(WaveImportError):
    """An entry of a job's journal cannot be decoded: another version wrote it, or it was changed by hand."""

    code = "WI-RUN-006"
    exit_code = ExitCode.DIVERGED
