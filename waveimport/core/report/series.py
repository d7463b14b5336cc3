"""What goes up and down with time: rows a second, batches at work against the slots, how long batches took."""

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from waveimport.core.report.axis import TimeAxis
from waveimport.core.report.gantt import area
from waveimport.core.report.history import BatchPast, Noted, Span
from waveimport.core.report.words import ceiling, duration, number
from waveimport.core.waves import BatchStatus

RATE_BUCKETS = 120
TIME_BUCKETS = 60
NO_SLOTS = 100.0
"""The height of none."""
_LIMIT = re.compile(r"(\d+) of (\d+) requests may be in flight")


@dataclass(frozen=True, slots=True)
class Column:
    """A value of a bucket, `height` in per cent of the chart's top."""

    left: float
    width: float
    height: float
    title: str


@dataclass(frozen=True, slots=True)
class Rate:
    """Rows a second: columns, the number at the top, the mean over the whole time and its height, seconds a column."""

    columns: tuple[Column, ...]
    top: float
    peak: float
    mean: float
    mean_height: float
    bucket_seconds: float


def rate(axis: TimeAxis, batches: Iterable[BatchPast], found: dict[str, Span], mean: float) -> Rate | None:
    """Count rows where their batch ended, or landed last; None where none landed."""
    buckets = axis.buckets(RATE_BUCKETS)
    landed: dict[int, int] = defaultdict(int)
    for batch in batches:
        if batch.rows:
            span = found.get(batch.batch_id)
            at = span.ended if span is not None and span.ended is not None else batch.updated_at
            landed[axis.bucket_of(at, buckets)] += batch.rows
    if not landed:
        return None
    seconds = buckets[0].seconds
    peak = max(landed.values()) / seconds
    top = ceiling(peak)
    columns = tuple(
        Column(
            buckets[at].left,
            buckets[at].width,
            round(100 * rows / seconds / top, 1),
            f"{number(rows / seconds)} rows/s: {number(rows)} rows in {duration(seconds)}",
        )
        for at, rows in sorted(landed.items())
    )
    return Rate(columns, top, peak, mean, round(min(100.0, 100 * mean / top), 1), seconds)


@dataclass(frozen=True, slots=True)
class Cut:
    """The limit of requests as a run told it: at which place, how many of how many, why."""

    left: float
    allowed: int
    configured: int
    at: datetime
    note: str


@dataclass(frozen=True, slots=True)
class Slots:
    """Batches at work (`used`) against the slots there were (`allowed`): paths in a box of 1000 by 100."""

    used: str
    allowed: str
    top: int
    peak: int
    cuts: tuple[Cut, ...]


def slots(
    axis: TimeAxis, entries: Sequence[Noted], ends: Sequence[datetime], found: Collection[Span], now: datetime
) -> Slots | None:
    """Draw how many slots passes saw, and how many batches were at work: by their claims where all are on record, else
    as passes saw it. None behind the `ends` of runs.

    None where no pass is on record.
    """
    passes = [
        (at, one.slots, one.in_use)
        for one in entries
        if one.slots is not None and one.in_use is not None
        for at in (one.at, one.again_at)
        if at is not None
    ]
    if not passes:
        return None
    if all(one.batch.claimed_at is not None for one in found):
        seen = sorted((at, allowed) for at, allowed, _ in passes)
        work = list(_at_work(found, now))
        passes = [(at, _then(seen, at, seen[0][1]), used) for at, used in work]
        passes += [(at, allowed, _then(work, at, 0)) for at, allowed in seen]
    top = max(max(allowed, used) for _, allowed, used in passes)
    moments = [*passes, *((ended, 0, 0) for ended in ends)]
    # Of passes that fall on one place the busiest is kept: a page has a thousand, a journal may have a million.
    thin: dict[float, tuple[int, int]] = {}
    for at, allowed, used in sorted(moments, key=lambda one: one[0]):
        left = round(axis.place(at), 1)
        before = thin.get(left)
        ends_here = (allowed, used) == (0, 0)
        most = (allowed, used) if before is None else (max(allowed, before[0]), max(used, before[1]))
        thin[left] = (0, 0) if ends_here else most
    places = sorted(thin.items())
    cuts = []
    for entry in entries:
        told = _LIMIT.match(entry.note or "") if entry.event == "limit" else None
        if told:
            cuts.append(Cut(axis.place(entry.at), int(told[1]), int(told[2]), entry.at, entry.note or ""))
    return Slots(
        used=area([(left * 10, 100 - 100 * used / top) for left, (_, used) in places], right=1000.0),
        allowed=_line([(left * 10, 100 - 100 * allowed / top) for left, (allowed, _) in places]),
        top=top,
        peak=max(used for _, _, used in passes),
        cuts=tuple(cuts),
    )


def _at_work(found: Iterable[Span], now: datetime) -> Iterator[tuple[datetime, int]]:
    """Yield each moment at which a batch begins or ends, and how many are at work from there on."""
    steps = sorted([(one.began, 1) for one in found] + [(one.ended or now, -1) for one in found])
    count = 0
    for at, step in steps:
        count += step
        yield at, count


def _then(steps: Sequence[tuple[datetime, int]], at: datetime, before: int) -> int:
    """Return what a line of steps is at a moment, `before` ahead of its first."""
    number = bisect_right(steps, at, key=lambda one: one[0])
    return steps[number - 1][1] if number else before


def _line(points: Sequence[tuple[float, float]]) -> str:
    parts = [f"M{points[0][0]:g} {points[0][1]:.3g}"]
    for (_, before), (left, height) in pairwise(points):
        # Where there are no slots there is no run, and no line.
        parts.append(f"M{left:g} {height:.3g}" if before == NO_SLOTS else f"H{left:g}V{height:.3g}")
    return "".join(parts) + ("" if points[-1][1] == NO_SLOTS else "H1000")


@dataclass(frozen=True, slots=True)
class Took:
    """How long the batches of a bucket took: heights, in per cent of the top, of half of them, of 95 in 100, of all."""

    left: float
    half: float
    most: float
    longest: float
    title: str


@dataclass(frozen=True, slots=True)
class Times:
    """How long batches took at most, by when they ended."""

    points: tuple[Took, ...]
    top: float
    half: float
    most: float
    longest: float
    count: int


def times(axis: TimeAxis, found: Iterable[Span], now: datetime) -> Times | None:
    """Return how long completed batches took; None where none is."""
    done = (one for one in found if one.ended is not None and one.batch.status is BatchStatus.COMPLETED)
    return _spread(axis, ((one.ended or now, one.seconds(now)) for one in done))


def latency(axis: TimeAxis, found: Iterable[Span], now: datetime) -> Times | None:
    """Return how long the requests of batches took, the mean of each batch; None where none is on record."""
    asked = (one for one in found if one.batch.requests)
    return _spread(axis, ((one.ended or now, one.batch.request_seconds / one.batch.requests) for one in asked))


def _spread(axis: TimeAxis, ended: Iterable[tuple[datetime, float]]) -> Times | None:
    buckets = axis.buckets(TIME_BUCKETS)
    took: dict[int, list[float]] = defaultdict(list)
    for moment, seconds in ended:
        took[axis.bucket_of(moment, buckets)].append(seconds)
    if not took:
        return None
    everything = sorted(seconds for members in took.values() for seconds in members)
    top = ceiling(everything[-1])
    points = []
    for at, members in sorted(took.items()):
        members.sort()
        half, most, longest = _share(members, 0.5), _share(members, 0.95), members[-1]
        title = f"{len(members)} batches: half within {duration(half)}, 95 % within {duration(most)}, all within"
        points.append(
            Took(
                left=round(buckets[at].left + buckets[at].width / 2, 2),
                half=round(100 * half / top, 1),
                most=round(100 * most / top, 1),
                longest=round(100 * longest / top, 1),
                title=f"{title} {duration(longest)}" if len(members) > 1 else f"one batch: {duration(longest)}",
            )
        )
    return Times(tuple(points), top, _share(everything, 0.5), _share(everything, 0.95), everything[-1], len(everything))


def _share(ordered: Sequence[float], part: float) -> float:
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]
