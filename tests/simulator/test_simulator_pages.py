"""Pages over HTTP: envelope, limits, links, the cap, and a whole table read both ways against the file."""

import datetime
import socket
from pathlib import Path

import pytest
import requests
from simulator_client import Ask, asking, said, signed

from waveimport.simulator.dataset import ground_truth
from waveimport.simulator.faults import CapMode, Faults
from waveimport.simulator.handle import Simulator
from waveimport.simulator.schema import TABLES, Kind
from waveimport.simulator.server import SUITEQL_PATH


def test_a_page_has_the_envelope_of_the_service(simulator: Simulator, ask: Ask) -> None:
    page = ask("SELECT ID, Parent, Name AS Called FROM Subsidiary ORDER BY id", limit=5, offset=5).json()
    url = simulator.base_url + SUITEQL_PATH
    assert page == {
        "links": [
            {"rel": "next", "href": f"{url}?limit=5&offset=10"},
            {"rel": "last", "href": f"{url}?limit=5&offset=30"},
            {"rel": "first", "href": f"{url}?limit=5&offset=0"},
            {"rel": "prev", "href": f"{url}?limit=5&offset=0"},
            {"rel": "self", "href": f"{url}?limit=5&offset=5"},
        ],
        "count": 5,
        "hasMore": True,
        "items": [
            {"links": [], "id": "5", "called": "MIDDLE EAST"},
            {"links": [], "id": "11", "parent": "1", "called": "ALGERIA"},
            {"links": [], "id": "12", "parent": "2", "called": "ARGENTINA"},
            {"links": [], "id": "13", "parent": "2", "called": "BRAZIL"},
            {"links": [], "id": "14", "parent": "2", "called": "CANADA"},
        ],
        "offset": 5,
        "totalResults": 31,
    }


def test_a_page_that_is_all_links_to_itself_only(ask: Ask) -> None:
    page = ask("SELECT id FROM subsidiary WHERE id < 0").json()
    assert [link["rel"] for link in page["links"]] == ["self"]
    assert (page["count"], page["hasMore"], page["totalResults"]) == (1, False, 1)


def test_an_empty_result_is_an_empty_page(ask: Ask) -> None:
    page = ask("SELECT id FROM subsidiary WHERE id = 99999").json()
    assert (page["items"], page["count"], page["hasMore"], page["totalResults"]) == ([], 0, False, 0)


def test_a_full_last_page_has_no_more(ask: Ask) -> None:
    page = ask("SELECT id FROM subsidiary ORDER BY id", limit=31).json()
    assert (page["count"], page["hasMore"], page["totalResults"]) == (31, False, 31)


def test_values_are_strings_flags_letters_and_nulls_left_out(ask: Ask) -> None:
    query = "SELECT id, balance, isinactive, email, companyname FROM customer WHERE id IN (1004, 1006, 1008)"
    items = sorted(ask(query).json()["items"], key=lambda item: item["id"])
    assert items[1] == {
        "links": [],
        "id": "1006",
        "balance": "7498.12",
        "isinactive": "F",
        "companyname": "Café Noël 3",
    }
    assert "email" in items[0]
    assert ask("SELECT COUNT(*) FROM subsidiary").json()["items"] == [{"links": [], "expr1": "31"}]


def test_text_with_quotes_backslashes_and_null_members_arrives_as_it_is(account: Path) -> None:
    with Simulator(data=account, scale=0.01) as running, requests.Session() as session:
        items = asking(running, session)("SELECT companyname FROM customer ORDER BY id").json()["items"]
    names = {name for (name,) in ground_truth(account, "customer", ["companyname"])}
    assert {item["companyname"] for item in items} <= names
    assert any('"' in name for name in names)
    assert any("\\" in name for name in names)


@pytest.mark.parametrize("limit", [0, -1, 1001, "ten", ""])
def test_a_limit_out_of_bounds_is_refused(ask: Ask, limit: object) -> None:
    refused = ask("SELECT id FROM subsidiary", limit=limit)
    assert refused.status_code == 400
    assert refused.json()["o:errorDetails"][0]["o:errorQueryParam"] == "limit"


@pytest.mark.parametrize("offset", [5, -10, "ten"])
def test_an_offset_that_limit_does_not_divide_is_refused(ask: Ask, offset: object) -> None:
    refused = ask("SELECT id FROM subsidiary", limit=10, offset=offset)
    assert refused.status_code == 400
    assert refused.json()["o:errorDetails"][0]["o:errorQueryParam"] == "offset"


def test_a_request_without_prefer_is_refused(ask: Ask) -> None:
    refused = ask("SELECT id FROM subsidiary", headers={})
    assert refused.status_code == 400
    assert refused.json()["o:errorDetails"][0]["o:errorCode"] == "INVALID_HEADER"


def test_another_path_or_method_is_refused(simulator: Simulator) -> None:
    options = {"auth": signed(simulator.credentials), "headers": {"Prefer": "transient"}, "timeout": 30}
    assert requests.post(f"{simulator.base_url}/services/rest", **options).status_code == 404
    assert requests.get(simulator.base_url + SUITEQL_PATH, **options).status_code == 405


def test_a_body_without_a_query_is_refused(ask: Ask) -> None:
    assert ask("", json={"query": "SELECT 1"}).status_code == 400
    assert ask("", json=None, data=b"\xff not json").status_code == 400


def test_bound_params_stand_for_question_marks(ask: Ask) -> None:
    body = {"q": "SELECT id FROM item WHERE id BETWEEN ? AND ? ORDER BY id", "params": ["-7", "0"]}
    items = ask("", json=body).json()["items"]
    assert [item["id"] for item in items] == ["-7", "-6", "-5", "-4", "-3", "-2", "-1", "0"]
    assert ask("", json={**body, "params": ["-7"]}).status_code == 400
    assert ask("", json={**body, "params": ["-7", "0", "1"]}).status_code == 400


def test_the_reply_carries_the_time(ask: Ask) -> None:
    date = ask("SELECT id FROM subsidiary").headers["Date"]
    assert datetime.datetime.strptime(date, "%a, %d %b %Y %H:%M:%S GMT")


def exact_columns(table: str) -> tuple[list[str], str]:
    """Return the columns of a table, and the select list that asks for them without loss."""
    shown = {
        Kind.DATE: "TO_CHAR(t.{0},'YYYY-MM-DD') AS {0}",
        Kind.TIMESTAMP: "TO_CHAR(SYS_EXTRACT_UTC(t.{0}),'YYYY-MM-DD HH24:MI:SS') AS {0}",
    }
    columns = TABLES[table].columns[:100]  # more of them give no rows
    return [c.name for c in columns], ", ".join(shown.get(c.kind, "t.{0}").format(c.name) for c in columns)


@pytest.mark.parametrize("table", [name for name, table in TABLES.items() if table.keys])
def test_following_links_to_the_end_gives_the_table_of_the_file(
    simulator: Simulator, ask: Ask, small_account: Path, table: str
) -> None:
    names, selected = exact_columns(table)
    order = ", ".join(f"t.{key}" for key in TABLES[table].keys[-1])
    query = f"SELECT {selected} FROM {table} t ORDER BY {order}"
    rows: list[tuple[str | None, ...]] = []
    offset = 0
    for _ in range(100):
        page = ask(query, offset=offset).json()
        rows += [tuple(item.get(name) for name in names) for item in page["items"]]
        links = {link["rel"]: link["href"] for link in page["links"]}
        if not page["hasMore"]:
            assert "next" not in links
            break
        offset = int(links["next"].rpartition("=")[2])
    assert page["totalResults"] == len(rows)
    assert rows == list(ground_truth(small_account, table, names))


def test_paging_by_keyset_gives_the_table_of_the_file(ask: Ask, small_account: Path) -> None:
    names, selected = exact_columns("transactionline")
    rows: list[tuple[str | None, ...]] = []
    last = (-1, -1)
    for _ in range(100):
        query = (
            f"SELECT {selected} FROM transactionline t WHERE t.transaction > {last[0]} "
            f"OR (t.transaction = {last[0]} AND t.id > {last[1]}) ORDER BY t.transaction, t.id"
        )
        page = ask(query).json()
        rows += [tuple(item.get(name) for name in names) for item in page["items"]]
        if not page["hasMore"]:
            break
        last = (int(page["items"][-1]["transaction"]), int(page["items"][-1]["id"]))
    assert rows == list(ground_truth(small_account, "transactionline", names))


def test_an_order_that_is_not_unique_differs_from_request_to_request(ask: Ask) -> None:
    for tail in ("", " ORDER BY lastmodifieddate"):
        query = f"SELECT id FROM transaction WHERE lastmodifieddate >= TO_DATE('1990-01-01','YYYY-MM-DD'){tail}"
        pages = [tuple(item["id"] for item in ask(query).json()["items"]) for _ in range(3)]
        assert len(set(pages)) == 3


def test_rows_that_rownum_takes_come_in_any_order_unless_they_were_ordered_before(ask: Ask) -> None:
    def pages(query: str) -> set[tuple[str, ...]]:
        return {tuple(item["id"] for item in ask(query).json()["items"]) for _ in range(3)}

    assert len(pages("SELECT id FROM transaction WHERE ROWNUM <= 50")) == 3
    assert len(pages("SELECT id FROM (SELECT id FROM transaction ORDER BY id) WHERE ROWNUM <= 50")) == 1


def test_an_order_that_is_unique_stays(ask: Ask) -> None:
    query = "SELECT transaction, id FROM transactionline ORDER BY transaction DESC, id"
    assert ask(query).json()["items"] == ask(query).json()["items"]


@pytest.mark.parametrize(
    ("mode", "at_the_cap", "beyond"),
    [
        (CapMode.STOP, (100, False), (200, 0)),
        (CapMode.EMPTY, (100, True), (200, 0)),
        (CapMode.ERROR, (100, False), 400),
    ],
)
def test_the_cap_ends_paging_before_the_rows_end(
    simulator: Simulator, ask: Ask, mode: CapMode, at_the_cap: tuple[int, bool], beyond: object
) -> None:
    simulator.set_faults(Faults(row_cap=300, cap_mode=mode))
    query = "SELECT id FROM transaction WHERE type = 'SalesOrd' ORDER BY id"
    last = ask(query, limit=100, offset=200).json()
    assert (last["count"], last["hasMore"]) == at_the_cap
    assert last["totalResults"] == 1500
    after = ask(query, limit=100, offset=300)
    assert (after.status_code if after.status_code != 200 else (200, after.json()["count"])) == beyond


def test_the_cap_cuts_the_page_it_falls_into(simulator: Simulator, ask: Ask) -> None:
    simulator.set_faults(Faults(row_cap=250))
    page = ask("SELECT id FROM transaction ORDER BY id", limit=100, offset=200).json()
    assert (page["count"], page["hasMore"]) == (50, False)


def test_the_log_tells_each_request(simulator: Simulator, ask: Ask) -> None:
    ask("SELECT id FROM subsidiary", limit=10, offset=20)
    ask("SELECT nothing FROM subsidiary")
    first, second = simulator.requests
    assert (first.number, first.query, first.limit, first.offset, first.status) == (
        1, "SELECT id FROM subsidiary", 10, 20, 200,
    )  # fmt: skip
    assert (second.number, second.status) == (2, 400)


def test_one_connection_serves_many_requests(simulator: Simulator) -> None:
    body = b'{"q": "x"}'
    request = b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with socket.create_connection(("127.0.0.1", int(simulator.base_url.rpartition(":")[2]))) as connection:
        for _ in range(3):
            connection.sendall(request)
            assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")


def test_the_account_is_gone_after_its_block(small_account: Path) -> None:
    with Simulator(data=small_account, scale=0.001) as running, requests.Session() as session:
        asking(running, session)("SELECT id FROM subsidiary")
        port = int(running.base_url.rpartition(":")[2])
        idle = socket.create_connection(("127.0.0.1", port), timeout=30)
        idle.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert idle.recv(65536)
    with idle:
        assert idle.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    assert small_account.exists()


def test_a_temporary_account_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with Simulator(scale=0.001) as running:
        assert running.data.exists()
        assert tmp_path in running.data.parents
    assert list(tmp_path.iterdir()) == []


def test_more_than_100_columns_give_no_rows_and_no_error(ask: Ask) -> None:
    names = [column.name for column in TABLES["customrecord_measurement"].columns]
    assert len(names) > 100

    def answer(selected: str) -> tuple[int, int, bool]:
        page = ask(f"SELECT {selected} FROM customrecord_measurement ORDER BY id").json()
        return len(page["items"]), page["totalResults"], page["hasMore"]

    assert answer(", ".join(names[:100])) == (1000, 1200, True)
    assert answer(", ".join(names[:101])) == (0, 0, False)
    assert answer("*") == (0, 0, False)


def test_refusals_name_the_offending_parameter_only(ask: Ask) -> None:
    refused = ask("SELECT id FROM subsidiary", limit=0)
    assert "between 1 and 1000" in said(refused)
