"""A mapping into frozen Settings, or all its mistakes at once.

This is the rule book of the configuration file, table by table; the rules between records are in
`core.settings_records`. Nothing here reads a file or the environment: `${NAME}` may still stand in any text, and a
text that holds one is taken as it is.
"""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from waveimport.core.settings_reader import KeyPath, Locate, Mistakes, TableReader, has_placeholder
from waveimport.core.settings_records import RECORD_KEYS, read_records
from waveimport.core.settings_types import (
    Column,
    ColumnKind,
    DatabaseSettings,
    Deletes,
    NetSuiteSettings,
    NotifySettings,
    RecordSettings,
    Refresh,
    RunSettings,
    Settings,
)
from waveimport.errors import MissingKey

__all__ = [
    "ALGORITHMS",
    "CREDENTIAL_KEYS",
    "KEYS_OF_LOGIN",
    "Column",
    "ColumnKind",
    "DatabaseSettings",
    "Deletes",
    "NetSuiteSettings",
    "NotifySettings",
    "RecordSettings",
    "Refresh",
    "RunSettings",
    "Settings",
    "parse_settings",
]

TOP_KEYS: Final = ("profile", "database", "destination", "netsuite", "run", "notify", "records")
DATABASE_KEYS: Final = ("url", "password", "password_file")
DESTINATION_KEYS: Final = (*DATABASE_KEYS, "prefix")
TBA_KEYS: Final = ("consumer_key", "consumer_secret", "token_id", "token_secret")
M2M_KEYS: Final = ("client_id", "certificate_id")

CREDENTIAL_KEYS: Final = (*TBA_KEYS, *M2M_KEYS)
"""Keys of `[netsuite]` that a command resolves only if it talks to NetSuite; each may be given as `<key>_file`."""

KEYS_OF_LOGIN: Final = {"tba": TBA_KEYS, "m2m": M2M_KEYS}
"""The credentials that each way to log in needs, by the value of `auth`; those of the other way may stand beside them,
and are neither needed nor read."""

NETSUITE_KEYS: Final = (
    "account", "auth", *CREDENTIAL_KEYS, *(f"{key}_file" for key in CREDENTIAL_KEYS),
    "private_key_file", "algorithm", "base_url", "concurrency",
)  # fmt: skip
RUN_KEYS: Final = (
    "workers", "page_size", "batch_size", "parents_per_batch", "lease_seconds", "max_tries",
    "request_timeout_seconds", "give_up_after_seconds", "reconcile", "stuck_after_seconds",
    "passes_without_effect", "complete_within_hours", "lock_dir", "lookback_seconds",
    "journal_days", "reader_processes",
)  # fmt: skip
NOTIFY_KEYS: Final = ("ping_url", "webhook_url", "command")
"""Keys of `[notify]`: resolved, as credentials are, only by a command that tells anybody."""

ALGORITHMS: Final = ("PS256", "PS384", "PS512", "ES256", "ES384", "ES512")
"""What NetSuite takes assertions by, the default first."""

_TABLE_OF_KEY: Final[dict[str, str]] = {
    **dict.fromkeys(RECORD_KEYS, "[records.<name>]"),
    **dict.fromkeys(RUN_KEYS, "[run]"),
    **dict.fromkeys(NOTIFY_KEYS, "[notify]"),
    **dict.fromkeys(DESTINATION_KEYS, "[destination]"),
    **dict.fromkeys(DATABASE_KEYS, "[database]"),
    **dict.fromkeys(NETSUITE_KEYS, "[netsuite]"),
    "profile": "the top of the file, above the first table",
}

_ACCOUNT: Final = re.compile(r"[A-Za-z0-9]+([_-][A-Za-z0-9]+)*")
_PROFILE: Final = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
_PREFIX: Final = re.compile(r"[a-z][a-z0-9_]{0,12}")
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


def parse_settings(
    document: Mapping[str, object], locate: Locate | None = None, *, with_records: bool = True
) -> Settings:
    """Turn a configuration document, as a TOML parser returns it, into Settings.

    Without `with_records` the records are not read, and may be missing: for whoever is about to write them. `locate`
    gives the place of a key path such as `("netsuite", "account")` for messages, by default the path with dots. Secrets
    are taken over as they are written: `<key>_file` and `password` keys are checked here and read by `runtime.config`.
    Raises the one ConfigError found, or ConfigErrors with all of them.
    """
    mistakes = Mistakes(locate or _dotted)
    top = TableReader(mistakes, (), document, TOP_KEYS, elsewhere=_TABLE_OF_KEY)
    netsuite = _netsuite(top)
    database = _database(top)
    destination = _destination(top, database)
    run = _run(top)
    notify = _notify(top)
    prefix = destination.prefix if destination else ""
    records = read_records(mistakes, top.values.get("records"), prefix, _TABLE_OF_KEY) if with_records else ()
    profile = top.matching("profile", _PROFILE, "at most 100 characters", "a short name", default=netsuite.account)
    mistakes.raise_any()
    return Settings(
        profile=profile,
        database=database,
        netsuite=netsuite,
        run=run,
        records=records,
        destination=destination,
        notify=notify,
    )


def _dotted(path: KeyPath) -> str:
    return ".".join(path)


def _section(top: TableReader, name: str, known: tuple[str, ...], secret: tuple[str, ...] = ()) -> TableReader:
    value = top.values.get(name, {})
    return TableReader(top.mistakes, (name,), value, known, elsewhere=_TABLE_OF_KEY, secret=secret)


def _required_section(
    top: TableReader, name: str, known: tuple[str, ...], secret: tuple[str, ...], example: str
) -> TableReader | None:
    """Read a table that must be there; None, with the mistake kept, if it is missing or no table."""
    if name not in top:
        top.mistakes.add(MissingKey, (name,), f"the table [{name}] is missing", example)
        return None
    section = _section(top, name, known, secret)
    return section if section.is_table else None


def _one_of_two(section: TableReader, key: str) -> None:
    """Refuse a secret that is given both as itself and by file: one of them would silently lose."""
    if key in section and f"{key}_file" in section:
        section.wrong(f"{key}_file", f"left out where `{key}` is given", f"keep one of `{key}` and `{key}_file`")


def _database(top: TableReader) -> DatabaseSettings:
    example = 'for example url = "sqlite:///waveimport.db"'
    section = _required_section(top, "database", DATABASE_KEYS, ("url", "password"), example)
    if section is None:
        return DatabaseSettings(url="")
    url = section.text("url", required=example)
    _password(section)
    return DatabaseSettings(url=url)


def _destination(top: TableReader, database: DatabaseSettings) -> DatabaseSettings | None:
    if "destination" not in top:
        return None
    section = _section(top, "destination", DESTINATION_KEYS, secret=("url", "password"))
    if "url" not in section:
        for key in ("password", "password_file"):
            if key in section:
                section.wrong(key, "beside a `url`", "without a url the rows land in [database], with its password")
    _password(section)
    prefix = ""
    if section.values.get("prefix") != "":
        expected = "a-z, 0-9 and _, a letter first, at most 13 characters"
        prefix = section.matching("prefix", _PREFIX, expected, 'for example prefix = "ns_"')
    return DatabaseSettings(url=section.text("url", database.url), prefix=prefix)


def _password(section: TableReader) -> None:
    section.text("password")
    section.text("password_file")
    _one_of_two(section, "password")


def _netsuite(top: TableReader) -> NetSuiteSettings:
    section = _required_section(
        top, "netsuite", NETSUITE_KEYS, (*CREDENTIAL_KEYS, "base_url"), "it holds the account and its credentials"
    )
    if section is None:
        return NetSuiteSettings(account="", base_url="")
    account = section.matching(
        "account", _ACCOUNT, "an account id of letters, digits and _", 'for example account = "1234567_SB1"',
        required=True,
    )  # fmt: skip
    auth = section.choice("auth", tuple(KEYS_OF_LOGIN), "tba")
    if _only_m2m_without_saying_so(section):
        section.missing("auth", 'write auth = "m2m": its keys are given, and those of "tba" are due without `auth`')
        auth = "m2m"
    algorithm = section.choice("algorithm", ALGORITHMS, ALGORITHMS[0])
    credentials = {key: _credential(section, key, auth) for key in CREDENTIAL_KEYS}
    needs_key = "the PEM file of the certificate's private key" if auth == "m2m" else None
    return NetSuiteSettings(
        account=account,
        base_url=_base_url(section, account),
        auth=auth,
        private_key_file=section.text("private_key_file", required=needs_key),
        algorithm=algorithm,
        concurrency=section.whole("concurrency", 5, 1),
        **credentials,
    )


def _only_m2m_without_saying_so(section: TableReader) -> bool:
    """Say whether keys of `m2m` alone are given, and no `auth`: one mistake, where four keys would be missing."""

    def given(keys: tuple[str, ...]) -> bool:
        return any(key in section or f"{key}_file" in section for key in keys)

    return "auth" not in section and given((*M2M_KEYS, "private_key")) and not given(TBA_KEYS)


def _credential(section: TableReader, key: str, auth: str) -> str:
    _one_of_two(section, key)
    section.text(f"{key}_file")
    if f"{key}_file" in section:
        return ""
    needed = key in KEYS_OF_LOGIN[auth]
    mend = f'auth = "{auth}" needs it: {key} = "${{NETSUITE_{key.upper()}}}", or {key}_file'
    return section.text(key, required=mend if needed else None)


def _base_url(section: TableReader, account: str) -> str:
    default = f"https://{account.lower().replace('_', '-')}.suitetalk.api.netsuite.com"
    url = section.text("base_url", default).rstrip("/")
    if has_placeholder(url):
        return url
    try:
        parts = urlsplit(url)
        host, scheme, _ = parts.hostname, parts.scheme, parts.port
    except ValueError:
        host, scheme, parts = None, "", urlsplit("")
    if scheme not in ("http", "https") or not host:
        section.wrong("base_url", "an http or https address", f'for example "{default}"')
    elif parts.username is not None or parts.query or parts.fragment:
        section.wrong("base_url", "an address without user, query or fragment", f'for example "{default}"')
    elif scheme == "http" and host not in _LOOPBACK:
        section.wrong("base_url", "https", "plain http would send the credentials in the clear; "
                      "only 127.0.0.1, localhost and ::1 may use it")  # fmt: skip
    return url


def _notify(top: TableReader) -> NotifySettings:
    section = _section(top, "notify", NOTIFY_KEYS, secret=NOTIFY_KEYS)
    for key in ("ping_url", "webhook_url"):
        url = section.text(key)
        if not url or has_placeholder(url):
            continue
        try:
            parts = urlsplit(url)
            valid = parts.scheme in ("http", "https") and bool(parts.hostname)
        except ValueError:
            valid = False
        if not valid:
            section.wrong(key, "an http or https address", f'for example {key} = "${{{key.upper()}}}"')
    return NotifySettings(
        ping_url=section.text("ping_url"),
        webhook_url=section.text("webhook_url"),
        command=section.words("command"),
    )


def _run(top: TableReader) -> RunSettings:
    section = _section(top, "run", RUN_KEYS)
    usual = RunSettings()
    return RunSettings(
        workers=section.whole("workers", usual.workers, 1),
        page_size=section.whole("page_size", usual.page_size, 1, 1000),
        batch_size=section.whole("batch_size", usual.batch_size, 1),
        parents_per_batch=section.whole("parents_per_batch", usual.parents_per_batch, 1, 1000),
        lease_seconds=section.seconds("lease_seconds", usual.lease_seconds),
        max_tries=section.whole("max_tries", usual.max_tries, 1),
        request_timeout_seconds=section.seconds("request_timeout_seconds", usual.request_timeout_seconds),
        give_up_after_seconds=section.seconds("give_up_after_seconds", usual.give_up_after_seconds),
        reconcile=section.flag("reconcile", usual.reconcile),
        stuck_after_seconds=section.seconds("stuck_after_seconds", usual.stuck_after_seconds),
        passes_without_effect=section.whole("passes_without_effect", usual.passes_without_effect, 1),
        complete_within_hours=section.hours("complete_within_hours", usual.complete_within_hours),
        lock_dir=section.text("lock_dir") or None,
        lookback_seconds=section.seconds("lookback_seconds", usual.lookback_seconds),
        journal_days=section.whole("journal_days", usual.journal_days, 0),
        reader_processes=section.whole("reader_processes", usual.reader_processes, 0),
    )
