"""From a configuration file to Settings: found, parsed, checked, its placeholders and secret files resolved.

`${NAME}` in any text is read from the environment. The credentials of `[netsuite]`, and the files named by their
`*_file` keys, are read only for a command that talks to NetSuite, so that `status` needs no secret, and only those of
the way to log in that `auth` names; the database's password is always read, because whoever loads the settings opens
the database. Relative paths start at the folder of the configuration file: cron starts elsewhere.
"""

import os
import re
import shlex
import stat
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from waveimport.core.settings import ALGORITHMS, CREDENTIAL_KEYS, KEYS_OF_LOGIN, Settings, parse_settings
from waveimport.core.settings_reader import PLACEHOLDER, KeyPath, Mistakes, escaped, has_placeholder
from waveimport.errors import BadSecret, BadToml, BadValue, ConfigError, ConfigErrors, ConfigMissing
from waveimport.netsuite.private_key import signing_key
from waveimport.runtime.config_lines import key_lines
from waveimport.runtime.database_url import finish_url, is_sqlite

CONFIG_VARIABLE: Final = "WAVEIMPORT_CONFIG"
DEFAULT_CONFIG: Final = "waveimport.toml"

_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_TOML_PLACE: Final = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)$")
_MAX_SECRET_BYTES: Final = 65536
_SHORTEST_SECRET: Final = 4  # a shorter value is none, and would be found in innocent words

Warn = Callable[[str], None]


def load_settings(
    path: Path | None,
    environ: Mapping[str, str],
    *,
    secrets: bool,
    with_records: bool = True,
    warn: Warn | None = None,
) -> Settings:
    """Load the configuration at `path`, else at `$WAVEIMPORT_CONFIG`, else `./waveimport.toml`.

    Without `with_records` what is written of records is passed over. With `secrets` the credentials of `[netsuite]`
    are resolved, without it they are empty. The database URLs come back complete: absolute file or password included.
    `warn` is called with a sentence for each secret file that others can read. Raises ConfigMissing, BadToml, or the
    mistakes found: one ConfigError itself, several as ConfigErrors in the order of the file. Nothing of a secret is in
    any message.
    """
    found = find_config(path, environ)
    source = ConfigFile.read(found)
    resolver = _Resolver(source, environ, warn or _ignore)
    document = resolver.resolve_texts(secrets=secrets)
    settings = None
    try:
        settings = parse_settings(document, source.place, with_records=with_records)
    except ConfigErrors as several:
        resolver.mistakes.errors.extend(several.errors)
    except ConfigError as error:
        resolver.mistakes.errors.append(error)
    urls = {name: resolver.database_url(name, document) for name in ("database", "destination")}
    credentials = resolver.credentials(document, secrets=secrets)
    resolver.hide_values()
    resolver.mistakes.errors.sort(key=source.line_of)
    resolver.mistakes.raise_any()
    assert settings is not None, "parse_settings returns, or leaves a mistake"
    return _complete(settings, source, urls, credentials)


def _complete(
    settings: Settings, source: "ConfigFile", urls: Mapping[str, str], credentials: Mapping[str, Any]
) -> Settings:
    """Put finished URLs, credentials and absolute paths in the place of what was written."""
    database = replace(settings.database, url=urls["database"])
    destination = settings.destination
    if destination is not None:
        destination = replace(destination, url=urls["destination"] or database.url)
    lock_dir, key_file = settings.run.lock_dir, settings.netsuite.private_key_file
    return replace(
        settings,
        path=str(source.path.absolute()),
        database=database,
        destination=destination,
        netsuite=replace(
            settings.netsuite, private_key_file=source.absolute(key_file) if key_file else "", **credentials
        ),
        run=replace(settings.run, lock_dir=source.absolute(lock_dir) if lock_dir else None),
    )


def find_config(path: Path | None, environ: Mapping[str, str]) -> Path:
    """Return the configuration file to use. Raises ConfigMissing, naming where it was looked for."""
    if path is not None:
        found, told_by = path, "as asked for"
    elif named := environ.get(CONFIG_VARIABLE):
        found, told_by = Path(named), f"named by ${CONFIG_VARIABLE}"
    else:
        found, told_by = Path(DEFAULT_CONFIG), f"in {Path.cwd()}; ${CONFIG_VARIABLE} is not set"
    if not found.is_file():
        what = "is no file" if found.exists() else "does not exist"
        raise ConfigMissing(
            f"the configuration {found} {what} ({told_by})",
            help=f"`waveimport init {'' if str(found) == DEFAULT_CONFIG else found}".rstrip()
            + "` writes a starter configuration; --config FILE names another",
        )
    return found


def _ignore(message: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """A configuration file as read: its document with every `${NAME}` still in it, and the line of each key."""

    path: Path
    document: dict[str, Any]
    lines: dict[KeyPath, int]

    @classmethod
    def read(cls, path: Path) -> "ConfigFile":
        """Read and parse a file. Raises ConfigMissing where it cannot be read, BadToml where it is no TOML."""
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except OSError as error:
            raise ConfigMissing(f"the configuration {path} cannot be read: {error.strerror}",
                                help="check its owner and mode") from error  # fmt: skip
        except UnicodeDecodeError as error:
            raise BadToml("the configuration is not UTF-8 text", where=str(path), help="save it as UTF-8") from error
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise _bad_toml(path, text, str(error)) from None
        return cls(path, document, key_lines(text))

    @property
    def folder(self) -> Path:
        """Where relative paths of the configuration start."""
        return self.path.absolute().parent

    def absolute(self, path: str) -> str:
        """Return a path of the configuration as seen from the configuration's own folder."""
        return str((self.folder / path).absolute())

    def place(self, key: KeyPath) -> str:
        """Return `file:line` of a key, or of the nearest table around it that is written down."""
        for length in range(len(key), 0, -1):
            if line := self.lines.get(key[:length]):
                return f"{self.path}:{line}"
        return str(self.path)

    def variables(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        """Return the environment variables that a run under this configuration reads, in the order of the file.

        Those of a way to log in that is not the configured one are not among them; `environ` is asked only for that.
        """
        unused = self.unused_credentials(environ)
        names: dict[str, None] = {}

        def collect(value: object, path: KeyPath) -> None:
            if isinstance(value, dict):
                for key, inner in value.items():
                    collect(inner, (*path, key))
            elif isinstance(value, list):
                for inner in value:
                    collect(inner, path)
            elif isinstance(value, str) and not (_is_credential(path) and path[1] in unused):
                names.update(dict.fromkeys(PLACEHOLDER.findall(value)))

        collect(self.document, ())
        return tuple(names)

    def unused_credentials(self, environ: Mapping[str, str]) -> frozenset[str]:
        """Return the credentials of the ways to log in that are not the configured one; none where that is unclear."""
        netsuite = self.document.get("netsuite")
        auth = netsuite.get("auth", "tba") if isinstance(netsuite, dict) else None
        if isinstance(auth, str):
            auth = PLACEHOLDER.sub(lambda match: environ.get(match[1], ""), auth)
        if auth not in KEYS_OF_LOGIN:
            return frozenset()
        return frozenset(CREDENTIAL_KEYS).difference(KEYS_OF_LOGIN[auth])

    def line_of(self, error: ConfigError) -> int:
        """Return the line an error points at, 0 for one about the whole file."""
        line = (error.where or "").removeprefix(f"{self.path}:")
        return int(line) if line.isdecimal() else 0


def _bad_toml(path: Path, text: str, message: str) -> BadToml:
    place = _TOML_PLACE.search(message)
    line = place[1] if place and place[1] else text.count("\n") + 1
    return BadToml(f"the configuration is not valid TOML: {_TOML_PLACE.sub('', message)}", where=f"{path}:{line}",
                   help="text stands in quotes, a table in [brackets], one key = value a line")  # fmt: skip


class _Resolver:
    """Replaces placeholders, reads secret files, completes paths and URLs; keeps every mistake."""

    def __init__(self, source: ConfigFile, environ: Mapping[str, str], warn: Warn) -> None:
        self.source = source
        self.environ = environ
        self.warn = warn
        self.mistakes = Mistakes(source.place)
        self.values: dict[str, str] = {}  # of the environment, by the placeholder they were put in for
        self.unused = source.unused_credentials(environ)

    def hide_values(self) -> None:
        """Show placeholders instead of their values in every mistake: a secret may stand where none belongs."""
        longest_first = sorted(self.values.items(), key=lambda item: len(item[1]), reverse=True)
        for error in self.mistakes.errors:
            for placeholder, value in longest_first:
                for written in (value, escaped(value), quote(value, safe="")):
                    error.message = error.message.replace(written, placeholder)
                    error.help = error.help.replace(written, placeholder) if error.help else None
            error.args = (error.message,)

    def resolve_texts(self, *, secrets: bool) -> dict[str, Any]:
        """Return the document with `${NAME}` replaced in every text, credentials only with `secrets`."""
        resolved: dict[str, Any] = self._resolve(self.source.document, (), secrets)
        return resolved

    def _resolve(self, value: Any, path: KeyPath, secrets: bool) -> Any:
        if isinstance(value, dict):
            return {key: self._resolve(inner, (*path, key), secrets) for key, inner in value.items()}
        if isinstance(value, list):
            return [self._resolve(inner, path, secrets) for inner in value]
        if not isinstance(value, str) or (_is_credential(path) and (not secrets or path[1] in self.unused)):
            return value
        # SQLite's path is no encoded part of a URL: `sqlite:///${HOME}/import.db` takes the value as it is.
        encode = path in (("database", "url"), ("destination", "url")) and not is_sqlite(value)
        return PLACEHOLDER.sub(lambda match: self._variable(match, path, encode), value)

    def _variable(self, match: re.Match[str], path: KeyPath, encode: bool) -> str:
        name = match[1]
        key = f"`{path[-1]}` in [{'.'.join(path[:-1])}]" if len(path) > 1 else f"`{'.'.join(path)}`"
        if _VARIABLE_NAME.fullmatch(name) is None:
            self.mistakes.add(BadSecret, path, f"{key} holds a ${{…}} that names no environment variable",
                              "a name is letters, digits and _, as in ${NETSUITE_TOKEN_ID}")  # fmt: skip
        elif name not in self.environ:
            mend = f"export {name}=… where waveimport starts; cron has an environment of its own"
            self.mistakes.add(BadSecret, path, f"the environment variable {name}, read by {key}, is not set", mend)
        elif not self.environ[name] and _is_credential(path):
            self.mistakes.add(BadSecret, path, f"the environment variable {name}, read by {key}, is empty",
                              f"export {name}=… with its value")  # fmt: skip
        else:
            value = self.environ[name]
            if len(value) >= _SHORTEST_SECRET:
                self.values[match[0]] = value
            return quote(value, safe="") if encode else value
        return match[0]

    def database_url(self, name: str, document: Mapping[str, Any]) -> str:
        """Return the finished URL of `[database]` or `[destination]`; "" where none is written or it is a mistake."""
        table = document.get(name)
        if not isinstance(table, dict):
            return ""
        url, password, file = (table.get(key) for key in ("url", "password", "password_file"))
        if isinstance(file, str) and file:
            password = self._secret_file((name, "password_file"), file)
        if not isinstance(url, str) or not url or has_placeholder(url):
            return ""
        try:
            return finish_url(url, self.source.folder, password if isinstance(password, str) else None)
        except ValueError as error:
            self.mistakes.add(BadValue, (name, "url"), f"`url` in [{name}] must be {error}",
                              'for example url = "sqlite:///waveimport.db"')  # fmt: skip
            return ""

    def credentials(self, document: Mapping[str, Any], *, secrets: bool) -> dict[str, Any]:
        """Return the credentials that differ from what is written: all empty without `secrets`, else those in files,
        and empty those that are not used."""
        if not secrets:
            return dict.fromkeys(CREDENTIAL_KEYS, "")
        table = document.get("netsuite")
        if not isinstance(table, dict):
            return {}
        found = dict.fromkeys(self.unused, "")
        for key in CREDENTIAL_KEYS:
            file = table.get(f"{key}_file")
            if key not in self.unused and isinstance(file, str) and file:
                found[key] = self._secret_file(("netsuite", f"{key}_file"), file)
        key_file = table.get("private_key_file")
        if table.get("auth") == "m2m" and isinstance(key_file, str) and key_file:
            found["private_key"] = self._private_key(key_file, table.get("algorithm", ALGORITHMS[0]))
        return found

    def _private_key(self, file: str, algorithm: object) -> str:
        """Return the key in a file; "" with the mistake kept where there is none, or it does not go with the algorithm.

        It would be found out without this, but by a run that has written already. A misspelt algorithm is a mistake of
        its own.
        """
        path = ("netsuite", "private_key_file")
        pem = self._secret_file(path, file, private=True)
        if pem and algorithm in ALGORITHMS:
            try:
                signing_key(pem, str(algorithm))
            except ConfigError as error:
                self.mistakes.add(type(error), path, error.message, error.help)
                return ""
        return pem

    def _secret_file(self, path: KeyPath, file: str, *, private: bool = False) -> str:
        """Return the content of a secret file without its last line end; "" with the mistake kept if there is none.

        One that others can read is worth a warning; with `private` it is a mistake, as ssh has it: whoever reads the
        key logs in as the account until its certificate ends.
        """
        where = Path(self.source.absolute(file))
        key = f"`{path[-1]}` in [{path[0]}]"
        try:
            with where.open("rb") as opened:
                mode = stat.S_IMODE(os.fstat(opened.fileno()).st_mode)
                content = b"" if private and mode & 0o077 else opened.read(_MAX_SECRET_BYTES + 1)
            secret = content.decode("utf-8").rstrip("\r\n")
        except OSError as error:
            self.mistakes.add(BadSecret, path, f"the file {where} of {key} cannot be read: {error.strerror}",
                              "name an existing file that the user of waveimport may read")  # fmt: skip
            return ""
        except UnicodeDecodeError:
            secret = ""
        if private and mode & 0o077:
            said = f"the private key {where} is open to others than its owner (mode {mode:04o})"
            self.mistakes.add(BadSecret, path, said, f"chmod 600 {shlex.quote(str(where))}")
            return ""
        if not secret or len(content) > _MAX_SECRET_BYTES:
            self.mistakes.add(BadSecret, path, f"the file {where} of {key} holds no secret: empty, binary or too large",
                              "put the secret alone into it, as one line of text")  # fmt: skip
            return ""
        if mode & 0o077:
            self.warn(f"the secret file {where} can be read by others (mode {mode:04o}): chmod 600 {where}")
        return secret


def _is_credential(path: KeyPath) -> bool:
    if len(path) != 2:
        return False
    return path[0] == "notify" or (path[0] == "netsuite" and path[1] in CREDENTIAL_KEYS)
