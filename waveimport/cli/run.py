"""`waveimport run`: resume the unfinished job or create one, and work until it is done."""

import contextlib
import os
import signal
import sys
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import click

from waveimport.cli.app import App
from waveimport.cli.types import Duration, Names
from waveimport.core.waves import Trigger
from waveimport.errors import ExitCode, WaveImportError


@click.command()
@click.option("--full", is_flag=True, help="Everything anew, and remove what is gone; after a failed job, a new one.")
@click.option("--incremental", is_flag=True, help="What has changed; a record without a watermark in full, as ever.")
@click.option("--records", type=Names(), metavar="A,B", help="Only these records, with what derives from them.")
@click.option(
    "--trigger",
    type=click.Choice([trigger.value for trigger in Trigger if trigger is not Trigger.WORKER]),
    help="What set this run off; stands in the journal.  [default: manual on a terminal, else cron]",
)
@click.option("--max-runtime", type=Duration(), help="Pause after this long (90s, 15m, 1h30m) with exit code 7.")
@click.option("--retry-failed", is_flag=True, help="Try the failed batches of the newest job again.")
@click.option("--adopt-config", is_flag=True, help="Go on with an unfinished job under a changed configuration.")
@click.option("--workers", type=click.IntRange(1, 64), help="Batches at work at a time, at most.")
@click.option("--fail-if-running", is_flag=True, help="Exit 75 instead of 0 when another run is at work.")
@click.option("--no-progress", is_flag=True, help="No progress bars.")
@click.option(
    "--metrics-file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write numbers there for Prometheus' textfile collector, once a minute and at the end.",
)
@click.option("--json", "as_json", is_flag=True, help="End with the job as one JSON object on stdout.")
@click.pass_obj
def command(
    app: App,
    full: bool,
    incremental: bool,
    records: tuple[str, ...] | None,
    trigger: str | None,
    max_runtime: float | None,
    retry_failed: bool,
    adopt_config: bool,
    workers: int | None,
    fail_if_running: bool,
    no_progress: bool,
    metrics_file: Path | None,
    as_json: bool,
) -> int:
    """Import: resume the unfinished job of the profile, or create one, and work until it is done.

    Made for cron: start it as often as you like. One run works, the others step aside with exit code 0; a run that
    was killed is gone on with by the next, which needs nobody's help.
    """
    settings = app.settings(secrets=True)
    if full and retry_failed:
        raise click.UsageError("--full makes a new job, --retry-failed goes on with the old one")
    if full and incremental:
        raise click.UsageError("--full reads everything, --incremental what has changed: give one of them")
    from dataclasses import replace

    from waveimport.cli.watch import Watcher
    from waveimport.runtime.importer import run_import
    from waveimport.runtime.notify import Event, Notifier
    from waveimport.runtime.options import RunOptions
    from waveimport.runtime.stop import StopSwitch
    from waveimport.runtime.tracing import from_environment

    if workers is not None:
        settings = replace(settings, run=replace(settings.run, workers=workers))
    chosen = Trigger(trigger) if trigger else Trigger.MANUAL if sys.stdin.isatty() else Trigger.CRON
    options = RunOptions(
        trigger=chosen,
        full=full,
        incremental=incremental,
        records=records,
        retry_failed=retry_failed,
        adopt_config=adopt_config,
        max_runtime_seconds=max_runtime,
    )
    switch = StopSwitch()
    _listen(switch)
    notifier = Notifier(settings.notify, settings.profile, app.scrub)
    tracing = from_environment(os.environ)
    try:
        measured = None if metrics_file is None else partial(_measure, metrics_file, settings)
        with Watcher(settings, bars=not no_progress and app.verbosity >= 0, watching=measured) as watcher:

            def on_turn(job_id: str) -> None:
                notifier.started(job_id)
                watcher(job_id)

            result = run_import(settings, options, switch=switch, on_turn=on_turn, tracing=tracing)
            if result.exit_code in (ExitCode.OK, ExitCode.INCOMPLETE) and not result.stepped_aside:
                _forget(settings, chosen)
    except BaseException as error:
        code, message = ExitCode.FAULT, "a fault of waveimport's own"
        if isinstance(error, WaveImportError):
            code, message = error.exit_code, error.message
        notifier.ended(Event.FAIL, job_id=None, exit_code=int(code), message=message, job=None)
        raise
    finally:
        tracing.close()
    with Watcher(settings, bars=False) as watcher:
        if measured is not None and result.job_id is not None and not result.stepped_aside:
            measured(watcher.read(result.job_id), exit_code=int(result.exit_code))
        _notify(notifier, watcher, result, settings)
        return _tell(app, watcher, result, settings, as_json=as_json, fail_if_running=fail_if_running)


def _forget(settings: Any, trigger: Any) -> None:
    """Delete journals beyond their age. That it fails is told, and fails no run."""
    import logging

    from waveimport.runtime.prune import forget_old_journals

    log = logging.getLogger("waveimport")
    try:
        gone = forget_old_journals(settings, trigger=trigger)
    except WaveImportError as error:
        log.warning("old journals were not deleted: %s", error.message)
        return
    if gone:
        entries = sum(rows.entries for rows in gone.values())
        log.info("deleted %d journal entries of jobs older than %d days", entries, settings.run.journal_days)


OWED_TOLD = 20
"""Owed batches that are told of; there may be a hundred thousand."""
_PAUSES = (ExitCode.PAUSED, ExitCode.INTERRUPTED, ExitCode.TERMINATED)


def _notify(notifier: Any, watcher: Any, result: Any, settings: Any) -> None:
    """Tell how a run ended that did something: one that stepped aside leaves that to the one at work."""
    from dataclasses import replace

    from waveimport.core.progress import alerts_by
    from waveimport.core.published import job_object
    from waveimport.runtime.notify import Event

    if result.stepped_aside or settings.notify == type(settings.notify)():
        return
    event = Event.FAIL
    if result.exit_code in (ExitCode.OK, *_PAUSES):
        event = Event.SUCCESS if result.exit_code is ExitCode.OK else Event.PAUSED
    job = None
    if result.job_id is not None:
        with contextlib.suppress(WaveImportError):
            seen = watcher.read(result.job_id)
            shown = replace(seen, owed=seen.owed[:OWED_TOLD])
            told = {**job_object(shown, alerts_by(seen, settings.run)), "owed_count": len(seen.owed)}
            job = _without_values(told, settings)
    message = result.message or (result.error.message if result.error is not None else f"exit code {result.exit_code}")
    message = _without_values({"message": message}, settings)["message"]
    notifier.ended(event, job_id=result.job_id, exit_code=int(result.exit_code), message=message, job=job)


def _without_values(job: dict[str, Any], settings: Any) -> dict[str, Any]:
    """Return the job without what its errors quote of rows: it goes to places that are not meant to hold any."""
    from waveimport.core.scrub import without_values

    names = {name for record in settings.records for name in (record.name, record.table, record.table_name)}
    names |= {column.name for record in settings.records for column in record.columns}

    def plain(value: Any) -> Any:
        match value:
            case dict():
                return {key: plain(part) for key, part in value.items()}
            case list():
                return [plain(part) for part in value]
            case str():
                return without_values(value, names)
            case _:
                return value

    return {key: plain(value) for key, value in job.items()}


def _measure(path: Path, settings: Any, job: Any, exit_code: int | None = None) -> None:
    from waveimport.cli.metrics import write_metrics
    from waveimport.core.progress import alerts_by

    write_metrics(path, job, alerts_by(job, settings.run), exit_code=exit_code)


def _listen(switch: Any) -> None:
    """Have SIGINT and SIGTERM end the run in order; a second one leaves at once, and nothing is lost either way."""
    from waveimport.runtime.coordinator import Stop

    ways = {
        signal.SIGINT: (Stop.INTERRUPTED, ExitCode.INTERRUPTED),
        signal.SIGTERM: (Stop.TERMINATED, ExitCode.TERMINATED),
    }
    heard: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        stop, code = ways[signal.Signals(number)]
        if heard:
            os._exit(code)
        heard.append(number)
        switch(stop)

    for number in ways:
        signal.signal(number, handler)


def _tell(app: App, watcher: Any, result: Any, settings: Any, *, as_json: bool, fail_if_running: bool) -> int:
    """Print how the run ended: the error, the message and standing alerts to stderr, the job to stdout."""
    from waveimport.cli.job_lines import job_lines
    from waveimport.cli.render import Screen, folded, print_json
    from waveimport.core.progress import alerts_by
    from waveimport.core.published import job_object

    if result.error is not None:
        click.echo(app.scrub(result.error.render()), err=True)
    if result.message is not None and app.verbosity >= 0:
        click.echo(result.message, err=True)
    if result.job_id is not None:
        job = watcher.read(result.job_id)
        alerts = alerts_by(job, settings.run)
        for alert in alerts:
            click.echo(f"alert[{alert.code}]: {alert.message}", err=True)
        if as_json:
            print_json(job_object(job, alerts))
        elif not result.stepped_aside and app.verbosity >= 0:
            for line in folded(job_lines(job), Screen.of_stdout()):
                click.echo(line)
    elif as_json:
        print_json(None)
    if result.stepped_aside and fail_if_running:
        return ExitCode.RUNNING
    return int(result.exit_code)
