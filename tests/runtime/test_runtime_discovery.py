"""Discovery against a scripted account: which queries it asks, and what it makes of answers that no simulator gives."""

import json
import re
from collections.abc import Callable
from typing import Any, cast

import pytest

from waveimport.errors import CatalogueRefused, LoginRefused, QueryRefused, ServerFault, SourceDown, TableRefused
from waveimport.netsuite.client import SuiteQLClient
from waveimport.runtime.discovery import Discovery


class ScriptedClient:
    """One table, `thing`, whose columns are `given`; `refuse` says what becomes of a query for others."""

    def __init__(self, given: set[str], refuse: Callable[[set[str]], Exception]) -> None:
        self.given = given
        self.refuse = refuse
        self.sample: list[dict[str, str]] = []
        self.schema: dict[str, Any] = {}
        self.asked: list[str] = []
        self.stopped = False

    def query(self, sql: str, *, limit: int = 1000, offset: int = 0) -> bytes:
        self.asked.append(sql)
        if " FROM thing " not in sql:
            raise TableRefused("Invalid search type")
        wanted = set(re.findall(r"\bt\.(\w+)", sql.partition(" FROM ")[0]))
        if not wanted <= self.given:
            raise self.refuse(wanted - self.given)
        items = [{"links": [], **row} for row in self.sample] if "SELECT *" in sql else []
        return json.dumps({"items": items, "hasMore": False, "count": len(items)}).encode()

    def catalogue(self, record: str | None = None) -> bytes:
        if record is None:
            return json.dumps({"items": [{"name": "Thing"}]}).encode()
        return json.dumps({"properties": self.schema}).encode()

    def stop(self) -> None:
        self.stopped = True


def discovery(client: ScriptedClient) -> Discovery:
    return Discovery(cast(SuiteQLClient, client), at_once=2)


def thing(client: ScriptedClient) -> dict[str, str]:
    found = discovery(client).records(["thing"])
    (record,) = found.records
    return dict(record.columns)


def by_name(unknown: set[str]) -> Exception:
    return TableRefused(f"Search error occurred: Unknown identifier 't.{min(unknown).upper()}'. Available are none.")


def nameless(unknown: set[str]) -> Exception:
    return QueryRefused("Search error occurred: Invalid or unsupported search.")


def within(unknown: set[str]) -> Exception:
    return ServerFault("NetSuite failed inside (500): An unexpected error occurred. Error ID: jrgb")


NAMES = [f"f{number:03d}" for number in range(150)]


@pytest.mark.parametrize("refuse", [by_name, nameless, within])
def test_columns_that_are_not_there_are_found_however_the_service_says_no(
    refuse: Callable[[set[str]], Exception],
) -> None:
    missing = {"f000", "f001", "f077", "f149"}
    client = ScriptedClient({"id", *NAMES} - missing, refuse)
    client.schema = {name.upper(): {"type": "string"} for name in NAMES}
    assert set(thing(client)) == {"id", *NAMES} - missing
    assert len(client.asked) < 60, "halving, not one by one"


def test_what_was_tried_is_not_tried_again() -> None:
    client = ScriptedClient({"id", *NAMES}, by_name)
    client.schema = {name: {"type": "string"} for name in [*NAMES, "gone"]}
    one = discovery(client)
    one.records(["thing"])
    before = len(client.asked)
    one.records(["thing"])
    assert len(client.asked) == before


def test_a_column_that_the_service_does_not_know_is_not_tried_as_another_type() -> None:
    client = ScriptedClient({"id"}, by_name)
    client.schema = {"gone": {"type": "string", "format": "date-time"}}
    assert thing(client) == {"id": "integer"}
    assert len([sql for sql in client.asked if "t.gone" in sql]) == 1


def test_the_key_of_a_table_without_id_is_its_unique_key() -> None:
    client = ScriptedClient({"uniquekey", "memo"}, by_name)
    client.sample = [{"UniqueKey": "5", "memo": "x"}]
    (record,) = discovery(client).records(["thing"]).records
    assert record.key == ("uniquekey",)
    assert dict(record.columns) == {"uniquekey": "integer", "memo": "text"}


def test_an_id_that_is_no_number_is_taken_as_text() -> None:
    client = ScriptedClient({"id"}, by_name)
    client.sample = [{"id": "5"}, {"id": "A-7"}]
    assert thing(client) == {"id": "text"}


@pytest.mark.parametrize("body", [b"", b"[]", b'{"items": 5}'])
def test_a_catalogue_that_answers_rubbish_is_a_remark(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    client = ScriptedClient({"id", "memo"}, by_name)
    client.sample = [{"id": "5", "memo": "x"}]
    monkeypatch.setattr(client, "catalogue", lambda record=None: body)
    found = discovery(client).records(["thing"])
    assert dict(found.records[0].columns) == {"id": "integer", "memo": "text"}
    assert "the metadata catalogue is not to be had" in found.remarks[0]


def test_a_record_that_the_catalogue_lists_and_does_not_show_is_a_remark(monkeypatch: pytest.MonkeyPatch) -> None:
    client = ScriptedClient({"id"}, by_name)
    listing = client.catalogue()

    def catalogue(record: str | None = None) -> bytes:
        if record is None:
            return listing
        raise CatalogueRefused("no right to it")

    monkeypatch.setattr(client, "catalogue", catalogue)
    found = discovery(client).records(["thing"])
    assert [record.name for record in found.records] == ["thing"]
    assert found.remarks == ("the metadata catalogue does not describe Thing: no right to it",)


@pytest.mark.parametrize("error", [LoginRefused("no"), SourceDown("gone")])
def test_an_error_that_speaks_for_all_ends_all(error: Exception) -> None:
    client = ScriptedClient({"id"}, lambda unknown: error)
    client.schema = {"other": {"type": "string"}}
    with pytest.raises(type(error)):
        discovery(client).records(["thing"])
    assert client.stopped


def test_names_of_the_service_that_no_configuration_takes_are_passed_over() -> None:
    client = ScriptedClient({"id"}, by_name)
    client.schema = {'a"b': {"type": "string"}, "": {"type": "string"}, "x\n[y]": {"type": "string"}}
    client.sample = [{"id": "5", 'a"b': "1", "a b": "2", "x\n[y]": "3", "links": "4"}]
    assert thing(client) == {"id": "integer"}
