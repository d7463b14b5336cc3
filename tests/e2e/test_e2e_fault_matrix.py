"""The fault matrix: whatever goes wrong around an import, a run ends in its state, its exit code and one sentence, with
nothing half-written, and the next plain `run` goes on. This module holds the network's part; of the others, and of what
stood elsewhere already, the tables say which test holds which cell.

| network | exit | held by |
|---|---|---|
| refused, DNS, a connection that nobody takes | 5 | `test_a_source_out_of_reach_…`; \
`e2e_import: test_a_source_that_is_gone_…` |
| reset, drip, black hole, truncated, 429 with and without Retry-After, 500, 502, 503, wrong type, HTML 200, redirect, \
broken gzip, of every answer | 5 | `test_a_fault_of_every_answer_…` |
| the same, once | 0 | `test_a_fault_that_passes_…`; `e2e_import: test_faults_of_every_passing_kind_…` |
| TLS expired, self-signed, wrong host | 5 | `test_a_certificate_…` |
| gzip bomb, a page of 1 GB, one without end, JSON 10^6 deep, and the above, of one query | 3 | \
`test_an_answer_that_is_always_wrong_…` |
| what a client does about each, request by request | | `test_netsuite_client`, `test_netsuite_transport` |

| database, disk | exit | held by |
|---|---|---|
| 1213, 1020, 1205, 1317, 1969; request lost, reply lost, connection gone, at a read, a write, each COMMIT | 0 | \
`e2e_matrix_database: test_what_strikes_a_read_a_write_or_a_commit_…`, and at any statement in the deep profile |
| 1213, 1205, 1114, 1021, 1290, 1792, 1142, 1049, 2003, 1153 for good | 5 | `… test_what_strikes_for_good_…` |
| 1045, 1049 at the start | 5 | `… test_a_database_that_lets_nobody_in_…`; `e2e_mishaps: test_a_wrong_password_…` |
| 2003, a server killed, one that stays away | 5, 0 | `e2e_mishaps: test_a_closed_port_…`, \
`test_a_database_server_that_…` |
| packet too large | 3 | `e2e_matrix_data: test_a_field_of_16_mib_…`; `store_destination`, `store_transactions` |
| dropped table: of coordination; of a destination | 5, then 2; 2 | `… test_a_coordination_table_…`; \
`runtime_importer: test_a_table_that_is_dropped_…` |
| newer, older schema | 2 | `… test_tables_of_another_version_…` |
| full, read-only | 5 | `… test_a_file_that_takes_no_more_…` |
| quota: a write refused by the system | 5 | `e2e_mishaps: test_a_full_disk_…` |
| unlinked; corrupt; unwritable lock | 5; 5; 2 | `… test_a_file_that_is_deleted_…`, `…_no_database_…`, `test_a_lock_…` |

| clock, credentials | exit | held by |
|---|---|---|
| an hour forward, an hour back, under a run | 0 | `e2e_matrix_clock: test_a_clock_that_jumps_…` |
| an hour back, over a dead run's lease | 0 | `… test_a_clock_that_goes_an_hour_back_…` |
| DST | 0 | `… test_moments_that_a_local_clock_skips_…` |
| two hosts ± 5 minutes | 0 | `… test_two_hosts_…`; `e2e_import: test_a_run_without_its_lock_file_…` |
| expired in mid-wave, revoked, without SuiteQL | 4 | `… test_a_login_that_ends_in_mid_wave_…` |
| clock-skewed signature | 4 | `… test_a_signature_…`; `cli_check: test_a_clock_that_is_off_…` |
| a table or column that the role lacks | 3 | `… test_a_table_or_column_…`; `e2e_import: test_a_hidden_table_…` |

| data, names | exit | held by |
|---|---|---|
| bad JSON, NaN, 2^63, lone surrogate, NUL, extra column, key left out, duplicate ids, a total or count that is none, \
never-ending next | 3 | `e2e_matrix_data: test_a_page_that_does_not_fit_…`, `test_pages_…_come_round_again_…` |
| missing columns, 16 MiB, totals that change, rows that move | 0 | `… test_columns_…`, `test_totals_…`, `test_rows_…` |
| one key on two pages | 6 | `… test_a_key_that_stands_on_both_sides_…` |
| text keys that differ in case, accent, trailing blank | 0 | `… test_text_keys_…` |
| 49 hostile names; names that cannot be | 0; 2 | `… test_49_…`, `test_names_…` |
"""

import json
import socket
import ssl
import struct
import time
import tracemalloc
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from matrix_world import PAGES_FROM, RUN, Account, End, Matrix, black_hole
from netsuite_certificates import CERTIFICATE, EXPIRED, KEY
from netsuite_server import BROKEN, MAINTENANCE, PAGE, TOO_MANY, Handler, Step, refusal, reply, reset, truncated
from project import DEEP

IMPATIENT = RUN.replace("request_timeout_seconds = 20", "request_timeout_seconds = 2")
PATIENT = RUN.replace("give_up_after_seconds = 0.2", "give_up_after_seconds = 20")
GIB = 1 << 30
MEMORY_MOST_BYTES = 3 * (64 << 20) + 60_000_000
"""Each of three replies in flight may have 64 MiB before it is given up."""


def drip(handler: Handler) -> None:
    """Send the answer byte by byte, and never the last one."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", "100000")
    handler.end_headers()
    while True:
        handler.wfile.write(b"x")
        time.sleep(0.05)  # the pace of the drops, by which no single read comes to its own time limit


def gzip_bomb(handler: Handler) -> None:
    """Send a MiB that unpacks to a GiB and more: one block of blanks, over and over."""
    packer = zlib.compressobj(9, wbits=-15)
    block = packer.compress(b" " * (1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)
    handler.send(200, b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + block * 70, Content_Encoding="gzip")


def gigabyte(handler: Handler) -> None:
    """Send a page of a GiB, as far as it is taken."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(GIB))
    handler.end_headers()
    part = b'{"items": ['.ljust(1 << 20)
    for _ in range(GIB // len(part)):
        handler.wfile.write(part)


def endless(handler: Handler) -> None:
    """Send a page that has no length and no end, as far as it is taken."""
    handler.send_response(200)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    part = b"{".ljust(1 << 20)
    while True:
        handler.wfile.write(f"{len(part):x}\r\n".encode() + part + b"\r\n")


DEEP_JSON = reply(200, b'{"a":' * 10**6 + b"1" + b"}" * 10**6)


def too_many(retry_after: str) -> Step:
    return refusal(429, "Concurrent request limit exceeded.", "CONCURRENCY_LIMIT_EXCEEDED", Retry_After=retry_after)


ELSEWHERE = reply(302, b"", Location="https://attacker.example/")

# What strikes every answer, and a part of the sentence that names it.
STAYING: dict[str, tuple[Step, str]] = {
    "reset": (reset, "could not be reached: Connection reset by peer"),
    "drip": (drip, "did not answer completely within 2 s"),
    "black hole": (black_hole, "did not answer completely within 2 s"),
    "truncated body": (truncated, "cut short"),
    "429": (TOO_MANY, "concurrency limit is in use (429)"),
    "429 with Retry-After": (too_many("300"), "concurrency limit is in use (429)"),
    "500": (BROKEN, "NetSuite failed inside (500)"),
    "502": (reply(502, b"<html>", "text/html"), "NetSuite is not available (502)"),
    "503": (reply(503, b"", "text/html"), "NetSuite is not available (503)"),
    "wrong content type": (reply(200, json.dumps(PAGE).encode(), "text/plain"), "answered with text/plain"),
    "HTML 200": (MAINTENANCE, "answered with text/html"),
    "redirect to another host": (ELSEWHERE, "redirect (302)"),
    "no gzip": (reply(200, b"not gzip at all}", Content_Encoding="gzip"), "cannot be decompressed"),
}


@pytest.mark.parametrize("name", STAYING)
def test_a_fault_of_every_answer_is_an_outage_and_the_next_run_goes_on(
    make_matrix: Callable[..., Matrix], tmp_path: Path, small_account: Account, name: str
) -> None:
    matrix = make_matrix(f"sqlite:///{tmp_path / 'test.db'}", run=IMPATIENT)
    step, words = STAYING[name]
    small_account.strike(step, after=PAGES_FROM)
    matrix.assert_ends(End(5, "processing", words))
    small_account.heal()
    matrix.write(PATIENT)
    matrix.assert_the_next_run_brings_the_rest()


# Those that `test_faults_of_every_passing_kind_lose_nothing` does not mix; the others alone in the deep profile.
PASSING = ["429 with Retry-After", "502", "wrong content type", "redirect to another host", "no gzip"]
if DEEP:
    PASSING = [name for name in STAYING if name not in ("drip", "black hole")]


@pytest.mark.parametrize("name", PASSING)
def test_a_fault_that_passes_is_ridden_out_by_the_same_run(matrix: Matrix, small_account: Account, name: str) -> None:
    step = too_many("1") if name == "429 with Retry-After" else STAYING[name][0]
    small_account.strike(step, after=PAGES_FROM, times=1)
    matrix.write(PATIENT)
    matrix.assert_the_next_run_brings_the_rest()


# --- no connection ----------------------------------------------------------------------------------------------


def refuse(account: Account) -> Callable[[], None]:
    account.close()
    return account.restart


def swallow(account: Account) -> Callable[[], None]:
    """Answer no attempt to connect: the listener's queue is full, and nobody takes from it."""
    account.close()
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", account.port))
    listener.listen(0)
    waiting = [socket.socket() for _ in range(4)]
    for one in waiting:
        one.setblocking(False)
        one.connect_ex(("127.0.0.1", account.port))

    def mend() -> None:
        for one in [*waiting, listener]:
            # Without a farewell, so that the port is free at once.
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()
        account.restart()

    return mend


def lose_its_name(account: Account) -> Callable[[], None]:
    patch = pytest.MonkeyPatch()

    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    patch.setattr(socket, "getaddrinfo", unknown)
    return patch.undo


@pytest.mark.parametrize(
    ("lose", "words"),
    [
        (refuse, "127.0.0.1 could not be reached: Connection refused"),
        (swallow, "127.0.0.1 did not answer completely within 2 s"),
        (lose_its_name, "127.0.0.1 could not be reached: Name or service not known"),
    ],
    ids=["refused", "swallowed", "DNS"],
)
def test_a_source_out_of_reach_is_an_outage_and_the_next_run_goes_on(
    make_matrix: Callable[..., Matrix],
    tmp_path: Path,
    small_account: Account,
    lose: Callable[[Account], Callable[[], None]],
    words: str,
) -> None:
    matrix = make_matrix(f"sqlite:///{tmp_path / 'test.db'}", run=IMPATIENT)
    mend = lose(small_account)
    try:
        matrix.assert_ends(End(5, "processing", words))
    finally:
        mend()
    matrix.write(PATIENT)
    matrix.assert_the_next_run_brings_the_rest()


# --- TLS --------------------------------------------------------------------------------------------------------


def serving(folder: Path, certificate: str) -> ssl.SSLContext:
    (folder / "served.pem").write_text(certificate + KEY)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "served.pem")
    return context


@pytest.mark.parametrize(
    ("certificate", "trusted", "host", "words"),
    [
        (EXPIRED, EXPIRED, "127.0.0.1", "not accepted: certificate has expired"),
        (CERTIFICATE, None, "127.0.0.1", "not accepted: self-signed certificate"),
        (CERTIFICATE, CERTIFICATE, "localhost", "the certificate of localhost is not accepted: "),
    ],
    ids=["expired", "self-signed", "wrong host"],
)
def test_a_certificate_that_is_not_to_be_trusted_gets_no_request_and_is_an_outage(
    make_matrix: Callable[..., Matrix],
    tmp_path: Path,
    small_account: Account,
    monkeypatch: pytest.MonkeyPatch,
    certificate: str,
    trusted: str | None,
    host: str,
    words: str,
) -> None:
    bundle = tmp_path / "bundle.pem"
    if trusted is not None:
        bundle.write_text(trusted)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
    small_account.close()
    small_account.restart(serving(tmp_path, certificate))
    small_account.base_url = small_account.base_url.replace("127.0.0.1", host)
    matrix = make_matrix(f"sqlite:///{tmp_path / 'test.db'}")
    matrix.assert_ends(End(5, "processing", words))
    assert small_account.server.asked == []
    if host == "127.0.0.1":
        small_account.close()
        small_account.restart(serving(tmp_path, CERTIFICATE))
        bundle.write_text(CERTIFICATE)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(bundle))
        matrix.assert_the_next_run_brings_the_rest()


# --- one answer -------------------------------------------------------------------------------------------------

POISON: dict[str, tuple[Step, str]] = {
    "500": (BROKEN, "NetSuite failed inside (500)"),
    "HTML 200": (MAINTENANCE, "answered with text/html"),
    "truncated body": (truncated, "cut short"),
    "a redirect": (ELSEWHERE, "redirect (302)"),
    "gzip bomb": (gzip_bomb, "larger than 67108864 bytes"),
    "a page of 1 GB": (gigabyte, "larger than 67108864 bytes"),
    "a page without end": (endless, "larger than 67108864 bytes"),
    "JSON 10^6 deep": (DEEP_JSON, "nested too deeply"),
    "bad JSON": (reply(200, b'{"items": [}'), "the reply is not JSON"),
    "an empty object": (reply(200, b"{}"), "no list of rows under `items`"),
    "400": (refusal(400, "Invalid or unsupported search", "INVALID_PARAMETER"), "refused the query (400)"),
}


# The last wave has no other query beside it whose answer would show that the source is there.
ALONE, BESIDE_OTHERS = "FROM lines", "t.id <= 10"
POISONED = [(name, ALONE) for name in ("500", "a redirect", "gzip bomb", "a page of 1 GB", "JSON 10^6 deep")]
POISONED += [("truncated body", BESIDE_OTHERS), ("a page without end", BESIDE_OTHERS)]
if DEEP:
    POISONED = [(name, query) for name in POISON for query in (ALONE, BESIDE_OTHERS)]


@pytest.mark.parametrize(("name", "query"), POISONED)
def test_an_answer_that_is_always_wrong_fails_its_batches_and_nothing_else(
    matrix: Matrix, small_account: Account, name: str, query: str
) -> None:
    step, words = POISON[name]
    matrix.write(PATIENT.replace("max_tries = 3", "max_tries = 1"))
    small_account.strike(step, matching=query)
    tracemalloc.start()
    try:
        matrix.assert_ends(End(3, "failed", words))
        assert tracemalloc.get_traced_memory()[1] < MEMORY_MOST_BYTES
    finally:
        tracemalloc.stop()
    others = small_account.source.rows("SELECT COUNT(*) FROM orders WHERE id > 10")[0][0]
    assert matrix.query("SELECT COUNT(*) FROM `order`")[0][0] >= others
    small_account.heal()
    matrix.assert_the_next_run_brings_the_rest()
