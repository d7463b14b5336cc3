"""`waveimport replay`: the journal of a job told again, each decision recomputed by the code of today."""

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from waveimport.cli.app import App
from waveimport.errors import ExitCode

if TYPE_CHECKING:
    from waveimport.core.progress import Alert, JobProgress
    from waveimport.core.waves import JobSnapshot
    from waveimport.runtime.retelling import Retold


@click.command()
@click.argument("job_id", metavar="JOB_ID|FILE")
@click.option("--until", type=click.IntRange(min=1), metavar="N", help="Only the first N entries, and the state then.")
@click.option("--batch", metavar="BATCH_ID", help="The life of one batch instead: what it covers and what befell it.")
@click.option(
    "--what-if",
    metavar="FILE.py|limit=N",
    help="Decide by another policy: `decide(snapshot)` of a Python file, or so many slots.",
)
@click.option("--repair", is_flag=True, help="Put back what lost workers had in hand and make a pass, after asking.")
@click.option("--yes", is_flag=True, help="Do what --repair shows without asking.")
@click.option("--strict", is_flag=True, help="Exit 21 also where another version of the rules had decided.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.option("--html", metavar="FILE", help="Write the page of `report`, every decision judged; - for stdout.")
@click.option("--force", is_flag=True, help="Replace the file of --html if it exists.")
@click.pass_obj
def command(
    app: App,
    job_id: str,
    until: int | None,
    batch: str | None,
    what_if: str | None,
    repair: bool,
    yes: bool,
    strict: bool,
    as_json: bool,
    html: str | None,
    force: bool,
) -> int:
    """Tell again what each coordination pass of JOB_ID, or of the job in a bundle FILE, saw and decided, and why.

    Every decision is recomputed. At the first that the same version of the rules would take otherwise today it stops,
    shows the difference and exits 21. What another version decided otherwise is shown and passed. Neighbours that
    say the same are folded, unless -v is given. It only reads.

    With --what-if each decision is compared with what another policy makes of the very snapshot that the pass saw; what
    would have followed from it is not played on.

    With --repair it shows which batches lost workers still have in hand and what a pass would decide, asks, and does
    both under the lease of the job, as the next run would. Beside a run that is at work it changes nothing.
    """
    if force and html is None:
        raise click.UsageError("--force replaces the file of --html, which is not given")
    if yes and not repair:
        raise click.UsageError("--yes answers --repair, which is not given")
    if repair:
        if html is not None or strict or as_json or until is not None or batch is not None or what_if is not None:
            raise click.UsageError("--repair goes with --yes alone")
        return _repair(app, job_id, yes=yes)
    if batch is not None:
        if html is not None or strict or until is not None or what_if is not None:
            raise click.UsageError("--batch is of one batch: it goes with --json alone")
        return _life(app, job_id, batch, as_json=as_json)
    if html is not None:
        unfit = as_json or strict or until is not None or what_if is not None
        return _page(app, job_id, html, force, unfit=unfit)
    if what_if is not None and strict:
        raise click.UsageError("--strict is of the rules of today: it does not go with --what-if")
    from waveimport.cli.reading import look, open_subject
    from waveimport.core.waves import decide
    from waveimport.runtime.retelling import retell
    from waveimport.runtime.what_if import policy_of

    policy = decide if what_if is None else policy_of(what_if)
    with open_subject(app, job_id) as subject:
        database, settings, found = subject.database, subject.settings, subject.job_id
        assert database is not None, "a job that was found is in a database"
        assert found is not None, "a job that was asked for by name is found, or unknown"
        job, alerts = look(database, settings, found)
        tally = _Tally(strict, what_if)
        entries = tally.watch(retell(database, found, until=until, decide=policy))
        if as_json:
            _print_json(found, entries, tally, alerts, then=until is not None)
        else:
            _print_text(entries, tally, alerts, fold=app.verbosity < 1, job=job, then=until is not None)
    return ExitCode.DIVERGED if tally.diverged else ExitCode.OK


def _repair(app: App, job_id: str, *, yes: bool) -> int:
    from pathlib import Path

    from waveimport.cli import repair

    if Path(job_id).is_file():
        raise click.UsageError("--repair changes a job in its database: it takes no bundle")
    return repair.run(app, job_id, yes=yes)


def _life(app: App, job_id: str, batch_id: str, *, as_json: bool) -> int:
    from dataclasses import asdict

    from waveimport.cli.reading import open_subject
    from waveimport.cli.render import print_json
    from waveimport.core.progress import moment
    from waveimport.store.batches import life_of

    with open_subject(app, job_id) as subject:
        found = subject.job_id
        assert subject.database is not None, "a job that was found is in a database"
        assert found is not None, "a job that was asked for by name is found, or unknown"
        row, happenings = subject.database.run(lambda connection: life_of(connection, found, batch_id))
    if as_json:
        events = [{**asdict(one), "at": moment(one.at)} for one in happenings]
        print_json({"job_id": found, "batch": row, "events": events})
        return ExitCode.OK
    click.echo(f"batch {batch_id} of {found}: wave {row['wave_number']}, {row['record']}, {row['kind']}")
    click.echo(f"  covers   {row['spec']}")
    click.echo(f"  is       {row['status']}, {row['row_count']} rows landed, claimed {row['attempt']} times")
    if row["error"] is not None:
        click.echo(f"  error    {row['error']}")
    click.echo("")
    click.echo(f"{row['created_at']:%Y-%m-%d %H:%M:%S}  made")
    for one in happenings:
        said = "" if one.detail is None else f": {one.detail}"
        click.echo(f"{one.at:%Y-%m-%d %H:%M:%S}  {one.event} (attempt {one.attempt}){said}")
    click.echo(f"{row['updated_at']:%Y-%m-%d %H:%M:%S}  last touched, now {row['status']}")
    return ExitCode.OK


def _page(app: App, job_id: str, target: str, force: bool, *, unfit: bool) -> int:
    if unfit:
        raise click.UsageError(
            "--html is a page of the whole journal: it goes with none of --until, --strict, --what-if, --json"
        )
    from waveimport.cli.reading import open_subject
    from waveimport.cli.report import page_of, refuse_existing, write_page

    refuse_existing(target, force=force)
    with open_subject(app, job_id) as subject:
        report = page_of(subject, replayed=True)
        write_page(app, report, target, force=force)
    return ExitCode.DIVERGED if report.diverged or report.damaged is not None else ExitCode.OK


class _Tally:
    """What the entries that went by add up to. `divergence` is the first entry that counts as one: of the same
    version of the rules where there is one, else of another. By `what_if`, another policy, none decides."""

    def __init__(self, strict: bool, what_if: str | None = None) -> None:
        self.strict = strict
        self.what_if = what_if
        self.last_pass: Retold | None = None
        self.entries = 0
        self.recomputed = 0
        self.otherwise = 0
        self.diverged = False
        self.divergence: Retold | None = None

    def watch(self, entries: "Iterable[Retold]") -> "Iterator[Retold]":
        """Yield the entries up to and with the first divergence that decides the exit code."""
        for one in entries:
            self.entries += 1
            if one.replayed.recomputed is not None:
                self.recomputed += 1
                self.last_pass = one
            self.diverged = not one.replayed.agrees and (one.same_version or self.strict) and self.what_if is None
            if not one.replayed.agrees:
                self.otherwise += 1
                if self.diverged or self.divergence is None:
                    self.divergence = one
            yield one
            if self.diverged:
                return


def _print_text(
    entries: "Iterable[Retold]",
    tally: _Tally,
    alerts: "tuple[Alert, ...]",
    *,
    fold: bool,
    job: "JobProgress",
    then: bool,
) -> None:
    from waveimport.cli.render import Screen, folded
    from waveimport.cli.timeline import timeline

    screen = Screen.of_stdout()
    for line in timeline(entries, fold=fold, screen=screen, what_if=tally.what_if):
        click.echo(line)
    click.echo("")
    for line in _state_lines(tally.last_pass, job) if then else ():
        click.echo(line)
    for line in folded(_ending(tally, alerts, job.status.value), screen):
        click.echo(line)


def _ending(tally: _Tally, alerts: "tuple[Alert, ...]", status: str) -> "Iterator[str]":
    from waveimport import __version__
    from waveimport.core.waves import DECISION_VERSION

    counted = f"{tally.entries} entries, {tally.recomputed} decisions recomputed"
    if tally.what_if is not None:
        first = "" if tally.divergence is None else f", the first at entry {tally.divergence.entry.seq}"
        yield f"{counted} by {tally.what_if}: {tally.otherwise} otherwise{first}"
    elif tally.divergence is None:
        rules = f"rules {DECISION_VERSION}, waveimport {__version__}"
        yield f"{counted}: all agree ({rules}); the job is {status}"
    else:
        entry = tally.divergence.entry
        versions = (
            f"recorded by rules {entry.decision_version} (waveimport {entry.code_version}),"
            f" recomputed by rules {DECISION_VERSION} (waveimport {__version__})"
        )
        if tally.diverged:
            yield f"{counted}; stopped at the first divergence, entry {entry.seq}: {versions}"
        else:
            yield f"{counted}; {tally.otherwise} decided otherwise today, first entry {entry.seq}: {versions}"
    for alert in alerts:
        yield f"alert[{alert.code}]: {alert.message}"


def _state_lines(one: "Retold | None", job: "JobProgress") -> "Iterator[str]":
    """Say what the job was once the moves of an entry were made."""
    from waveimport.cli.render import table

    state = _state(one)
    if one is None or state is None:
        yield "no pass was made by then"
        yield ""
        return
    records = {wave.wave_number: ", ".join(wave.rows) for wave in job.waves}
    yield (
        f"state behind entry {one.entry.seq}: the job is {state.status}, its planning {state.coordination_status},"
        f" {state.limit - state.free_slots} of {state.limit} slots in use before it"
    )
    yield ""
    rows = [["WAVE", "KIND", "RECORDS", "STATUS", "SEALED", "BATCHES", "AT WORK", "CLAIMABLE"]]
    for wave in state.waves:
        rows.append(
            [
                str(wave.wave_number),
                wave.kind.value,
                records.get(wave.wave_number, ""),
                wave.status.value,
                "yes" if wave.sealed else "no",
                str(wave.total),
                str(wave.live),
                # Counted no further than the slots of the run.
                f"{wave.claimable + wave.claimable_plans}" + ("+" if wave.claimable >= state.limit else ""),
            ]
        )
    yield from table(rows, right=frozenset({0, 5, 6, 7}))
    yield ""


def _state(one: "Retold | None") -> "JobSnapshot | None":
    from waveimport.core.replay import state_after

    if one is None or one.entry.snapshot is None or one.entry.decision is None:
        return None
    return state_after(one.entry.snapshot, one.entry.decision)


def _print_json(
    job_id: str, entries: "Iterable[Retold]", tally: _Tally, alerts: "tuple[Alert, ...]", *, then: bool
) -> None:
    """Write the document piece by piece: a journal may be longer than memory is wide."""
    click.echo(f'{{"job_id": {json.dumps(job_id)}, "entries": [', nl=False)
    for number, one in enumerate(entries):
        click.echo((",\n" if number else "\n") + json.dumps(_entry(one), ensure_ascii=False), nl=False)
    rest: dict[str, Any] = {
        "divergence": None if tally.divergence is None else _divergence(tally.divergence),
        "alerts": [_plain(alert) for alert in alerts],
    }
    if then:
        seq = None if tally.last_pass is None else tally.last_pass.entry.seq
        rest["state"] = {"seq": seq, "job": _plain(_state(tally.last_pass))}
    if tally.what_if is not None:
        rest["what_if"] = {"policy": tally.what_if, "otherwise": tally.otherwise}
    click.echo(f"\n], {json.dumps(rest, ensure_ascii=False)[1:]}")


def _entry(one: "Retold") -> dict[str, Any]:
    from waveimport.core.progress import moment

    entry = one.entry
    return {
        "seq": entry.seq,
        "at": moment(entry.at),
        "source": entry.source,
        "token": entry.token,
        "event": entry.event,
        "repeats": entry.repeats,
        "repeated_at": moment(entry.repeated_at),
        "note": entry.note,
        "decision_version": entry.decision_version,
        "code_version": entry.code_version,
        "snapshot": _plain(entry.snapshot),
        "decision": _plain(entry.decision),
        "recomputed": _plain(one.replayed.recomputed),
        "agrees": one.replayed.agrees,
    }


def _divergence(one: "Retold") -> dict[str, Any]:
    return {
        "seq": one.entry.seq,
        "recorded": _plain(one.entry.decision),
        "recomputed": _plain(one.replayed.recomputed),
        "differences": list(one.replayed.differences),
        "same_version": one.same_version,
    }


def _plain(value: Any) -> Any:
    from dataclasses import asdict

    return None if value is None else asdict(value)
