"""A table read beside the one it is to replace, and the moment in which it does (see `core.swaps`).

The new table is made like the old one: its columns, those that nobody configured included, its key, its indexes. What
is called by the table's name goes on with the new one: views, and on MySQL the grants on it. What hangs on the old
table itself would be lost, so a table that has some is refused: triggers, and on MySQL foreign keys from or to it
(SQLite keeps those by name).

**MySQL** swaps by one RENAME TABLE of all tables of the job, which is atomic, also in a crash of the server (MySQL 8,
MariaDB 10.6), and commits by itself. A reader in a transaction that began before it gets error 1412, "please retry
transaction", never rows of both. It waits for readers of the old tables, and whoever comes after waits behind it; so
it gives up soon, and is tried again.

**SQLite** swaps in a transaction. Names of indexes are one to a database there, so the new table gets its own when the
old one lets go of them. RENAME would change views to follow the old table; `legacy_alter_table` keeps them as they are.
"""

import re
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from sqlalchemy import delete, inspect, select, text
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from waveimport.core.names import aside_name, beside_name
from waveimport.errors import TableClash, TablesInUse
from waveimport.store.destination import Target, add_columns, check_tables, quote
from waveimport.store.dialect import upsert
from waveimport.store.plans import plans_of
from waveimport.store.tables import import_columns, wave_journal
from waveimport.store.transactions import Database, Verdict, classify, driver_error, translate

T = TypeVar("T")

LOCK_WAIT_SECONDS = 3
"""How long a change of tables waits for their readers on MySQL; all who come after it wait behind it so long."""
_KIND = "swap"
_SQLITE_TABLE = re.compile(r"""CREATE TABLE (?:"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\]|'(?:[^']|'')*'|[\w$]+)""")
"""How the statement begins that SQLite keeps of a table: it writes these two words so itself."""
_GRANT = re.compile(r"GRANT (?P<what>.+?) ON [`\"]?(?P<database>.+?)[`\"]?\.[`\"]?(?P<table>[^`\"]+)[`\"]? TO ")
_ROLE = re.compile(r"GRANT [`'\"]")


@dataclass(frozen=True, slots=True)
class Swap:
    """A table that a job replaces: `target` its table, `beside` the one that is read into, `aside` the name that the
    old one gets."""

    target: Target
    beside: Target
    aside: str

    @property
    def names(self) -> tuple[str, str]:
        """The two names that are the job's alone."""
        return self.beside.table, self.aside


def swap_of(target: Target, job_id: str) -> Swap:
    """Return how a job would replace a table."""
    return Swap(target, replace(target, table=beside_name(target.table, job_id)), aside_name(target.table, job_id))


# --- in the coordination database -------------------------------------------------------------------------------


def swapped_roots(connection: Connection, job_id: str) -> set[str]:
    """Return the main records whose families a job reads beside their tables.

    It was decided when the job was made and stays with it, whatever becomes of its tables and of `refresh` meanwhile.
    """
    return {plan.record for plan in plans_of(connection, job_id) if plan.spec.get("swap") is True}


def is_to_be_tried_again(connection: Connection, job_id: str) -> bool:
    """Whether a failed job is to be gone on with: one that swaps, once, for another would read all of it anew.

    No oftener, or a row that can never be typed would keep back whatever else the next job reads.
    """
    if not swapped_roots(connection, job_id):
        return False
    tried = select(wave_journal.c.seq).where(wave_journal.c.job_id == job_id, wave_journal.c.event == "retry")
    return connection.execute(tried.limit(1)).first() is None


def registered(connection: Connection, *, profile: str, destination: str) -> dict[str, str]:
    """Return the tables that swaps of a profile have made or may have made and not dropped yet, with their jobs."""
    rows = connection.execute(
        select(import_columns.c.table_name, import_columns.c.source_name).where(
            import_columns.c.profile == profile,
            import_columns.c.destination == destination,
            import_columns.c.type == _KIND,
        )
    )
    return {row.table_name: row.source_name for row in rows}


def register(connection: Connection, names: Collection[str], *, profile: str, destination: str, job_id: str) -> None:
    """Keep in `import_columns`, before they are made, that tables are a job's: only such are ever dropped."""
    for name in names:
        connection.execute(
            upsert(connection, import_columns),
            {
                "profile": profile,
                "table_name": name,
                "column_name": "_job_id",
                "destination": destination,
                "source_name": job_id,
                "type": _KIND,
            },
        )


def forget(connection: Connection, names: Collection[str], *, profile: str) -> None:
    """Take tables that were dropped from `import_columns`."""
    connection.execute(
        delete(import_columns).where(
            import_columns.c.profile == profile,
            import_columns.c.type == _KIND,
            import_columns.c.table_name.in_(list(names)),
        )
    )


# --- at the destination -----------------------------------------------------------------------------------------


def change_tables(database: Database, work: Callable[[Connection], T]) -> T:
    """Run `work`, which makes, renames or drops tables, on a connection of its own.

    On SQLite that is a transaction. On MySQL each statement commits by itself, so `work` must be able to go on from
    wherever it was left. Raises TablesInUse where a reader would be waited for too long, and the database's errors.
    """
    if database.is_sqlite:
        return database.run(work)
    try:
        with database.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {LOCK_WAIT_SECONDS}")
            try:
                return work(connection)
            finally:
                with suppress(SQLAlchemyError):
                    connection.exec_driver_sql("SET SESSION lock_wait_timeout = DEFAULT")
    except (DBAPIError, driver_error(database)) as error:
        if classify(error) is Verdict.CONFLICT:
            raise TablesInUse(
                f"tables that are to be replaced are being read, for more than {LOCK_WAIT_SECONDS} s",
                where=database.name,
                help="end the transaction that reads them (SHOW PROCESSLIST); the job goes on where it was",
            ) from None
        raise translate(error, database.name) from error


def tables_there(connection: Connection) -> set[str]:
    """Return the names of all tables of the database."""
    return set(inspect(connection).get_table_names())


def check_replaceable(connection: Connection, targets: Sequence[Target]) -> None:
    """Raise TableClash for a table with something that a new one in its place would not have.

    A table that is not there has nothing. On MySQL triggers are shown to those only who may make some, so an account
    without that right is refused too.
    """
    there = tables_there(connection) & {target.table for target in targets}
    found = _sqlite_hangs_on(connection) if connection.dialect.name == "sqlite" else _mysql_hangs_on(connection)
    for target in targets:
        for what, name in found.get(target.table.lower(), ()):
            raise TableClash(
                f"table `{target.table}` has the {what} `{name}`, which would be lost when a new table takes its place",
                help=f'drop it, or set refresh = "in_place" for record `{target.record.name}`',
            )
    blind = sorted(there - _shown_triggers(connection, there)) if connection.dialect.name != "sqlite" else []
    if blind:
        raise TableClash(
            f"the database account is not shown whether table `{blind[0]}` has triggers, which would be lost when a new"
            " table takes its place",
            help='GRANT TRIGGER to it on the destination, or set refresh = "in_place"',
        )


def _sqlite_hangs_on(connection: Connection) -> dict[str, list[tuple[str, str]]]:
    rows = connection.exec_driver_sql("SELECT tbl_name, name FROM sqlite_master WHERE type = 'trigger'")
    found: dict[str, list[tuple[str, str]]] = {}
    for table, name in rows:
        found.setdefault(table.lower(), []).append(("trigger", name))
    return found


def _mysql_hangs_on(connection: Connection) -> dict[str, list[tuple[str, str]]]:
    triggers = "SELECT event_object_table, trigger_name FROM information_schema.triggers" + (
        " WHERE event_object_schema = DATABASE()"
    )
    keys = "information_schema.key_column_usage WHERE referenced_table_name IS NOT NULL AND"
    asked = (
        ("trigger", triggers),
        ("foreign key", f"SELECT table_name, constraint_name FROM {keys} table_schema = DATABASE()"),
        (
            "foreign key of another table on it,",
            f"SELECT referenced_table_name, constraint_name FROM {keys} referenced_table_schema = DATABASE()",
        ),
    )
    found: dict[str, list[tuple[str, str]]] = {}
    for what, sql in asked:
        for table, name in connection.execute(text(sql)):
            found.setdefault(table.lower(), []).append((what, name))
    return found


def _shown_triggers(connection: Connection, tables: Collection[str]) -> set[str]:
    """Return the tables of which the account is shown the triggers, by its grants.

    What a role gives is not listed on every server, so whoever has one is believed.
    """
    database = str(connection.exec_driver_sql("SELECT DATABASE()").scalar_one())
    shown: set[str] = set()
    for (grant,) in connection.exec_driver_sql("SHOW GRANTS").all():
        found = _GRANT.match(str(grant))
        if found is None:
            if _ROLE.match(str(grant)):
                return set(tables)
        elif re.search(r"\bTRIGGER\b|ALL PRIVILEGES", found["what"]) and _is_pattern_of(found["database"], database):
            shown |= set(tables) if found["table"] == "*" else {found["table"]}
    return shown


def _is_pattern_of(pattern: str, database: str) -> bool:
    """Whether the database of a grant is this one; `_` and `%` stand for others there unless escaped."""
    wild = {"%": ".*", "_": ".", "*": ".*"}
    parts = re.findall(r"\\.|.", pattern)
    return bool(re.fullmatch("".join(wild.get(part) or re.escape(part[-1]) for part in parts), database))


def make_beside(connection: Connection, swap: Swap) -> None:
    """Make the table beside, if it is not there, and give it the columns that it lacks. Goes on from wherever it was
    left. Raises TableClash as `check_tables` does."""
    if swap.beside.table not in tables_there(connection):
        old, new = quote(connection, swap.target.table), quote(connection, swap.beside.table)
        if connection.dialect.name == "sqlite":
            statement = connection.exec_driver_sql(
                "SELECT sql FROM sqlite_master WHERE type = 'table' AND lower(name) = ?", (swap.target.table.lower(),)
            ).scalar_one()
            made, count = _SQLITE_TABLE.subn(lambda _: f"CREATE TABLE {new}", statement, count=1)
            if not count:
                raise TableClash(
                    f"table `{swap.target.table}` is none of which another can be made",
                    help=f'set refresh = "in_place" for record `{swap.target.record.name}`',
                )
            connection.exec_driver_sql(made)
        else:
            connection.exec_driver_sql(f"CREATE TABLE {new} LIKE {old}")
    lacking = check_tables(connection, [swap.beside], {swap.beside.table: ()})
    add_columns(connection, swap.beside.table, lacking[swap.beside.table])


def replace_tables(connection: Connection, swaps: Sequence[Swap]) -> None:
    """Put the tables beside into the places of the old ones, all at once; those that are there already stay.

    Raises TableClash, nothing being changed, where a table is gone or has got what would be lost.
    """
    there = tables_there(connection)
    todo = [swap for swap in swaps if swap.beside.table in there or swap.aside not in there]
    for swap in todo:
        if swap.beside.table not in there:
            raise gone(swap)
        if swap.target.table not in there:
            raise TableClash(
                f"table `{swap.target.table}` was dropped while a new one was read beside it",
                help="run again: it is made, and then replaced",
            )
    if not todo:
        return
    check_replaceable(connection, [swap.target for swap in todo])
    if connection.dialect.name == "sqlite":
        _replace_sqlite(connection, todo)
        return
    pairs = [
        f"{quote(connection, old)} TO {quote(connection, new)}"
        for swap in todo
        for old, new in ((swap.target.table, swap.aside), (swap.beside.table, swap.target.table))
    ]
    connection.exec_driver_sql(f"RENAME TABLE {', '.join(pairs)}")


def _replace_sqlite(connection: Connection, swaps: Sequence[Swap]) -> None:
    connection.exec_driver_sql("PRAGMA legacy_alter_table = ON")
    try:
        for swap in swaps:
            table, beside = quote(connection, swap.target.table), quote(connection, swap.beside.table)
            # Those of UNIQUE and PRIMARY KEY have no statement: the table's own has made them.
            indexes = connection.exec_driver_sql(
                "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND lower(tbl_name) = ?",
                (swap.target.table.lower(),),
            ).all()
            for name, _ in indexes:
                connection.exec_driver_sql(f"DROP INDEX {quote(connection, name)}")
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO {quote(connection, swap.aside)}")
            connection.exec_driver_sql(f"ALTER TABLE {beside} RENAME TO {table}")
            for _, statement in indexes:
                connection.exec_driver_sql(statement)
    finally:
        # Past the guards of the engine: the transaction may have ended, and the connection go back to its pool.
        with suppress(Exception):
            driver: Any = connection.connection.driver_connection
            driver.execute("PRAGMA legacy_alter_table = OFF")


def gone(swap: Swap) -> TableClash:
    """Return the error for a table beside that somebody else has dropped, with rows that no batch will read again."""
    return TableClash(
        f"table `{swap.beside.table}` is gone, into which the unfinished job has read what is to be"
        f" `{swap.target.table}`",
        help="end the job with `waveimport cancel`; the next run reads it again",
    )


def drop_tables(connection: Connection, names: Collection[str]) -> None:
    """Drop tables, where they are there."""
    for name in sorted(names):
        connection.exec_driver_sql(f"DROP TABLE IF EXISTS {quote(connection, name)}")


def where_rows_are(there: Collection[str], swap: Swap) -> Target:
    """Return the table that has the rows of a job which swaps: the one beside until it has taken its place."""
    return swap.beside if swap.beside.table in there else swap.target
