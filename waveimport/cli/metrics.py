"""`--metrics-file`: a job's numbers for Prometheus' textfile collector, whole or not there at all.

Source: Prometheus, "Metric and label naming", and node_exporter's textfile collector.
"""

import logging
from datetime import UTC, datetime
from pathlib import Path

from waveimport.core.progress import Alert, JobProgress

log = logging.getLogger("waveimport")


def write_metrics(path: Path, job: JobProgress, alerts: tuple[Alert, ...], *, exit_code: int | None) -> None:
    """Write the numbers of a job; `exit_code` is None while its run is at work. That it fails is a warning."""
    from prometheus_client import CollectorRegistry, Gauge, write_to_textfile

    registry = CollectorRegistry()

    def gauge(name: str, says: str, *labels: str) -> Gauge:
        return Gauge(f"waveimport_{name}", says, ("profile", *labels), registry=registry)

    profile = job.profile
    gauge("job_info", "The newest job: always 1.", "job_id", "mode", "status").labels(
        profile, job.job_id, job.mode, job.status.value
    ).set(1)
    gauge("job_created_timestamp_seconds", "When the job was made.").labels(profile).set(_epoch(job.created_at))
    if job.finished_at is not None:
        finished = gauge("job_finished_timestamp_seconds", "When the job ended.")
        finished.labels(profile).set(_epoch(job.finished_at))
    if job.last_complete is not None:
        complete = gauge("last_complete_timestamp_seconds", "When a job of the profile was completed last.")
        complete.labels(profile).set(_epoch(job.last_complete.finished_at))
    rows = gauge("job_rows", "Rows that the job has landed.", "record")
    batches = gauge("job_batches", "Batches of the job.", "wave", "status")
    tries = gauge("job_refusals", "Refusals that batches of the job have met.", "wave")
    for wave in job.waves:
        for record, count in wave.rows.items():
            rows.labels(profile, record).set(count)
        for status, count in wave.batches.items():
            batches.labels(profile, str(wave.wave_number), status.value).set(count)
        tries.labels(profile, str(wave.wave_number)).set(wave.tries)
    gauge("batches_owed", "Failed batches that no job has made good.").labels(profile).set(len(job.owed))
    if job.requests is not None:
        for name, value in (
            ("in_flight", job.requests.in_flight),
            ("allowed", job.requests.allowed),
            ("configured", job.requests.configured),
        ):
            gauge(f"requests_{name}", f"Requests {name.replace('_', ' ')}.").labels(profile).set(value)
    standing = gauge("alert", "An alert that stands: always 1.", "code", "wave")
    for alert in alerts:
        standing.labels(profile, alert.code, "" if alert.wave_number is None else str(alert.wave_number)).set(1)
    if exit_code is not None:
        gauge("run_exit_code", "How the last run ended.").labels(profile).set(exit_code)
    try:
        write_to_textfile(str(path), registry)
    except OSError as error:
        log.warning("the metrics could not be written to %s: %s", path, error.strerror)


def _epoch(moment: datetime) -> float:
    return moment.replace(tzinfo=UTC).timestamp()
