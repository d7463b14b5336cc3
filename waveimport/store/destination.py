"""Destination tables: made from the configuration, checked against it, and the statement that upserts their rows.

One table a record: the primary key is the record's key, then the declared columns under their safe names, plus
`_job_id` and `_synced_at`. Text is utf8mb4, compared byte by byte without padding, so that 'A', 'a ', 'á' and 'a' are
four keys on MySQL as they are on SQLite and at the source.
"""

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import delete, func, inspect, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError

from waveimport.core.rows import Row
from waveimport.core.settings import Column, ColumnKind, Deletes, RecordSettings
from waveimport.errors import BadData, KeyTooWide, TableClash
from waveimport.store import staging
from waveimport.store.dialect import now, upsert
from waveimport.store.existing import Wanted, check_existing
from waveimport.store.packing import Packed, Packing
from waveimport.store.refusals import refusal
from waveimport.store.sqlite_driver import moment
from waveimport.store.tables import import_columns

log = logging.getLogger(__name__)

FENCE_TABLE = "_waveimport_fence"
DELETED_COLUMN = "_deleted_at"
"""When a row was found to be gone at the source, for records with deletes = "soft"; NULL while it is there."""
ROWS_A_STATEMENT = 1000
"""SQLite keeps prepared statements with what was last bound to them, 2 MB for one of so many rows. With shorter ones
the writer gives up the interpreter, and has to wait for it, at each."""
SQLITE_VARIABLES = 32_000
"""Below SQLite's default limit of 32,766 parameters a statement (since 3.32)."""
MYSQL_KEY_BYTES = 3072
"""The widest key of an InnoDB table with the row format DYNAMIC and pages of 16 KB."""
NUMERIC_DIGITS = 15
"""Decimal digits that SQLite's NUMERIC (an IEEE double) holds exactly; wider decimals are TEXT there."""


@dataclass(frozen=True, slots=True)
class Target:
    """One destination table: its name with the prefix, its record, and what a statement into it needs."""

    table: str
    record: RecordSettings

    @property
    def key_targets(self) -> tuple[str, ...]:
        """Names of the primary key's columns at the destination."""
        return tuple(self.record.column(name).target for name in self.record.key)


def quote(connection: Connection, name: str) -> str:
    """Quote an identifier for the database at hand."""
    return connection.dialect.identifier_preparer.quote_identifier(name)


def column_type(column: Column, *, mysql: bool, key: bool) -> str:
    """Return the SQL type of a column on one of the two databases."""
    match column.kind:
        case ColumnKind.TEXT:
            return ("VARCHAR(255)" if key else "LONGTEXT") if mysql else "TEXT"
        case ColumnKind.INTEGER:
            return "BIGINT" if mysql else "INTEGER"
        case ColumnKind.BOOLEAN:
            return "TINYINT" if mysql else "INTEGER"
        case ColumnKind.DECIMAL:
            if mysql:
                return f"DECIMAL({column.precision},{column.scale})"
            return "NUMERIC" if column.precision <= NUMERIC_DIGITS else "TEXT"
        case ColumnKind.FLOAT:
            return "DOUBLE" if mysql else "REAL"
        case ColumnKind.DATE:
            return "DATE" if mysql else "TEXT"
        case ColumnKind.TIMESTAMP:
            return "DATETIME" if mysql else "TEXT"


def _types(target: Target, *, mysql: bool) -> dict[str, str]:
    """Return the SQL type of every column of a destination table, by name and in order."""
    record = target.record
    types = {
        column.target: column_type(column, mysql=mysql, key=column.name in record.key) for column in record.columns
    }
    moment = "DATETIME(6)" if mysql else "TEXT"
    types |= {"_job_id": "VARCHAR(64)" if mysql else "TEXT", "_synced_at": moment}
    return {**types, DELETED_COLUMN: moment} if record.deletes is Deletes.SOFT else types


def _key_bytes(column: Column) -> int:
    """Return how many bytes of an InnoDB index a key column takes: a text's 255 characters are four bytes each."""
    match column.kind:
        case ColumnKind.TEXT:
            return 255 * 4
        case ColumnKind.BOOLEAN:
            return 1
        case ColumnKind.DATE:
            return 3
        case ColumnKind.TIMESTAMP:
            return 5
        case ColumnKind.DECIMAL:
            # Nine digits are four bytes, and fewer take half a byte each, rounded up, on each side of the point.
            parts = (column.precision - column.scale, column.scale)
            return sum(digits // 9 * 4 + (digits % 9 + 1) // 2 for digits in parts)
        case _:
            return 8


def _check_key_width(target: Target) -> None:
    """Raise KeyTooWide where the server would refuse the primary key of a table that is to be made."""
    record = target.record
    widths = {name: _key_bytes(record.column(name)) for name in record.key}
    if sum(widths.values()) > MYSQL_KEY_BYTES:
        listed = ", ".join(f"`{name}` {width:,}" for name, width in widths.items())
        raise KeyTooWide(
            f"the key of record `{record.name}` is {sum(widths.values()):,} bytes on MySQL, which takes"
            f" {MYSQL_KEY_BYTES:,} ({listed})",
            where=f"records.{record.name}.key",
            help="name fewer text columns in the key (three fit), or import into SQLite",
        )


def _binary_collation(connection: Connection) -> str:
    """Return the binary collation that does not pad: MariaDB and MySQL 8 name it differently."""
    return "utf8mb4_nopad_bin" if connection.dialect.is_mariadb else "utf8mb4_0900_bin"  # type: ignore[attr-defined]  # of MySQL only


def create_statement(connection: Connection, target: Target) -> str:
    """Return the DDL of a destination table."""
    mysql = connection.dialect.name != "sqlite"
    keys = (*target.key_targets, "_job_id", "_synced_at")
    lines = [
        f"{quote(connection, name)} {kind}{' NOT NULL' if name in keys else ' NULL' if mysql else ''}"
        for name, kind in _types(target, mysql=mysql).items()
    ]
    lines.append(f"PRIMARY KEY ({', '.join(quote(connection, name) for name in target.key_targets)})")
    options = ""
    if mysql:
        options = f" ENGINE=InnoDB DEFAULT CHARACTER SET utf8mb4 COLLATE {_binary_collation(connection)}"
    body = ",\n  ".join(lines)
    return f"CREATE TABLE IF NOT EXISTS {quote(connection, target.table)} (\n  {body}\n){options}"


def ensure_tables(
    connection: Connection,
    targets: Sequence[Target],
    *,
    fence: bool,
    known: Mapping[str, Collection[str]] | None = None,
) -> None:
    """Create the destination tables that are missing and check those that are there.

    `known` has the columns of tables that earlier runs have made or filled, as `known_columns` gives them: one that a
    record has been given since is added to its table. Raises, before anything is written, TableClash where a table has
    another key, lacks a column that it once had or would change what it is given (see `store.existing`), and
    KeyTooWide where MySQL could not make one. `fence` adds the fence table of a destination that is a database of its
    own.
    """
    added = check_tables(connection, targets, known or {})
    for target in targets:
        add_columns(connection, target.table, added.get(target.table, {}))
        if target.table not in added:
            connection.execute(text(create_statement(connection, target).replace(":", "\\:")))
        _ensure_parent_index(connection, target)
    if fence:
        job_id = "VARCHAR(64)" if connection.dialect.name != "sqlite" else "TEXT"
        ascii_id = " CHARACTER SET ascii COLLATE ascii_bin" if connection.dialect.name != "sqlite" else ""
        connection.execute(
            text(
                f"CREATE TABLE IF NOT EXISTS {FENCE_TABLE} (job_id {job_id}{ascii_id} NOT NULL,"
                f" batch_id {job_id.replace('64', '191')}{ascii_id} NOT NULL, attempt BIGINT NOT NULL,"
                " PRIMARY KEY (job_id, batch_id))"
            )
        )


def add_columns(connection: Connection, table: str, columns: Mapping[str, str]) -> None:
    """Add columns, by name with their SQL types, to a table."""
    null = "" if connection.dialect.name == "sqlite" else " NULL"
    for name, kind in columns.items():
        sql = f"ALTER TABLE {quote(connection, table)} ADD COLUMN {quote(connection, name)} {kind}{null}"
        connection.execute(text(sql))
        log.info("column `%s` was added to table `%s`", name, table)


def check_tables(
    connection: Connection, targets: Sequence[Target], known: Mapping[str, Collection[str]]
) -> dict[str, dict[str, str]]:
    """Return, for each table that is there, the columns (with their SQL types) that it is still to get.

    Writes nothing. Raises as `ensure_tables` does, whose `known` this is.
    """
    inspector = inspect(connection)
    mysql = connection.dialect.name != "sqlite"
    added: dict[str, dict[str, str]] = {}
    for target in targets:
        if inspector.has_table(target.table):
            collation = _binary_collation(connection) if mysql else None
            added[target.table] = new = _new_columns(connection, target, known.get(target.table))
            types = {name: kind for name, kind in _types(target, mysql=mysql).items() if name not in new}
            check_existing(connection, target.table, Wanted(target.record.name, types, target.key_targets, collation))
        elif mysql:
            _check_key_width(target)
    return added


def _new_columns(connection: Connection, target: Target, known: Collection[str] | None) -> dict[str, str]:
    """Return the columns, with their SQL types, that a record has been given since its table was last filled.

    `known` are the columns that the table had then, None for a table that is not the importer's: to such a one nothing
    is added.
    """
    if known is None:
        return {}
    there = {column["name"].lower() for column in inspect(connection).get_columns(target.table)}
    return {
        name: kind
        for name, kind in _types(target, mysql=connection.dialect.name != "sqlite").items()
        if name not in there and name not in known and name not in target.key_targets
    }


def known_columns(
    connection: Connection, targets: Sequence[Target], *, profile: str, destination: str
) -> dict[str, set[str]]:
    """Return, by table, the columns that `import_columns` knows of it."""
    found: dict[str, set[str]] = {}
    for table, column in connection.execute(
        select(import_columns.c.table_name, import_columns.c.column_name).where(
            import_columns.c.profile == profile,
            import_columns.c.destination == destination,
            import_columns.c.table_name.in_([target.table for target in targets]),
        )
    ):
        found.setdefault(table, set()).add(column)
    return found


def _ensure_parent_index(connection: Connection, target: Target) -> None:
    """Index the column that names a derived row's parent: what a parent has no more is looked for by it."""
    record = target.record
    if record.parent_key is None or record.deletes is Deletes.IGNORE:
        return
    column = record.column(record.parent_key)
    inspector = inspect(connection)
    # What was made in this very transaction is not in what an inspector has kept.
    inspector.clear_cache()
    leading = [index["column_names"][:1] for index in inspector.get_indexes(target.table)]
    if target.key_targets[0] == column.target or [column.target] in leading:
        return
    name = quote(connection, f"{target.table[:40]}_by_parent")
    prefix = "(255)" if connection.dialect.name != "sqlite" and _is_long(record, column) else ""
    on = f"{quote(connection, target.table)} ({quote(connection, column.target)}{prefix})"
    connection.execute(text(f"CREATE INDEX {name} ON {on}"))


def _is_long(record: RecordSettings, column: Column) -> bool:
    return column.kind is ColumnKind.TEXT and column.name not in record.key


def table_exists(connection: Connection, target: Target) -> bool:
    """Whether a destination table is there."""
    return inspect(connection).has_table(target.table)


def holds_rows(connection: Connection, target: Target) -> bool:
    """Whether a destination table holds any row that is not marked as deleted."""
    # A record that is to mark its deleted rows from now on has no column for it yet.
    marks = any(column["name"] == DELETED_COLUMN for column in inspect(connection).get_columns(target.table))
    there = f" WHERE {DELETED_COLUMN} IS NULL" if marks else ""
    found = connection.execute(text(f"SELECT 1 FROM {quote(connection, target.table)}{there} LIMIT 1"))
    return found.first() is not None


def check_owner(connection: Connection, targets: Sequence[Target], *, profile: str, destination: str) -> None:
    """Raise TableClash where a table holds the rows of another profile, by `import_columns`.

    Keys are unique within an account only, so two profiles in one table would overwrite each other's rows. A profile
    owns its tables until its rows are taken from `import_columns`, whatever becomes of its jobs. `destination` is the
    database of the tables, without user and password; empty for the coordination database.
    """
    for target in targets:
        owner = connection.execute(
            select(import_columns.c.profile)
            .where(
                func.lower(import_columns.c.table_name) == target.table.lower(),
                import_columns.c.destination == destination,
                import_columns.c.profile != profile,
            )
            .limit(1)
            # Waits for a profile that remembers the same table at this moment; one of the two then sees the other.
            .with_for_update()
        ).scalar()
        if owner is not None:
            raise TableClash(
                f"table `{target.table}` holds the rows of profile `{owner}`, and this is profile `{profile}`",
                help="set `[destination] prefix` for one of them. If the profile was renamed: UPDATE import_columns SET"
                f" profile = '{profile}' WHERE profile = '{owner}'. If it is gone for good: drop the table, then DELETE"
                f" FROM import_columns WHERE profile = '{owner}' AND table_name = '{target.table}'",
            )


def remember_columns(connection: Connection, targets: Sequence[Target], *, profile: str, destination: str) -> None:
    """Keep in `import_columns` (of the coordination database) which source column each destination column is of, and
    whose table it is.

    Raises TableClash as `check_owner` does; nothing is kept then.
    """
    for target in targets:
        # Runs may start at once: what both write is written over, never deleted first.
        connection.execute(
            delete(import_columns).where(
                import_columns.c.profile == profile,
                import_columns.c.table_name == target.table,
                import_columns.c.column_name.not_in([column.target for column in target.record.columns]),
            )
        )
        connection.execute(
            upsert(connection, import_columns),
            [
                {
                    "profile": profile,
                    "table_name": target.table,
                    "column_name": column.target,
                    "destination": destination,
                    "source_name": column.name,
                    "type": str(column.kind)
                    + (f"({column.precision},{column.scale})" if column.kind is ColumnKind.DECIMAL else ""),
                }
                for column in target.record.columns
            ],
        )
    # After the writing: of two profiles that begin at once, each has its rows in place before it looks for others.
    check_owner(connection, targets, profile=profile, destination=destination)


class Upsert:
    """The statement that upserts rows into one table, built once.

    Long statements of hundreds of rows: a call per row gives up the interpreter lock at each, and a writer beside
    one parsing thread then falls to a tenth.
    """

    def __init__(self, connection: Connection, target: Target) -> None:
        self.target = target
        self.mysql = connection.dialect.name != "sqlite"
        columns = target.record.columns
        names = [quote(connection, column.target) for column in columns]
        keys = {column.target for column in columns if column.name in target.record.key}
        self._width = len(columns)
        self.packing = Packing.of(target.record, mysql=self.mysql)
        updates = [quote(connection, column.target) for column in columns if column.target not in keys]
        updates += ["_job_id", "_synced_at"]
        # A row that comes back is a row again.
        revived = f", {DELETED_COLUMN} = NULL" if target.record.deletes is Deletes.SOFT else ""
        table = quote(connection, target.table)
        # _job_id and _synced_at come first, so that on SQLite ?1 and ?2 serve every row of the statement.
        self._head = f"INSERT INTO {table} (_job_id, _synced_at, {', '.join(names)}) VALUES "
        if self.mysql:
            pairs = ", ".join(f"{name} = VALUES({name})" for name in updates)
            self._tail = f" ON DUPLICATE KEY UPDATE {pairs}{revived}"
        else:
            conflict = ", ".join(quote(connection, name) for name in target.key_targets)
            pairs = ", ".join(f"{name} = excluded.{name}" for name in updates)
            self._tail = f" ON CONFLICT ({conflict}) DO UPDATE SET {pairs}{revived}"
            staged = ", ".join(staging.columns(self._width))
            self._from_staged = f"{self._head.removesuffix('VALUES ')}SELECT ?1, ?2, {staged} FROM "
        self._row = f"(?1, ?2, {', '.join('?' * self._width)})"
        self._chunk = max(1, min(ROWS_A_STATEMENT, (SQLITE_VARIABLES - 2) // max(1, self._width)))
        self._statements: dict[int, str] = {}
        self._clock = str(now().compile(dialect=connection.dialect))

    def _statement(self, rows: int) -> str:
        if rows not in self._statements:
            self._statements[rows] = self._head + ", ".join([self._row] * rows) + self._tail
        return self._statements[rows]

    def execute(self, connection: Connection, rows: Sequence[Row] | Packed, *, job_id: str, packet_bytes: int) -> None:
        """Upsert the rows. Raises BadData for one that is larger than the server takes in a packet (`packet_bytes`) or
        that the table refuses, TableClash where the table is not what it was (see `store.refusals`).

        An oversized packet ends the connection with the same error as a lost server and would be sent for ever, so
        sizes are checked first.
        """
        try:
            if self.mysql:
                self._execute_mysql(connection, self.packing.pack(rows), job_id, packet_bytes)
            else:
                self._execute_sqlite(connection, self.packing.pack(rows), job_id)
        except DBAPIError as error:
            refused = refusal(error, self.target.table, job_id)
            if refused is None:
                raise
            # Without its cause: the statement that stands in it is full of the rows' values.
            raise refused from None

    def _execute_sqlite(self, connection: Connection, packed: Packed, job_id: str) -> None:
        clock = moment(connection)
        page = staging.table_of(connection, packed)
        if page is not None:
            # Without its WHERE the ON of ON CONFLICT would be that of a join.
            statement = f"{self._from_staged}{page} WHERE true{self._tail}"
            connection.exec_driver_sql(statement, (job_id, clock))
            return
        start, width, parts = 0, self._width, packed.objects()
        while start < packed.count:
            size = self._size(packed.count - start)
            whole = size == packed.count
            values = parts if whole else parts[start * width : (start + size) * width]
            connection.exec_driver_sql(self._statement(size), (job_id, clock) + values)  # noqa: RUF005  half the copies
            start += size

    def _size(self, left: int) -> int:
        """Return how many rows the next statement takes: the full number, else a power of two.

        Prepared statements are kept, and one for every number of rows would be too many.
        """
        return self._chunk if left >= self._chunk else 1 << (left.bit_length() - 1)

    def _execute_mysql(self, connection: Connection, packed: Packed, job_id: str, packet_bytes: int) -> None:
        # Not a part of every command's start.
        from pymysql.converters import escape_string

        room = packet_bytes - len(self._head) - len(self._tail) - 1024
        send = connection.execution_options(no_parameters=True)
        lead = f"('{escape_string(job_id)}', {self._clock}, "
        between = f"), {lead}"
        parts = packed.objects()
        for start in range(0, packed.count, ROWS_A_STATEMENT):
            part = parts[start : start + ROWS_A_STATEMENT]
            values = between.join(part)
            fits = _fits(values, room - len(between))
            for chunk in (values,) if fits else self._chunks(part, room, between):
                send.exec_driver_sql(f"{self._head}{lead}{chunk}){self._tail}")

    def _chunks(self, rendered: Sequence[str], room: int, between: str) -> Iterator[str]:
        """Yield the rows in parts that fit a packet. Raises BadData for a row that fits none."""
        parts: list[str] = []
        size = 0
        for row in rendered:
            length = len(between) + (len(row) if row.isascii() else len(row.encode("utf-8")))
            if length > room:
                raise BadData(
                    f"a row of `{self.target.table}` is {length:,} bytes, more than the server takes at once",
                    help="raise max_allowed_packet on the server",
                )
            if size + length > room:
                yield between.join(parts)
                parts, size = [], 0
            parts.append(row)
            size += length
        yield between.join(parts)


def _fits(values: str, room: int) -> bool:
    """Whether a text is of at most `room` bytes; its exact length is taken only where a bound does not decide."""
    return 4 * len(values) <= room or (len(values) if values.isascii() else len(values.encode("utf-8"))) <= room


def packet_bytes(connection: Connection) -> int:
    """Return how many bytes a statement may have: max_allowed_packet on MySQL, no practical limit on SQLite."""
    if connection.dialect.name == "sqlite":
        return 1 << 30
    return int(connection.exec_driver_sql("SELECT @@max_allowed_packet").scalar_one())


def raise_fence(connection: Connection, job_id: str, batch_id: str, attempt: int) -> bool:
    """Raise the fence of a batch in a destination of its own. False when a later attempt was here already.

    Without it a stalled attempt could overwrite newer rows first and learn only afterwards that it was fenced.
    """
    binds = {"job": job_id, "batch": batch_id, "attempt": attempt}
    raised = (
        "ON DUPLICATE KEY UPDATE attempt = GREATEST(attempt, VALUES(attempt))"
        if connection.dialect.name != "sqlite"
        else "ON CONFLICT (job_id, batch_id) DO UPDATE SET attempt = MAX(attempt, excluded.attempt)"
    )
    connection.execute(
        text(f"INSERT INTO {FENCE_TABLE} (job_id, batch_id, attempt) VALUES (:job, :batch, :attempt) {raised}"), binds
    )
    # The insert has locked the row, so what stands there now stays until the commit.
    highest = connection.execute(
        text(f"SELECT attempt FROM {FENCE_TABLE} WHERE job_id = :job AND batch_id = :batch"), binds
    ).scalar_one()
    return int(highest) == attempt
