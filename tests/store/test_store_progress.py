"""A job in numbers, as the database has them: what is tried again and again, and when an import was whole last."""

from datetime import timedelta

import pytest
import store_world as world
from sqlalchemy import event, select
from store_world import JOB, A

from waveimport.store import batches, counted, progress
from waveimport.store.counted import keep_counts
from waveimport.store.dialect import now
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
    assert last is not None
    assert (last.job_id, last.mode, str(last.finished_at)) == ("import_3", "full", "2026-01-03 00:00:00")


def batch(database: Database, number: int, status: str, age_seconds: float, rows: int = 10, wave: int = 2) -> None:
    """Write a batch of lines as a landing would have left it so long ago, and its wave grown by it."""
    moment = database.run(lambda connection: connection.execute(select(now())).scalar_one())
    at = (moment - timedelta(seconds=age_seconds)).strftime("%Y-%m-%d %H:%M:%S.%f")
    lease = "'2999-01-01 00:00:00'" if status == "processing" else "NULL"
    error = "'x'" if status == "failed" else "NULL"
    world.execute(
        database,
        "INSERT INTO wave_batches (job_id, batch_id, wave_number, record, kind, status, tries, spec, row_count,"
        " created_at, updated_at, lease_expires_at, error)"
        f" VALUES ('{JOB}', '{wave}/line/{number}', {wave}, 'line', 'parents', '{status}', {number % 2}, '{{}}',"
        f" {rows}, '{at}', '{at}', {lease}, {error})",
    )
    world.execute(database, f"UPDATE wave_coordination SET total = total + 1 WHERE wave_number = {wave}")


def test_what_is_kept_and_what_came_after_is_what_there_is(database: Database) -> None:
    """Counted anew, kept, kept again after more was done: the numbers are the same as without."""
    world.create(database)
    for number, status in enumerate(("completed", "completed", "pending", "processing", "failed")):
        batch(database, number, status, 5000.0 - number)
    batch(database, 5, "completed", 60.0)
    # A batch that looks for changed lines stands in their parents' wave.
    batch(database, 90, "completed", 4000.0, wave=1)

    def waves() -> object:
        return database.run(lambda connection: read_progress(connection, JOB)).waves

    before = waves()
    database.run(lambda connection: keep_counts(connection, JOB))
    assert waves() == before
    batch(database, 6, "completed", 2000.0)
    grown = waves()
    assert grown != before
    world.execute(database, "UPDATE wave_coordination SET counted = NULL, counted_until = NULL")
    assert waves() == grown, "one that was committed late, with an older moment, is found missing and counted"
    for _ in range(2):
        database.run(lambda connection: keep_counts(connection, JOB))
        assert waves() == grown
    world.execute(database, "UPDATE wave_batches SET status = 'completed', row_count = 77, updated_at = created_at,"
                  " lease_expires_at = NULL WHERE status = 'processing'")  # fmt: skip
    late = waves()
    world.execute(database, "UPDATE wave_coordination SET counted = NULL, counted_until = NULL")
    assert waves() == late


def test_of_what_is_kept_no_batch_is_counted_again(database: Database) -> None:
    world.create(database)
    for number in range(4):
        batch(database, number, "completed", 5000.0)
    database.run(lambda connection: keep_counts(connection, JOB))
    # As a reader sees it who trusts what is kept.
    world.execute(database, "UPDATE wave_batches SET row_count = 999 WHERE record = 'line'")
    [_, lines] = database.run(lambda connection: read_progress(connection, JOB)).waves
    assert (lines.rows["line"], lines.done, lines.tries) == (40, 4, 2)
    world.execute(database, "UPDATE wave_coordination SET counted = NULL, counted_until = NULL")
    [_, lines] = database.run(lambda connection: read_progress(connection, JOB)).waves
    assert lines.rows["line"] == 4 * 999


def test_what_a_landing_may_still_commit_is_not_kept(database: Database) -> None:
    world.create(database)
    batch(database, 1, "completed", counted.SETTLED_SECONDS - 30)
    database.run(lambda connection: keep_counts(connection, JOB))
    kept = "SELECT counted_until FROM wave_coordination WHERE counted IS NOT NULL"
    assert world.query(database, kept) == []
    batch(database, 2, "completed", counted.SETTLED_SECONDS + 30)
    database.run(lambda connection: keep_counts(connection, JOB))
    assert len(world.query(database, kept)) == 1


def test_batches_are_counted_by_the_index_that_has_all_of_it(database: Database) -> None:
    world.leased(database)
    batch(database, 1, "completed", 5000.0)
    database.run(lambda connection: keep_counts(connection, JOB))
    batch(database, 2, "completed", 10.0)
    world.execute(database, f"UPDATE import_jobs SET status = 'processing' WHERE job_id = '{JOB}'")
    found: list[str] = []

    @event.listens_for(database.engine, "before_cursor_execute", retval=True)
    def explain(connection: object, cursor: object, statement: str, parameters: object, *rest: object) -> object:
        if "row_count" in statement and statement.startswith("SELECT"):
            found.append(statement)
            word = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN"
            told = connection.connection.cursor()  # type: ignore[attr-defined]
            told.execute(f"{word} {statement}", parameters)
            assert "batches_to_count" in str(told.fetchall()), statement
        return statement, parameters

    seen = database.run(lambda connection: read_progress(connection, JOB))
    assert seen.recent is not None
    assert len(found) >= 4


def test_the_commits_of_late_are_those_of_the_run_at_work(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    world.create(database)
    for number, age in enumerate([progress.RECENT_SECONDS + 60, 500.0, 300.0, 100.0]):
        batch(database, number, "completed", age, rows=number)

    def rows() -> list[int] | None:
        recent = database.run(lambda connection: read_progress(connection, JOB)).recent
        return None if recent is None else sorted(commit.rows for commit in recent.commits)

    world.execute(database, "UPDATE import_jobs SET status = 'processing', created_at = '2020-01-01 00:00:00'")
    assert rows() is None, "nobody is at work"
    world.take(database)
    assert rows() == [], "what an earlier run did is not this one's speed"
    world.execute(database, "UPDATE wave_journal SET at = '2020-01-01 00:00:00'")
    assert rows() == [1, 2, 3]
    monkeypatch.setattr(progress, "RECENT_COMMITS", 2)
    # The older of two is where the time begins: what lies beside it in other records is not known.
    assert rows() == [3]


def test_watermarks_are_told_also_of_records_that_have_none_yet(database: Database) -> None:
    bound = (
        '{"records": {"order": {"cursor": "lastmodifieddate"}, "item": {"cursor": null}, "customer": {"cursor": "d"}}}'
    )
    world.create(database)
    world.execute(database, f"UPDATE import_jobs SET config_text = '{bound}'")
    world.execute(
        database,
        "INSERT INTO import_watermarks (profile, record, watermark, job_id, updated_at)"
        f" VALUES ('p', 'order', '2026-01-01 00:00:00', '{JOB}', '2026-01-01 00:00:00')",
    )
    seen = database.run(lambda connection: read_progress(connection, JOB))
    assert {name: mark and str(mark) for name, mark in seen.watermarks.items()} == {
        "customer": None,
        "order": "2026-01-01 00:00:00",
    }
    assert seen.as_of is not None
