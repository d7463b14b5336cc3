"""Waves as bands over time: batches as bars while they can be told apart, else as counts of open and ended ones."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Final

from waveimport.core.report.axis import TimeAxis
from waveimport.core.report.history import BatchEvent, BatchPast, Span
from waveimport.core.report.words import duration, number
from waveimport.core.waves import LEASED, BatchStatus

BARS_MOST = 300
"""Batches of one wave that are drawn one by one."""
BARS_OF_A_JOB = 1500
COLUMNS = 160
MARK_WIDTH = 1.5
"""Per cent in which marks of one kind become one."""

MARKS: Final[Mapping[str, tuple[str, str]]] = {
    "retry": ("refused or handed back, tried again", "retries"),
    "lost": ("lost with its worker, put back", "lost"),
    "failed": ("failed for good", "failures"),
    "note": ("split, kept, skipped or not counted", "notes"),
}
"""Kinds of marks: what they mean, and the short name of many."""
_KINDS: Final = {
    "refused": "retry",
    "handed_back": "retry",
    "requeued": "lost",
    "worker_lost": "failed",
    "failed": "failed",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A batch as a bar in a lane of its wave. `look` is done, failed, skipped or work."""

    left: float
    width: float
    lane: int
    look: str
    title: str


@dataclass(frozen=True, slots=True)
class Mark:
    """Something out of the ordinary, or as much of it as meets at one place."""

    left: float
    kind: str
    row: int
    count: int
    title: str


@dataclass(frozen=True, slots=True)
class Column:
    """Batches that ended within a bucket, in per cent of the highest one; `bad` of them failed."""

    left: float
    width: float
    height: float
    bad: float
    title: str


@dataclass(frozen=True, slots=True)
class Open:
    """How many batches were made and had not ended: a path in a box of 1000 by 100, whose top is `most`."""

    path: str
    most: int


@dataclass(frozen=True, slots=True)
class Band:
    """The band of a wave: bars in lanes, or columns; marks in rows above them; `open` below or behind."""

    wave_number: int
    bars: tuple[Bar, ...] = ()
    lanes: int = 0
    columns: tuple[Column, ...] = ()
    column_most: int = 0
    column_seconds: float = 0.0
    marks: tuple[Mark, ...] = ()
    mark_rows: int = 0
    open: Open | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def bands(
    axis: TimeAxis,
    waves: Iterable[int],
    batches: Sequence[BatchPast],
    events: Sequence[BatchEvent],
    found: Mapping[str, Span],
    now: datetime,
) -> list[Band]:
    """Return the band of each wave, in order."""
    members: dict[int, list[BatchPast]] = defaultdict(list)
    home: dict[str, int] = {}
    for batch in batches:
        members[batch.wave_number].append(batch)
        home[batch.batch_id] = batch.wave_number
    mine: dict[int, list[BatchEvent]] = defaultdict(list)
    for event in events:
        if event.batch_id in home:
            mine[home[event.batch_id]].append(event)
    as_bars = len(batches) <= BARS_OF_A_JOB
    drawn = []
    for wave in waves:
        here = [found[one.batch_id] for one in members[wave] if one.batch_id in found]
        marks, rows, counts = _marks(axis, mine[wave])
        band = Band(wave, marks=marks, mark_rows=rows, counts=counts, open=_open(axis, members[wave], here))
        if as_bars and len(members[wave]) <= BARS_MOST:
            bars, lanes = _bars(axis, here, now)
            drawn.append(replace(band, bars=bars, lanes=lanes))
        else:
            columns, most, seconds = _columns(axis, here)
            drawn.append(replace(band, columns=columns, column_most=most, column_seconds=seconds))
    return drawn


def _bars(axis: TimeAxis, here: Sequence[Span], now: datetime) -> tuple[tuple[Bar, ...], int]:
    free: list[int] = []
    busy: list[tuple[datetime, int]] = []
    lanes = 0
    bars = []
    for span in sorted(here, key=lambda one: (one.began, one.batch.batch_id)):
        while busy and busy[0][0] <= span.began:
            heapq.heappush(free, heapq.heappop(busy)[1])
        if free:
            lane = heapq.heappop(free)
        else:
            lane, lanes = lanes, lanes + 1
        end = span.ended or max(now, span.began)
        heapq.heappush(busy, (end, lane))
        left = axis.place(span.began)
        width = round(max(0.15, axis.place(end) - left), 2)
        bars.append(Bar(min(left, 99.85), width, lane, look_of(span.batch), _title(span, now)))
    return tuple(bars), lanes


def look_of(batch: BatchPast) -> str:
    """Return how a batch looks: done, failed, skipped, work or wait."""
    if batch.status is BatchStatus.FAILED:
        return "skipped" if batch.skipped else "failed"
    if batch.status is BatchStatus.COMPLETED:
        return "done"
    return "work" if batch.status in LEASED else "wait"


def _title(span: Span, now: datetime) -> str:
    batch = span.batch
    end = f"to {span.ended:%H:%M:%S}" if span.ended is not None else "and is at work"
    tries = f", claimed {batch.attempt} times" if batch.attempt > 1 else ""
    return (
        f"{batch.batch_id}: {batch.status}, {number(batch.rows)} rows, {span.began:%H:%M:%S} {end}"
        f" (at most {duration(span.seconds(now))}){tries}"
    )


def _columns(axis: TimeAxis, here: Sequence[Span]) -> tuple[tuple[Column, ...], int, float]:
    buckets = axis.buckets(COLUMNS)
    ended = Counter(axis.bucket_of(one.ended, buckets) for one in here if one.ended is not None)
    failed = Counter(
        axis.bucket_of(one.ended, buckets)
        for one in here
        if one.ended is not None and one.batch.status is BatchStatus.FAILED
    )
    most = max(ended.values(), default=1)
    columns = []
    for at, count in sorted(ended.items()):
        bad = f", {number(failed[at])} of them failed" if failed[at] else ""
        columns.append(
            Column(
                left=buckets[at].left,
                width=buckets[at].width,
                height=round(100 * count / most, 1),
                bad=round(100 * failed[at] / most, 1),
                title=f"{number(count)} batches ended in {duration(buckets[at].seconds)}{bad}",
            )
        )
    return tuple(columns), most, buckets[0].seconds


def _open(axis: TimeAxis, members: Sequence[BatchPast], here: Sequence[Span]) -> Open | None:
    """Draw how many batches were made and not ended; None where there was no more than one at any time."""
    ended = {one.batch.batch_id: one.ended for one in here}
    steps: Counter[float] = Counter()
    for batch in members:
        steps[axis.place(batch.created_at)] += 1
        end = ended.get(batch.batch_id)
        if end is not None:
            steps[axis.place(end)] -= 1
    heights: list[tuple[float, int]] = []
    level = most = 0
    for left, step in sorted(steps.items()):
        level += step
        most = max(most, level)
        heights.append((left, level))
    if most < 2:
        return None
    # A thousand places are as many as a page is wide; of those that fall together the last counts.
    thin = {round(left, 1): level for left, level in heights}
    points = [(left * 10, 100 - 100 * level / most) for left, level in sorted(thin.items())]
    return Open(area(points, right=1000.0), most)


def area(points: Sequence[tuple[float, float]], *, right: float) -> str:
    """Return the path of the area below steps: from each point its height holds to the next, the last to `right`."""
    if not points:
        return ""
    parts = [f"M{points[0][0]:g} 100V{points[0][1]:.3g}"]
    parts += [f"H{after[0]:g}V{after[1]:.3g}" for _, after in pairwise(points)]
    return "".join(parts) + f"H{right:g}V100Z"


def _marks(axis: TimeAxis, events: Sequence[BatchEvent]) -> tuple[tuple[Mark, ...], int, dict[str, int]]:
    at: dict[tuple[str, int], list[BatchEvent]] = defaultdict(list)
    counts: Counter[str] = Counter()
    for event in events:
        kind = _KINDS.get(event.event, "note")
        counts[kind] += 1
        at[kind, int(axis.place(event.at) / MARK_WIDTH)].append(event)
    rows = {kind: row for row, kind in enumerate(kind for kind in MARKS if counts[kind])}
    marks = []
    for (kind, _), met in sorted(at.items(), key=lambda item: (rows[item[0][0]], item[0][1])):
        first = met[0]
        title = f"{first.at:%H:%M:%S} {first.batch_id}: {first.event.replace('_', ' ')}"
        if first.detail:
            title += f": {first.detail[:160]}"
        if len(met) > 1:
            title = f"{len(met)} {MARKS[kind][1]}; the first {title}"
        left = sum(axis.place(one.at) for one in met) / len(met)
        marks.append(Mark(round(min(99.4, max(0.6, left)), 2), kind, rows[kind], len(met), title))
    return tuple(marks), len(rows), {kind: counts[kind] for kind in rows}
