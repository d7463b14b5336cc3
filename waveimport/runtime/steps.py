"""The steps that the work on every batch is made of: ask the source, land what it gave, end when told to."""

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from waveimport.core.rows import Row
from waveimport.core.settings import RunSettings
from waveimport.errors import Fenced, Stopped
from waveimport.runtime import clock
from waveimport.runtime.log_context import about, last_request
from waveimport.runtime.source import Source
from waveimport.runtime.tracing import OFF, Tracing
from waveimport.runtime.writer import Writer
from waveimport.store.batches import Claim
from waveimport.store.landing import Asked, Load, NewBatch
from waveimport.store.packing import Packed
from waveimport.store.removal import Removal

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Landing:
    """What was handed in, on its way to a commit. `future` is the writer's answer, see `Writer.load`; `request_id` of
    the request that brought it, for its thread may have sent another since; `since` is monotonic, in seconds."""

    future: "Future[bool]"
    rows: int
    request_id: str | None
    since: float


class _Asking(threading.local):
    """What a thread has asked the source since it last handed a page in."""

    requests = 0
    seconds = 0.0


@dataclass(frozen=True, slots=True)
class Steps:
    """The means of a run; threads share one. `still_at_work` is told that a step of a batch begins, which keeps its
    lease; `made_batches` that a commit has made new ones; `halted` is set when the run is to end."""

    source: Source
    writer: Writer
    settings: RunSettings
    halted: threading.Event
    still_at_work: Callable[[Claim], None]
    made_batches: Callable[[], None]
    tracing: Tracing = OFF
    _asking: _Asking = field(default_factory=_Asking)

    def begin(self) -> None:
        """Begin the work on a batch, in the thread that calls: what was asked for another is not counted for it."""
        self._asking.requests, self._asking.seconds = 0, 0.0

    def check_stop(self) -> None:
        """Raise Stopped when the run was told to stop."""
        if self.halted.is_set():
            raise Stopped("the run was told to stop")

    def require_started(self, claim: Claim, starting: "Future[bool]") -> None:
        """Wait until a batch is said to be processing. Raises Fenced when this attempt is no longer the current one,
        and the database's errors."""
        if not starting.result():
            raise Fenced(f"batch {claim.batch_id} was taken over")

    def ask(self, claim: Claim, query: str, rows: int | None = None) -> bytes:
        """Return the reply's body, of at most `rows` rows, by default a page. Raises the source's errors."""
        self.still_at_work(claim)
        began = clock.monotonic()
        reply = self.source.query(query, limit=rows or self.settings.page_size)
        self._asking.requests += 1
        self._asking.seconds += clock.monotonic() - began
        return reply

    def land(
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
        """Land what brings no rows, and return once it is durable. The words are those of `Load`.

        Raises Fenced when the attempt is no longer the current one, and the database's errors.
        """
        landing = self.hand_in(claim, spec, resume_key, children=children, done=done, removal=removal, event=event)
        self.wait_until_durable(claim, landing)

    def hand_in(
        self,
        claim: Claim,
        spec: Mapping[str, object],
        resume_key: Sequence[object] | None,
        *,
        rows: Sequence[Row] | Packed = (),
        children: tuple[NewBatch, ...] = (),
        done: bool = False,
        removal: Removal | None = None,
        event: str | None = None,
    ) -> Landing:
        """Hand in what is to land, for `wait_until_durable`; nothing of it is kept here. The words are those of
        `Load`."""
        asked = Asked(self._asking.requests, round(1000 * self._asking.seconds))
        self.begin()
        future = self.writer.load(
            Load(
                claim=claim,
                lease_seconds=self.settings.lease_seconds,
                resume_key=resume_key,
                spec=spec,
                rows=rows,
                children=children,
                done=done,
                removal=removal,
                event=event,
                asked=asked,
            )
        )
        if children:
            future.add_done_callback(lambda ended: None if ended.exception() else self.made_batches())
        return Landing(future, len(rows), last_request(), clock.monotonic())

    def wait_until_durable(self, claim: Claim, landing: Landing) -> None:
        """Wait until a page is durable. Raises Fenced when its attempt is no longer the current one, and the
        database's errors."""
        if not landing.future.result():
            raise Fenced(f"batch {claim.batch_id} was taken over")
        self.tracing.landed(landing.rows)
        if log.isEnabledFor(logging.DEBUG):
            seconds = round(clock.monotonic() - landing.since, 3)
            with about(claim, landing.request_id):
                log.debug("landed", extra={"rows": landing.rows, "seconds": seconds})
