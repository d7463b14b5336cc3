"""`waveimport plan`: what a run would do; it asks the source for counts and writes nothing, anywhere."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from waveimport.cli.app import App
from waveimport.cli.types import Names
from waveimport.errors import ExitCode

if TYPE_CHECKING:
    from waveimport.runtime.preview import Preview, RecordPreview, WavePreview


@click.command()
@click.option("--records", type=Names(), metavar="A,B", help="Only these records, with what derives from them.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_obj
def command(app: App, records: tuple[str, ...] | None, as_json: bool) -> int:
    """Show what a run would do: its waves, their records, counts and batches, and what it would go on with.

    Each main record is counted at the source by one query; batches of derived records are estimated from their
    parents. Nothing is written. Exits 2 where a run would refuse, 3 where the source refuses a record.
    """
    settings = app.settings(secrets=True)
    from waveimport.cli.reading import open_for_reading
    from waveimport.cli.render import print_json
    from waveimport.runtime.preview import Action, preview

    with open_for_reading(settings) as database:
        shown = preview(settings, database, records=records)
    if as_json:
        print_json(_document(shown))
    else:
        for line in _lines(shown):
            click.echo(line)
    for error in shown.errors:
        click.echo(app.scrub(error.render()), err=True)
    if shown.action is Action.REFUSE:
        return ExitCode.USAGE
    if any(error.exit_code is ExitCode.USAGE for error in shown.errors):
        return ExitCode.USAGE
    return ExitCode.INCOMPLETE if shown.errors else ExitCode.OK


def _document(shown: "Preview") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "schema_version": 1,
        "profile": shown.profile,
        "action": shown.action.value,
        "why": shown.why,
        "job_id": shown.job_id,
        "waves": [asdict(wave) for wave in shown.waves],
        "notes": list(shown.notes),
    }


def _lines(shown: "Preview") -> Iterator[str]:
    from waveimport.cli.render import table
    from waveimport.runtime.preview import Counted

    yield f"profile {shown.profile}: {shown.why}"
    yield ""
    rows = [["WAVE", "KIND", "RECORD", "FROM", "INTO", "ROWS", "KEYS", "BATCHES", "DONE"]]
    for wave in shown.waves:
        for number, record in enumerate(wave.records):
            rows.append(_row(wave, record, first=number == 0))
    if shown.job_id is None:
        rows = [row[:-1] for row in rows]  # nothing is done yet
    yield from table(rows, right=frozenset({0, 5, 7, 8}))
    yield ""
    records = [record for wave in shown.waves for record in wave.records]
    counted = [record for record in records if record.counted is Counted.NOW]
    estimated = [record for record in records if record.counted is Counted.ESTIMATED]
    if counted:
        rows_counted, batches = sum(r.rows or 0 for r in counted), sum(r.batches or 0 for r in counted)
        about = f", and about {sum(r.batches or 0 for r in estimated):,} of derived records" if estimated else ""
        yield f"counted {rows_counted:,} rows, in {batches:,} batches (one of each record plans it){about}"
    for note in shown.notes:
        yield f"note: {note}"


def _row(wave: "WavePreview", record: "RecordPreview", *, first: bool) -> list[str]:
    from waveimport.runtime.preview import Counted

    match record.counted:
        case Counted.NOW | Counted.KEPT:
            rows = f"{record.rows:,}"
        case _:
            rows = "refused" if record.error is not None else "?"
    keys = "" if record.lowest is None else f"{record.lowest} to {record.highest}"
    if record.derived_from is not None:
        keys = f"of {record.derived_from}"
    batches = "?" if record.batches is None else f"{record.batches:,}"
    return [
        str(wave.wave_number),
        wave.kind.value,
        record.record,
        record.source,
        record.destination,
        rows,
        keys,
        f"~{batches}" if record.counted is Counted.ESTIMATED else batches,
        f"{wave.completed}/{wave.batches_made}" if first and wave.batches_made is not None else "",
    ]
