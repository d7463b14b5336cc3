"""Time as a width: per cent from left to right, with long standstills folded, and round moments to label."""

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

STEPS = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 1209600, 2592000, 7776000),
)
"""Seconds between labels, or in a bucket, that people count in."""
FOLDED_FROM_SECONDS = 60.0
FOLD_WIDTH = 7.0
LABEL_APART = 9.0
"""Per cent of the width that the label of a moment needs."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of the axis, in seconds from its origin and in per cent. A `folded` one is a standstill, out of scale."""

    begin: float
    end: float
    left: float
    right: float
    folded: bool = False


@dataclass(frozen=True, slots=True)
class Tick:
    """A moment with a label; `anchor` is where the label is held: start, middle or end."""

    left: float
    label: str
    anchor: str


@dataclass(frozen=True, slots=True)
class Bucket:
    """A part of the time to count in: seconds from the origin, and where it is drawn."""

    begin: float
    seconds: float
    left: float
    width: float


@dataclass(frozen=True, slots=True)
class TimeAxis:
    """The time from `origin` on, in stretches that follow one another."""

    origin: datetime
    stretches: tuple[Stretch, ...]

    @property
    def end(self) -> datetime:
        """The last moment."""
        return self.origin + timedelta(seconds=self.stretches[-1].end)

    @property
    def folds(self) -> tuple[Stretch, ...]:
        """The standstills."""
        return tuple(one for one in self.stretches if one.folded)

    def place(self, moment: datetime) -> float:
        """Return where a moment is, in per cent; what is outside is at the edge."""
        seconds = (moment - self.origin).total_seconds()
        for one in self.stretches:
            if seconds <= one.end:
                part = 0.0 if one.end == one.begin else (max(seconds, one.begin) - one.begin) / (one.end - one.begin)
                return round(one.left + part * (one.right - one.left), 2)
        return 100.0

    def buckets(self, most: int) -> list[Bucket]:
        """Return the axis in buckets of one round length, at most about `most`; standstills have none."""
        live = [one for one in self.stretches if not one.folded]
        total = sum(one.end - one.begin for one in live)
        seconds = _step(total / most)
        found = []
        for one in live:
            begin = one.begin
            while begin < one.end - 1e-9 or (begin == one.begin == one.end):
                end = min(begin + seconds, one.end)
                scale = (one.right - one.left) / ((one.end - one.begin) or 1.0)
                left = one.left + (begin - one.begin) * scale
                found.append(Bucket(begin, seconds, round(left, 2), round(max(0.05, (end - begin) * scale), 2)))
                begin += seconds
        return found

    def bucket_of(self, moment: datetime, buckets: list[Bucket]) -> int:
        """Return which bucket a moment falls into: the one before it where it is in none."""
        seconds = (moment - self.origin).total_seconds()
        return max(0, bisect_right(buckets, seconds, key=lambda one: one.begin) - 1)

    def ticks(self, most: int = 8) -> list[Tick]:
        """Return round moments whose labels do not meet, nor that of a standstill, which is in its middle."""
        total = sum(one.end - one.begin for one in self.stretches if not one.folded)
        step = _step(total / most)
        days = self.origin.date() != self.end.date()
        midnight = self.origin.replace(hour=0, minute=0, second=0, microsecond=0)
        offset = (self.origin - midnight).total_seconds()
        found: list[Tick] = []
        middles = [(one.left + one.right) / 2 for one in self.folds]
        for one in (one for one in self.stretches if not one.folded):
            count = int((offset + one.begin) // step)
            while count * step - offset <= one.end + 1e-9:
                seconds = count * step - offset
                count += 1
                if seconds < one.begin - 1e-9:
                    continue
                moment = midnight + timedelta(seconds=(count - 1) * step)
                left = self.place(moment)
                if found and left - found[-1].left < LABEL_APART:
                    continue
                if any(abs(left - middle) < LABEL_APART for middle in middles):
                    continue
                anchor = "start" if left < LABEL_APART / 2 else "end" if left > 100 - LABEL_APART / 2 else "middle"
                found.append(Tick(left, _label(moment, step, days), anchor))
        return found


def time_axis(moments: Iterable[datetime], end: datetime) -> TimeAxis:
    """Return the axis from the first of `moments` to `end`.

    Standstills, in which none of them lies, are folded where they would take more than half of the width.
    """
    marks = sorted({*moments, end})
    origin, last = marks[0], max(end, marks[-1])
    total = max((last - origin).total_seconds(), 0.001)
    at = [(mark - origin).total_seconds() for mark in marks]
    gaps = [(before, after) for before, after in pairwise(at) if after - before > max(FOLDED_FROM_SECONDS, total / 20)]
    still = sum(after - before for before, after in gaps)
    if still <= total / 2:
        return TimeAxis(origin, (Stretch(0.0, total, 0.0, 100.0),))
    # A little of a standstill is left on both sides in scale, or its edges would hide the last sign before it.
    margin = max(total - still, 1.0) / 50
    gaps = [(before + margin, after - margin) for before, after in gaps]
    width = min(FOLD_WIDTH, 50.0 / len(gaps))
    live = total - sum(after - before for before, after in gaps)
    scale = (100.0 - width * len(gaps)) / live
    stretches: list[Stretch] = []
    begin, left = 0.0, 0.0
    for before, after in gaps:
        right = left + (before - begin) * scale
        stretches += [Stretch(begin, before, left, right), Stretch(before, after, right, right + width, folded=True)]
        begin, left = after, right + width
    stretches.append(Stretch(begin, total, left, 100.0))
    return TimeAxis(origin, tuple(stretches))


def _step(least: float) -> float:
    return next((step for step in STEPS if step >= least), STEPS[-1])


def _label(moment: datetime, step: float, days: bool) -> str:
    if step >= 86400:
        return f"{moment.day} {moment:%b}"
    clock = f"{moment:%H:%M}" if step >= 60 else f"{moment:%H:%M:%S}"
    if step < 1:
        clock += f".{moment.microsecond // 10000:02d}" if step < 0.1 else f".{moment.microsecond // 100000}"
    return f"{moment.day} {moment:%b} {clock}" if days else clock
