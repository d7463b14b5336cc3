"""What a log line holds beside its message, as text and as JSON."""

import json
import logging
import re
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_world import World

from waveimport.cli.logs import configure_logging
from waveimport.errors import ExitCode
from waveimport.log_fields import bind, bound
from waveimport.simulator.faults import Fault, FaultKind, Faults
from waveimport.simulator.handle import Simulator

PROJECT = Path(__file__).parents[2]

CANARY = "canary-c0de"
WHERE = {"job": "import_1", "token": 3, "wave": 2, "batch": "2/customer/7", "attempt": 4, "request_id": "ab12cd34"}

log = logging.getLogger("waveimport.extra")
Lines = Callable[[], list[str]]


def scrubbed(text: str) -> str:
    return text.replace(CANARY, "***")


@pytest.fixture
def lines(capsys: pytest.CaptureFixture[str], quiet_environment: None) -> Lines:
    return lambda: capsys.readouterr().err.splitlines()


def objects(lines: Lines) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines()]


def test_a_json_line_says_job_wave_batch_attempt_and_request_where_they_are_known(lines: Lines) -> None:
    configure_logging(0, "json", scrubbed)
    with bound(**WHERE):
        log.warning("was %s", "refused")
    log.warning("done")
    known, unknown = objects(lines)
    assert known == {**unknown, "message": "was refused", **WHERE}
    assert list(known) == ["time", "level", "logger", "message", *WHERE], "in the order in which they are read"
    assert list(unknown) == ["time", "level", "logger", "message"]


def test_a_text_line_ends_in_the_batch_the_attempt_and_the_request(lines: Lines) -> None:
    configure_logging(1, "text", scrubbed)
    with bound(**WHERE):
        log.warning("was refused")
        log.debug("POST suiteql: 200", extra={"method": "POST", "kind": "suiteql", "status": 200, "rows": 5})
    with bound(job="import_1", batch=None):
        log.warning("done")
    assert [line.split(" ", 1)[1] for line in lines()] == [
        "WARNING was refused  batch=2/customer/7 attempt=4 request_id=ab12cd34",
        "DEBUG POST suiteql: 200  batch=2/customer/7 attempt=4 request_id=ab12cd34 rows=5",
        "WARNING done",
    ]


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_secret_comes_out_by_the_context_or_the_trace(lines: Lines, form: str) -> None:
    configure_logging(1, form, scrubbed)
    with bound(batch=f"a {CANARY}", request_id=CANARY):
        try:
            raise ValueError(CANARY)
        except ValueError:
            log.exception("failed", extra={"operation_id": CANARY})
    said = "\n".join(lines())
    assert CANARY not in said
    assert said.count("***") == 4
    assert "ValueError: ***" in said


def test_a_trace_stands_behind_the_context(lines: Lines) -> None:
    configure_logging(0, "text", scrubbed)
    with bound(batch="1/a/1"):
        try:
            raise ValueError("x")
        except ValueError:
            log.exception("failed")
    first, second, *_ = lines()
    assert first.endswith("ERROR failed  batch=1/a/1")
    assert second == "Traceback (most recent call last):"


def test_what_other_libraries_add_to_their_records_is_not_written(lines: Lines) -> None:
    configure_logging(0, "json", scrubbed)
    with bound(other="bound"):
        logging.getLogger("urllib3").warning("retrying", extra={"authorization": "signed"})
    (line,) = objects(lines)
    assert list(line) == ["time", "level", "logger", "message"]


def test_each_thread_has_its_own_context(lines: Lines) -> None:
    configure_logging(0, "json", scrubbed)
    both = threading.Barrier(2, timeout=10)

    def work(batch: str) -> None:
        bind(batch=batch)
        both.wait()
        for _ in range(20):
            log.warning("by %s", batch)

    threads = [threading.Thread(target=work, args=(f"1/a/{number}",)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    log.warning("by nobody")
    *said, last = objects(lines)
    assert len(said) == 40
    assert all(line["message"] == f"by {line['batch']}" for line in said)
    assert "batch" not in last


# --- a whole run ------------------------------------------------------------------------------------------------


def test_a_run_under_v_tells_each_request_and_page_of_a_batch_and_no_query_row_or_secret(
    sqlite_world: World, account: Simulator
) -> None:
    account.set_faults(Faults(fault=[Fault(kind=FaultKind.RATE_LIMIT, matching="FROM customer", times=1)]))
    sqlite_world.configure(account.netsuite_toml())
    said = sqlite_world.call("-v", "--log-format", "json", "run", "--json")
    assert said.code == ExitCode.OK
    told = [json.loads(line) for line in said.err.splitlines()]
    requests = [line for line in told if line.get("kind") == "suiteql"]
    landed = [line for line in told if line["message"] == "landed"]
    (limited,) = [line for line in requests if line["status"] == 429]
    (shown,) = re.findall(r"```json\n(.*)\n```", (PROJECT / "README.md").read_text(encoding="utf-8"))
    assert list(json.loads(shown)) == list(limited)
    assert json.loads(shown)["message"] == limited["message"]
    assert (
        len({line["request_id"] for line in requests})
        == len(requests)
        == len({line["operation_id"] for line in requests})
    )
    rows = sum(line["rows"] for line in landed)
    assert rows == said.json["rows"]
    brought = {line["request_id"]: line["rows"] for line in requests if line["status"] == 200}
    pages = [line for line in landed if not line["batch"].endswith("/plan")]
    assert pages
    assert all(brought[line["request_id"]] == line["rows"] for line in pages)
    assert {line["job"] for line in told} == {said.json["job_id"]}
    database = sqlite_world.database()
    memos = database.run(
        lambda connection: connection.exec_driver_sql("SELECT entityid FROM customer LIMIT 20").scalars().all()
    )
    database.close()
    for hidden in ("SELECT", "oauth_", *memos):
        assert hidden not in said.err
