"""A configuration as it is in force: each key with its value and where that comes from, secrets masked.

Nothing of the environment is put in, and no secret file is read: a `${NAME}` is shown as it is written.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from waveimport.core.masking import masked, masked_url
from waveimport.core.settings import (
    CREDENTIAL_KEYS,
    DATABASE_KEYS,
    DESTINATION_KEYS,
    NETSUITE_KEYS,
    NOTIFY_KEYS,
    RUN_KEYS,
    RecordSettings,
    Settings,
    parse_settings,
)
from waveimport.core.settings_reader import KeyPath
from waveimport.runtime.config import ConfigFile, find_config


class Origin(StrEnum):
    """Where a value comes from; `unset` is a key that has none."""

    FLAG = "flag"
    ENVIRONMENT = "environment"
    FILE = "file"
    DEFAULT = "default"
    UNSET = "unset"


@dataclass(frozen=True, slots=True)
class ShownKey:
    """A key such as `run.workers`; `where` is its `file:line`, option or environment variable, None for a default."""

    key: str
    value: object
    origin: Origin
    where: str | None = None


@dataclass(frozen=True, slots=True)
class ShownRecord:
    """What a record is, without its columns; `where` is its `file:line`."""

    settings: RecordSettings
    where: str


@dataclass(frozen=True, slots=True)
class ShownConfig:
    """The file, its keys in the order of the documentation, and its records in the order of the file."""

    path: str
    keys: tuple[ShownKey, ...]
    records: tuple[ShownRecord, ...]


def show_config(
    path: Path | None, environ: Mapping[str, str], overrides: Mapping[str, ShownKey] | None = None
) -> ShownConfig:
    """Return the configuration that `load_settings` would load. `overrides` are the keys, by name, for which an option
    or its variable speaks.

    Raises ConfigMissing, BadToml, or the mistakes that are found without the environment.
    """
    source = ConfigFile.read(find_config(path, environ))
    # Before `discover` there are no records, and that is no reason to show nothing.
    settings = parse_settings(source.document, source.place, with_records="records" in source.document)
    keys = [(overrides or {}).get(shown.key, shown) for shown in _keys(source, settings)]
    records = tuple(ShownRecord(record, source.place(("records", record.name))) for record in settings.records)
    return ShownConfig(str(source.path.absolute()), tuple(keys), records)


def _keys(source: ConfigFile, settings: Settings) -> Iterator[ShownKey]:
    run = {f"run.{key}": getattr(settings.run, key) for key in RUN_KEYS}
    netsuite = {f"netsuite.{key}": getattr(settings.netsuite, key) for key in ("auth", "algorithm", "base_url")}
    defaults: dict[str, object] = {
        "profile": settings.profile,
        **run,
        **netsuite,
        "netsuite.concurrency": settings.netsuite.concurrency,
    }
    if settings.destination is not None:
        defaults |= {"destination.url": settings.destination.url, "destination.prefix": settings.prefix}
    yield _key(source, ("profile",), defaults)
    for table, names in (
        ("database", DATABASE_KEYS),
        ("destination", DESTINATION_KEYS),
        ("netsuite", NETSUITE_KEYS),
        ("run", RUN_KEYS),
        ("notify", NOTIFY_KEYS),
    ):
        for name in names:
            yield _key(source, (table, name), defaults)


def _key(source: ConfigFile, path: KeyPath, defaults: Mapping[str, object]) -> ShownKey:
    name = ".".join(path)
    table: object = source.document
    for part in path[:-1]:
        table = table.get(part) if isinstance(table, dict) else None
    if isinstance(table, dict) and path[-1] in table:
        return ShownKey(name, _masked(path, table[path[-1]]), Origin.FILE, source.place(path))
    value = defaults.get(name)
    return ShownKey(name, _masked(path, value), Origin.UNSET if value is None else Origin.DEFAULT)


def _masked(path: KeyPath, value: object) -> object:
    if path[0] == "notify" and isinstance(value, list):
        # A token may be among the words of a command; which program it is is none.
        return [word if not at or not isinstance(word, str) else masked(word) for at, word in enumerate(value)]
    if not isinstance(value, str):
        return value
    if path[-1] == "password" or path[-1] in CREDENTIAL_KEYS or path[0] == "notify":
        return masked(value)
    return masked_url(value) if path[-1] in ("url", "base_url") else value
