"""The whole way by certificate: `waveimport run` in a process of its own, its access tokens ending under it."""

import re
import time
from pathlib import Path

import pytest
from project import SMALL, Project, of_one_database

from waveimport.errors import ExitCode
from waveimport.runtime import clock
from waveimport.runtime.config import load_settings
from waveimport.runtime.importer import run_import
from waveimport.runtime.options import RunOptions
from waveimport.simulator.faults import Fault, FaultKind, Faults, Resource
from waveimport.simulator.handle import Simulator

CONCURRENCY = "concurrency = 4\n"


def machine(tmp_path: Path, url: str, simulator: Simulator, run: str = SMALL) -> Project:
    return Project(tmp_path, url, simulator.netsuite_toml("m2m") + CONCURRENCY, run=run)


def tokens_given(simulator: Simulator) -> int:
    return sum(one.resource is Resource.TOKEN and one.status == 200 for one in simulator.requests)


def refused(simulator: Simulator) -> int:
    return sum(one.status == 401 for one in simulator.requests)


def test_an_import_by_certificate_costs_one_token_and_equals_the_source(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    project = machine(tmp_path, database_url, simulator)
    project.imported()
    project.assert_equals_source(account)
    project.assert_coordination_is_whole()
    assert (tokens_given(simulator), refused(simulator)) == (1, 0)


@of_one_database
def test_tokens_that_end_every_second_cost_no_row(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    """However slow the machine is: a token whose time is up tells nothing about the login."""
    simulator.set_faults(Faults(token_seconds=1, latency_seconds=0.15))
    project = machine(tmp_path, database_url, simulator)
    began = time.monotonic()
    project.imported()
    seconds = time.monotonic() - began
    project.assert_equals_source(account)
    project.assert_coordination_is_whole()
    assert 2 <= tokens_given(simulator) <= 2 + 2 * seconds + 2 * refused(simulator)


@of_one_database
def test_tokens_that_are_revoked_again_and_again_cost_one_renewal_each_and_no_row(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    """More requests lie between two revocations than may be in flight, so none strikes the one that decides."""
    revocations = range(10, 90, 10)
    simulator.set_faults(Faults(fault=(Fault(FaultKind.REVOKE, requests=tuple(revocations)),)))
    project = machine(tmp_path, database_url, simulator)
    project.imported()
    project.assert_equals_source(account)
    project.assert_coordination_is_whole()
    struck = sum(one.fault == "revoke" for one in simulator.requests)
    assert struck == len(revocations)
    assert tokens_given(simulator) == 1 + struck
    assert struck <= refused(simulator) <= 4 * struck


def test_faults_of_the_token_endpoint_that_pass_cost_no_row(
    tmp_path: Path, simulator: Simulator, account: Path
) -> None:
    kinds = (FaultKind.RATE_LIMIT, FaultKind.UNAVAILABLE, FaultKind.RESET, FaultKind.TRUNCATE, FaultKind.LOGIN)
    faults = [Fault(kind, requests=(number,), resource=Resource.TOKEN) for number, kind in enumerate(kinds, 1)]
    simulator.set_faults(Faults(fault=tuple(faults)))
    project = machine(tmp_path, f"sqlite:///{tmp_path / 'test.db'}", simulator)
    project.imported()
    project.assert_equals_source(account)
    assert tokens_given(simulator) == 2  # the truncated one was given, too


@of_one_database
def test_a_refused_assertion_ends_in_exit_4_and_is_remembered_until_another_key_is_there(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    simulator.set_faults(Faults(fault=(Fault(FaultKind.LOGIN, resource=Resource.TOKEN),)))
    project = machine(tmp_path, database_url, simulator)
    done = project.run("run")
    assert done.returncode == 4
    assert done.stderr.count("error[WI-SRC-006]: NetSuite gave no access token (400): invalid_grant") == 1
    assert "Traceback" not in done.stderr
    # All threads at once, the lone one that decides, and not one more.
    asked = len(simulator.requests)
    assert all(one.resource is Resource.TOKEN for one in simulator.requests)
    assert 2 <= asked <= 5
    simulator.set_faults(Faults())
    again = project.run("run")
    assert again.returncode == 4
    assert "refused these credentials less than 30 minutes ago" in again.stderr
    assert len(simulator.requests) == asked
    # The same login in other words is another to the memory; that the account accepts it is what counts.
    project.netsuite = simulator.netsuite_toml("m2m") + CONCURRENCY + 'algorithm = "PS512"\n'
    project.write(SMALL)
    project.imported()
    project.assert_equals_source(account)


@of_one_database
def test_a_revoked_certificate_ends_the_run_and_what_landed_stays(
    tmp_path: Path, database_url: str, simulator: Simulator, account: Path
) -> None:
    simulator.set_faults(
        Faults(
            fault=(
                Fault(FaultKind.REVOKE, requests=(20,)),
                Fault(FaultKind.LOGIN, requests=tuple(range(2, 100)), resource=Resource.TOKEN),
            )
        )
    )
    project = machine(tmp_path, database_url, simulator)
    assert project.run("run").returncode == 4
    assert sum(one.resource is Resource.TOKEN for one in simulator.requests) == 2
    simulator.set_faults(Faults())
    assert project.run("check").returncode == 0
    project.imported()
    project.assert_equals_source(account)
    assert project.query("SELECT COUNT(*) FROM import_jobs") == [(1,)]


@pytest.mark.parametrize(("ahead", "who"), [(-3600, "behind"), (3600, "ahead of")])
def test_a_run_refused_for_the_clock_of_its_machine_names_it(
    tmp_path: Path, simulator: Simulator, monkeypatch: pytest.MonkeyPatch, ahead: int, who: str
) -> None:
    now = clock.epoch_seconds
    monkeypatch.setattr(clock, "epoch_seconds", lambda: now() + ahead)
    project = machine(tmp_path, f"sqlite:///{tmp_path / 'test.db'}", simulator)
    result = run_import(load_settings(project.config, {}, secrets=True), RunOptions())
    assert result.exit_code is ExitCode.LOGIN
    assert result.error is not None
    assert "invalid_grant" in result.error.message
    assert re.search(rf"the clock here is (3599|3600|3601) s {who} NetSuite's", result.error.help or "")


@of_one_database
def test_neither_key_nor_token_is_kept_or_shown(
    tmp_path: Path, database_url: str, simulator: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = machine(tmp_path, database_url, simulator)
    given: list[str] = []
    grant = simulator.tokens.grant

    def noted(form: bytes, url: str, lifetime_seconds: float) -> bytes:
        granted = grant(form, url, lifetime_seconds)
        given.extend((granted.decode().split('"')[3], form.decode().rpartition("=")[2]))
        return granted

    monkeypatch.setattr(simulator.tokens, "grant", noted)
    done = project.run("-vv", "run")
    assert done.returncode == 0
    text = done.stdout + done.stderr
    for table in ("import_jobs", "wave_batches", "wave_journal", "batch_events", "import_accounts"):
        text += repr(project.query(f"SELECT * FROM {table}"))
    secrets = [*simulator.private_key_file.read_text().splitlines()[1:-1], *given]
    assert len(given) == 2
    for secret in secrets:
        assert secret not in text
