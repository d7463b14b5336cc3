"""What changes in the account while it is read, as a client sees it over HTTP, and what of it is noted where."""

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
import requests
from simulator_client import Ask, asking

from waveimport.errors import UsageError
from waveimport.simulator.changes import Changes
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator

AT = datetime(2026, 11, 1, 12, 30, 15, tzinfo=UTC)
ORDERS = "SELECT id, memo FROM transaction WHERE type = 'SalesOrd' ORDER BY id"
LINES = "SELECT uniquekey, transaction, id FROM transactionline ORDER BY uniquekey"
Serve = Callable[..., tuple[Simulator, Ask]]


@pytest.fixture
def serve(small_account: Path, tmp_path: Path) -> Iterator[Serve]:
    """Serve a copy of the small account that changes; return it and a way to ask it."""
    running: list[Simulator] = []

    with requests.Session() as session:

        def start(**plan: int) -> tuple[Simulator, Ask]:
            own = tmp_path / f"account-{len(running)}.sqlite"
            shutil.copy(small_account, own)
            simulator = Simulator(data=own, scale=0.001, faults=Faults(**plan), live=True)
            running.append(simulator.__enter__())
            return simulator, asking(simulator, session)

        yield start
        for simulator in running:
            simulator.__exit__(None, None, None)


def items(ask: Ask, query: str) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for offset in range(0, 10_000, 1000):
        page = ask(query, offset=offset).json()
        found += page["items"]
        if not page["hasMore"]:
            break
    return found


def seen(ask: Ask) -> list[object]:
    """Page through the orders by offset, as a client must not."""
    pages = [ask(ORDERS, limit=100, offset=offset).json() for offset in range(0, 1500, 100)]
    return [page["totalResults"] for page in pages] + [item for page in pages for item in page["items"]]


def test_rows_change_between_pages_the_same_for_the_same_seed(serve: Serve) -> None:
    _, still = serve()
    first, again, other = (seen(serve(changes_every=1, changes_seed=seed)[1]) for seed in (5, 5, 6))
    assert first == again
    assert first != other
    assert seen(still) not in (first, other)
    assert len({total for total in first[:15] if isinstance(total, int)}) > 1, "the total is counted anew for each page"


def test_a_change_bumps_its_record_to_the_second(serve: Serve) -> None:
    simulator, ask = serve()
    Changes(simulator.data, clock=lambda: AT).each_once()
    for table, column in (
        ("transaction", "lastmodifieddate"),
        ("customer", "lastmodifieddate"),
        ("transactionline", "linelastmodifieddate"),
        ("deletedrecord", "deleteddate"),
    ):
        latest = f"TO_CHAR(SYS_EXTRACT_UTC(MAX({column})), 'YYYY-MM-DD HH24:MI:SS')"
        assert items(ask, f"SELECT {latest} AS x FROM {table}")[0]["x"] == "2026-11-01 12:30:15", table


def test_a_deleted_record_is_logged_and_a_deleted_line_is_not(serve: Serve) -> None:
    simulator, ask = serve()
    before = {item["uniquekey"]: item for item in items(ask, LINES)}
    Changes(simulator.data, clock=lambda: AT).each_once()
    logged = items(ask, "SELECT * FROM deletedrecord ORDER BY recordtypeid")
    assert [(entry["type"], entry["recordtypeid"]) for entry in logged] == [("customer", "-2"), ("salesorder", "31")]
    assert set(logged[0]) == {
        "links", "name", "recordid", "recordtypeid", "type", "context", "deletedby", "deleteddate", "iscustomlist",
        "iscustomrecord", "iscustomtransaction",
    }  # fmt: skip
    gone = logged[1]["recordid"]
    after = {item["uniquekey"]: item for item in items(ask, LINES)}
    assert not any(line["transaction"] == gone for line in after.values())
    lost = [line for key, line in before.items() if key not in after and line["transaction"] != gone]
    added = [line for key, line in after.items() if key not in before]
    assert lost, "lines that went without a word"
    numbers = {(line["transaction"], line["id"]) for line in before.values()}
    assert all((line["transaction"], line["id"]) not in numbers for line in added), "a line added again is another line"


def test_the_log_of_deletions_comes_in_any_order(serve: Serve) -> None:
    simulator, ask = serve()
    Changes(simulator.data, clock=lambda: AT).round(200)
    for tail in ("", " ORDER BY deleteddate"):
        pages = {tuple(item["recordid"] for item in items(ask, f"SELECT recordid FROM deletedrecord{tail}"))
                 for _ in range(3)}  # fmt: skip
        assert len(pages) == 3


def test_an_account_that_is_served_as_it_is_does_not_change(small_account: Path) -> None:
    with Simulator(data=small_account, scale=0.001) as running, pytest.raises(UsageError, match="served as it is"):
        running.set_faults(Faults(changes_every=1))
