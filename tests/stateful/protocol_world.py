"""A small account, a job on a real database that imports it page by page, and a model of what must come of it.

Each operation is one transaction of the store, called as the runtime calls it. The model knows the source, the clock,
who holds what, and which rows must be in the tables; it is told of each transaction that was truly committed, foretells
what the next one answers, and holds the whole database against itself after every step. It shares no code with the
store: what is landed is what the pages that were committed carried.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from boundaries import Boundaries, Crash
from sqlalchemy import text

from waveimport.core.backoff import is_over
from waveimport.core.graph import plan_waves
from waveimport.core.multiset import digest
from waveimport.core.ranges import Bounds, derived_batch_id, main_batch_id, range_count, split
from waveimport.core.replay import replay
from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.core.waves import BatchKind, BatchStatus, Decision, JobSnapshot, Trigger, decide
from waveimport.errors import DatabaseError, Fenced, JobCancelled
from waveimport.store import audit, batches, jobs, journal, landed, lease, waves
from waveimport.store.batches import Claim
from waveimport.store.destination import Target, Upsert, ensure_tables, packet_bytes
from waveimport.store.jobs import NewJob
from waveimport.store.landing import Load, NewBatch, land
from waveimport.store.landing import landed as was_landed
from waveimport.store.lease import Held, Holder, Lease
from waveimport.store.transactions import Database
from waveimport.store.waves import Memory, Turn

T = TypeVar("T")

TTL = 3600.0
"""Seconds of a lease: far more than a test takes, so that only the model's clock can let one lapse."""
WAIT = 50.0
"""Of a back-off: the longest is a minute, and what is further ahead was set by a clock that has gone back."""
JUMP = 7200.0
PAGE = 2
BATCH = 3
SLOTS = 3
LOST_MOST = 20
"""A batch whose worker was lost so often, with no page landed in between, has failed."""
TABLES = ("import_jobs", "wave_coordination", "wave_batches", "wave_journal", "batch_events")


def _column(name: str) -> Column:
    return Column(name, ColumnKind.INTEGER, target=name)


ORDER = RecordSettings("order", "orders", (_column("id"), _column("note")), key=("id",), table_name="order")
NOTE = RecordSettings(
    "note", "notes", (_column("id"), _column("note")), key=("id",), table_name="note", depends_on=("order",)
)
LINE = RecordSettings(
    "line",
    "lines",
    (_column("uniquekey"), _column("orderid")),
    key=("uniquekey",),
    table_name="line",
    derived_from="order",
    parent_key="orderid",
)
RECORDS = (ORDER, NOTE, LINE)
WAVES = plan_waves(RECORDS)
LINE_WAVE = next(wave.wave_number for wave in WAVES if "line" in wave.records)


@dataclass
class Source:
    """Rows by record and key, each as the tuple that lands."""

    rows: dict[str, dict[int, tuple[int, int]]] = field(default_factory=lambda: {"order": {}, "note": {}, "line": {}})

    def add_order(self, key: int, lines: int) -> None:
        self.rows["order"][key] = (key, key * 7)
        for number in range(lines):
            self.rows["line"][key * 10 + number] = (key * 10 + number, key)

    def add_note(self, key: int) -> None:
        self.rows["note"][key] = (key, key * 3)

    def page(self, claim: Claim, after: int | None) -> tuple[list[tuple[int, int]], bool]:
        """Return the next rows of a batch, and whether they are the last."""
        spec: dict[str, Any] = claim.spec
        found = []
        for key in sorted(self.rows[claim.record]):
            row = self.rows[claim.record][key]
            inside = row[1] in spec["parents"] if claim.kind is BatchKind.PARENTS else _within(key, spec)
            if inside and (after is None or key > after):
                found.append(row)
        return found[:PAGE], len(found) <= PAGE


def _within(key: int, spec: dict[str, Any]) -> bool:
    lower, upper = spec["lower"], spec["upper"]
    return (lower is None or key > lower) and (upper is None or key <= upper)


@dataclass
class Seen:
    """What the model knows of a batch."""

    wave: int
    status: str = "pending"
    attempt: int = 0
    tries: int = 0
    lost: int = 0
    token: int = 0
    until: float = 0.0
    not_before: float = float("-inf")


@dataclass
class Flight:
    """A batch in a worker's hands: how far it has read, and the page that is not handed in yet."""

    claim: Claim
    after: int | None
    load: Load | None = None
    bounds: tuple[int, int | None, int | None] | None = None
    made: int = 0
    planned: bool = False


class World:
    """The job, the model, and everybody who may act on it. Coordinators and flights are lost by a crash; zombies are
    the flights of a process that hangs and comes back."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.boundaries = Boundaries(database.engine)
        self.source = Source()
        self.clock = 0.0
        self.job_id = ""
        self.jobs = 0
        self.token = 0
        self.holder: int | None = None
        self.until = 0.0
        self.ended = True
        self.cancelled = False
        self.completed = False
        self.leases: list[Lease | None] = [None, None]
        self.orders: list[Decision | None] = [None, None]
        # Kept when the process dies or another takes over, so that it is wrong in every way that there is.
        self.memories = (Memory(), Memory())
        self.flights: list[Flight] = []
        self.batches: dict[str, Seen] = {}
        self.rows: dict[str, dict[int, tuple[int, int]]] = {record.name: {} for record in RECORDS}
        self.required: dict[str, set[int]] = {}
        self.seen: dict[str, int] = {}
        self.poison: str | None = None
        """A record whose rows cannot be had, until somebody mends the source."""
        targets = [Target(record.table_name, record) for record in RECORDS]

        def prepare(connection: Any) -> tuple[dict[str, Upsert], int]:
            ensure_tables(connection, targets, fence=False)
            for table in (*TABLES, *(f"`{target.table}`" for target in targets)):
                connection.exec_driver_sql(f"DELETE FROM {table}")
            return {target.record.name: Upsert(connection, target) for target in targets}, packet_bytes(connection)

        self.targets = {target.record.name: target for target in targets}
        self.upserts, self.packet = database.run(prepare)

    def close(self) -> None:
        self.boundaries.disarm()
        self.boundaries.detach()

    def note(self, word: str) -> None:
        self.seen[word] = self.seen.get(word, 0) + 1

    # --- one transaction ------------------------------------------------------------------------------------------

    def do(
        self,
        work: Callable[[Any], T],
        effect: Callable[[T], None],
        *,
        prove: Callable[[Any], T | None] | None = None,
    ) -> T | None:
        """Run a transaction; tell the model of each of its runs that was committed. None when its process died or its
        database refused it."""
        pending: list[T] = []
        committed: list[T] = []

        def kept(connection: Any) -> T:
            result = work(connection)
            pending[:] = [result]
            return result

        self.boundaries.committed = lambda: committed.extend(pending)
        answer: T | None = None
        try:
            answer = self.database.run(kept, prove=prove)
        except Crash:
            self.note("crash " + str(self.boundaries.fired))
            for result in committed:
                effect(result)
            self.restart()
            return None
        except DatabaseError:
            assert self.boundaries.fired is not None, "nobody made the database refuse it"
            self.note("refused by the database")
        finally:
            self.boundaries.committed = lambda: None
            self.boundaries.disarm()
        # What was fenced has changed nothing, and may be fenced again.
        assert sum(map(bool, committed)) <= 1 or prove is None, "what can be proven was done twice"
        for result in committed:
            effect(result)
        return answer

    def restart(self) -> None:
        """The process is gone, and all it had in memory."""
        self.leases = [None, None]
        self.orders = [None, None]
        self.flights = []

    def hang(self) -> None:
        """The process hangs: its pages may still come, after everybody has forgotten it."""
        self.orders = [None, None]
        for who in (0, 1):
            self.leases[who] = None

    # --- coordination ---------------------------------------------------------------------------------------------

    def create(self) -> None:
        wanted = f"import_{self.jobs + 1:03d}"
        new = NewJob(wanted, "p", "full", "hash", "text", None, WAVES)
        was_ended, was = self.ended, self.job_id

        def effect(job: jobs.Job) -> None:
            if not was_ended:
                assert job.job_id == was, "a second creation meets the first"
                return
            if job.job_id == self.job_id:
                return  # done again after its reply was lost: it met itself
            self.jobs += 1
            assert job.job_id == wanted
            self.job_id, self.ended, self.cancelled, self.completed = wanted, False, False, False
            self.token, self.holder, self.until = 0, None, 0.0
            self.batches = {
                f"{wave.wave_number}/{record}/plan": Seen(wave.wave_number)
                for wave in WAVES
                if wave.kind == "main"
                for record in wave.records
            }
            self.required = {}
            self.leases, self.orders, self.flights = [None, None], [None, None], []

        self.do(lambda connection: jobs.create_job(connection, new), effect)

    def take(self, who: int, *, proven: bool) -> None:
        over = self.cancelled or self.completed
        free = not over and (self.holder is None or self.until < self.clock or proven)
        before = self.token

        def effect(taken: Lease | Held) -> None:
            if isinstance(taken, Held):
                assert not free or self.token > before, "a free lease was not to be had"
                return
            assert free, "two holders at once"
            assert taken.token == self.token + 1, "tokens grow by one"
            if self.holder is not None:
                self.note("take-over")
            self.token, self.holder, self.until = taken.token, who, self.clock + TTL
            self.leases[who], self.orders[who] = taken, None

        self.do(
            lambda connection: lease.acquire(
                connection,
                self.job_id,
                Holder(f"host:{who}", "m", "1:2" if proven else None),
                lease_seconds=TTL,
                trigger=Trigger.CRON,
                failed_too=True,
            ),
            effect,
        )
        # The file lock that proves a death is one that everybody has held.
        self.database.run(
            lambda connection: (
                connection.execute(
                    text("UPDATE import_jobs SET lease_machine = 'm', lease_lock = '1:2' WHERE lease_owner IS NOT NULL")
                )
                and None
            )
        )

    def under(self, who: int, work: Callable[[Any, Lease], T], effect: Callable[[T], None]) -> None:
        """Run a coordinator's transaction: fenced exactly where its token is not the current one."""
        held = self.leases[who]
        assert held is not None
        if held.token == self.token:
            self.do(lambda connection: work(connection, held), effect)
            return
        try:
            self.do(lambda connection: work(connection, held), lambda result: None)
        except JobCancelled:
            assert self.cancelled
        except Fenced:
            assert not self.cancelled
        else:
            assert self.leases[who] is None or self.boundaries.fired, "a stale coordinator was not fenced"
        self.note("fenced coordinator")
        self.leases[who] = None

    def advance(self, who: int, free: int) -> None:
        seen = self.seen_by_a_pass(who, free)
        self.under(
            who,
            lambda connection, held: waves.advance(
                connection, held, limit=SLOTS, free_slots=free, trigger=Trigger.WORKER
            ),
            lambda result: seen(*result),
        )

    def turn(self, who: int, free: int) -> None:
        """A pass and, where it moves nothing, its claims: one transaction, as the loop of a run does it."""
        seen = self.seen_by_a_pass(who, free)

        def effect(turn: Turn) -> None:
            seen(turn.snapshot, turn.decision)
            if turn.claims is not None:
                self.orders[who] = None
                self.claimed(turn.claims)
                if turn.claims:
                    self.note("claimed with a pass")

        self.under(
            who,
            lambda connection, held: waves.advance_and_claim(
                connection,
                held,
                limit=SLOTS,
                free_slots=free,
                trigger=Trigger.WORKER,
                lease_seconds=TTL,
                memory=self.memories[who],
            ),
            effect,
        )

    def seen_by_a_pass(self, who: int, free: int) -> Callable[[JobSnapshot, Decision], None]:
        """Return what a pass that begins now does to the model."""
        claimable = [seen.wave for seen in self.batches.values() if seen.status == "pending" and self.is_due(seen)]

        def effect(snapshot: JobSnapshot, decision: Decision) -> None:
            assert decide(snapshot) == decision, "a pass decides by the pure function"
            self.orders[who] = decision
            at_work = {wave.wave_number for wave in snapshot.waves if wave.status == "processing"}
            at_work |= {move.wave_number for move in decision.moves if move.target == "processing"}
            at_work -= {move.wave_number for move in decision.moves if move.target != "processing"}
            if free and decision.job not in ("completed", "failed") and any(wave in at_work for wave in claimable):
                assert decision.dispatch, "a claimable batch and a free slot, and nothing was dispatched"
            self.ended = (decision.job or snapshot.status) in ("completed", "failed", "cancelled")
            self.completed = (decision.job or snapshot.status) == "completed"
            if decision.job == "completed":
                self.note("completed job")
            if decision.job == "failed":
                self.note("failed job")

        return effect

    def claim(self, who: int) -> None:
        decision = self.orders[who]
        assert decision is not None
        self.orders[who] = None
        for order in decision.dispatch:
            if self.leases[who] is None:
                return
            self.under(
                who,
                lambda connection, held, order=order: batches.claim(
                    connection, held, order.wave_number, order.count, plans_only=order.plans_only, lease_seconds=TTL
                ),
                self.claimed,
            )

    def claimed(self, claims: list[Claim]) -> None:
        for claim in claims:
            seen = self.batches[claim.batch_id]
            assert seen.status == "pending", "a batch at work was claimed"
            assert self.is_due(seen), "a batch was claimed before its back-off ended"
            assert claim.attempt == seen.attempt + 1, "attempts grow by one"
            if seen.attempt:
                self.note("batch run again")
            seen.status, seen.attempt = "dispatched", claim.attempt
            seen.token, seen.until, seen.not_before = self.token, self.clock + TTL, float("-inf")
            after = None if claim.resume_key is None else claim.resume_key[0]
            assert after is None or isinstance(after, int)
            self.flights.append(Flight(claim, after))

    def requeue(self, who: int, *, proven: bool) -> None:
        lapsed = {
            batch_id
            for batch_id, seen in self.batches.items()
            if seen.status in ("dispatched", "processing")
            and (seen.until < self.clock or (proven and seen.token < self.token))
        }

        def effect(count: int) -> None:
            # Done again after its reply was lost, it finds nothing that is left to do.
            left = sum(self.batches[batch_id].status in ("dispatched", "processing") for batch_id in lapsed)
            assert count == left, "other batches were put back than those whose lease has lapsed"
            for batch_id in lapsed if count else ():
                seen = self.batches[batch_id]
                seen.lost += 1
                seen.status = "failed" if seen.lost >= LOST_MOST else "pending"
                self.note("batch put back")

        self.under(who, lambda connection, held: batches.requeue(connection, held, proven_dead=proven), effect)

    def release(self, who: int) -> None:
        held = self.leases[who]
        assert held is not None
        mine = held.token == self.token and self.holder == who

        def effect(done: bool) -> None:
            if not done:
                assert not mine or self.holder is None
                return
            assert mine, "a lease was given back that another holds"
            self.holder = None
            for seen in self.batches.values():
                if seen.status in ("dispatched", "processing") and seen.token == held.token:
                    seen.status = "pending"

        self.do(lambda connection: lease.release(connection, held), effect)
        self.leases[who] = None

    def retry(self, who: int) -> None:
        failed = [seen for seen in self.batches.values() if seen.status == "failed"]

        def effect(count: int) -> None:
            assert count in (len(failed), 0)
            for seen in failed:
                if seen.status == "failed":
                    seen.status, seen.tries, seen.lost, seen.not_before = "pending", 0, 0, float("-inf")
                    self.note("retried batch")
            if failed:
                self.ended = False

        self.under(
            who,
            lambda connection, held: jobs.retry_failed(
                connection, self.job_id, token=held.token, trigger=Trigger.RETRY
            ),
            effect,
        )

    def cancel(self) -> None:
        def effect(result: Any) -> None:
            before, _ = result
            if before.status in ("completed", "cancelled"):
                return
            self.token, self.holder, self.ended, self.cancelled = self.token + 1, None, True, True
            for seen in self.batches.values():
                if seen.status in ("dispatched", "processing"):
                    seen.status = "pending"

        self.do(lambda connection: jobs.cancel_job(connection, self.job_id, trigger=Trigger.MANUAL), effect)

    # --- a worker -------------------------------------------------------------------------------------------------

    def is_current(self, claim: Claim) -> bool:
        seen = self.batches.get(claim.batch_id)
        return (
            claim.job_id == self.job_id
            and seen is not None
            and seen.attempt == claim.attempt
            and seen.status in ("dispatched", "processing")
        )

    def is_due(self, seen: Seen) -> bool:
        return is_over(seen.not_before, self.clock)

    def start(self, flight: Flight) -> None:
        claim = flight.claim
        may = self.is_current(claim) and self.batches[claim.batch_id].status == "dispatched"

        def effect(done: bool) -> None:
            assert done is may
            if done:
                self.batches[claim.batch_id].status = "processing"

        self.do(
            lambda connection: batches.start(connection, claim),
            effect,
            prove=lambda connection: batches.started(connection, claim),
        )

    def read(self, flight: Flight) -> None:
        """Ask the source for the next page; what it holds is settled by now, whenever it lands."""
        claim, spec = flight.claim, dict(flight.claim.spec)
        if claim.kind is BatchKind.PLAN:
            flight.load = self._plan(flight, spec)
            return
        rows, done = self.source.page(claim, flight.after)
        resume = [rows[-1][0]] if rows else None if flight.after is None else [flight.after]
        children: tuple[NewBatch, ...] = ()
        if claim.record == "order" and rows:
            keys = [row[0] for row in rows]
            children = (
                NewBatch(
                    derived_batch_id(claim.batch_id, "line", keys[0]),
                    LINE_WAVE,
                    "line",
                    BatchKind.PARENTS,
                    {"parents": keys},
                ),
            )
        flight.load = Load(claim, TTL, resume, spec, rows, done, children)

    def _plan(self, flight: Flight, spec: dict[str, Any]) -> Load:
        claim = flight.claim
        if flight.bounds is None and "count" in spec:
            flight.bounds, flight.made = (spec["count"], spec["lowest"], spec["highest"]), spec["next"]
            flight.planned = True
        if flight.bounds is None:
            keys = sorted(self.source.rows[claim.record])
            flight.bounds = (len(keys), keys[0] if keys else None, keys[-1] if keys else None)
        count, lowest, highest = flight.bounds
        known = {"count": count, "lowest": lowest, "highest": highest, "batch_size": BATCH, "next": flight.made}
        if not flight.planned:
            return Load(claim, TTL, None, known)
        bounds = Bounds(count, lowest, highest)
        number, keys_of = next(iter(split(bounds, BATCH, flight.made)))
        child = NewBatch(
            main_batch_id(claim.wave_number, claim.record, number),
            claim.wave_number,
            claim.record,
            BatchKind.RANGE,
            {"lower": keys_of.lower, "upper": keys_of.upper},
        )
        done = flight.made + 1 >= range_count(bounds, BATCH)
        return Load(claim, TTL, None, {**known, "next": flight.made + 1}, (), done, (child,))

    def land(self, flight: Flight) -> None:
        """Hand the page in; a zombie's, too."""
        load, claim = flight.load, flight.claim
        assert load is not None
        flight.load = None
        may = self.is_current(claim)

        def effect(done: bool) -> None:
            assert done is may, "a page landed by a stale attempt" if done else "the current attempt was refused"
            if not done:
                self.note("fenced page")
                return
            seen = self.batches[claim.batch_id]
            for child in load.children:
                assert child.batch_id not in self.batches, "a batch was made twice"
                self.batches[child.batch_id] = Seen(child.wave_number)
                siblings = [i for i in self.batches if i.startswith(f"{child.wave_number}/{child.record}")]
                if any(self.batches[i].status == "completed" for i in siblings):
                    self.note("batch made after a sibling had finished")
            for row in load.rows:
                self.rows[claim.record][row[0]] = row
            if claim.kind is BatchKind.PLAN and not flight.planned:
                flight.planned = True
                self.required[claim.record] = set(self.source.rows[claim.record])
            elif claim.kind is BatchKind.PLAN:
                flight.made += 1
            else:
                flight.after = flight.after if load.resume_key is None else load.resume_key[0]
            seen.until, seen.lost = self.clock + TTL, 0
            if load.done:
                seen.status = "completed"

        def work(connection: Any) -> bool:
            upsert = self.upserts.get(claim.record) if load.rows else None
            return land(connection, load, upsert, self.packet)

        self.do(work, effect, prove=lambda connection: was_landed(connection, load))
        if load.done or not may:
            self.flights = [one for one in self.flights if one is not flight]

    def fail(self, flight: Flight, *, spends: bool, max_tries: int, waits: bool) -> None:
        claim = flight.claim
        delay = WAIT if waits else 0.0
        final = spends and claim.tries + 1 >= max_tries

        def effect(went: BatchStatus | bool | None) -> None:
            may = self.is_current(claim)  # no longer where it is done again after its reply was lost
            assert bool(went) is may
            if not may:
                return
            seen = self.batches[claim.batch_id]
            seen.tries += spends
            seen.status = "failed" if final else "pending"
            seen.not_before = self.clock + WAIT if waits and not final else float("-inf")

        def work(connection: Any) -> BatchStatus | bool | None:
            if spends:
                return batches.fail_attempt(connection, claim, error="bad", max_tries=max_tries, delay_seconds=delay)
            return batches.hand_back(connection, claim, error=None, delay_seconds=delay)

        self.do(work, effect)
        self.flights = [one for one in self.flights if one is not flight]

    # --- time -----------------------------------------------------------------------------------------------------

    def jump(self, seconds: float) -> None:
        """The database's clock jumps: all that it has written lies so much further back."""
        self.clock += seconds
        columns = {"wave_batches": ("lease_expires_at", "not_before"), "import_jobs": ("lease_expires_at",)}

        def shift(connection: Any) -> None:
            sqlite = connection.dialect.name == "sqlite"
            for table, names in columns.items():
                for name in names:
                    earlier = (
                        f"strftime('%Y-%m-%d %H:%M:%f000', {name}, '{-seconds:+.0f} seconds')"
                        if sqlite
                        else f"{name} - INTERVAL {seconds:.0f} SECOND"
                    )
                    connection.exec_driver_sql(f"UPDATE {table} SET {name} = {earlier} WHERE {name} IS NOT NULL")

        self.database.run(shift)

    # --- what must hold -------------------------------------------------------------------------------------------

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        return self.database.run(lambda connection: [tuple(row) for row in connection.execute(text(sql))])

    def check(self) -> None:
        """Hold the whole database against the model, and ask the oracle."""
        self.boundaries.disarm()  # a rule may have had nothing to do
        if not self.job_id:
            return
        assert [str(violation) for violation in self.database.run(audit.violations)] == []
        told = self.query(
            f"SELECT batch_id, wave_number, status, attempt, tries FROM wave_batches WHERE job_id = '{self.job_id}'"
        )
        assert {row[0]: row[1:] for row in told} == {
            batch_id: (seen.wave, seen.status, seen.attempt, seen.tries) for batch_id, seen in self.batches.items()
        }
        for record in RECORDS:
            columns = ", ".join(f"`{column.target}`" for column in record.columns)
            found = self.query(f"SELECT {columns} FROM `{record.table_name}`")
            assert len(found) == len({row[0] for row in found}), "a row stands twice"
            assert {row[0]: row for row in found} == self.rows[record.name], f"{record.name}: other rows than landed"
        assert self.query("SELECT lease_token FROM import_jobs ORDER BY job_id DESC LIMIT 1") == [(self.token,)]

    def check_end(self) -> None:
        """A completed job has brought every row that was counted, the lines of each order that is in, and no other."""
        for record, keys in self.required.items():
            assert keys <= set(self.rows[record]), f"{record}: rows that were counted are not in"
        for record in RECORDS:
            for key, row in self.rows[record.name].items():
                assert self.source.rows[record.name][key] == row
        mine = {row[0] for row in self.query(f"SELECT id FROM `order` WHERE _job_id = '{self.job_id}'")}
        lines = {row[0] for row in self.query(f"SELECT uniquekey FROM line WHERE _job_id = '{self.job_id}'")}
        assert lines == {key for key, row in self.source.rows["line"].items() if row[1] in mine}
        carried = self.database.run(lambda c: digest(landed.parents_of_batches(c, self.job_id, "line")))
        assert carried == self.database.run(
            lambda c: digest(landed.keys_in_table(c, self.targets["order"], self.job_id))
        )
        counted = self.database.run(lambda c: landed.counted_by_batches(c, self.job_id))
        for record in RECORDS:
            there = self.database.run(
                lambda c, record=record: landed.rows_in_table(c, self.targets[record.name], self.job_id)
            )
            assert counted.get(record.name, 0) == there
        entries = self.database.run(lambda c: journal.entries(c, self.job_id))
        for entry, told in zip(entries, replay((e.seq, e.snapshot, e.decision) for e in entries), strict=True):
            assert told.agrees, f"entry {entry.seq} of the journal is decided otherwise today"

    def finish(self) -> None:
        """The faults stop, and everybody runs fairly: the job ends, in a bounded number of steps."""
        if not self.job_id or self.cancelled:
            return
        self.restart()
        self.jump(100 * JUMP)  # whatever waits, by however wrong a clock, waits no longer
        for _ in range(3):
            status = self.query(f"SELECT status FROM import_jobs WHERE job_id = '{self.job_id}'")[0][0]
            if status == "completed":
                break
            self.take(0, proven=True)
            self.requeue(0, proven=True)
            if status == "failed":
                self.poison = None
                self.retry(0)
            self._run_fairly()
        else:
            raise AssertionError("the job did not end")
        self.check()
        self.check_end()

    def _run_fairly(self) -> None:
        for _ in range(60 + 4 * len(self.source.rows["order"])):
            self.advance(0, SLOTS)
            if self.ended:
                return
            if self.orders[0] is not None:
                self.claim(0)
            for flight in list(self.flights):
                self.land_all(flight)
        raise AssertionError("a fair run did not end")

    def land_all(self, flight: Flight) -> None:
        """Read and land a batch to its end, or until it is fenced."""
        while any(one is flight for one in self.flights):
            if flight.claim.record == self.poison and flight.claim.kind is not BatchKind.PLAN:
                self.fail(flight, spends=True, max_tries=1, waits=False)
                return
            self.read(flight)
            self.land(flight)

    def come_some_way(self, pages: int) -> None:
        """Run fairly until so many pages have landed."""
        for page in range(pages):
            if len(self.flights) < SLOTS:
                self.advance(0, SLOTS - len(self.flights))
                if self.ended:
                    return
                self.claim(0)
            flight = self.flights[page % len(self.flights)]
            self.read(flight)
            self.land(flight)
