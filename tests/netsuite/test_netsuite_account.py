"""Client, queries and reader together against the simulated account: every record, row by row."""

import time
import tomllib
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from waveimport.core.records import Page, PageReader, parse_bounds
from waveimport.core.settings import NetSuiteSettings, RecordSettings, parse_settings
from waveimport.core.values import Value, convert
from waveimport.errors import LoginRefused, TableRefused
from waveimport.netsuite.client import SuiteQLClient
from waveimport.netsuite.suiteql import bounds_query, page_query
from waveimport.simulator.dataset import build, ground_truth
from waveimport.simulator.faults import Fault, FaultKind, Faults
from waveimport.simulator.handle import Simulator, records_toml

DOCUMENT = {
    "database": {"url": "sqlite://"},
    "netsuite": dict.fromkeys(("account", "consumer_key", "consumer_secret", "token_id", "token_secret"), "x"),
    "records": tomllib.loads(records_toml())["records"],
}
RECORDS = {record.name: record for record in parse_settings(DOCUMENT).records}


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("account") / "account.sqlite"
    build(path, 0.001)
    return path


@pytest.fixture(scope="module")
def simulator(account: Path) -> Iterator[Simulator]:
    with Simulator(data=account, scale=0.001) as running:
        yield running


@pytest.fixture(autouse=True)
def without_faults(simulator: Simulator) -> None:
    simulator.set_faults(Faults())


@pytest.fixture
def client(simulator: Simulator) -> Iterator[SuiteQLClient]:
    given = simulator.credentials
    settings = NetSuiteSettings(
        account=given.account,
        base_url=simulator.base_url,
        consumer_key=given.consumer_key,
        consumer_secret=given.consumer_secret,
        token_id=given.token_id,
        token_secret=given.token_secret,
    )
    with SuiteQLClient(
        settings, request_timeout_seconds=30.0, epoch_seconds=time.time, sleep=lambda _: None
    ) as running:
        yield running


def pages(
    client: SuiteQLClient, record: RecordSettings, page_rows: int, query: Callable[[tuple[Value, ...] | None], str]
) -> list[tuple[Value, ...]]:
    """Page by keyset to the end, as a batch does."""
    reader = PageReader(record)
    names = [column.name for column in record.columns]
    rows: list[tuple[Value, ...]] = []
    after: tuple[Value, ...] | None = None
    for _ in range(1000):
        page: Page = reader.read(client.query(query(after), limit=page_rows))
        rows += page.rows
        if not page.has_more:
            return rows
        after = tuple(page.rows[-1][names.index(name)] for name in record.key)
    raise AssertionError("paging does not end")


def truth(account: Path, record: RecordSettings) -> dict[Value, tuple[Value, ...]]:
    names = [column.name for column in record.columns]
    where = record.where or "1"
    if record.parent_key:
        where = '"transaction" IN (SELECT id FROM "transaction" WHERE type = \'SalesOrd\')'
    rows = ground_truth(account, record.table, names, where)
    typed = [tuple(map(convert, record.columns, row)) for row in rows]
    return {row[names.index(record.key[0])]: row for row in typed}


@pytest.mark.parametrize("name", [name for name, record in RECORDS.items() if not record.derived_from])
def test_a_main_record_arrives_whole_range_by_range(client: SuiteQLClient, account: Path, name: str) -> None:
    record = RECORDS[name]
    expected = truth(account, record)
    count, lowest, highest = parse_bounds(client.query(bounds_query(record)))
    assert (count, lowest, highest) == (len(expected), min(expected), max(expected))
    assert lowest is not None
    assert highest is not None
    cut = (lowest + highest) // 2
    rows: list[tuple[Value, ...]] = []
    for lower, upper in pairwise([None, lowest + 3, cut, None]):
        rows += pages(
            client, record, 100, lambda after, low=lower, up=upper: page_query(record, lower=low, upper=up, after=after)
        )
    assert rows == list(expected.values())


def test_the_lines_of_all_orders_arrive_by_their_parents(client: SuiteQLClient, account: Path) -> None:
    record = RECORDS["salesorderline"]
    orders = list(truth(account, RECORDS["salesorder"]))
    rows: list[tuple[Value, ...]] = []
    for start in range(0, len(orders), 500):
        some = [order for order in orders[start : start + 500] if isinstance(order, int)]
        rows += pages(client, record, 1000, lambda after, ids=some: page_query(record, parents=ids, after=after))
    assert sorted(rows) == sorted(truth(account, record).values())


def test_a_composite_key_pages_through_ties_of_its_first_column(client: SuiteQLClient, account: Path) -> None:
    lines = RECORDS["salesorderline"]
    record = RecordSettings("pair", lines.table, lines.columns, key=("transaction", "id"))
    rows = pages(client, record, 7, lambda after: page_query(record, lower=None, upper=300, after=after))
    names = [column.name for column in record.columns]
    keys = [(row[names.index("transaction")], row[names.index("id")]) for row in rows]
    listed = ground_truth(account, lines.table, ["transaction", "id"], '"transaction" <= 300')
    assert keys == sorted((int(order or 0), int(line or 0)) for order, line in listed)
    assert len({order for order, _ in keys}) < len(keys)


def test_a_text_and_a_timestamp_key_page_too(client: SuiteQLClient, account: Path) -> None:
    customer = RECORDS["customer"]
    for key in (("entityid",), ("lastmodifieddate", "id")):
        record = RecordSettings("other", customer.table, customer.columns, key=key)
        rows = pages(client, record, 20, lambda after, asked=record: page_query(asked, after=after))
        assert sorted(rows, key=repr) == sorted(truth(account, customer).values(), key=repr)


def test_a_hidden_table_and_a_misspelt_one_are_refused_alike(client: SuiteQLClient, simulator: Simulator) -> None:
    simulator.set_faults(Faults(hidden_tables=("customer",), hidden_columns=("vendor.balance",)))
    misspelt = RecordSettings("x", "nosuchtable", RECORDS["vendor"].columns)
    for record in (RECORDS["customer"], RECORDS["vendor"], misspelt):
        with pytest.raises(TableRefused, match="misspelt, or hidden"):
            client.query(page_query(record))


def test_an_account_with_another_secret_is_refused_by_two_requests(simulator: Simulator) -> None:
    given = simulator.credentials
    settings = NetSuiteSettings(
        account=given.account.lower(),
        base_url=simulator.base_url,
        consumer_key=given.consumer_key,
        consumer_secret="another",
        token_id=given.token_id,
        token_secret=given.token_secret,
    )
    with SuiteQLClient(settings, request_timeout_seconds=30.0, epoch_seconds=time.time) as stranger:
        for _ in range(3):
            with pytest.raises(LoginRefused):
                stranger.query("SELECT t.id FROM customer t")
        assert stranger.health.requests == 2


@pytest.mark.parametrize(
    "kind",
    [kind for kind in FaultKind if kind not in (FaultKind.REDIRECT, FaultKind.DRIP, FaultKind.DELAY, FaultKind.REVOKE)],
)
def test_a_record_arrives_whole_through_a_passing_fault(
    client: SuiteQLClient, simulator: Simulator, account: Path, kind: FaultKind
) -> None:
    record = RECORDS["item"]
    expected = list(truth(account, record).values())
    simulator.set_faults(Faults(fault=(Fault(kind=kind, matching="t.id > ", times=1),)))
    rows = pages(client, record, 50, lambda after: page_query(record, after=after))
    assert rows == expected
    assert client.health.requests == -(-len(expected) // 50) + 1
