"""Which job a run works on: the unfinished one, a failed one in place, or one that it creates.

The table is that of `waveimport run --help`: what the newest job of the profile is, and what was asked for.
"""

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from waveimport.core.fingerprint import config_hash, redacted_text
from waveimport.core.graph import PlannedWave, plan_waves, select
from waveimport.core.increments import Since, family
from waveimport.core.settings import RecordSettings, Settings
from waveimport.core.swaps import roots_to_swap
from waveimport.core.waves import JobStatus
from waveimport.errors import ModeConflict
from waveimport.runtime import adoption, clock
from waveimport.runtime.options import RunOptions
from waveimport.runtime.since import filled_records, since_of_new_job, targets_of
from waveimport.runtime.writer import Writer
from waveimport.store import batches, debts, jobs
from waveimport.store.jobs import Job, NewJob
from waveimport.store.swap import is_to_be_tried_again
from waveimport.store.transactions import Database


@dataclass(frozen=True, slots=True)
class Plan:
    """What this configuration and these options would make of a job."""

    records: tuple[RecordSettings, ...]
    waves: tuple[PlannedWave, ...]
    text: str
    hash: str


def plan_of(settings: Settings, records: Sequence[RecordSettings]) -> Plan:
    """Return what a configuration makes of these records."""
    text = redacted_text(settings)
    return Plan(tuple(records), plan_waves(records), text, config_hash(text))


class JobChoice:
    """Chooses the job of one run. `plan` is what it imports: by the options, or as the job that is gone on with."""

    def __init__(self, settings: Settings, options: RunOptions, plan: Plan, writer: Writer, owner: str) -> None:
        self._settings = settings
        self._options = options
        self._writer = writer
        self._owner = owner
        self.plan = plan

    def must_create(self, newest: Job | None) -> bool | None:
        """Return whether to create a job (True) or go on with the newest (False); None when nothing is to be done.

        Raises ModeConflict or ConfigChanged.
        """
        options = self._options
        if newest is None or newest.status in (JobStatus.COMPLETED, JobStatus.CANCELLED):
            return None if options.retry_failed else True
        if newest.status is JobStatus.FAILED and not options.retry_failed and not self._again_in_place(newest):
            return True
        other = "incremental" if options.full else "full" if options.incremental else None
        if newest.status is not JobStatus.FAILED and newest.mode == other:
            raise ModeConflict(
                f"the unfinished job {newest.job_id} is {newest.mode}",
                help=f"finish it with `waveimport run`, or end it with `waveimport cancel {newest.job_id}`",
            )
        if options.records is not None and set(options.records) != set(newest.selection or ()):
            was = "all records" if newest.selection is None else ", ".join(newest.selection)
            raise ModeConflict(
                f"the unfinished job {newest.job_id} imports {was}",
                help=f"finish it with `waveimport run`, or end it with `waveimport cancel {newest.job_id}`",
            )
        if newest.selection is not None:
            self.plan = plan_of(self._settings, select(self._settings.records, newest.selection))
        if newest.config_hash != self.plan.hash:
            # Told before anything is written; what counts is asked again under the lease.
            self._writer.transact(lambda connection: adoption.check(connection, newest, self.binding(), leased=False))
        return False

    def _again_in_place(self, failed: Job) -> bool:
        """Whether a failed job is gone on with: the first full import, of which nothing may be left out, and once one
        that is to swap. The failed batches of others are owed, and the next job carries them beside what has changed
        since."""
        if self._options.full or self._options.incremental:
            return False
        return self._writer.transact(
            lambda connection: (
                (
                    debts.is_first(connection, failed.job_id)
                    or (failed.config_hash == self.plan.hash and is_to_be_tried_again(connection, failed.job_id))
                )
                and batches.has_unskipped_failure(connection, failed.job_id)
            )
        )

    def binding(self) -> adoption.Binding:
        """Return what an unfinished job is compared with before it is gone on with."""
        return adoption.Binding(
            text=self.plan.text,
            hash=self.plan.hash,
            waves=self.plan.waves,
            allowed=self._options.adopt_config,
            where=self._settings.path or None,
            owner=self._owner,
        )

    def create(self, destination: Database) -> Job:
        """Create the job, or return the one that another run has just created for the profile."""
        settings, records = self._settings, self.plan.records
        filled = filled_records(destination, targets_of(settings, records))
        since = {}
        if not self._options.full:
            since = since_of_new_job(settings, records, self.plan.text, self._writer.database, filled)
        # Time-ordered, and readable by the person who has to type it.
        job_id = f"import_{clock.utc_now():%Y%m%d%H%M%S%f}_{secrets.token_hex(4)}"
        new = NewJob(
            job_id=job_id,
            profile=self._settings.profile,
            mode="incremental" if since or self._options.incremental else "full",
            config_hash=self.plan.hash,
            config_text=self.plan.text,
            selection=self._options.records,
            waves=self.plan.waves,
            since=since,
            keep=self._kept_watermarks(since),
            incremental=tuple(one.name for name in since for one in family(name, records)),
            swapped=roots_to_swap(records, incremental=since, filled=filled),
        )
        job = self._writer.transact(lambda connection: jobs.create_job(connection, new))
        if job.job_id == job_id and self._writer.place is not None:
            # Nobody but this job writes into tables that were empty before it was made.
            for name, remover in self._writer.place.removers.items():
                remover.nothing_before = name not in filled
        return job

    def _kept_watermarks(self, since: Mapping[str, Since]) -> tuple[str, ...]:
        """Return the records whose watermarks outlive the making of a job: those that it reads by them, and those that
        it does not touch."""
        touched = {record.name for record in self.plan.records}
        untouched = [record.name for record in self._settings.records if record.name not in touched]
        return (*untouched, *since, *(name for one in since.values() for name in one.below))
