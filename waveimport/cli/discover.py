"""`waveimport discover`: what the account has, as `[records.*]` to paste; it writes nothing, anywhere."""

import contextlib
import os
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import click

from waveimport.cli.app import App
from waveimport.errors import DatabaseError, ExitCode, SchemaMismatch, TableRefused, UsageError

if TYPE_CHECKING:
    from waveimport.core.settings import Settings
    from waveimport.runtime.discovery import Discovery, Found, Seen

_ATTEMPTS: Final = 2
_SHOWN_OTHERS: Final = 12


@click.command()
@click.argument("tables", nargs=-1, metavar="[TABLE]...")
@click.option("--all", "everything", is_flag=True, help="All standard records that are there, with their dependencies.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_obj
def command(app: App, tables: tuple[str, ...], everything: bool, as_json: bool) -> int:
    """Show what the account has: without TABLE a list of its tables, with TABLEs their records as TOML to paste.

    A TABLE is a standard record (customer, salesorder: with its lines), or any table that SuiteQL knows. Columns come
    from the metadata catalogue where the role may read it, and from a sample of rows; each is tried before it is shown.
    What is left out, and why, is told in comments. Exits 3 where a TABLE is not there or hidden from the role.
    """
    if tables and everything:
        raise UsageError("name tables, or pass --all", help="`waveimport discover` lists what is there")
    settings = app.settings(secrets=True, with_records=False)
    from waveimport.netsuite.client import SuiteQLClient
    from waveimport.runtime import clock
    from waveimport.runtime.discovery import Discovery

    _heed_refusal(settings)
    timeout = settings.run.request_timeout_seconds
    with SuiteQLClient(
        settings.netsuite, request_timeout_seconds=timeout, epoch_seconds=clock.epoch_seconds, attempts=_ATTEMPTS
    ) as client:
        discovery = Discovery(client, at_once=min(settings.run.workers, settings.netsuite.concurrency))
        if tables or everything:
            return _records(app, discovery, tables, as_json)
        return _list(app, discovery, settings, as_json)


def _heed_refusal(settings: "Settings") -> None:
    """Raise LoginRefused where a refusal is remembered. A database that is not there yet remembers none."""
    from waveimport.cli.reading import open_for_reading
    from waveimport.runtime.preview import heed_refusal

    with contextlib.suppress(DatabaseError, SchemaMismatch), open_for_reading(settings) as database:
        if database is not None:
            heed_refusal(settings, database)


# --- records ----------------------------------------------------------------------------------------------------


def _records(app: App, discovery: "Discovery", tables: tuple[str, ...], as_json: bool) -> int:
    from waveimport.cli.render import print_json
    from waveimport.core.discovered import toml_lines

    found = discovery.records(tables) if tables else discovery.everything()
    if not found.records and not found.refused:
        raise TableRefused(
            "none of the standard tables is there, or all are hidden from this role, which NetSuite answers alike",
            help="give the role View permission for the records to import, and SuiteAnalytics Workbook",
        )
    if as_json:
        print_json(_document(found))
    elif found.records:
        for line in toml_lines(found.records, found.remarks):
            click.echo(app.scrub(line))
    for error in found.refused:
        click.echo(app.scrub(error.render()), err=True)
    return ExitCode.INCOMPLETE if found.refused else ExitCode.OK


def _document(found: "Found") -> dict[str, Any]:
    return {
        "schema_version": 1,
        "records": {
            record.name: {**record.document(), "columns": dict(record.columns), "remarks": list(record.remarks)}
            for record in found.records
        },
        "remarks": list(found.remarks),
        "refused": [{"table": error.where, "message": error.message, "code": error.code} for error in found.refused],
    }


# --- the list ---------------------------------------------------------------------------------------------------


def _list(app: App, discovery: "Discovery", settings: "Settings", as_json: bool) -> int:
    from dataclasses import asdict

    from waveimport.cli.render import print_json

    seen = discovery.look()
    if as_json:
        print_json({"schema_version": 1, **asdict(seen), "next": f"waveimport discover {_example(seen)}"})
    else:
        for line in _lines(seen, settings.path):
            click.echo(app.scrub(line))
    return ExitCode.OK


def _example(seen: "Seen") -> str:
    """Return the record to go on with."""
    by_name = {one.record: one.rows for one in seen.tables if one.rows}
    order = ("salesorder", "invoice", "journalentry", "customer", "item")
    return next((name for name in (*order, *by_name) if by_name.get(name)), "customer")


def _lines(seen: "Seen", path: str) -> Iterator[str]:
    from waveimport.cli.render import table
    from waveimport.runtime.config import DEFAULT_CONFIG
    from waveimport.runtime.discovery import HIDDEN

    rows = [["RECORD", "FROM", "ROWS"]]
    shown = [one for one in seen.tables if one.rows is not None and (one.rows or not one.is_type)]
    rows += [[one.record, one.table, f"{one.rows:,}"] for one in shown]
    if len(rows) > 1:
        yield from table(rows, right=frozenset({2}))
        yield ""
    hidden = [one.record for one in seen.tables if one.hidden]
    if hidden:
        yield f"{HIDDEN}: {', '.join(hidden)}"
    unused = [one.record for one in seen.tables if one.is_type and one.rows == 0]
    if unused:
        yield f"no transaction of these types: {', '.join(unused)}"
    if seen.others:
        more = f" and {len(seen.others) - _SHOWN_OTHERS} more" if len(seen.others) > _SHOWN_OTHERS else ""
        yield f"also in the metadata catalogue: {', '.join(seen.others[:_SHOWN_OTHERS])}{more}"
    for remark in (
        *seen.remarks,
        *(f"{one.record}: {one.error}" for one in seen.tables if one.error and not one.hidden),
    ):
        yield f"note: {remark}"
    config = os.path.relpath(path)
    option = "" if config == DEFAULT_CONFIG else f" --config {shlex.quote(config)}"
    yield "next, one record and what derives from it, to paste into the configuration; or all that is here:"
    yield f"  waveimport{option} discover {_example(seen)}"
    yield f"  waveimport{option} discover --all >> {shlex.quote(config)}"
