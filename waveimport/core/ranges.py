"""Bounds and counts into batches; landed parents into derived batches.

Ranges split the first key column, an integer, which at the source may be negative and sparse. The first range is
open below and the last open above, so that a row written while the job is planned falls into one of them and no key
lies outside. Ranges need not hold equally many rows: a batch pages by keyset inside its own, and one that turns out
heavy hands the far part of its range to a sibling.
"""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

MAX_BATCH_ID = 191
"""Characters of a batch id: the widest key that every MySQL row format can index in utf8mb4."""


@dataclass(frozen=True, slots=True)
class KeyRange:
    """Keys k with lower < k <= upper; None leaves that side open."""

    lower: int | None
    upper: int | None


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the source said of a record: how many rows, and the lowest and highest key (None where it is empty or
    the key is no integer)."""

    count: int
    lowest: int | None
    highest: int | None


def range_count(bounds: Bounds, batch_size: int) -> int:
    """Return how many ranges `split` makes: at least one, also for an empty table (a row may come meanwhile)."""
    if bounds.lowest is None or bounds.highest is None:
        return 1
    span = bounds.highest - bounds.lowest + 1
    return max(1, min(-(-bounds.count // batch_size), span))


def split(bounds: Bounds, batch_size: int, start: int = 0) -> Iterator[tuple[int, KeyRange]]:
    """Yield (sequence number from 0, range), in key order, from number `start` on.

    The ranges cover every integer exactly once. The same bounds and batch size give the same ranges, so that
    planning which was cut off goes on with the next number.
    """
    count = range_count(bounds, batch_size)
    if bounds.lowest is None or bounds.highest is None:
        if start == 0:
            yield 0, KeyRange(None, None)
        return
    span = bounds.highest - bounds.lowest + 1
    for number in range(start, count):
        lower = None if number == 0 else bounds.lowest - 1 + span * number // count
        upper = None if number == count - 1 else bounds.lowest - 1 + span * (number + 1) // count
        yield number, KeyRange(lower, upper)


def split_rest(after: int, upper: int | None, highest: int | None, remaining: int, batch_size: int) -> int | None:
    """Return the key at which a heavy range is to be cut, or None if it is not heavy enough.

    `after` is the last key landed, `remaining` the rows the source still counts in the range, `highest` the highest
    key known of the record, for a range that is open above. The batch keeps keys up to the answer; a sibling gets
    the rest.
    """
    if remaining <= 2 * batch_size:
        return None
    end = upper if upper is not None else highest
    if end is None or end - after < 2:
        return None
    return after + (end - after) // 2


def main_batch_id(wave_number: int, record: str, number: int) -> str:
    """Return the id of a main batch, `<wave>/<record>/<number>`; the number is padded so that ids sort by key."""
    return _fit(f"{wave_number}/{record}/{number:07d}")


def plan_batch_id(wave_number: int, record: str) -> str:
    """Return the id of the batch that plans a record."""
    return _fit(f"{wave_number}/{record}/plan")


def sweep_batch_id(wave_number: int, record: str, reads: str) -> str:
    """Return the id of a batch of an incremental job that reads something else than rows: what was deleted, say."""
    return _fit(f"{wave_number}/{record}/{reads}")


DEBT_PART = "/debt-"
"""What the id of a batch that is carried for an earlier job has in it, and the ids of what it makes."""


def debt_batch_id(wave_number: int, record: str, number: int) -> str:
    """Return the id of a batch that does again what failed in an earlier job; numbered from 0 in its wave."""
    return _fit(f"{wave_number}/{record}{DEBT_PART}{number:04d}")


def derived_batch_id(parent_batch_id: str, record: str, first_parent: int | str) -> str:
    """Return the id of a derived batch: what it comes from and its first parent, so that it can be made only once.

    A parent that is a text is told by a hash: ids stand in logs and support bundles, which hold no value of a row.
    """
    told = first_parent
    if isinstance(first_parent, str):
        told = hashlib.sha256(first_parent.encode()).hexdigest()[:16]
    return _fit(f"{parent_batch_id}/{record}/{told}")


def sibling_batch_id(batch_id: str, number: int) -> str:
    """Return the id of the sibling that takes the far part of a heavy range at its `number`-th cut, from 1."""
    return _fit(f"{batch_id}+{number}")


def chunks(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    """Yield `items` in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _fit(batch_id: str) -> str:
    """Return the id, its middle replaced by a hash where it cannot stand as it is: still deterministic.

    That is where it is too long, not ASCII, or ends in a blank, which MySQL's `ascii_bin` pads away: the children of
    the text keys `a` and `a ` would be one batch.
    """
    if len(batch_id) <= MAX_BATCH_ID and batch_id.isascii() and not batch_id.endswith(" "):
        return batch_id
    ascii_id = batch_id.encode("ascii", "replace").decode().rstrip(" ")
    digest = hashlib.sha256(batch_id.encode("utf-8", "surrogatepass")).hexdigest()[:24]
    return f"{ascii_id[:80]}~{digest}~{ascii_id[-80:]}"
