"""The metadata catalogue's JSON into candidates for columns."""

import json

import pytest

from waveimport.core.catalogue import EXACT_NUMBER, Field, parse_listing, parse_schema
from waveimport.errors import BadReply

REFERENCE = {"type": "object", "properties": {"id": {}, "refName": {}, "links": {}}}
SUBLIST = {
    "type": "object",
    "properties": {
        "items": {"type": "array", "items": {"type": "object", "properties": {"custcol_size": {"type": "integer"}}}}
    },
}


def schema(**properties: object) -> bytes:
    return json.dumps({"type": "object", "properties": properties}).encode()


def test_the_list_gives_each_name_once() -> None:
    items = [{"name": "customer", "links": []}, {"name": "customer"}, {"name": "a b"}, {"name": 5}, "x", {}]
    assert parse_listing(json.dumps({"items": items}).encode()) == ("customer",)


@pytest.mark.parametrize(
    ("described", "type_text"),
    [
        ({"type": "string"}, "text"),
        ({"type": "string", "format": "date"}, "date"),
        ({"type": "string", "format": "date-time"}, "timestamp"),
        ({"type": "string", "format": "email"}, "text"),
        ({"type": "boolean"}, "boolean"),
        ({"type": "integer", "format": "int64"}, "integer"),
        ({"type": "number", "format": "double"}, EXACT_NUMBER),
        ({"type": "number"}, EXACT_NUMBER),
        ({"type": "number", "format": "float"}, "float"),
    ],
)
def test_a_type_of_the_catalogue_becomes_one_of_ours(described: dict[str, str], type_text: str) -> None:
    assert parse_schema(schema(camelCase=described)) == (Field("camelcase", type_text),)


@pytest.mark.parametrize("described", [REFERENCE, {"$ref": "/services/rest/record/v1/metadata-catalog/nsLink"}])
def test_a_reference_is_text_since_not_every_id_is_a_number(described: object) -> None:
    assert parse_schema(schema(terms=described)) == (Field("terms", "text", reference=True),)


def test_an_id_is_an_integer_though_the_catalogue_says_string() -> None:
    assert parse_schema(schema(id={"type": "string"})) == (Field("id", "integer"),)


def test_sublists_subrecords_links_and_what_is_unknown_are_no_columns() -> None:
    body = schema(
        item=SUBLIST,
        address={"type": "object", "properties": {"city": {"type": "string"}}},
        subrecord={"$ref": "/services/rest/record/v1/metadata-catalog/customer-addressBook"},
        links={"type": "array"},
        odd={"type": ["string", "null"]},
        none=None,
        **{"a b": {"type": "string"}},
    )
    assert parse_schema(body) == ()


def test_the_lines_of_all_sublists_are_told_apart_from_the_record() -> None:
    assert parse_schema(schema(item=SUBLIST, memo={"type": "string"}), sublists=True) == (
        Field("custcol_size", "integer"),
    )


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b'{"items": 1, "properties": []}', b"[" * 100_000])
def test_what_is_no_catalogue_is_a_bad_reply(body: bytes) -> None:
    for parse in (parse_listing, parse_schema):
        with pytest.raises(BadReply, match="metadata catalogue"):
            parse(body)
