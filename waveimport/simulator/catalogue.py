"""The metadata catalogue: the account's REST records and their fields, as JSON Schema, derived from its tables.

REST records are not SuiteQL's tables: their fields are in camel case (their names too, but the list has them in lower
case, and any case finds them), a transaction is a record of its type
(`salesOrder`), an item one of its kind (`inventoryItem`), lines are a sublist of their transaction, and some columns
of a table (`recordtype`, `foreigntotal`) are no field, as some fields (`total`) are no column.

Shapes: a field is `{"title", "type": "string" | "integer" | "number" | "boolean", "format"?, "nullable"?,
"x-ns-custom-field"?}`, a reference an object of `id`, `refName` and `links`, a sublist an object whose `items` is an
array of objects. `id` is a string. `x-ns-filterable` lists fields that can be filtered by.
Source: Oracle, "Getting Metadata" and "Working with JSON Schema Metadata", and bodies seen in live accounts.
"""

from typing import Any, Final

import msgspec

from waveimport.simulator.refusals import no_such_record
from waveimport.simulator.schema import TABLES, Column, Kind

PATH: Final = "/services/rest/record/v1/metadata-catalog"
SCHEMA: Final = "application/schema+json"
OPEN_API: Final = "application/swagger+json"

_TABLE_OF: Final = {
    "customer": "customer",
    "customrecord_measurement": "customrecord_measurement",
    "inventoryItem": "item",
    "invoice": "transaction",
    "journalEntry": "transaction",
    "salesOrder": "transaction",
    "subsidiary": "subsidiary",
    "vendor": "vendor",
    "vendorBill": "transaction",
}
"""The table that each record's fields are columns of."""

_CAMEL: Final = {
    name.lower(): name
    for name in (
        "companyName", "displayName", "dueDate", "entityId", "fullName", "isElimination", "isInactive", "itemId",
        "itemType", "lastModifiedDate", "lineSequenceNumber", "netAmount", "tranDate", "tranId",
    )
}  # fmt: skip
_NO_FIELDS: Final = frozenset(
    {"foreigntotal", "itemtype", "linelastmodifieddate", "mainline", "posting", "recordtype", "transaction", "type"}
)
"""Columns that SuiteQL has and no record shows."""


def listing(hidden: frozenset[str], origin: str) -> bytes:
    """Return the records that the role may see, with their links, as JSON. `origin` is the service's address."""
    items = [{"name": name, "links": _links(f"{origin}{PATH}/{name}")} for name in map(str.lower, _visible(hidden))]
    return msgspec.json.encode({"items": items})


def schema(record: str, hidden: frozenset[str]) -> bytes:
    """Return the JSON Schema of a record, by its name in any case. Raises Refusal where the role sees none."""
    name = next((one for one in _visible(hidden) if one.lower() == record.lower()), None)
    if name is None:
        raise no_such_record(record)
    fields = _fields(_TABLE_OF[name], hidden)
    filterable = sorted(field for field, one in fields.items() if one["type"] != "object")
    if _TABLE_OF[name] == "transaction":
        fields["total"] = {"title": "Total", "type": "number", "format": "double", "nullable": True}
        lines = {"type": "object", "properties": _fields("transactionline", hidden)}
        fields["item"] = {"type": "object", "properties": {"items": {"type": "array", "items": lines}}}
    return msgspec.json.encode(
        {
            "type": "object",
            "properties": {**fields, "links": {"title": "Links", "type": "array", "readOnly": True}},
            "$schema": "http://json-schema.org/draft-06/hyper-schema#",
            "x-ns-filterable": filterable,
        }
    )


def _visible(hidden: frozenset[str]) -> list[str]:
    return [name for name, table in _TABLE_OF.items() if table not in hidden]


def _fields(table: str, hidden: frozenset[str]) -> dict[str, dict[str, Any]]:
    return {
        _CAMEL.get(column.name, column.name): _field(column)
        for column in TABLES[table].columns
        if column.name not in _NO_FIELDS and f"{table}.{column.name}" not in hidden
    }


def _field(column: Column) -> dict[str, Any]:
    field: dict[str, Any] = {"title": column.name}
    if column.name == "id":
        field |= {"type": "string"}
    elif column.display:
        member = {"type": "string", "nullable": True}
        links = {"type": "array", "readOnly": True}
        field |= {"type": "object", "properties": {"id": member, "refName": member, "links": links}}
    else:
        field |= _type(column)
    if column.nullable:
        field["nullable"] = True
    if column.name.startswith("cust"):
        field["x-ns-custom-field"] = True
    if column.name in ("id", "lastmodifieddate"):
        field["readOnly"] = True
    return field


def _type(column: Column) -> dict[str, str]:
    match column.kind:
        case Kind.NUMBER if column.scale:
            return {"type": "number", "format": "double"}
        case Kind.NUMBER:
            return {"type": "integer", "format": "int64"}
        case Kind.FLAG:
            return {"type": "boolean"}
        case Kind.DATE:
            return {"type": "string", "format": "date"}
        case Kind.TIMESTAMP:
            return {"type": "string", "format": "date-time"}
        case _:
            return {"type": "string"}


def _links(href: str) -> list[dict[str, str]]:
    kinds = (("canonical", "application/json"), ("alternate", OPEN_API), ("alternate", SCHEMA))
    return [{"rel": relation, "href": href, "mediaType": media} for relation, media in kinds]
