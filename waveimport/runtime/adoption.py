"""An unfinished job is bound to the configuration that it was created with; what of another it may adopt.

Going on under another account, destination or set of rows would mix two imports in one job. What no landed row
depends on may change, where the person says so; all else needs a job of its own.
"""

import json
import logging
from dataclasses import dataclass
from typing import Any

from waveimport.core.fingerprint import config_difference
from waveimport.core.graph import PlannedWave
from waveimport.errors import ConfigChanged
from waveimport.runtime.writer import Writer
from waveimport.store import batches, jobs, watermarks
from waveimport.store.jobs import Job
from waveimport.store.lease import Lease

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Binding:
    """What today's configuration would bind a job to; `allowed` says that it may be adopted where that is safe, `where`
    names the configuration in messages, `owner` is this run."""

    text: str
    hash: str
    waves: tuple[PlannedWave, ...]
    allowed: bool
    where: str | None
    owner: str


def check(connection: Any, job: Job, binding: Binding, *, leased: bool) -> list[str]:
    """Return the difference between the job's configuration and today's, where it may be adopted and was asked for.

    Raises ConfigChanged with the difference and the ways on.
    """
    difference = config_difference(job.config_text, binding.text)
    landed = batches.records_with_rows(connection, job.job_id)
    if watermarks.since_of(connection, job.job_id):
        # What has changed is all that it reads: the rows that stand there already would keep to the old configuration.
        landed = set(json.loads(job.config_text)["records"])
    unsafe = [line for line in difference if not adoptable(line, landed)]
    reason = None
    if unsafe:
        reason = unsafe[0]
    elif jobs.planned_waves(connection, job.job_id) != binding.waves:
        reason = "the records make other waves"
    elif leased and batches.live_elsewhere(connection, job.job_id, binding.owner):
        reason = "a batch is still at work in another run"
    if binding.allowed and reason is None:
        return difference
    help = f"end it with `waveimport cancel {job.job_id}`; the next run makes a new one"
    if reason is None:
        help = f"go on with `waveimport run --adopt-config`, or end it with `waveimport cancel {job.job_id}`"
    said = f" and cannot adopt this ({reason})" if binding.allowed else ""
    raise ConfigChanged(
        f"the unfinished job {job.job_id} was created under another configuration{said}: {_listed(difference)}",
        where=binding.where,
        help=help,
    )


def bind(writer: Writer, held: Lease, binding: Binding) -> None:
    """Hold the job to today's configuration, or adopt it, in one transaction under the lease.

    Raises ConfigChanged, also where a rival on another host created the job under another configuration.
    """

    def work(connection: Any) -> list[str]:
        jobs.lock_job(connection, held.job_id, held.token)
        job = jobs.get_job(connection, held.job_id)
        if job.config_hash == binding.hash:
            return []
        difference = check(connection, job, binding, leased=True)
        jobs.adopt_config(connection, job.job_id, binding.hash, binding.text)
        return difference

    # What a dead holder had at work is nobody's now, and must not be taken for work under another configuration.
    while held.proven and writer.transact(lambda connection: batches.requeue(connection, held, proven_dead=True)):
        pass
    difference = writer.transact(work)
    if difference:
        log.warning("job %s goes on under the configuration of today: %s", held.job_id, _listed(difference))


def _listed(difference: list[str]) -> str:
    return "; ".join(difference[:8]) + ("; …" if len(difference) > 8 else "")


def adoptable(line: str, landed: set[str]) -> bool:
    """Whether one line of a configuration's difference changes nothing that has landed or was made.

    A column may go. In a record of which no row has landed, columns and `where` may change too: its ranges are open at
    both ends and cover whatever they are asked of. Keys and what derives from what are in the batches already.
    """
    path, _, change = line.partition(": ")
    parts = path.split(".")
    if len(parts) < 3 or parts[0] != "records":
        return False
    if parts[2] == "columns":
        return change.startswith("removed") or parts[1] not in landed
    return parts[2] in ("table", "where", "cursor") and parts[1] not in landed
