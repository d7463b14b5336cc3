"""`check --data`: whether what the coordination tables say is so, of every job, and of the rows of the newest one."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from waveimport.core.increments import family
from waveimport.core.multiset import digest
from waveimport.core.settings import RecordSettings, Settings
from waveimport.core.waves import JobStatus
from waveimport.errors import ExitCode, WaveImportError
from waveimport.runtime.checkup import Finding, Level, failures_of
from waveimport.store import audit, jobs, landed, schema, swap, watermarks
from waveimport.store.destination import Target
from waveimport.store.engine import sqlite_path
from waveimport.store.jobs import Job
from waveimport.store.transactions import Database

PART = "data"
_MEND = "stop the runs of this database, keep a copy of it, and report this with `waveimport replay`"


def check_data(settings: Settings) -> Iterator[Finding]:
    """Yield what was found; raises nothing of the errors it looks for. It writes nothing and asks NetSuite nothing."""
    file = sqlite_path(settings.database.url)
    if file is not None and not file.exists():
        yield Finding(PART, Level.OK, "no job yet, so nothing to compare")
        return
    database = Database.open_reader(settings.database.url)
    try:
        yield from _coordination(settings, database)
    except WaveImportError as error:
        yield from failures_of(PART, error)
    finally:
        database.close()


def _coordination(settings: Settings, database: Database) -> Iterator[Finding]:
    if not schema.require_current(database):
        yield Finding(PART, Level.OK, "no job yet, so nothing to compare")
        return
    found = database.run(audit.violations)
    for violation in found:
        yield Finding(PART, Level.FAIL, str(violation), _MEND, exit_code=ExitCode.FAULT)
    if not found:
        yield Finding(PART, Level.OK, f"the {len(audit.RULES)} rules of the coordination tables hold")
    newest = database.run(lambda connection: jobs.newest_job(connection, settings.profile))
    if newest is not None:
        yield from _rows(settings, database, newest)


def _rows(settings: Settings, database: Database, job: Job) -> Iterator[Finding]:
    """Compare the rows of the profile's newest job: a later job writes its own name into the rows of an earlier one."""
    if database.run(lambda connection: landed.at_work(connection, job.job_id)):
        yield Finding(
            PART, Level.WARN, f"the rows of {job.job_id} were not compared: a run is at work", "ask again later"
        )
        return
    by_batches = database.run(lambda connection: landed.counted_by_batches(connection, job.job_id))
    waves = database.run(lambda connection: jobs.planned_waves(connection, job.job_id))
    of_job = {name for wave in waves for name in wave.records}
    records = [record for record in settings.records if record.name in of_job]
    swapped = database.run(lambda connection: _swapped(settings, connection, job))
    apart = None if settings.one_database or settings.destination is None else settings.destination.url
    destination = database if apart is None else Database.open_reader(apart)
    try:
        wrong = 0
        there = destination.run(swap.tables_there)
        tables = {record.name: _target(settings, record) for record in settings.records}
        for name in swapped.read_beside:
            tables[name] = swap.where_rows_are(there, swap.swap_of(tables[name], job.job_id))
        records = [record for record in records if record.name not in swapped.thrown_away]
        for record in records:
            for message in _differences(
                settings, database, destination, job, record, by_batches.get(record.name, 0), tables
            ):
                wrong += 1
                yield Finding(PART, Level.FAIL, message, _mend(job), exit_code=ExitCode.RECONCILIATION)
        if not wrong and job.mode == "incremental":
            yield Finding(PART, Level.OK, f"the rows of {job.job_id} are no more than it landed: it may read one twice")
        elif not wrong:
            rows = sum(by_batches.get(record.name, 0) for record in records)
            yield Finding(PART, Level.OK, f"the {rows:,} rows that {job.job_id} landed are in their tables, each once")
    finally:
        if destination is not database:
            destination.close()


@dataclass(frozen=True, slots=True)
class _Swapped:
    """The records that a job has read beside their tables, and those of them whose rows it did not put in place."""

    read_beside: set[str]
    thrown_away: set[str]


def _swapped(settings: Settings, connection: Any, job: Job) -> _Swapped:
    families = [
        {one.name for one in family(root, settings.records)}
        for root in swap.swapped_roots(connection, job.job_id)
        if any(record.name == root for record in settings.records)
    ]
    kept = watermarks.kept_records(connection, job.job_id) if job.status is JobStatus.COMPLETED else set()
    return _Swapped(set().union(*families), set().union(*(each for each in families if each & kept)))


def _mend(job: Job) -> str:
    return (
        f"rows were removed by hand, or lost: `waveimport cancel {job.job_id}` if need be, then `waveimport run --full`"
    )


def _differences(
    settings: Settings,
    database: Database,
    destination: Database,
    job: Job,
    record: RecordSettings,
    counted: int,
    tables: Mapping[str, Target],
) -> Iterator[str]:
    target = tables[record.name]
    rows = destination.run(lambda connection: landed.rows_in_table(connection, target, job.job_id))
    if job.mode == "incremental":
        # A row may be read twice, or be found gone after it was read; never can more stand there than were read.
        if rows > counted:
            yield f"{record.name}: {counted:,} rows of {job.job_id} landed, {rows:,} are in table `{target.table}`"
        return
    if rows != counted:
        yield f"{record.name}: {counted:,} rows of {job.job_id} landed, {rows:,} are in table `{target.table}`"
    parent = next((other for other in settings.records if other.name == record.derived_from), None)
    if parent is None:
        return
    carried = database.run(lambda connection: digest(landed.parents_of_batches(connection, job.job_id, record.name)))
    there = destination.run(
        lambda connection: digest(landed.keys_in_table(connection, tables[parent.name], job.job_id))
    )
    if carried != there:
        yield (
            f"{record.name}: its batches carry {carried[0]:,} parents, and {there[0]:,} rows of {parent.name} landed"
            + (", which are not the same" if carried[0] == there[0] else "")
        )


def _target(settings: Settings, record: RecordSettings) -> Target:
    return Target(settings.prefix + record.table_name, record)
