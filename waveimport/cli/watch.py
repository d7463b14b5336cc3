"""What `run` shows while it works: bars on a terminal, a line a minute elsewhere.

The numbers come from the database by a reader of its own, never from what the run believes of itself.
"""

import contextlib
import logging
import sys
from types import TracebackType
from typing import TYPE_CHECKING, Self

from waveimport.core.progress import JobProgress
from waveimport.errors import WaveImportError
from waveimport.runtime import clock

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress, TaskID

    from waveimport.core.settings import Settings
    from waveimport.store.transactions import Database

log = logging.getLogger("waveimport")

LINE_EVERY_SECONDS = 60.0
ROOMY = 104
"""Columns that the widest line of bars takes; on a narrower terminal bars and names are shorter."""
SHARE_OF_TIME = 0.05
"""Reading the numbers may take this share of the time: counting a million batches is not done every second."""


class Watcher:
    """Called about once a second with the job; a context manager: at its end the bars show how the job ended.
    `watching` is told the numbers whenever they are read: once a minute, oftener where bars are shown."""

    def __init__(
        self, settings: "Settings", *, bars: bool, watching: "Callable[[JobProgress], None] | None" = None
    ) -> None:
        self._settings = settings
        self._watching = watching
        self._bars = bars and sys.stderr.isatty()
        self._reader: Database | None = None
        self._progress: Progress | None = None
        self._tasks: dict[int, TaskID] = {}
        self._next = 0.0
        self._began = clock.monotonic()
        self._first_rows: int | None = None
        self._job_id: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None and self._job_id is not None:
            with contextlib.suppress(WaveImportError):
                self._draw(self.read(self._job_id))
            self._progress.stop()
        if self._reader is not None:
            self._reader.close()

    def read(self, job_id: str) -> JobProgress:
        """Return the job's numbers of this moment."""
        from waveimport.store.progress import read_progress
        from waveimport.store.transactions import Database

        if self._reader is None:
            self._reader = Database.open_reader(self._settings.database.url)
        return self._reader.run(lambda connection: read_progress(connection, job_id))

    def __call__(self, job_id: str) -> None:
        """Show the job, unless it was shown just now. A failed look is passed over: the run goes on."""
        self._job_id = job_id
        now = clock.monotonic()
        if now < self._next:
            return
        try:
            job = self.read(job_id)
        except WaveImportError as error:
            log.debug("no numbers: %s", error.message)
            self._next = now + LINE_EVERY_SECONDS
            return
        if self._watching is not None:
            self._watching(job)
        took = clock.monotonic() - now
        first = self._first_rows is None
        if first:
            # What an earlier run landed is not this one's speed.
            self._first_rows = job.rows
        if self._bars:
            self._draw(job)
        elif not first:
            log.info("%s", self._line(job))
        self._next = now + max(1.0 if self._bars else LINE_EVERY_SECONDS, took / SHARE_OF_TIME)

    def _line(self, job: JobProgress) -> str:
        seconds = max(0.001, clock.monotonic() - self._began)
        rate = (job.rows - (self._first_rows or 0)) / seconds
        settled = sum(wave.status.value in ("completed", "failed") for wave in job.waves)
        open_batches = sum(wave.open_batches for wave in job.waves)
        return (
            f"{job.job_id}: {settled} of {len(job.waves)} waves settled, {job.rows:,} rows in,"
            f" {open_batches:,} batches open, {rate:,.0f} rows/s"
        )

    def _draw(self, job: JobProgress) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

        console = Console(stderr=True)
        roomy = console.width >= ROOMY
        if self._progress is None:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24 if roomy else 10),
                TextColumn("{task.fields[batches]:>13} batches"),
                TextColumn("{task.fields[rows]:>12} rows"),
                TimeElapsedColumn(),
                console=console,
                refresh_per_second=4,
            )
            self._progress.start()
        width = 28 if roomy else 18
        for wave in job.waves:
            names = ", ".join(wave.rows)
            done = wave.total - wave.open_batches
            if wave.wave_number not in self._tasks:
                if wave.status.value == "pending" and not wave.total:
                    continue
                self._tasks[wave.wave_number] = self._progress.add_task(
                    f"{wave.wave_number} {names[:width]:<{width}}", total=None, rows="0", batches="0/0"
                )
            self._progress.update(
                self._tasks[wave.wave_number],
                total=max(wave.total, 1),
                completed=1 if wave.status.value == "completed" and not wave.total else done,
                batches=f"{done}/{wave.total}",
                rows=f"{sum(wave.rows.values()):,}",
            )
