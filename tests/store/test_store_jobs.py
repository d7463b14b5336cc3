"""T0, T7 and T8: jobs are created once, retried whole, cancelled for good."""

import pytest
import store_world as world
from store_world import JOB, A, B

from waveimport.core.waves import JobStatus, Trigger
from waveimport.errors import DatabaseError, Fenced, JobCancelled, UnknownJob
from waveimport.store import batches, jobs
from waveimport.store.transactions import Database


def create(database: Database, job_id: str) -> str:
    return database.run(lambda connection: jobs.create_job(connection, world.new_job(job_id))).job_id


def test_creating_a_job_makes_its_waves_unsealed_and_one_plan_a_main_record(database: Database) -> None:
    world.create(database)
    assert world.query(
        database, "SELECT wave_number, kind, status, sealed, total FROM wave_coordination ORDER BY 1"
    ) == [
        (1, "main", "pending", 0, 1),
        (2, "derived", "pending", 0, 0),
    ]
    assert world.query(database, "SELECT batch_id, kind, status, priority FROM wave_batches") == [
        (world.PLAN, "plan", "pending", 0)
    ]
    job = database.run(lambda connection: jobs.get_job(connection, JOB))
    assert (job.status, job.lease_token, job.selection) == (JobStatus.PENDING, 0, None)
    assert database.run(lambda connection: jobs.planned_waves(connection, JOB)) == world.WAVES


def test_creating_again_is_a_no_op_that_returns_the_job_that_is_there(database: Database) -> None:
    world.create(database)
    before = world.contents(database)
    assert create(database, JOB) == JOB
    assert create(database, "import_2") == JOB
    assert world.contents(database) == before


def test_duplicate_coordination_eight_simultaneous_creators_leave_one_job_with_one_set_of_waves(
    database: Database, database_url: str
) -> None:
    """Incident: a retry and the cron both coordinated while a COUNT of 87 s ran; the second met the unique key of the
    first one's waves and failed the job, with 4,812,213 lines counted and none imported."""
    won = world.race(database_url, 8, lambda mine, at: create(mine, f"import_{at}"))
    assert len(set(won)) == 1, "all eight go on with one job"
    assert world.query(database, "SELECT job_id, status FROM import_jobs") == [(won[0], "pending")]
    assert world.query(database, "SELECT job_id, COUNT(*) FROM wave_coordination GROUP BY 1") == [(won[0], 2)]
    assert world.query(database, "SELECT job_id, COUNT(*) FROM wave_batches GROUP BY 1") == [(won[0], 1)]


@pytest.mark.mysql
def test_without_the_unique_key_of_unfinished_jobs_two_starts_make_two_jobs(mysql_database: Database) -> None:
    world.execute(mysql_database, "ALTER TABLE import_jobs DROP INDEX one_unfinished_job")
    assert [create(mysql_database, "import_1"), create(mysql_database, "import_2")] == ["import_1", "import_2"]


def test_whoever_inserts_a_wave_or_a_batch_again_meets_its_unique_key(database: Database) -> None:
    world.create(database)
    when = "'2026-01-01 00:00:00', '2026-01-01 00:00:00'"
    for sql in (
        "INSERT INTO wave_coordination (job_id, wave_number, kind, status, records, created_at, updated_at)"
        f" VALUES ('{JOB}', 1, 'main', 'pending', '[]', {when})",
        "INSERT INTO wave_batches (job_id, batch_id, wave_number, record, kind, status, spec, created_at, updated_at)"
        f" VALUES ('{JOB}', '{world.PLAN}', 1, 'order', 'plan', 'pending', '{{}}', {when})",
    ):
        with pytest.raises(DatabaseError, match=r"1062|SQLITE_CONSTRAINT"):
            world.execute(database, sql)


def test_profiles_have_jobs_of_their_own_and_a_finished_job_makes_room(database: Database) -> None:
    world.create(database, "import_1", "p")
    world.create(database, "import_2", "P")
    assert database.run(lambda connection: jobs.newest_job(connection, "P")).job_id == "import_2"
    database.run(lambda connection: jobs.cancel_job(connection, "import_1", trigger=Trigger.MANUAL))
    assert create(database, "import_3") == "import_3"


def test_the_newest_job_is_the_unfinished_one_even_beside_a_younger_failed_one(database: Database) -> None:
    world.create(database, "import_1")
    world.create(database, "import_9", "other")
    world.execute(database, "UPDATE import_jobs SET status = 'failed', error = 'x' WHERE job_id = 'import_9'")
    world.execute(database, "UPDATE import_jobs SET profile = 'p' WHERE job_id = 'import_9'")
    newest = database.run(lambda connection: jobs.newest_job(connection, "p"))
    assert newest is not None
    assert newest.job_id == "import_1"
    assert database.run(lambda connection: jobs.newest_job(connection, "nobody")) is None
    listed = database.run(lambda connection: jobs.list_jobs(connection, profile="p"))
    assert [job.job_id for job in listed] == ["import_9", "import_1"]


def test_a_job_that_is_not_there_is_named(database: Database) -> None:
    for work in (
        lambda connection: jobs.get_job(connection, "import_x"),
        lambda connection: jobs.lock_job(connection, "import_x", 1),
        lambda connection: jobs.cancel_job(connection, "import_x", trigger=Trigger.MANUAL),
    ):
        with pytest.raises(UnknownJob, match="import_x"):
            database.run(work)


# --- T7 ---------------------------------------------------------------------------------------------------------


def failed_job(database: Database) -> tuple[world.Lease, str]:
    """A job that failed: A failed for good, B completed, one derived batch of B completed too."""
    held = world.planned(database)
    first, second = world.claim(database, held)
    database.run(
        lambda connection: batches.fail_attempt(connection, first, error="bad", max_tries=1, delay_seconds=0.0)
    )
    world.put(database, world.page(second, children=(world.line(B),)))
    world.advance(database, held)
    (child,) = world.claim(database, held, 2)
    world.put(database, world.page(child))
    world.advance(database, held)
    assert world.job_status(database) == "failed"
    return held, first.batch_id


def retry(database: Database, token: int) -> int:
    return database.run(lambda connection: jobs.retry_failed(connection, JOB, token=token, trigger=Trigger.RETRY))


def test_a_failed_job_names_the_batch_that_failed_it(database: Database) -> None:
    failed_job(database)
    ((error, finished),) = world.query(database, "SELECT error, finished_at FROM import_jobs")
    assert error == f"batch {A}: bad"
    assert finished is not None
    (failed,) = database.run(lambda connection: batches.failed_batches(connection, JOB))
    assert (failed["batch_id"], failed["error"], failed["tries"]) == (A, "bad", 1)


def test_a_retry_puts_back_what_failed_and_the_job_completes(database: Database) -> None:
    held, batch_id = failed_job(database)
    assert retry(database, held.token) == 1
    assert world.query(database, "SELECT status, tries, lost FROM wave_batches WHERE batch_id = :b", b=batch_id) == [
        ("pending", 0, 0)
    ]
    assert world.query(database, "SELECT status FROM wave_coordination ORDER BY wave_number") == [("processing",)] * 2
    assert world.query(database, "SELECT status, finished_at, error FROM import_jobs") == [("processing", None, None)]
    assert retry(database, held.token) == 0, "nothing is failed any more"
    (again,) = world.claim(database, held)
    assert again.attempt == 2, "attempts only grow"
    world.put(database, world.page(again))
    world.advance(database, held)
    assert world.job_status(database) == "completed"


def test_a_retry_under_a_stale_token_is_refused(database: Database) -> None:
    held, _ = failed_job(database)
    before = world.contents(database)
    with pytest.raises(Fenced):
        retry(database, held.token - 1)
    assert world.contents(database) == before


def test_a_failed_job_is_not_retried_beside_a_new_one_of_its_profile(database: Database) -> None:
    """Another host's `run --full` came between: the unique key that held two starts apart must fail nobody here."""
    held, _ = failed_job(database)
    world.create(database, "import_2")
    before = world.contents(database)
    with pytest.raises(Fenced, match="another run has made a new job"):
        retry(database, held.token)
    assert world.contents(database) == before


# --- T8 ---------------------------------------------------------------------------------------------------------


def cancel(database: Database) -> tuple[jobs.Job, list[tuple[str, int]]]:
    return database.run(lambda connection: jobs.cancel_job(connection, JOB, trigger=Trigger.MANUAL))


def test_after_a_cancel_a_live_worker_lands_nothing(database: Database) -> None:
    held = world.planned(database)
    first, second = world.claim(database, held)
    before, live = cancel(database)
    assert (before.status, before.lease_owner) == (JobStatus.PROCESSING, "host:1")
    assert sorted(live) == [(A, 1), (B, 1)]
    assert not world.put(database, world.page(first, [(1, "x", "1.00")], (world.line(A),)))
    assert not database.run(lambda connection: batches.start(connection, second))
    assert not database.run(lambda connection: batches.hand_back(connection, second, error="late"))
    assert world.query(database, "SELECT COUNT(*) FROM `order`") == [(0,)]
    assert world.status_of(database, A) == "pending"
    assert world.query(database, "SELECT status, lease_owner, lease_token FROM import_jobs") == [("cancelled", None, 2)]


def test_after_a_cancel_the_coordinator_is_told_so(database: Database) -> None:
    held = world.planned(database)
    cancel(database)
    with pytest.raises(JobCancelled):
        world.advance(database, held)
    with pytest.raises(JobCancelled):
        world.claim(database, held)


def test_cancelling_twice_or_a_completed_job_changes_nothing(database: Database) -> None:
    world.planned(database)
    cancel(database)
    before = world.contents(database)
    again, live = cancel(database)
    assert (again.status, live) == (JobStatus.CANCELLED, [])
    assert world.contents(database) == before


def test_a_cancel_is_journalled_under_its_new_token(database: Database) -> None:
    held = world.leased(database)
    cancel(database)
    assert world.query(database, "SELECT token, source FROM wave_journal WHERE event = 'cancel'") == [
        (held.token + 1, "manual")
    ]
