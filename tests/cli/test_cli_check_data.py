"""`waveimport check --data`: rules of the coordination tables, and rows that are there, each once."""

import mysql_server
import pytest
from cli_world import World
from sqlalchemy import text

from waveimport.errors import ExitCode
from waveimport.simulator.handle import Simulator


def change(world: World, *statements: str) -> None:
    database = world.database()
    for sql in statements:
        database.run(lambda connection, sql=sql: connection.execute(text(sql)) and None)
    database.close()


def said(world: World, level: str) -> tuple[int, list[str]]:
    checked = world.call("check", "--data", "--json")
    return checked.code, [
        check["message"] for check in checked.json["checks"] if (check["part"], check["level"]) == ("data", level)
    ]


def test_an_import_that_is_whole_is_said_to_be_so(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    code, messages = said(world, "ok")
    assert code == ExitCode.OK
    assert messages == [
        "the 24 rules of the coordination tables hold",
        f"the 7,688 rows that {job_id} landed are in their tables, each once",
    ]


def test_without_a_job_there_is_nothing_to_compare(world: World, account: Simulator) -> None:
    world.configure(account.netsuite_toml())
    assert said(world, "ok") == (ExitCode.OK, ["no job yet, so nothing to compare"])


def test_rows_that_are_gone_are_missed(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    change(world, "DELETE FROM salesorder WHERE id IN (SELECT id FROM (SELECT MIN(id) AS id FROM salesorder) x)")
    code, messages = said(world, "fail")
    assert code == ExitCode.RECONCILIATION
    assert messages == [
        f"salesorder: 1,500 rows of {job_id} landed, 1,499 are in table `salesorder`",
        "salesorderline: its batches carry 1,500 parents, and 1,499 rows of salesorder landed",
    ]


def test_a_parent_whose_lines_nobody_fetched_is_missed_though_the_counts_agree(
    world: World, account: Simulator
) -> None:
    world.import_from(account)
    change(world, "UPDATE salesorder SET id = 999999999 WHERE id = 1")
    code, messages = said(world, "fail")
    assert code == ExitCode.RECONCILIATION
    assert messages == [
        "salesorderline: its batches carry 1,500 parents, and 1,500 rows of salesorder landed, which are not the same"
    ]


def test_a_broken_rule_is_told_as_a_fault_of_ours(world: World, account: Simulator) -> None:
    world.import_from(account)
    change(world, "UPDATE wave_coordination SET total = total + 1 WHERE wave_number = 2")
    code, messages = said(world, "fail")
    assert code == ExitCode.FAULT
    (message,) = messages
    assert message.startswith("total_is_the_count: it does not hold that the total of a wave is the number of its")


def test_rows_are_not_compared_beside_a_run(world: World, account: Simulator) -> None:
    world.import_from(account)
    change(
        world,
        "UPDATE import_jobs SET status = 'processing', lease_owner = 'h:1', lease_token = 9,"
        " lease_expires_at = '2099-01-01 00:00:00.000000'",
        "UPDATE wave_coordination SET status = 'processing', sealed = 0 WHERE wave_number = 3",
        "UPDATE wave_coordination SET status = 'processing', sealed = 0 WHERE wave_number = 4",
        "UPDATE wave_batches SET status = 'processing', lease_owner = 'h:1', lease_token = 9,"
        " lease_expires_at = '2099-01-01 00:00:00.000000' WHERE wave_number = 4",
    )
    code, messages = said(world, "warn")
    assert code == ExitCode.OK
    assert len(messages) == 1
    assert "were not compared: a run is at work" in messages[0]


@pytest.mark.mysql
def test_rows_in_a_database_of_their_own_are_compared_there(
    sqlite_world: World, account: Simulator, mysql_url: str
) -> None:
    with mysql_server.fresh_database(mysql_url) as url:
        job_id = sqlite_world.import_from(account, destination=url)
        code, messages = said(sqlite_world, "ok")
        assert (code, messages[-1]) == (
            ExitCode.OK,
            f"the 7,688 rows that {job_id} landed are in their tables, each once",
        )
