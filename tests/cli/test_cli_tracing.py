"""`run` sends its spans to a collector when the standard variables ask for it, and does not mind one that hangs."""

import json
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cli_world import CANARY, World

from waveimport.errors import ExitCode
from waveimport.runtime import tracing
from waveimport.simulator.handle import Simulator

collected = pytest.importorskip(
    "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="of the extra `otel`"
)
pytest.importorskip("opentelemetry.exporter.otlp.proto.http.trace_exporter", reason="of the extra `otel`")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Collector:
    """Takes what is posted to it, and answers while `answers` is set."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self.answers = threading.Event()
        self.answers.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                collector.heard.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
                collector.answers.wait(20)
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *given: Any) -> None:
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    made = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", made.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield made
    made.answers.set()
    made.server.shutdown()
    made.server.server_close()


def test_a_run_is_sent_to_the_collector(sqlite_world: World, account: Simulator, collector: Collector) -> None:
    sqlite_world.configure(account.netsuite_toml())
    said = sqlite_world.call("run", "--json")
    assert said.code == ExitCode.OK
    assert {path for path, _ in collector.heard} == {"/v1/traces"}
    sent = [collected.ExportTraceServiceRequest.FromString(body) for _, body in collector.heard]
    spans = [
        span
        for one in sent
        for resource in one.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    batches = sum(wave["batches"]["total"] for wave in said.json["waves"])
    counted = Counter(span.name for span in spans)
    assert (counted["waveimport.run"], counted["waveimport.batch"]) == (1, batches)
    assert counted["waveimport.request"] >= batches
    assert len({span.trace_id for span in spans}) == 1
    whole = b"".join(body for _, body in collector.heard)
    assert said.json["job_id"].encode() in whole
    for hidden in (CANARY.encode(), b"SELECT", b"limit=", b"oauth"):
        assert hidden not in whole


def test_a_collector_that_hangs_changes_nothing_for_the_run(
    sqlite_world: World, account: Simulator, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing, "CLOSE_SECONDS", 0.2)
    collector.answers.clear()
    sqlite_world.configure(account.netsuite_toml())
    began = time.monotonic()
    said = sqlite_world.call("--log-format", "json", "run", "--json")
    assert (said.code, said.json["status"]) == (ExitCode.OK, "completed")
    assert time.monotonic() - began < 10
    warnings = [json.loads(line) for line in said.err.splitlines() if '"WARNING"' in line]
    assert [line["message"].partition(" within")[0] for line in warnings] == ["the traces were not all sent"]
