"""What the coordination tables keep of a job's past, and when its batches can have begun at the earliest.

The last claim of a batch is recorded by tables of version 0003 and later. One that was claimed before that cannot have
been before it was made or put back, nor before the run that ended it had the lease, nor before a slot was free behind
the batches of its wave that go first; from there on it counts as at work. So its time is never told too short.
"""

import heapq
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from waveimport.core.waves import LEASED, BatchStatus

PUT_BACK = frozenset({"refused", "handed_back", "requeued"})
"""Events after which a batch is pending again."""
GAVE_UP = frozenset({"failed", "worker_lost"})
"""Events with which a batch has failed for good."""


@dataclass(frozen=True, slots=True)
class BatchPast:
    """A batch as its row has it. `updated_at` is when it ended, landed last, or was put back; `claimed_at` when it was
    claimed last, None where an older version claimed it. `requests` landed its pages, in `request_seconds` together."""

    batch_id: str
    wave_number: int
    record: str
    status: BatchStatus
    priority: int
    attempt: int
    tries: int
    lost: int
    rows: int
    created_at: datetime
    updated_at: datetime
    error: str | None
    skipped: bool = False
    claimed_at: datetime | None = None
    requests: int = 0
    request_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class BatchEvent:
    """What happened to a batch out of the ordinary."""

    batch_id: str
    at: datetime
    event: str
    attempt: int
    detail: str | None


@dataclass(frozen=True, slots=True)
class Noted:
    """An entry of the journal without its decision. A pass has `slots` and how many were `in_use` behind it; its
    situation was met last `again_at`, None where it never was again."""

    seq: int
    at: datetime
    event: str
    source: str
    token: int
    note: str | None
    slots: int | None = None
    in_use: int | None = None
    again_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A batch from its earliest possible beginning to its end, None while it is at work."""

    batch: BatchPast
    began: datetime
    ended: datetime | None

    def seconds(self, now: datetime) -> float:
        """How long the batch can have been at work at most."""
        return max(0.0, ((self.ended or now) - self.began).total_seconds())


def spans(
    batches: Iterable[BatchPast], events: Sequence[BatchEvent], slots: int, leases: Sequence[datetime] = ()
) -> dict[str, Span]:
    """Return, by id, when each batch that has ended or is at work did so, given at most `slots` at work at once.

    `leases` are when runs took the job, in order: what a run has at work it ends itself, or it is put back.
    """
    free_from: dict[str, datetime] = {}
    gave_up: dict[str, datetime] = {}
    for event in events:
        if event.event in PUT_BACK:
            free_from[event.batch_id] = event.at
        elif event.event in GAVE_UP:
            gave_up[event.batch_id] = event.at
    waves: dict[int, list[BatchPast]] = defaultdict(list)
    for batch in batches:
        if batch.status is not BatchStatus.PENDING:
            waves[batch.wave_number].append(batch)
    found: dict[str, Span] = {}
    for members in waves.values():
        # What is done with a failed batch later (it is carried, skipped) moves its row's time, not its end.
        ends = {
            batch.batch_id: None if batch.status in LEASED else gave_up.get(batch.batch_id, batch.updated_at)
            for batch in members
        }
        for batch in members:
            end = ends[batch.batch_id]
            run = len(leases) if end is None else bisect_left(leases, end)
            if run:
                taken = leases[run - 1]
                free_from[batch.batch_id] = max(taken, free_from.get(batch.batch_id, taken))
        unknown = [batch for batch in members if batch.claimed_at is None]
        began = _earliest(unknown, ends, free_from, max(1, slots)) if unknown else {}
        for batch in members:
            since = began[batch.batch_id] if batch.claimed_at is None else batch.claimed_at
            found[batch.batch_id] = Span(batch, since, ends[batch.batch_id])
    return found


def _earliest(
    members: Sequence[BatchPast],
    ends: Mapping[str, datetime | None],
    free_from: Mapping[str, datetime],
    slots: int,
) -> dict[str, datetime]:
    """Let the batches of one wave take the slots in the order in which they are claimed."""
    coming = sorted(
        ((max(one.created_at, free_from.get(one.batch_id, one.created_at)), one) for one in members),
        key=lambda pair: pair[0],
        reverse=True,
    )
    ready: list[tuple[int, str, datetime]] = []
    at_work: list[datetime] = []
    stay = 0
    began: dict[str, datetime] = {}
    clock = coming[-1][0]
    while coming or ready:
        while coming and coming[-1][0] <= clock:
            since, batch = coming.pop()
            heapq.heappush(ready, (batch.priority, batch.batch_id, since))
        while at_work and at_work[0] <= clock:
            heapq.heappop(at_work)
        while ready and len(at_work) + stay < slots:
            _, batch_id, since = heapq.heappop(ready)
            end = ends[batch_id]
            began[batch_id] = since if end is not None and end < clock else clock
            if end is None:
                stay += 1
            elif end > clock:
                heapq.heappush(at_work, end)
        steps = [*([coming[-1][0]] if coming else []), *at_work[:1]]
        if not steps:
            for _, batch_id, since in ready:
                began[batch_id] = since
            break
        clock = max(clock, min(steps))
    return began


@dataclass(frozen=True, slots=True)
class RunPast:
    """A run on the job: from when to when it gave signs, by whose trigger, how it ended. `took_over` says from whom."""

    token: int
    source: str
    owner: str
    began: datetime
    ended: datetime
    how: str
    took_over: str | None
    lost: bool = False
    at_work: bool = False


def runs(
    entries: Sequence[Noted], *, finished_at: datetime | None, lease_until: datetime | None, now: datetime
) -> list[RunPast]:
    """Return the runs on a job as its journal tells them; `lease_until` is when the lease of the last one ends."""
    taken = [entry for entry in entries if entry.event == "lease"]
    last_of: dict[int, Noted] = {entry.token: entry for entry in entries if entry.event != "cancel"}
    found = []
    for number, entry in enumerate(taken):
        owner, _, from_whom = (entry.note or "").removeprefix("taken by ").partition(" from ")
        last = last_of[entry.token]
        ended, how, lost, at_work = last.at, "gave the job back", False, False
        if last.event == "ended":
            how = last.note or how
        elif number + 1 < len(taken):
            lost = " from " in (taken[number + 1].note or "")
            how = "was lost; this is its last sign" if lost else how
        elif finished_at is not None:
            ended, how = max(last.at, finished_at), "ended with the job"
        elif lease_until is not None:
            lost, at_work = lease_until < now, lease_until >= now
            ended, how = (now, "is at work") if at_work else (last.at, "let its lease lapse; this is its last sign")
        found.append(RunPast(entry.token, entry.source, owner, entry.at, ended, how, from_whom or None, lost, at_work))
    return found
