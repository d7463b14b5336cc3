"""The oracle: each rule finds what breaks it, and nothing in a job that lived as jobs do."""

import pytest
import store_world as world
from store_world import JOB, A, B

from waveimport.core.waves import Trigger
from waveimport.store import audit, batches, jobs
from waveimport.store.transactions import Database

BREAKS = {
    "one_unfinished_job": ["UPDATE import_jobs SET profile = 'p' WHERE job_id = 'import_2'"],
    "one_wave_a_number": ["UPDATE wave_coordination SET wave_number = 9 WHERE wave_number = 2"],
    "every_job_has_waves": ["DELETE FROM wave_coordination WHERE job_id = 'import_2'"],
    "total_is_the_count": ["UPDATE wave_coordination SET total = total + 1 WHERE wave_number = 1"],
    "every_batch_is_in_a_wave": ["UPDATE wave_batches SET wave_number = 7 WHERE batch_id = '{A}'"],
    "a_completed_wave_is_sealed": ["UPDATE wave_coordination SET status = 'completed' WHERE wave_number = 2"],
    "a_completed_wave_is_done": ["UPDATE wave_coordination SET status = 'completed', sealed = 1 WHERE wave_number = 1"],
    "a_failed_wave_is_at_rest": ["UPDATE wave_coordination SET status = 'failed' WHERE wave_number = 1"],
    "a_failed_wave_has_a_cause": ["UPDATE wave_coordination SET status = 'failed' WHERE wave_number = 2"],
    "a_seal_follows_its_parent": ["UPDATE wave_coordination SET sealed = 1 WHERE wave_number = 2"],
    "a_main_wave_is_sealed_by_its_end": ["UPDATE wave_coordination SET sealed = 1 WHERE wave_number = 1"],
    "a_pending_wave_has_not_begun": ["UPDATE wave_coordination SET status = 'pending' WHERE wave_number = 1"],
    "a_completed_job_is_done": ["UPDATE import_jobs SET status = 'completed' WHERE job_id = 'import_1'"],
    "a_failed_job_is_at_rest": ["UPDATE import_jobs SET status = 'failed' WHERE job_id = 'import_1'"],
    "a_failed_job_has_a_cause": ["UPDATE import_jobs SET status = 'failed' WHERE job_id = 'import_1'"],
    "an_ended_job_has_nothing_at_work": ["UPDATE import_jobs SET status = 'cancelled' WHERE job_id = 'import_1'"],
    "work_has_a_lease": ["UPDATE wave_batches SET lease_token = 1 WHERE batch_id = '{B}'"],
    "work_was_claimed": ["UPDATE wave_batches SET attempt = 0 WHERE batch_id = '{A}'"],
    "only_what_failed_is_owed": ["UPDATE wave_batches SET owed = 1 WHERE batch_id = '{B}'"],
    "what_is_carried_is_there": [
        "UPDATE wave_batches SET carried_by = 'import_2', carried_as = '1/x/debt-0000' WHERE batch_id = '{B}'"
    ],
    "tokens_only_grow": ["UPDATE wave_batches SET lease_token = 99 WHERE batch_id = '{A}'"],
    "a_free_lease_leaves_no_work": [
        "UPDATE import_jobs SET lease_owner = NULL, lease_expires_at = NULL WHERE job_id = 'import_1'"
    ],
    "the_journal_is_whole": ["DELETE FROM wave_journal WHERE job_id = 'import_1' AND seq = 2"],
    "the_journal_knows_one_holder": ["UPDATE wave_journal SET token = 9 WHERE job_id = 'import_1' AND seq = 1"],
}


def broken(database: Database) -> list[str]:
    return [violation.rule.code for violation in database.run(audit.violations)]


def test_every_rule_has_a_way_to_be_broken() -> None:
    assert set(BREAKS) == {rule.code for rule in audit.RULES}


@pytest.mark.parametrize("code", BREAKS)
def test_what_breaks_a_rule_is_found_and_named(database: Database, code: str) -> None:
    """The checks and keys of the tables would refuse some of it: the oracle has to see it without them."""
    held = world.planned(database)
    world.claim(database, held, count=1)
    world.create(database, "import_2", "other")
    assert broken(database) == []
    unguard(database)
    for sql in BREAKS[code]:
        world.execute(database, sql.format(A=A, B=B))
    found = database.run(audit.violations)
    assert code in [violation.rule.code for violation in found]
    told = str(next(violation for violation in found if violation.rule.code == code))
    assert told.startswith(f"{code}: it does not hold that ")
    assert "job import_" in told


def unguard(database: Database) -> None:
    """Take the guards of the tables away, as if they had been forgotten."""
    if database.is_sqlite:
        definition = world.query(database, "SELECT sql FROM sqlite_master WHERE name = 'import_jobs'")[0][0]
        bare = definition.replace(" CONSTRAINT one_unfinished_job UNIQUE (unfinished_profile),", "")
        bare = "\n".join(line for line in bare.split("\n") if "one_unfinished_job" not in line)
        assert bare != definition
        columns = "job_id, profile, mode, config_hash, config_text, status, coordination_status, idle_passes,"
        columns += (
            " journal_seq, lease_owner, lease_token, lease_expires_at, created_at, updated_at, finished_at, error"
        )
        for sql in (
            "ALTER TABLE import_jobs RENAME TO guarded",
            bare,
            f"INSERT INTO import_jobs ({columns}) SELECT {columns} FROM guarded",
        ):
            database.run(lambda connection, sql=sql: connection.exec_driver_sql(sql) and None)
        with database.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA ignore_check_constraints = 1")
        return
    world.execute(database, "ALTER TABLE import_jobs DROP INDEX one_unfinished_job")
    for table, check in world.query(
        database,
        "SELECT table_name, constraint_name FROM information_schema.table_constraints"
        " WHERE constraint_schema = DATABASE() AND constraint_type = 'CHECK'",
    ):
        world.execute(database, f"ALTER TABLE {table} DROP CONSTRAINT {check}")


def test_a_job_that_lives_as_jobs_do_breaks_no_rule_at_any_step(database: Database) -> None:
    def sound() -> None:
        assert [str(violation) for violation in database.run(audit.violations)] == []

    held = world.planned(database)
    sound()
    (first, second) = world.claim(database, held)
    sound()
    world.put(database, world.page(first, children=(world.line(A),)))
    sound()
    database.run(lambda connection: batches.fail_attempt(connection, second, error="bad", max_tries=1, delay_seconds=0))
    for _ in range(3):
        world.advance(database, held)
        sound()
        for claimed in world.claim(database, held, wave=2):
            world.put(database, world.page(claimed))
            sound()
    assert world.job_status(database) == "failed"
    database.run(lambda connection: jobs.retry_failed(connection, JOB, token=held.token, trigger=Trigger.RETRY))
    sound()
    database.run(lambda connection: jobs.cancel_job(connection, JOB, trigger=Trigger.MANUAL))
    sound()


def test_one_job_may_be_asked_for_alone(database: Database) -> None:
    world.planned(database)
    world.create(database, "import_2", "other")
    world.execute(database, "UPDATE wave_coordination SET total = 9")
    assert {v.job_id for v in database.run(audit.violations)} == {JOB, "import_2"}
    assert {v.job_id for v in database.run(lambda c: audit.violations(c, job_id=JOB))} == {JOB}
