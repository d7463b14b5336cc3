"""`waveimport report`: a job as one HTML page; read-only, also while a run writes."""

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from waveimport.cli.app import App
from waveimport.errors import ExitCode, FileExists, UsageError

if TYPE_CHECKING:
    from waveimport.cli.reading import Subject
    from waveimport.runtime.report import Report

STDOUT = "-"


@click.command()
@click.argument("job_id", required=False, metavar="[JOB_ID|FILE]")
@click.option("-o", "--output", metavar="FILE", help="The page; - for stdout.  [default: JOB_ID.html]")
@click.option("--force", is_flag=True, help="Replace FILE if it exists.")
@click.pass_obj
def command(app: App, job_id: str | None, output: str | None, force: bool) -> int:
    """Write a job (by default the newest of the profile, or the one in a bundle FILE) as one HTML page.

    Verdict, alerts and causes; waves and batches over time with retries, lost workers and take-overs; rows a second;
    batches at work against the limit; what batches took; counts compared; errors in groups; failed batches; the
    decision log. The page needs no network and no script. It only reads, needs no credentials, and disturbs no run.
    """
    from waveimport.cli.reading import NO_JOB_YET, open_subject

    with open_subject(app, job_id) as subject:
        if subject.job_id is None:
            raise UsageError("there is no job to report on", help=NO_JOB_YET)
        target = output or f"{subject.job_id}.html"
        refuse_existing(target, force=force)
        write_page(app, page_of(subject), target, force=force)
    return ExitCode.OK


def page_of(subject: "Subject", *, replayed: bool = False) -> "Report":
    """Return the page of the job that was asked for, with what `status --why` knows of it."""
    from waveimport.cli.reading import look, reasons
    from waveimport.runtime.report import Told, write_report

    database, settings, job_id = subject.database, subject.settings, subject.job_id
    assert database is not None, "a job that was found is in a database"
    assert job_id is not None, "a job that was asked for is found, or unknown"
    job, alerts = look(database, settings, job_id)
    told = Told(job, alerts, reasons(database, settings, job, here=subject.bundle is None))
    if subject.bundle is None:
        return write_report(database, job_id, settings=settings, told=told, replayed=replayed)
    made = f"{subject.bundle['made_at']:.19} UTC by waveimport {subject.bundle['waveimport']}"
    return write_report(database, job_id, told=told, replayed=replayed, bundle=f"{made}, {subject.bundle['database']}")


def refuse_existing(target: str, *, force: bool) -> None:
    """Raise FileExists for a file that is there, before minutes are spent on its page."""
    if target != STDOUT and not force and Path(target).exists():
        raise _exists(target)


def write_page(app: App, report: "Report", target: str, *, force: bool) -> None:
    """Write a page to a file that only its owner reads, since errors quote data, or to stdout.

    Raises FileExists, or UsageError if it cannot be written; a file is there whole or not at all.
    """
    text = app.scrub(report.html)
    if target == STDOUT:
        click.echo(text, nl=False)
    else:
        try:
            _put(Path(target), text, force=force)
        except FileExistsError:
            raise _exists(target) from None
        except OSError as error:
            raise UsageError(
                f"{target} cannot be written: {error.strerror}",
                help="name a file in a folder that exists and that you may write to",
            ) from error
        click.echo(f"wrote {target} ({len(text.encode()) / 1024:,.0f} KB)", err=True)
    if report.damaged is not None and app.verbosity >= 0:
        click.echo(f"warning: the page ends before {report.damaged}", err=True)


def _put(path: Path, text: str, *, force: bool) -> None:
    """Put a file where none is, or with `force` over the one that is; a part of a page is never left."""
    if force:
        opened, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        made = Path(name)
    else:
        opened, made = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), path
    try:
        with os.fdopen(opened, "w", encoding="utf-8") as file:
            file.write(text)
        if force:
            made.replace(path)
    except BaseException:
        made.unlink(missing_ok=True)
        raise


def _exists(target: str) -> FileExists:
    return FileExists(f"{target} exists already, and is left as it is", help="name another file, or give --force")
