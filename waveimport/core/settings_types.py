"""The configuration as frozen values. Shapes follow the TOML file key by key; units are in the names.

Import them from `waveimport.core.settings`, which also holds the rules that a mapping must obey to become one.
"""

from dataclasses import dataclass, field
from enum import StrEnum


class ColumnKind(StrEnum):
    """What a column holds, as written in `columns`."""

    TEXT = "text"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    DECIMAL = "decimal"
    FLOAT = "float"
    DATE = "date"
    TIMESTAMP = "timestamp"


class Deletes(StrEnum):
    """What becomes of a row that is gone at the source: it is deleted too, it is marked in `_deleted_at`, or it is
    kept as if nothing had happened."""

    HARD = "hard"
    SOFT = "soft"
    IGNORE = "ignore"


class Refresh(StrEnum):
    """How a full read of a record reaches its table: row by row while it runs, or as a whole at its end, by a table
    beside it that takes its place."""

    IN_PLACE = "in_place"
    SWAP = "swap"


@dataclass(frozen=True, slots=True)
class Column:
    """One configured column: its name at the source (as configured), its type, its name at the destination."""

    name: str
    kind: ColumnKind
    precision: int = 0  # decimal only
    scale: int = 0  # decimal only
    target: str = ""  # the safe destination name; equals `name` unless it had to be mapped


@dataclass(frozen=True, slots=True)
class RecordSettings:
    """One `[records.<name>]` table.

    `key`, `parent_key` and `cursor` are source column names, all of them among `columns`. `table_name` is the safe
    destination name (see `core.names`), still without the prefix. `refresh` is that of the family: a derived record has
    it from its main record.
    """

    name: str
    table: str
    columns: tuple[Column, ...]
    key: tuple[str, ...] = ("id",)
    where: str | None = None
    table_name: str = ""
    depends_on: tuple[str, ...] = ()
    derived_from: str | None = None
    parent_key: str | None = None
    cursor: str | None = None
    deletes: Deletes = Deletes.HARD
    refresh: Refresh = Refresh.IN_PLACE

    def column(self, name: str) -> Column:
        """Return the column of that source name. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """`[database]` or `[destination]`: a SQLAlchemy URL (secrets resolved or not, see `runtime.config`), a prefix."""

    url: str = field(repr=False)
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class NetSuiteSettings:
    """`[netsuite]`. `base_url` is always filled in; the secrets are resolved only where a command needs them.

    `private_key` is the content of `private_key_file`, PEM; empty where it was not needed.
    """

    account: str
    base_url: str
    auth: str = "tba"
    consumer_key: str = field(default="", repr=False)
    consumer_secret: str = field(default="", repr=False)
    token_id: str = field(default="", repr=False)
    token_secret: str = field(default="", repr=False)
    client_id: str = field(default="", repr=False)
    certificate_id: str = field(default="", repr=False)
    private_key_file: str = ""
    private_key: str = field(default="", repr=False)
    algorithm: str = "PS256"
    concurrency: int = 5


@dataclass(frozen=True, slots=True)
class RunSettings:
    """`[run]`; the defaults are the documented ones."""

    workers: int = 8
    page_size: int = 1000
    batch_size: int = 5000
    parents_per_batch: int = 500
    lease_seconds: float = 60.0
    max_tries: int = 5
    request_timeout_seconds: float = 900.0
    give_up_after_seconds: float = 600.0
    reconcile: bool = True
    stuck_after_seconds: float = 300.0
    passes_without_effect: int = 100
    complete_within_hours: float = 0.0
    lock_dir: str | None = None
    lookback_seconds: float = 600.0
    journal_days: int = 90
    reader_processes: int = 3


@dataclass(frozen=True, slots=True)
class NotifySettings:
    """`[notify]`: whom to tell how runs begin and end. The addresses hold secrets; empty where none is given."""

    ping_url: str = field(default="", repr=False)
    webhook_url: str = field(default="", repr=False)
    command: tuple[str, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole configuration. `destination` is None when no `[destination]` was given."""

    profile: str
    database: DatabaseSettings
    netsuite: NetSuiteSettings
    run: RunSettings
    records: tuple[RecordSettings, ...]
    destination: DatabaseSettings | None = None
    notify: NotifySettings = NotifySettings()
    path: str = ""  # the configuration file, for messages; "" when built in code

    @property
    def prefix(self) -> str:
        """Prefix of every destination table."""
        return self.destination.prefix if self.destination else ""

    @property
    def one_database(self) -> bool:
        """Whether rows and coordination share one database, so that one transaction can hold both.

        A `[destination]` that gives only a prefix, or the same URL again, is still one database.
        """
        return self.destination is None or self.destination.url == self.database.url

    def record(self, name: str) -> RecordSettings:
        """Return the record of that name. Raises KeyError."""
        for record in self.records:
            if record.name == name:
                return record
        raise KeyError(name)
