"""`waveimport discover`: what it prints of an account loads and imports, and what it leaves out it tells."""

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from cli_world import Said, World

from waveimport.errors import ExitCode
from waveimport.simulator.faults import Fault, FaultKind, Faults
from waveimport.simulator.handle import Simulator
from waveimport.simulator.schema import TABLES

Records = dict[str, dict[str, Any]]


@pytest.fixture
def discovering(sqlite_world: World, account: Simulator) -> World:
    """A folder whose configuration has credentials and no record."""
    sqlite_world.configure(account.netsuite_toml(), records="")
    return sqlite_world


def records(said: Said) -> Records:
    found: Records = tomllib.loads(said.out)["records"]
    return found


def comments(said: Said) -> str:
    """All remarks, each line break and its indent taken out."""
    return " ".join(line.lstrip("# ") for line in said.out.splitlines() if line.startswith("#"))


def queries(account: Simulator) -> list[str]:
    return [request.query for request in account.requests]


# --- records ----------------------------------------------------------------------------------------------------


def test_a_sales_order_comes_with_its_lines_cut_to_what_the_account_has(discovering: World) -> None:
    said = discovering.call("discover", "salesorder")
    assert (said.code, said.err) == (ExitCode.OK, "")
    found = records(said)
    assert list(found) == ["salesorder", "salesorderline"]
    order, line = found["salesorder"], found["salesorderline"]
    assert (order["table"], order["where"], order["cursor"]) == ("transaction", "type = 'SalesOrd'", "lastmodifieddate")
    assert (line["table"], line["key"], line["derived_from"]) == ("transactionline", "uniquekey", "salesorder")
    assert (line["parent_key"], line["cursor"]) == ("transaction", "linelastmodifieddate")
    types = order["columns"]
    assert (types["id"], types["trandate"], types["foreigntotal"]) == ("integer", "date", "decimal(15,2)")
    assert (types["custbody_orderkey"], types["custbody_clerk"]) == ("integer", "text"), "of the catalogue"
    assert line["columns"]["custcol_shipdate"] == "date", "of the catalogue's sublist"
    assert not {"total", "item", "links", "voided", "currency"} & set(types), "no columns here"
    assert "left out, SuiteQL does not show them to this role: postingperiod, employee, currency" in comments(said)
    assert "salesorderaccountingline" in comments(said)


def test_what_it_prints_loads_and_imports_behind_a_head(world: World, account: Simulator) -> None:
    world.configure(account.netsuite_toml(), records="")
    printed = world.call("discover", "--all")
    assert printed.code == ExitCode.OK
    world.configure(account.netsuite_toml(), records=printed.out)
    assert world.run_import().job_id is not None
    done = world.call("status", "--json").json["jobs"][0]
    assert done["status"] == "completed"
    rows = {record["record"]: record["rows"] for wave in done["waves"] for record in wave["records"]}
    assert (rows["salesorder"], rows["salesorderline"], rows["invoice"]) == (1500, 6005, 151)
    assert sum(rows.values()) == done["rows"]


def test_everything_names_only_dependencies_that_are_there(discovering: World) -> None:
    said = discovering.call("discover", "--all")
    found = records(said)
    assert {"subsidiary", "customer", "vendor", "item", "salesorder", "invoice", "vendorbill"} <= set(found)
    assert "creditmemo" not in found
    for record in found.values():
        assert set(record.get("depends_on", ())) <= set(found)
    assert found["salesorder"]["depends_on"] == ["customer", "subsidiary"]
    assert found["vendorbill"]["depends_on"] == ["vendor", "subsidiary"]
    assert "it refers to" not in comments(said), "nothing can be done about what is not there"
    assert "no transaction of these types: estimate, opportunity, cashsale" in comments(said)
    assert "not there, or hidden from this role, which NetSuite answers alike: currency" in comments(said)


def test_a_record_alone_tells_what_it_refers_to(discovering: World) -> None:
    said = discovering.call("discover", "vendor")
    assert "depends_on" not in records(said)["vendor"]
    assert "it refers to currency, subsidiary, account: import those too" in comments(said)
    both = records(discovering.call("discover", "vendor", "subsidiary"))
    assert both["vendor"]["depends_on"] == ["subsidiary"]


def test_a_table_of_the_catalogue_that_is_no_standard_record_gets_all_its_columns(discovering: World) -> None:
    said = discovering.call("discover", "CustomRecord_Measurement")
    record = records(said)["customrecord_measurement"]
    assert len(record["columns"]) == 124
    assert record["columns"]["custrecord_m007"] == "integer"
    assert record["cursor"] == "lastmodified"
    assert "124 columns, so every page takes more than one query" in comments(said)


def test_a_column_is_what_a_sample_shows_where_nothing_else_knows_it(discovering: World, account: Simulator) -> None:
    account.set_faults(Faults(catalogue=False))
    said = discovering.call("discover", "salesorder")
    line = records(said)["salesorderline"]["columns"]
    assert (line["custcol_shipdate"], line["custcol_discount"]) == ("text", "text")
    assert (line["netamount"], line["linelastmodifieddate"]) == ("decimal(15,2)", "timestamp"), "of the standard record"
    assert "the metadata catalogue is not to be had" in comments(said)
    assert "taken as text since nothing tells their types" in comments(said)


def test_lines_are_judged_by_lines_of_their_own_kind(discovering: World, account: Simulator) -> None:
    account.set_faults(Faults(catalogue=False))
    line = records(discovering.call("discover", "journalentry"))["journalentryline"]
    assert not [name for name in line["columns"] if name.startswith("custcol")], "only orders have values in those"


def test_a_table_without_a_description_tells_what_cannot_be_seen(discovering: World, account: Simulator) -> None:
    account.set_faults(Faults(catalogue=False))
    said = discovering.call("discover", "customrecord_measurement")
    assert records(said)["customrecord_measurement"]["columns"] == {"id": "integer"}, "SELECT * of 124 gives no rows"
    assert "a column that is NULL in all of the first 100 rows cannot be seen" in comments(said)


def test_a_column_whose_values_contradict_its_type_is_text(discovering: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waveimport.runtime.discovery._KNOWN", {"id": "integer", "name": "integer"})
    said = discovering.call("discover", "subsidiary", "customrecord_measurement")
    assert records(said)["subsidiary"]["columns"]["name"] == "text"
    monkeypatch.setattr("waveimport.core.presets._preset", _companyname_as_a_number)
    said = discovering.call("discover", "customer")
    assert records(said)["customer"]["columns"]["companyname"] == "text"
    assert "companyname is text: it was taken for integer, but a value of it is" in comments(said)


def _companyname_as_a_number(name: str, given: dict[str, Any], **changes: Any) -> Any:
    from waveimport.core.presets import Preset

    columns = dict(given.get("columns", {}))
    if "companyname" in columns:
        columns["companyname"] = "integer"
    return Preset(name, name, columns, catalogue=tuple(given.get("catalogue", ())))


def test_a_date_that_is_no_timestamp_becomes_a_date(discovering: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("waveimport.runtime.discovery._KNOWN", {"id": "integer", "custcol_shipdate": "timestamp"})
    monkeypatch.setattr("waveimport.runtime.discovery.parse_schema", lambda body, sublists: ())
    said = discovering.call("discover", "salesorder")
    assert records(said)["salesorderline"]["columns"]["custcol_shipdate"] == "date"
    assert "custcol_shipdate is date: NetSuite does not give it as a timestamp" in comments(said)


def test_an_account_that_is_not_one_world_drops_subsidiaries_with_a_remark(
    discovering: World, account: Simulator
) -> None:
    account.set_faults(Faults(one_world=False))
    said = discovering.call("discover", "--all")
    assert said.code == ExitCode.OK
    found = records(said)
    assert "subsidiary" not in found
    for record in found.values():
        assert "subsidiary" not in record["columns"]
        assert "subsidiary" not in record.get("depends_on", ())
    assert "which NetSuite answers alike: currency, subsidiary" in comments(said)


def test_a_hidden_column_is_left_out_with_a_remark(discovering: World, account: Simulator) -> None:
    account.set_faults(Faults(hidden_columns=("customer.email", "customer.custentity_address")))
    said = discovering.call("discover", "customer")
    assert not {"email", "custentity_address"} & set(records(said)["customer"]["columns"])
    assert "email" in comments(said)


def test_every_query_it_asks_has_at_most_100_columns(discovering: World, account: Simulator) -> None:
    before = len(account.requests)
    discovering.call("discover", "customrecord_measurement", "salesorder")
    asked = [query for query in queries(account)[before:] if query]
    assert asked
    assert max(query.partition(" FROM ")[0].count("t.") for query in asked) == 100


def test_one_document_says_the_same(discovering: World) -> None:
    printed = records(discovering.call("discover", "salesorder"))
    document = discovering.call("discover", "salesorder", "--json").json
    assert set(document) == {"schema_version", "records", "remarks", "refused"}
    for name, record in document["records"].items():
        assert record.pop("remarks")
        assert record == printed[name]


def test_the_records_that_readme_shows_are_what_is_printed(discovering: World) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    shown = readme.partition("$ waveimport discover salesorder\n")[2].partition("```")[0].splitlines()
    assert len(shown) > 20
    printed = iter(discovering.call("discover", "salesorder").out.splitlines())
    for line in shown:
        assert line == "…" or line in printed, line


# --- the list ---------------------------------------------------------------------------------------------------


def test_without_a_table_it_lists_what_the_role_sees_with_rows(discovering: World) -> None:
    said = discovering.call("discover")
    assert (said.code, said.err) == (ExitCode.OK, "")
    rows = [line.split() for line in said.out.splitlines()]
    assert ["customer", "customer", "152"] in rows
    assert ["transactionline", "transactionline", "6,503"] in rows
    assert ["salesorder", "transaction", "1,500"] in rows
    assert "not there, or hidden from this role, which NetSuite answers alike: currency," in said.out
    assert "also in the metadata catalogue: customrecord_measurement" in said.out
    assert "discover salesorder\n" in said.out
    assert said.out.rstrip().endswith("waveimport.toml")
    assert "discover --all >> " in said.out.splitlines()[-1]


def test_the_list_as_a_document(discovering: World, account: Simulator) -> None:
    account.set_faults(Faults(hidden_tables=("vendor",), catalogue=False))
    document = discovering.call("discover", "--json").json
    assert set(document) == {"schema_version", "tables", "others", "remarks", "next"}
    tables = {one["record"]: one for one in document["tables"]}
    assert tables["customer"] == {
        "record": "customer", "table": "customer", "rows": 152, "hidden": False, "error": None,
    }  # fmt: skip
    assert (tables["vendor"]["rows"], tables["vendor"]["hidden"]) == (None, True)
    assert "Record 'vendor' was not found" in tables["vendor"]["error"]
    assert "INSUFFICIENT_PERMISSION" in document["remarks"][0]


def test_a_table_that_the_service_cannot_count_is_not_called_hidden(discovering: World, account: Simulator) -> None:
    account.set_faults(Faults(fault=(Fault(kind=FaultKind.SERVER_ERROR, matching="FROM customer"),)))
    said = discovering.call("discover")
    assert said.code == ExitCode.OK
    assert "note: customer: NetSuite failed inside (500)" in said.out
    named = discovering.call("discover", "customer")
    assert named.code == ExitCode.INCOMPLETE
    assert "error[WI-SRC-007]: NetSuite failed inside (500)" in named.err


# --- what goes wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", ["vendor", "salesoder"])
def test_a_table_that_is_hidden_or_misspelt_is_one_sentence_with_both_causes(
    discovering: World, account: Simulator, table: str
) -> None:
    account.set_faults(Faults(hidden_tables=("vendor",)))
    said = discovering.call("discover", table)
    assert (said.code, said.out) == (ExitCode.INCOMPLETE, "")
    assert said.err.startswith(
        "error[WI-SRC-005]: NetSuite does not show this table or column: it is misspelt, or hidden"
    )
    assert f"where: {table}" in said.err
    assert ("did you mean `salesorder`?" in said.err) == (table == "salesoder")


def test_a_role_that_sees_nothing_is_told_so(discovering: World, account: Simulator) -> None:
    account.set_faults(Faults(hidden_tables=tuple(TABLES)))
    said = discovering.call("discover", "--all")
    assert (said.code, said.out) == (ExitCode.INCOMPLETE, "")
    assert "none of the standard tables is there, or all are hidden from this role" in said.err
    assert discovering.call("discover").code == ExitCode.OK


def test_of_two_tables_the_one_that_is_there_is_printed(discovering: World) -> None:
    said = discovering.call("discover", "customer", "nothing")
    assert said.code == ExitCode.INCOMPLETE
    assert list(records(said)) == ["customer"]
    assert "where: nothing" in said.err


def test_a_table_without_a_key_is_refused_in_words(discovering: World, account: Simulator) -> None:
    account.set_faults(Faults(hidden_columns=("customer.id",)))
    said = discovering.call("discover", "customer")
    assert said.code == ExitCode.INCOMPLETE
    assert "the table customer shows no column to page by: id" in said.err


def test_without_the_parent_nothing_that_derives_from_it_is_printed(discovering: World, account: Simulator) -> None:
    account.set_faults(Faults(hidden_columns=("transaction.id",)))
    said = discovering.call("discover", "salesorder")
    assert (said.code, said.out) == (ExitCode.INCOMPLETE, "")
    assert said.err.count("error[") == 1


@pytest.mark.parametrize("words", [["customer", "--all"], ["a;b"], ["x" * 60]])
def test_words_that_do_not_fit_are_told_before_anything_is_asked(
    discovering: World, account: Simulator, words: list[str]
) -> None:
    before = len([query for query in queries(account) if query])
    assert discovering.call("discover", *words).code == ExitCode.USAGE
    assert len([query for query in queries(account) if query]) == before


def test_a_refused_login_is_exit_4(discovering: World, account: Simulator) -> None:
    account.set_faults(Faults(fault=(Fault(kind=FaultKind.LOGIN),)))
    for words in ([], ["customer"], ["--all"]):
        said = discovering.call("discover", *words)
        assert said.code == ExitCode.LOGIN
        assert "error[WI-SRC-006]" in said.err


def test_a_refusal_that_is_remembered_is_heeded(sqlite_world: World, account: Simulator) -> None:
    sqlite_world.import_from(account)
    account.set_faults(Faults(fault=(Fault(kind=FaultKind.LOGIN),)))
    assert sqlite_world.call("check").code == ExitCode.LOGIN
    before = len(account.requests)
    said = sqlite_world.call("discover")
    assert said.code == ExitCode.LOGIN
    assert "less than 30 minutes ago" in said.err
    assert len(account.requests) == before


def test_a_source_out_of_reach_is_exit_5(sqlite_world: World) -> None:
    said = sqlite_world.call("discover", "customer")
    assert said.code == ExitCode.UNREACHABLE
    assert "error[WI-SRC-002]" in said.err


def test_a_database_that_cannot_be_opened_is_no_hindrance(discovering: World, account: Simulator) -> None:
    discovering.configure(account.netsuite_toml(), records="", url="mysql+pymysql://nobody@127.0.0.1:9/x")
    assert discovering.call("discover", "customer").code == ExitCode.OK


def test_records_that_are_configured_wrongly_are_no_hindrance(discovering: World, account: Simulator) -> None:
    discovering.configure(account.netsuite_toml(), records="[records.customer]\ncolums = 5\n")
    assert discovering.call("discover", "customer").code == ExitCode.OK
    assert json.loads(discovering.call("discover", "customer", "--json").out)["records"]
