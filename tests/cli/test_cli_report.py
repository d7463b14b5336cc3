"""`waveimport report` and `replay --html`: the page of a job in a file of its own, on both databases."""

import json
from pathlib import Path
from typing import Any

import pytest
from cli_world import World
from sqlalchemy import text

from waveimport.errors import ExitCode
from waveimport.simulator.handle import Simulator


def test_a_job_becomes_a_page_that_is_never_put_over_another_file(
    world: World, account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = world.import_from(account)
    monkeypatch.chdir(world.folder)
    said = world.call("report")
    assert (said.code, said.out) == (ExitCode.OK, "")
    page = world.folder / f"{job_id}.html"
    assert f"wrote {page.name} (" in said.err
    written = page.read_text(encoding="utf-8")
    assert '<h2 id="verdict">Done</h2>' in written
    assert "salesorderline" in written
    assert page.stat().st_mode & 0o077 == 0

    page.write_text("mine")
    assert world.call("report", job_id).code == ExitCode.USAGE
    refused = world.call("replay", job_id, "--html", page.name)
    assert refused.code == ExitCode.USAGE
    assert "error[WI-USE-002]" in refused.err
    assert page.read_text() == "mine"
    assert world.call("report", job_id, "--force").code == ExitCode.OK
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    assert world.call("report", job_id, "-o", "-").out.startswith("<!DOCTYPE html>")
    assert list(world.folder.glob(".*")) == []

    replayed = world.call("replay", job_id, "--html", "-")
    assert replayed.code == ExitCode.OK
    assert replayed.out.count('<span class="tag agrees">agrees</span>') > 5
    _forget_dispatch(world)
    replayed = world.call("replay", job_id, "--html", "replay.html")
    assert replayed.code == ExitCode.DIVERGED
    assert "1 decision differs" in Path("replay.html").read_text(encoding="utf-8")
    assert world.call("report", "-o", "-").code == ExitCode.OK


def test_a_job_in_a_bundle_has_the_same_page_without_queries(sqlite_world: World, account: Simulator) -> None:
    job_id = sqlite_world.import_from(account)
    bundle = sqlite_world.folder / "job.bundle"
    assert sqlite_world.call("bundle", job_id, "-o", str(bundle)).code == ExitCode.OK
    sqlite_world.config.unlink()
    for words in (("report", str(bundle), "-o", "-"), ("replay", str(bundle), "--html", "-")):
        said = sqlite_world.call(*words)
        assert said.code == ExitCode.OK
        assert '<h2 id="verdict">Done</h2>' in said.out
        assert "From a bundle of 20" in said.out


def _forget_dispatch(world: World) -> None:
    def work(connection: Any) -> None:
        rows = connection.execute(text("SELECT seq, decision FROM wave_journal WHERE event = 'pass' ORDER BY seq"))
        seq, recorded = rows.first()
        connection.execute(
            text("UPDATE wave_journal SET decision = :decision WHERE seq = :seq"),
            {"decision": json.dumps({**json.loads(recorded), "dispatch": []}), "seq": seq},
        )

    database = world.database()
    database.run(work)
    database.close()


def test_a_damaged_journal_is_no_reason_for_no_page_and_a_missing_folder_is(
    sqlite_world: World, account: Simulator
) -> None:
    job_id = sqlite_world.import_from(account)
    for more in ((), ("--force",)):
        refused = sqlite_world.call("report", "-o", str(sqlite_world.folder / "none" / "x.html"), *more)
        assert refused.code == ExitCode.USAGE
        assert "cannot be written: No such file or directory" in refused.err
    database = sqlite_world.database()
    database.run(lambda c: c.execute(text("UPDATE wave_journal SET snapshot = '{\"status\": 7}' WHERE seq = 4")))
    database.close()
    said = sqlite_world.call("report", job_id, "-o", "-")
    assert said.code == ExitCode.OK
    assert "journal damaged" in said.out
    assert "warning: the page ends before entry 4 of the journal" in said.err
    assert sqlite_world.call("replay", job_id, "--html", "-").code == ExitCode.DIVERGED


@pytest.mark.parametrize(
    "words",
    [("report",), ("report", "import_nope"), ("replay", "import_nope", "--html", "-"),
     ("replay", "import_nope", "--html", "-", "--json"), ("replay", "import_nope", "--force")],
)  # fmt: skip
def test_what_cannot_be_reported_is_a_usage_error_and_makes_no_file(
    sqlite_world: World, words: tuple[str, ...]
) -> None:
    said = sqlite_world.call(*words)
    assert (said.code, said.out) == (ExitCode.USAGE, "")
    assert [path.name for path in sqlite_world.folder.iterdir()] == ["waveimport.toml"]
