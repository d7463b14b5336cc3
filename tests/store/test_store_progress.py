"""A job in numbers, as the database has them: what is tried again and again, and when an import was whole last."""

import store_world as world
from store_world import JOB, A

from waveimport.store import batches
from waveimport.store.progress import read_progress
from waveimport.store.transactions import Database


def test_the_batch_that_is_tried_most_often_with_one_error_is_found(database: Database) -> None:
    held = world.planned(database)
    assert database.run(lambda connection: read_progress(connection, JOB)).loop is None
    for number in range(6):
        [claim] = world.claim(database, held, count=1)
        error = "429" if number else "reset"
        database.run(lambda connection, claim=claim, error=error: batches.hand_back(connection, claim, error=error))
    loop = database.run(lambda connection: read_progress(connection, JOB)).loop
    assert loop is not None
    assert (loop.batch_id, loop.wave_number, loop.times, loop.error) == (A, 1, 5, "429")


def test_the_last_complete_import_is_of_the_same_profile(database: Database) -> None:
    for job_id, profile, day in (("import_2", "p", 2), ("import_3", "p", 3), ("import_4", "q", 4)):
        world.create(database, job_id, profile)
        world.execute(
            database,
            f"UPDATE import_jobs SET status = 'completed', finished_at = '2026-01-0{day} 00:00:00.000000'"
            f" WHERE job_id = '{job_id}'",
        )
    world.create(database)
    last = database.run(lambda connection: read_progress(connection, JOB)).last_complete
    assert str(last)[:10] == "2026-01-03"
