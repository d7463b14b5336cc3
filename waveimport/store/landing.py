"""T4: one page lands. Rows, the batch's resume key or completion, and the batches derived from these very rows
become visible in one commit, once.

The order within the transaction is the protocol: the fence first (one row, or nothing of the page is kept), then the
rows, then the derived waves (which must not be sealed), then their batches. No journal row here: that would take the
lock of the job.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec
from sqlalchemy import bindparam, insert, literal_column, select, update
from sqlalchemy.engine import Connection
from sqlalchemy.sql.elements import ColumnElement

from waveimport.core.rows import Row
from waveimport.core.waves import BatchKind, BatchStatus, WaveStatus
from waveimport.errors import WaveImportError
from waveimport.store import journal
from waveimport.store.batches import Claim, fence
from waveimport.store.destination import Upsert, raise_fence
from waveimport.store.dialect import Prepared, after, now
from waveimport.store.packing import Packed
from waveimport.store.removal import Removal, Remover
from waveimport.store.tables import wave_batches, wave_coordination

log = logging.getLogger(__name__)

KEPT = "kept"
"""The event of a batch that removed nothing because the source showed no row of its record at all."""


@dataclass(frozen=True, slots=True)
class NewBatch:
    """A batch to be made: ranges of a plan, children of landed parents, the far part of a heavy range."""

    batch_id: str
    wave_number: int
    record: str
    kind: BatchKind
    spec: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a page took at the source: requests, and the milliseconds from asking to the answer, waits for a free slot
    and asking again included."""

    requests: int
    milliseconds: int


NOTHING_ASKED = Asked(0, 0)


@dataclass(frozen=True, slots=True)
class Load:
    """One page to land. `rows` in the order of the record's columns, packed or to be; `resume_key` (the key of the
    last row landed so far, None before the first) and `spec` are written as they stand; `done` completes the batch;
    `event` is kept in `batch_events`; `removal` says what is gone from the record's table with it."""

    claim: Claim
    lease_seconds: float
    resume_key: Sequence[object] | None
    spec: Mapping[str, object]
    rows: Sequence[Row] | Packed = ()
    done: bool = False
    children: tuple[NewBatch, ...] = field(default=())
    event: str | None = None
    removal: Removal | None = None
    asked: Asked = NOTHING_ASKED


class _Sealed(WaveImportError):
    """A derived batch was to be made in a wave that is sealed: the machine decided too early."""

    code = "WI-INT-002"


_FENCE = Prepared(
    update(wave_batches)
    .where(*fence())
    .values(
        resume_key=bindparam("resume_key"),
        row_count=wave_batches.c.row_count + bindparam("landed"),
        spec=bindparam("new_spec"),
        requests=wave_batches.c.requests + bindparam("asked"),
        request_ms=wave_batches.c.request_ms + bindparam("asked_ms"),
        lost=0,
        lease_expires_at=after(bindparam("ttl")),
        updated_at=now(),
    )
)
_FENCE_DONE = Prepared(
    update(wave_batches)
    .where(*fence())
    .values(
        status=BatchStatus.COMPLETED.value,
        resume_key=bindparam("resume_key"),
        row_count=wave_batches.c.row_count + bindparam("landed"),
        spec=bindparam("new_spec"),
        requests=wave_batches.c.requests + bindparam("asked"),
        request_ms=wave_batches.c.request_ms + bindparam("asked_ms"),
        lease_owner=None,
        lease_token=None,
        lease_expires_at=None,
        error=None,
        updated_at=now(),
    )
)
# Spelt out in the statement, as a list is only written out when it is executed.
_GROWING: Final[list[ColumnElement[str]]] = [
    literal_column(f"'{status.value}'") for status in (WaveStatus.PENDING, WaveStatus.PROCESSING)
]
_GROW = Prepared(
    update(wave_coordination)
    .where(
        wave_coordination.c.job_id == bindparam("job"),
        wave_coordination.c.wave_number == bindparam("wave"),
        wave_coordination.c.sealed == 0,
        wave_coordination.c.status.in_(_GROWING),
    )
    .values(total=wave_coordination.c.total + bindparam("more"))
)
_BIRTH = insert(wave_batches).values(
    job_id=bindparam("job"),
    batch_id=bindparam("batch"),
    wave_number=bindparam("wave"),
    record=bindparam("record"),
    kind=bindparam("kind"),
    priority=1,
    status=BatchStatus.PENDING.value,
    attempt=0,
    tries=0,
    lost=0,
    row_count=0,
    spec=bindparam("spec"),
    created_at=now(),
    updated_at=now(),
)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _key(load: Load) -> str | None:
    return None if load.resume_key is None else _json(load.resume_key)


def take_fence(connection: Connection, load: Load) -> bool:
    """T4 (a): move the batch on, if this attempt is still the current one. False when fenced: nothing was changed."""
    claim = load.claim
    binds: dict[str, Any] = {
        "job": claim.job_id,
        "batch": claim.batch_id,
        "try_no": claim.attempt,
        "resume_key": _key(load),
        "landed": len(load.rows),
        "new_spec": _json(load.spec),
        "asked": load.asked.requests,
        "asked_ms": load.asked.milliseconds,
    }
    if load.done:
        return _FENCE_DONE.execute(connection, binds) == 1
    return _FENCE.execute(connection, {**binds, "ttl": load.lease_seconds}) == 1


def make_children(connection: Connection, load: Load) -> None:
    """T4 (c) and (d): grow the waves, in wave order, then insert the batches. Raises when a wave is sealed."""
    if not load.children:
        return
    job_id = load.claim.job_id
    more: dict[int, int] = {}
    for child in load.children:
        more[child.wave_number] = more.get(child.wave_number, 0) + 1
    for wave, count in sorted(more.items()):
        if _GROW.execute(connection, {"job": job_id, "wave": wave, "more": count}) != 1:
            raise _Sealed(f"wave {wave} of {job_id} is settled or sealed and can get no batch")
    connection.execute(
        _BIRTH,
        [
            {
                "job": job_id,
                "batch": child.batch_id,
                "wave": child.wave_number,
                "record": child.record,
                "kind": child.kind.value,
                "spec": _json(child.spec),
            }
            for child in load.children
        ],
    )


def land(
    connection: Connection, load: Load, upsert: Upsert | None, packet_bytes: int, remover: Remover | None = None
) -> bool:
    """T4 in one database. False when this attempt was fenced: the caller rolls back or has nothing to keep.

    `upsert` and `remover` are None where the rows are another database's.
    """
    if not take_fence(connection, load):
        return False
    _rows(connection, load, upsert, packet_bytes, remover)
    make_children(connection, load)
    if load.event is not None:
        journal.batch_event(connection, load.claim.job_id, load.claim.batch_id, load.event, load.claim.attempt)
    return True


def _rows(
    connection: Connection, load: Load, upsert: Upsert | None, packet_bytes: int, remover: Remover | None
) -> None:
    """T4 (b): the rows that came, then those that are gone."""
    job_id = load.claim.job_id
    if load.rows and upsert is not None:
        upsert.execute(connection, load.rows, job_id=job_id, packet_bytes=packet_bytes)
    if load.removal is not None and remover is not None:
        removed = remover.execute(connection, load.removal, job_id)
        if removed:
            log.info("%s: %d rows are gone at the source and were removed", load.claim.batch_id, removed)


def land_rows_apart(
    connection: Connection, load: Load, upsert: Upsert, packet_bytes: int, remover: Remover | None = None
) -> bool:
    """The rows of a page into a destination of its own, before T4 in the coordination database; idempotent.

    False when a later attempt of the batch has been here.
    """
    if not raise_fence(connection, load.claim.job_id, load.claim.batch_id, load.claim.attempt):
        return False
    _rows(connection, load, upsert, packet_bytes, remover)
    return True


def landed(connection: Connection, load: Load) -> bool | None:
    """Prove, after a COMMIT whose reply was lost, that the page had landed: True, or None to do it again.

    The batch row is read under its lock. Whoever else could have moved it on would have raised the attempt.
    """
    claim = load.claim
    row = connection.execute(
        select(wave_batches.c.status, wave_batches.c.attempt, wave_batches.c.resume_key, wave_batches.c.spec)
        .where(wave_batches.c.job_id == claim.job_id, wave_batches.c.batch_id == claim.batch_id)
        .with_for_update()
    ).first()
    if row is None or row.attempt != claim.attempt:
        return None
    if load.done:
        return True if row.status == BatchStatus.COMPLETED.value else None
    # Each page moves the key or the spec on, so that equal means landed.
    return True if (row.resume_key, row.spec) == (_key(load), _json(load.spec)) else None
