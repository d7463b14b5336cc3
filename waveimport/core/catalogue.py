"""NetSuite's metadata catalogue: its JSON into names of records, and the fields of one into columns of our types.

A catalogue's record is a REST record, not a SuiteQL table: its fields are candidates for columns, written in camel
case where SuiteQL takes any case. What the types of the catalogue become:

| catalogue | ours |
|---|---|
| boolean | boolean |
| integer | integer |
| number with format float | float |
| any other number | decimal(30,10): the catalogue does not tell the scale, and nothing may be rounded |
| string with format date, date-time | date, timestamp |
| any other string | text |
| a reference (an object with `id`, or a `$ref`) | text: it holds the other record's id, which is not always a number |
| a sublist, a subrecord, a list | nothing: they are no columns |

`id` is a string in the catalogue and an integer in SuiteQL. Source: Oracle, "Working with JSON Schema Metadata".
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from waveimport.errors import BadReply

EXACT_NUMBER: Final = "decimal(30,10)"
_PLAIN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
_REFERENCE: Final = re.compile(r"/nsLink$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Field:
    """A candidate for a column: `name` in lower case, `type` as the configuration writes it."""

    name: str
    type: str
    reference: bool = False


def parse_listing(body: bytes) -> tuple[str, ...]:
    """Return the names of the catalogue's records: `{"items": [{"name": "customer", …}, …]}`. Raises BadReply."""
    items = _object(body).get("items")
    if not isinstance(items, list):
        raise BadReply("the metadata catalogue lists no records under `items`")
    names = [item.get("name") for item in items if isinstance(item, dict)]
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str) and _PLAIN.fullmatch(name)))


def parse_schema(body: bytes, *, sublists: bool = False) -> tuple[Field, ...]:
    """Return the fields of one record's JSON Schema, or with `sublists` those of all its sublists' lines.

    Raises BadReply for what is no schema; members of another shape than documented are passed over.
    """
    properties = _object(body).get("properties")
    if not isinstance(properties, dict):
        raise BadReply("the metadata catalogue describes a record without `properties`")
    found: dict[str, Field] = {}
    for fields in _lines(properties) if sublists else [properties]:
        for name, value in fields.items():
            field = _field(name, value)
            if field is not None:
                found.setdefault(field.name, field)
    return tuple(found.values())


def _lines(properties: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for value in properties.values():
        for step in ("properties", "items", "items", "properties"):
            value = value.get(step) if isinstance(value, dict) else None
        if isinstance(value, dict):
            yield value


def _field(name: str, value: object) -> Field | None:
    if not isinstance(value, dict) or _PLAIN.fullmatch(name) is None or name == "links":
        return None
    lowered = name.lower()
    if lowered == "id":
        return Field(lowered, "integer")
    match value.get("type"), value.get("format"):
        case "boolean", _:
            return Field(lowered, "boolean")
        case "integer", _:
            return Field(lowered, "integer")
        case "number", format:
            return Field(lowered, "float" if format == "float" else EXACT_NUMBER)
        case "string", "date":
            return Field(lowered, "date")
        case "string", "date-time":
            return Field(lowered, "timestamp")
        case "string", _:
            return Field(lowered, "text")
        case (("object" | None), _) if _is_reference(value):
            return Field(lowered, "text", reference=True)
        case _:
            return None


def _is_reference(value: Mapping[str, Any]) -> bool:
    members, target = value.get("properties"), value.get("$ref")
    if isinstance(members, dict):
        return "id" in members and "items" not in members and ("refName" in members or "links" in members)
    return isinstance(target, str) and _REFERENCE.search(target) is not None


def _object(body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        raise BadReply("the metadata catalogue answered with what is not JSON") from None
    if not isinstance(document, dict):
        raise BadReply("the metadata catalogue answered with JSON that is no object")
    return document
