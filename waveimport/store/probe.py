"""What a database is and allows, tried out with a table of its own name that is gone again at the end."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlalchemy.engine import Connection

from waveimport.store.overview import current_time

MARIADB_LOWEST = (10, 6)
MYSQL_LOWEST = (8, 0, 17)
"""SKIP LOCKED came with MariaDB 10.6 and MySQL 8.0; the binary collation without padding with MySQL 8.0.17."""
SQLITE_LOWEST = (3, 35, 0)


@dataclass(frozen=True, slots=True)
class Server:
    """A database as it says of itself. `isolation` is that of our own connection, "" on SQLite; `lowest` the oldest
    version that will do; `journal` is SQLite's journal mode, "" on MySQL."""

    product: str
    version: tuple[int, ...]
    lowest: tuple[int, ...]
    isolation: str
    journal: str
    now: datetime

    @property
    def version_text(self) -> str:
        """The version with dots."""
        return ".".join(map(str, self.version))


def ask_server(connection: Connection) -> Server:
    """Return what the database is, and its clock."""
    now = current_time(connection)
    if connection.dialect.name == "sqlite":
        journal = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())
        return Server("SQLite", sqlite3.sqlite_version_info, SQLITE_LOWEST, "", journal, now)
    written = str(connection.exec_driver_sql("SELECT VERSION()").scalar_one())
    maria = "mariadb" in written.lower()
    isolation = connection.exec_driver_sql(
        # MariaDB below 11.1 knows the old name only, MySQL 8 the new one only.
        "SHOW SESSION VARIABLES WHERE Variable_name IN ('transaction_isolation', 'tx_isolation')"
    ).first()
    return Server(
        product="MariaDB" if maria else "MySQL",
        version=_numbers(written),
        lowest=MARIADB_LOWEST if maria else MYSQL_LOWEST,
        isolation="" if isolation is None else str(isolation[1]).replace("-", " "),
        journal="",
        now=now,
    )


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version: `10.11.19-MariaDB-log` is (10, 11, 19)."""
    # Replication of old clients made MariaDB put 5.5.5- in front of its own version.
    plain = version.removeprefix("5.5.5-").partition("-")[0]
    return tuple(int(part) for part in plain.split(".") if part.isdecimal())


def try_privileges(connection: Connection, table: str) -> None:
    """Create `table` with an index, write, lock, read and change a row, and drop it again.

    Raises what the driver raises at the first step that is not allowed; the table is dropped even then, if it can be.
    """
    connection.execute(text(f"CREATE TABLE {table} (id INTEGER NOT NULL PRIMARY KEY, note VARCHAR(20))"))
    try:
        connection.execute(text(f"CREATE INDEX {table}_note ON {table} (note)"))
        connection.execute(text(f"INSERT INTO {table} (id, note) VALUES (1, 'one')"))
        locking = "" if connection.dialect.name == "sqlite" else " FOR UPDATE"
        connection.execute(text(f"SELECT note FROM {table} WHERE id = 1{locking}")).one()
        connection.execute(text(f"UPDATE {table} SET note = 'two' WHERE id = 1"))
        connection.execute(text(f"DELETE FROM {table} WHERE id = 1"))
    finally:
        connection.execute(text(f"DROP TABLE {table}"))
