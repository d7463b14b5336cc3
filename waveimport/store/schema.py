"""The version of the coordination tables: read, checked, created, upgraded.

Versions are alembic's, kept in `waveimport_version` so that another project's alembic in the same database is left
alone. Alembic itself is imported only where tables are made.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import Table, inspect, text
from sqlalchemy.engine import Connection, Dialect, make_url
from sqlalchemy.exc import DBAPIError
from sqlalchemy.schema import CreateIndex, CreateTable, DDLElement

from waveimport.errors import DatabaseDown, SchemaMismatch
from waveimport.store.tables import metadata
from waveimport.store.transactions import Database, driver_error, translate

HEAD = "0003"
"""The newest migration under `store/migrations/versions`; a test holds the two equal."""
VERSION_TABLE = "waveimport_version"
UPGRADE_LOCK = "waveimport_upgrade"
UPGRADE_WAIT_SECONDS = 60


def current_version(connection: Connection) -> str | None:
    """Return the version of the tables, None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    row = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).first()
    return None if row is None else str(row[0])


def _missing(connection: Connection) -> list[str]:
    there = set(inspect(connection).get_table_names())
    return [name for name in metadata.tables if name not in there]


def require_current(database: Database, *, where: str | None = None) -> bool:
    """Return True when the tables are there and of this program's version, False when there are none at all.

    Raises SchemaMismatch when they are older or newer, or one of them is missing.
    """
    version = database.run(current_version)
    if version is None:
        return False
    if version == HEAD:
        missing = database.run(_missing)
        if missing:
            raise SchemaMismatch(
                f"the tables are of version {version}, but the table `{missing[0]}` is missing",
                where=where or database.name,
                help=f"bring it back from a backup; or drop `{VERSION_TABLE}`, and the next run makes it anew, empty",
            )
        return True
    if version < HEAD:
        raise SchemaMismatch(
            f"the tables are of version {version}, older than this program's {HEAD}",
            where=where or database.name,
            help="run `waveimport db upgrade` (while no run is at work)",
        )
    raise SchemaMismatch(
        f"the tables are of version {version}, newer than this program's {HEAD}",
        where=where or database.name,
        help="install the newer waveimport, or name another database",
    )


def upgrade(database: Database) -> tuple[str | None, str]:
    """Create the tables or bring them to HEAD. Returns (version before, version after). Safe to run again.

    Where there is none of them they are made as they are now; else the migrations bring them on, and finish what was
    cut off. Raises SchemaMismatch for tables that are newer, DatabaseDown when another upgrade does not end within a
    minute.
    """

    def work(connection: Connection) -> str | None:
        before = current_version(connection)
        if before is None and len(_missing(connection)) == len(metadata.tables):
            _create(connection)
        elif before is None or before < HEAD:
            _migrate(connection)
        return before

    with _alone(database):
        before = database.run(work)
    if before is not None and before > HEAD:
        require_current(database)
    return before, HEAD


def _create(connection: Connection) -> None:
    """Make the tables and, last, the version: MySQL commits each by itself, and one without version is migrated."""
    for table in metadata.tables.values():
        for statement in _made_with_its_indexes(table, connection.dialect):
            connection.exec_driver_sql(statement)
    connection.exec_driver_sql(
        f"CREATE TABLE {VERSION_TABLE} (version_num VARCHAR(32) NOT NULL,"
        f" CONSTRAINT {VERSION_TABLE}_pkc PRIMARY KEY (version_num))"
    )
    connection.exec_driver_sql(f"INSERT INTO {VERSION_TABLE} (version_num) VALUES ('{HEAD}')")


def _made_with_its_indexes(table: Table, dialect: Dialect) -> list[str]:
    """Return what makes a table: on MySQL one statement with its indexes, so that none can be without them."""
    made = str(CreateTable(table).compile(dialect=dialect)).strip()
    indexes = sorted(table.indexes, key=lambda index: str(index.name))
    if dialect.name == "sqlite":
        return [made, *(str(CreateIndex(index).compile(dialect=dialect)) for index in indexes)]
    keys = [f"    KEY {index.name} ({', '.join(column.name for column in index.columns)})" for index in indexes]
    columns, end, options = made.rpartition("\n)")
    return [",\n".join([columns, *keys]) + end + options]


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


@contextmanager
def _alone(database: Database) -> Iterator[None]:
    """Keep upgrades apart, from before the version is read until after it is committed.

    On SQLite the transaction does it. On MySQL DDL commits by itself; a lock of another connection does it there,
    which ends with that connection, whatever becomes of the upgrade.
    """
    if database.is_sqlite:
        yield
        return
    try:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as keeper:
            if keeper.exec_driver_sql(f"SELECT GET_LOCK('{UPGRADE_LOCK}', {UPGRADE_WAIT_SECONDS})").scalar() != 1:
                raise DatabaseDown(
                    f"another upgrade of the tables has been at work for {UPGRADE_WAIT_SECONDS} s",
                    where=database.name,
                    help="wait until it has ended, then run again",
                )
            try:
                yield
            finally:
                keeper.exec_driver_sql(f"SELECT RELEASE_LOCK('{UPGRADE_LOCK}')")
    except (DBAPIError, driver_error(database)) as error:
        raise translate(error, database.name) from error


def ddl(dialect_name: str) -> str:
    """Return the DDL of the coordination tables for `mysql` or `sqlite`, as `schema.sql` has it."""
    dialect = make_url("mysql+pymysql://" if dialect_name == "mysql" else "sqlite://").get_dialect()()
    statements: list[str] = []
    for table in metadata.tables.values():
        # The indexes of a table are a set: by name, so that each printing is the same.
        indexes = sorted(table.indexes, key=lambda index: str(index.name))
        elements: list[DDLElement] = [CreateTable(table), *map(CreateIndex, indexes)]
        for element in elements:
            lines = str(element.compile(dialect=dialect)).strip().splitlines()
            statements.append("\n".join(line.rstrip().replace("\t", "    ") for line in lines) + ";")
    return "\n\n".join(statements) + "\n"
