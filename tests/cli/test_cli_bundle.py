"""`waveimport bundle`: a job travels in one file, is seen elsewhere as it was, and takes no value of a row along."""

import contextlib
import gzip
import json
import sqlite3
from pathlib import Path

import pytest
from cli_world import CANARY, World
from sqlalchemy import text, update

from waveimport.cli.main import run
from waveimport.errors import ExitCode
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator
from waveimport.store.dialect import after
from waveimport.store.tables import import_jobs

WORD = "anna@example.com"


@pytest.fixture
def failed(world: World, account: Simulator) -> str:
    """A job whose customers failed, as if of a value that names a person; its lines were claimed by words."""
    account.set_faults(Faults(hidden_columns=("customer.balance",)))
    job_id = world.import_from(account)
    database = world.database()
    error = f"WI-SRC-009: column balance of customer, row 1 (id='7'): the value '{WORD}' is not a decimal number"
    for sql, value in (
        ("UPDATE wave_batches SET error = :value WHERE status = 'failed'", error),
        ("UPDATE import_jobs SET error = :value", error),
        ("UPDATE batch_events SET detail = :value WHERE event = 'failed'", error),
        ("UPDATE wave_batches SET resume_key = :value WHERE record = 'salesorder'", json.dumps([WORD])),
        ("UPDATE wave_batches SET spec = :value WHERE record = 'salesorderline'", json.dumps({"parents": [WORD, 5]})),
    ):
        database.run(lambda connection, sql=sql, value=value: connection.execute(text(sql), {"value": value}))
    database.close()
    return job_id


def bundled(world: World, job_id: str) -> Path:
    path = world.folder / "job.bundle"
    said = world.call("bundle", job_id, "-o", str(path))
    assert said.code == ExitCode.OK, said.err
    assert "it holds no row and no secret" in said.out
    return path


def elsewhere(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    """Call a command on a machine that has no configuration."""
    capsys.readouterr()
    code = run(["--config", "/nowhere/waveimport.toml", *words])
    out, err = capsys.readouterr()
    return int(code), out, err


def test_a_bundle_is_read_elsewhere_and_shows_what_the_database_shows(
    world: World, failed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = bundled(world, failed)
    here = world.call("status", failed, "--why", "--json").json["jobs"][0]
    code, out, err = elsewhere(capsys, "status", str(path), "--why", "--json")
    assert (code, err) == (0, "")
    there = json.loads(out)["jobs"][0]
    assert there["why"][0]["message"] == here["why"][0]["message"].replace(WORD, "…").replace("'7'", "'…'")
    for document in (here, there):
        del document["error"], document["why"]
    assert there == here
    told = world.call("replay", failed, "--json").json
    code, out, _ = elsewhere(capsys, "replay", str(path), "--json")
    assert (code, json.loads(out)) == (0, told)
    code, out, _ = elsewhere(capsys, "status", str(path), "--failed")
    assert out.startswith("bundle of 20")
    assert "none: a bundle has no configured records" in out


def test_no_value_of_a_row_and_no_secret_is_in_it(world: World, failed: str) -> None:
    content = gzip.decompress(bundled(world, failed).read_bytes())
    assert b"the value '\xe2\x80\xa6' is not a decimal number" in content
    assert b"column balance of customer" in content
    for kept_back in (WORD, CANARY, *world.settings().netsuite.consumer_secret.split()):
        assert kept_back.encode() not in content


def test_the_clock_of_a_bundle_stands_still(
    world: World, account: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lease that was live when it was made is live in it for ever."""
    job_id = world.import_from(account)
    database = world.database()
    held = {"status": "processing", "finished_at": None, "lease_owner": "host:1", "lease_expires_at": after(3600.0)}
    database.run(lambda connection: connection.execute(update(import_jobs).values(**held)))
    database.close()
    path = bundled(world, job_id)
    assert "lapsed at" not in elsewhere(capsys, "status", str(path))[1]
    plain = world.folder / "plain.db"
    plain.write_bytes(gzip.decompress(path.read_bytes()))
    with contextlib.closing(sqlite3.connect(plain)) as connection:
        connection.execute("UPDATE bundle SET value = '2999-01-01 00:00:00' WHERE name = 'made_at'")
        connection.commit()
    later = world.folder / "later.bundle"
    later.write_bytes(gzip.compress(plain.read_bytes()))
    assert "lapsed at" in elsewhere(capsys, "status", str(later))[1]


def test_what_is_no_bundle_is_told_and_nothing_is_overwritten(
    world: World, account: Simulator, capsys: pytest.CaptureFixture[str]
) -> None:
    unknown = world.call("bundle", "import_0", "-o", str(world.folder / "x"))
    assert (unknown.code, "no job `import_0`" in unknown.err) == (ExitCode.USAGE, True)
    job_id = world.import_from(account)
    path = bundled(world, job_id)
    before = path.read_bytes()
    again = world.call("bundle", job_id, "-o", str(path))
    assert (again.code, "exists already" in again.err) == (ExitCode.USAGE, True)
    assert path.read_bytes() == before
    assert [one.name for one in world.folder.glob(".job*")] == []
    for name, content in (
        ("text", b"not a bundle"),
        ("cut", before[: len(before) // 2]),
        ("another", gzip.compress(b"SQLite format 3\0" + bytes(100))),
    ):
        damaged = world.folder / name
        damaged.write_bytes(content)
        code, out, err = elsewhere(capsys, "status", str(damaged))
        assert (code, out) == (2, ""), name
        assert "is no bundle, or is damaged" in err
        assert "Traceback" not in err
