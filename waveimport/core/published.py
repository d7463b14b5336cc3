"""The job object of `status --json` and `run --json`: what programs read of a job."""

from dataclasses import asdict
from typing import Any

from waveimport.core.estimate import Spread, average_rate, recent_rate, time_left
from waveimport.core.progress import Alert, JobProgress, moment
from waveimport.core.waves import BatchStatus


def job_object(job: JobProgress, alerts: tuple[Alert, ...]) -> dict[str, Any]:
    """Return the job object of `status --json` and `run --json`; keys are added to it, never renamed or removed.

    `rate` is in rows a second: `average` over the job's whole life, `recent` over the last minutes, `low` by their
    slower half and `high` by their faster one; `seconds_left` is at these rates. Both are null where too little is
    known.
    """
    lease = None
    if job.lease_owner is not None:
        lease = {"owner": job.lease_owner, "token": job.lease_token, "expires_at": moment(job.lease_expires_at)}
    return {
        "profile": job.profile,
        "mode": job.mode,
        "job_id": job.job_id,
        "status": job.status.value,
        "created_at": moment(job.created_at),
        "finished_at": moment(job.finished_at),
        "error": job.error,
        "lease": lease,
        "rows": job.rows,
        "waves": [
            {
                "wave_number": wave.wave_number,
                "kind": wave.kind.value,
                "records": [{"record": name, "rows": rows} for name, rows in wave.rows.items()],
                "status": wave.status.value,
                "sealed": wave.sealed,
                "batches": {
                    **{status.value: wave.batches.get(status, 0) for status in BatchStatus},
                    "total": wave.total,
                },
                "rows": sum(wave.rows.values()),
                "tries": wave.tries,
                "last_commit": moment(wave.last_commit),
            }
            for wave in job.waves
        ],
        "as_of": moment(job.as_of),
        "rate": {"average": round(average_rate(job), 3), "recent": _spread(recent_rate(job))},
        "seconds_left": _spread(time_left(job)),
        "watermarks": {record: moment(mark) for record, mark in job.watermarks.items()},
        "last_complete": None
        if job.last_complete is None
        else {
            "job_id": job.last_complete.job_id,
            "mode": job.last_complete.mode,
            "finished_at": moment(job.last_complete.finished_at),
            "seconds": (job.last_complete.finished_at - job.last_complete.created_at).total_seconds(),
        },
        "requests": None if job.requests is None else asdict(job.requests),
        "owed": [
            {
                "job_id": owed.job_id,
                "batch_id": owed.batch_id,
                "record": owed.record,
                "error": owed.error,
                "carried_by": owed.carried_by,
                "carried_as": owed.carried_as,
            }
            for owed in job.owed
        ],
        "alerts": [asdict(alert) for alert in alerts],
    }


def _spread(found: Spread | None) -> dict[str, float] | None:
    return None if found is None else {name: round(value, 3) for name, value in asdict(found).items()}
