"""What is here against what the source counts, on both databases: what an account at work explains, and what it does
not."""

import dataclasses
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from project import DEEP
from runtime_world import LINE, ORDER, World, column
from sqlalchemy import text

from waveimport.core.increments import Since
from waveimport.core.settings import ColumnKind, Deletes, RecordSettings, RunSettings
from waveimport.core.waves import Trigger
from waveimport.errors import QueryRefused, Reconciliation, SourceDown
from waveimport.runtime.reconciliation import reconcile
from waveimport.store import jobs, lease
from waveimport.store.jobs import NewJob
from waveimport.store.lease import Held, Holder, Lease
from waveimport.store.transactions import Database

BEFORE, MEANWHILE = "2026-09-21 10:00:00", "2026-09-21 14:13:30"
"""Before and after the source's clock when the jobs of these tests begin: 2026-09-21 14:13:20."""
SINCE = "2026-09-21 12:00:00"
AT = column("at", ColumnKind.TIMESTAMP)
ORDERS = dataclasses.replace(ORDER, columns=(*ORDER.columns, AT), cursor="at", where="memo <> 'closed'")
LINES = dataclasses.replace(LINE, columns=(*LINE.columns, AT), cursor="at")
TAX = RecordSettings(
    "tax",
    "taxes",
    (column("id"), column("lineid")),
    key=("id",),
    table_name="tax",
    derived_from="line",
    parent_key="lineid",
)
FEW_BATCHES = RunSettings(workers=1, lease_seconds=60, max_tries=2)
OF_LINES = "COUNT(*) AS n FROM lines"


of_one_database = pytest.mark.parametrize(
    "database_url",
    ["sqlite", *([pytest.param("mysql", marks=pytest.mark.mysql)] if DEEP else [])],
    indirect=True,
)
"""For what is decided, whatever the database; the deep profile has both."""


class Counted(World):
    """Six orders with two lines each and a tax of each line; and one that is closed, which is no business of ours."""

    def start(self) -> None:
        source = self.source
        source.take_functions("TO_CHAR", "SYS_EXTRACT_UTC", "TO_DATE")
        for table in ("orders", "lines"):
            source.execute(f"ALTER TABLE {table} ADD COLUMN at TEXT DEFAULT '{BEFORE}'")
        source.execute("CREATE TABLE deletedrecord (recordid INTEGER, deleteddate TEXT)")
        source.execute("CREATE TABLE taxes (id INTEGER, lineid INTEGER)")
        for key in range(1, 8):
            self.order(key, memo="closed" if key == 7 else f"memo {key}")
        self.work_all()
        self.advance()
        assert self.job() == "completed"
        source.asked.clear()

    def order(self, key: int, *, at: str = BEFORE, memo: str = "new", lines: int = 2) -> None:
        self.source.execute("INSERT INTO orders VALUES (?, ?, ?)", key, memo, at)
        for number in range(1, lines + 1):
            self.source.execute("INSERT INTO lines VALUES (?, ?, ?)", key * 100 + number, key, at)
            self.source.execute("INSERT INTO taxes VALUES (?, ?)", key * 1000 + number, key * 100 + number)

    def change(self, sql: str) -> None:
        self.database.run(lambda connection: connection.execute(text(sql)) and None)

    def compared(self) -> Reconciliation | None:
        return reconcile(self.writer, self.lease, self.targets, self.source, self.database)

    def follow(
        self, since: Mapping[str, Since] | None = None, selection: tuple[str, ...] | None = None
    ) -> Reconciliation | None:
        """Run the next job, incremental unless told otherwise, to its end and compare."""
        number = self.query("SELECT COUNT(*) FROM import_jobs")[0][0] + 1
        job_id = f"import_{number}"
        since = {"order": Since(SINCE, {"line": SINCE})} if since is None else since
        narrow = tuple(record.name for record in self.records) if since else ()
        new = NewJob(job_id, "p", "incremental", "hash", "text", selection, self.plan, since, incremental=narrow)
        self.writer.transact(lambda connection: jobs.create_job(connection, new))
        taken = self.writer.transact(
            lambda connection: lease.acquire(
                connection, job_id, Holder("host:9", "m", "1:2"), lease_seconds=60, trigger=Trigger.MANUAL
            )
        )
        assert isinstance(taken, Lease)
        self.lease = taken
        self.work_all()
        self.advance()
        self.source.asked.clear()
        return self.compared()

    def marked(self) -> list[str]:
        """The jobs that found all tables equal."""
        sql = "SELECT job_id FROM import_jobs WHERE reconciled_at IS NOT NULL ORDER BY job_id"
        return [row[0] for row in self.query(sql)]

    def let_days_pass(self, days: int) -> None:
        """Have the past jobs be so many days older."""
        ago = f"{-days:+d} days"
        for table, moment in (("import_jobs", "reconciled_at"), ("batch_events", "at")):
            moved = (
                f"strftime('%Y-%m-%d %H:%M:%f000', {moment}, '{ago}')"
                if self.database.is_sqlite
                else f"{moment} - INTERVAL {days} DAY"
            )
            self.change(f"UPDATE {table} SET {moment} = {moved}")


@pytest.fixture
def make(database: Database) -> Iterator[Callable[..., Counted]]:
    made: list[Counted] = []

    def build(*records: RecordSettings) -> Counted:
        made.append(Counted(database, records=records or (ORDERS, LINES, TAX), settings=FEW_BATCHES))
        made[-1].start()
        return made[-1]

    yield build
    for one in made:
        one.close()


@pytest.fixture
def world(make: Callable[..., Counted]) -> Counted:
    return make()


def words(difference: Reconciliation | None) -> str:
    assert difference is not None
    return difference.message


# --- full -------------------------------------------------------------------------------------------------------


def test_derived_records_are_counted_once_over_the_parents_that_were_to_land(world: Counted) -> None:
    assert world.compared() is None
    assert [sql.split(" t ")[0] for sql in world.source.asked] == [
        "SELECT COUNT(*) AS n FROM lines",
        "SELECT COUNT(*) AS n FROM taxes",
    ]
    assert world.marked() == ["import_1"]


@of_one_database
def test_a_line_that_is_lost_is_told_with_counts_and_window_and_stands_with_the_job(world: Counted) -> None:
    """One that is counted and was never sent; the tax of it is lost with it."""
    world.order(6, lines=0, memo="closed")
    world.source.execute("INSERT INTO lines VALUES (603, 6, ?)", BEFORE)
    world.source.execute("INSERT INTO taxes VALUES (6003, 603)")
    said = words(world.compared())
    assert said == (
        "`line`: 13 rows counted at the source, 12 landed, while 0 changed from 2026-09-21 14:13:20 to 14:13:20 UTC;"
        " `tax`: 13 rows counted at the source, 12 landed, while 0 changed from 2026-09-21 14:13:20 to 14:13:20 UTC"
    )
    assert world.query("SELECT error FROM import_jobs") == [(f"WI-RUN-005: {said}",)]
    assert world.marked() == []


def test_a_row_that_is_in_no_table_is_missed_though_its_batch_has_counted_it(world: Counted) -> None:
    world.change("DELETE FROM line WHERE uniquekey = 101")
    assert "`line`: 12 rows counted at the source, 11 landed" in words(world.compared())


CHANGES: dict[str, Callable[[Counted], Any]] = {
    "a new order": lambda world: world.order(8, at=MEANWHILE),
    "a new line": lambda world: world.source.execute("INSERT INTO lines VALUES (109, 1, ?)", MEANWHILE),
    "an order left": lambda world: world.source.execute(
        "UPDATE orders SET memo = 'closed', at = ? WHERE id = 2", MEANWHILE
    ),
    "lines of an order went": lambda world: (
        world.source.execute("UPDATE orders SET at = ? WHERE id = 3", MEANWHILE),
        world.source.execute("DELETE FROM lines WHERE orderid = 3"),
    ),
    "an order was deleted": lambda world: (
        world.source.execute("DELETE FROM orders WHERE id = 4"),
        world.source.execute("INSERT INTO deletedrecord VALUES (4, ?)", MEANWHILE),
    ),
}


@of_one_database
@pytest.mark.parametrize("change", list(CHANGES))
def test_what_came_or_went_meanwhile_is_no_loss(world: Counted, change: str) -> None:
    CHANGES[change](world)
    assert world.compared() is None
    assert world.marked() == ["import_1"]


def test_what_came_and_went_meanwhile_is_no_loss(world: Counted) -> None:
    for change in ("lines of an order went", "an order was deleted", "an order left"):
        CHANGES[change](world)
    assert world.compared() is None
    assert world.marked() == ["import_1"]


@of_one_database
@pytest.mark.parametrize("what", ["the number of another record", "before it was read", "of too few"])
def test_deletions_that_do_not_explain_it_do_not(world: Counted, what: str) -> None:
    world.change("DELETE FROM line WHERE orderid = 4")
    if what == "the number of another record":
        world.source.execute("INSERT INTO deletedrecord VALUES (5, ?)", MEANWHILE)
    elif what == "before it was read":
        world.source.execute("INSERT INTO deletedrecord VALUES (4, ?)", BEFORE)
    else:
        world.source.execute("UPDATE lines SET at = ? WHERE uniquekey = 501", MEANWHILE)
    assert "`line`: 12 rows counted at the source, 10 landed" in words(world.compared())


@of_one_database
@pytest.mark.parametrize("error", [QueryRefused("no"), SourceDown("NetSuite did not answer in 900 s")])
def test_a_source_that_does_not_count_lines_is_a_warning_and_is_not_asked_again_for_a_day(
    world: Counted, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(sql: str) -> None:
        if OF_LINES in sql:
            raise error

    world.source.before = refuse
    with caplog.at_level(logging.WARNING):
        assert world.compared() is None
    assert f"were not reconciled: {error.args[0]}" in caplog.text
    assert "`line`" in caplog.text
    assert ("`tax`" in caplog.text) is isinstance(error, SourceDown), "what is down is asked nothing more"
    assert world.query("SELECT status, error FROM import_jobs") == [("completed", None)]
    assert world.marked() == []
    world.source.before = lambda sql: None
    assert world.follow() is None
    assert world.source.counts() == []
    world.let_days_pass(1)
    assert world.follow() is None
    assert world.marked() == ["import_3"]


@of_one_database
def test_a_role_without_the_log_of_deletions_is_told_what_the_rest_does_not_explain(world: Counted) -> None:
    world.source.execute("DROP TABLE deletedrecord")
    world.source.execute("DELETE FROM lines WHERE uniquekey = 101")

    def hidden(sql: str) -> None:
        if "deletedrecord" in sql:
            raise QueryRefused("Record 'deletedrecord' was not found.")

    world.source.before = hidden
    assert "`line`: 11 rows counted at the source, 12 landed" in words(world.compared())


@of_one_database
def test_where_nothing_has_a_cursor_a_difference_counts_only_if_the_account_stood_still(
    make: Callable[..., Counted], caplog: pytest.LogCaptureFixture
) -> None:
    world = make(ORDER, LINE)
    world.order(8)
    with caplog.at_level(logging.WARNING):
        assert world.compared() is None
    assert "no record of its family has a cursor" in caplog.text
    assert world.marked() == []
    world.source.execute("DELETE FROM orders WHERE id = 8")
    assert world.compared() is None
    assert world.marked() == ["import_1"]
    world.change("DELETE FROM line WHERE uniquekey = 101")
    assert "`line`: 14 rows counted at the source, 13 landed" in words(world.compared())


# --- while it counts --------------------------------------------------------------------------------------------


def test_nobody_takes_a_completed_job_over_however_long_a_count_is(world: Counted) -> None:
    """Its lease is renewed no more, and lapses; its token stays, and what is found is kept under it."""
    world.change("DELETE FROM line WHERE uniquekey = 101")
    seen: list[Any] = []

    def meanwhile(sql: str) -> None:
        if OF_LINES in sql and not seen:
            world.change("UPDATE import_jobs SET lease_expires_at = created_at")
            rival = Holder("elsewhere:1", "other", "3:4")
            seen.append(
                world.writer.transact(
                    lambda connection: lease.acquire(
                        connection, "import_1", rival, lease_seconds=60, trigger=Trigger.CRON, failed_too=True
                    )
                )
            )

    world.source.before = meanwhile
    assert "`line`: 12 rows" in words(world.compared())
    assert seen == [Held(None, None, finished=True)]
    assert world.query("SELECT error IS NULL, lease_token FROM import_jobs") == [(0, world.lease.token)]


@of_one_database
@pytest.mark.parametrize("when", ["before the rows are counted", "during the count at the source"])
def test_rows_that_the_next_job_has_taken_are_not_missed(world: Counted, when: str) -> None:
    """Another host's run begins it as soon as the job is completed; it compares, since this one could not."""

    def begin() -> None:
        new = NewJob("import_2", "p", "full", "hash", "text", None, world.plan)
        world.writer.transact(lambda connection: jobs.create_job(connection, new))
        world.change("UPDATE line SET _job_id = 'import_2' WHERE orderid = 1")

    def meanwhile(sql: str) -> None:
        if OF_LINES in sql and not world.query("SELECT 1 FROM import_jobs WHERE job_id = 'import_2'"):
            begin()

    if when == "before the rows are counted":
        begin()
    else:
        world.source.execute("DELETE FROM orders WHERE id = 1")
        world.source.execute("INSERT INTO deletedrecord VALUES (1, ?)", MEANWHILE)
        world.source.before = meanwhile
    assert world.compared() is None
    assert (world.source.counts() == []) is (when == "before the rows are counted"), "no long count for nothing"
    assert world.query("SELECT error FROM import_jobs WHERE job_id = 'import_1'") == [(None,)]
    assert world.marked() == []


# --- incremental ------------------------------------------------------------------------------------------------


def test_whole_tables_are_compared_when_the_week_is_over_and_not_before(world: Counted) -> None:
    world.compared()
    world.change("DELETE FROM line WHERE uniquekey = 101")
    world.let_days_pass(6)
    assert world.follow() is None, "it is not over"
    assert world.source.counts() == []
    world.let_days_pass(1)
    assert words(world.follow()) == (
        "`line`: 12 rows counted at the source, 11 in the table, while 0 changed from 2026-09-21 14:13:20 to 14:13:20"
        " UTC"
    )
    assert len(world.source.counts()) == 3 + 1, "each table, and what has changed of the one that differs"
    world.let_days_pass(-7)
    assert words(world.follow()), "it stands until a comparison says otherwise, whatever was equal before"
    world.source.execute("DELETE FROM lines WHERE uniquekey = 101")
    world.source.execute("DELETE FROM taxes WHERE lineid = 101")
    world.change("DELETE FROM tax WHERE lineid = 101")
    assert world.follow() is None
    assert world.marked() == ["import_1", "import_5"]
    assert world.follow() is None
    assert world.source.counts() == [], "and from then on it is a week again"


@of_one_database
def test_a_row_behind_a_cursor_that_was_moved_back_is_found(world: Counted) -> None:
    """No incremental job reads it: its change lies before every watermark."""
    world.order(8, at=BEFORE, lines=0)
    said = words(world.follow())
    assert said.startswith("`order`: 7 rows counted at the source, 6 in the table, while 0 changed ")
    assert "`line`" not in said


def test_what_changes_during_a_weekly_comparison_is_no_loss(world: Counted) -> None:
    def meanwhile(sql: str) -> None:
        if "COUNT(*) AS n FROM orders" in sql and not world.source.rows("SELECT 1 FROM orders WHERE id = 9"):
            world.order(9, at=MEANWHILE)
            world.source.execute("DELETE FROM orders WHERE id IN (2, 3, 4)")
            for gone in (2, 3, 4):
                world.source.execute("INSERT INTO deletedrecord VALUES (?, ?)", gone, MEANWHILE)

    world.follow()
    world.let_days_pass(8)
    world.source.before = meanwhile
    assert world.follow() is None
    assert world.marked() == ["import_2", "import_3"]


def test_rows_that_are_kept_or_marked_as_deleted_are_none_of_the_table(make: Callable[..., Counted]) -> None:
    world = make(ORDERS, dataclasses.replace(LINES, deletes=Deletes.SOFT))
    world.source.execute("UPDATE orders SET at = ? WHERE id = 1", "2026-09-21 13:00:00")
    world.source.execute("DELETE FROM lines WHERE uniquekey = 101")
    assert world.follow() is None
    assert world.query("SELECT COUNT(*) FROM line WHERE _deleted_at IS NOT NULL") == [(1,)]
    assert world.marked() == ["import_2"]


def test_a_table_that_lacks_what_a_person_has_written_off_is_compared_once_it_was_read_in_full(world: Counted) -> None:
    new = NewJob("import_2", "p", "full", "hash", "text", None, world.plan)
    world.writer.transact(lambda connection: jobs.create_job(connection, new))
    world.change(
        "UPDATE wave_batches SET status = 'failed', error = 'refused', skipped_at = created_at, record = 'line'"
        " WHERE job_id = 'import_2'"
    )
    world.change("UPDATE import_jobs SET status = 'failed' WHERE job_id = 'import_2'")
    world.change("DELETE FROM line WHERE uniquekey = 101")
    assert world.follow() is None
    assert [sql.split(" t ")[0] for sql in world.source.counts()] == ["SELECT COUNT(*) AS n FROM orders"]
    assert world.marked() == ["import_3"]
    assert world.follow({}) is None, "all is read"
    world.change("UPDATE import_jobs SET reconciled_at = NULL")
    world.change("DELETE FROM line WHERE uniquekey = 101")
    assert "`line`: 12 rows counted at the source, 11 in the table" in words(world.follow())


@of_one_database
def test_tables_that_keep_what_is_gone_are_not_compared_nor_what_derives_from_them(
    make: Callable[..., Counted],
) -> None:
    world = make(dataclasses.replace(ORDERS, deletes=Deletes.IGNORE), LINES)
    world.change("DELETE FROM line WHERE uniquekey = 101")
    assert world.follow() is None
    assert world.source.counts() == []


def test_another_selection_of_records_has_a_week_of_its_own(world: Counted) -> None:
    world.compared()
    assert world.follow(selection=("order",)) is None
    assert world.source.counts() == [], "all records were compared"
    world.change("UPDATE import_jobs SET reconciled_at = NULL")
    assert world.follow(selection=("order",)) is None
    assert world.marked() == ["import_3"]
    assert world.follow() is None
    assert len(world.source.counts()) == 3, "some records do not speak for all"
    assert world.marked() == ["import_3", "import_4"]
