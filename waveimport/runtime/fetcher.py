"""One batch from claim to completion: fetch its pages, hand them in to land, tell how it ended.

While a page is parsed and landed the next one is asked for. Nothing here decides the status of a batch: the ending is
a value, and the coordinator spends a try or hands the batch back by its kind.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from enum import Enum, StrEnum, auto
from typing import Any, Protocol

from waveimport.core.increments import MOMENT_FORMAT, family
from waveimport.core.ranges import (
    Bounds,
    chunks,
    derived_batch_id,
    main_batch_id,
    range_count,
    sibling_batch_id,
    split,
    split_rest,
    sweep_batch_id,
)
from waveimport.core.records import Page, PageReader, parse_bounds
from waveimport.core.settings import Column, ColumnKind, Deletes, RecordSettings, RunSettings
from waveimport.core.waves import BatchKind
from waveimport.core.wide import COLUMNS_MAX, WideReader
from waveimport.errors import (
    BadData,
    BadReply,
    DatabaseError,
    Fenced,
    LoginRefused,
    QueryRefused,
    ServerFault,
    SourceDown,
    SourceError,
    Stopped,
    WaveImportError,
)
from waveimport.netsuite.auth import SIGNATURE_SKEW_MOST_SECONDS
from waveimport.netsuite.narrowing import DELETED_MEND, alive, changed, changed_parents, deleted, left
from waveimport.netsuite.suiteql import PROBE_QUERY, bounds_query, page_query
from waveimport.runtime import clock
from waveimport.runtime.writer import Writer
from waveimport.store.batches import Claim, start, started
from waveimport.store.landing import KEPT, Load, NewBatch
from waveimport.store.removal import GoneKeys, ReadParents, ReadRange, Removal

log = logging.getLogger(__name__)

RANGES_A_COMMIT = 2_000
JOINS_MAX = 5
"""How often a page of more than 100 columns is asked for anew while its rows change between its SELECTs."""


class Reads(StrEnum):
    """What a batch of an incremental job reads besides the rows of a record, as `reads` in its spec."""

    DELETED = "deleted"
    LEFT = "left"
    CHANGED = "changed"


class Source(Protocol):
    """What a fetcher needs of the client: one page's bytes, or a named error; and what time it is there."""

    def query(self, sql: str, *, limit: int = ..., offset: int = ...) -> bytes:
        """Return the reply's body."""

    def epoch_seconds(self) -> float | None:
        """Return the source's clock, rather too early than too late; None before the first reply."""


class Ending(Enum):
    """How a batch ended."""

    COMPLETED = auto()
    FENCED = auto()
    STOPPED = auto()
    OUTAGE = auto()
    REFUSED = auto()
    LOGIN = auto()
    DATABASE = auto()
    FAULT = auto()


@dataclass(frozen=True, slots=True)
class Ended:
    """A batch's ending, with the error behind it where there is one."""

    claim: Claim
    ending: Ending
    error: WaveImportError | None = None


def ending_of(error: BaseException, *, others_succeed: bool) -> Ending:
    """Return what kind of ending an error is: whose fault it was decides whether a try is spent.

    A 500 is the batch's own fault only when others succeed meanwhile; in an outage every request gets one.
    """
    match error:
        case Stopped():
            return Ending.STOPPED
        case LoginRefused():
            return Ending.LOGIN
        case Fenced():
            return Ending.FENCED
        case QueryRefused() | BadData():
            return Ending.REFUSED
        case ServerFault() | BadReply():
            return Ending.REFUSED if others_succeed else Ending.OUTAGE
        case SourceDown() | SourceError():
            return Ending.OUTAGE
        case DatabaseError():
            return Ending.DATABASE
        case _:
            return Ending.FAULT


class Fetcher:
    """Works on batches; threads share one. `derived` names, by record, the derived records and their waves;
    `succeeded_since` says whether the source has answered a query since a moment (monotonic); `made_batches` is told
    when a commit has made new ones, so that no idle slot waits for this batch to end."""

    def __init__(
        self,
        *,
        source: Source,
        writer: Writer,
        records: Mapping[str, RecordSettings],
        derived: Mapping[str, Sequence[tuple[str, int]]],
        settings: RunSettings,
        halted: threading.Event,
        succeeded_since: Callable[[float], bool],
        still_at_work: Callable[[Claim], None],
        made_batches: Callable[[], None],
    ) -> None:
        self._source = source
        self._writer = writer
        self._records = records
        self._readers = {name: PageReader(record) for name, record in records.items()}
        self._wide = {name: WideReader(record) for name, record in records.items() if len(record.columns) > COLUMNS_MAX}
        self._seen: dict[str, bool] = {}
        self._derived = derived
        self._waves = {name: wave for children in derived.values() for name, wave in children}
        self._settings = settings
        self._halted = halted
        self._succeeded_since = succeeded_since
        self._still_at_work = still_at_work
        self._made_batches = made_batches

    def work(self, claim: Claim) -> Ended:
        """Work on a claimed batch until it is completed, fenced or at fault. Raises nothing."""
        begun = clock.monotonic()
        try:
            if not self._writer.transact(
                lambda connection: start(connection, claim), prove=lambda connection: started(connection, claim)
            ):
                return Ended(claim, Ending.FENCED)
            if claim.kind is BatchKind.PLAN:
                self._plan(claim)
            elif "reads" in claim.spec:
                self._sweep(claim, Reads(str(claim.spec["reads"])))
            else:
                self._fetch(claim)
        except WaveImportError as error:
            ending = ending_of(error, others_succeed=self._others_succeed(error, begun))
            if ending is Ending.REFUSED and claim.tries + 1 >= self._settings.max_tries:
                error = self._explained(claim, error)
            return Ended(claim, ending, error)
        except Exception as error:
            log.debug("batch %s", claim.batch_id, exc_info=True)
            fault = WaveImportError(f"a fault in the work on a batch: {type(error).__name__}", where=claim.batch_id)
            return Ended(claim, Ending.FAULT, fault)
        return Ended(claim, Ending.COMPLETED)

    def _others_succeed(self, error: WaveImportError, begun: float) -> bool:
        """Whether the source answers other queries than the one that failed.

        Where no other has been asked since `begun`, as in the last batch of a wave, one that can hardly fail is asked
        now: a column that gives 500 for ever, or a page too large to be taken, would else look like an outage without
        end.
        """
        if self._succeeded_since(begun):
            return True
        if not isinstance(error, ServerFault | BadReply):
            return False
        try:
            self._source.query(PROBE_QUERY, limit=1)
        except QueryRefused:
            return True  # a refusal is an answer
        except WaveImportError:
            return False
        return True

    def _explained(self, claim: Claim, error: WaveImportError) -> WaveImportError:
        """Return the error that fails a batch for good, with the column's name where one column is behind it.

        The service names a column that it does not know, and gives 500 with nothing but an error id for some others.
        """
        if not isinstance(error, QueryRefused | ServerFault) or "reads" in claim.spec or claim.kind is BatchKind.PLAN:
            return error
        try:
            culprit = self._culprit(claim)
        except WaveImportError:
            return error
        if culprit is None:
            return error
        said = f"{error.message}; it is the column `{culprit}`: without it the query is answered"
        return type(error)(said, where=error.where, help=error.help)

    def _culprit(self, claim: Claim) -> str | None:
        """Return the column without which a batch's query is answered, by halves; None where it is not one column.

        Raises what ends all asking: a stop, a refused login, a source that is gone.
        """
        record, narrowed = self._records[claim.record], self._narrowed(claim)
        keys = [record.column(name) for name in record.key]
        suspects = [column for column in record.columns if column not in keys]

        def fails(columns: Sequence[Column]) -> bool:
            asked = replace(narrowed, columns=(*keys, *columns))
            lower, upper = _int(claim.spec.get("lower")), _int(claim.spec.get("upper"))
            try:
                self._ask(claim, page_query(asked, lower=lower, upper=upper, parents=_parents(claim.spec)), 1)
            except (QueryRefused, ServerFault):
                return True
            return False

        if not suspects or fails(()):
            return None
        parts = chunks(suspects, COLUMNS_MAX - len(keys))
        while (found := next((part for part in parts if fails(part)), None)) is not None and len(found) > 1:
            parts = chunks(found, (len(found) + 1) // 2)
        if found is None or fails([column for column in suspects if column != found[0]][: COLUMNS_MAX - len(keys)]):
            return None
        return found[0].name

    # --- planning -----------------------------------------------------------------------------------------------

    def _plan(self, claim: Claim) -> None:
        """Ask for the bounds once, keep them, make the ranges a few thousand a commit.

        Bounds that are stored are never asked for again: a table that grew between two askings once left 12,840 keys
        in no batch.
        """
        record = self._records[claim.record]
        since = self._since(claim)
        spec = dict(claim.spec)
        if "count" not in spec:
            spec |= self._moment(claim, record)
            count, lowest, highest = parse_bounds(self._ask(claim, bounds_query(self._narrowed(claim))))
            spec |= {
                "count": count,
                "lowest": lowest,
                "highest": highest,
                "batch_size": self._settings.batch_size,
                "next": 0,
            }
            unseen = not count and (since is None or not self._is_seen(claim, record))
            self._land(claim, spec, None, event=KEPT if unseen else None)
        bounds = Bounds(_int(spec["count"]) or 0, _int(spec["lowest"]), _int(spec["highest"]))
        size, at = _int(spec["batch_size"]) or 1, _int(spec["next"]) or 0
        # Where nothing has changed there is no range to ask: what changes from now on is the next job's.
        total = range_count(bounds, size) if since is None or bounds.count else 0
        done = False
        while not done:
            self._check_stop()
            self._still_at_work(claim)
            part = self._sweeps(claim, record) if at == 0 else []
            sweeps = len(part)
            for number, keys in split(bounds, size, at) if total else ():
                covers: dict[str, object] = {"lower": keys.lower, "upper": keys.upper}
                if keys.upper is None:
                    covers["highest"] = bounds.highest
                if since is not None:
                    covers["since"] = since
                elif not bounds.count:
                    # A table that is hidden from the role looks empty: what is known of it stays.
                    covers["keep"] = True
                batch_id = main_batch_id(claim.wave_number, claim.record, number)
                part.append(NewBatch(batch_id, claim.wave_number, claim.record, BatchKind.RANGE, covers))
                if len(part) - sweeps == RANGES_A_COMMIT:
                    break
            at += len(part) - sweeps
            spec = {**spec, "next": at}
            done = at >= total
            self._land(claim, spec, None, children=tuple(part), done=done)

    def _since(self, claim: Claim) -> str | None:
        """Return from when on the batch reads changes. A cursor that was taken from the configuration makes it full."""
        since = claim.spec.get("since")
        return since if isinstance(since, str) and self._records[claim.record].cursor is not None else None

    def _narrowed(self, claim: Claim) -> RecordSettings:
        """Return the record as the batch asks for it: all of it, or what has changed."""
        record, since = self._records[claim.record], self._since(claim)
        return record if since is None else changed(record, since)

    def _moment(self, claim: Claim, record: RecordSettings) -> dict[str, object]:
        """Return what the watermarks of a record are set by once the job is done: the source's clock before anything of
        it is read, so that what changes meanwhile lies behind them."""
        members = family(record.name, list(self._records.values()))
        cursors = [one.name for one in members if one.cursor is not None]
        if not cursors:
            return {}
        if self._source.epoch_seconds() is None:
            self._still_at_work(claim)
            with suppress(QueryRefused):  # a refusal is an answer, and dated
                self._source.query(PROBE_QUERY, limit=1)
        now = self._source.epoch_seconds()
        if now is None:
            # A service that never says its time accepts signatures up to so much beside it.
            now = clock.epoch_seconds() - SIGNATURE_SKEW_MOST_SECONDS
        as_of = datetime.fromtimestamp(now, UTC).strftime(MOMENT_FORMAT)
        return {
            "as_of": as_of,
            "lookback": self._settings.lookback_seconds,
            "cursors": cursors,
            "family": [one.name for one in members],
        }

    def _sweeps(self, claim: Claim, record: RecordSettings) -> list[NewBatch]:
        """Return the batches of an incremental read that find what its changed rows do not show."""
        since = self._since(claim)
        if since is None:
            return []
        whole = len(record.key) == 1
        logged = whole and record.column(record.key[0]).kind is ColumnKind.INTEGER
        reads = [
            (record, claim.wave_number, Reads.DELETED, since, logged),
            (record, claim.wave_number, Reads.LEFT, since, whole and record.where is not None),
        ]
        wanted = [one for one in reads if one[-1] and record.deletes is not Deletes.IGNORE]
        below = claim.spec.get("below")
        for name, moment in below.items() if isinstance(below, dict) else ():
            derived = self._records.get(name)
            if derived is not None and derived.cursor is not None and derived.derived_from is not None:
                wave = self._waves.get(derived.derived_from, claim.wave_number)
                wanted.append((derived, wave, Reads.CHANGED, str(moment), True))
        return [
            NewBatch(
                sweep_batch_id(wave, one.name, how), wave, one.name, BatchKind.RANGE, {"reads": how, "since": moment}
            )
            for one, wave, how, moment, _ in wanted
        ]

    # --- what changed rows do not show --------------------------------------------------------------------------

    def _sweep(self, claim: Claim, how: Reads) -> None:
        """Read keys: of rows that are gone, to remove them, or of parents whose children changed, to read these anew.

        The log of deletions has one column of ids for all kinds of records, so the source is asked which of them the
        record still has. A role that may not read the log is refused here: a job that cannot see deletions says so.
        """
        record, since = self._records[claim.record], str(claim.spec["since"])
        if how is not Reads.DELETED and record.cursor is None:
            # It was taken from the configuration since: of this record nothing is incremental any more.
            self._land(claim, claim.spec, claim.resume_key, done=True)
            return
        match how:
            case Reads.DELETED:
                asked = deleted(since)
            case Reads.LEFT:
                asked = left(record, since)
            case Reads.CHANGED:
                asked = changed_parents(record, self._ancestors(record), since)
        reader = PageReader(asked)
        after = None if claim.resume_key is None else _key(claim.resume_key)
        while True:
            self._check_stop()
            query = page_query(asked, after=after, distinct=how is not Reads.LEFT)
            try:
                page = reader.read(self._ask(claim, query))
            except QueryRefused as error:
                if how is not Reads.DELETED:
                    raise
                said = f"the log of deletions cannot be read: {error.message}"
                raise type(error)(said, where=claim.batch_id, help=DELETED_MEND) from error
            keys = list(dict.fromkeys(row[0] for row in page.rows))
            done = not page.has_more and (page.total is None or page.total <= len(page.rows))
            last = (keys[-1],) if keys else after
            if not done and last == after:
                raise BadReply("NetSuite counts more rows but sends none beyond the last key", where=claim.batch_id)
            children: tuple[NewBatch, ...] = ()
            gone: list[Any] = []
            if how is Reads.CHANGED:
                children = self._batches_of(claim, record.name, self._waves[record.name], keys)
            elif keys:
                gone = keys if how is Reads.LEFT else self._gone(claim, record, keys)
            removal, event = (GoneKeys(gone) if gone else None), None
            if gone and how is Reads.DELETED and not self._is_seen(claim, record):
                removal, event = None, KEPT
            self._land(claim, claim.spec, last, children=children, done=done, removal=removal, event=event)
            if done:
                return
            after = last

    def _gone(self, claim: Claim, record: RecordSettings, keys: Sequence[Any]) -> list[Any]:
        """Return which of the keys the source does not have as rows of the record."""
        only = alive(record)
        page = PageReader(only).read(self._ask(claim, page_query(only, parents=keys)))
        if page.has_more or (page.total is not None and page.total > len(page.rows)):
            raise BadReply("NetSuite counts more rows than it sends of the keys it was asked for", where=claim.batch_id)
        there = {row[0] for row in page.rows}
        return [key for key in keys if key not in there]

    def _is_seen(self, claim: Claim, record: RecordSettings) -> bool:
        """Whether the source shows any row of the record at all: one that is hidden from the role looks empty, and what
        is known of it must stay. Asked once a run, where no page has shown it."""
        if record.name not in self._seen:
            only = alive(record)
            page = PageReader(only).read(self._ask(claim, page_query(only), 1))
            self._seen.setdefault(record.name, bool(page.rows))
        return self._seen[record.name]

    def _ancestors(self, record: RecordSettings) -> list[RecordSettings]:
        found: list[RecordSettings] = []
        while record.derived_from is not None:
            record = self._records[record.derived_from]
            found.append(record)
        return found

    # --- fetching -----------------------------------------------------------------------------------------------

    def _fetch(self, claim: Claim) -> None:
        record = self._records[claim.record]
        narrowed = self._narrowed(claim)
        reader, wide = self._readers[claim.record], self._wide.get(claim.record)
        names = [column.name for column in record.columns]
        key_at = [names.index(name) for name in record.key]
        spec = dict(claim.spec)
        parents = _parents(spec)
        after = None if claim.resume_key is None else _key(claim.resume_key)
        forward = _Forward(ordered=all(record.columns[at].kind is ColumnKind.INTEGER for at in key_at))
        landing: Future[bool] | None = None
        try:
            while True:
                self._check_stop()
                lower, upper = _int(spec.get("lower")), _int(spec.get("upper"))
                if wide is None:
                    query = page_query(narrowed, lower=lower, upper=upper, after=after, parents=parents)
                    page = reader.read(self._ask(claim, query))
                else:
                    page = self._join(claim, wide, narrowed.where, lower, upper, after, parents)
                rows = page.rows
                if rows:
                    self._seen[record.name] = True
                last = tuple(rows[-1][at] for at in key_at) if rows else after
                # A page may say that it is the last where a cap cut it: the total says otherwise.
                done = not page.has_more and (page.total is None or page.total <= len(rows))
                if not done and (not rows or last == after):
                    raise BadReply(
                        "NetSuite counts more rows but sends none beyond the last key",
                        where=claim.batch_id,
                        help="the key is not unique, or the source does not sort by it",
                    )
                if rows and not forward.goes(tuple(rows[0][at] for at in key_at), last, after):
                    raise BadReply(
                        "NetSuite sends rows again that it has sent",
                        where=claim.batch_id,
                        help="is a proxy or another program answering? Paging by key would never end",
                    )
                children = self._children(claim, record, rows, key_at[0], after)
                cut = None if done else self._cut(claim, record, spec, last, page.total, len(rows))
                event = None
                if cut is not None:
                    kept: dict[str, object] = {name: spec[name] for name in ("since", "keep") if name in spec}
                    rest = {"lower": cut, "upper": spec.get("upper"), "highest": spec.get("highest"), **kept}
                    cuts = (_int(spec.get("cuts")) or 0) + 1
                    sibling = sibling_batch_id(claim.batch_id, cuts)
                    children += (NewBatch(sibling, claim.wave_number, claim.record, BatchKind.RANGE, rest),)
                    spec = {"lower": spec.get("lower"), "upper": cut, "cuts": cuts, **kept}
                    event = "split"
                if landing is not None:
                    _landed(claim, landing)
                removal = _read_whole(spec, parents) if done else None
                if removal is not None and not self._is_seen(claim, record):
                    removal, event = None, KEPT
                self._still_at_work(claim)
                landing = self._hand_in(
                    Load(
                        claim=claim,
                        lease_seconds=self._settings.lease_seconds,
                        resume_key=last,
                        spec=spec,
                        rows=rows,
                        done=done,
                        children=children,
                        event=event,
                        removal=removal,
                    )
                )
                if done:
                    _landed(claim, landing)
                    return
                after = last
                # The page is the writer's now; kept here it would stand in memory beside the next one.
                del page, rows, children
        except WaveImportError:
            if landing is not None and not landing.done():
                # What was handed in is let land first: the next attempt then goes on behind it.
                landing.exception()
            raise

    def _join(
        self,
        claim: Claim,
        wide: WideReader,
        where: str | None,
        lower: int | None,
        upper: int | None,
        after: tuple[Any, ...] | None,
        parents: Sequence[int | str] | None,
    ) -> Page:
        """Return a page of whole rows of more than 100 columns: what the first SELECT gives, and the others up to its
        last key. Asks for all of them again while rows change between them; then raises BadReply, and lands none."""
        head, *rest = [replace(part, where=where) for part in wide.parts]
        for _ in range(JOINS_MAX):
            query = page_query(head, lower=lower, upper=upper, after=after, parents=parents)
            first = wide.readers[0].read(self._ask(claim, query))
            if not first.rows:
                return first
            until = wide.key_of(first.rows[-1])
            others = []
            for part, reader in zip(rest, wide.readers[1:], strict=True):
                self._check_stop()
                query = page_query(part, lower=lower, upper=upper, after=after, parents=parents, until=until)
                others.append(reader.read(self._ask(claim, query)))
            page = wide.join(first, others)
            if page is not None:
                return page
        raise BadReply(
            f"rows of {claim.record} changed or went between the {len(wide.parts)} queries that its more than"
            f" {COLUMNS_MAX} columns need, {JOINS_MAX} times in a row",
            where=claim.batch_id,
            help="run again when fewer people work in the account, or configure fewer columns; is the key unique?",
        )

    def _cut(
        self,
        claim: Claim,
        record: RecordSettings,
        spec: Mapping[str, object],
        last: tuple[Any, ...] | None,
        total: int | None,
        rows: int,
    ) -> int | None:
        """Return where to cut a range that holds far more than planned, None where it need not be cut."""
        first = record.column(record.key[0])
        if claim.kind is not BatchKind.RANGE or first.kind is not ColumnKind.INTEGER or total is None or last is None:
            return None
        if len(claim.batch_id) > 150:
            # Each cut lengthens the id of the sibling; halving a range this often leaves single keys.
            return None
        upper, highest = _int(spec.get("upper")), _int(spec.get("highest"))
        return split_rest(int(last[0]), upper, highest, total - rows, self._settings.batch_size)

    def _children(
        self,
        claim: Claim,
        record: RecordSettings,
        rows: Sequence[Sequence[Any]],
        key_at: int,
        after: tuple[Any, ...] | None,
    ) -> tuple[NewBatch, ...]:
        """Return the derived batches of the parents that begin in these rows.

        Of a key of several columns the first, which names the parent, may go on from the page before: that page has
        made the parent's batch already.
        """
        derived = self._derived.get(record.name, ())
        if not derived or not rows:
            return ()
        keys = list(dict.fromkeys(row[key_at] for row in rows))
        if after is not None and keys[0] == after[0]:
            del keys[0]
        return tuple(child for name, wave in derived for child in self._batches_of(claim, name, wave, keys))

    def _batches_of(self, claim: Claim, name: str, wave: int, keys: Sequence[Any]) -> tuple[NewBatch, ...]:
        return tuple(
            NewBatch(
                derived_batch_id(claim.batch_id, name, part[0]), wave, name, BatchKind.PARENTS, {"parents": list(part)}
            )
            for part in chunks(keys, self._settings.parents_per_batch)
        )

    # --- steps --------------------------------------------------------------------------------------------------

    def _ask(self, claim: Claim, query: str, rows: int | None = None) -> bytes:
        self._still_at_work(claim)
        return self._source.query(query, limit=rows or self._settings.page_size)

    def _land(
        self,
        claim: Claim,
        spec: Mapping[str, object],
        resume_key: Sequence[object] | None,
        *,
        children: tuple[NewBatch, ...] = (),
        done: bool = False,
        removal: Removal | None = None,
        event: str | None = None,
    ) -> None:
        _landed(
            claim,
            self._hand_in(
                Load(
                    claim=claim,
                    lease_seconds=self._settings.lease_seconds,
                    resume_key=resume_key,
                    spec=spec,
                    children=children,
                    done=done,
                    removal=removal,
                    event=event,
                )
            ),
        )

    def _hand_in(self, load: Load) -> "Future[bool]":
        landing = self._writer.load(load)
        if load.children:
            landing.add_done_callback(lambda ended: None if ended.exception() else self._made_batches())
        return landing

    def _check_stop(self) -> None:
        if self._halted.is_set():
            raise Stopped("the run was told to stop")


class _Forward:
    """Whether the pages of a batch go forward. Integer keys sort the same everywhere; of others, whose order is the
    source's own affair, it is known only that no page ends where an earlier one has."""

    def __init__(self, *, ordered: bool) -> None:
        self._ordered = ordered
        self._ends: set[tuple[Any, ...] | None] = set()

    def goes(self, first: tuple[Any, ...], last: tuple[Any, ...] | None, after: tuple[Any, ...] | None) -> bool:
        """Say so of the page from key `first` to `last` that was asked for behind `after`."""
        if self._ordered:
            return after is None or first > after
        if last in self._ends:
            return False
        self._ends |= {after, last}
        return True


def _landed(claim: Claim, landing: "Future[bool]") -> None:
    """Wait until a page is durable. Raises Fenced when its attempt is no longer the current one."""
    if not landing.result():
        raise Fenced(f"batch {claim.batch_id} was taken over")


def _int(value: object) -> int | None:
    return value if isinstance(value, int) else None


def _read_whole(spec: Mapping[str, object], parents: Sequence[int | str] | None) -> Removal | None:
    """Return what a batch that is done has read whole, so that other rows there are gone; None where it has not."""
    if parents is not None:
        return ReadParents(parents)
    if "since" in spec or "keep" in spec:
        return None
    return ReadRange(_int(spec.get("lower")), _int(spec.get("upper")))


def _parents(spec: Mapping[str, object]) -> list[int | str] | None:
    parents = spec.get("parents")
    return [value for value in parents if isinstance(value, int | str)] if isinstance(parents, list) else None


def _key(resume_key: Sequence[object]) -> tuple[Any, ...]:
    return tuple(resume_key)
