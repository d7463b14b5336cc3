"""The fault matrix, its clocks and its credentials: time that jumps or differs, and a login that ends midway.

The table of all cells is in `test_e2e_fault_matrix`.
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from matrix_world import PAGES_FROM, RECORDS, RUN, Account, End, Matrix
from netsuite_server import LOGIN_REFUSED, Handler, Step, refusal
from project import wait_for

from waveimport.errors import ExitCode
from waveimport.runtime import clock, coordinator
from waveimport.runtime.config import load_settings
from waveimport.runtime.importer import run_import
from waveimport.runtime.options import RunOptions, RunResult
from waveimport.runtime.single_flight import machine_id

HOUR_SECONDS = 3600
PATIENT = RUN.replace("= 0.2", "= 20")


@dataclass
class Once:
    """Does something at the first request for lines, while pages are under way; every answer is true."""

    what: Callable[[], None]
    done: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, number: int, sql: str) -> Step | None:
        with self.lock:
            if "FROM lines" in sql and not self.done.is_set():
                self.what()
                self.done.set()
        return None


# --- the database's clock ---------------------------------------------------------------------------------------


def move_clock(matrix: Matrix, seconds: int) -> None:
    """Move the database's clock: the moments at which leases and back-offs end come so much nearer, or go so much
    farther."""
    for table, column in (
        ("import_jobs", "lease_expires_at"),
        ("wave_batches", "lease_expires_at"),
        ("wave_batches", "not_before"),
    ):
        moved = (
            f"strftime('%Y-%m-%d %H:%M:%f000', {column}, '{-seconds:+d} seconds')"
            if matrix.url.startswith("sqlite")
            else f"{column} - INTERVAL {seconds} SECOND"
        )
        matrix.execute(f"UPDATE {table} SET {column} = {moved} WHERE {column} IS NOT NULL")


@pytest.mark.parametrize("seconds", [HOUR_SECONDS, -HOUR_SECONDS], ids=["an hour forward", "an hour back"])
def test_a_clock_that_jumps_under_a_run_costs_nothing(
    matrix_of_both: Matrix, small_account: Account, monkeypatch: pytest.MonkeyPatch, seconds: int
) -> None:
    """Forward, every lease has lapsed at once: what is at work is put back, and lands once."""
    monkeypatch.setattr(coordinator, "PASS_EVERY_SECONDS", 0.05)
    matrix_of_both.write(PATIENT)

    def jump() -> None:
        move_clock(matrix_of_both, seconds)
        if seconds > 0:
            wait_for(matrix_of_both, "SELECT COUNT(*) FROM batch_events WHERE event = 'requeued'")

    small_account.fault = once = Once(jump)
    matrix_of_both.assert_the_next_run_brings_the_rest()
    assert once.done.is_set()
    matrix_of_both.assert_nothing_is_half_written()


def test_a_clock_that_goes_an_hour_back_leaves_a_lease_that_the_next_run_of_this_host_takes_at_once(
    matrix_of_both: Matrix, small_account: Account
) -> None:
    """The holder died, and by the clock its lease runs for an hour more: its lock file proves the death."""
    small_account.strike(LOGIN_REFUSED, after=PAGES_FROM)
    assert matrix_of_both.run("run").returncode == 4
    lock = next(matrix_of_both.folder.glob("*.lock")).stat()
    identity = f"{lock.st_dev}:{lock.st_ino}"
    matrix_of_both.execute(
        f"UPDATE import_jobs SET lease_owner = 'host:1', lease_machine = '{machine_id()}', lease_lock = '{identity}',"
        " lease_expires_at = '2999-01-01 00:00:00'"
    )
    matrix_of_both.execute("DELETE FROM import_accounts")
    small_account.heal()
    matrix_of_both.assert_the_next_run_brings_the_rest()


def test_two_hosts_whose_clocks_differ_agree_by_the_databases_who_is_at_work(
    matrix_of_both: Matrix, small_account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other hosts, played by another lock folder, would find the lease lapsed by their own clocks, or set up one
    that lies in the past."""
    now = clock.utc_now
    others: list[RunResult] = []
    elsewhere = matrix_of_both.folder / "elsewhere"
    elsewhere.mkdir()

    def run_there() -> None:
        text = matrix_of_both.config.read_text()
        there = elsewhere / "waveimport.toml"
        there.write_text(text.replace(f'lock_dir = "{matrix_of_both.folder}"', f'lock_dir = "{elsewhere}"'))
        for off in (timedelta(minutes=5), timedelta(minutes=-5)):
            with monkeypatch.context() as patch:
                patch.setattr(clock, "utc_now", lambda off=off: now() + off)
                others.append(run_import(load_settings(there, {}, secrets=True), RunOptions()))

    small_account.fault = once = Once(run_there)
    matrix_of_both.write(PATIENT)
    matrix_of_both.assert_the_next_run_brings_the_rest()
    assert once.done.is_set()
    assert [(aside.exit_code, aside.stepped_aside) for aside in others] == [(ExitCode.OK, True)] * 2
    assert all("another run is at work" in (aside.message or "") for aside in others)
    assert matrix_of_both.query("SELECT COUNT(*) FROM import_jobs") == [(1,)]


# --- local time -------------------------------------------------------------------------------------------------

MOMENTS = [
    "2026-03-29 02:30:00",  # left out in Berlin
    "2026-10-25 02:30:00",  # there twice
    "2026-03-08 02:30:00",  # left out in New York
    "1999-12-31 23:59:59",
    "2038-01-19 03:14:08",  # the first that a 32-bit clock has not
]


@pytest.fixture
def local_time() -> Iterator[Callable[[str], None]]:
    """Set the time zone of this process."""
    before = os.environ.get("TZ")

    def set_zone(name: str | None) -> None:
        if name is None:
            os.environ.pop("TZ", None)
        else:
            os.environ["TZ"] = name
        time.tzset()

    yield set_zone
    set_zone(before)


def test_moments_that_a_local_clock_skips_or_has_twice_land_as_they_are(
    make_matrix: Callable[..., Matrix],
    database_url: str,
    small_account: Account,
    local_time: Callable[[str], None],
) -> None:
    """The machine goes over from summer to winter, and flies to New York, while the run is at work."""
    source = small_account.source
    source.execute("ALTER TABLE orders ADD COLUMN at TEXT")
    for key, moment in enumerate(MOMENTS, 1):
        source.execute("UPDATE orders SET at = ? WHERE id = ?", moment, key)
    source.take_functions("TO_CHAR", "SYS_EXTRACT_UTC")
    records = RECORDS.replace('memo = "text"', 'memo = "text", at = "timestamp"')
    matrix = make_matrix(database_url, run=PATIENT, records=records)
    local_time("Europe/Berlin")
    small_account.fault = Once(lambda: local_time("America/New_York"))
    matrix.assert_the_next_run_brings_the_rest()
    landed = matrix.query("SELECT at FROM `order` WHERE at IS NOT NULL ORDER BY id")
    assert [str(at) for (at,) in landed] == MOMENTS


# --- credentials ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (LOGIN_REFUSED, "NetSuite refused the login (401): Invalid login attempt."),
        (
            refusal(403, "The token was revoked.", "INSUFFICIENT_PERMISSION"),
            "NetSuite refused the login (403): The token",
        ),
        (
            refusal(400, "Your current role does not have permission to perform this action.", "USER_ERROR"),
            "the role may not use SuiteQL (400)",
        ),
    ],
    ids=["expired", "revoked", "the role may not use SuiteQL"],
)
def test_a_login_that_ends_in_mid_wave_ends_the_run_and_is_not_tried_again_before_it_is_mended(
    matrix: Matrix, small_account: Account, step: Step, words: str
) -> None:
    small_account.strike(step, after=PAGES_FROM)
    matrix.assert_ends(End(4, "processing", words))
    asked = len(small_account.server.asked)
    assert step is not LOGIN_REFUSED or asked - PAGES_FROM < 5, "five failures lock the user"
    matrix.assert_ends(End(4, "processing", "less than 30 minutes ago"))
    assert len(small_account.server.asked) == asked
    small_account.heal()
    matrix.netsuite = matrix.netsuite.replace("token-secret", "another-token-secret")
    matrix.write(RUN)
    matrix.assert_the_next_run_brings_the_rest()
    assert matrix.query("SELECT COUNT(*) FROM import_jobs") == [(1,)]


def test_a_signature_by_a_clock_that_is_off_is_told_as_that(
    matrix: Matrix, small_account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service refuses it with the words that it has for a wrong password."""
    ahead = [HOUR_SECONDS]
    now = clock.epoch_seconds

    def judge(handler: Handler) -> None:
        signed = handler.asked.headers["Authorization"].partition('oauth_timestamp="')[2].partition('"')[0]
        if abs(int(signed) - now()) > 300:
            LOGIN_REFUSED(handler)
        else:
            handler.send(200, small_account.true_answer(handler))

    monkeypatch.setattr(clock, "epoch_seconds", lambda: now() + ahead[0])
    small_account.strike(judge)
    done = matrix.assert_ends(End(4, "processing", "the clock here is 3600 s ahead of NetSuite's"))
    assert "more than 300 s off are refused" in done.stderr
    ahead[0] = 0
    assert matrix.run("check").returncode == 0, "which lets runs go on"
    matrix.assert_the_next_run_brings_the_rest()


@pytest.mark.parametrize(
    ("step", "query"),
    [
        (refusal(400, "Record 'lines' was not found.", "INVALID_PARAMETER"), "FROM lines"),
        (refusal(400, "Unknown identifier 'memo'.", "INVALID_PARAMETER"), "t.memo"),
    ],
    ids=["table", "column"],
)
def test_a_table_or_column_that_the_role_lacks_fails_its_record_with_both_causes(
    matrix: Matrix, small_account: Account, step: Step, query: str
) -> None:
    small_account.strike(step, matching=query)
    done = matrix.assert_ends(End(3, "failed", "NetSuite does not show this table or column: it is misspelt, or"))
    assert "hidden from the role" in done.stderr
    small_account.heal()
    matrix.assert_the_next_run_brings_the_rest()
    assert matrix.query("SELECT COUNT(*) FROM import_jobs") == [(1,)]
