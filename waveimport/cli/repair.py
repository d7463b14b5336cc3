"""`waveimport replay --repair`: show what lost workers left in hand and what a pass would decide, then do it."""

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from waveimport.cli.app import App
from waveimport.errors import ExitCode

if TYPE_CHECKING:
    from waveimport.runtime.repair import Repair

SHOWN = 20


def run(app: App, job_id: str, *, yes: bool) -> int:
    """Show a repair, ask (or take `--yes` for the answer), and do it."""
    settings = app.settings(secrets=False)
    from waveimport.core.waves import Trigger
    from waveimport.runtime.repair import preview, repair

    trigger = Trigger.MANUAL if sys.stdin.isatty() else Trigger.CRON
    would = preview(settings, job_id, trigger=trigger)
    if would.refused is not None:
        click.echo(f"{would.refused}; nothing was changed")
        return ExitCode.OK
    for line in _lines(would):
        click.echo(line)
    if not yes:
        if not sys.stdin.isatty():
            click.echo("nothing was changed; --yes does it")
            return ExitCode.OK
        if not click.confirm("do it?", err=True):
            click.echo("nothing was changed")
            return ExitCode.OK
    done = repair(settings, job_id, trigger=trigger)
    if done.refused is not None:
        click.echo(f"{done.refused}; nothing was changed")
        return ExitCode.OK
    click.echo(f"done: {_batches(len(done.put_back))} put back; `waveimport run` goes on with the job")
    return ExitCode.OK


def _lines(would: "Repair") -> Iterator[str]:
    from waveimport.core.replay import decision_words, reason_words

    yield f"repair of {would.job_id}, which is {would.status}"
    if would.took_over is not None:
        yield f"  takes the job over from {would.took_over}, which is gone"
    yield f"  puts back {_batches(len(would.put_back))}" + (":" if would.put_back else "; nobody holds one any more")
    for one in would.put_back[:SHOWN]:
        end = "; it fails, lost too often with no page landed" if one.fails else ""
        yield (
            f"    {one.batch_id}  wave {one.wave_number}, with {one.owner}, last sign"
            f" {one.since:%Y-%m-%d %H:%M:%S} UTC, lease until {one.until:%H:%M:%S}{end}"
        )
    if len(would.put_back) > SHOWN:
        yield f"    and {len(would.put_back) - SHOWN} more"
    if would.decision is None:
        yield "  makes no pass: it would complete the job, which `waveimport run` does, and compares with the source"
        return
    why = reason_words(would.decision)
    yield f"  the pass behind that decides: {decision_words(would.decision)}" + (f"  ({why})" if why else "")
    if would.decision.dispatch:
        yield "  (what is to be dispatched is fetched by `waveimport run`, not by this)"


def _batches(count: int) -> str:
    return f"{count} {'batch' if count == 1 else 'batches'}"
