"""`waveimport watermark`: shown, moved, forgotten; and the next run does as it was told."""

import pytest
from cli_world import RECORDS, World

from waveimport.errors import ExitCode
from waveimport.simulator.handle import Simulator

WITH_CURSOR = RECORDS.replace(
    '[records.customer]\ndepends_on = ["subsidiary"]\ncolumns = { id = "integer",',
    '[records.customer]\ncursor = "lastmodifieddate"\ndepends_on = ["subsidiary"]\n'
    'columns = { lastmodifieddate = "timestamp", id = "integer",',
)


@pytest.fixture
def daily(world: World) -> World:
    text = world.config.read_text()
    assert RECORDS in text
    world.config.write_text(text.replace(RECORDS, WITH_CURSOR))
    return world


def mode_of_next(world: World, account: Simulator) -> str:
    job_id = world.import_from(account, records=WITH_CURSOR)
    [job] = world.call("status", job_id, "--json").json["jobs"]
    return str(job["mode"])


def test_a_watermark_is_shown_once_a_run_has_set_it(daily: World, account: Simulator) -> None:
    said = daily.call("watermark", "show")
    assert (said.code, said.out) == (ExitCode.OK, "customer  none: the next run reads it in full\n")
    assert mode_of_next(daily, account) == "full"
    shown = daily.call("watermark", "show", "--json").json
    moment = shown["watermarks"]["customer"]
    assert moment is not None
    assert daily.call("watermark", "show").out == f"customer  {moment}\n"
    assert mode_of_next(daily, account) == "incremental"


def test_one_that_is_set_back_has_older_changes_read_again(daily: World, account: Simulator) -> None:
    daily.import_from(account, records=WITH_CURSOR)
    assert mode_of_next(daily, account) == "incremental"
    [job] = daily.call("status", "--json").json["jobs"]
    assert job["waves"][1]["rows"] == 0
    said = daily.call("watermark", "set", "customer", "1992-06-01T02:00:00+02:00")
    assert said.out == "customer: the next run reads what has changed since 1992-06-01T00:00:00Z\n"
    assert daily.call("watermark", "show", "--json").json["watermarks"]["customer"] == "1992-06-01T00:00:00Z"
    assert mode_of_next(daily, account) == "incremental"
    [job] = daily.call("status", "--json").json["jobs"]
    assert job["waves"][1]["rows"] > 50


def test_one_that_is_forgotten_has_everything_read_again(daily: World, account: Simulator) -> None:
    daily.import_from(account, records=WITH_CURSOR)
    assert daily.call("watermark", "reset", "customer").out == "customer: the next run reads it in full\n"
    assert "none" in daily.call("watermark", "show").out
    assert mode_of_next(daily, account) == "full"


@pytest.mark.parametrize(
    "words", [("set", "customer", "1992-06-01"), ("reset", "order"), ("set", "subsidiary", "1992-06-01")]
)
def test_what_cannot_be_is_told_with_its_mend(daily: World, words: tuple[str, ...]) -> None:
    said = daily.call("watermark", *words)
    assert said.code == ExitCode.USAGE
    assert "help:" in said.err


def test_a_moment_that_is_none_is_told(daily: World) -> None:
    said = daily.call("watermark", "set", "customer", "yesterday")
    assert said.code == ExitCode.USAGE
    assert "`yesterday` is no moment: write 2026-11-26, or 2026-11-26T08:00:00Z" in said.err


def test_without_a_cursor_there_is_nothing_to_show(world: World) -> None:
    assert world.call("watermark", "show").out == "no record has a cursor: every run reads everything\n"
