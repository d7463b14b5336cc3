"""One value of the source into one value of the destination: exactly, or not at all.

The service sends every value as a JSON string (`"12.5"`, `"T"`, `"2026-01-31"`) and leaves NULLs out. What a value
becomes, by the declared type:

| type | becomes | example |
|---|---|---|
| text | str, unchanged | `"Ünal"` |
| integer | int within signed 64 bits | `"-7"` → `-7` |
| boolean | 1 or 0 | `"T"` → `1` |
| decimal(p,s) | str with exactly s decimals | decimal(15,2): `"12.5"` → `"12.50"` |
| float | float, finite, no sign on zero | `"1.5"` → `1.5` |
| date | str `YYYY-MM-DD` | |
| timestamp | str `YYYY-MM-DD HH:MM:SS` | |

A value that does not fit is a ValueError whose text completes the sentence "the value ...": nothing is rounded or cut.
`convert` is the definition; `column_converter` is the same thing for a whole column at the speed of the hot path.
"""

import re
from collections.abc import Callable, Sequence
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from math import isfinite
from typing import Annotated, TypeAlias, cast

import msgspec

from waveimport.core.settings_types import Column, ColumnKind

Value: TypeAlias = int | float | str | None
"""A typed value on its way to the destination; decimals, dates and timestamps travel as canonical text."""

INTEGER_MIN = -(2**63)
INTEGER_MAX = 2**63 - 1
KEY_TEXT_MAX_CHARACTERS = 255  # a text key is VARCHAR(255) at the destination

# No type of any destination holds a longer number, and the limit keeps hostile ones from being expanded.
_NUMBER_MAX_CHARACTERS = 200

# Leading zeros make a text such as a postal code of it: read as an integer they would be lost.
_INTEGER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIMESTAMP = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")
_SURROGATE = re.compile("[\ud800-\udfff]")

_FLAGS: dict[str | None, int | None] = {"T": 1, "F": 0, None: None}


class NumberText(str):
    """A JSON number, kept as it was written, so that nothing is lost before its column's type is known."""

    __slots__ = ()


def convert(column: Column, raw: object, *, key: bool = False) -> Value:
    """Return what `raw` (None, bool, str, NumberText; anything else is refused) becomes under `column`'s type.

    `key` adds the rules of key columns: never NULL, and as text 1 to 255 characters (to the service an empty text is
    NULL, so no comparison with it is ever true and paging would stop there). Raises ValueError with the reason.
    """
    if raw is None:
        if key:
            raise ValueError("is NULL, but the column is part of the key")
        return None
    if not isinstance(raw, str | bool):
        raise ValueError(f"is a JSON {'list' if isinstance(raw, list) else 'object'}, not a plain value")
    match column.kind:
        case ColumnKind.TEXT:
            return _text(raw, key=key)
        case ColumnKind.BOOLEAN:
            return _boolean(raw)
        case _ if isinstance(raw, bool):
            raise ValueError(f"is a JSON boolean where {column.kind} is declared")
        case ColumnKind.INTEGER:
            return _integer(raw)
        case ColumnKind.DECIMAL:
            return decimal_text(raw, column.precision, column.scale)
        case ColumnKind.FLOAT:
            return _float(raw)
        case ColumnKind.DATE:
            return _date(raw)
        case ColumnKind.TIMESTAMP:
            return _timestamp(raw)


def _text(raw: str | bool, *, key: bool) -> str:
    if isinstance(raw, bool):
        raise ValueError("is a JSON boolean where text is declared")
    if "\0" in raw:
        raise ValueError("contains a NUL character, which the destination cannot hold")
    if _SURROGATE.search(raw):
        raise ValueError("contains half of a surrogate pair, which is no character")
    if key and not raw:
        raise ValueError("is an empty text, but the column is part of the key")
    if key and len(raw) > KEY_TEXT_MAX_CHARACTERS:
        raise ValueError(f"has {len(raw)} characters; a text key may have {KEY_TEXT_MAX_CHARACTERS}")
    return str(raw)


def _boolean(raw: str | bool) -> int:
    if isinstance(raw, bool):
        return int(raw)
    flag = _FLAGS.get(raw)
    if flag is None:
        raise ValueError("is neither T nor F")
    return flag


def _number(raw: str, pattern: re.Pattern[str], reason: str) -> Decimal:
    if len(raw) > _NUMBER_MAX_CHARACTERS or not pattern.fullmatch(raw):
        raise ValueError(reason)
    try:
        return Decimal(raw)
    except InvalidOperation:  # an exponent beyond what Decimal can hold
        raise ValueError(reason) from None


def _integer(raw: str) -> int:
    number = _number(raw, _INTEGER, "is not an integer")
    if not INTEGER_MIN <= number <= INTEGER_MAX:
        raise ValueError("does not fit into a signed 64-bit integer")
    if number != number.to_integral_value():
        raise ValueError("has decimals where integer is declared")
    return int(number)


def decimal_text(raw: str, precision: int, scale: int) -> str:
    """Return the number as plain text with exactly `scale` decimals: `decimal_text("12.5", 15, 2)` is `"12.50"`.

    No exponent, no superfluous leading zeros, no sign on zero. Raises ValueError when it is no number, when a decimal
    beyond `scale` is not zero, or when the digits before the point exceed `precision - scale`.
    """
    sign, digits, exponent = _number(raw, _NUMBER, "is not a decimal number").as_tuple()
    assert isinstance(exponent, int)  # only NaN and Infinity have none, and the pattern knows neither
    written = "".join(map(str, digits))
    significant = written.strip("0")
    if not significant:
        return f"0.{'0' * scale}" if scale else "0"
    # The number is significant * 10**lowest, and less than 10**highest.
    lowest = exponent + len(written) - len(written.rstrip("0"))
    highest = lowest + len(significant)
    declared = f"decimal({precision},{scale})"
    if -lowest > scale:
        raise ValueError(f"has {-lowest} decimals; {declared} holds {scale}")
    if highest > precision - scale:
        raise ValueError(f"has {highest} digits before the point; {declared} holds {precision - scale}")
    unscaled = (significant + "0" * (lowest + scale)).zfill(scale + 1)
    plain = f"{unscaled[:-scale]}.{unscaled[-scale:]}" if scale else unscaled
    return "-" + plain if sign else plain


def _float(raw: str) -> float:
    number = float(_number(raw, _NUMBER, "is not a finite number"))
    if not isfinite(number):
        raise ValueError("is too large for a float")
    return number + 0.0  # of -0.0 makes 0.0


def _date(raw: str) -> str:
    if not _DATE.fullmatch(raw):
        raise ValueError("is not a date of the form YYYY-MM-DD")
    try:
        date.fromisoformat(raw)
    except ValueError:
        raise ValueError("is not a day of the calendar") from None
    return str(raw)


def _timestamp(raw: str) -> str:
    if not _TIMESTAMP.fullmatch(raw):
        raise ValueError("is not a timestamp of the form YYYY-MM-DD HH:MM:SS")
    try:
        datetime.fromisoformat(raw)
    except ValueError:
        raise ValueError("is not a moment of the calendar") from None
    return str(raw)


ColumnConverter: TypeAlias = Callable[[Sequence[Value]], Sequence[Value]]


def column_converter(column: Column, *, key: bool = False) -> ColumnConverter | None:
    """Return a function over one page's values of `column`, or None where the parser's typing is all there is to do.

    The values come as the parser typed them: float or None for float, str or None for everything else. The function
    returns exactly what `convert` would, or raises ValueError; then the page is to be read value by value.
    """
    convert_column: ColumnConverter | None
    match column.kind:
        case ColumnKind.TEXT:
            convert_column = None
        case ColumnKind.INTEGER:
            convert_column = _integers
        case ColumnKind.BOOLEAN:
            convert_column = _booleans
        case ColumnKind.DECIMAL:
            convert_column = _decimals(column.precision, column.scale)
        case ColumnKind.FLOAT:
            convert_column = _floats
        case ColumnKind.DATE:
            convert_column = _checked(_date)
        case ColumnKind.TIMESTAMP:
            convert_column = _checked(_timestamp)
    if not key:
        return convert_column

    def convert_key(values: Sequence[Value]) -> Sequence[Value]:
        if None in values:
            raise ValueError("a key is NULL")
        if column.kind is ColumnKind.TEXT:
            lengths = [len(value) for value in values if isinstance(value, str)]
            if lengths and not 0 < min(lengths) <= max(lengths) <= KEY_TEXT_MAX_CHARACTERS:
                raise ValueError("a text key is empty or too long")
        return convert_column(values) if convert_column else values

    return convert_key


def _texts(values: Sequence[Value]) -> Sequence[str]:
    """Return the values that are not NULL; the parser gives str or None."""
    there = values if None not in values else [value for value in values if value is not None]
    return cast("Sequence[str]", there)


_as_integers = msgspec.json.Decoder(list[Annotated[int, msgspec.Meta(ge=INTEGER_MIN, le=INTEGER_MAX)]]).decode


def _integers(values: Sequence[Value]) -> Sequence[Value]:
    texts = _texts(values)
    typed = _plain_integers(texts)
    if typed is None:
        typed = list(map(_integer, texts))
    if len(texts) == len(values):
        return typed
    following = iter(typed)
    return [None if value is None else next(following) for value in values]


def _plain_integers(texts: Sequence[str]) -> list[int] | None:
    """Return the integers, or None where one is not written in the plain way: digits, perhaps behind a minus.

    The parser could type integers in their page, but goes by way of a float when one has decimals or an exponent: then
    "9007199254740993.0" comes out a unit too low, and "4.99999999999999999999" as 5. So the texts come here, and as
    one list of JSON numbers, in which no other sign can stand, they are a third of the work that they are one by one.
    """
    try:
        joined = ",".join(texts).encode()
        if joined.translate(None, b",-0123456789"):
            return None
        typed = _as_integers(b"[%b]" % joined)
    except (msgspec.MsgspecError, UnicodeEncodeError):
        return None
    return typed if len(typed) == len(texts) else None


def _booleans(values: Sequence[Value]) -> Sequence[Value]:
    try:
        return [_FLAGS[value] for value in values]  # type: ignore[index]  # the parser gives str or None here
    except KeyError:
        raise ValueError("a flag is neither T nor F") from None


def _floats(values: Sequence[Value]) -> Sequence[Value]:
    for value in values:
        if value is not None and not isfinite(value):  # type: ignore[arg-type]  # the parser gives float here
            raise ValueError("a number is not finite")
    return [None if value is None else value + 0.0 for value in values]  # type: ignore[operator]  # float, as above


def _decimals(precision: int, scale: int) -> ColumnConverter:
    whole = precision - scale
    digits = f"(?:0|[1-9][0-9]{{0,{whole - 1}}})" if whole else "0"
    decimals = rf"\.[0-9]{{{scale}}}" if scale else ""
    canonical = re.compile(rf"(?:{digits}|-(?!0(?:\.0*)?\Z){digits}){decimals}").fullmatch
    # The values of a page in one look, each with a comma behind it: as they are to be, or with short fractions. What
    # follows a number cannot be a part of it, so that nothing is ever tried twice (`*+`).
    short = rf"(?:\.[0-9]{{1,{scale}}}+)?+" if scale else ""
    usual = rf"-?[1-9][0-9]{{0,{whole - 1}}}+{short}|" if whole else ""
    all_canonical = re.compile(rf"(?:(?:{digits}|-(?!0(?:\.0*)?,){digits}){decimals},)*+").fullmatch
    all_short = re.compile(rf"(?:(?:{usual}0{short}|-(?!0(?:\.0*)?,)0{short}),)*+").fullmatch
    point, end, whole_end = -scale - 1, -scale, "." + "0" * scale

    def padded(value: str) -> str:
        at = value.find(".")
        return value + whole_end if at < 0 else value + "0" * (scale + 1 + at - len(value))

    def one(value: Value) -> Value:
        assert isinstance(value, str)
        # The usual irregularity is a short fraction (12.5 for 12.50); it needs no arithmetic.
        head, _, fraction = value.partition(".")
        usual = f"{head}.{fraction:0<{scale}}" if scale else head
        if len(fraction) <= scale and canonical(usual):
            return usual
        return decimal_text(value, precision, scale)

    def convert_decimals(values: Sequence[Value]) -> Sequence[Value]:
        texts = _texts(values)
        joined = f"{','.join(texts)}," if texts else ""
        whole_values = joined.count(",") == len(texts)
        if whole_values and all_canonical(joined):
            return values
        if scale and whole_values and all_short(joined):
            if len(texts) == len(values):
                return [text if text[point:end] == "." else padded(text) for text in texts]
            return [None if value is None else padded(value) for value in values]  # type: ignore[arg-type]  # str
        return [
            value if value is None or canonical(value) else one(value)  # type: ignore[arg-type]  # str, as above
            for value in values
        ]

    return convert_decimals


_REMEMBERED_MAX = 50_000


def _checked(check: Callable[[str], str]) -> ColumnConverter:
    """Check each distinct value once: dates repeat, within a page and from page to page."""
    remembered: set[Value] = set()

    def check_column(values: Sequence[Value]) -> Sequence[Value]:
        # Several threads read pages through one converter. None is left out at each call, and a set that has grown
        # is exchanged rather than emptied, so that no thread finds the set half made.
        nonlocal remembered
        known = remembered if len(remembered) <= _REMEMBERED_MAX else set()
        fresh = set(values) - known
        fresh.discard(None)
        for value in fresh:
            check(value)  # type: ignore[arg-type]  # without None the rest are str
        known.update(fresh)
        remembered = known
        return values

    return check_column
