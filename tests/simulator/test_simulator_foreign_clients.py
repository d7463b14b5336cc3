"""Clients of NetSuite that others wrote, from PyPI, with the simulated account as their service.

Only the address is put in their way, which each of them builds from the account's id; what they send, how they sign it
and what they make of the reply is theirs. They differ: `netsuite` is asynchronous, signs by authlib over httpx, hashes
the body, and asks for ten rows unless told otherwise; `restsuite` follows the links of the pages, by POST;
`NetSuite-Connector` writes its headers in lower case and gives neither limit nor offset.
"""

import asyncio
import importlib
import json
from collections.abc import Coroutine
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import restsuite
from NetSuite_Connector.ODBC import ODBC

from waveimport.simulator.auth import Credentials
from waveimport.simulator.dataset import ground_truth
from waveimport.simulator.faults import Fault, FaultKind, Faults
from waveimport.simulator.handle import Simulator
from waveimport.simulator.server import SUITEQL_PATH

QUERY = "SELECT ID, email, companyname FROM customer WHERE id IN (1004, 1006, 1010) ORDER BY id"
ANSWER = [
    {"links": [], "id": "1004", "email": "kontakt2@example.com", "companyname": "Łódź Tkaniny 2"},
    {"links": [], "id": "1006", "companyname": "Café Noël 3"},
    {"links": [], "id": "1010", "email": "kontakt5@example.com", "companyname": 'O\'Neil "Bold" Supplies 5'},
]
WRONG = "SELECT nothing FROM customer"
UNKNOWN = "Unknown identifier 'nothing'. Available identifiers are: {customer=customer}."
LINES = "SELECT uniquekey FROM transactionline ORDER BY uniquekey"


def keys_of_lines(account: Path) -> list[str | None]:
    return [key for (key,) in ground_truth(account, "transactionline", ["uniquekey"])]


# --- netsuite ---------------------------------------------------------------------------------------------------


class Netsuite:
    """The package `netsuite`, as it is called from a program that is not asynchronous."""

    def __init__(self, simulator: Simulator, credentials: Credentials) -> None:
        # Its package alone would be found without it: as the folder of tests of that name.
        exceptions = pytest.importorskip("netsuite.exceptions", reason="of the extra `foreign`: it wants oauthlib < 4")
        package = importlib.import_module("netsuite")
        self.refused = exceptions.NetsuiteAPIRequestError
        auth = package.TokenAuth(
            consumer_key=credentials.consumer_key,
            consumer_secret=credentials.consumer_secret,
            token_id=credentials.token_id,
            token_secret=credentials.token_secret,
        )
        self.api = package.NetSuite(package.Config(account=credentials.account, auth=auth)).rest_api
        self.api._make_url = lambda path: f"{simulator.base_url}/services/rest{path}"

    def ask(self, call: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(call)

    def query(self, query: str, **page: int) -> Any:
        return self.ask(self.api.suiteql(query, **page))


@pytest.fixture
def netsuite(simulator: Simulator) -> Netsuite:
    return Netsuite(simulator, simulator.credentials)


def test_netsuite_gets_the_rows_of_a_query(netsuite: Netsuite, simulator: Simulator) -> None:
    page = netsuite.query(QUERY)
    assert (page["items"], page["hasMore"], page["totalResults"]) == (ANSWER, False, 3)
    (request,) = simulator.requests
    assert (request.limit, request.offset) == (10, 0), "its own default"


def test_netsuite_pages_by_offset_to_the_end(netsuite: Netsuite, small_account: Path) -> None:
    keys: list[str] = []
    for _ in range(20):
        page = netsuite.query(LINES, limit=1000, offset=len(keys))
        keys += [item["uniquekey"] for item in page["items"]]
        if not page["hasMore"]:
            break
    assert keys == keys_of_lines(small_account)


def test_netsuite_raises_what_the_service_says(netsuite: Netsuite, simulator: Simulator) -> None:
    with pytest.raises(netsuite.refused, match="Unknown identifier 'nothing'") as caught:
        netsuite.query(WRONG)
    assert caught.value.status_code == 400
    stranger = Netsuite(simulator, replace(simulator.credentials, token_secret="0" * 64))
    with pytest.raises(netsuite.refused, match="INVALID_LOGIN"):
        stranger.query(QUERY)
    simulator.set_faults(Faults(fault=(Fault(FaultKind.RATE_LIMIT),)))
    with pytest.raises(netsuite.refused, match="CONCURRENCY_LIMIT_EXCEEDED"):
        netsuite.query(QUERY)


def test_netsuite_reads_the_catalogue(netsuite: Netsuite) -> None:
    schema = netsuite.ask(netsuite.api.jsonschema("salesOrder"))
    assert schema["properties"]["tranDate"]["format"] == "date"
    listed = netsuite.ask(netsuite.api.get("/record/v1/metadata-catalog"))
    assert "salesorder" in [item["name"] for item in listed["items"]]


# --- restsuite --------------------------------------------------------------------------------------------------


def by_links(simulator: Simulator, **other: str) -> restsuite.NetSuiteQL:
    given = replace(simulator.credentials, **other)
    client = restsuite.NetSuiteQL(
        given.account, given.consumer_key, given.consumer_secret, given.token_id, given.token_secret
    )
    client.url = simulator.base_url + SUITEQL_PATH
    return client


def test_restsuite_gets_the_rows_of_a_query(simulator: Simulator) -> None:
    assert by_links(simulator).suiteql(QUERY) == ANSWER


def test_restsuite_follows_the_links_to_the_end(simulator: Simulator, small_account: Path) -> None:
    items = by_links(simulator).suiteql(LINES)
    assert [item["uniquekey"] for item in items] == keys_of_lines(small_account)
    assert [request.offset for request in simulator.requests] == list(range(0, len(items), 1000))


def test_restsuite_prints_what_the_service_says(simulator: Simulator, capsys: pytest.CaptureFixture[str]) -> None:
    assert by_links(simulator).suiteql(WRONG) == {}
    assert UNKNOWN in capsys.readouterr().out
    assert by_links(simulator, account="1234567_sb1").suiteql(QUERY) == {}
    assert "Invalid login attempt." in capsys.readouterr().out


# --- NetSuite-Connector -----------------------------------------------------------------------------------------


def connector(simulator: Simulator, **other: str) -> ODBC:
    given = replace(simulator.credentials, **other)
    client = ODBC(
        given.account,
        {"consumer_key": given.consumer_key, "consumer_secret": given.consumer_secret},
        {"token_key": given.token_id, "token_secret": given.token_secret},
    )
    client.suiteql_endpoint = simulator.base_url + SUITEQL_PATH
    return client


def test_the_connector_gets_the_rows_of_a_query(simulator: Simulator) -> None:
    reply = connector(simulator).query(QUERY)
    assert (reply.code, json.loads(reply.response)["items"]) == (200, ANSWER)
    (request,) = simulator.requests
    assert (request.limit, request.offset) == (1000, 0), "the service's own default"


def test_the_connector_pages_by_parameters(simulator: Simulator, small_account: Path) -> None:
    client = connector(simulator)
    keys: list[str] = []
    for _ in range(20):
        reply = client.post(
            url=client.suiteql_endpoint,
            headers={"prefer": "transient", "Content-Type": "application/json"},
            params={"limit": 1000, "offset": len(keys)},
            body={"q": LINES},
        )
        page = json.loads(reply.response)
        keys += [item["uniquekey"] for item in page["items"]]
        if not page["hasMore"]:
            break
    assert keys == keys_of_lines(small_account)


def test_the_connector_returns_what_the_service_says(simulator: Simulator) -> None:
    refused = connector(simulator).query(WRONG)
    assert refused.code == 400
    assert UNKNOWN in json.loads(refused.response)["o:errorDetails"][0]["detail"]
    assert connector(simulator, consumer_secret="0" * 64).query(QUERY).code == 401
