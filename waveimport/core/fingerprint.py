"""What a job is bound to, as text: two runs may share a job only if this text is the same for both.

It holds the account, the address asked, the destination and the records, and no credential: it is kept in the
database and shown to people.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

from waveimport.core.settings_types import Column, ColumnKind, RecordSettings, Settings

_MYSQL_PORT: Final = 3306
_IN_THE_DATABASE: Final = "the database of the job"
"""The destination where none is named: wherever that database is moved, job and rows move together."""


def redacted_text(settings: Settings) -> str:
    """Return canonical JSON of what a job is bound to: account, base_url, destination, records.

    Credentials, `[run]`, the profile and the coordination database stay out: they may change while a job is
    unfinished. So do the user, password and parameters of the destination's URL. Rows that land
    in the job's own database are bound to no place: they move with it. `refresh` is not in it either: how a job
    reaches its tables is decided when it is made, and kept with it.
    """
    apart = None if settings.one_database else settings.destination
    destination = _IN_THE_DATABASE if apart is None else _place_of(apart.url)
    bound = {
        "account": settings.netsuite.account,
        "base_url": settings.netsuite.base_url,
        "destination": {"url": destination, "prefix": settings.prefix},
        "records": {record.name: _record(record) for record in settings.records},
    }
    return json.dumps(bound, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


def config_hash(text: str) -> str:
    """Return the SHA-256 of a redacted text in 64 hexadecimal digits."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def config_difference(old_text: str, new_text: str) -> list[str]:
    """Return what differs between two redacted texts, by key, in words; empty if nothing does.

    A line reads `records.customer.columns.balance: was decimal(15,2), now text`. Raises ValueError if one of them
    is no redacted text.
    """
    lines: list[str] = []
    _compare((), json.loads(old_text), json.loads(new_text), lines)
    return lines


def _place_of(url: str) -> str:
    """Return a database URL without user, password and parameters.

    What tells one server from another stays: host, a port that is not MySQL's usual one, or the socket.
    """
    parts = urlsplit(url)
    if parts.scheme == "sqlite":
        # The path is everything after `sqlite:///`; a `#` in it is part of the file's name.
        return url
    host = parts.hostname or ""
    host = f"[{host}]" if ":" in host else host
    port = f":{parts.port}" if parts.port not in (None, _MYSQL_PORT) else ""
    socket = "".join(f"?unix_socket={path}" for path in parse_qs(parts.query).get("unix_socket", [])[:1])
    return f"{parts.scheme}://{host}{port}{parts.path}{socket}"


def _record(record: RecordSettings) -> dict[str, Any]:
    return {
        "table": record.table,
        "where": record.where,
        "key": list(record.key),
        "table_name": record.table_name,
        "depends_on": sorted(record.depends_on),
        "derived_from": record.derived_from,
        "parent_key": record.parent_key,
        "cursor": record.cursor,
        "deletes": record.deletes.value,
        "columns": {column.name: _type(column) for column in record.columns},
    }


def _type(column: Column) -> str:
    if column.kind is ColumnKind.DECIMAL:
        return f"decimal({column.precision},{column.scale})"
    return column.kind.value


def _compare(path: tuple[str, ...], old: object, new: object, lines: list[str]) -> None:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            inner = (*path, key)
            if key not in new:
                lines.append(f"{'.'.join(inner)}: removed{_was(old[key])}")
            elif key not in old:
                lines.append(f"{'.'.join(inner)}: added{_was(new[key])}")
            else:
                _compare(inner, old[key], new[key], lines)
    elif old != new:
        lines.append(f"{'.'.join(path)}: was {_words(old)}, now {_words(new)}")


def _was(value: object) -> str:
    return "" if isinstance(value, Mapping) else f" ({_words(value)})"


def _words(value: object) -> str:
    match value:
        case None | "" | []:
            return "not set"
        case list():
            return ", ".join(str(item) for item in value)
        case _:
            return str(value)
