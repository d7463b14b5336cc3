"""The version of the coordination tables: read, checked, created, upgraded.

Versions are alembic's, kept in `waveimport_version` so that another project's alembic in the same database is left
alone. Alembic itself is imported only where tables are made.
"""

from pathlib import Path

from sqlalchemy import create_mock_engine, inspect, text
from sqlalchemy.engine import Connection

from waveimport.errors import SchemaMismatch
from waveimport.store.tables import metadata
from waveimport.store.transactions import Database

HEAD = "0001"
"""The newest migration under `store/migrations/versions`; a test holds the two equal."""
VERSION_TABLE = "waveimport_version"


def current_version(connection: Connection) -> str | None:
    """Return the version of the tables, None where there are none."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    row = connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).first()
    return None if row is None else str(row[0])


def require_current(database: Database, *, where: str | None = None) -> bool:
    """Return True when the tables are there and of this program's version, False when there are none at all.

    Raises SchemaMismatch when they are older or newer.
    """
    version = database.run(current_version)
    if version == HEAD or version is None:
        return version == HEAD
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
    """Create the tables or bring them to HEAD. Returns (version before, version after). Safe to run again."""
    from alembic import command
    from alembic.config import Config

    def work(connection: Connection) -> str | None:
        mysql = connection.dialect.name != "sqlite"
        if mysql:
            # DDL commits by itself there, so the transaction does not keep two upgrades apart.
            connection.exec_driver_sql("SELECT GET_LOCK('waveimport_upgrade', 60)")
        before = current_version(connection)
        if before is not None and before > HEAD:
            return before
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        if mysql:
            connection.exec_driver_sql("SELECT RELEASE_LOCK('waveimport_upgrade')")
        return before

    before = database.run(work)
    if before is not None and before > HEAD:
        require_current(database)
    return before, HEAD


def ddl(dialect_name: str) -> str:
    """Return the DDL of the coordination tables for `mysql` or `sqlite`, as `schema.sql` has it."""
    statements: list[str] = []

    def collect(statement: object, *args: object, **kw: object) -> None:
        compiled = str(statement.compile(dialect=engine.dialect))  # type: ignore[attr-defined]
        lines = [line.rstrip().replace("\t", "    ") for line in compiled.strip().splitlines()]
        statements.append("\n".join(lines) + ";")

    # A mock engine collects what create_all would send, and needs no database and no driver's connection.
    engine = create_mock_engine("mysql+pymysql://" if dialect_name == "mysql" else "sqlite://", collect)
    metadata.create_all(engine, checkfirst=False)
    return "\n\n".join(statements) + "\n"
