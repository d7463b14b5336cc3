"""The metadata catalogue of the account, and what roles and accounts without a feature see."""

from collections.abc import Callable
from typing import Any

import pytest
import requests
from simulator_client import Ask, said, signed

from waveimport.simulator.catalogue import PATH, SCHEMA
from waveimport.simulator.handle import Simulator

Get = Callable[..., requests.Response]


@pytest.fixture
def get(simulator: Simulator) -> Get:
    """Get a page of the catalogue as a client does."""

    def ask(record: str = "", **headers: str) -> requests.Response:
        return requests.get(
            simulator.base_url + PATH + record,
            headers=headers or {"Accept": SCHEMA},
            auth=signed(simulator.credentials),
            timeout=30,
        )

    return ask


def names(response: requests.Response) -> list[str]:
    return [item["name"] for item in response.json()["items"]]


def fields(response: requests.Response) -> dict[str, Any]:
    assert response.status_code == 200
    assert response.headers["Content-Type"].startswith(SCHEMA)
    found: dict[str, Any] = response.json()["properties"]
    return found


def test_the_list_names_records_and_no_tables(get: Get, simulator: Simulator) -> None:
    listed = get()
    assert {"customer", "salesorder", "inventoryitem", "subsidiary"} <= set(names(listed))
    assert not {"transaction", "transactionline", "item"} & set(names(listed))
    assert {
        "rel": "alternate",
        "href": f"{simulator.base_url}{PATH}/customer",
        "mediaType": SCHEMA,
    } in listed.json()["items"][0]["links"]


def test_a_schema_tells_the_types_of_the_fields(get: Get) -> None:
    of = fields(get("/customer"))
    assert of["id"] == {"title": "id", "type": "string", "readOnly": True}
    assert of["balance"] == {"title": "balance", "type": "number", "format": "double"}
    assert of["isInactive"]["type"] == "boolean"
    assert of["lastModifiedDate"]["format"] == "date-time"
    assert of["email"] == {"title": "email", "type": "string", "nullable": True}
    assert of["custentity_custkey"] == {
        "title": "custentity_custkey",
        "type": "integer",
        "format": "int64",
        "nullable": True,
        "x-ns-custom-field": True,
    }
    assert set(of["subsidiary"]["properties"]) == {"id", "refName", "links"}
    assert of["links"]["type"] == "array"


def test_a_transaction_is_a_record_of_its_type_with_its_lines_as_a_sublist(get: Get) -> None:
    of = fields(get("/salesorder"))
    assert of["tranDate"]["format"] == "date"
    assert of["total"]["type"] == "number", "a field that is no column"
    assert not {"foreigntotal", "recordtype", "type"} & set(of)
    lines = of["item"]["properties"]["items"]["items"]["properties"]
    assert lines["custcol_shipdate"]["format"] == "date"


def test_a_record_that_is_not_there_is_not_found(get: Get) -> None:
    for name in ("/transactionline", "/nothing"):
        refused = get(name)
        assert (refused.status_code, said(refused)) == (404, f"Record type '{name[1:]}' does not exist.")


def test_another_form_than_the_json_schema_is_not_served(get: Get) -> None:
    for record in ("", "/customer"):
        assert get(record, Accept="application/swagger+json").status_code == 406


def test_the_catalogue_needs_a_login(simulator: Simulator) -> None:
    assert requests.get(simulator.base_url + PATH, timeout=30).status_code == 401


def test_a_role_without_the_catalogue_may_still_query(get: Get, ask: Ask, with_faults: Callable[..., None]) -> None:
    with_faults(catalogue=False)
    for record in ("", "/customer"):
        refused = get(record)
        assert refused.status_code == 403
        assert refused.json()["o:errorDetails"][0]["o:errorCode"] == "INSUFFICIENT_PERMISSION"
    assert ask("SELECT id FROM customer").status_code == 200


def test_a_role_without_suiteql_is_refused_every_query(get: Get, ask: Ask, with_faults: Callable[..., None]) -> None:
    with_faults(suiteql=False)
    refused = ask("SELECT 1 AS n FROM dual")
    assert (refused.status_code, said(refused)) == (
        400,
        "Your current role does not have permission to perform this action.",
    )
    assert refused.json()["o:errorDetails"][0]["o:errorCode"] == "USER_ERROR"
    assert get().status_code == 200


def test_what_is_hidden_from_the_role_is_not_in_its_catalogue(
    get: Get, ask: Ask, with_faults: Callable[..., None]
) -> None:
    with_faults(hidden_tables=("vendor",), hidden_columns=("customer.email",))
    assert "vendor" not in names(get())
    assert get("/vendor").status_code == 404
    assert "email" not in fields(get("/customer"))
    assert said(ask("SELECT id FROM vendor")).endswith("Record 'vendor' was not found.")


def test_an_account_that_is_not_one_world_has_no_subsidiaries(
    get: Get, ask: Ask, with_faults: Callable[..., None]
) -> None:
    with_faults(one_world=False)
    assert "subsidiary" not in names(get())
    assert "subsidiary" not in fields(get("/customer"))
    assert said(ask("SELECT id FROM subsidiary")).endswith("Record 'subsidiary' was not found.")
    assert "Unknown identifier 'subsidiary'" in said(ask("SELECT subsidiary FROM transactionline"))
    assert "subsidiary" not in ask("SELECT * FROM customer WHERE id = 1002").json()["items"][0]
