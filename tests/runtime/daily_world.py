"""A daily job over orders and lines that an earlier job has brought in, against a scripted source."""

import dataclasses
from collections.abc import Mapping

from runtime_world import LINE, ORDER, World, column

from waveimport.core.increments import Since
from waveimport.core.settings import ColumnKind
from waveimport.core.waves import Trigger
from waveimport.store import jobs, lease
from waveimport.store.jobs import NewJob
from waveimport.store.lease import Holder, Lease

BEFORE, SINCE, AFTER = "2026-09-21 10:00:00", "2026-09-21 12:00:00", "2026-09-21 13:00:00"
AT = column("at", ColumnKind.TIMESTAMP)
ORDERS = dataclasses.replace(ORDER, columns=(*ORDER.columns, AT), cursor="at", where="memo <> 'closed'")
LINES = dataclasses.replace(LINE, columns=(*LINE.columns, AT), cursor="at")


class Daily(World):
    """Orders 1 to 6 with two lines each are in, by an earlier job, and the source has not changed since."""

    def start(self) -> None:
        source = self.source
        source.take_functions("TO_CHAR", "SYS_EXTRACT_UTC", "TO_DATE")
        for table in ("orders", "lines"):
            source.execute(f"ALTER TABLE {table} ADD COLUMN at TEXT DEFAULT '{BEFORE}'")
        source.execute("CREATE TABLE deletedrecord (recordid INTEGER, deleteddate TEXT)")
        for key in range(1, 7):
            source.execute("INSERT INTO orders VALUES (?, ?, ?)", key, f"memo {key}", BEFORE)
            for number in (1, 2):
                source.execute("INSERT INTO lines VALUES (?, ?, ?)", key * 100 + number, key, BEFORE)
        self.work_all()
        self.advance()
        assert self.job() == "completed"
        self.begin("import_2")

    def begin(self, job_id: str, since: Mapping[str, Since] | None = None) -> None:
        """Create a job that reads since a moment, or with `since` empty in full, and take its lease."""
        if since is None:
            since = {"order": Since(SINCE, {"line": SINCE})}
        mode, narrow = ("incremental", ("order", "line")) if since else ("full", ())
        new = NewJob(job_id, "p", mode, "hash", "text", None, self.plan, since, incremental=narrow)
        self.writer.transact(lambda connection: jobs.create_job(connection, new))
        self.source.asked.clear()
        self.job_id = job_id
        taken = self.writer.transact(
            lambda connection: lease.acquire(
                connection, job_id, Holder("host:9", "m", "1:2"), lease_seconds=60, trigger=Trigger.MANUAL
            )
        )
        assert isinstance(taken, Lease)
        self.lease = taken

    def finish(self) -> None:
        self.work_all()
        self.advance()
        assert self.query(f"SELECT status FROM import_jobs WHERE job_id = '{self.job_id}'") == [("completed",)]

    def memos(self) -> dict[int, str]:
        return dict(self.query("SELECT id, memo FROM `order`"))
