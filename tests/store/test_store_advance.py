"""T2: fenced, guarded by what the snapshot saw, journalled; repeating it writes nothing."""

import threading
import time
from dataclasses import replace

import pytest
import store_world as world
from sqlalchemy import Connection, text
from store_world import JOB, A

from waveimport.core.waves import Decision, JobSnapshot, JobStatus, Trigger, WaveStatus, decide
from waveimport.errors import Fenced
from waveimport.store import batches, jobs, journal, lease, waves
from waveimport.store.lease import Lease
from waveimport.store.transactions import Database

MOMENT = "'2026-01-01 00:00:00'"
GROW = (
    f"UPDATE wave_coordination SET total = total + 1 WHERE job_id = '{JOB}' AND wave_number = 2",
    "INSERT INTO wave_batches (job_id, batch_id, wave_number, record, kind, status, spec, created_at, updated_at)"
    f" VALUES ('{JOB}', '{A}/line/9', 2, 'line', 'parents', 'pending', '{{}}', {MOMENT}, {MOMENT})",
)


def test_a_stale_token_is_fenced_and_writes_nothing(database: Database) -> None:
    held = world.planned(database)
    before = world.contents(database)
    with pytest.raises(Fenced, match="host:1"):
        world.advance(database, Lease(JOB, held.owner, held.token - 1))
    assert world.contents(database) == before


def test_the_first_pass_starts_the_job_and_its_first_wave(database: Database) -> None:
    held = world.leased(database)
    seen, decision = world.advance(database, held)
    assert (seen.status, decision.job) == (JobStatus.PENDING, JobStatus.PROCESSING)
    assert world.query(database, "SELECT status, coordination_status FROM import_jobs") == [("processing", "planning")]
    assert world.query(database, "SELECT status FROM wave_coordination ORDER BY wave_number") == [
        ("processing",),
        ("pending",),
    ]


def test_a_memory_that_is_wrong_changes_nothing_of_what_a_pass_does(database: Database) -> None:
    """It is of another connection's commits, or of a transaction that was rolled back."""
    held = world.planned(database)
    for _ in range(2):
        world.advance(database, held)
    before = passes(database)
    (row,) = world.query(database, "SELECT seq, situation FROM wave_journal WHERE situation IS NOT NULL")
    memory = waves.Memory(opened=(2,), situations={str(row[1]): before[0][0]})
    database.run(
        lambda connection: waves.advance(connection, held, limit=8, free_slots=8, trigger=Trigger.WORKER, memory=memory)
    )
    assert passes(database) == [*before[:-1], (row[0], before[-1][1] + 1)], "counted on the row of its situation"
    assert (memory.opened, memory.situations) == ((1, 2), {row[1]: row[0]})


def test_a_pass_goes_to_a_fixpoint(database: Database) -> None:
    held = world.planned(database)
    world.advance(database, held)
    _, again = world.advance(database, held)
    assert not again.changes_rows


def test_a_repeated_pass_writes_nothing_but_the_idle_counter(database: Database) -> None:
    held = world.planned(database)
    world.advance(database, held)
    world.advance(database, held)
    before = world.contents(database)
    ((idle,),) = world.query(database, "SELECT idle_passes FROM import_jobs")
    for _ in range(3):
        world.advance(database, held)
    assert world.contents(database) == before
    assert world.query(database, "SELECT idle_passes FROM import_jobs") == [(idle + 3,)]
    world.claim(database, held)
    world.advance(database, held)
    assert world.query(database, "SELECT idle_passes FROM import_jobs") == [(0,)], "a pass that sees more is not idle"


def passes(database: Database) -> list[tuple[object, ...]]:
    return world.query(database, "SELECT seq, repeats FROM wave_journal WHERE event = 'pass' ORDER BY seq")


def test_a_situation_that_is_met_again_is_counted_on_its_row_whatever_came_between(database: Database) -> None:
    held = world.planned(database)
    world.advance(database, held)
    before = len(passes(database))
    for free in (3, 2, 3, 2, 3):
        world.advance(database, held, free=free)
    new = passes(database)[before:]
    assert [repeats for _, repeats in new] == [2, 1]
    assert world.query(database, "SELECT idle_passes, pass_seq FROM import_jobs") == [(0, new[0][0])]
    (first, second) = database.run(lambda connection: journal.entries(connection, JOB))[-2:]
    assert first.repeated_at is not None
    assert second.repeated_at is not None
    assert first.at <= second.at <= second.repeated_at <= first.repeated_at


def test_a_wave_that_only_grows_is_no_new_situation(database: Database) -> None:
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    world.put(database, world.page(one, children=(world.line(A),), done=False))
    world.advance(database, held, free=0, limit=1)
    world.advance(database, held, free=0, limit=1)
    before = passes(database)
    for sql in GROW:
        database.run(lambda connection, sql=sql: connection.execute(text(sql)))
    seen, _ = world.advance(database, held, free=0, limit=1)
    assert seen.waves[1].total == 2
    assert [seq for seq, _ in passes(database)] == [seq for seq, _ in before]
    assert passes(database)[-1][1] == before[-1][1] + 1


def test_a_run_that_works_is_not_idle_and_one_that_hands_nothing_out_is(database: Database) -> None:
    """A wave of a thousand batches is passed a thousand times alike: that is no alert. Nor may a decision to hand out
    what no claim ever finds look like work."""
    held = world.planned(database)
    world.advance(database, held)
    for worked, idle in ((False, 1), (False, 2), (True, 0), (True, 0), (False, 1)):
        world.advance(database, held, worked=worked)
        assert world.query(database, "SELECT idle_passes FROM import_jobs") == [(idle,)]


def test_the_next_holder_writes_rows_of_its_own(database: Database) -> None:
    held = world.planned(database)
    world.advance(database, held)
    world.advance(database, held)
    database.run(lambda connection: lease.release(connection, held))
    other = world.take(database, world.holder(2))
    assert isinstance(other, Lease)
    before = len(passes(database))
    world.advance(database, other)
    assert len(passes(database)) == before + 1


def test_an_empty_decision_is_journalled_too(database: Database) -> None:
    """The decision that left 35 of 45 batches pending for ever was an empty one, and nothing kept it."""
    held = world.planned(database)
    world.advance(database, held, decide=lambda snapshot: Decision(reason="wave 1 is processing already"))
    entry = database.run(lambda connection: journal.entries(connection, JOB))[-1]
    assert entry.decision == Decision(reason="wave 1 is processing already")
    assert entry.snapshot is not None
    assert entry.snapshot.waves[0].claimable == 2
    assert decide(entry.snapshot).dispatch, "today's code decides otherwise on the very snapshot"


def test_the_journal_gives_back_what_was_seen_and_decided_in_order(database: Database) -> None:
    held = world.leased(database)
    first = world.advance(database, held)
    second = world.advance(database, held)
    entries = database.run(lambda connection: journal.entries(connection, JOB))
    assert [(entry.seq, entry.event) for entry in entries] == [(1, "lease"), (2, "pass"), (3, "pass")]
    assert [(entry.snapshot, entry.decision) for entry in entries[1:]] == [first, second]
    assert {entry.token for entry in entries} == {held.token}
    assert [entry.source for entry in entries] == ["manual", "worker", "worker"]
    assert len(database.run(lambda connection: journal.entries(connection, JOB, until=2))) == 2


def at_the_end(database: Database) -> Lease:
    """Everything of the parents is completed: the next pass would seal and complete both waves and the job."""
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    world.put(database, world.page(one))
    return held


def test_a_wave_that_grows_between_the_snapshot_and_the_move_is_not_completed_without_the_new_batch(
    database: Database,
) -> None:
    """On MySQL another connection lands the child; on SQLite, where one writes at a time, the pass's own does."""
    held = at_the_end(database)
    asked: list[JobSnapshot] = []
    inside: list[Connection] = []

    def growing(snapshot: JobSnapshot) -> Decision:
        asked.append(snapshot)
        if len(asked) == 1:
            if database.is_sqlite:
                for sql in GROW:
                    inside[0].execute(text(sql))
            else:
                with database.engine.begin() as other:
                    for sql in GROW:
                        other.execute(text(sql))
        return decide(snapshot)

    def work(connection: Connection) -> Decision:
        inside.append(connection)
        _, decision = waves.advance(connection, held, limit=4, free_slots=4, trigger=Trigger.WORKER, decide=growing)
        return decision

    decision = database.run(work)
    assert decide(asked[0]).job is JobStatus.COMPLETED, "on the first reading the job seemed complete"
    assert len(asked) == 2, "the pass was done again"
    assert asked[1].waves[1].total == 1
    assert decision.job is None
    assert world.job_status(database) == "processing"
    assert world.query(database, "SELECT status, sealed, total FROM wave_coordination ORDER BY wave_number") == [
        ("completed", 1, 2),
        ("processing", 1, 1),
    ]
    assert len(world.claim(database, held, 2)) == 1


def test_a_wave_at_work_that_grows_before_it_is_sealed_is_read_again(database: Database) -> None:
    """Nothing of it moves, so that its seal alone must notice."""
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    world.put(database, world.page(one, children=(world.line(A),)))
    asked: list[JobSnapshot] = []

    def work(connection: Connection) -> Decision:
        def growing(snapshot: JobSnapshot) -> Decision:
            asked.append(snapshot)
            if len(asked) == 1:
                for sql in GROW:
                    connection.execute(text(sql))
            return replace(decide(snapshot), moves=tuple(m for m in decide(snapshot).moves if m.wave_number == 1))

        return waves.advance(connection, held, limit=4, free_slots=4, trigger=Trigger.WORKER, decide=growing)[1]

    decision = database.run(work)
    assert [snapshot.waves[1].total for snapshot in asked] == [1, 2]
    assert [(seal.wave_number, seal.total) for seal in decision.seals] == [(1, 2), (2, 2)]


@pytest.mark.mysql
def test_a_pass_sees_what_was_committed_while_it_waited_for_the_lock_of_the_job(mysql_database: Database) -> None:
    """A retry has put the failed batch back meanwhile: a pass that had read before would call the job failed."""
    database = mysql_database
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    database.run(lambda c: batches.fail_attempt(c, one, error="bad", max_tries=1, delay_seconds=0.0))
    passes: list[tuple[JobSnapshot, Decision]] = []
    thread = threading.Thread(target=lambda: passes.append(world.advance(database, held)))
    with database.engine.begin() as rival:
        jobs.retry_failed(rival, JOB, token=held.token, trigger=Trigger.RETRY)
        thread.start()
        waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
        while thread.is_alive() and not world.query(database, waiting)[0][0]:
            time.sleep(0.15)  # the server tells by no other means that somebody waits, and anew every 0.1 s
        assert not passes, "it did not wait for the lock of the job"
    thread.join(30)
    ((snapshot, decision),) = passes
    assert (snapshot.waves[0].pending, snapshot.waves[0].failed) == (True, False)
    assert decision.job is None
    assert world.job_status(database) == "processing"


def test_an_unguarded_move_would_complete_the_job_beside_a_pending_batch(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same growth with the guard on the number of batches taken out: the job ends with a batch pending."""
    held = at_the_end(database)
    unguarded = text("UPDATE wave_coordination SET status = :target WHERE job_id = :job AND wave_number = :wave")
    monkeypatch.setattr(waves, "_MOVE", unguarded)
    seal = text("UPDATE wave_coordination SET sealed = 1 WHERE job_id = :job AND wave_number = :wave")
    monkeypatch.setattr(waves, "_SEAL", seal)

    def work(connection: Connection) -> None:
        def growing(snapshot: JobSnapshot) -> Decision:
            for sql in GROW:
                connection.execute(text(sql))
            return decide(snapshot)

        waves.advance(connection, held, limit=4, free_slots=4, trigger=Trigger.WORKER, decide=growing)

    database.run(work)
    assert world.job_status(database) == "completed"
    assert world.status_of(database, f"{A}/line/9") == "pending"


def test_early_completion_a_job_is_not_complete_while_its_derived_wave_has_work(database: Database) -> None:
    """Incident: the job was marked complete when its main waves were, while derived batches were still pending."""
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    world.put(database, world.page(one, children=(world.line(A, 1), world.line(A, 2))))
    _, decision = world.advance(database, held)
    assert decision.job is None
    assert world.query(database, "SELECT status, sealed FROM wave_coordination ORDER BY wave_number") == [
        ("completed", 1),
        ("processing", 1),
    ]
    first, second = world.claim(database, held, 2)
    world.put(database, world.page(first))
    world.advance(database, held)
    assert world.job_status(database) == "processing"
    world.put(database, world.page(second))
    _, decision = world.advance(database, held)
    assert decision.job is JobStatus.COMPLETED
    assert world.query(database, "SELECT finished_at IS NOT NULL FROM import_jobs") == [(1,)]


def test_progressive_dispatch_a_wave_that_is_processing_gets_every_later_batch_claimed(database: Database) -> None:
    """Incident: 35 of 45 derived batches stayed pending for ever behind "the wave is processing already"."""
    ids = [f"1/order/{number:07d}" for number in range(9)]
    held = world.planned(database, *ids)
    done = 0
    for one in world.claim(database, held, count=9):
        world.put(database, world.page(one, children=tuple(world.line(one.batch_id, key) for key in range(5))))
        _, decision = world.advance(database, held, free=3)
        for order in decision.dispatch:
            for child in world.claim(database, held, order.wave_number, order.count):
                world.put(database, world.page(child))
                done += 1
    while world.job_status(database) == "processing":
        _, decision = world.advance(database, held, free=3)
        assert decision.job or decision.dispatch, "45 children were made; each pass claims some until all are done"
        for order in decision.dispatch:
            for child in world.claim(database, held, order.wave_number, order.count):
                world.put(database, world.page(child))
                done += 1
    assert done == 45
    assert world.query(database, "SELECT COUNT(*) FROM wave_batches WHERE status <> 'completed'") == [(0,)]


@pytest.mark.mysql
def test_the_snapshot_is_one_statement_so_that_a_landing_is_seen_whole_or_not_at_all(mysql_database: Database) -> None:
    """Two statements may see the parent completed and its child not yet there; one may not."""
    database = mysql_database
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    count = "SELECT COUNT(*) FROM wave_batches WHERE wave_number = {} AND status NOT IN ('completed', 'failed')"

    with database.engine.connect() as pass_, pass_.begin():
        children = pass_.execute(text(count.format(2))).scalar()
        world.put(database, world.page(one, children=(world.line(A),)))
        parents = pass_.execute(text(count.format(1))).scalar()
    assert (parents, children) == (0, 0), "by two statements nothing is left to do"

    statements: list[str] = []

    def record(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if "wave_batches" in statement:
            statements.append(statement)

    from sqlalchemy import event

    event.listen(database.engine, "before_cursor_execute", record)
    seen, _ = world.advance(database, held)
    event.remove(database.engine, "before_cursor_execute", record)
    assert len(statements) == 1, "all that is asked of batches is asked at once"
    assert [wave.unfinished for wave in seen.waves] == [False, True]


@pytest.mark.mysql
def test_under_repeatable_read_a_job_seems_done_beside_an_unfinished_batch_and_under_ours_it_does_not(
    mysql_database: Database,
) -> None:
    """With the default isolation a plain COUNT after any earlier SELECT is stale, while the locking read beside it is
    fresh: 0 unfinished batches were counted, and there was 1."""
    database = mysql_database
    held = world.planned(database, A)
    (one,) = world.claim(database, held)
    lock = text("SELECT status FROM import_jobs FOR UPDATE")
    count = text("SELECT COUNT(*) FROM wave_batches WHERE wave_number = 2 AND status <> 'completed'")
    counted = {}
    for number, level in enumerate(("REPEATABLE READ", "READ COMMITTED")):
        with database.engine.connect().execution_options(isolation_level=level) as connection, connection.begin():
            before = connection.execute(count).scalar()
            world.put(database, world.page(one, done=False, children=(world.line(A, number),)))
            connection.execute(lock)
            counted[level] = int(connection.execute(count).scalar()) - int(before)
    assert counted == {"REPEATABLE READ": 0, "READ COMMITTED": 1}
    with database.engine.connect() as connection:
        assert connection.get_isolation_level() == "READ COMMITTED", "ours"


def test_a_lost_lease_is_noticed_by_the_pass_that_follows(database: Database) -> None:
    held = world.leased(database, seconds=world.LAPSED_SECONDS)
    world.advance(database, held)
    rival = world.take(database, world.holder(2))
    assert isinstance(rival, Lease)
    with pytest.raises(Fenced):
        world.advance(database, held)
    database.run(lambda connection: lease.release(connection, rival))
    with pytest.raises(Fenced, match="another run"):
        world.advance(database, held)


def test_a_wave_moves_by_the_table_only(database: Database) -> None:
    held = world.planned(database)

    def wrong(snapshot: JobSnapshot) -> Decision:
        from waveimport.core.waves import WaveMove

        return Decision(moves=(WaveMove(2, WaveStatus.COMPLETED, WaveStatus.PROCESSING, 0, "backwards"),))

    before = world.contents(database)
    with pytest.raises(AssertionError, match="completed to processing"):
        world.advance(database, held, decide=wrong)
    assert world.contents(database) == before
