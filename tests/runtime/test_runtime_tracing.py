"""The spans of a run, as the SDK's own exporter in memory gets them; and that no exporter can hold up a run."""

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from runtime_world import World

from waveimport.errors import QueryRefused, SourceDown
from waveimport.runtime import tracing
from waveimport.runtime.tracing import OFF, from_environment
from waveimport.store.transactions import Database

_EXTRA = "of the extra `otel`"
in_memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter", reason=_EXTRA)
export = pytest.importorskip("opentelemetry.sdk.trace.export", reason=_EXTRA)

COLLECTOR = "OTEL_EXPORTER_OTLP_ENDPOINT"
EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of the machine decides a test, and the SDK's logger is left as it was."""
    for name in ("OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES", "OTEL_TRACES_SAMPLER", "OTEL_SDK_DISABLED"):
        monkeypatch.delenv(name, raising=False)
    heard = logging.getLogger("opentelemetry")
    before = (list(heard.handlers), heard.propagate)
    yield
    heard.handlers[:], heard.propagate = before


class Spans:
    """What was exported so far."""

    def __init__(self) -> None:
        self._memory = in_memory.InMemorySpanExporter()
        self.tracing = tracing._Traced(export.SimpleSpanProcessor(self._memory))

    @property
    def all(self) -> Sequence[Any]:
        return self._memory.get_finished_spans()

    def named(self, name: str) -> list[Any]:
        return [span for span in self.all if span.name == name]


@pytest.fixture
def spans() -> Spans:
    return Spans()


# --- what is told -----------------------------------------------------------------------------------------------


def test_a_run_is_a_trace_of_its_batches_and_their_requests(database: Database, spans: Spans) -> None:
    world = World(database, tracing=spans.tracing)
    world.source.fill(range(1, 8), lines_each=2)
    numbers = iter(range(1000))

    def ask(sql: str) -> None:
        with spans.tracing.request(f"r{next(numbers)}", "POST", "https://a.example/x/suiteql?limit=5") as answered:
            answered(200)

    world.source.before = ask
    with spans.tracing.run("import_1", "p", "full") as ended:
        world.coordinator().run()
        ended(0)
    (run,) = spans.named("waveimport.run")
    assert dict(run.attributes) == {
        "waveimport.job": "import_1", "waveimport.profile": "p", "waveimport.mode": "full", "waveimport.exit_code": 0,
    }  # fmt: skip
    # The job is completed by the last page's commit; the thread that fetched it says so a moment later.
    until = time.monotonic() + 10
    made = world.query("SELECT COUNT(*) FROM wave_batches")[0][0]
    while len(spans.named("waveimport.batch")) < made and time.monotonic() < until:
        time.sleep(0.01)
    batches = {span.attributes["waveimport.batch"]: span for span in spans.named("waveimport.batch")}
    assert {span.parent.span_id for span in batches.values()} == {run.context.span_id}
    assert len(batches) == made
    assert dict(batches["1/order/0000000"].attributes) == {
        "waveimport.job": "import_1", "waveimport.wave": 1, "waveimport.batch": "1/order/0000000",
        "waveimport.attempt": 1, "waveimport.record": "order", "waveimport.kind": "range",
        "waveimport.ending": "completed", "waveimport.rows": 7,
    }  # fmt: skip
    assert sum(span.attributes["waveimport.rows"] for span in batches.values()) == 7 + 14
    requests = spans.named("waveimport.request")
    assert len(requests) == len(world.source.asked)
    assert {span.parent.span_id for span in requests} == {span.context.span_id for span in batches.values()}
    first = min(requests, key=lambda span: span.start_time)
    assert dict(first.attributes) == {
        "http.request.method": "POST", "server.address": "a.example", "server.port": 443,
        "url.path": "/x/suiteql", "waveimport.request_id": "r0", "http.response.status_code": 200,
    }  # fmt: skip
    assert run.resource.attributes["service.name"] == "waveimport"
    world.close()


def test_a_refused_batch_is_an_error_of_its_kind_without_its_words(database: Database, spans: Spans) -> None:
    world = World(database, tracing=spans.tracing)
    world.source.fill(range(1, 4))
    (plan,) = world.claim()

    def refuse(sql: str) -> None:
        with spans.tracing.request("r1", "POST", "http://a.example/") as answered:
            answered(400)
        raise QueryRefused("canary: WHERE memo = 'canary'")

    world.source.before = refuse
    world.fetcher().work(plan)
    world.close()
    (batch,), (request,) = spans.named("waveimport.batch"), spans.named("waveimport.request")
    assert (batch.attributes["waveimport.ending"], batch.attributes["error.type"]) == ("refused", QueryRefused.code)
    assert (request.attributes["server.port"], request.attributes["error.type"]) == (80, "400")
    assert not batch.status.is_ok
    assert "canary" not in batch.to_json() + request.to_json()
    assert not batch.events


def test_a_request_without_an_answer_is_an_error_by_its_class(spans: Spans) -> None:
    with pytest.raises(SourceDown), spans.tracing.request("r1", "POST", "http://a.example/"):
        raise SourceDown("canary")
    (request,) = spans.all
    assert request.attributes["error.type"] == "SourceDown"
    assert "http.response.status_code" not in request.attributes
    assert "canary" not in request.to_json()


def test_the_service_may_be_named_by_the_standard_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "nightly")
    spans = Spans()
    with spans.tracing.run("import_1", "p", "full"):
        pass
    assert spans.all[0].resource.attributes["service.name"] == "nightly"


# --- on and off -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {COLLECTOR: " "},
        {COLLECTOR: "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
        {COLLECTOR: "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "True"},
    ],
)
def test_a_run_is_not_traced_unless_it_is_asked_for(
    environment: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    assert from_environment(environment) is OFF
    assert caplog.text == ""


def test_off_imports_nothing() -> None:
    script = (
        "import sys, waveimport.runtime.tracing as tracing\n"
        "off = tracing.from_environment({})\n"
        "with off.run('j', 'p', 'full') as ended, off.batch(None) as told, off.request('r', 'GET', 'u') as answered:\n"
        "    ended(0), told('completed', None), answered(200), off.landed(1), off.close()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", [COLLECTOR, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_TRACES_EXPORTER"])
def test_without_the_extra_one_line_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    monkeypatch.setitem(sys.modules, EXPORTER, None)
    assert from_environment({name: "otlp"}) is OFF
    assert [record.getMessage() for record in caplog.records] == [
        f"{name} is set, but OpenTelemetry is not installed: pip install 'waveimport[otel]'"
    ]


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "console"}, "waveimport has only `otlp`"),
        ({COLLECTOR: "http://127.0.0.1:4317", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "http/protobuf, not by grpc"),
    ],
)
def test_what_is_not_supported_is_said_and_costs_nothing_else(
    caplog: pytest.LogCaptureFixture, environment: dict[str, str], words: str
) -> None:
    assert from_environment(environment) is OFF
    assert words in caplog.text


# --- no exporter can hold up a run ------------------------------------------------------------------------------


class Exporter(export.SpanExporter):
    """Does with spans what it is told to."""

    def __init__(self, then: Any) -> None:
        self.then = then

    def export(self, spans: Sequence[Any]) -> Any:
        return self.then()


def test_an_exporter_that_hangs_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(tracing, "CLOSE_SECONDS", 0.1)
    released = threading.Event()
    traced = tracing.sent_by(Exporter(lambda: released.wait(20)))
    began = time.monotonic()
    with traced.run("import_1", "p", "full"):
        pass
    traced.close()
    took = time.monotonic() - began
    released.set()
    assert took < 5
    assert "the traces were not all sent within" in caplog.text


def test_an_exporter_that_fails_costs_one_line(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise OSError("refused")

    tracing._hear_of_the_exporter()
    traced = tracing.sent_by(Exporter(fail))
    with traced.run("import_1", "p", "full"):
        pass
    traced.close()
    logging.getLogger(EXPORTER).error("Failed to export, as ever")
    said = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert [(record.name, record.getMessage().partition(":")[0]) for record in said] == [
        ("waveimport.runtime.tracing", "traces are not all sent, and the run goes on")
    ]
