"""OpenTelemetry: a run is a trace, its batches and requests are spans. Off, and costs nothing, unless it is asked for.

    waveimport.run        job, profile, mode, exit code
      waveimport.batch    job, wave, batch, attempt, record, rows, how it ended
        waveimport.request  method, status, server and path, by the semantic conventions for HTTP clients

No span holds a query, a value of a row or an error's words. Spans are sent by a thread of the SDK's own; whatever
becomes of them, the run does not wait longer than `CLOSE_SECONDS` for it, at its end.

Source: OpenTelemetry, "Environment Variable Specification", "Semantic conventions for HTTP spans".
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from waveimport import __version__
from waveimport.store.batches import Claim

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import SpanProcessor
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Span

log = logging.getLogger(__name__)

CLOSE_SECONDS: Final = 5.0
"""How long a run waits, at its end, for its last spans to be sent."""
_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_EXPORTERS: Final = "OTEL_TRACES_EXPORTER"
_PROTOCOLS: Final = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PROTOCOL: Final = "http/protobuf"


def _to_nobody(*_: object) -> None:
    return None


class Tracing:
    """Tells nobody. The blocks that its methods open are to be entered in the thread that works."""

    def run(self, job_id: str, profile: str, mode: str) -> AbstractContextManager[Callable[[int], None]]:
        """Open a run; what the block gets is to be told the exit code."""
        return nullcontext(_to_nobody)

    def batch(self, claim: Claim) -> AbstractContextManager[Callable[[str, str | None], None]]:
        """Open the work on a batch; what the block gets is to be told how it ended, and the error's code if any."""
        return nullcontext(_to_nobody)

    def landed(self, rows: int) -> None:
        """Count rows that are durable to the batch that this thread works on."""

    def request(self, request_id: str, method: str, url: str) -> AbstractContextManager[Callable[[int], None]]:
        """Open a request; what the block gets is to be told the status of its answer."""
        return nullcontext(_to_nobody)

    def close(self) -> None:
        """Have what was told sent, or give it up."""


OFF: Final = Tracing()


def from_environment(environment: Mapping[str, str]) -> Tracing:
    """Return what the standard variables of OpenTelemetry ask for. What cannot be done is said once, and is off."""
    asked = _asked_by(environment)
    if asked is None:
        return OFF
    exporters = {name.strip() for name in environment.get(_EXPORTERS, "otlp").split(",")} - {""} or {"otlp"}
    if exporters != {"otlp"}:
        log.warning("%s: of the exporters waveimport has only `otlp`; this run is not traced", _EXPORTERS)
        return OFF
    protocol = next((environment[name] for name in _PROTOCOLS if environment.get(name)), _PROTOCOL)
    if protocol != _PROTOCOL:
        log.warning("traces are sent by %s, not by %s; this run is not traced", _PROTOCOL, protocol)
        return OFF
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ImportError:
        log.warning("%s is set, but OpenTelemetry is not installed: pip install 'waveimport[otel]'", asked)
        return OFF
    _hear_of_the_exporter()
    try:
        return sent_by(OTLPSpanExporter())
    except Exception as error:  # a variable that the SDK cannot read must not cost the run
        log.warning("this run is not traced: %s, in the variables OTEL_*", type(error).__name__)
        return OFF


def _asked_by(environment: Mapping[str, str]) -> str | None:
    """Return the variable that asks for traces, None where none does."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return None
    exporters = environment.get(_EXPORTERS, "").strip()
    if exporters == "none":
        return None
    return next((name for name in (*_ENDPOINTS, _EXPORTERS) if environment.get(name, "").strip()), None)


def sent_by(exporter: "SpanExporter") -> Tracing:
    """Return a tracing that has spans sent in the background; those that find its queue full are dropped."""
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    return _Traced(BatchSpanProcessor(exporter))


class _Traced(Tracing):
    def __init__(self, processor: "SpanProcessor") -> None:
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider

        resource = Resource.create({"service.name": "waveimport", "service.version": __version__})
        # Neither global nor ended at exit: both could hold up a run that is over.
        self._provider = TracerProvider(
            resource=resource.merge(OTELResourceDetector().detect()), shutdown_on_exit=False
        )
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("waveimport", __version__)
        self._rows: ContextVar[list[int]] = ContextVar("waveimport_rows")

    @contextmanager
    def run(self, job_id: str, profile: str, mode: str) -> Iterator[Callable[[int], None]]:
        attributes = {"waveimport.job": job_id, "waveimport.profile": profile, "waveimport.mode": mode}
        with self._span("waveimport.run", attributes) as span:
            yield lambda code: span.set_attribute("waveimport.exit_code", code)

    @contextmanager
    def batch(self, claim: Claim) -> Iterator[Callable[[str, str | None], None]]:
        attributes = {
            "waveimport.job": claim.job_id,
            "waveimport.wave": claim.wave_number,
            "waveimport.batch": claim.batch_id,
            "waveimport.attempt": claim.attempt,
            "waveimport.record": claim.record,
            "waveimport.kind": claim.kind.value,
        }
        rows = [0]
        token = self._rows.set(rows)
        try:
            with self._span("waveimport.batch", attributes) as span:

                def ended(ending: str, code: str | None) -> None:
                    span.set_attribute("waveimport.ending", ending)
                    if code is not None:
                        self._failed(span, code)

                yield ended
                span.set_attribute("waveimport.rows", rows[0])
        finally:
            self._rows.reset(token)

    def landed(self, rows: int) -> None:
        counted = self._rows.get(None)
        if counted is not None:
            counted[0] += rows

    @contextmanager
    def request(self, request_id: str, method: str, url: str) -> Iterator[Callable[[int], None]]:
        from opentelemetry.trace import SpanKind

        parts = urlsplit(url)
        attributes: dict[str, Any] = {
            "http.request.method": method,
            "server.address": parts.hostname or "",
            "server.port": parts.port or (443 if parts.scheme == "https" else 80),
            "url.path": parts.path,
            "waveimport.request_id": request_id,
        }

        with self._span("waveimport.request", attributes, kind=SpanKind.CLIENT) as span:

            def answered(status: int) -> None:
                span.set_attribute("http.response.status_code", status)
                if status >= 400:
                    self._failed(span, str(status))

            yield answered

    @contextmanager
    def _span(self, name: str, attributes: Mapping[str, Any], **how: Any) -> Iterator["Span"]:
        """Open a span under the one that this thread is in. Of an error it keeps the kind, never the words."""
        with self._tracer.start_as_current_span(
            name, attributes=dict(attributes), record_exception=False, set_status_on_exception=False, **how
        ) as span:
            try:
                yield span
            except BaseException as error:
                self._failed(span, type(error).__name__)
                raise

    @staticmethod
    def _failed(span: "Span", kind: str) -> None:
        from opentelemetry.trace import Status, StatusCode

        span.set_attribute("error.type", kind)
        span.set_status(Status(StatusCode.ERROR))

    def close(self) -> None:
        # The SDK's own time limits are longer, and its exporter may hang in a connection.
        closing = threading.Thread(target=self._provider.shutdown, name="tracing", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)
        if closing.is_alive():
            log.warning("the traces were not all sent within %.0f s; the run does not wait for them", CLOSE_SECONDS)


class _Once(logging.Handler):
    """Says once that the SDK complains, and why; the rest is for `-v`."""

    def __init__(self) -> None:
        super().__init__()
        self._said = False

    def emit(self, record: logging.LogRecord) -> None:
        level, self._said = logging.DEBUG if self._said else logging.WARNING, True
        log.log(level, "traces are not all sent, and the run goes on: %s", record.getMessage())


def _hear_of_the_exporter() -> None:
    """Have a collector that is away cost one line, not one for each attempt to reach it."""
    heard = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, _Once) for handler in heard.handlers):
        heard.addHandler(_Once())
    heard.propagate = False
