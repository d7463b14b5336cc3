"""One page of a SuiteQL reply into typed rows.

A reply is `{"links": [...], "count": n, "hasMore": bool, "items": [{"links": [], "id": "5", ...}], "offset": 0,
"totalResults": n}`. Every value is a string, NULL columns are left out of their row, and Oracle warns that the casing
of the keys may change, so they are lower-cased here. Source: Oracle, "Executing SuiteQL Queries Through REST Web
Services".

There are two readers. The slow one is the definition: it reads value by value and names what is wrong. The fast one
lets msgspec type the whole page in C; whatever strikes it as irregular, it hands to the slow one, so it never has to
explain anything. Both give the same rows.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from operator import lt
from typing import Any, NoReturn

import msgspec

from waveimport.core.rows import Rows
from waveimport.core.settings_types import Column, ColumnKind, RecordSettings
from waveimport.core.values import NumberText, Value, column_converter, convert
from waveimport.errors import BadData, BadReply

_SHOWN_MAX_CHARACTERS = 60


@dataclass(frozen=True, slots=True)
class Page:
    """One page: `rows` in the order of the record's columns, whether more follow, the service's total if it told."""

    rows: Rows
    has_more: bool
    total: int | None


def reply_keys(record: RecordSettings) -> tuple[str, ...]:
    """Return the key under which each column comes back, in column order: its name in lower case.

    A name that is no plain identifier, that another column has already taken, or that the service uses itself
    (`links`) comes back as `c<position>`: columns `("id", "Links", "a b")` give `("id", "c1", "c2")`.
    """
    keys: list[str] = []
    for position, column in enumerate(record.columns):
        lowered = column.name.lower()
        plain = lowered.isascii() and lowered.isidentifier() and lowered != "links" and lowered not in keys
        key = lowered if plain else f"c{position}"
        while key in keys:
            key += "_"
        keys.append(key)
    return tuple(keys)


class PageReader:
    """Reads pages of one record. Threads may share it; build it once, it compiles the configuration into a decoder."""

    def __init__(self, record: RecordSettings) -> None:
        self._record = record
        self._keys = reply_keys(record)
        self._position_of = {key: position for position, key in enumerate(self._keys)}
        names = [column.name for column in record.columns]
        self._key_positions = tuple(names.index(name) for name in record.key)
        self._ordered = all(record.columns[at].kind is ColumnKind.INTEGER for at in self._key_positions)
        converters = [
            (position, column_converter(column, key=position in self._key_positions))
            for position, column in enumerate(record.columns)
        ]
        self._converters = [(position, found) for position, found in converters if found is not None]
        self._decoder = _decoder(record, self._keys)

    def read(self, body: bytes) -> Page:
        """Return the page that `body` (JSON, UTF-8) holds.

        Raises BadReply when the reply is not of the documented shape (not JSON, an unknown or missing field, rows out
        of key order), BadData when a value does not fit its column, a key is NULL, or a key comes twice.
        """
        page = self._read_fast(body)
        if page is None:
            page = self._read_slow(body)
        self._check_keys(page.rows)
        return page

    def _read_fast(self, body: bytes) -> Page | None:
        # A NUL can only come escaped; looking for the escape in the page is cheaper than looking into every text, and
        # for its first character, which few pages have, a hundred times cheaper than for the whole of it.
        if b"\\" in body and b"\\u0000" in body:
            return None
        try:
            reply = self._decoder.decode(body)
            if not _is_envelope(reply.hasMore, reply.totalResults, reply.count, len(reply.items)):
                return None
            if not reply.items:
                return Page(Rows([]), reply.hasMore, reply.totalResults)
            columns: list[Sequence[Value]] = list(zip(*map(msgspec.structs.astuple, reply.items), strict=True))
            del columns[-1]  # `links`
            for position, convert_column in self._converters:
                columns[position] = convert_column(columns[position])
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return Page(Rows(columns), reply.hasMore, reply.totalResults)

    def _read_slow(self, body: bytes) -> Page:
        items, has_more, total = parse_envelope(body)
        return Page(Rows.of([self._row(number, item) for number, item in enumerate(items, 1)]), has_more, total)

    def _row(self, number: int, item: dict[str, object]) -> tuple[Value, ...]:
        raws: list[object] = [None] * len(self._keys)
        seen: set[str] = set()
        for key, raw in item.items():
            lowered = key.lower()
            if lowered == "links":
                continue
            position = self._position_of.get(lowered)
            if position is None:
                raise BadReply(
                    f"the reply for {self._record.name} carries a column that was not asked for: {_shown(key)}",
                    where=f"[records.{self._record.name}]",
                    help="the service or a proxy changed the query; ask for fewer columns to find which",
                )
            if lowered in seen:
                raise BadReply(f"a row of {self._record.name} carries the column {_shown(key)} twice")
            seen.add(lowered)
            raws[position] = raw
        values: list[Value] = []
        for position, (column, raw) in enumerate(zip(self._record.columns, raws, strict=True)):
            try:
                values.append(convert(column, raw, key=position in self._key_positions))
            except ValueError as reason:
                self._refuse(column, raw, str(reason), self._row_name(number, raws))
        return tuple(values)

    def _row_name(self, number: int, raws: Sequence[object]) -> str:
        parts = [
            f"{name}={_shown(raws[position])}"
            for name, position in zip(self._record.key, self._key_positions, strict=True)
        ]
        return f"row {number} of the page ({', '.join(parts)})"

    def _refuse(self, column: Column, raw: object, reason: str, row: str) -> NoReturn:
        raise BadData(
            f"column {column.name} of {self._record.name}, {row}: the value {_shown(raw)} {reason}",
            where=f"[records.{self._record.name}] columns.{column.name}",
            help="declare the column with a type that holds what the source has (`text` holds anything)"
            if raw is not None
            else "choose a key that is never NULL, or exclude such rows by `where`",
        )

    def _check_keys(self, rows: Rows) -> None:
        if not rows:
            return
        columns = [rows.columns[position] for position in self._key_positions]
        keys: Sequence[Any] = columns[0] if len(columns) == 1 else list(zip(*columns, strict=True))
        # Integers sort the same everywhere; how a database sorts text is its own affair.
        if self._ordered and all(map(lt, keys, keys[1:])):
            return
        if len(set(keys)) != len(keys):
            seen: set[object] = set()
            for twice in keys:
                if twice in seen:
                    break
                seen.add(twice)
            raise BadData(
                f"two rows of {self._record.name} on one page have the same key {_shown(twice)}",
                where=f"[records.{self._record.name}] key",
                help="name columns as `key` that are unique together",
            )
        if self._ordered:
            raise BadReply(
                f"the rows of {self._record.name} did not come in the order of their key",
                help="paging by key would lose rows; is a proxy or another program answering?",
            )


def parse_bounds(body: bytes) -> tuple[int, int | None, int | None]:
    """Return `(count, lowest key, highest key)` of a bounds query's reply; the keys are None for an empty table.

    They are None too where the query asked for the count alone. Raises BadReply when the reply has another shape,
    BadData when a bound is no 64-bit integer.
    """
    items, _, _ = parse_envelope(body)
    if len(items) != 1:
        raise BadReply(f"the reply to a count has {len(items)} rows instead of one")
    row = {key.lower(): raw for key, raw in items[0].items()}
    whole = Column("count", ColumnKind.INTEGER)
    numbers: dict[str, int | None] = {}
    for name in ("n", "lo", "hi"):
        try:
            value = convert(whole, row.get(name))
        except ValueError as reason:
            raise BadData(f"the bound {name} of a count is {_shown(row.get(name))}: it {reason}") from None
        assert value is None or isinstance(value, int)
        numbers[name] = value
    count, lowest, highest = numbers["n"], numbers["lo"], numbers["hi"]
    if count is None or count < 0:
        raise BadReply("the reply to a count carries no count")
    if (lowest is None) != (highest is None) or (lowest is not None and highest is not None and lowest > highest):
        raise BadReply(f"the reply to a count has bounds that contradict each other: {lowest} and {highest}")
    return count, lowest, highest


def parse_envelope(body: bytes) -> tuple[list[dict[str, object]], bool, int | None]:
    """Return `(items, has_more, total)` of a reply, its numbers as NumberText. Raises BadReply, whatever the bytes."""
    try:
        reply = json.loads(
            body.decode("utf-8"), parse_int=NumberText, parse_float=NumberText, parse_constant=_refuse_constant
        )
    except RecursionError:
        raise BadReply("the reply is JSON nested too deeply to be a page of rows") from None
    except ValueError as fault:
        raise BadReply(f"the reply is not JSON: {_shown(str(fault))}") from None
    if not isinstance(reply, dict):
        raise BadReply("the reply is JSON, but not an object")
    items = reply.get("items")
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise BadReply("the reply has no list of rows under `items`")
    has_more, total, count = reply.get("hasMore"), _count(reply, "totalResults"), _count(reply, "count")
    if not isinstance(has_more, bool):
        raise BadReply("the reply does not say under `hasMore` whether more rows follow")
    if not _is_envelope(has_more, total, count, len(items)):
        if has_more and not items:
            raise BadReply("the reply says that more rows follow, but carries none: paging would never end")
        raise BadReply(f"the reply announces {count} rows and carries {len(items)}")
    return items, has_more, total


def _count(reply: dict[str, object], name: str) -> int | None:
    value = reply.get(name)
    if value is None:
        return None
    if isinstance(value, NumberText) and value.isdecimal() and len(value) <= 18:
        return int(value)
    raise BadReply(f"the reply's `{name}` is no count: {_shown(value)}")


def _is_envelope(has_more: object, total: object, count: object, rows: int) -> bool:
    return (
        isinstance(has_more, bool)
        and (rows > 0 or not has_more)
        and (count is None or (type(count) is int and count == rows))
        and (total is None or (type(total) is int and 0 <= total < 10**18))
    )


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _shown(value: object) -> str:
    """Return the value for an error: one quoted, escaped text whatever it is, of at most 60 characters, so that whoever
    is to take values out of a text finds it."""
    text = str(value)
    quoted = ascii(text[:_SHOWN_MAX_CHARACTERS])
    return quoted if len(text) <= _SHOWN_MAX_CHARACTERS else f"{quoted}… ({len(text)} characters)"


def _decoder(record: RecordSettings, keys: tuple[str, ...]) -> "msgspec.json.Decoder[Any]":
    """Compile the columns into a msgspec decoder of whole replies; fields are positional, keys are their JSON names."""
    # A float without `| None`: else the lax parser takes the text "null" for a NULL. An absent key is the default.
    fields = [
        (f"f{position}", float if column.kind is ColumnKind.FLOAT else str | None, None)
        for position, column in enumerate(record.columns)
    ]
    names = {f"f{position}": key for position, key in enumerate(keys)}
    row = msgspec.defstruct("Row", [*fields, ("links", Any, None)], rename=names, forbid_unknown_fields=True, gc=False)
    reply = msgspec.defstruct(
        "Reply",
        # Typed Any, since the lax parser would also take "true" and "5" where the format has a boolean and a number.
        [("items", list[row]), ("hasMore", Any), ("totalResults", Any, None), ("count", Any, None)],  # type: ignore[valid-type]
    )
    return msgspec.json.Decoder(reply, strict=False)
