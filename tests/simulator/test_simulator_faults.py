"""Faults: each does on the wire what its name says, when the plan says so, and a wrong plan is refused."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
from simulator_client import Ask, asking, said

from waveimport.errors import BadToml, BadValue, ConfigError, UnknownKey
from waveimport.simulator.faults import Fault, FaultKind, Faults, Plan, load
from waveimport.simulator.handle import Simulator

QUERY = "SELECT id FROM subsidiary ORDER BY id"
Put = Callable[..., None]


def strike(kind: FaultKind, **more: object) -> tuple[Fault, ...]:
    return (Fault(kind, **more),)


# --- each fault on the wire -------------------------------------------------------------------------------------


def test_a_rate_limit_has_oracles_body_and_no_retry_after(with_faults: Put, ask: Ask) -> None:
    with_faults(fault=strike(FaultKind.RATE_LIMIT))
    refused = ask(QUERY)
    assert refused.status_code == 429
    assert (refused.json()["title"], said(refused)) == (
        "Bad Request",
        "Concurrent request limit exceeded. Request blocked.",
    )
    assert refused.json()["o:errorDetails"][0]["o:errorCode"] == "CONCURRENCY_LIMIT_EXCEEDED"
    assert "Retry-After" not in refused.headers


def test_a_plan_can_add_retry_after(with_faults: Put, ask: Ask) -> None:
    with_faults(fault=strike(FaultKind.RATE_LIMIT), retry_after_seconds=7)
    assert ask(QUERY).headers["Retry-After"] == "7"


def test_a_server_error_has_an_error_id(with_faults: Put, ask: Ask) -> None:
    with_faults(fault=strike(FaultKind.SERVER_ERROR))
    first, second = ask(QUERY), ask(QUERY)
    assert (first.status_code, first.json()["o:errorDetails"][0]["o:errorCode"]) == (500, "UNEXPECTED_ERROR")
    assert said(first).startswith("An unexpected error occurred. Error ID: ")
    assert said(first) != said(second)


def test_maintenance_is_a_page_of_html(with_faults: Put, ask: Ask) -> None:
    for kind, status in ((FaultKind.UNAVAILABLE, 503), (FaultKind.HTML, 200)):
        with_faults(fault=strike(kind))
        page = ask(QUERY)
        assert (page.status_code, page.headers["Content-Type"]) == (status, "text/html; charset=UTF-8")
        assert "maintenance" in page.text


def test_a_login_fault_refuses_a_good_login(with_faults: Put, ask: Ask) -> None:
    with_faults(fault=strike(FaultKind.LOGIN))
    refused = ask(QUERY)
    assert refused.status_code == 401
    assert 'error="token_rejected"' in refused.headers["WWW-Authenticate"]


def test_a_late_login_fault_takes_its_time(with_faults: Put, ask: Ask, simulator: Simulator) -> None:
    """Seen in live accounts, after 61 seconds: https://github.com/julbrs/netsuite-api-client/issues/26."""
    with_faults(fault=strike(FaultKind.LATE_LOGIN, seconds=0.2, requests=(2,)))
    assert [ask(QUERY).status_code for _ in range(3)] == [200, 401, 200]
    assert [entry.seconds >= 0.2 for entry in simulator.requests] == [False, True, False]


def test_a_redirect_points_elsewhere(with_faults: Put, ask: Ask) -> None:
    with_faults(fault=strike(FaultKind.REDIRECT, location="http://127.0.0.1:9/x"))
    moved = ask(QUERY)
    assert (moved.status_code, moved.headers["Location"]) == (302, "http://127.0.0.1:9/x")


def test_a_reset_breaks_the_connection(simulator: Simulator, with_faults: Put, ask: Ask) -> None:
    with_faults(fault=strike(FaultKind.RESET))
    with pytest.raises(requests.ConnectionError, match="reset"):
        ask(QUERY)
    assert [(entry.status, entry.fault) for entry in simulator.requests] == [(0, "reset")]


def test_a_truncated_body_ends_before_its_length(with_faults: Put, ask: Ask) -> None:
    with_faults(fault=strike(FaultKind.TRUNCATE))
    with pytest.raises(requests.exceptions.ChunkedEncodingError, match="IncompleteRead"):
        ask(QUERY)


def test_a_drip_gives_the_true_answer_slowly(with_faults: Put, ask: Ask) -> None:
    expected = ask(QUERY).content
    with_faults(fault=strike(FaultKind.DRIP, seconds=0.3))
    started = time.perf_counter()
    assert ask(QUERY).content == expected
    assert time.perf_counter() - started >= 0.3


def test_a_delay_gives_the_true_answer_late(with_faults: Put, ask: Ask) -> None:
    expected = ask(QUERY).content
    with_faults(fault=strike(FaultKind.DELAY, seconds=0.2))
    started = time.perf_counter()
    assert ask(QUERY).content == expected
    assert time.perf_counter() - started >= 0.2


def test_a_slow_count_slows_counts_only(with_faults: Put, ask: Ask, simulator: Simulator) -> None:
    with_faults(slow_count_seconds=0.3)
    ask("SELECT MIN(id), MAX(id), COUNT (*) FROM subsidiary")
    ask(QUERY)
    counted, paged = simulator.requests
    assert counted.seconds >= 0.3
    assert paged.seconds < 0.3


def test_latency_is_added_to_every_request(with_faults: Put, ask: Ask, simulator: Simulator) -> None:
    with_faults(latency_seconds=0.1, latency_jitter_seconds=0.05)
    ask(QUERY)
    ask(QUERY)
    assert all(entry.seconds >= 0.1 for entry in simulator.requests)


def test_hidden_tables_and_columns_are_refused_and_the_rest_answered(with_faults: Put, ask: Ask) -> None:
    with_faults(hidden_tables=("Vendor",), hidden_columns=("customer.email",))
    assert said(ask("SELECT id FROM vendor")).endswith("Record 'vendor' was not found.")
    assert "Unknown identifier 'email'" in said(ask("SELECT email FROM customer"))
    assert ask(QUERY).status_code == 200


def test_more_requests_in_flight_than_allowed_are_refused(simulator: Simulator, with_faults: Put) -> None:
    # Two wait inside the account; a third one comes while they do.
    with_faults(concurrency=2, fault=(Fault(FaultKind.DELAY, requests=(1, 2), seconds=1.5),))
    statuses: list[int] = []

    def one() -> None:
        with requests.Session() as session:
            statuses.append(asking(simulator, session)(QUERY).status_code)

    waiting = [threading.Thread(target=one) for _ in range(2)]
    for thread in waiting:
        thread.start()
    deadline = time.monotonic() + 10
    while simulator.in_flight_peak < 2 and time.monotonic() < deadline:
        time.sleep(0.001)  # until both requests are in flight
    one()
    assert statuses == [429]
    for thread in waiting:
        thread.join()
    one()
    assert statuses == [429, 200, 200, 200]


# --- when they strike -------------------------------------------------------------------------------------------


def struck(faults: Faults, numbers: range, query: str = QUERY) -> list[int]:
    plan = Plan(faults)
    return [number for number in numbers if plan.blow(number, query, False).fault]


def test_a_fault_strikes_the_requests_it_names() -> None:
    assert struck(Faults(fault=strike(FaultKind.HTML, requests=(2, 5))), range(1, 10)) == [2, 5]


def test_a_fault_without_conditions_strikes_always() -> None:
    assert struck(Faults(fault=strike(FaultKind.HTML)), range(1, 4)) == [1, 2, 3]


def test_a_fault_strikes_at_most_so_often() -> None:
    assert struck(Faults(fault=strike(FaultKind.HTML, times=2)), range(1, 10)) == [1, 2]


def test_a_fault_strikes_only_the_queries_it_matches() -> None:
    faults = Faults(fault=strike(FaultKind.HTML, matching="from SUBSIDIARY"))
    assert struck(faults, range(1, 3)) == [1, 2]
    assert struck(faults, range(1, 3), "SELECT id FROM item") == []


def test_a_probability_strikes_its_share_the_same_at_every_run() -> None:
    faults = Faults(fault=strike(FaultKind.HTML, probability=0.1))
    first = struck(faults, range(1, 2001))
    assert 150 < len(first) < 250
    assert struck(faults, range(1, 2001)) == first
    assert struck(Faults(seed=2, fault=faults.fault), range(1, 2001)) != first


def test_of_two_faults_the_first_in_the_plan_strikes() -> None:
    plan = Plan(Faults(fault=(Fault(FaultKind.HTML, requests=(1,)), Fault(FaultKind.RESET))))
    kinds = [blow.fault.kind for number in (1, 2) if (blow := plan.blow(number, QUERY, False)).fault]
    assert kinds == [FaultKind.HTML, FaultKind.RESET]


# --- plans as files ---------------------------------------------------------------------------------------------

PLAN = """
seed = 3
latency_seconds = 0.5
hidden_tables = ["vendor"]
[[fault]]
kind = "server_error"
probability = 0.25
requests = [3, 7]
"""


def test_a_plan_reads_the_same_from_toml_and_json(tmp_path: Path) -> None:
    toml, json_file = tmp_path / "plan.toml", tmp_path / "plan.json"
    toml.write_text(PLAN)
    fault = {"kind": "server_error", "probability": 0.25, "requests": [3, 7]}
    json_file.write_text(json.dumps({"seed": 3, "latency_seconds": 0.5, "hidden_tables": ["vendor"], "fault": [fault]}))
    expected = Faults(
        seed=3,
        latency_seconds=0.5,
        hidden_tables=("vendor",),
        fault=strike(FaultKind.SERVER_ERROR, probability=0.25, requests=(3, 7)),
    )
    assert load(toml) == load(json_file) == expected


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("latensy_seconds = 1", UnknownKey, "latensy_seconds"),
        ('[[fault]]\nkind = "reset"\nprobabilty = 1.0', UnknownKey, "probabilty"),
        ('[[fault]]\nkind = "earthquake"', BadValue, "earthquake"),
        ('[[fault]]\nkind = "reset"\nprobability = 1.5', BadValue, "probability"),
        ('[[fault]]\nkind = "reset"\nrequests = [0]', BadValue, "requests"),
        ("[[fault]]\nprobability = 0.5", BadValue, "kind"),
        ("latency_seconds = -1", BadValue, "negative"),
        ('seed = "one"', BadValue, "seed"),
        ("row_cap = 0", BadValue, "row_cap"),
        ("seed = ", BadToml, "parsed"),
    ],
)
def test_a_mistake_in_a_plan_is_an_error_with_its_place(
    tmp_path: Path, text: str, error: type[ConfigError], words: str
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text(text)
    with pytest.raises(error, match=words) as caught:
        load(plan)
    assert caught.value.where == str(plan)
    assert caught.value.exit_code == 2


def test_a_missing_plan_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load(tmp_path / "none.toml")
