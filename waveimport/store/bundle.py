"""A support bundle: one job's coordination rows in a compressed SQLite file, without the values of any row.

Whatever database the job is in, the bundle has the coordination tables of this program, and is read by the code that
reads those. In it the clock stands still at the moment it was made: leases, back-offs and alerts are seen as then.
"""

import gzip
import json
import os
import sqlite3
import zlib
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Table, event, insert, select
from sqlalchemy.engine import Connection, Row
from sqlalchemy.sql.elements import ColumnElement

from waveimport.core.ranges import chunks
from waveimport.core.scrub import has_words, names_of, without_values, without_words
from waveimport.errors import BadBundle, FileExists
from waveimport.store import debts, schema
from waveimport.store.dialect import now
from waveimport.store.jobs import get_job
from waveimport.store.tables import (
    account_runs,
    batch_events,
    import_accounts,
    import_jobs,
    import_watermarks,
    wave_batches,
    wave_coordination,
    wave_journal,
)
from waveimport.store.transactions import Database

APPLICATION_ID: Final = 0x57494255
"""SQLite's mark of a file's kind: `WIBU`."""
FORMAT: Final = "1"
ROWS_AT_ONCE: Final = 2_000
IDS_AT_ONCE: Final = 500
UNPACKED_MOST_BYTES: Final = 8 * 1024**3
_CHUNK_BYTES: Final = 1024 * 1024
_MANIFEST: Final = "bundle"
_TEXTS: Final = frozenset({"error", "note", "detail", "reason", "skip_reason"})
_VALUES: Final = frozenset({"spec", "resume_key"})


def write_bundle(database: Database, job_id: str, path: Path, facts: Mapping[str, str]) -> None:
    """Write a bundle of a job, with `facts` (versions, the masked configuration) in its manifest; it appears whole.

    Raises UnknownJob, and FileExists where there is one of that name.
    """
    if path.exists():
        raise FileExists(f"{path} exists already", where=str(path), help="name another file with -o")
    plain = path.with_name(f".{path.name}.{os.getpid()}.part")
    packed = plain.with_suffix(".gz")
    try:
        made = Database.open(f"sqlite:///{plain}")
        try:
            schema.upgrade(made)
            database.run(lambda source: made.run(lambda target: _copy(source, target, job_id, facts)))
        finally:
            made.close()
        with sqlite3.connect(plain) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")
        connection.close()
        with plain.open("rb") as source, gzip.open(packed, "wb", compresslevel=6) as target:
            while chunk := source.read(_CHUNK_BYTES):
                target.write(chunk)
        packed.chmod(0o600)
        # `link` refuses to overwrite, which `rename` would do.
        try:
            os.link(packed, path)
        except FileExistsError:
            raise FileExists(f"{path} exists already", where=str(path), help="name another file with -o") from None
    finally:
        for left in (plain, packed, *plain.parent.glob(f"{plain.name}-*")):
            left.unlink(missing_ok=True)


def _copy(source: Connection, target: Connection, job_id: str, facts: Mapping[str, str]) -> None:
    job = get_job(source, job_id)
    names = frozenset(names_of(json.loads(job.config_text) if job.config_text.startswith("{") else {}))
    owed = [debt for debt in debts.standing(source, job.profile) if debt.job_id != job_id]
    jobs = {job_id, *(debt.job_id for debt in owed)}
    of_job: list[tuple[Table, ColumnElement[bool]]] = [
        (import_jobs, import_jobs.c.job_id.in_(sorted(jobs))),
        (wave_coordination, wave_coordination.c.job_id == job_id),
        (wave_batches, wave_batches.c.job_id == job_id),
        (wave_journal, wave_journal.c.job_id == job_id),
        (batch_events, batch_events.c.job_id == job_id),
        (import_watermarks, import_watermarks.c.profile == job.profile),
        (account_runs, account_runs.c.job_id == job_id),
        (import_accounts, import_accounts.c.refused_at.is_not(None)),
    ]
    for other in sorted({one.job_id for one in owed}):
        ids = [one.batch_id for one in owed if one.job_id == other]
        of_job += [
            (wave_batches, (wave_batches.c.job_id == other) & wave_batches.c.batch_id.in_(part))
            for part in chunks(ids, IDS_AT_ONCE)
        ]
    for table, condition in of_job:
        columns = [column for column in table.columns if column.computed is None]
        rows = source.execution_options(yield_per=ROWS_AT_ONCE).execute(select(*columns).where(condition))
        for part in rows.partitions(ROWS_AT_ONCE):
            target.execute(insert(table), [_scrubbed(row, names) for row in part])
    moment = source.execute(select(now())).scalar_one()
    target.exec_driver_sql(f"CREATE TABLE {_MANIFEST} (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
    manifest = {**facts, "format": FORMAT, "job_id": job_id, "profile": job.profile, "made_at": moment.isoformat(" ")}
    for name, value in manifest.items():
        target.exec_driver_sql(f"INSERT INTO {_MANIFEST} VALUES (?, ?)", (name, value))
    target.exec_driver_sql(f"PRAGMA application_id = {APPLICATION_ID}")


def _scrubbed(row: Row[Any], names: frozenset[str]) -> dict[str, Any]:
    values = dict(row._mapping)
    for name, value in values.items():
        if value is None:
            continue
        if name in _TEXTS:
            values[name] = without_values(value, names)
        elif name in _VALUES and has_words(value):
            values[name] = json.dumps(without_words(json.loads(value)), ensure_ascii=False, separators=(",", ":"))
        elif name == "credential":
            values[name] = "masked"
    return values


def is_bundle(path: Path) -> bool:
    """Whether a file begins as a bundle does."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def unpack(path: Path, folder: Path) -> tuple[Database, dict[str, str]]:
    """Unpack a bundle into a folder and open it for reading, its clock at the moment it was made; with its manifest.

    Raises BadBundle for a file that is none, or of a newer program; SchemaMismatch likewise.
    """
    file = folder / "bundle.db"
    try:
        with gzip.open(path, "rb") as source, file.open("wb") as target:
            size = 0
            while chunk := source.read(_CHUNK_BYTES):
                size += len(chunk)
                if size > UNPACKED_MOST_BYTES:
                    raise BadBundle(f"{path} unpacks to more than {UNPACKED_MOST_BYTES:,} bytes", where=str(path))
                target.write(chunk)
        manifest = _manifest(file)
    except (OSError, EOFError, zlib.error, sqlite3.DatabaseError) as error:
        raise BadBundle(f"{path} is no bundle, or is damaged: {error}", where=str(path), help=_HELP) from None
    if manifest.get("format") != FORMAT:
        raise BadBundle(
            f"{path} is a bundle of format {manifest.get('format')}, this program reads {FORMAT}",
            where=str(path),
            help=f"open it with waveimport {manifest.get('waveimport', 'of a newer version')}",
        )
    url = f"sqlite:///{file}"
    older = Database.open(url)
    try:
        if older.run(schema.current_version) != schema.HEAD:
            schema.upgrade(older)
    finally:
        older.close()
    database = Database.open_reader(url)
    moment = datetime.fromisoformat(manifest["made_at"])

    def stand_still(connection: sqlite3.Connection, record: object) -> None:
        connection.create_function("strftime", -1, lambda form, *when: _at(moment, form, *when))

    event.listen(database.engine, "connect", stand_still)
    return database, manifest


_HELP: Final = "make one with `waveimport bundle JOB_ID -o FILE`"


def _manifest(file: Path) -> dict[str, str]:
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        (mark,) = connection.execute("PRAGMA application_id").fetchone()
        if mark != APPLICATION_ID:
            raise sqlite3.DatabaseError("it is another kind of file")
        return dict(connection.execute(f"SELECT name, value FROM {_MANIFEST}"))
    finally:
        connection.close()


def _at(moment: datetime, form: str, *when: str) -> str:
    """SQLite's `strftime` of the words of `store.dialect`, with `now` at a moment of our own."""
    for words in when[1:]:
        moment += timedelta(seconds=float(words.removesuffix(" seconds")))
    return moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{moment.microsecond // 1000:03d}000"
