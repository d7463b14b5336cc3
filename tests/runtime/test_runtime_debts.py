"""What fails for good in a daily job is owed: later jobs carry it until it has landed, on both databases."""

import re
from collections.abc import Iterator

import pytest
from daily_world import AFTER, LINES, ORDERS, SINCE, Daily

from waveimport.core.graph import PlannedWave
from waveimport.core.increments import Since
from waveimport.core.waves import Trigger, WaveKind
from waveimport.errors import Fenced, NotFailed, QueryRefused, UnknownBatch
from waveimport.store import audit, batches, debts, jobs, skipping, watermarks
from waveimport.store.batches import Claim
from waveimport.store.debts import Debt
from waveimport.store.transactions import Database

NOTE = PlannedWave(1, WaveKind.MAIN, ("note",))
LATER = {"order": Since("2026-09-21 14:00:00", {"line": "2026-09-21 14:00:00"})}


class Owing(Daily):
    """Of what changed in `import_2`, the batch of order 2 and its lines fail for good."""

    broken = r"memo.* FROM orders "

    def start(self) -> None:
        super().start()
        self.source.execute("UPDATE orders SET memo = 'new', at = ? WHERE id = 2", AFTER)
        self.source.execute("UPDATE lines SET at = ? WHERE uniquekey = 501", AFTER)
        self.source.execute("DELETE FROM lines WHERE uniquekey = 502")
        self.source.before = self.refuse
        self.fail()

    def refuse(self, sql: str) -> bytes | None:
        """Refuse the rows of a table, not what is asked to plan them."""
        if re.search(self.broken, sql) and "COUNT(" not in sql:
            raise QueryRefused("a value that cannot be")
        return None

    def fail(self) -> None:
        for _ in range(self.settings.max_tries):
            for ended in self.work_all():
                if ended.error is not None:
                    self.refused(ended.claim, str(ended.error))
        self.advance()
        assert self.job_status() == "failed"

    def refused(self, claim: Claim, error: str) -> None:
        self.writer.transact(
            lambda connection: batches.fail_attempt(connection, claim, error=error, max_tries=1, delay_seconds=0.0)
        )

    def job_status(self) -> str:
        return str(self.query(f"SELECT status FROM import_jobs WHERE job_id = '{self.job_id}'")[0][0])

    def standing(self) -> list[Debt]:
        assert self.writer.transact(audit.violations) == []
        return self.writer.transact(lambda connection: debts.standing(connection, "p"))

    def mend(self) -> None:
        self.source.before = lambda sql: None

    def cancel(self) -> None:
        self.writer.transact(lambda connection: jobs.cancel_job(connection, self.job_id, trigger=Trigger.MANUAL))


@pytest.fixture
def world(database: Database) -> Iterator[Owing]:
    made = Owing(database, records=(ORDERS, LINES))
    made.start()
    yield made
    made.close()


def test_the_watermark_moves_on_and_what_failed_is_owed(world: Owing) -> None:
    [debt] = world.standing()
    assert (debt.job_id, debt.record, debt.spec["since"], debt.carried_by) == ("import_2", "order", SINCE, None)
    marks = world.writer.transact(lambda connection: watermarks.read(connection, "p"))
    assert {mark.moment > SINCE for mark in marks.values()} == {True}
    assert 502 not in world.lines(), "what did not fail has landed"
    assert world.memos()[2] == "memo 2"


def test_the_next_job_carries_it_beside_its_own_and_then_it_is_settled(world: Owing) -> None:
    world.mend()
    world.begin("import_3", LATER)
    [debt] = world.standing()
    assert (debt.carried_by, debt.carried_as) == ("import_3", "1/order/debt-0000")
    world.source.execute("UPDATE orders SET memo = 'newest', at = '2026-09-21 15:00:00' WHERE id = 4")
    world.finish()
    assert (world.memos()[2], world.memos()[4]) == ("new", "newest")
    assert world.standing() == []
    world.begin("import_4", LATER)
    assert world.query("SELECT COUNT(*) FROM wave_batches WHERE job_id = 'import_4' AND kind <> 'plan'") == [(0,)]


def test_it_fails_again_and_is_owed_once(world: Owing) -> None:
    for number in (3, 4, 5):
        world.begin(f"import_{number}", LATER)
        world.fail()
        [debt] = world.standing()
        assert (debt.job_id, debt.batch_id) == (f"import_{number}", "1/order/debt-0000")
    world.mend()
    world.begin("import_6", LATER)
    world.finish()
    assert world.standing() == []
    assert world.memos()[2] == "new"


def test_a_job_that_is_cancelled_leaves_what_it_carried_to_the_next(world: Owing) -> None:
    world.mend()
    world.begin("import_3", LATER)
    world.cancel()
    [debt] = world.standing()
    assert debt.job_id == "import_2"
    world.begin("import_4", LATER)
    world.finish()
    assert world.standing() == []
    assert world.memos()[2] == "new"


def test_one_that_failed_in_a_job_that_was_cancelled_afterwards_is_carried_once(world: Owing) -> None:
    world.begin("import_3", LATER)
    world.fail()
    world.cancel()
    world.mend()
    world.begin("import_4", LATER)
    assert len(world.standing()) == 1
    made = "SELECT COUNT(*) FROM wave_batches WHERE job_id = 'import_4' AND batch_id LIKE '%debt%'"
    assert world.query(made) == [(1,)]
    world.finish()
    assert world.standing() == []


def test_a_full_read_covers_it(world: Owing) -> None:
    world.mend()
    world.begin("import_3", {})
    assert world.standing() == []
    world.finish()
    assert world.memos()[2] == "new"


def test_what_a_job_does_not_touch_is_left_for_another(world: Owing) -> None:
    world.mend()
    other = jobs.NewJob("import_3", "p", "incremental", "hash", "text", ("note",), (NOTE,))
    world.writer.transact(lambda connection: jobs.create_job(connection, other))
    [debt] = world.standing()
    assert debt.carried_by is None


def test_debts_that_differ_in_their_moment_alone_are_one_batch_of_the_earliest(world: Owing) -> None:
    """Else a log of deletions that a role may not read would be owed once more every night."""
    world.broken = "FROM deletedrecord "
    for number in (3, 4, 5):
        world.begin(f"import_{number}", LATER)
        if number == 5:
            made = "SELECT batch_id, spec FROM wave_batches WHERE job_id = 'import_5' AND batch_id LIKE '%debt%'"
            [(_, spec)] = world.query(made)
            assert '"reads":"deleted"' in spec
            assert LATER["order"].record in spec
        world.fail()
    assert world.memos()[2] == "new", "what could be made good was"
    world.source.execute("DELETE FROM orders WHERE id = 6")
    world.source.execute("INSERT INTO deletedrecord VALUES (6, '2026-09-21 14:30:00')")
    world.mend()
    world.begin("import_6", {"order": Since("2026-09-22 00:00:00", {"line": "2026-09-22 00:00:00"})})
    world.finish()
    assert 6 not in world.orders()
    assert world.standing() == []


def test_lines_that_failed_stand_in_their_own_wave(world: Owing) -> None:
    world.broken = r"uniquekey.* FROM lines "
    world.begin("import_3", LATER)
    world.source.execute("UPDATE orders SET memo = 'newest', at = '2026-09-21 15:00:00' WHERE id = 4")
    world.source.execute("DELETE FROM lines WHERE uniquekey = 402")
    world.fail()
    assert [(debt.record, debt.spec.get("parents")) for debt in world.standing()] == [("line", [4]), ("line", [2, 4])]
    world.mend()
    world.begin("import_4", LATER)
    waves = "SELECT wave_number FROM wave_batches WHERE job_id = 'import_4' AND record = 'line'"
    assert world.query(waves) == [(2,), (2,)]
    world.finish()
    assert 402 not in world.lines()


def skip(world: Owing, job_id: str, batch_id: str, reason: str = "it is test data") -> skipping.Skipped:
    return world.writer.transact(
        lambda connection: skipping.skip(connection, job_id, batch_id, reason=reason, trigger=Trigger.MANUAL)
    )


def test_what_is_skipped_is_owed_no_more(world: Owing) -> None:
    [debt] = world.standing()
    done = skip(world, "import_2", debt.batch_id)
    assert (done.record, done.now, done.left, done.watermarks_moved) == ("order", True, 0, False)
    assert world.standing() == []
    assert skip(world, "import_2", debt.batch_id, "again").reason == "it is test data"
    events = f"SELECT event, detail FROM batch_events WHERE batch_id = '{debt.batch_id}' ORDER BY id DESC"
    assert world.query(events)[0] == ("skipped", "manual: it is test data")
    again = world.writer.transact(
        lambda connection: jobs.retry_failed(connection, "import_2", token=world.lease.token, trigger=Trigger.MANUAL)
    )
    assert again == 0, "a retry leaves it"


def test_only_what_failed_and_nobody_is_at_work_on_can_be_skipped(world: Owing) -> None:
    [debt] = world.standing()
    with pytest.raises(UnknownBatch, match="no batch `9/x`"):
        skip(world, "import_2", "9/x")
    with pytest.raises(NotFailed, match="is completed; only one that failed"):
        skip(world, "import_2", "1/order/plan")
    world.begin("import_3", LATER)
    with pytest.raises(NotFailed, match="carried as 1/order/debt-0000 by the job import_3, where it is pending"):
        skip(world, "import_2", debt.batch_id)
    world.mend()
    world.finish()
    with pytest.raises(NotFailed, match="it landed as 1/order/debt-0000 of the job import_3"):
        skip(world, "import_2", debt.batch_id)


def test_the_first_full_import_leaves_no_debts_and_moves_no_watermark_until_all_is_in_or_skipped(
    database: Database,
) -> None:
    world = Owing(database, records=(ORDERS, LINES))
    world.job_id = "import_1"
    world.source.take_functions("TO_CHAR", "SYS_EXTRACT_UTC", "TO_DATE")
    for table in ("orders", "lines"):
        world.source.execute(f"ALTER TABLE {table} ADD COLUMN at TEXT DEFAULT '{AFTER}'")
    world.source.execute("INSERT INTO orders VALUES (1, 'first', ?)", AFTER)
    world.source.before = world.refuse
    world.fail()
    assert world.standing() == []
    assert world.query("SELECT COUNT(*) FROM import_watermarks") == [(0,)]
    [(failed,)] = world.query("SELECT batch_id FROM wave_batches WHERE status = 'failed'")
    done = skip(world, "import_1", failed)
    assert (done.left, done.watermarks_moved) == (0, True)
    assert world.query("SELECT COUNT(*) FROM import_watermarks") == [(2,)]
    world.close()


def retried(world: Owing) -> None:
    world.writer.transact(
        lambda connection: jobs.retry_failed(connection, world.job_id, token=world.lease.token, trigger=Trigger.MANUAL)
    )


def test_a_job_that_is_taken_up_again_and_then_cancelled_leaves_no_watermark_beyond_what_it_did_not_read(
    world: Owing,
) -> None:
    """Its failed batches are pending once more, so in no debt; the next job reads the family in full."""
    retried(world)
    world.cancel()
    assert world.query("SELECT COUNT(*) FROM import_watermarks") == [(0,)]


def test_a_failed_job_is_not_taken_up_behind_a_later_one(world: Owing) -> None:
    """Its ranges would be read again under its own name, and what the later job landed be removed as gone."""
    stale = world.lease
    world.mend()
    world.begin("import_3", LATER)
    world.finish()
    with pytest.raises(Fenced, match="made a new job since import_2 failed"):
        world.writer.transact(
            lambda connection: jobs.retry_failed(connection, "import_2", token=stale.token, trigger=Trigger.MANUAL)
        )
    assert (world.memos()[2], len(world.orders())) == ("new", 6)


def test_lines_of_an_order_that_left_meanwhile_do_not_come_back_with_their_debt(world: Owing) -> None:
    world.broken = r"uniquekey.* FROM lines "
    world.begin("import_3", LATER)
    world.fail()
    world.source.execute("UPDATE orders SET memo = 'closed', at = '2026-09-21 15:00:00' WHERE id = 2")
    world.begin("import_4", LATER)
    world.fail()
    assert 2 not in world.orders()
    world.mend()
    world.begin("import_5", {"order": Since("2026-09-22 00:00:00", {"line": "2026-09-22 00:00:00"})})
    world.finish()
    assert not {201, 202} & set(world.lines())
    assert world.standing() == []


def test_a_full_read_that_was_to_cover_it_and_was_cancelled_leaves_it_owed(world: Owing) -> None:
    world.begin("import_3", {})
    assert world.standing() == []
    world.cancel()
    [debt] = world.standing()
    assert debt.job_id == "import_2"
