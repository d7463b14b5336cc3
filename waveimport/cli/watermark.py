"""`waveimport watermark`: from when on the next incremental run reads the changes of each record."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import click

from waveimport.cli.app import App
from waveimport.errors import BadRecords

if TYPE_CHECKING:
    from waveimport.store.transactions import Database


class Moment(click.ParamType[datetime]):
    """`2026-11-26T08:00:00Z`, with another offset, or a day: UTC where none is said."""

    name = "moment"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the moment in UTC, without a zone. Fails with what a moment looks like."""
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"`{value}` is no moment: write 2026-11-26, or 2026-11-26T08:00:00Z", param, ctx)
        return moment if moment.tzinfo is None else moment.astimezone(UTC).replace(tzinfo=None)


@click.group()
def command() -> None:
    """Show or change from when on the next incremental run reads the changes of a record.

    A watermark is the source's clock when the last complete run began to read, minus `lookback_seconds`.
    """


@command.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_obj
def show(app: App, as_json: bool) -> None:
    """Show the watermark of each record that has a cursor."""
    settings = app.settings(secrets=False)
    from waveimport.cli.reading import open_for_reading
    from waveimport.cli.render import print_json
    from waveimport.store import watermarks

    with open_for_reading(settings) as database:
        marks = {} if database is None else database.run(lambda c: watermarks.read(c, settings.profile))
    records = [record.name for record in settings.records if record.cursor is not None]
    moments = {name: marks[name].moment.replace(" ", "T") + "Z" if name in marks else None for name in records}
    if as_json:
        print_json({"profile": settings.profile, "watermarks": moments})
        return
    if not records:
        click.echo("no record has a cursor: every run reads everything")
    width = max(map(len, records), default=0)
    for name, moment in moments.items():
        click.echo(f"{name:<{width}}  {moment or 'none: the next run reads it in full'}")


@command.command("set")
@click.argument("record")
@click.argument("moment", type=Moment())
@click.pass_obj
def set_(app: App, record: str, moment: datetime) -> None:
    """Have the next run read the changes of RECORD since MOMENT (2026-11-26T08:00:00Z)."""
    from waveimport.store import watermarks

    database = _open(app, record)
    try:
        profile = app.settings(secrets=False).profile
        moved = database.run(lambda connection: watermarks.shift(connection, profile, record, moment))
    finally:
        database.close()
    if not moved:
        raise BadRecords(
            f"`{record}` has no watermark yet",
            help="the next `waveimport run` reads it in full, and sets one",
        )
    click.echo(f"{record}: the next run reads what has changed since {moment:%Y-%m-%dT%H:%M:%SZ}")


@command.command()
@click.argument("record")
@click.pass_obj
def reset(app: App, record: str) -> None:
    """Have the next run read RECORD in full, with what derives from it, or it from."""
    from waveimport.store import watermarks

    database = _open(app, record)
    try:
        profile = app.settings(secrets=False).profile
        database.run(lambda connection: watermarks.reset(connection, profile, record))
    finally:
        database.close()
    click.echo(f"{record}: the next run reads it in full")


def _open(app: App, record: str) -> "Database":
    """Open the database for writing. Raises BadRecords for a record that has no cursor, or is not configured."""
    settings = app.settings(secrets=False)
    from waveimport.runtime.opening import open_database
    from waveimport.store import schema

    cursors = [one.name for one in settings.records if one.cursor is not None]
    if record not in cursors:
        raise BadRecords(
            f"no record `{record}` with a cursor is configured",
            where=settings.path or None,
            help=f"the records with one are {', '.join(cursors)}" if cursors else 'give it one: cursor = "…"',
        )
    database = open_database(settings)
    if not schema.require_current(database):
        schema.upgrade(database)
    return database
