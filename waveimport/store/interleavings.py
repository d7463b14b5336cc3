"""What two connections must see of each other, tried out on the very server that a run will meet.

The protocol stands on five promises of the database and of the way its connections are set. Each probe here plays one
interleaving of two connections, statement by statement in one thread, and says whether the promise held. Nothing in
it waits for luck: whoever must be kept out is asked without patience (NOWAIT, a busy timeout of zero), so that a
probe takes a few commits and gives the same answer each time.

The tables are the probes' own and are dropped at the end, whatever happened.
"""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from sqlalchemy import (
    Column,
    Engine,
    Index,
    Integer,
    MetaData,
    Select,
    String,
    Table,
    bindparam,
    delete,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.engine import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.sql.elements import ColumnElement

from waveimport.store.engine import open_engine
from waveimport.store.transactions import Database, Verdict, classify, error_number, safe_text, translate

T = TypeVar("T")

WAIT_SECONDS: Final = 3
"""How long a statement of a probe waits for a lock at most."""
BATCHES: Final = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True)
class Interleaving:
    """How one probe came out. `name` is the function's, `held` says whether the promise was kept, `seen` what was
    seen, in a phrase."""

    name: str
    held: bool
    seen: str


@dataclass(frozen=True, slots=True)
class Stage:
    """The tables of the probes: one job row to lock, four batches of it, and the rows that batches land."""

    job: Table
    batch: Table
    row: Table

    @classmethod
    def of(cls, prefix: str) -> "Stage":
        """Return the tables whose names begin with `prefix`; none is made yet."""
        metadata = MetaData()
        how: dict[str, Any] = {"mysql_engine": "InnoDB"}
        word = String(20)
        return cls(
            job=Table(f"{prefix}_job", metadata, *_key(), Column("n", Integer, nullable=False), **how),
            batch=Table(
                f"{prefix}_batch",
                metadata,
                *_key(),
                Column("status", word, nullable=False),
                Column("attempt", Integer, nullable=False),
                # Claims go by an index that begins with the status, as those of a run do.
                Index(f"{prefix}_to_claim", "status", "id"),
                **how,
            ),
            row=Table(f"{prefix}_row", metadata, *_key(), **how),
        )

    @property
    def tables(self) -> tuple[Table, ...]:
        """All of them."""
        return self.job, self.batch, self.row


def _key() -> tuple[Column[int]]:
    return (Column("id", Integer, primary_key=True, autoincrement=False),)


def try_interleavings(database: Database, prefix: str) -> list[Interleaving]:
    """Play every interleaving in tables of the name `prefix`, on connections of its own that are set as a run's are.

    Raises DatabaseError where the tables cannot be made or dropped, or the server is lost meanwhile.
    """
    engine = open_engine(database.url)
    event.listen(engine, "connect", _bound_waits)
    try:
        # Held throughout: a run of another process would else be the third in an interleaving of two.
        with database.write_lock, prepared(engine, prefix) as stage:
            return [play(probe, engine, stage) for probe in PROBES]
    except DBAPIError as error:
        raise translate(error, database.name) from error
    finally:
        engine.dispose()


@contextlib.contextmanager
def prepared(engine: Engine, prefix: str) -> Iterator[Stage]:
    """Make the tables of the probes; drop them at the end, also those of a failure half-way."""
    stage = Stage.of(prefix)
    made: list[Table] = []
    try:
        with engine.begin() as connection:
            for table in stage.tables:
                # Noted first: on MySQL a table stays whose index could not be made.
                made.append(table)
                table.create(connection, checkfirst=False)
        yield stage
    finally:
        with engine.begin() as connection:
            for table in made:
                table.drop(connection, checkfirst=True)


def play(probe: "Probe", engine: Engine, stage: Stage) -> Interleaving:
    """Play one probe from its start. A statement that the server refuses is a promise not kept.

    Raises the driver's error for a server that is lost, and a disk that is full: that says nothing of a promise.
    """
    try:
        _reset(engine, stage)
        held, seen = probe(engine, stage)
    except DBAPIError as error:
        if classify(error) in (Verdict.LOST, Verdict.UNREACHABLE, Verdict.DISK_FULL):
            raise
        held, seen = False, f"a statement was refused ({error_number(error)}: {safe_text(error)})"
    return Interleaving(probe.__name__, held, seen)


# --- the probes -------------------------------------------------------------------------------------------------

Probe = Callable[[Engine, Stage], tuple[bool, str]]


def fresh_count(engine: Engine, stage: Stage) -> tuple[bool, str]:
    """A count of unfinished batches beside the locked job row is fresh, though the transaction has read before.

    A stale one calls a job complete while a batch of it runs. Where the second connection is kept out meanwhile, as on
    SQLite, there is nothing to be stale.
    """
    unfinished = select(func.count()).select_from(stage.batch).where(stage.batch.c.status == "pending")
    with engine.begin() as first:
        first.execute(unfinished).scalar_one()
        kept_out = _without_waiting(engine, lambda second: second.execute(insert(stage.batch).values(**_batch(5))))
        first.execute(_lock_job(stage)).one()
        counted = int(first.execute(unfinished).scalar_one())
    there = len(BATCHES) + (kept_out is not None)
    return counted == there, f"{counted} unfinished batches were counted where {there} were committed"


def no_lost_update(engine: Engine, stage: Stage) -> tuple[bool, str]:
    """Two that read a number under the row's lock, and write what they read plus one, lose none."""
    wrote = 0
    with engine.begin() as first:
        read = int(first.execute(_lock_job(stage)).scalar_one())
        other = _without_waiting(engine, lambda second: int(second.execute(_lock_job(stage, nowait=True)).scalar_one()))
        first.execute(update(stage.job).values(n=read + 1))
        wrote += 1
    with engine.begin() as second:
        # Whom the lock kept out reads now, as it would have done after waiting.
        mine = int(second.execute(_lock_job(stage)).scalar_one()) if other is None else other
        second.execute(update(stage.job).values(n=mine + 1))
        wrote += 1
    with engine.begin() as reader:
        total = int(reader.execute(_lock_job(stage)).scalar_one())
    return total == wrote, f"of {wrote} updates of one row {total} are there"


def claims_apart(engine: Engine, stage: Stage) -> tuple[bool, str]:
    """A second claimer passes over the rows that the first has locked and gets the others; and all of them once the
    first is gone. On SQLite it is kept out until then."""
    with engine.connect() as connection:
        first = connection.begin()
        mine = _claimable(connection, stage, 2)
        for number in mine:
            connection.execute(update(stage.batch).where(stage.batch.c.id == number).values(status="dispatched"))
        other = _without_waiting(engine, lambda second: _claimable(second, stage, len(BATCHES)))
        first.rollback()
    with engine.begin() as later:
        after = _claimable(later, stage, len(BATCHES))
    rest = [number for number in BATCHES if number not in mine]
    held = len(mine) == 2 and (other is None or other == rest) and after == list(BATCHES)
    beside = "nothing" if other is None else other
    return held, f"one claimed {mine}, a second beside it {beside}, and {after} when the first was gone"


def commit_is_whole(engine: Engine, stage: Stage) -> tuple[bool, str]:
    """A connection that dies before its COMMIT leaves nothing, one that dies after it leaves everything; and a
    locking read of the fence row tells which, to one who never got the answer."""
    before = _die(engine, stage, batch=1, committed=False)
    after = _die(engine, stage, batch=2, committed=True)
    held = before == (False, False, 0) and after == (False, True, 1)
    told = [
        f"one that died {when} COMMIT {'was told that it landed, and ' if answered else ''}left the fence"
        f" {'moved' if fence else 'as it was'} and {rows} of 1 row"
        for when, (answered, fence, rows) in (("before its", before), ("after its", after))
    ]
    return held, "; ".join(told)


def one_winner(engine: Engine, stage: Stage, *, change: ColumnElement[int] | None = None) -> tuple[bool, str]:
    """Of two that saw the same value, one wins the update that is guarded by it. `change` is what the update writes.

    Connections count the rows that an update finds, not those that it changes: an update that writes back the value
    which it tests is won by both.
    """
    attempt = stage.batch.c.attempt
    guarded = (
        update(stage.batch)
        .where(stage.batch.c.id == 1, attempt == bindparam("seen"))
        .values(attempt=attempt + 1 if change is None else change)
    )
    seen = []
    for _ in range(2):
        with engine.begin() as connection:
            seen.append(connection.execute(select(attempt).where(stage.batch.c.id == 1)).scalar_one())
    won = []
    for value in seen:
        with engine.begin() as connection:
            won.append(connection.execute(guarded, {"seen": value}).rowcount)
    return won == [1, 0], f"of two guarded updates {sum(won)} found the row as they had seen it"


PROBES: Final[tuple[Probe, ...]] = (fresh_count, no_lost_update, claims_apart, commit_is_whole, one_winner)


# --- their steps ------------------------------------------------------------------------------------------------


def _bound_waits(driver: Any, record: Any) -> None:
    """Have the statements of a new connection give up early: a check must not hang on what it finds."""
    if hasattr(driver, "execute"):  # SQLite's
        driver.execute(f"PRAGMA busy_timeout = {WAIT_SECONDS * 1000}")
        return
    with driver.cursor() as cursor:
        # The second is for dropping the tables, whose default is a day, or a year.
        cursor.execute(f"SET SESSION innodb_lock_wait_timeout = {WAIT_SECONDS}, lock_wait_timeout = {WAIT_SECONDS}")


def _batch(number: int) -> dict[str, object]:
    return {"id": number, "status": "pending", "attempt": 0}


def _reset(engine: Engine, stage: Stage) -> None:
    with engine.begin() as connection:
        for table in stage.tables:
            connection.execute(delete(table))
        connection.execute(insert(stage.job).values(id=1, n=0))
        connection.execute(insert(stage.batch), [_batch(number) for number in BATCHES])


def _lock_job(stage: Stage, *, nowait: bool = False) -> Select[Any]:
    return select(stage.job.c.n).where(stage.job.c.id == 1).with_for_update(nowait=nowait)


def _is_sqlite(engine: Engine) -> bool:
    return engine.dialect.name == "sqlite"


def _without_waiting(engine: Engine, work: Callable[[Connection], T]) -> T | None:
    """Run `work` on a second connection that waits for nobody; None where it is kept out."""
    with engine.connect() as second:
        lite: Any = second.connection.driver_connection if _is_sqlite(engine) else None
        patience = 0 if lite is None else lite.execute("PRAGMA busy_timeout").fetchone()[0]
        if lite is not None:
            lite.execute("PRAGMA busy_timeout = 0")
        try:
            with second.begin():
                return work(second)
        except DBAPIError as error:
            if classify(error) is not Verdict.CONFLICT:
                raise
            return None
        finally:
            if lite is not None:
                lite.execute(f"PRAGMA busy_timeout = {patience}")


def _claimable(connection: Connection, stage: Stage, count: int) -> list[int]:
    """Lock up to `count` pending batches, passing over those that are locked, as a run does before it claims them."""
    pending = (
        select(stage.batch.c.id)
        .where(stage.batch.c.status == "pending")
        .order_by(stage.batch.c.id)
        .limit(count)
        .with_for_update(skip_locked=True)
    )
    return [int(number) for (number,) in connection.execute(pending)]


def _die(engine: Engine, stage: Stage, *, batch: int, committed: bool) -> tuple[bool, bool, int]:
    """Land a batch on a connection that is cut before its COMMIT is sent, or once it was done.

    Returns whether its COMMIT was answered as done all the same, whether the fence row has moved, and how many of its
    rows are there, both as a locking read of another connection sees it.
    """
    fence = stage.batch.c.id == batch
    with engine.connect() as victim:
        transaction = victim.begin()
        driver: Any = victim.connection.driver_connection
        # Asked of the server: what the driver noted at its greeting may be a proxy's number.
        asked = None if _is_sqlite(engine) else victim.exec_driver_sql("SELECT CONNECTION_ID()").scalar_one()
        victim.execute(update(stage.batch).where(fence).values(status="completed"))
        victim.execute(insert(stage.row).values(id=batch))
        if committed:
            driver.commit()
        if asked is None or not _killed(engine, int(asked)):
            driver.close()
        answered = False
        if not committed:
            # Whatever it raises, from whichever layer: it is no answer that the work is done.
            with contextlib.suppress(Exception):
                transaction.commit()
                answered = True
        victim.invalidate()
    with engine.begin() as survivor:
        status = survivor.execute(select(stage.batch.c.status).where(fence).with_for_update()).scalar_one()
        landed = survivor.execute(select(func.count()).select_from(stage.row).where(stage.row.c.id == batch))
        return answered, status == "completed", int(landed.scalar_one())


def _killed(engine: Engine, number: int) -> bool:
    """Kill a connection of MySQL, which a user may do to its own. False where something in between does not let it:
    hanging up then serves as well, only that the server is told."""
    try:
        with engine.connect() as other:
            other.exec_driver_sql(f"KILL {number}")
    except DBAPIError:
        return False
    return True
