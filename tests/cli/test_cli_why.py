"""What only a run at work can tell `status --why`: the limit of requests that was cut, and what it is waited for."""

import pytest
from cli_world import RECORDS, World

from waveimport.errors import ExitCode
from waveimport.runtime import sharing
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator


def test_a_limit_cut_to_one_is_told_with_what_cut_it_and_where_to_look(
    world: World, account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sharing, "BEAT_SECONDS", 0.05)
    account.set_faults(Faults(concurrency=1, latency_seconds=0.05))
    records = "\n\n".join(RECORDS.split("\n\n")[:2])
    world.configure(account.netsuite_toml(), run="batch_size = 10\nreconcile = false", records=records)
    told: list[str] = []

    def look(job_id: str) -> None:
        if not told:
            told.extend(_why(world))
            if told:
                account.set_faults(Faults())

    assert world.run_import(on_turn=look).exit_code is ExitCode.OK
    assert told, "it was told while the run was at work"
    assert "batches wait for a slot: " in told[0]
    assert (
        " of 5 requests may be in flight, NetSuite answered 429: its limit is in use, by other integrations" in told[0]
    )
    assert told[1].startswith("  next: see who asks (in NetSuite: Setup > Integration > Integration Governance)")


def _why(world: World) -> list[str]:
    lines = world.call("status", "--why").out.splitlines()
    at = next((number for number, line in enumerate(lines) if line.startswith("why[limit_cut]")), None)
    return [] if at is None else lines[at : at + 2]
