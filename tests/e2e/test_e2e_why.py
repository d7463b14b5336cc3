"""A job that does not move explains itself: for each fault `status --why` alone names the cause and what to type."""

import shutil
import socket
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path

import mysql_server
import pytest
from matrix_world import PAGES_FROM, RUN, Account, End, Matrix
from mysql_wire import Refusal, Wire, no_fault
from netsuite_server import LOGIN_REFUSED, refusal, reply

from waveimport.runtime.single_flight import machine_id

POISON = refusal(400, "Invalid or unsupported search", "INVALID_PARAMETER")
HIDDEN = refusal(400, "Search error occurred: Record 'lines' was not found.", "INVALID_PARAMETER")


def why(matrix: Matrix) -> str:
    """What `status --why` says after the table of waves."""
    told = matrix.run("status", "--why")
    assert told.returncode == 0, told.stderr
    return "why" + told.stdout.partition("\nwhy")[2]


def fails(matrix: Matrix) -> None:
    matrix.write(RUN.replace("max_tries = 3", "max_tries = 1"))
    assert matrix.run("run").returncode == 3


def test_a_job_that_is_done_has_nothing_to_explain(matrix: Matrix) -> None:
    matrix.assert_the_next_run_brings_the_rest()
    assert why(matrix).strip() == "why: nothing holds the job up; it is completed"


def test_a_run_that_was_paused_or_met_an_outage_says_how_it_ended(matrix: Matrix, small_account: Account) -> None:
    small_account.strike(reply(503, b"down for maintenance"), after=PAGES_FROM)
    assert matrix.run("run").returncode == 5
    lines = why(matrix).splitlines()
    assert lines[0].startswith("why[no_run]: job: no run is at work on the job; the last one ended: WI-SRC-002: ")
    assert "503" in lines[0]
    assert lines[1] == "  next: waveimport run"


def test_a_killed_holder_is_told_with_its_name(matrix: Matrix, small_account: Account) -> None:
    small_account.strike(reply(503, b"down for maintenance"), after=PAGES_FROM)
    matrix.run("run")
    matrix.execute("UPDATE import_jobs SET lease_owner = 'host:1', lease_expires_at = '2026-01-01 00:00:00'")
    assert why(matrix).startswith("why[dead_holder]: job: host:1 held the job and has not renewed its lease")
    assert "next: waveimport run" in why(matrix)


def dead_process() -> int:
    """The number of a process that has just ended."""
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as process:
        return process.pid


def test_a_killed_holder_of_this_machine_is_told_before_its_lease_lapses(
    matrix: Matrix, small_account: Account
) -> None:
    small_account.strike(reply(503, b"down for maintenance"), after=PAGES_FROM)
    matrix.run("run")
    owner = f"{socket.gethostname()}:{dead_process()}"
    hold = f"lease_owner = '{owner}', lease_machine = '{{}}', lease_expires_at = '2999-01-01 00:00:00'"
    matrix.execute(f"UPDATE import_jobs SET {hold.format('another')}")
    assert "dead_holder" not in why(matrix)
    matrix.execute(f"UPDATE import_jobs SET {hold.format(machine_id())}")
    told = why(matrix).splitlines()
    assert told[0] == (
        f"why[dead_holder]: job: {owner} holds the job and runs no more on this machine: the next run here takes over"
        " at once"
    )
    assert told[1] == "  next: waveimport run"


@pytest.mark.mysql
def test_a_database_that_was_restarted_under_a_run_leaves_the_next_run_to_be_typed(
    make_matrix: Callable[..., Matrix], mysql_url: str
) -> None:
    """A run waits for its database; one that gave up could not give the job back either."""
    with mysql_server.fresh_database(mysql_url) as url, Wire(url) as wire:
        matrix = make_matrix(wire.url)
        wire.fault = lambda statement, before: Refusal(2003) if "INTO `" in statement else None
        matrix.assert_ends(End(5, "processing", "the database cannot be reached (2003)"))
        wire.fault = no_fault
        matrix.execute(
            f"UPDATE import_jobs SET lease_owner = '{socket.gethostname()}:{dead_process()}', lease_machine ="
            f" '{machine_id()}', lease_expires_at = '2999-01-01 00:00:00'"
        )
        told = why(matrix)
        assert told.startswith("why[dead_holder]: job: ")
        assert told.splitlines()[1] == "  next: waveimport run"


def test_a_clock_that_went_back_is_told(matrix: Matrix, small_account: Account) -> None:
    small_account.strike(reply(503, b"down for maintenance"), after=PAGES_FROM)
    matrix.run("run")
    matrix.execute("UPDATE import_jobs SET lease_owner = 'host:1', lease_expires_at = '2999-01-01 00:00:00'")
    told = why(matrix)
    assert told.startswith("why[clock_went_back]: job: host:1 holds the job until 2999-01-01 00:00:00 UTC, longer than")
    assert "next: waveimport run" in told


def test_revoked_credentials_are_told_and_what_is_to_be_typed_first(matrix: Matrix, small_account: Account) -> None:
    small_account.strike(LOGIN_REFUSED, after=PAGES_FROM)
    assert matrix.run("run").returncode == 4
    told = why(matrix)
    assert told.startswith("why[login_refused]: job: NetSuite refused the login, so no run asks: ")
    assert told.splitlines()[1] == "  next: waveimport check"
    assert "no_run" not in told


def test_a_poison_batch_is_named_and_what_failed_with_it(matrix: Matrix, small_account: Account) -> None:
    small_account.strike(POISON, matching="t.id <= 10")
    fails(matrix)
    told = why(matrix)
    assert told.startswith("why[batch_failed]: wave 1: batch 1/order/0000000 failed for good after 1 try with WI-SRC-")
    assert "refused the query (400)" in told
    assert "--failed" in told.splitlines()[1]
    assert "why[parent_failed]: wave 2: it failed with wave 1, whose parents it is derived from" in told


def test_a_hidden_table_is_told_with_both_causes(matrix: Matrix, small_account: Account) -> None:
    small_account.strike(HIDDEN, matching="FROM lines")
    fails(matrix)
    told = why(matrix)
    assert told.startswith("why[batch_failed]: wave 2: batch ")
    assert "misspelt, or hidden from the role" in told
    assert "and 9 more failed" in told or "more failed" in told


def test_a_full_disk_is_seen(matrix: Matrix, small_account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    if not matrix.url.startswith("sqlite"):
        pytest.skip("the disk of a server is the server's to see")
    small_account.strike(reply(503, b"down for maintenance"), after=PAGES_FROM)
    matrix.run("run")
    usage = namedtuple("usage", "total used free")

    def full(path: Path) -> usage:
        return usage(10**9, 10**9, 4096)

    monkeypatch.setattr(shutil, "disk_usage", full)
    told = why(matrix)
    assert told.startswith("why[disk_full]: job: the disk of the database has 4 KB left")
    assert "next: make room, then: waveimport run" in told
