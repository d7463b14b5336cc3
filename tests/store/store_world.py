"""A small job in a real database, and the steps that bring it to where a test begins."""

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import text

from waveimport.core.graph import PlannedWave
from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.core.waves import BatchKind, Decision, JobSnapshot, Trigger, WaveKind, decide
from waveimport.store import batches, jobs, lease, waves
from waveimport.store.batches import Claim
from waveimport.store.destination import Target, Upsert, ensure_tables, packet_bytes
from waveimport.store.jobs import NewJob
from waveimport.store.landing import Load, NewBatch, land
from waveimport.store.lease import Held, Holder, Lease
from waveimport.store.transactions import Database

T = TypeVar("T")

JOB = "import_1"
PLAN = "1/order/plan"
A, B = "1/order/0000000", "1/order/0000001"
WAVES = (
    PlannedWave(1, WaveKind.MAIN, ("order",)),
    PlannedWave(2, WaveKind.DERIVED, ("line",), parent_wave=1, depth=1),
)
ORDER = RecordSettings(
    name="order",
    table="transaction",
    table_name="order",
    columns=(
        Column("id", ColumnKind.INTEGER, target="id"),
        Column("memo", ColumnKind.TEXT, target="memo"),
        Column("total", ColumnKind.DECIMAL, 15, 2, target="total"),
    ),
)
TARGET = Target("order", ORDER)
LONG_SECONDS = 3600.0
LAPSED_SECONDS = -5.0


def new_job(job_id: str = JOB, profile: str = "p", planned: tuple[PlannedWave, ...] = WAVES) -> NewJob:
    return NewJob(job_id, profile, "full", "hash", "text", None, planned)


def holder(number: int = 1, lock: str | None = None, machine: str = "m") -> Holder:
    return Holder(f"host:{number}", machine, lock)


def create(database: Database, job_id: str = JOB, profile: str = "p") -> None:
    database.run(lambda connection: jobs.create_job(connection, new_job(job_id, profile)))


def take(
    database: Database,
    who: Holder | None = None,
    *,
    seconds: float = LONG_SECONDS,
    job_id: str = JOB,
    failed_too: bool = False,
) -> Lease | Held:
    return database.run(
        lambda connection: lease.acquire(
            connection,
            job_id,
            who or holder(),
            lease_seconds=seconds,
            trigger=Trigger.MANUAL,
            failed_too=failed_too,
        )
    )


def leased(database: Database, *, seconds: float = LONG_SECONDS) -> Lease:
    """Create the job and take its lease."""
    create(database)
    taken = take(database, seconds=seconds)
    assert isinstance(taken, Lease)
    return taken


def advance(
    database: Database,
    held: Lease,
    *,
    limit: int = 8,
    free: int = 8,
    worked: bool = False,
    decide: Callable[[JobSnapshot], Decision] = decide,
) -> tuple[JobSnapshot, Decision]:
    return database.run(
        lambda connection: waves.advance(
            connection, held, limit=limit, free_slots=free, trigger=Trigger.WORKER, worked=worked, decide=decide
        )
    )


def claim(
    database: Database,
    held: Lease,
    wave: int = 1,
    count: int = 8,
    *,
    plans_only: bool = False,
    seconds: float = LONG_SECONDS,
) -> list[Claim]:
    return database.run(
        lambda connection: batches.claim(connection, held, wave, count, plans_only=plans_only, lease_seconds=seconds)
    )


def page(
    claimed: Claim,
    rows: Sequence[tuple[Any, ...]] = (),
    children: tuple[NewBatch, ...] = (),
    *,
    done: bool = True,
    seconds: float = LONG_SECONDS,
) -> Load:
    return Load(
        claim=claimed,
        lease_seconds=seconds,
        resume_key=[rows[-1][0]] if rows else None,
        spec=claimed.spec,
        rows=rows,
        done=done,
        children=children,
    )


def put(database: Database, load: Load) -> bool:
    """T4 of a page without rows of its own table, or with rows of `order`."""

    def work(connection: Any) -> bool:
        upsert = Upsert(connection, TARGET) if load.rows else None
        return land(connection, load, upsert, packet_bytes(connection))

    return database.run(work)


def ranges(*batch_ids: str) -> tuple[NewBatch, ...]:
    return tuple(
        NewBatch(batch_id, 1, "order", BatchKind.RANGE, {"lower": None, "upper": None}) for batch_id in batch_ids
    )


def line(parent: str, key: object = 1) -> NewBatch:
    return NewBatch(f"{parent}/line/{key}", 2, "line", BatchKind.PARENTS, {"parents": [key]})


def planned(database: Database, *batch_ids: str, seconds: float = LONG_SECONDS) -> Lease:
    """A job under a lease whose planning has made range batches (A and B), all of them pending."""
    held = leased(database, seconds=seconds)
    advance(database, held)
    (plan,) = claim(database, held)
    assert put(database, page(plan, children=ranges(*(batch_ids or (A, B)))))
    advance(database, held)
    database.run(lambda connection: ensure_tables(connection, [TARGET], fence=False))
    return held


def query(database: Database, sql: str, **binds: Any) -> list[tuple[Any, ...]]:
    return database.run(lambda connection: [tuple(row) for row in connection.execute(text(sql), binds)])


def execute(database: Database, sql: str, **binds: Any) -> None:
    database.run(lambda connection: connection.execute(text(sql), binds) and None)


def status_of(database: Database, batch_id: str) -> str:
    ((status,),) = query(database, "SELECT status FROM wave_batches WHERE batch_id = :b", b=batch_id)
    return str(status)


def job_status(database: Database) -> str:
    ((status,),) = query(database, "SELECT status FROM import_jobs")
    return str(status)


def contents(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Everything that coordination keeps, to see that nothing changed (moments of mere touching left out)."""
    tables = {
        "import_jobs": "job_id, status, coordination_status, lease_owner, lease_token, journal_seq, finished_at",
        "wave_coordination": "job_id, wave_number, status, sealed, total",
        "wave_batches": "job_id, batch_id, status, attempt, tries, lost, lease_owner, lease_token, spec, resume_key,"
        " row_count, error",
        "wave_journal": "job_id, seq, event, snapshot, decision",
        "batch_events": "job_id, batch_id, event, attempt",
    }
    return {
        name: sorted(query(database, f"SELECT {columns} FROM {name}"), key=repr) for name, columns in tables.items()
    }


def race(url: str, number: int, work: Callable[[Database, int], T]) -> list[T]:
    """Run `work` in threads that start at the same moment, each on a connection pool of its own."""
    barrier = threading.Barrier(number)
    answers: list[T | BaseException | None] = [None] * number

    def one(at: int) -> None:
        database = Database.open(url, sleep=lambda seconds: True)
        try:
            database.run(lambda connection: None)
            barrier.wait(30)
            answers[at] = work(database, at)
        except BaseException as error:
            answers[at] = error
        finally:
            database.close()

    threads = [threading.Thread(target=one, args=(at,)) for at in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return answers
