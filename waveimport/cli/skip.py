"""`waveimport skip`: write a failed batch off; what has landed of it stays."""

import sys

import click

from waveimport.cli.app import App


@click.command()
@click.argument("job_id")
@click.argument("batch_id")
@click.option("--reason", required=True, metavar="TEXT", help="Why; kept with the batch and its events.")
@click.pass_obj
def command(app: App, job_id: str, batch_id: str, reason: str) -> None:
    """Write off the failed batch BATCH_ID of the job JOB_ID: no later run tries it again.

    What has landed of it stays, the rest of its rows are missing or old until they change at the source or a
    `waveimport run --full` reads everything. `waveimport status --failed` names the failed batches.
    """
    if not reason.strip():
        raise click.UsageError("--reason is empty: say why, for whoever looks at this batch next")
    settings = app.settings(secrets=False)
    from waveimport.core.waves import Trigger
    from waveimport.runtime.skip import skip_batch

    trigger = Trigger.MANUAL if sys.stdin.isatty() else Trigger.CRON
    done = skip_batch(settings, job_id, batch_id, reason=reason.strip(), trigger=trigger)
    if not done.now:
        click.echo(f"batch {batch_id} was skipped before: {done.reason}")
        return
    click.echo(f"skipped batch {batch_id} of {job_id} ({done.record}), which failed with {done.error}")
    if done.left:
        click.echo(f"{done.left} failed batches of the job are left: `waveimport status {job_id} --failed`")
    elif done.watermarks_moved:
        click.echo("no failed batch of the job is left; the next `waveimport run` reads what changed since it began")
    else:
        click.echo("no failed batch of the job is left")
