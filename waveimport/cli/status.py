"""`waveimport status`: the job, its waves and batches, its alerts; read-only, also while a run writes."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import click

from waveimport.cli.app import App
from waveimport.cli.reading import NO_JOB_YET
from waveimport.errors import ExitCode

if TYPE_CHECKING:
    from waveimport.cli.render import Screen
    from waveimport.core.progress import Alert, JobProgress
    from waveimport.core.settings import Settings
    from waveimport.runtime.failures import FailedBatch
    from waveimport.store.transactions import Database

REDRAW_SECONDS = 2.0
FAILURES_SHOWN = 20


@click.command()
@click.argument("job_id", required=False, metavar="[JOB_ID|FILE]")
@click.option("--failed", is_flag=True, help="List the failed batches, each with its query and error.")
@click.option("--why", is_flag=True, help="Say why the job, or each wave of it, does not move, and what to type.")
@click.option("--brief", is_flag=True, help="One line: status, batches, rows, alerts.")
@click.option("--watch", is_flag=True, help=f"Draw again every {REDRAW_SECONDS:g} s until the job has ended.")
@click.option("--exit-code", "with_exit_code", is_flag=True, help="Exit 20 when an alert stands.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_obj
def command(
    app: App,
    job_id: str | None,
    failed: bool,
    why: bool,
    brief: bool,
    watch: bool,
    with_exit_code: bool,
    as_json: bool,
) -> int:
    """Show a job (by default the newest of the profile, or the one in a bundle FILE): waves and batches, rates, alerts.

    It only reads, needs no credentials, and disturbs no run that is at work.
    """
    if watch and as_json:
        raise click.UsageError("--json is one document, --watch draws again and again")
    if brief and (failed or why or as_json):
        raise click.UsageError("--brief is one line; leave it out for --failed, --why and --json")
    from waveimport.cli.reading import open_subject

    with open_subject(app, job_id) as subject:
        database, settings, found = subject.database, subject.settings, subject.job_id
        if database is None or found is None:
            _say_none(as_json)
            return ExitCode.OK
        if subject.bundle is not None and not as_json and not brief:
            from waveimport.cli.render import Screen, folded

            made = f"{subject.bundle['made_at']:.19} UTC by waveimport {subject.bundle['waveimport']}"
            for line in folded([f"bundle of {made}, from {subject.bundle['database']}"], Screen.of_stdout()):
                click.echo(line)
        shown = _Shown(failed, why, subject.bundle is not None, brief)
        alerting = (
            _watch(database, settings, found, shown) if watch else _once(database, settings, found, shown, as_json)
        )
    return ExitCode.ALERT if with_exit_code and alerting else ExitCode.OK


def _say_none(as_json: bool) -> None:
    from waveimport.cli.render import print_json

    if as_json:
        print_json({"schema_version": 1, "jobs": []})
    else:
        click.echo(NO_JOB_YET)


@dataclass(frozen=True, slots=True)
class _Shown:
    """What is shown beside the job itself."""

    failed: bool
    why: bool
    bundled: bool
    brief: bool = False


def _once(database: "Database", settings: "Settings", job_id: str, shown: _Shown, as_json: bool) -> bool:
    """Show the job once. Returns whether an alert stands."""
    from waveimport.cli.reading import look

    job, alerts = look(database, settings, job_id)
    if as_json:
        _print_document(database, settings, job, alerts, shown)
        return bool(alerts)
    from waveimport.cli.job_lines import brief_line, job_lines
    from waveimport.cli.render import Screen, folded

    if shown.brief:
        click.echo(brief_line(job, alerts))
        return bool(alerts)
    screen = Screen.of_stdout()
    more = _more_lines(database, settings, job, shown)
    for line in folded([*job_lines(job, alerts, screen=screen, of_profile=True), *more], screen):
        click.echo(line)
    return bool(alerts)


def _print_document(
    database: "Database", settings: "Settings", job: "JobProgress", alerts: "tuple[Alert, ...]", shown: _Shown
) -> None:
    from dataclasses import asdict

    from waveimport.cli.reading import reasons
    from waveimport.cli.render import print_json
    from waveimport.core.published import job_object

    document = job_object(job, alerts)
    if shown.why:
        from waveimport.core.why import reason_object

        causes = reasons(database, settings, job, here=not shown.bundled)
        document["why"] = [reason_object(cause) for cause in causes]
    if shown.failed:
        failures = _failures(database, settings, job.job_id, shown)
        document["failed_batches"] = [asdict(failure) for failure in failures]
    print_json({"schema_version": 1, "jobs": [document]})


def _failures(database: "Database", settings: "Settings", job_id: str, shown: _Shown) -> "list[FailedBatch]":
    from dataclasses import replace

    from waveimport.runtime.failures import read_failures

    failures = read_failures(database, settings, job_id)
    if shown.bundled:
        return [replace(one, query=None, no_query="none: a bundle has no configured records") for one in failures]
    return failures


def _failure_lines(failures: "list[FailedBatch]") -> Iterator[str]:
    yield ""
    yield f"{len(failures)} failed batches" if failures else "no failed batches"
    for failure in failures[:FAILURES_SHOWN]:
        yield ""
        yield f"{failure.batch_id}  wave {failure.wave_number}, {failure.record}, {failure.tries} tries"
        yield f"  covers: {failure.covers}"
        yield f"  query:  {failure.query or failure.no_query}"
        yield f"  error:  {failure.error}"
        if failure.skip_reason is not None:
            yield f"  skipped: {failure.skip_reason}"
        elif failure.carried_by is not None:
            as_what = f" as {failure.carried_as}" if failure.carried_as else ", which reads all of the record"
            yield f"  carried by {failure.carried_by}{as_what}"
    if len(failures) > FAILURES_SHOWN:
        yield ""
        yield f"and {len(failures) - FAILURES_SHOWN} more: `waveimport status --failed --json` lists them all"
    if any(failure.skip_reason is None and failure.carried_by is None for failure in failures):
        yield ""
        yield "the next `waveimport run` tries them again"
        yield 'to write one off: waveimport skip JOB_ID BATCH_ID --reason "…"'


def _watch(database: "Database", settings: "Settings", job_id: str, shown: _Shown) -> bool:
    """Show the job again and again until it has ended, or nobody reads. Returns whether an alert stood then."""
    from waveimport.cli.reading import look
    from waveimport.cli.redraw import Redraw
    from waveimport.cli.render import Screen
    from waveimport.cli.streams import reader_gone
    from waveimport.core.waves import UNFINISHED_JOB
    from waveimport.runtime import clock

    redraw = Redraw()
    while True:
        job, alerts = look(database, settings, job_id)
        more = _more_lines(database, settings, job, shown)
        screen = Screen.of_stdout()
        redraw(screen, partial(_picture, job, alerts, screen, shown, more), waves=len(job.waves))
        if job.status not in UNFINISHED_JOB or reader_gone():
            return bool(alerts)
        clock.pause(REDRAW_SECONDS)


def _more_lines(database: "Database", settings: "Settings", job: "JobProgress", shown: _Shown) -> list[str]:
    """What was asked for beside the job itself."""
    from waveimport.cli.job_lines import why_lines
    from waveimport.cli.reading import reasons

    lines: list[str] = []
    if shown.why:
        lines += why_lines(reasons(database, settings, job, here=not shown.bundled), job.status, job.now)
    if shown.failed:
        lines += _failure_lines(_failures(database, settings, job.job_id, shown))
    return lines


def _picture(
    job: "JobProgress",
    alerts: "Sequence[Alert]",
    screen: "Screen",
    shown: _Shown,
    more: list[str],
    most_waves: int | None,
) -> list[str]:
    from waveimport.cli.job_lines import MOMENT, brief_line, job_lines

    moment = f"{job.now:{MOMENT}} UTC"
    if shown.brief:
        return [f"{moment}  {brief_line(job, alerts)}"]
    return [moment, *job_lines(job, alerts, screen=screen, of_profile=True, most_waves=most_waves), *more]
