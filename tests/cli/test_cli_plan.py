"""`waveimport plan`: what a run would do, told beforehand and written nowhere."""

import pytest
from cli_world import RECORDS, World
from sqlalchemy import text

from waveimport.core.ranges import Bounds
from waveimport.core.settings import RunSettings
from waveimport.errors import ExitCode
from waveimport.runtime.preview import derived_batches
from waveimport.simulator.faults import Fault, FaultKind, Faults
from waveimport.simulator.handle import Simulator
from waveimport.store.schema import current_version

RECORD_KEYS = {
    "record", "source", "destination", "derived_from", "counted", "rows", "lowest", "highest", "batches", "error"
}  # fmt: skip


def write(world: World, statement: str) -> None:
    database = world.database()
    database.run(lambda connection: connection.execute(text(statement)))
    database.close()


def records_of(document: dict[str, list[dict[str, list[dict[str, object]]]]]) -> dict[object, dict[str, object]]:
    return {record["record"]: record for wave in document["waves"] for record in wave["records"]}


def asked(account: Simulator, before: int) -> list[str]:
    return [request.query for request in account.requests[before:]]


def test_a_plan_names_waves_records_counts_and_batches(world: World, account: Simulator) -> None:
    world.configure(account.netsuite_toml(), run="batch_size = 400")
    said = world.call("plan", "--json")
    assert said.code == ExitCode.OK
    document = said.json
    assert set(document) == {"schema_version", "profile", "action", "why", "job_id", "waves", "notes"}
    assert (document["action"], document["job_id"], document["profile"]) == ("create", None, "1234567_SB1")
    assert [(wave["wave_number"], wave["kind"], wave["parent_wave"]) for wave in document["waves"]] == [
        (1, "main", None), (2, "main", None), (3, "main", None), (4, "derived", 3)
    ]  # fmt: skip
    records = records_of(document)
    for record in records.values():
        assert set(record) == RECORD_KEYS
    orders = records["salesorder"]
    assert (orders["rows"], orders["counted"], orders["source"]) == (1500, "now", "transaction")
    assert orders["batches"] == 1 + 4  # its planning, and 1,500 rows at 400 each
    lines = records["salesorderline"]
    assert (lines["rows"], lines["counted"], lines["derived_from"]) == (None, "estimated", "salesorder")


def test_the_numbers_are_those_of_the_run_that_follows(world: World, account: Simulator) -> None:
    world.configure(account.netsuite_toml(), run="batch_size = 400\nparents_per_batch = 100")
    planned = records_of(world.call("plan", "--json").json)
    world.run_import()
    waves = world.call("status", "--json").json["jobs"][0]["waves"]
    assert [wave["batches"]["total"] for wave in waves[:3]] == [
        planned[name]["batches"] for name in ("subsidiary", "customer", "salesorder")
    ]
    made = waves[3]["batches"]["total"]
    assert planned["salesorderline"]["batches"] == pytest.approx(made, rel=0.25)


def test_one_query_is_asked_of_each_main_record(world: World, account: Simulator) -> None:
    world.configure(account.netsuite_toml())
    before = len(account.requests)
    world.call("plan")
    queries = asked(account, before)
    assert len(queries) == 3
    assert all(query.startswith("SELECT COUNT(*) AS n, MIN(t.id) AS lo, MAX(t.id) AS hi FROM ") for query in queries)


def test_nothing_is_written_anywhere(world: World, account: Simulator) -> None:
    world.configure(account.netsuite_toml())
    assert world.call("plan").code == ExitCode.OK
    assert sorted(path.name for path in world.folder.iterdir()) == ["waveimport.toml"]
    if not world.url.startswith("sqlite"):
        database = world.database()
        assert database.run(current_version) is None
        assert database.run(lambda c: c.execute(text("SHOW TABLES")).all()) == []
        database.close()


def test_a_plan_of_some_records_takes_what_derives_from_them(world: World, account: Simulator) -> None:
    world.configure(account.netsuite_toml())
    assert set(records_of(world.call("plan", "--records", "salesorder", "--json").json)) == {
        "salesorder", "salesorderline"
    }  # fmt: skip
    said = world.call("plan", "--records", "salesordr")
    assert said.code == ExitCode.USAGE
    assert "no record `salesordr` is configured" in said.err


def test_an_unfinished_job_is_gone_on_with_by_its_stored_counts(world: World, account: Simulator) -> None:
    job_id = world.import_from(account)
    write(world, "UPDATE import_jobs SET status = 'processing', finished_at = NULL")
    write(world, "UPDATE wave_coordination SET status = 'processing' WHERE wave_number = 3")
    write(world, "UPDATE wave_batches SET status = 'pending' WHERE kind = 'range' AND wave_number = 3")
    write(world, "UPDATE wave_batches SET spec = '{}', status = 'pending' WHERE batch_id = '2/customer/plan'")
    before = len(account.requests)
    said = world.call("plan", "--json")
    assert said.code == ExitCode.OK
    assert (said.json["action"], said.json["job_id"]) == ("resume", job_id)
    assert "goes on with it" in said.json["why"]
    assert [(wave["completed"], wave["batches_made"]) for wave in said.json["waves"][1:3]] == [(1, 2), (1, 2)]
    records = records_of(said.json)
    assert (records["salesorder"]["counted"], records["salesorder"]["rows"]) == ("kept", 1500)
    assert records["customer"]["counted"] == "now"
    assert [query.partition(" FROM ")[2] for query in asked(account, before)] == ["customer t"]


@pytest.mark.parametrize(
    ("status", "action"),
    [("completed", "create"), ("cancelled", "create"), ("pending", "resume"), ("processing", "resume"),
     ("failed", "retry")],
)  # fmt: skip
def test_the_newest_job_decides_what_a_run_does(world: World, account: Simulator, status: str, action: str) -> None:
    job_id = world.import_from(account)
    write(world, f"UPDATE import_jobs SET status = '{status}'")
    document = world.call("plan", "--json").json
    assert document["action"] == action
    assert document["job_id"] == (None if action == "create" else job_id)
    assert job_id in world.call("plan").out


def test_where_a_run_would_refuse_the_plan_says_so_with_exit_2_and_asks_nothing(
    world: World, account: Simulator
) -> None:
    job_id = world.import_from(account)
    write(world, "UPDATE import_jobs SET status = 'processing', finished_at = NULL")
    before = len(account.requests)
    other = world.call("plan", "--records", "customer", "--json")
    assert (other.code, other.json["action"]) == (ExitCode.USAGE, "refuse")
    assert f"waveimport cancel {job_id}" in other.json["why"]
    world.configure(account.netsuite_toml(), records=RECORDS.replace("decimal(15,2)", "text", 1))
    changed = world.call("plan")
    assert changed.code == ExitCode.USAGE
    assert "records.customer.columns.balance: was decimal(15,2), now text" in changed.out
    assert account.requests[before:] == []


def test_wide_decimals_are_noted_on_sqlite_only(world: World, account: Simulator) -> None:
    records = RECORDS.replace('balance = "decimal(15,2)"', 'balance = "decimal(20,4)"')
    world.configure(account.netsuite_toml(), records=records)
    said = world.call("plan")
    note = "note: customer: balance decimal(20,4) is kept as TEXT: SQLite's numbers hold 15 digits exactly"
    assert (note in said.out) == world.url.startswith("sqlite")


def test_a_record_without_an_integer_key_is_noted_as_one_batch(sqlite_world: World, account: Simulator) -> None:
    records = '[records.customer]\nkey = "entityid"\ncolumns = { entityid = "text" }\n'
    sqlite_world.configure(account.netsuite_toml(), records=records, run="batch_size = 10")
    said = sqlite_world.call("plan", "--json")
    assert said.json["notes"] == ["customer: its first key `entityid` is no integer, so it is fetched as one batch"]
    assert records_of(said.json)["customer"]["batches"] == 2


def test_a_hidden_table_is_exit_3_and_the_others_are_counted(world: World, account: Simulator) -> None:
    account.set_faults(Faults(hidden_tables=("customer",)))
    world.configure(account.netsuite_toml())
    said = world.call("plan", "--json")
    assert said.code == ExitCode.INCOMPLETE
    records = records_of(said.json)
    assert records["customer"]["error"] is not None
    assert records["customer"]["rows"] is None
    assert records["salesorder"]["rows"] == 1500
    assert "error[WI-SRC-005]" in said.err
    assert "refused" in world.call("plan").out


def test_a_refused_login_is_exit_4(sqlite_world: World, account: Simulator) -> None:
    account.set_faults(Faults(fault=(Fault(kind=FaultKind.LOGIN),)))
    sqlite_world.configure(account.netsuite_toml())
    said = sqlite_world.call("plan")
    assert (said.code, said.out) == (ExitCode.LOGIN, "")


def test_a_remembered_refusal_is_not_asked_again(world: World, account: Simulator) -> None:
    account.set_faults(Faults(fault=(Fault(kind=FaultKind.LOGIN),)))
    world.configure(account.netsuite_toml())
    assert world.run_import().exit_code == ExitCode.LOGIN
    before = len(account.requests)
    said = world.call("plan")
    assert said.code == ExitCode.LOGIN
    assert "`waveimport check` asks once" in said.err
    assert account.requests[before:] == []


def test_the_estimate_is_a_batch_for_each_page_of_parents_and_part_of_it() -> None:
    run = RunSettings(page_size=1000, batch_size=5000, parents_per_batch=500)
    assert derived_batches(Bounds(15_000, 1, 60_000), run) == 30
    assert derived_batches(Bounds(0, None, None), run) == 0
    assert derived_batches(Bounds(1, 1, 1), run) == 1
    small_ranges = RunSettings(page_size=1000, batch_size=1000, parents_per_batch=500)
    assert derived_batches(Bounds(1501, 1, 1501), small_ranges) == 4
    small_pages = RunSettings(page_size=300, batch_size=5000, parents_per_batch=200)
    assert derived_batches(Bounds(1500, 1, 1500), small_pages) == 10


def test_a_record_that_takes_several_queries_a_page_is_noted(sqlite_world: World, account: Simulator) -> None:
    columns = ", ".join(f'custrecord_m{number:03d} = "integer"' for number in range(120))
    wide = f'[records.customrecord_measurement]\ncolumns = {{ id = "integer", {columns} }}\n'
    sqlite_world.configure(account.netsuite_toml(), records=wide)
    (note,) = [line for line in sqlite_world.call("plan").out.splitlines() if line.startswith("note: ")]
    assert note.startswith("note: customrecord_measurement: 121 columns are more than a query may have")
    assert note.endswith("each of its pages takes 2 queries")
