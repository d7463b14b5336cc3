"""`waveimport jobs`: the jobs of the database, newest first."""

from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from waveimport.cli.app import App
from waveimport.cli.reading import NO_JOB_YET

if TYPE_CHECKING:
    from waveimport.store.jobs import Job

ERROR_CHARACTERS = 60


@click.command()
@click.option("--limit", type=click.IntRange(1, 10_000), default=20, show_default=True, help="At most so many.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_obj
def command(app: App, limit: int, as_json: bool) -> None:
    """List the jobs of the database, of every profile, newest first."""
    settings = app.settings(secrets=False)
    from waveimport.cli.reading import open_for_reading
    from waveimport.cli.render import print_json, table
    from waveimport.store.jobs import list_jobs
    from waveimport.store.overview import current_time, landed_rows

    documents: list[dict[str, Any]] = []
    with open_for_reading(settings) as database:
        if database is not None:
            jobs = database.run(lambda connection: list_jobs(connection, limit=limit))
            rows = database.run(lambda connection: landed_rows(connection, [job.job_id for job in jobs]))
            now = database.run(current_time)
            documents = [_document(job, rows.get(job.job_id, 0), now) for job in jobs]
    if as_json:
        print_json({"schema_version": 1, "jobs": documents})
    elif not documents:
        click.echo(NO_JOB_YET)
    else:
        for line in table([_HEAD, *map(_row, documents)], right=frozenset({5, 6})):
            click.echo(line)


def _document(job: "Job", rows: int, now: datetime) -> dict[str, Any]:
    from waveimport.core.progress import moment

    return {
        "job_id": job.job_id,
        "profile": job.profile,
        "mode": job.mode,
        "status": job.status.value,
        "created_at": moment(job.created_at),
        "finished_at": moment(job.finished_at),
        "duration_seconds": max(0.0, ((job.finished_at or now) - job.created_at).total_seconds()),
        "rows": rows,
        "error": job.error,
    }


_HEAD = ["JOB", "PROFILE", "MODE", "STATUS", "CREATED (UTC)", "DURATION", "ROWS", "ERROR"]


def _row(document: dict[str, Any]) -> list[str]:
    from waveimport.cli.render import span

    error = " ".join((document["error"] or "-").split())
    return [
        document["job_id"],
        document["profile"],
        document["mode"],
        document["status"],
        document["created_at"][:19].replace("T", " "),
        span(document["duration_seconds"]),
        f"{document['rows']:,}",
        error if len(error) <= ERROR_CHARACTERS else error[: ERROR_CHARACTERS - 1] + "…",
    ]
