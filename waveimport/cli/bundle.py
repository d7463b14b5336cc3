"""`waveimport bundle`: a job in one file, to be looked at on another machine."""

from pathlib import Path

import click

from waveimport.cli.app import App
from waveimport.errors import UnknownJob


@click.command()
@click.argument("job_id")
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE", help="Default: JOB_ID.bundle.")
@click.pass_obj
def command(app: App, job_id: str, output: Path | None) -> None:
    """Put the job JOB_ID into one file: journal, batch events, waves, batches, the configuration with secrets masked.

    No value of an imported row is in it, and no secret: keys that are words, and whatever an error quotes of a row, are
    replaced by dots. `waveimport status FILE` and `waveimport replay FILE` read it without a database or configuration.
    """
    settings = app.settings(secrets=False)
    from waveimport.cli.reading import NO_JOB_YET, find_job, open_for_reading
    from waveimport.runtime.bundling import bundle_job

    path = output if output is not None else Path(f"{job_id}.bundle")
    with open_for_reading(settings) as database:
        found = find_job(database, settings, job_id)
        if database is None or found is None:
            raise UnknownJob(f"no job `{job_id}` is in the database", help=NO_JOB_YET)
        bundle_job(database, found, path, settings.run)
    click.echo(f"{path}: {path.stat().st_size:,} bytes; it holds no row and no secret")
    click.echo(f"on another machine: waveimport status {path} --why; waveimport replay {path}")
