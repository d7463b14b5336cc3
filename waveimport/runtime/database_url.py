"""The database URL as written in a configuration, made into the one that the store opens.

Two forms are known, `sqlite:///<file>` and `mysql+pymysql://<user>[:<password>]@<host>[:<port>]/<database>`.
Messages name what is wrong, never the URL: it may hold a password.
"""

from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlsplit

_SQLITE: Final = "sqlite:///"
_MYSQL_SCHEMES: Final = ("mysql+pymysql", "mysql", "mariadb", "mariadb+pymysql")
_SECRET_PARAMETERS: Final = frozenset({"password", "passwd", "user"})


def is_sqlite(url: str) -> bool:
    """Say whether a URL as written is meant for SQLite."""
    return url.partition(":")[0].partition("+")[0] == "sqlite"


def finish_url(url: str, folder: Path, password: str | None) -> str:
    """Return the URL for the store: SQLite's path absolute, MySQL's driver named, `password` put in if given.

    A relative SQLite path is taken from `folder`. Raises ValueError with what the URL must be, in words that go
    after "must be"; the message holds nothing of the URL.
    """
    if is_sqlite(url):
        if password is not None:
            raise ValueError("a MySQL address where a password is given: SQLite has none")
        return _sqlite(url, folder)
    return _mysql(url, password)


def _sqlite(url: str, folder: Path) -> str:
    _, _, rest = url.partition(":")
    path, _, parameters = rest.removeprefix("///").partition("?")
    if not rest.startswith("///") or not path or path == ":memory:" or path.startswith("file:"):
        raise ValueError("sqlite:/// and a file: an import must outlive the process that runs it")
    if parameters:
        raise ValueError("sqlite:/// and a file, without parameters")
    return f"{_SQLITE}{(folder / path).absolute()}"


def _mysql(url: str, password: str | None) -> str:
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        # The original error may quote a part of the password, where that holds a `/` or `:`.
        raise ValueError("mysql+pymysql://user@host/database; percent-encode special characters in it") from None
    if parts.scheme not in _MYSQL_SCHEMES:
        raise ValueError("sqlite:///file or mysql+pymysql://user@host/database")
    parameters = parse_qsl(parts.query, keep_blank_values=True)
    database = parts.path.removeprefix("/")
    if _SECRET_PARAMETERS & {name for name, _ in parameters}:
        raise ValueError("mysql+pymysql://user@host/database with the user before the @ and `password` beside it")
    if parts.fragment or not database or "/" in database or not (parts.hostname or "unix_socket" in dict(parameters)):
        raise ValueError("mysql+pymysql://user@host/database; percent-encode special characters in it")
    host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
    secret = unquote(parts.password) if password is None and parts.password is not None else password
    user = quote(unquote(parts.username or ""), safe="")
    login = user if secret is None else f"{user}:{quote(secret, safe='')}"
    at = "@" if login else ""
    query = f"?{parts.query}" if parts.query else ""
    return f"mysql+pymysql://{login}{at}{host}{'' if port is None else f':{port}'}/{database}{query}"
