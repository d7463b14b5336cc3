"""Compare what was counted at the source with what is here.

A main record is counted when it is planned. If as many rows landed, it is reconciled. Else it is counted once more: a
source that is being written to has as many rows as landed at some moment between the two counts, or as many more or
fewer as rows have come and gone meanwhile.

A derived record is counted once, when the job is completed: over the rows of the parents that its family has. What
landed then differs by no more than the rows that have changed since the job began to read them, those of parents that
have changed, and those of parents that are gone.

An incremental job compares the rows that it read by their changes. What no change shows (a line that went without its
order, a row whose cursor was moved back) is found by comparing whole tables, once a week.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

RECONCILE_EVERY_DAYS: Final = 7
"""How old a comparison of whole tables may be before an incremental job makes the next."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One record: how many rows are `here`, and what was `counted` at the source, in the order it was asked (of a main
    record when it was planned, and again). `whole` when the rows are all of the table, else those that the job
    landed."""

    record: str
    here: int
    counted: tuple[int, ...]
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """From when the job began to read a record until it was counted for the last time; "YYYY-MM-DD HH:MM:SS", UTC."""

    since: str
    until: str

    def __str__(self) -> str:
        day, _, time = self.until.partition(" ")
        return f"from {self.since} to {time if self.since.startswith(day) else self.until} UTC"


def distance(found: Comparison) -> int:
    """Return how many rows lie between what is here and what was counted; 0 where it lies between two counts."""
    return max(min(found.counted) - found.here, found.here - max(found.counted), 0)


def changed_meanwhile(found: Comparison, changes: Iterator[int]) -> int:
    """Return how many rows have come, gone or changed, as far as a difference needs them: `changes` are asked of the
    source one after the other, and of a large account they are long queries."""
    changed = 0
    while distance(found) > changed and (more := next(changes, None)) is not None:
        changed += more
    return changed


def verdict(found: Comparison, window: Window, changed: int = 0) -> str | None:
    """Return in words what is wrong, None when what is here lies no further beside the counts than rows have `changed`
    at the source meanwhile (those that were deleted included)."""
    if distance(found) <= changed:
        return None
    first, last = found.counted[0], found.counted[-1]
    counts = f"{first:,}" if first == last else f"{first:,}, then {last:,}"
    here = f"{found.here:,} {'in the table' if found.whole else 'landed'}"
    return f"`{found.record}`: {counts} rows counted at the source, {here}, while {changed:,} changed {window}"


def covers(past: Collection[str] | None, now: Collection[str] | None) -> bool:
    """Whether a job of the records named in `past` (None for all) says anything of a job of those in `now`."""
    return past is None or (now is not None and set(past) == set(now))
