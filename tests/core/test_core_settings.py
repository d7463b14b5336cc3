"""The rule book of the configuration: each mistake with its place, what was expected, and the mend."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from waveimport.core.settings import ColumnKind, Refresh, Settings, parse_settings
from waveimport.errors import BadRecords, BadValue, ConfigError, ConfigErrors, MissingKey, UnknownKey

Document = dict[str, Any]
Edit = Callable[[Document], object]

GOOD: Document = {
    "database": {"url": "sqlite:///waveimport.db"},
    "netsuite": {
        "account": "1234567_SB1",
        "consumer_key": "${NETSUITE_CONSUMER_KEY}",
        "consumer_secret": "s3cret-canary",
        "token_id": "t",
        "token_secret_file": "token.secret",
    },
    "run": {},
    "records": {
        "customer": {"columns": {"id": "integer", "balance": "decimal(15, 2)", "lastmodifieddate": "timestamp"}},
        "salesorder": {
            "table": "transaction",
            "where": "type = 'SalesOrd'",
            "depends_on": ["customer"],
            "cursor": "lastmodifieddate",
            "columns": {"id": "integer", "lastmodifieddate": "timestamp", "custbody-X": "text"},
        },
        "line": {
            "table": "transactionline",
            "key": "uniquekey",
            "derived_from": "salesorder",
            "parent_key": "transaction",
            "columns": ["uniquekey", "transaction"],
        },
    },
}


def good(*edits: Edit) -> Document:
    document = deepcopy(GOOD)
    for edit in edits:
        edit(document)
    return document


def put(path: str, value: object) -> Edit:
    *tables, key = path.split(".")

    def edit(document: Document) -> None:
        for table in tables:
            document = document.setdefault(table, {})
        document[key] = value

    return edit


def drop(path: str) -> Edit:
    *tables, key = path.split(".")

    def edit(document: Document) -> None:
        for table in tables:
            document = document[table]
        del document[key]

    return edit


def mistakes_of(document: Document) -> list[ConfigError]:
    with pytest.raises(ConfigError) as caught:
        parse_settings(document)
    return caught.value.errors if isinstance(caught.value, ConfigErrors) else [caught.value]


def test_what_is_left_out_has_the_documented_default() -> None:
    settings = parse_settings(good())
    assert settings.profile == "1234567_SB1"
    assert settings.netsuite.base_url == "https://1234567-sb1.suitetalk.api.netsuite.com"
    assert (settings.netsuite.auth, settings.netsuite.concurrency) == ("tba", 5)
    assert settings.destination is None
    assert settings.prefix == ""
    run = settings.run
    assert (run.workers, run.page_size, run.batch_size, run.parents_per_batch) == (8, 1000, 5000, 500)
    assert (run.lease_seconds, run.max_tries, run.request_timeout_seconds) == (60, 5, 900)
    assert (run.give_up_after_seconds, run.reconcile, run.stuck_after_seconds) == (600, True, 300)
    assert (run.passes_without_effect, run.lock_dir) == (100, None)
    customer = settings.record("customer")
    assert (customer.table, customer.table_name) == ("customer", "customer")
    assert (customer.key, customer.where) == (("id",), None)


def test_what_is_written_is_taken_over() -> None:
    run = {"workers": 3, "page_size": 1, "lease_seconds": 2.5, "reconcile": False, "lock_dir": "locks"}
    settings = parse_settings(good(
        put("run", run),
        put("profile", "nightly"),
        put("destination", {"url": "mysql://x@h/d", "prefix": "ns_"}),
        put("netsuite.base_url", "http://127.0.0.1:8765/"),
        put("records.line.key", ["transaction", "uniquekey"]),
    ))  # fmt: skip
    assert settings.profile == "nightly"
    assert settings.prefix == "ns_"
    assert not settings.one_database
    assert settings.netsuite.base_url == "http://127.0.0.1:8765"
    assert settings.netsuite.consumer_secret == "s3cret-canary"
    assert (settings.run.workers, settings.run.page_size, settings.run.lease_seconds) == (3, 1, 2.5)
    assert (settings.run.reconcile, settings.run.lock_dir) == (False, "locks")
    line = settings.record("line")
    assert (line.derived_from, line.parent_key, line.key) == ("salesorder", "transaction", ("transaction", "uniquekey"))
    order = settings.record("salesorder")
    assert (order.table, order.where, order.depends_on, order.cursor) == (
        "transaction", "type = 'SalesOrd'", ("customer",), "lastmodifieddate",
    )  # fmt: skip


def test_columns_have_type_precision_and_a_safe_destination_name() -> None:
    settings = parse_settings(good())
    balance = settings.record("customer").column("balance")
    assert (balance.kind, balance.precision, balance.scale) == (ColumnKind.DECIMAL, 15, 2)
    assert balance.target == "balance"
    assert settings.record("salesorder").column("custbody-X").target.startswith("custbody_x_")


def test_a_list_of_columns_is_all_text() -> None:
    columns = parse_settings(good()).record("line").columns
    assert [(column.name, column.kind) for column in columns] == [
        ("uniquekey", ColumnKind.TEXT), ("transaction", ColumnKind.TEXT),
    ]  # fmt: skip


def test_a_destination_with_only_a_prefix_is_the_same_database() -> None:
    settings = parse_settings(good(put("destination.prefix", "ns_")))
    assert settings.one_database
    assert settings.prefix == "ns_"


def test_m2m_needs_its_own_keys_and_not_those_of_tba() -> None:
    m2m = {"account": "1", "auth": "m2m"}
    found = mistakes_of(good(put("netsuite", m2m)))
    assert [error.where for error in found] == [
        "netsuite.client_id", "netsuite.certificate_id", "netsuite.private_key_file",
    ]  # fmt: skip
    assert {type(error) for error in found} == {MissingKey}
    whole = m2m | {"client_id_file": "id", "certificate_id": "c", "private_key_file": "k.pem", "algorithm": "ES256"}
    assert parse_settings(good(put("netsuite", whole))).netsuite.algorithm == "ES256"


def test_keys_of_both_ways_to_log_in_may_stand_side_by_side() -> None:
    machine = {"client_id": "c", "certificate_id": "i", "private_key_file": "k.pem"}
    both = [put(f"netsuite.{key}", value) for key, value in machine.items()]
    assert parse_settings(good(*both)).netsuite.auth == "tba"
    assert parse_settings(good(*both, put("netsuite.auth", "m2m"))).netsuite.auth == "m2m"


def test_keys_of_m2m_alone_without_auth_are_one_mistake() -> None:
    machine = {"account": "1", "client_id": "c", "certificate_id_file": "i", "private_key_file": "k.pem"}
    [error] = mistakes_of(good(put("netsuite", machine)))
    assert (type(error), error.where) == (MissingKey, "netsuite.auth")
    assert 'auth = "m2m"' in (error.help or "")


def test_keys_of_neither_way_to_log_in_are_all_named() -> None:
    found = mistakes_of(good(put("netsuite", {"account": "1"})))
    assert [error.where for error in found] == [
        "netsuite.consumer_key", "netsuite.consumer_secret", "netsuite.token_id", "netsuite.token_secret",
    ]  # fmt: skip


def test_a_derived_record_of_a_derived_record_is_allowed() -> None:
    note = {"columns": ["id", "line"], "derived_from": "line", "parent_key": "line"}
    assert parse_settings(good(put("records.note", note))).record("note").derived_from == "line"


def test_a_derived_record_may_depend_on_a_main_one_and_on_its_own_root() -> None:
    settings = parse_settings(good(put("records.line.depends_on", ["customer", "salesorder"])))
    assert settings.record("line").depends_on == ("customer", "salesorder")


# Each row: how the good configuration is spoilt, and the class, place, sentence and mend of the only mistake.
MISTAKES: list[tuple[str, list[Edit], type[ConfigError], str, str, str]] = [
    ("unknown top key", [put("profil", "x")], UnknownKey, "profil", "`profil` in the file", "did you mean `profile`?"),
    ("unknown key of a section", [put("run.page_sise", 5)], UnknownKey, "run.page_sise",
     "unknown key `page_sise` in [run]", "did you mean `page_size`?"),
    ("key in the wrong section", [put("netsuite.page_sise", 5)], UnknownKey, "netsuite.page_sise",
     "unknown key `page_sise` in [netsuite]", "did you mean `page_size`? It belongs in [run]"),
    ("right key in the wrong section", [put("netsuite.workers", 5)], UnknownKey, "netsuite.workers",
     "unknown key `workers` in [netsuite]", "`workers` belongs in [run]"),
    ("unknown key of a record", [put("records.line.parentkey", "x")], UnknownKey, "records.line.parentkey",
     "unknown key `parentkey` in [records.line]", "did you mean `parent_key`?"),
    ("key like no other", [put("run.zzz", 5)], UnknownKey, "run.zzz", "unknown key `zzz`", "known keys here: workers"),
    ("section that is no table", [put("run", 5)], BadValue, "run", "`run` must be a table, not a whole number", ""),
    ("no database", [drop("database")], MissingKey, "database", "the table [database] is missing", "url ="),
    ("database that is no table", [put("database", 5)], BadValue, "database", "must be a table", "[database]"),
    ("no url", [drop("database.url")], MissingKey, "database.url", "`url` is missing in [database]", "sqlite:///"),
    ("empty url", [put("database.url", " ")], BadValue, "database.url", "must be text that is not empty", "sqlite:///"),
    ("url of another type", [put("database.url", 5)], BadValue, "database.url", "must be text, not a whole", "quotes"),
    ("two passwords", [put("database.password", "a"), put("database.password_file", "b")], BadValue,
     "database.password_file", "`password_file` in [database] must be left out", "keep one"),
    ("password without url", [put("destination.password", "a")], BadValue, "destination.password",
     "`password` in [destination] must be beside a `url`", "[database]"),
    ("bad prefix", [put("destination.prefix", "NS-")], BadValue, "destination.prefix", "`prefix`", ""),
    ("prefix that takes the names' room", [put("destination.prefix", "a" * 14)], BadValue, "destination.prefix",
     "at most 13 characters", ""),
    ("no netsuite", [drop("netsuite")], MissingKey, "netsuite", "the table [netsuite] is missing", "account"),
    ("no account", [drop("netsuite.account")], MissingKey, "netsuite.account", "`account` is missing", "1234567_SB1"),
    ("bad account", [put("netsuite.account", "a.b/c")], BadValue, "netsuite.account", 'not "a.b/c"', "1234567_SB1"),
    ("account as a number", [put("netsuite.account", 1234567)], BadValue, "netsuite.account",
     "must be text, not 1234567", "quotes"),
    ("unknown auth", [put("netsuite.auth", "tbaa")], BadValue, "netsuite.auth", "one of tba", "did you mean `tba`"),
    ("unknown algorithm", [put("netsuite.algorithm", "RS256")], BadValue, "netsuite.algorithm", "PS256", "PS256"),
    ("missing token", [drop("netsuite.token_id")], MissingKey, "netsuite.token_id",
     "`token_id` is missing in [netsuite]", "${NETSUITE_TOKEN_ID}"),
    ("secret twice", [put("netsuite.token_id_file", "f")], BadValue, "netsuite.token_id_file", "left out", "keep one"),
    ("concurrency of none", [put("netsuite.concurrency", 0)], BadValue, "netsuite.concurrency", "not 0", "5"),
    ("http to another host", [put("netsuite.base_url", "http://example.com")], BadValue, "netsuite.base_url",
     "must be https", "in the clear"),
    ("address of another kind", [put("netsuite.base_url", "ftp://example.com")], BadValue, "netsuite.base_url",
     "must be an http or https address", "1234567-sb1"),
    ("address with a bad port", [put("netsuite.base_url", "https://example.com:x")], BadValue, "netsuite.base_url",
     "must be an http or https address", "1234567-sb1"),
    ("address without a host", [put("netsuite.base_url", "https:///x")], BadValue, "netsuite.base_url",
     "must be an http or https address", "1234567-sb1"),
    ("address with a fragment", [put("netsuite.base_url", "https://example.com/#a")], BadValue, "netsuite.base_url",
     "without user, query or fragment", "1234567-sb1"),
    ("address with a query", [put("netsuite.base_url", "https://example.com/?a=b")], BadValue, "netsuite.base_url",
     "without user, query or fragment", "1234567-sb1"),
    ("workers as text", [put("run.workers", "8")], BadValue, "run.workers", 'at least 1, not "8"', "workers = 8"),
    ("true is no number", [put("run.workers", True)], BadValue, "run.workers", "not true", "workers = 8"),
    ("a fraction of a worker", [put("run.workers", 1.5)], BadValue, "run.workers", "not 1.5", "workers = 8"),
    ("page above NetSuite's limit", [put("run.page_size", 1001)], BadValue, "run.page_size", "from 1 to 1000", "1000"),
    ("page of none", [put("run.page_size", 0)], BadValue, "run.page_size", "from 1 to 1000, not 0", ""),
    ("too many parents", [put("run.parents_per_batch", 1001)], BadValue, "run.parents_per_batch", "from 1 to 1000", ""),
    ("batch of none", [put("run.batch_size", 0)], BadValue, "run.batch_size", "at least 1", ""),
    ("minus one reader", [put("run.reader_processes", -1)], BadValue, "run.reader_processes", "at least 0", "= 3"),
    ("no tries", [put("run.max_tries", 0)], BadValue, "run.max_tries", "at least 1", ""),
    ("no passes", [put("run.passes_without_effect", 0)], BadValue, "run.passes_without_effect", "at least 1", ""),
    ("no lease", [put("run.lease_seconds", 0)], BadValue, "run.lease_seconds", "seconds above 0, not 0", "60"),
    ("endless lease", [put("run.lease_seconds", float("inf"))], BadValue, "run.lease_seconds", "not inf", ""),
    ("lease of nothing", [put("run.lease_seconds", float("nan"))], BadValue, "run.lease_seconds", "not nan", ""),
    ("lease true", [put("run.lease_seconds", True)], BadValue, "run.lease_seconds", "not true", ""),
    ("request deadline", [put("run.request_timeout_seconds", -1)], BadValue, "run.request_timeout_seconds", "0", ""),
    ("outage", [put("run.give_up_after_seconds", 0)], BadValue, "run.give_up_after_seconds", "above 0", ""),
    ("stuck", [put("run.stuck_after_seconds", "5m")], BadValue, "run.stuck_after_seconds", 'not "5m"', ""),
    ("flag as text", [put("run.reconcile", "yes")], BadValue, "run.reconcile", "true or false", "without quotes"),
    ("flag as number", [put("run.reconcile", 1)], BadValue, "run.reconcile", "true or false, not 1", ""),
    ("lock_dir", [put("run.lock_dir", 5)], BadValue, "run.lock_dir", "must be text", ""),
    ("long profile", [put("profile", "x" * 101)], BadValue, "profile", "at most 100 characters", ""),
    ("control characters", [put("profile", "a\x1bb")], BadValue, "profile", "without control characters", ""),
    ("no records", [drop("records")], MissingKey, "records", "no record is configured", "[records.customer]"),
    ("empty records", [put("records", {})], MissingKey, "records", "no record is configured", ""),
    ("a wide key", [put("records.customer.key", [f"k{number}" for number in range(17)]),
                    put("records.customer.columns", [f"k{number}" for number in range(17)])],
     BadValue, "records.customer.key", "at most 16 columns", "makes a row unique"),
    ("records as a list", [put("records", [])], BadValue, "records", "must be tables", ""),
    ("record name", [put("records.a-b", {"columns": ["id"]})], BadValue, "records.a-b", "no identifier", "table_name"),
    ("record that is no table", [put("records.a", 5)], BadValue, "records.a", "must be a table", ""),
    ("table name", [put("records.customer.table", "a b")], BadValue, "records.customer.table", "SuiteQL table", ""),
    ("empty where", [put("records.customer.where", "")], BadValue, "records.customer.where", "not empty", ""),
    ("no columns", [put("records.a", {})], MissingKey, "records.a.columns", "`columns` is missing", "columns ="),
    ("empty columns", [put("records.a", {"columns": {}})], BadValue, "records.a.columns", "at least one column", ""),
    ("columns as text", [put("records.a", {"columns": "id"})], BadValue, "records.a.columns", "list of names", ""),
    ("columns twice", [put("records.a", {"columns": ["id", "id"]})], BadValue, "records.a.columns", "`id` twice", ""),
    ("type that is no text", [put("records.customer.columns.x", 5)], BadValue, "records.customer.columns.x",
     "the type of column `x`", "one of: text"),
    ("misspelt type", [put("records.customer.columns.x", "interger")], BadValue, "records.customer.columns.x",
     'unknown type "interger" of column `x`', 'did you mean "integer"?'),
    ("type of a database", [put("records.customer.columns.x", "varchar(9)")], BadValue, "records.customer.columns.x",
     "unknown type", "one of: text"),
    ("bare decimal", [put("records.customer.columns.x", "decimal")], BadValue, "records.customer.columns.x",
     "unknown type", "decimal(15,2)"),
    ("decimal of one number", [put("records.customer.columns.x", "decimal(5)")], BadValue,
     "records.customer.columns.x", "unknown type", "decimal(15,2)"),
    ("precision", [put("records.customer.columns.x", "decimal(66,2)")], BadValue, "records.customer.columns.x",
     "no database can hold", "from 1 to 65"),
    ("precision of none", [put("records.customer.columns.x", "decimal(0,0)")], BadValue, "records.customer.columns.x",
     "no database can hold", ""),
    ("scale above precision", [put("records.customer.columns.x", "decimal(2,3)")], BadValue,
     "records.customer.columns.x", "no database can hold", ""),
    ("scale", [put("records.customer.columns.x", "decimal(65,31)")], BadValue, "records.customer.columns.x",
     "no database can hold", "at most 30"),
    ("columns of numbers", [put("records.a", {"columns": [5]})], BadValue, "records.a.columns", "a list of names", ""),
    ("long column", [put("records.customer.columns", {"id": "text", "x" * 129: "text"})], BadValue,
     f"records.customer.columns.{'x' * 129}", "over 128 characters", ""),
    ("unprintable column", [put("records.customer.columns", {"id": "text", "a\nb": "text"})], BadValue,
     "records.customer.columns.a\nb", "not printable", ""),
    ("nameless column", [put("records.customer.columns", {"id": "text", "": "text"})], BadValue,
     "records.customer.columns.", "column name", ""),
    ("columns that are one to SuiteQL", [put("records.customer.columns.ID", "text")], BadValue,
     "records.customer.columns.ID", "the columns `id` and `ID` in [records.customer] meet", "keep one"),
    ("key that is no column", [put("records.customer.key", "idd")], BadValue, "records.customer.key",
     "`key` in [records.customer] names `idd`, which", "did you mean `id`?"),
    ("one of the keys no column", [put("records.line.key", ["transaction", "nr"])], BadValue, "records.line.key",
     "names `nr`", "the columns are: uniquekey, transaction"),
    ("default key no column", [drop("records.line.key")], BadValue, "records.line.key", "`id` (the default)", ""),
    ("empty key", [put("records.customer.key", [])], BadValue, "records.customer.key", "a column or a list", ""),
    ("key as number", [put("records.customer.key", 5)], BadValue, "records.customer.key", "name or a list", ""),
    ("key twice", [put("records.customer.key", ["id", "id"])], BadValue, "records.customer.key", "`id` twice", "keep"),
    ("number among keys", [put("records.customer.key", ["id", 5])], BadValue, "records.customer.key", "name or", ""),
    ("nameless key", [put("records.customer.key", "")], BadValue, "records.customer.key", "name or a list", ""),
    ("keys twice", [put("records.line.key", ["uniquekey", "transaction", "uniquekey", "transaction"])], BadValue,
     "records.line.key", "`uniquekey` and `transaction` twice", "keep"),
    ("float as key", [put("records.customer.columns.id", "float")], BadValue, "records.customer.key", "is a float", ""),
    ("cursor no column", [put("records.customer.cursor", "lastmodified")], BadValue, "records.customer.cursor",
     "`cursor` in [records.customer] names `lastmodified`", "did you mean `lastmodifieddate`?"),
    ("cursor that is no time", [put("records.customer.cursor", "id")], BadValue, "records.customer.cursor",
     "is integer, not timestamp or date", 'id = "timestamp"'),
    ("parent key no column", [put("records.line.parent_key", "transactio")], BadValue, "records.line.parent_key",
     "`parent_key` in [records.line] names `transactio`", "did you mean `transaction`?"),
    ("parent key alone", [drop("records.line.derived_from")], BadRecords, "records.line.parent_key",
     "stands without `derived_from`", "`derived_from`"),
    ("no parent key", [drop("records.line.parent_key")], MissingKey, "records.line.parent_key",
     "`parent_key` is missing in [records.line]", "the key of `salesorder`"),
    ("unknown parent", [put("records.line.derived_from", "salesordr")], BadRecords, "records.line.derived_from",
     "names `salesordr`, which is no record", "did you mean `salesorder`?"),
    ("own parent", [put("records.line.derived_from", "line")], BadRecords, "records.line.derived_from",
     "`line` is derived from itself", ""),
    ("circle of parents", [put("records.salesorder.derived_from", "line"), put("records.salesorder.parent_key", "id")],
     BadRecords, "records.salesorder.derived_from", "in a circle: salesorder -> line -> salesorder", "a main record"),
    ("depends_on as text", [put("records.salesorder.depends_on", "customer")], BadValue,
     "records.salesorder.depends_on", "must be a list of names", 'depends_on = ["customer"]'),
    ("unknown dependency", [put("records.salesorder.depends_on", ["custmer"])], BadRecords,
     "records.salesorder.depends_on", "names `custmer`, which is no record", "did you mean `customer`?"),
    ("own dependency", [put("records.customer.depends_on", ["customer"])], BadRecords, "records.customer.depends_on",
     "`customer` depends on itself", "leave it out"),
    ("derived record's own dependency", [put("records.line.depends_on", ["line"])], BadRecords,
     "records.line.depends_on", "`line` depends on itself", "leave it out"),
    ("dependency on a derived record", [put("records.customer.depends_on", ["line"])], BadRecords,
     "records.customer.depends_on", "depends on `line`, which is derived", "depend on `salesorder`"),
    ("circle of dependencies", [put("records.customer.depends_on", ["salesorder"])], BadRecords,
     "records.customer.depends_on", "in a circle: customer -> salesorder -> customer", "take one of them out"),
    ("circle through a derived record",
     [put("records.salesorder.depends_on", []), put("records.line.depends_on", ["customer"]),
      put("records.customer.depends_on", ["salesorder"])], BadRecords, "records.customer.depends_on",
     "customer -> salesorder -> customer (through the derived `line`)", "take one of them out"),
    ("one destination", [put("records.customer.table_name", "salesorder")], BadRecords, "records.salesorder.table_name",
     "`customer` and `salesorder` have one destination table, `salesorder`", "another `table_name`"),
    ("one destination but for case", [put("records.customer.table_name", "SalesOrder")], BadRecords,
     "records.salesorder.table_name", "have one destination table", "another `table_name`"),
    ("destination of ours", [put("records.customer.table_name", "wave_batches")], BadRecords,
     "records.customer.table_name", "`wave_batches` of record `customer` is reserved", "prefix"),
    ("destination of ours by prefix",
     [put("destination.prefix", "import_"), put("records.customer.table_name", "jobs")], BadRecords,
     "records.customer.table_name", "`import_jobs` of record `customer` is reserved", "prefix"),
    ("destination of SQLite", [put("records.customer.table_name", "sqlite_x")], BadRecords,
     "records.customer.table_name", "is reserved", ""),
    ("destination of a swap", [put("records.customer.table_name", "customer__new_0a1b2c3d")], BadRecords,
     "records.customer.table_name", "is named as one of a swap", "another `table_name`"),
    ("way to refresh", [put("records.customer.refresh", "swop")], BadValue, "records.customer.refresh",
     "`refresh` in [records.customer] must be one of in_place, swap", "did you mean `swap`?"),
    ("way of a derived record", [put("records.line.refresh", "swap")], BadRecords, "records.line.refresh",
     "must be \"in_place\" as in [records.salesorder], not \"swap\"", "set it in [records.salesorder]"),
    ("swap that forgets", [put("records.customer.refresh", "swap"), put("records.customer.deletes", "soft")],
     BadRecords, "records.customer.deletes", "must be \"hard\" beside refresh = \"swap\"", "in_place"),
    ("swap that forgets below", [put("records.salesorder.refresh", "swap"), put("records.line.deletes", "ignore")],
     BadRecords, "records.line.deletes", "must be \"hard\" beside refresh = \"swap\"", "in_place"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("edits", "error", "where", "sentence", "mend"), [row[1:] for row in MISTAKES], ids=[row[0] for row in MISTAKES]
)
def test_a_mistake_is_named_with_place_and_mend(
    edits: list[Edit], error: type[ConfigError], where: str, sentence: str, mend: str
) -> None:
    found = mistakes_of(good(*edits))
    assert [(type(one), one.where) for one in found] == [(error, where)]
    assert sentence in found[0].message
    assert found[0].help, "a mistake without a mend"
    assert mend in found[0].help


def test_a_derived_record_is_refreshed_as_its_main_record_is() -> None:
    settings = parse_settings(good(put("records.salesorder.refresh", "swap")))
    assert [record.name for record in settings.records if record.refresh is Refresh.SWAP] == ["salesorder", "line"]
    assert parse_settings(good(put("records.salesorder.refresh", "swap"), put("records.line.refresh", "swap")))


def test_all_mistakes_are_told_at_once() -> None:
    edits = [edit for name, edits, *_ in MISTAKES[:3] for edit in edits]
    more = [put("run.workers", 0), drop("netsuite.token_id"), drop("records.customer.columns")]
    found = mistakes_of(good(*edits, *more))
    assert {error.where for error in found} == {
        "profil", "run.page_sise", "netsuite.page_sise", "run.workers", "netsuite.token_id", "records.customer.columns",
    }  # fmt: skip


def test_every_circle_is_named() -> None:
    def table(*depends_on: str) -> Document:
        return {"columns": ["id"], "depends_on": list(depends_on)}

    records = {"a": table("b"), "b": table("a", "c"), "c": table("d"), "d": table("c"), "e": table("a")}
    found = mistakes_of(good(put("records", records)))
    assert sorted(error.message.rpartition(": ")[2] for error in found) == ["a -> b -> a", "c -> d -> c"]


def test_a_refused_address_is_not_shown_for_it_may_hold_a_password() -> None:
    (error,) = mistakes_of(good(put("netsuite.base_url", "http://example.com")))
    assert error.message == "`base_url` in [netsuite] must be https"


def test_a_record_that_hangs_on_a_circle_of_parents_is_no_second_mistake() -> None:
    def table(parent: str) -> Document:
        return {"columns": ["id"], "derived_from": parent, "parent_key": "id"}

    found = mistakes_of(good(put("records", {"hanging": table("a"), "a": table("b"), "b": table("a")})))
    assert [error.message.rpartition(": ")[2] for error in found] == ["a -> b -> a"]


def test_the_place_is_what_locate_makes_of_the_key_path() -> None:
    with pytest.raises(UnknownKey) as caught:
        parse_settings(good(put("run.page_sise", 1)), lambda path: f"file:{len(path)}/{path[-1]}")
    assert caught.value.where == "file:2/page_sise"


def test_a_destination_takes_a_password_beside_its_url_and_an_empty_prefix() -> None:
    destination = {"url": "mysql://u@h/d", "password": "x", "prefix": ""}
    assert parse_settings(good(put("destination", destination))).prefix == ""


def test_a_single_mistake_comes_as_itself() -> None:
    with pytest.raises(UnknownKey):
        parse_settings(good(put("profil", "x")))


@pytest.mark.parametrize("host", ["127.0.0.1:8765", "localhost", "[::1]:80"])
def test_plain_http_is_allowed_to_this_machine(host: str) -> None:
    assert parse_settings(good(put("netsuite.base_url", f"http://{host}"))).netsuite.base_url == f"http://{host}"


def test_a_text_with_a_placeholder_is_not_judged_yet() -> None:
    settings: Settings = parse_settings(good(put("netsuite.account", "${A}"), put("netsuite.base_url", "${B}")))
    assert (settings.netsuite.account, settings.netsuite.base_url) == ("${A}", "${B}")


CANARY = "canary-7f3a"


@pytest.mark.parametrize("edits", [
    [put("netsuite.consumer_key", CANARY), put("netsuite.consumer_key_file", "f")],
    [put("netsuite.consumer_key", f"{CANARY}\x00")],
    [put("netsuite.consumer_key", [CANARY])],
    [put("netsuite.consumer_kee", CANARY)],
    [put("netsuite.base_url", f"https://u:{CANARY}@example.com")],
    [put("netsuite.base_url", f"ftp://u:{CANARY}@example.com")],
    [put("netsuite.base_url", f"http://u:{CANARY}@[bad")],
    [put("database.url", f"mysql://u:{CANARY}\x00@h/d")],
    [put("database.url", {"password": CANARY})],
    [put("database.password", f"{CANARY}\x00")],
    [put("database.password", CANARY), put("database.password_file", "f")],
    [put("destination.password", CANARY)],
])  # fmt: skip
def test_a_secret_is_in_no_message(edits: list[Edit]) -> None:
    for error in mistakes_of(good(*edits)):
        assert CANARY not in error.render()


def test_a_secret_is_in_no_repr() -> None:
    settings = parse_settings(good(put("database.url", f"mysql://u:{CANARY}@h/d"), put("netsuite.token_id", CANARY)))
    assert CANARY not in repr(settings)


def test_without_records_whatever_is_written_of_them_is_passed_over() -> None:
    for edit in (
        drop("records"),
        put("records", {}),
        put("records.customer", {"colums": 5}),
        put("records", "rubbish"),
    ):
        assert parse_settings(good(edit), with_records=False).records == ()
