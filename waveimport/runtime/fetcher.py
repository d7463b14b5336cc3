"""One batch from claim to completion: have it planned, swept or paged by its kind, tell how it ended.

Nothing here decides the status of a batch: the ending is a value, and the coordinator spends a try or hands the batch
back by its kind.
"""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from waveimport.core.settings import RecordSettings, RunSettings
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
from waveimport.netsuite.suiteql import PROBE_QUERY
from waveimport.runtime import clock
from waveimport.runtime.culprit import explained
from waveimport.runtime.job_records import JobRecords
from waveimport.runtime.log_context import about, last_request
from waveimport.runtime.paging import Pager
from waveimport.runtime.planning import Planner
from waveimport.runtime.readers import Readers
from waveimport.runtime.source import Source
from waveimport.runtime.steps import Steps
from waveimport.runtime.sweeping import Sweeper, is_sweep
from waveimport.runtime.tracing import OFF, Tracing
from waveimport.runtime.visibility import Visibility
from waveimport.runtime.writer import Writer
from waveimport.store.batches import Claim, start, started

log = logging.getLogger(__name__)


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
    """A batch's ending, with the error behind it and the id of the request that met it, where there is one."""

    claim: Claim
    ending: Ending
    error: WaveImportError | None = None
    request_id: str | None = None


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
        readers: Readers,
        tracing: Tracing = OFF,
    ) -> None:
        self._steps = Steps(source, writer, settings, halted, still_at_work, made_batches, tracing)
        self._records = JobRecords(records, derived, settings.parents_per_batch)
        visibility = Visibility(self._steps)
        self._planner = Planner(self._steps, self._records, visibility)
        self._sweeper = Sweeper(self._steps, self._records, visibility)
        self._pager = Pager(self._steps, self._records, visibility, readers)
        self._succeeded_since = succeeded_since

    def work(self, claim: Claim) -> Ended:
        """Work on a claimed batch until it is completed, fenced or at fault. Raises nothing."""
        with about(claim), self._steps.tracing.batch(claim) as tell:
            ended = self._work(claim)
            how, code = ended.ending.name.lower(), None if ended.error is None else ended.error.code
            tell(how, code)
            if log.isEnabledFor(logging.DEBUG):
                with about(claim, ended.request_id or last_request()):
                    log.debug("batch ended: %s%s", how, "" if code is None else f", {code}")
        return ended

    def _work(self, claim: Claim) -> Ended:
        begun = clock.monotonic()
        self._steps.begin()
        try:
            starting = self._steps.writer.begin(
                lambda connection: start(connection, claim), prove=lambda connection: started(connection, claim)
            )
            if claim.kind is BatchKind.PLAN:
                self._steps.require_started(claim, starting)
                self._planner.plan(claim)
            elif is_sweep(claim):
                self._steps.require_started(claim, starting)
                self._sweeper.sweep(claim)
            else:
                self._pager.fetch(claim, starting)
        except WaveImportError as error:
            request_id = last_request()  # what is asked from here on is asked to find the cause
            ending = ending_of(error, others_succeed=self._others_succeed(error, begun))
            if ending is Ending.REFUSED and claim.tries + 1 >= self._steps.settings.max_tries:
                error = explained(self._steps, self._records, claim, error)
            return Ended(claim, ending, error, request_id)
        except Exception as error:
            log.debug("batch %s", claim.batch_id, exc_info=True)
            fault = WaveImportError(f"a fault in the work on a batch: {type(error).__name__}", where=claim.batch_id)
            return Ended(claim, Ending.FAULT, fault, last_request())
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
            self._steps.source.query(PROBE_QUERY, limit=1)
        except QueryRefused:
            return True  # a refusal is an answer
        except WaveImportError:
            return False
        return True
