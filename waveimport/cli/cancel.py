"""`waveimport cancel`: end a job; what it has landed stays."""

import sys

import click

from waveimport.cli.app import App


@click.command()
@click.argument("job_id")
@click.pass_obj
def command(app: App, job_id: str) -> None:
    """End the job JOB_ID. The rows it has landed stay; a run at work on it stops at its next commit.

    A job that is completed or cancelled already is left as it is.
    """
    settings = app.settings(secrets=False)
    from waveimport.core.waves import JobStatus, Trigger
    from waveimport.runtime.cancel import cancel_import

    trigger = Trigger.MANUAL if sys.stdin.isatty() else Trigger.CRON
    done = cancel_import(settings, job_id, trigger=trigger)
    if done.status in (JobStatus.COMPLETED, JobStatus.CANCELLED):
        click.echo(f"{job_id} is {done.status} already; nothing was changed")
        return
    holder = f"; {done.holder} held it and stops at its next commit" if done.holder else ""
    click.echo(f"cancelled {job_id}, which was {done.status}: {done.taken_back} batches at work taken back{holder}")
    click.echo("the rows it has landed stay; the next `waveimport run` creates a new job")
