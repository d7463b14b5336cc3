"""The planning batches of a job, found by their names: by their kind, each of a million batches would be looked at."""

from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import select
from sqlalchemy.engine import Connection

from waveimport.core.ranges import plan_batch_id
from waveimport.core.waves import BatchKind, BatchStatus, WaveKind
from waveimport.store.tables import wave_batches, wave_coordination


@dataclass(frozen=True, slots=True)
class Plan:
    """The planning of a main record. `spec` is what it was told when the job was made, and what it has found."""

    wave_number: int
    record: str
    spec: dict[str, Any]


def plan_mark(swapped: bool) -> dict[str, object]:
    """Return what the planning batch of a main record is told of it: nothing where its family is read in place."""
    return {"swap": True} if swapped else {}


def plans_of(connection: Connection, job_id: str, *, completed_only: bool = False) -> list[Plan]:
    """Return the planning batches of a job, by wave and record."""
    waves = connection.execute(
        select(wave_coordination.c.wave_number, wave_coordination.c.records).where(
            wave_coordination.c.job_id == job_id, wave_coordination.c.kind == WaveKind.MAIN.value
        )
    )
    names = [plan_batch_id(row.wave_number, record) for row in waves for record in msgspec.json.decode(row.records)]
    plans = (
        select(wave_batches.c.wave_number, wave_batches.c.record, wave_batches.c.spec)
        .where(
            wave_batches.c.job_id == job_id,
            wave_batches.c.batch_id.in_(names),
            wave_batches.c.kind == BatchKind.PLAN.value,
        )
        .order_by(wave_batches.c.wave_number, wave_batches.c.record)
    )
    if completed_only:
        plans = plans.where(wave_batches.c.status == BatchStatus.COMPLETED.value)
    return [Plan(row.wave_number, row.record, msgspec.json.decode(row.spec)) for row in connection.execute(plans)]
