"""Failed batches as a person needs them: what each covers, the query that a next attempt would send, the error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from waveimport.core.settings import RecordSettings, Settings
from waveimport.core.waves import BatchKind
from waveimport.core.wide import parts_of
from waveimport.netsuite.suiteql import bounds_query, page_query
from waveimport.store.batches import failed_batches
from waveimport.store.transactions import Database

PARENTS_NAMED = 5


@dataclass(frozen=True, slots=True)
class FailedBatch:
    """One failed batch. `query` is None where none can be told, and `no_query` then says why."""

    batch_id: str
    wave_number: int
    record: str
    kind: str
    covers: str
    query: str | None
    no_query: str | None
    attempt: int
    tries: int
    error: str
    skip_reason: str | None
    carried_by: str | None
    carried_as: str | None


def read_failures(database: Database, settings: Settings | None, job_id: str) -> list[FailedBatch]:
    """Return the failed batches of a job by wave and id; their queries are those of the configuration of today, None
    where there is none at hand."""
    return [_describe(settings, row) for row in database.run(lambda connection: failed_batches(connection, job_id))]


def _describe(settings: Settings | None, row: Mapping[str, Any]) -> FailedBatch:
    spec: Mapping[str, Any] = row["spec"]
    after: Sequence[Any] | None = row["resume_key"]
    records = () if settings is None else settings.records
    record = next((record for record in records if record.name == row["record"]), None)
    query, why_none = None, None
    if settings is None:
        why_none = "none: no configuration is at hand"
    elif record is None:
        why_none = f"the record `{row['record']}` is configured no more"
    elif row["kind"] == BatchKind.PLAN and "count" in spec:
        why_none = "none: the source was asked, and its answer is kept"
    else:
        query, why_none = _query(record, row["kind"], spec, after)
    return FailedBatch(
        batch_id=row["batch_id"],
        wave_number=row["wave_number"],
        record=row["record"],
        kind=row["kind"],
        covers=_covers(record, row["kind"], spec, after),
        query=query,
        no_query=why_none,
        attempt=row["attempt"],
        tries=row["tries"],
        error=row["error"] or "",
        skip_reason=row["skip_reason"],
        carried_by=row["carried_by"],
        carried_as=row["carried_as"],
    )


def _query(
    record: RecordSettings, kind: str, spec: Mapping[str, Any], after: Sequence[Any] | None
) -> tuple[str | None, str | None]:
    """Return (query, None), or (None, why there is none) where the key has changed since the batch was made."""
    if kind == BatchKind.PLAN:
        return bounds_query(record), None
    try:
        query = page_query(
            parts_of(record)[0],
            lower=spec.get("lower"),
            upper=spec.get("upper"),
            after=None if after is None else tuple(after),
            parents=spec.get("parents"),
        )
    except ValueError as error:
        return None, f"the configuration of today does not fit this batch: {error}"
    return query, None


def _covers(record: RecordSettings | None, kind: str, spec: Mapping[str, Any], after: Sequence[Any] | None) -> str:
    """Say what a batch covers, and where it had come to: `500 < id <= 1000, landed up to id 700`."""
    key = ", ".join(record.key) if record is not None else "key"
    if kind == BatchKind.PLAN:
        return "the bounds and the count of the record"
    parents = spec.get("parents")
    if isinstance(parents, list):
        parent_key = (record.parent_key if record is not None else None) or "parent"
        named = ", ".join(str(parent) for parent in parents[:PARENTS_NAMED])
        more = f" and {len(parents) - PARENTS_NAMED} more" if len(parents) > PARENTS_NAMED else ""
        text = f"{parent_key} in {named}{more}"
    else:
        first = record.key[0] if record is not None else "key"
        lower, upper = spec.get("lower"), spec.get("upper")
        match lower, upper:
            case None, None:
                text = "every key"
            case None, _:
                text = f"{first} <= {upper}"
            case _, None:
                text = f"{first} > {lower}"
            case _:
                text = f"{lower} < {first} <= {upper}"
    return text if after is None else f"{text}, landed up to {key} {', '.join(str(part) for part in after)}"
