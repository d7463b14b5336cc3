"""What a run would do, without doing it: counted at the source, read from the database, written nowhere."""

from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

from waveimport.core.fingerprint import config_difference, config_hash, redacted_text
from waveimport.core.graph import plan_waves, select
from waveimport.core.increments import family
from waveimport.core.progress import JobProgress
from waveimport.core.ranges import Bounds, range_count
from waveimport.core.records import parse_bounds
from waveimport.core.settings import ColumnKind, RecordSettings, Refresh, RunSettings, Settings
from waveimport.core.swaps import roots_to_swap
from waveimport.core.waves import UNFINISHED_JOB, JobStatus, WaveKind
from waveimport.core.wide import COLUMNS_MAX, parts_of
from waveimport.errors import LoginRefused, QueryRefused, ServerFault, TableClash, WaveImportError
from waveimport.netsuite.client import SuiteQLClient
from waveimport.netsuite.narrowing import changed
from waveimport.netsuite.suiteql import bounds_query
from waveimport.runtime import clock
from waveimport.runtime.opening import credential_fingerprint
from waveimport.runtime.since import filled_records, since_of_new_job, targets_of
from waveimport.store import accounts, jobs, watermarks
from waveimport.store.destination import NUMERIC_DIGITS, check_tables, known_columns
from waveimport.store.engine import sqlite_path
from waveimport.store.jobs import Job
from waveimport.store.progress import read_progress
from waveimport.store.swap import check_replaceable, swapped_roots
from waveimport.store.transactions import Database


class Action(StrEnum):
    """What `run` without a flag would do, by the newest job of the profile."""

    CREATE = "create"
    RESUME = "resume"
    RETRY = "retry"
    REFUSE = "refuse"


class Counted(StrEnum):
    """Where the numbers of a record come from: asked of the source now, kept when the job was planned, reckoned from
    the parents' count, or not to be had before the parents have landed."""

    NOW = "now"
    KEPT = "kept"
    ESTIMATED = "estimated"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class RecordPreview:
    """One record. `rows` is None where nobody can count them yet; `batches` counts planning as one; `error` says why
    the source did not answer."""

    record: str
    source: str
    destination: str
    derived_from: str | None
    counted: Counted
    rows: int | None = None
    lowest: int | None = None
    highest: int | None = None
    batches: int | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class WavePreview:
    """One wave. Of a job that goes on, `completed` of `batches_made` batches are done; None for a new one."""

    wave_number: int
    kind: WaveKind
    parent_wave: int | None
    records: tuple[RecordPreview, ...]
    completed: int | None = None
    batches_made: int | None = None


@dataclass(frozen=True, slots=True)
class Preview:
    """All that a run would do. `why` is one sentence; `notes` are things to know beforehand; `errors` are those of
    records that the source refused to count."""

    profile: str
    action: Action
    why: str
    job_id: str | None
    waves: tuple[WavePreview, ...]
    notes: tuple[str, ...]
    errors: tuple[WaveImportError, ...]


def preview(settings: Settings, database: Database | None, *, records: tuple[str, ...] | None) -> Preview:
    """Return what `run` (with `--records`, if given) would do. `database` is None where there are no tables yet.

    Asks one bounds-and-count query per main record, several at a time. Raises BadRecords for a name that is not
    configured, LoginRefused, SourceDown and their like when the source answers nobody.
    """
    newest = None
    if database is not None:
        newest = database.run(lambda connection: jobs.newest_job(connection, settings.profile))
    action, why = _action(settings, newest, records)
    goes_on = action in (Action.RESUME, Action.RETRY)
    assert newest is not None or not goes_on
    chosen = select(settings.records, newest.selection if goes_on and newest is not None else records)
    progress = None
    job_id = "" if newest is None else newest.job_id
    if goes_on and database is not None:
        progress = database.run(lambda connection: read_progress(connection, job_id))
    kept = {} if progress is None else {name: n for wave in progress.waves for name, n in wave.expected.items()}
    to_count = [record for record in chosen if record.derived_from is None and record.name not in kept]
    tables = _Tables(set(), [], [])
    since: Mapping[str, str] = {}
    swapped: Collection[str] = ()
    if database is not None and goes_on:
        since = database.run(lambda connection: watermarks.since_of(connection, job_id))
        swapped = database.run(lambda connection: swapped_roots(connection, job_id))
    elif database is not None:
        tables = _tables(settings, chosen, database)
        new = since_of_new_job(settings, chosen, redacted_text(settings), database, tables.filled)
        since = {name: one.record for name, one in new.items()}
        swapped = roots_to_swap(chosen, incremental=since, filled=tables.filled)
    counts = _count(settings, database, to_count, since) if to_count and action is not Action.REFUSE else {}
    by_record = {record.name: _record(settings, record, counts, kept) for record in chosen}
    waves = tuple(
        WavePreview(
            wave.wave_number,
            wave.kind,
            wave.parent_wave,
            tuple(by_record[name] for name in wave.records),
            *_done(progress, wave.wave_number),
        )
        for wave in plan_waves(chosen)
    )
    return Preview(
        profile=settings.profile,
        action=action,
        why=why,
        job_id=newest.job_id if newest is not None and action is not Action.CREATE else None,
        waves=waves,
        notes=(*tables.notes, *_notes(settings, chosen, since, swapped)),
        errors=(*tables.errors, *(value for value in counts.values() if isinstance(value, WaveImportError))),
    )


def _action(settings: Settings, newest: Job | None, records: tuple[str, ...] | None) -> tuple[Action, str]:
    if newest is None:
        return Action.CREATE, "there is no job yet: a run creates the first"
    if newest.status in (JobStatus.COMPLETED, JobStatus.CANCELLED):
        return Action.CREATE, f"the newest job {newest.job_id} is {newest.status}: a run creates another"
    if records is not None and records != newest.selection:
        was = "all records" if newest.selection is None else ", ".join(newest.selection)
        return Action.REFUSE, (
            f"the unfinished job {newest.job_id} imports {was}: a run with these records refuses;"
            f" finish it with `waveimport run`, or end it with `waveimport cancel {newest.job_id}`"
        )
    text = redacted_text(settings)
    if newest.config_hash != config_hash(text):
        difference = "; ".join(config_difference(newest.config_text, text)[:8])
        return Action.REFUSE, (
            f"the unfinished job {newest.job_id} was created under another configuration ({difference}): a run refuses;"
            f" end it with `waveimport cancel {newest.job_id}`, or go on with `waveimport run --adopt-config`"
        )
    if newest.status in UNFINISHED_JOB:
        return Action.RESUME, f"the job {newest.job_id} is {newest.status}: a run goes on with it"
    return Action.RETRY, f"the job {newest.job_id} failed: a run tries its failed batches again"


@dataclass(frozen=True, slots=True)
class _Tables:
    """What stands at the destination: the records whose tables hold rows, what would change, what cannot be."""

    filled: set[str]
    notes: list[str]
    errors: list[WaveImportError]


def _tables(settings: Settings, records: Sequence[RecordSettings], database: Database) -> _Tables:
    """Look at the destination tables; change nothing."""
    apart = None if settings.one_database or settings.destination is None else settings.destination.url
    file = None if apart is None else sqlite_path(apart)
    found = _Tables(set(), [], [])
    if file is not None and not file.exists():
        return found
    targets = targets_of(settings, records)
    destination = database if apart is None else Database.open_reader(apart)
    where = "" if apart is None else destination.name
    known = database.run(
        lambda connection: known_columns(connection, targets, profile=settings.profile, destination=where)
    )
    try:
        found.filled.update(filled_records(destination, targets))
        for target in targets:
            try:
                if target.record.refresh is Refresh.SWAP:
                    destination.run(partial(check_replaceable, targets=[target]))
                added = destination.run(partial(check_tables, targets=[target], known=known))
            except TableClash as error:
                found.errors.append(error)
                continue
            found.notes.extend(
                f"{target.record.name}: column `{name}` is added to table `{table}`, and every row read for it"
                for table, columns in added.items()
                for name in columns
            )
    finally:
        if destination is not database:
            destination.close()
    return found


def heed_refusal(settings: Settings, database: Database) -> None:
    """Raise LoginRefused, without asking, where these credentials were refused a short while ago."""
    refused = database.run(
        lambda connection: accounts.recent_refusal(
            connection, settings.netsuite.account, credential_fingerprint(settings)
        )
    )
    if refused is not None:
        raise LoginRefused(
            f"NetSuite refused these credentials less than 30 minutes ago ({refused}), and five refusals lock the user",
            where="[netsuite]",
            help="mend them, then `waveimport check` asks once and lets other commands go on",
        )


def _count(
    settings: Settings, database: Database | None, records: Sequence[RecordSettings], since: Mapping[str, str]
) -> dict[str, Bounds | WaveImportError]:
    """Ask the source for each record's bounds. What is wrong with one record alone is its value; else raises."""
    if database is not None:
        heed_refusal(settings, database)
    client = SuiteQLClient(
        settings.netsuite,
        request_timeout_seconds=settings.run.request_timeout_seconds,
        epoch_seconds=clock.epoch_seconds,
        attempts=3,
    )

    def ask(record: RecordSettings) -> Bounds | WaveImportError:
        try:
            narrowed = changed(record, since[record.name]) if record.name in since else record
            return Bounds(*parse_bounds(client.query(bounds_query(narrowed))))
        except (QueryRefused, ServerFault) as error:
            return error

    with client, ThreadPoolExecutor(min(settings.run.workers, settings.netsuite.concurrency)) as pool:
        asked = {record.name: pool.submit(ask, record) for record in records}
        try:
            return {name: future.result() for name, future in asked.items()}
        except BaseException:
            # Ctrl-C, or one that speaks for all: the others are not waited for.
            client.stop()
            raise


def _record(
    settings: Settings,
    record: RecordSettings,
    counts: Mapping[str, Bounds | WaveImportError],
    kept: Mapping[str, int],
) -> RecordPreview:
    counted, error = Counted.UNKNOWN, None
    bounds: Bounds | None = None
    rows: int | None = None
    batches: int | None = None
    answer = counts.get(record.name)
    parent = counts.get(record.derived_from) if record.derived_from is not None else None
    if isinstance(answer, Bounds):
        counted, bounds, rows = Counted.NOW, answer, answer.count
        batches = 1 + range_count(answer, settings.run.batch_size)
    elif isinstance(answer, WaveImportError):
        error = answer.message
    elif record.name in kept:
        counted, rows = Counted.KEPT, kept[record.name]
    elif isinstance(parent, Bounds):
        counted, batches = Counted.ESTIMATED, derived_batches(parent, settings.run)
    return RecordPreview(
        record=record.name,
        source=record.table,
        destination=settings.prefix + record.table_name,
        derived_from=record.derived_from,
        counted=counted,
        rows=rows,
        lowest=None if bounds is None else bounds.lowest,
        highest=None if bounds is None else bounds.highest,
        batches=batches,
        error=error,
    )


def derived_batches(parent: Bounds, run: RunSettings) -> int:
    """Estimate the batches of a derived record: each page of parents that lands makes its own.

    Exact where the parents' keys lie evenly; ranges with more pages than reckoned make a few more.
    """
    ranges = range_count(parent, run.batch_size)
    small, larger = divmod(parent.count, ranges)
    of_range = [small + 1] * larger + [small] * (ranges - larger) if ranges <= 1000 else [small] * ranges
    return sum(_batches_of(rows, run) for rows in of_range)


def _batches_of(rows: int, run: RunSettings) -> int:
    full, rest = divmod(rows, run.page_size)
    return full * -(-run.page_size // run.parents_per_batch) + -(-rest // run.parents_per_batch)


def _done(progress: JobProgress | None, wave_number: int) -> tuple[int | None, int | None]:
    for wave in progress.waves if progress is not None else ():
        if wave.wave_number == wave_number:
            return wave.total - wave.open_batches, wave.total
    return None, None


def _notes(
    settings: Settings, records: Sequence[RecordSettings], since: Mapping[str, str], swapped: Collection[str]
) -> list[str]:
    landing = settings.destination or settings.database
    notes = [f"{name}: what has changed since {moment} UTC, and what was deleted" for name, moment in since.items()]
    for record in records:
        if record.name in swapped:
            tables = [f"`{settings.prefix}{one.table_name}`" for one in family(record.name, records)]
            notes.append(
                f"{record.name}: read beside {', '.join(tables)}, and put in {'its' if len(tables) == 1 else 'their'}"
                " place when the job is completed"
            )
        single = len(record.key) == 1 and record.column(record.key[0]).kind is ColumnKind.INTEGER
        if record.name in since and not single:
            notes.append(f"{record.name}: its key is no single integer, so deletions are followed by `run --full` only")
        wide = [
            f"{column.name} decimal({column.precision},{column.scale})"
            for column in record.columns
            if column.kind is ColumnKind.DECIMAL and column.precision > NUMERIC_DIGITS
        ]
        if wide and sqlite_path(landing.url) is not None:
            notes.append(
                f"{record.name}: {', '.join(wide)} {'is' if len(wide) == 1 else 'are'} kept as TEXT: SQLite's numbers"
                f" hold {NUMERIC_DIGITS} digits exactly"
            )
        if len(record.columns) > COLUMNS_MAX:
            notes.append(
                f"{record.name}: {len(record.columns)} columns are more than a query may have, so each of its pages"
                f" takes {len(parts_of(record))} queries"
            )
        if record.derived_from is None and record.column(record.key[0]).kind is not ColumnKind.INTEGER:
            notes.append(f"{record.name}: its first key `{record.key[0]}` is no integer, so it is fetched as one batch")
    return notes
