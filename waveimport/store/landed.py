"""What the batches of a job say has landed, and what stands in the destination: two counts that must be one. The second
is compared with the source too.

Read-only, and a row at a time: a comparison costs the same memory at a thousand rows and at ten million.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from sqlalchemy import bindparam, func, select, text
from sqlalchemy.engine import Connection

from waveimport.core.ranges import chunks
from waveimport.core.settings import Deletes
from waveimport.core.waves import LEASED, BatchKind
from waveimport.store.destination import DELETED_COLUMN, Target, quote
from waveimport.store.dialect import MEMBERS_AT_ONCE
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


def rows_there(connection: Connection, target: Target) -> int:
    """Return how many rows a destination table has, whichever job wrote them; those marked as deleted are not there."""
    where = f" WHERE {DELETED_COLUMN} IS NULL" if target.record.deletes is Deletes.SOFT else ""
    return int(connection.execute(text(f"SELECT COUNT(*) FROM {quote(connection, target.table)}{where}")).scalar_one())


def rows_below(connection: Connection, line: Sequence[Target], keys: Sequence[int | str], job_id: str | None) -> int:
    """Return how many rows of a derived record's table derive from some keys of its main record.

    `line` is the record, its parent and so on up to a child of the main record. Only rows that a job has written last,
    where it is given; those marked as deleted are not there.
    """
    conditions = ["{}"]
    binds: dict[str, Any] = {}
    if job_id is not None:
        conditions.append("_job_id = :job")
        binds["job"] = job_id
    if line[0].record.deletes is Deletes.SOFT:
        conditions.append(f"{DELETED_COLUMN} IS NULL")
    within = f"{_parent_column(connection, line[-1])} IN :members"
    for child, parent in zip(reversed(line[:-1]), reversed(line[1:]), strict=True):
        key, table = quote(connection, parent.key_targets[0]), quote(connection, parent.table)
        within = f"{_parent_column(connection, child)} IN (SELECT {key} FROM {table} WHERE {within})"
    where = " AND ".join(conditions).format(within)
    sql = text(f"SELECT COUNT(*) FROM {quote(connection, line[0].table)} WHERE {where}")
    counting = sql.bindparams(bindparam("members", expanding=True))
    return sum(
        int(connection.execute(counting, {**binds, "members": list(part)}).scalar_one())
        for part in chunks(keys, MEMBERS_AT_ONCE)
    )


def _parent_column(connection: Connection, target: Target) -> str:
    record = target.record
    assert record.parent_key is not None
    return quote(connection, record.column(record.parent_key).target)


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
