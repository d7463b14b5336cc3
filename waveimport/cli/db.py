"""`waveimport db`: make or migrate the coordination tables, print their DDL."""

import click

from waveimport.cli.app import App
from waveimport.errors import UsageError


@click.group()
def command() -> None:
    """Create or migrate the coordination tables, or print their DDL."""


@command.command()
@click.pass_obj
def upgrade(app: App) -> None:
    """Create the coordination tables, or bring older ones to this program's version; safe to run again."""
    settings = app.settings(secrets=False)
    from waveimport.runtime.opening import open_database
    from waveimport.runtime.single_flight import FileGuard, lock_path
    from waveimport.store import schema
    from waveimport.store.engine import sqlite_path

    database = open_database(settings)
    # The lock's folder is that of a SQLite file: taking the lock first makes it.
    guard = FileGuard(lock_path(settings, database.name, sqlite_path(settings.database.url)))
    if not guard.acquire():
        raise UsageError(
            "a run is at work on this database, and its tables cannot change under it",
            where=database.name,
            help="wait until it has ended (`waveimport status --watch`), or stop it: the next run goes on",
        )
    try:
        before, after = schema.upgrade(database)
    finally:
        guard.release()
        database.close()
    if before is None:
        click.echo(f"created the tables, version {after}, in {database.name}")
    elif before == after:
        click.echo(f"the tables are of version {after} already, in {database.name}")
    else:
        click.echo(f"upgraded the tables from version {before} to {after}, in {database.name}")


@command.command("schema")
@click.option("--dialect", type=click.Choice(["mysql", "sqlite"]), help="[default: that of the configured database]")
@click.pass_obj
def print_schema(app: App, dialect: str | None) -> None:
    """Print the DDL of the coordination tables; with --dialect no configuration is needed."""
    from waveimport.store.engine import sqlite_path
    from waveimport.store.schema import ddl

    if dialect is None:
        url = app.settings(secrets=False).database.url
        dialect = "mysql" if sqlite_path(url) is None else "sqlite"
    click.echo(ddl(dialect), nl=False)
