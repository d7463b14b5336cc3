"""A job of any size as the tables would have it after hours of work, written straight into a database."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import insert

from waveimport.core.graph import PlannedWave
from waveimport.core.waves import (
    DECISION_VERSION,
    CoordinationStatus,
    JobSnapshot,
    JobStatus,
    WaveKind,
    WaveStatus,
    WaveView,
    decide,
)
from waveimport.store.jobs import NewJob, create_job
from waveimport.store.tables import batch_events, import_jobs, wave_batches, wave_coordination, wave_journal
from waveimport.store.transactions import Database

START = datetime(2026, 3, 1, 22, 0)
HOSTILE = "HTTP 500: <script>alert(\"x\")</script> & 'quoted' \x00\x1b[31m"


def write_job(
    database: Database,
    job_id: str,
    *,
    batches: int,
    profile: str = "big",
    seconds: float = 4 * 3600.0,
    slots: int = 10,
    status: JobStatus = JobStatus.COMPLETED,
    start: datetime = START,
) -> None:
    """Write a job of a main wave and one derived from it, nine batches in ten its. Every 40th was refused once, every
    500th lost with its worker, every 1,000th failed if the job did; an unfinished job has done the first half."""
    waves = (
        PlannedWave(1, WaveKind.MAIN, ("salesorder",), None, 0),
        PlannedWave(2, WaveKind.DERIVED, ("salesorderline",), 1, 1),
    )
    database.run(lambda connection: create_job(connection, NewJob(job_id, profile, "full", "", "{}", None, waves)))
    lease = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=60)
    mains = max(1, batches // 10)
    step = seconds / batches
    finished = status in (JobStatus.COMPLETED, JobStatus.FAILED)
    rows: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for at in range(batches):
        is_main = at % 10 == 0
        ended = start + timedelta(seconds=(at + 1 + (at * 7919 % 13) / 6) * step)
        took = timedelta(seconds=slots * step * (0.6 + (at * 104729 % 17) / 20))
        batch_id = f"1/salesorder/{at:07}" if is_main else f"1/salesorder/{at // 10 * 10:07}/salesorderline/{at:05}"
        state = "completed"
        if not finished and at >= batches // 2:
            state = "processing" if at < batches // 2 + slots else "pending"
        failed = status is JobStatus.FAILED and at % 1000 == 999
        if failed:
            state = "failed"
        leased = state == "processing"
        rows.append(
            {
                "job_id": job_id,
                "batch_id": batch_id,
                "wave_number": 1 if is_main else 2,
                "record": "salesorder" if is_main else "salesorderline",
                "kind": "range" if is_main else "parents",
                "priority": 1,
                "status": state,
                "attempt": 1 + (at % 40 == 0),
                "tries": 5 if failed else int(at % 40 == 0),
                "spec": json.dumps({"lower": at, "upper": at + 1} if is_main else {"parents": [at, at + 1]}),
                "row_count": 0 if state == "pending" else 500 + at * 31 % 977,
                "created_at": start if is_main else max(start, ended - 2 * took),
                "updated_at": start if state == "pending" else ended,
                "error": HOSTILE if failed else None,
                "lease_owner": "host:1" if leased else None,
                "lease_token": 1 if leased else None,
                "lease_expires_at": lease if leased else None,
            }
        )
        if state != "pending" and (at % 40 == 0 or failed or at % 500 == 7):
            what = "failed" if failed else "refused" if at % 40 == 0 else "requeued"
            detail = HOSTILE if failed else f"HTTP 503: Error ID: {at:09x}ab" if at % 40 == 0 else "lost"
            moment = ended if failed else max(start, ended - took / 2)
            events.append(
                {"job_id": job_id, "batch_id": batch_id, "at": moment, "event": what, "attempt": 1, "detail": detail}
            )
    end = start + timedelta(seconds=seconds * (1.0 if finished else 0.5))

    journal = _journal(job_id, mains, batches - mains, slots, (end - start).total_seconds(), start)

    def write(connection: Any) -> None:
        connection.execute(wave_batches.delete().where(wave_batches.c.job_id == job_id))
        connection.execute(insert(wave_batches), rows)
        connection.execute(insert(batch_events), events)
        connection.execute(insert(wave_journal), journal)
        for number, total in ((1, mains), (2, batches - mains)):
            wave = WaveStatus.COMPLETED if finished else WaveStatus.PROCESSING
            if number == 2 and status is JobStatus.FAILED:
                wave = WaveStatus.FAILED
            connection.execute(
                wave_coordination.update()
                .where(wave_coordination.c.job_id == job_id, wave_coordination.c.wave_number == number)
                .values(status=wave.value, sealed=int(finished), total=total, created_at=start)
            )
        connection.execute(
            import_jobs.update()
            .where(import_jobs.c.job_id == job_id)
            .values(
                status=status.value,
                created_at=start,
                finished_at=end if finished else None,
                lease_owner=None if finished else "host:1",
                lease_expires_at=None if finished else lease,
                error="batches failed" if status is JobStatus.FAILED else None,
            )
        )

    database.run(write)


def _journal(job_id: str, mains: int, lines: int, slots: int, seconds: float, start: datetime) -> list[dict[str, Any]]:
    """A lease, a pass every so often whose decision is today's, and a limit that is cut for a while."""

    def entry(seq: int, at: float, event: str, **more: Any) -> dict[str, Any]:
        return {
            "job_id": job_id,
            "seq": seq,
            "at": start + timedelta(seconds=at),
            "source": "cron",
            "token": 1,
            "event": event,
            "snapshot": None,
            "decision": None,
            "note": None,
            "decision_version": DECISION_VERSION,
            "code_version": "0",
            **more,
        }

    found = [entry(1, 0, "lease", note="taken by host:1")]
    passes = 400
    for number in range(passes):
        cut = 0.4 < number / passes < 0.6
        limit = slots // 2 if cut else slots
        busy = limit - number % 3
        snapshot = JobSnapshot(
            JobStatus.PROCESSING,
            CoordinationStatus.PLANNED,
            (
                WaveView(1, WaveKind.MAIN, WaveStatus.PROCESSING, False, mains, claimable=limit, pending=True, live=1),
                WaveView(
                    *(2, WaveKind.DERIVED, WaveStatus.PROCESSING, False, lines, limit),
                    pending=True,
                    live=busy - 1,
                    parent_wave=1,
                    depth=1,
                ),
            ),
            limit=limit,
            free_slots=limit - busy,
        )
        found.append(
            entry(
                len(found) + 1,
                seconds * (number + 1) / (passes + 1),
                "pass",
                snapshot=msgspec.json.encode(snapshot).decode(),
                decision=msgspec.json.encode(decide(snapshot)).decode(),
            )
        )
        if number == int(passes * 0.4):
            note = f"{slots // 2} of {slots} requests may be in flight: NetSuite answered 429"
            found.append(entry(len(found) + 1, seconds * (number + 1.5) / (passes + 1), "limit", note=note))
    return found
