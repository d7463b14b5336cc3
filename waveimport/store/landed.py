"""What the batches of a job say has landed, and what stands in the destination: two counts that must be one.

Read-only, and a row at a time: a comparison costs the same memory at a thousand rows and at ten million.
"""

from collections.abc import Iterator

import msgspec
from sqlalchemy import func, select, text
from sqlalchemy.engine import Connection

from waveimport.core.waves import LEASED, BatchKind
from waveimport.store.destination import Target, quote
from waveimport.store.tables import wave_batches

ROWS_AT_ONCE = 1_000


def at_work(connection: Connection, job_id: str) -> bool:
    """Whether a batch of the job is dispatched or processing: a page of it may be between two databases now."""
    statuses = [status.value for status in LEASED]
    found = select(wave_batches.c.batch_id).where(wave_batches.c.job_id == job_id, wave_batches.c.status.in_(statuses))
    return connection.execute(found.limit(1)).first() is not None


def counted_by_batches(connection: Connection, job_id: str) -> dict[str, int]:
    """Return how many rows of each record the batches of a job have landed, by their own count."""
    rows = connection.execute(
        select(wave_batches.c.record, func.sum(wave_batches.c.row_count))
        .where(wave_batches.c.job_id == job_id)
        .group_by(wave_batches.c.record)
    )
    return {record: int(count) for record, count in rows}


def rows_in_table(connection: Connection, target: Target, job_id: str) -> int:
    """Return how many rows of a destination table a job has written last."""
    table = quote(connection, target.table)
    sql = text(f"SELECT COUNT(*) FROM {table} WHERE _job_id = :job")
    return int(connection.execute(sql, {"job": job_id}).scalar_one())


def parents_of_batches(connection: Connection, job_id: str, record: str) -> Iterator[int | str]:
    """Yield every parent key that the derived batches of a record carry, in the order of the batches."""
    rows = connection.execution_options(yield_per=ROWS_AT_ONCE).execute(
        select(wave_batches.c.spec).where(
            wave_batches.c.job_id == job_id,
            wave_batches.c.record == record,
            wave_batches.c.kind == BatchKind.PARENTS.value,
        )
    )
    for (spec,) in rows:
        yield from msgspec.json.decode(spec).get("parents", [])


def keys_in_table(connection: Connection, target: Target, job_id: str) -> Iterator[int | str]:
    """Yield the first key of the rows that a job has written last, each once."""
    table, key = quote(connection, target.table), quote(connection, target.key_targets[0])
    sql = text(f"SELECT DISTINCT {key} FROM {table} WHERE _job_id = :job".replace("%", "%%"))
    for (value,) in connection.execution_options(yield_per=ROWS_AT_ONCE).execute(sql, {"job": job_id}):
        yield value
