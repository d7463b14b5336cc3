"""`waveimport prune`: delete old jobs, or their journals alone."""

import sys
from typing import TYPE_CHECKING, Any, Final

import click

from waveimport.cli.app import App
from waveimport.cli.types import Duration

if TYPE_CHECKING:
    from waveimport.runtime.prune import Pruned
    from waveimport.store.pruning import Rows

KEEP: Final = 30
NAMED: Final = 5


@click.command()
@click.option(
    "--keep",
    type=click.IntRange(min=0),
    metavar="N",
    help=f"Keep the newest N that have ended.  [default: {KEEP}, or 0 beside --older-than]",
)
@click.option("--older-than", type=Duration(), help="Only what ended this long ago or longer (90d, 12h).")
@click.option("--journal-only", is_flag=True, help="Delete journals and events; the jobs themselves stay.")
@click.option("--dry-run", is_flag=True, help="Say what would be deleted; write nothing.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_obj
def command(
    app: App, keep: int | None, older_than: float | None, journal_only: bool, dry_run: bool, as_json: bool
) -> None:
    """Delete old jobs of the profile that have ended, with their waves, batches, journals and events.

    With both --keep and --older-than a job must be beyond the newest N and old enough. Imported rows stay, and so does
    every job by which a later run decides anything; each reason is told. Safe beside a run, and to stop at any moment:
    the next call goes on with it. A SQLite file does not shrink; its pages are used again.
    """
    settings = app.settings(secrets=False)
    from waveimport.cli.render import print_json
    from waveimport.core.waves import Trigger
    from waveimport.runtime.prune import prune

    if keep is None and older_than is None:
        keep = KEEP
    done = prune(
        settings,
        keep=keep,
        older_than_seconds=older_than,
        journal_only=journal_only,
        dry_run=dry_run,
        trigger=Trigger.MANUAL if sys.stdin.isatty() else Trigger.CRON,
    )
    if as_json:
        print_json(_document(settings.profile, done, journal_only=journal_only, dry_run=dry_run))
        return
    click.echo(_deleted(done, journal_only=journal_only, dry_run=dry_run))
    for reason, job_ids in done.kept.items():
        named = f" ({', '.join(job_ids)})" if len(job_ids) <= NAMED else f" (the newest {job_ids[0]})"
        click.echo(f"kept {len(job_ids)}: {reason.says}{named}")


def _deleted(done: "Pruned", *, journal_only: bool, dry_run: bool) -> str:
    would = "would delete" if dry_run else "deleted"
    if not done.deleted:
        return f"{would} nothing"
    total = _total(done)
    jobs = _number(len(done.deleted), "job", "jobs")
    oldest, *_, newest = [*done.deleted, *done.deleted]
    which = oldest if oldest == newest else f"{oldest} to {newest}"
    entries = _number(total.entries, "journal entry", "journal entries")
    rest = f"{entries}, {_number(total.events, 'event', 'events')}"
    if journal_only:
        return f"{would} the journals of {jobs} ({which}): {rest}"
    return f"{would} {jobs} ({which}): {_number(total.batches, 'batch', 'batches')}, {rest}"


def _number(count: int, one: str, more: str) -> str:
    return f"{count:,} {one if count == 1 else more}"


def _total(done: "Pruned") -> "Rows":
    from waveimport.store.pruning import Rows

    return sum(done.deleted.values(), Rows())


def _document(profile: str, done: "Pruned", *, journal_only: bool, dry_run: bool) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "profile": profile,
        "dry_run": dry_run,
        "journal_only": journal_only,
        "deleted": [
            {"job_id": job_id, "batches": rows.batches, "journal_entries": rows.entries, "events": rows.events}
            for job_id, rows in done.deleted.items()
        ],
        "kept": [
            {"reason": reason.word, "says": reason.says, "job_ids": list(job_ids)}
            for reason, job_ids in done.kept.items()
        ],
    }
