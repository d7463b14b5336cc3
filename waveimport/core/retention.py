"""Which old jobs nothing depends on any more.

What the next run does is decided by jobs that have ended: their watermarks, their debts, what was compared and what
was written off. A job may go only if every such question has the same answer without it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from waveimport.core.waves import UNFINISHED_JOB, JobStatus


class Reason(Enum):
    """Why a job is kept: its name in JSON, and the words that follow "kept N:"."""

    UNFINISHED = "unfinished", "unfinished"
    NEWEST = "newest", "the newest, by which the next run knows what to do"
    RECENT = "recent", "recent enough, by what was asked for"
    COMPLETED = "completed", "the newest completed, or the profile would look as if it had never been imported"
    WATERMARK = "watermark", "a watermark names it: without its configuration the next run would read all again"
    OWED = "owed", "failed batches of it are owed"
    WRITTEN_OFF = "written_off", "batches of it were written off and not read since"
    COMPARED = "compared", "what it found decides when whole tables are compared again"
    CARRIER = "carrier", "it carries, or has carried, failed batches of a job that is kept"
    FULL_READ = "full_read", "it read in full what was written off in a job that is kept"
    LANDING = "landing", "it ended so lately that a page of it may still be on its way to the destination"

    def __init__(self, word: str, says: str) -> None:
        self.word = word
        self.says = says


@dataclass(frozen=True, slots=True)
class Past:
    """A job of the profile. `ended_seconds_ago` is None while it is unfinished; `held` says that a lease stands on it;
    `reconciled_seconds_ago` is None where it found no whole tables equal within the week; `uncounted` that within the
    last day the source would not count for it; `condemned` that an earlier deletion of it was cut short."""

    job_id: str
    status: JobStatus
    created_at: datetime
    selection: frozenset[str] | None = None
    ended_seconds_ago: float | None = None
    held: bool = False
    reconciled_seconds_ago: float | None = None
    uncounted: bool = False
    condemned: bool = False


@dataclass(frozen=True, slots=True)
class History:
    """The jobs of a profile, the newest first, and what hangs on them.

    `watermarks` and `owing` are job ids; `carried` are pairs (job that failed, job that carries); `skipped` are pairs
    (job, record) of batches that were written off; `full_reads` has, by record, the newest completed job that read all
    of its family.
    """

    jobs: Sequence[Past]
    watermarks: Collection[str] = ()
    owing: Collection[str] = ()
    carried: Collection[tuple[str, str]] = ()
    skipped: Collection[tuple[str, str]] = ()
    full_reads: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Retention:
    """What is to go, the oldest first, so that no job goes before one whose batches it carries; and why what else is
    old enough stays. A job is named under its first reason, in the order of Reason."""

    delete: tuple[str, ...]
    kept: Mapping[Reason, tuple[str, ...]]


def retention(
    history: History, *, keep: int | None, older_than_seconds: float | None, landing_seconds: float = 0.0
) -> Retention:
    """Return which jobs may be deleted: those that have ended, beyond the newest `keep` of them and, where it is given,
    ended `older_than_seconds` ago or longer, and that nothing depends on.

    `landing_seconds` is how long a page of a job that has ended may still be on its way to a destination of its own.
    """
    alive = [job for job in history.jobs if not job.condemned]
    why: dict[str, Reason] = {}
    for reason, found in (
        (Reason.UNFINISHED, [job.job_id for job in alive if job.status in UNFINISHED_JOB]),
        (Reason.NEWEST, [job.job_id for job in alive[:1]]),
        (Reason.RECENT, _recent(alive, keep, older_than_seconds)),
        *_needed(alive, history),
        (Reason.LANDING, [job.job_id for job in alive if (job.ended_seconds_ago or 0.0) < landing_seconds]),
    ):
        for job_id in found:
            why.setdefault(job_id, reason)
    condemned = {job.job_id for job in history.jobs if job.condemned}
    _close(why, history, condemned)
    return _retention(history.jobs, why)


def journals(history: History, *, keep: int | None, older_than_seconds: float | None) -> Retention:
    """Return of which jobs the journal and the events may be deleted, the jobs themselves staying."""
    alive = [job for job in history.jobs if not job.condemned]
    why: dict[str, Reason] = {}
    for reason, found in (
        (Reason.UNFINISHED, [job.job_id for job in alive if job.status in UNFINISHED_JOB]),
        (Reason.NEWEST, [job.job_id for job in alive[:1]]),
        (Reason.RECENT, _recent(alive, keep, older_than_seconds)),
        (Reason.COMPARED, [job.job_id for job in alive if job.uncounted]),
    ):
        for job_id in found:
            why.setdefault(job_id, reason)
    return _retention(alive, why)


def _retention(jobs: Sequence[Past], why: Mapping[str, Reason]) -> Retention:
    kept = {reason: tuple(job.job_id for job in jobs if why.get(job.job_id) is reason) for reason in Reason}
    return Retention(
        delete=tuple(job.job_id for job in reversed(jobs) if job.job_id not in why),
        kept={reason: job_ids for reason, job_ids in kept.items() if job_ids},
    )


def _recent(alive: Sequence[Past], keep: int | None, older_than_seconds: float | None) -> list[str]:
    ended = [job for job in alive if job.status not in UNFINISHED_JOB]
    found = [job.job_id for job in ended[: keep or 0]]
    if older_than_seconds is not None:
        found += [job.job_id for job in ended if (job.ended_seconds_ago or 0.0) < older_than_seconds]
    return found


def _needed(alive: Sequence[Past], history: History) -> list[tuple[Reason, list[str]]]:
    """Return what the next run asks of jobs, each by itself."""
    completed = [job for job in alive if job.status is JobStatus.COMPLETED]
    # A job that is comparing asks what the others before it have found.
    before = [job for job in completed if not (job.held and job is alive[0])]
    return [
        (Reason.COMPLETED, [job.job_id for job in (*completed[:1], *before[:1])]),
        (Reason.WATERMARK, [job.job_id for job in alive if job.job_id in history.watermarks]),
        (Reason.OWED, [job.job_id for job in alive if job.job_id in history.owing]),
        (Reason.WRITTEN_OFF, _written_off(alive, history)),
        (Reason.COMPARED, [*_speaking(before), *_speaking(_equal(alive)), *(j.job_id for j in alive if j.uncounted)]),
    ]


def _equal(alive: Sequence[Past]) -> list[Past]:
    """Return the jobs that found whole tables equal, the latest such finding first."""
    found = [job for job in alive if job.reconciled_seconds_ago is not None]
    return sorted(found, key=lambda job: job.reconciled_seconds_ago or 0.0)


def _speaking(ordered: Sequence[Past]) -> list[str]:
    """Return, of each selection, the first job, up to the first of all records, which speaks for every other."""
    found: list[str] = []
    seen: set[frozenset[str] | None] = set()
    for job in ordered:
        if job.selection not in seen:
            seen.add(job.selection)
            found.append(job.job_id)
        if job.selection is None:
            break
    return found


def _written_off(alive: Sequence[Past], history: History) -> list[str]:
    """Return, by record, the newest job with a batch that was written off, unless the record was read in full since."""
    created = {job.job_id: job.created_at for job in alive}
    skipped = [(job_id, record) for job_id, record in history.skipped if job_id in created]
    found = set()
    for record in {record for _, record in skipped}:
        last = max(created[job_id] for job_id, one in skipped if one == record)
        read = (history.full_reads or {}).get(record)
        if read is None or created[read] <= last:
            found |= {job_id for job_id, one in skipped if one == record and created[job_id] == last}
    return [job.job_id for job in alive if job.job_id in found]


def _close(why: dict[str, Reason], history: History, condemned: Collection[str]) -> None:
    """Add what jobs that are kept point to, until nothing is added."""
    full_reads = history.full_reads or {}
    while True:
        found = {
            carrier: Reason.CARRIER for owing, carrier in history.carried if owing in why and carrier not in condemned
        }
        for job_id, record in history.skipped:
            if job_id in why and record in full_reads:
                found.setdefault(full_reads[record], Reason.FULL_READ)
        known = {job.job_id for job in history.jobs}
        new = {job_id: reason for job_id, reason in found.items() if job_id not in why and job_id in known}
        if not new:
            return
        why.update(new)
