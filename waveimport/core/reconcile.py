"""Compare what was counted at the source with what landed.

A main record is counted when it is planned. If as many rows landed, it is reconciled. Else it is counted once more: a
source that is being written to has as many rows as landed at some moment between the two counts, or as many more or
fewer as rows have come and gone meanwhile. A derived record is not counted: its rows are read by their parents, each of
which has landed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from waveimport.core.progress import WaveProgress


@dataclass(frozen=True, slots=True)
class UnsettledCount:
    """A record of which other than the planned number of rows landed."""

    record: str
    planned: int
    landed: int


def unsettled_counts(wave: WaveProgress, carried: Mapping[str, int]) -> Iterator[UnsettledCount]:
    """Yield the records of a completed wave that must be counted once more. `carried` are the rows, by record, that
    came by the debts of earlier jobs, which no count of this one has."""
    for record, planned in wave.expected.items():
        landed = wave.rows.get(record, 0) - carried.get(record, 0)
        if landed != planned:
            yield UnsettledCount(record, planned, landed)


def distance(found: UnsettledCount, counted_again: int) -> int:
    """Return how many rows lie between what landed and the two counts; 0 where it lies between them."""
    low, high = sorted((found.planned, counted_again))
    return max(low - found.landed, found.landed - high, 0)


def verdict(found: UnsettledCount, counted_again: int, changed: int = 0) -> str | None:
    """Return in words what is wrong, None when the rows that landed lie between the two counts, or no further beside
    them than rows have `changed` at the source since the first (those that were deleted included)."""
    if distance(found, counted_again) <= changed:
        return None
    low, high = sorted((found.planned, counted_again))
    counts = f"{found.planned:,}" if low == high else f"{found.planned:,}, then {counted_again:,}"
    return f"`{found.record}`: {counts} rows counted at the source, {found.landed:,} landed"
