"""`waveimport check`: each part a run needs, found whole or broken, with its mend and its exit code."""

import os
import re
from datetime import timedelta
from pathlib import Path

import mysql_server
import pytest
from cli_world import CANARY, NO_SERVER, World
from sqlalchemy import create_engine, text

from waveimport.errors import ExitCode
from waveimport.runtime import clock
from waveimport.runtime.checkup import BROKEN_PROMISES
from waveimport.simulator.faults import Fault, FaultKind, Faults, Resource
from waveimport.simulator.handle import Simulator
from waveimport.store import interleavings, probe

REFUSED_LOGIN = Faults(fault=(Fault(kind=FaultKind.LOGIN),))


def found(document: dict[str, list[dict[str, str]]], part: str) -> list[tuple[str, str]]:
    return [(check["level"], check["message"]) for check in document["checks"] if check["part"] == part]


def tables(world: World) -> set[str]:
    database = world.database()
    list_them = "SELECT name FROM sqlite_master" if database.is_sqlite else "SHOW TABLES"
    names = set(database.run(lambda connection: connection.execute(text(list_them)).scalars().all()))
    database.close()
    return names


def test_a_whole_installation_is_ok_in_every_part(world: World, account: Simulator) -> None:
    world.import_from(account)
    before = tables(world)
    said = world.call("check", "--json")
    assert said.code == ExitCode.OK
    assert set(said.json) == {"schema_version", "ok", "exit_code", "checks"}
    assert (said.json["ok"], said.json["exit_code"]) == (True, 0)
    for check in said.json["checks"]:
        assert set(check) == {"part", "level", "message", "help", "code"}
        assert check["level"] == "ok"
    parts = list(dict.fromkeys(check["part"] for check in said.json["checks"]))
    assert parts == ["configuration", "database", "tables", "lock directory", "credentials", "query", "clock"]
    assert ("ok", "tables can be created, written and dropped") in found(said.json, "database")
    assert tables(world) == before
    shown = world.call("check")
    assert shown.code == ExitCode.OK
    assert all(line.startswith("ok    ") for line in shown.out.splitlines())


def test_a_login_by_certificate_is_ok_too(world: World, account: Simulator) -> None:
    world.configure(account.netsuite_toml("m2m"))
    said = world.call("check", "--json")
    assert said.code == ExitCode.OK
    assert [level for level, _ in found(said.json, "credentials")] == ["ok"]
    assert [level for level, _ in found(said.json, "clock")] == ["ok"]


def test_a_refused_assertion_is_exit_4_with_its_causes_and_remembered_for_this_login_alone(
    world: World, account: Simulator
) -> None:
    world.import_from(account)
    account.set_faults(Faults(fault=(Fault(kind=FaultKind.LOGIN, resource=Resource.TOKEN),)))
    world.configure(account.netsuite_toml("m2m"))
    said = world.call("check")
    assert said.code == ExitCode.LOGIN
    assert "fail  credentials: NetSuite gave no access token (400): invalid_grant" in said.out
    assert "certificate_id" in said.out
    account.set_faults(Faults())
    before = len(account.requests)
    assert world.call("plan").code == ExitCode.LOGIN
    assert account.requests[before:] == []
    world.configure(account.netsuite_toml("tba"))
    assert world.call("plan").code == ExitCode.OK


@pytest.mark.parametrize(("ahead", "who"), [(-400, "behind"), (400, "ahead of")])
def test_an_assertion_by_a_clock_that_is_off_is_told_as_that(
    sqlite_world: World, account: Simulator, monkeypatch: pytest.MonkeyPatch, ahead: int, who: str
) -> None:
    now = clock.epoch_seconds
    monkeypatch.setattr(clock, "epoch_seconds", lambda: now() + ahead)
    sqlite_world.configure(account.netsuite_toml("m2m"))
    said = sqlite_world.call("check", "--json")
    assert said.code == ExitCode.LOGIN
    assert [level for level, _ in found(said.json, "credentials")] == ["fail"]
    [(level, message)] = found(said.json, "clock")
    assert level == "fail"
    assert re.search(rf"the clock here is (399|400|401) s {who} NetSuite's", message)


def test_a_private_key_that_others_can_read_is_exit_2_and_nobody_is_asked(
    sqlite_world: World, account: Simulator
) -> None:
    key = sqlite_world.folder / "key.pem"
    key.write_bytes(account.private_key_file.read_bytes())
    key.chmod(0o644)
    table = account.netsuite_toml("m2m").replace(str(account.private_key_file), "key.pem")
    sqlite_world.configure(table)
    before = len(account.requests)
    for command in ("check", "plan", "run"):
        said = sqlite_world.call(command)
        assert said.code == ExitCode.USAGE
        assert f"{key} is open to others than its owner (mode 0644)" in said.out + said.err
        assert f"chmod 600 {key}" in said.out + said.err
        assert "PRIVATE KEY" not in said.out + said.err
    assert account.requests[before:] == []
    assert sqlite_world.call("status").code == ExitCode.OK


def test_what_two_connections_must_see_of_each_other_is_tried_and_leaves_nothing(
    world: World, account: Simulator
) -> None:
    world.import_from(account)
    before = tables(world)
    said = world.call("check", "--json")
    line = "two connections at once: counts fresh, no update lost, claims apart, commits whole, one winner"
    assert ("ok", line) in found(said.json, "database")
    assert tables(world) == before


def test_a_promise_that_the_database_breaks_is_exit_2_with_its_meaning_and_its_mend(
    world: World, account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here every connection commits each statement by itself, as behind a proxy that shares them."""
    world.import_from(account)
    before = tables(world)
    monkeypatch.setattr(interleavings, "open_engine", lambda url: create_engine(url, isolation_level="AUTOCOMMIT"))
    said = world.call("check", "--json")
    assert (said.code, said.json["exit_code"]) == (ExitCode.USAGE, 2)
    faults = [check for check in said.json["checks"] if check["level"] == "fail"]
    assert all(check["part"] == "database" for check in faults)
    told = {check["message"].partition("(")[2].partition(":")[0]: check for check in faults}
    assert {"no_lost_update", "claims_apart", "commit_is_whole"} <= set(told)
    assert told["no_lost_update"]["message"].startswith("two that write under one row's lock lose an update")
    assert "local disk" in told["commit_is_whole"]["help"] or "directly" in told["commit_is_whole"]["help"]
    assert tables(world) == before


def test_every_promise_has_its_meaning_and_its_mend() -> None:
    assert set(BROKEN_PROMISES) == {probe.__name__ for probe in interleavings.PROBES}


def test_the_database_says_what_it_is(world: World, account: Simulator) -> None:
    world.import_from(account)
    said = world.call("check")
    if world.url.startswith("sqlite"):
        assert "SQLite 3." in said.out
        assert "READ COMMITTED" not in said.out
    else:
        assert "transactions are READ COMMITTED" in said.out
        assert "database: its clock and this machine's differ by" in said.out
        assert CANARY not in said.out


def test_one_query_is_asked_and_it_fetches_no_row(world: World, account: Simulator) -> None:
    world.configure(account.netsuite_toml())
    before = len(account.requests)
    assert world.call("check").code == ExitCode.OK
    [request] = account.requests[before:]
    selected = "SELECT t.id, t.name, t.parent FROM subsidiary t"
    assert request.query == f"{selected} WHERE t.id > 0 AND t.id <= 0 ORDER BY t.id"


def test_before_the_first_run_nothing_is_made(sqlite_world: World, account: Simulator) -> None:
    sqlite_world.configure(account.netsuite_toml())
    said = sqlite_world.call("check")
    assert said.code == ExitCode.OK
    assert "test.db is not there yet; `waveimport run` creates it" in said.out
    assert not (sqlite_world.folder / "test.db").exists()


def test_a_wrong_configuration_is_told_mistake_by_mistake_with_exit_2(sqlite_world: World) -> None:
    sqlite_world.configure(NO_SERVER, run="page_sise = 3\nlease_second = 4")
    said = sqlite_world.call("check", "--json")
    assert (said.code, said.json["ok"], said.json["exit_code"]) == (ExitCode.USAGE, False, 2)
    assert [(check["part"], check["level"], check["code"]) for check in said.json["checks"]] == [
        ("configuration", "fail", "WI-CFG-003")
    ] * 2
    assert "page_sise" in said.json["checks"][0]["message"]
    shown = sqlite_world.call("check")
    assert shown.out.count("fail  configuration: ") == 2
    assert "help: did you mean `page_size`?" in shown.out


def test_a_database_out_of_reach_is_exit_5_and_the_rest_is_still_checked(
    sqlite_world: World, account: Simulator
) -> None:
    sqlite_world.configure(account.netsuite_toml(), url=f"mysql+pymysql://root:{CANARY}@127.0.0.1:9/nowhere")
    said = sqlite_world.call("check", "--json")
    assert said.code == ExitCode.UNREACHABLE
    assert [level for level, _ in found(said.json, "database")] == ["fail"]
    assert [level for level, _ in found(said.json, "query")] == ["ok"]


def test_a_source_out_of_reach_is_exit_5(world: World) -> None:
    said = world.call("check", "--json")
    assert said.code == ExitCode.UNREACHABLE
    assert [level for level, _ in found(said.json, "NetSuite")] == ["fail"]
    assert found(said.json, "credentials") == []
    assert found(said.json, "clock") == []


def test_the_exit_code_is_that_of_the_first_failing_part(sqlite_world: World, account: Simulator) -> None:
    account.set_faults(REFUSED_LOGIN)
    sqlite_world.configure(account.netsuite_toml(), url="mysql+pymysql://root@127.0.0.1:9/nowhere")
    assert sqlite_world.call("check").code == ExitCode.UNREACHABLE
    sqlite_world.configure(account.netsuite_toml())
    assert sqlite_world.call("check").code == ExitCode.LOGIN


def test_a_refused_login_is_exit_4_and_keeps_runs_from_asking(world: World, account: Simulator) -> None:
    world.import_from(account)
    account.set_faults(REFUSED_LOGIN)
    said = world.call("check", "--json")
    assert said.code == ExitCode.LOGIN
    assert [level for level, _ in found(said.json, "credentials")] == ["fail"]
    account.set_faults(Faults())
    before = len(account.requests)
    assert world.call("plan").code == ExitCode.LOGIN
    assert account.requests[before:] == []


def test_a_remembered_refusal_is_asked_again_and_cleared_by_success(world: World, account: Simulator) -> None:
    account.set_faults(REFUSED_LOGIN)
    world.configure(account.netsuite_toml())
    assert world.run_import().exit_code == ExitCode.LOGIN
    before = len(account.requests)
    assert world.call("check").code == ExitCode.LOGIN
    assert account.requests[before:] != []
    account.set_faults(Faults())
    said = world.call("check")
    assert said.code == ExitCode.OK
    assert "a refusal of these credentials was remembered; runs go on from now" in said.out
    assert world.run_import().exit_code == ExitCode.OK
    assert "was remembered" not in world.call("check").out


def test_a_hidden_table_or_column_is_exit_3_but_the_login_is_ok(sqlite_world: World, account: Simulator) -> None:
    account.set_faults(Faults(hidden_columns=("subsidiary.parent",)))
    sqlite_world.configure(account.netsuite_toml())
    said = sqlite_world.call("check", "--json")
    assert said.code == ExitCode.INCOMPLETE
    assert [level for level, _ in found(said.json, "credentials")] == ["ok"]
    [(level, message)] = found(said.json, "query")
    assert level == "fail"
    assert "parent" in message


@pytest.mark.parametrize(
    ("ahead", "level", "code"),
    [(-61, "warn", ExitCode.OK), (61, "warn", ExitCode.OK), (50, "ok", ExitCode.OK), (302, "fail", ExitCode.LOGIN)],
)
def test_a_clock_that_is_off_is_told(
    sqlite_world: World, account: Simulator, monkeypatch: pytest.MonkeyPatch, ahead: int, level: str, code: ExitCode
) -> None:
    now = clock.epoch_seconds
    monkeypatch.setattr(clock, "epoch_seconds", lambda: now() + ahead)
    sqlite_world.configure(account.netsuite_toml())
    said = sqlite_world.call("check", "--json")
    assert said.code == code
    assert [one for one, _ in found(said.json, "clock")] == [level]


@pytest.mark.mysql
def test_a_clock_unlike_the_servers_is_a_warning(
    sqlite_world: World, account: Simulator, mysql_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = clock.utc_now
    monkeypatch.setattr(clock, "utc_now", lambda: now() + timedelta(seconds=90))
    with mysql_server.fresh_database(mysql_url) as url:
        sqlite_world.configure(account.netsuite_toml(), url=url)
        said = sqlite_world.call("check", "--json")
    assert said.code == ExitCode.OK
    warnings = [message for level, message in found(said.json, "database") if level == "warn"]
    assert len(warnings) == 1
    assert warnings[0].startswith("the clock here is 90 s ahead of the database's")


@pytest.mark.mysql
def test_a_user_without_the_right_to_create_tables_is_told(
    sqlite_world: World, account: Simulator, mysql_url: str
) -> None:
    with mysql_server.fresh_database(mysql_url) as url:
        name = url.rpartition("/")[2]
        user = f"reader_{name[-8:]}"
        with mysql_server.connect(mysql_url) as connection, connection.cursor() as cursor:
            # An anonymous user of localhost, as fresh servers have, goes before one of any host.
            users = f"{user}@'localhost'", f"{user}@'%'"
            for one in users:
                cursor.execute(f"CREATE USER {one} IDENTIFIED BY '{CANARY}'")
                cursor.execute(f"GRANT SELECT ON {name}.* TO {one}")
            try:
                owner = url.partition("//")[2].partition("@")[0]
                sqlite_world.configure(account.netsuite_toml(), url=url.replace(owner, f"{user}:{CANARY}", 1))
                said = sqlite_world.call("check", "--json")
                sqlite_world.configure(account.netsuite_toml(), url=url.replace(owner, f"{user}:{CANARY}-wrong", 1))
                refused = sqlite_world.call("check", "--json")
            finally:
                cursor.execute(f"DROP USER {', '.join(users)}")
    assert said.code == ExitCode.UNREACHABLE
    [fault] = [message for level, message in found(said.json, "database") if level == "fail"]
    assert fault.startswith("the database refused: the user lacks a privilege on a table (1142)")
    assert refused.code == ExitCode.UNREACHABLE
    assert "the password or user is refused (1045)" in found(refused.json, "database")[0][1]


def test_an_old_server_is_a_fault_of_the_configuration(
    world: World, account: Simulator, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.import_from(account)
    for lowest in ("MARIADB_LOWEST", "MYSQL_LOWEST", "SQLITE_LOWEST"):
        monkeypatch.setattr(probe, lowest, (99, 1))
    said = world.call("check", "--json")
    assert said.code == ExitCode.USAGE
    assert "is older than 99.1" in found(said.json, "database")[0][1]


@pytest.mark.parametrize(
    ("written", "numbers"),
    [("10.11.19-MariaDB-log", (10, 11, 19)), ("5.5.5-10.6.2-MariaDB", (10, 6, 2)), ("8.0.36", (8, 0, 36))],
)
def test_versions_are_read_as_servers_write_them(written: str, numbers: tuple[int, ...]) -> None:
    assert probe._numbers(written) == numbers


def test_tables_of_another_version_are_exit_2(world: World, account: Simulator) -> None:
    world.import_from(account)
    database = world.database()
    database.run(lambda c: c.execute(text("UPDATE waveimport_version SET version_num = '9999'")))
    database.close()
    said = world.call("check", "--json")
    assert said.code == ExitCode.USAGE
    assert "newer than this program's" in found(said.json, "tables")[0][1]


def test_a_destination_of_its_own_is_checked_too(world: World, account: Simulator) -> None:
    world.configure(account.netsuite_toml(), destination="sqlite:///rows.db")
    assert "destination: " in world.call("check").out
    world.configure(account.netsuite_toml(), destination="mysql+pymysql://root@127.0.0.1:9/nowhere")
    said = world.call("check", "--json")
    assert said.code == ExitCode.UNREACHABLE
    assert [level for level, _ in found(said.json, "destination")] == ["fail"]


def test_a_lock_directory_that_cannot_be_used_is_exit_2(sqlite_world: World, account: Simulator) -> None:
    (sqlite_world.folder / "locks").write_text("a file")
    sqlite_world.configure(account.netsuite_toml())
    said = sqlite_world.call("check", "--json")
    assert said.code == ExitCode.USAGE
    assert [level for level, _ in found(said.json, "lock directory")] == ["fail"]


def test_a_run_at_work_is_no_fault(world: World, account: Simulator) -> None:
    account.set_faults(Faults(latency_seconds=0.3))
    world.configure(account.netsuite_toml())
    said = []
    world.run_import(lambda job_id: said.append(world.call("check")))
    assert said
    assert said[0].code == ExitCode.OK
    assert "; a run is at work and holds the lock" in said[0].out


def test_an_unset_variable_is_exit_2_and_no_secret_is_shown(
    sqlite_world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "WI_NOT_SET" not in os.environ
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    secret.chmod(0o600)
    sqlite_world.configure(
        '[netsuite]\naccount = "1234567_SB1"\nbase_url = "http://127.0.0.1:9"\nconsumer_key = "${WI_NOT_SET}"\n'
        f'consumer_secret = "{CANARY}"\ntoken_id = "{CANARY}"\ntoken_secret_file = "{secret}"\n'
    )
    said = sqlite_world.call("check")
    assert said.code == ExitCode.USAGE
    assert "WI_NOT_SET" in said.out


def test_a_record_of_more_than_100_columns_is_tried_to_its_last_column(sqlite_world: World, account: Simulator) -> None:
    columns = ", ".join(f'custrecord_m{number:03d} = "integer"' for number in range(120))
    wide = f'[records.customrecord_measurement]\ncolumns = {{ id = "integer", {columns} }}\n'
    sqlite_world.configure(account.netsuite_toml(), records=wide)
    assert sqlite_world.call("check").code == ExitCode.OK
    account.set_faults(Faults(hidden_columns=("customrecord_measurement.custrecord_m119",)))
    said = sqlite_world.call("check", "--json")
    assert said.code == ExitCode.INCOMPLETE
    assert "custrecord_m119" in found(said.json, "query")[0][1]
