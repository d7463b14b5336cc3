"""One batch from claim to completion: fetch its pages, hand them in to land, tell how it ended.

While a page is parsed and landed the next one is asked for. Nothing here decides the status of a batch: the ending is
a value, and the coordinator spends a try or hands the batch back by its kind.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any, Protocol

from waveimport.core.ranges import (
    Bounds,
    chunks,
    derived_batch_id,
    main_batch_id,
    range_count,
    sibling_batch_id,
    split,
    split_rest,
)
from waveimport.core.records import PageReader, parse_bounds
from waveimport.core.settings import ColumnKind, RecordSettings, RunSettings
from waveimport.core.waves import BatchKind
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
from waveimport.netsuite.suiteql import PROBE_QUERY, bounds_query, page_query
from waveimport.runtime import clock
from waveimport.runtime.writer import Writer
from waveimport.store.batches import Claim, start, started
from waveimport.store.landing import Load, NewBatch

log = logging.getLogger(__name__)

RANGES_A_COMMIT = 2_000


class Source(Protocol):
    """What a fetcher needs of the client: one page's bytes, or a named error."""

    def query(self, sql: str, *, limit: int = ..., offset: int = ...) -> bytes:
        """Return the reply's body."""


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
        self._derived = derived
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
            else:
                self._fetch(claim)
        except WaveImportError as error:
            return Ended(claim, ending_of(error, others_succeed=self._others_succeed(error, begun)), error)
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

    # --- planning -----------------------------------------------------------------------------------------------

    def _plan(self, claim: Claim) -> None:
        """Ask for the bounds once, keep them, make the ranges a few thousand a commit.

        Bounds that are stored are never asked for again: a table that grew between two askings once left 12,840 keys
        in no batch.
        """
        record = self._records[claim.record]
        spec = dict(claim.spec)
        if "count" not in spec:
            count, lowest, highest = parse_bounds(self._ask(claim, bounds_query(record)))
            spec = {
                "count": count,
                "lowest": lowest,
                "highest": highest,
                "batch_size": self._settings.batch_size,
                "next": 0,
            }
            self._land(claim, spec, None)
        bounds = Bounds(_int(spec["count"]) or 0, _int(spec["lowest"]), _int(spec["highest"]))
        size, at = _int(spec["batch_size"]) or 1, _int(spec["next"]) or 0
        total = range_count(bounds, size)
        while at < total:
            self._check_stop()
            self._still_at_work(claim)
            part: list[NewBatch] = []
            for number, keys in split(bounds, size, at):
                covers: dict[str, object] = {"lower": keys.lower, "upper": keys.upper}
                if keys.upper is None:
                    covers["highest"] = bounds.highest
                batch_id = main_batch_id(claim.wave_number, claim.record, number)
                part.append(NewBatch(batch_id, claim.wave_number, claim.record, BatchKind.RANGE, covers))
                if len(part) == RANGES_A_COMMIT:
                    break
            at += len(part)
            spec = {**spec, "next": at}
            self._land(claim, spec, None, children=tuple(part), done=at >= total)

    # --- fetching -----------------------------------------------------------------------------------------------

    def _fetch(self, claim: Claim) -> None:
        record = self._records[claim.record]
        reader = self._readers[claim.record]
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
                query = page_query(
                    record, lower=_int(spec.get("lower")), upper=_int(spec.get("upper")), after=after, parents=parents
                )
                page = reader.read(self._ask(claim, query))
                rows = page.rows
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
                    rest = {"lower": cut, "upper": spec.get("upper"), "highest": spec.get("highest")}
                    cuts = (_int(spec.get("cuts")) or 0) + 1
                    sibling = sibling_batch_id(claim.batch_id, cuts)
                    children += (NewBatch(sibling, claim.wave_number, claim.record, BatchKind.RANGE, rest),)
                    spec = {"lower": spec.get("lower"), "upper": cut, "cuts": cuts}
                    event = "split"
                if landing is not None:
                    _landed(claim, landing)
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
        return tuple(
            NewBatch(
                derived_batch_id(claim.batch_id, name, part[0]), wave, name, BatchKind.PARENTS, {"parents": list(part)}
            )
            for name, wave in derived
            for part in chunks(keys, self._settings.parents_per_batch)
        )

    # --- steps --------------------------------------------------------------------------------------------------

    def _ask(self, claim: Claim, query: str) -> bytes:
        self._still_at_work(claim)
        return self._source.query(query, limit=self._settings.page_size)

    def _land(
        self,
        claim: Claim,
        spec: Mapping[str, object],
        resume_key: Sequence[object] | None,
        *,
        children: tuple[NewBatch, ...] = (),
        done: bool = False,
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


def _parents(spec: Mapping[str, object]) -> list[int | str] | None:
    parents = spec.get("parents")
    return [value for value in parents if isinstance(value, int | str)] if isinstance(parents, list) else None


def _key(resume_key: Sequence[object]) -> tuple[Any, ...]:
    return tuple(resume_key)
