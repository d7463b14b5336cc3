"""Where the rows of a run land: its tables made or checked before a job is, and kept from what is older."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from waveimport.core.settings import RecordSettings, Refresh, Settings
from waveimport.core.waves import BatchStatus
from waveimport.errors import TableClash
from waveimport.runtime.opening import open_url
from waveimport.runtime.since import filled_records, targets_of
from waveimport.runtime.stop import StopSwitch
from waveimport.runtime.writer import Place, Writer
from waveimport.store import overview, watermarks
from waveimport.store.destination import (
    Upsert,
    check_owner,
    ensure_tables,
    known_columns,
    packet_bytes,
    raise_fence,
    remember_columns,
)
from waveimport.store.jobs import Job
from waveimport.store.removal import removers
from waveimport.store.swap import check_replaceable


class Destination:
    """The destination of one run: `database` is that of the coordination tables until `prepare` has opened another.
    What is opened is closed with `stack`."""

    def __init__(self, settings: Settings, writer: Writer, switch: StopSwitch, stack: ExitStack) -> None:
        self._settings = settings
        self._writer = writer
        self._switch = switch
        self._stack = stack
        self.database = writer.database

    def prepare(self, records: Sequence[RecordSettings]) -> None:
        """Create or check the destination tables, before a job is created: a clash leaves nothing behind."""
        settings = self._settings
        targets = targets_of(settings, records)
        apart = None
        if settings.destination is not None and not settings.one_database:
            apart = open_url(settings.destination.url, self._switch)
            self._stack.callback(apart.close)
            # Undone in reverse: what is landing must end before its database is closed.
            self._stack.callback(self._writer.close)
            self.database = apart

        swapped = [target for target in targets if target.record.refresh is Refresh.SWAP]

        def prepare(connection: Any) -> Place:
            if swapped:
                check_replaceable(connection, swapped)
            ensure_tables(connection, targets, fence=apart is not None, known=known)
            upserts = {target.record.name: Upsert(connection, target) for target in targets}
            return Place(upserts, packet_bytes(connection), apart, removers(connection, targets))

        profile, where = settings.profile, "" if apart is None else apart.name
        self._writer.transact(lambda connection: check_owner(connection, targets, profile=profile, destination=where))
        known = self._writer.transact(
            lambda connection: known_columns(connection, targets, profile=profile, destination=where)
        )
        place = self._writer.transact(prepare) if apart is None else apart.run(prepare)
        self._writer.transact(
            lambda connection: remember_columns(connection, targets, profile=profile, destination=where)
        )
        self._writer.prepare(place)

    def check_filled(self, job: Job, records: Sequence[RecordSettings]) -> None:
        """Raise TableClash where a table was emptied or dropped of which an unfinished job reads only the changes."""
        since = self._writer.transact(lambda connection: watermarks.since_of(connection, job.job_id))
        targets = [one for one in targets_of(self._settings, records) if one.record.name in since]
        filled = filled_records(self.database, targets)
        for target in targets:
            if target.record.name not in filled:
                raise TableClash(
                    f"table `{target.table}` is empty, and the unfinished job {job.job_id} reads only what has changed",
                    help=f"end it with `waveimport cancel {job.job_id}`; the next run fills the table again",
                )

    def fence_off(self, failed: Job) -> None:
        """Let no page of a failed job's lost workers land any more, in a destination of its own: what the next job
        reads is newer."""
        if self.database is self._writer.database:
            return
        claims = self._writer.transact(
            lambda connection: overview.taken_back(connection, failed.job_id, BatchStatus.FAILED)
        )
        self.database.run(
            lambda connection: [
                raise_fence(connection, failed.job_id, batch_id, attempt + 1) for batch_id, attempt in claims
            ]
        )
