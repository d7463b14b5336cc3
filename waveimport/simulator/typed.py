"""A typed piece of SQLite SQL, and the conversions between kinds that the dialect makes on its own.

A NUMBER is either plain (an integer of scale 0, or a stored decimal text) or scaled: an integer expression worth
value * 10**scale. Comparisons and arithmetic run on scaled integers, so that sums of money are exact. Times go through
the functions of account_time.py where the account's zone or date format matters.
"""

from dataclasses import dataclass

from waveimport.simulator.refusals import unsupported
from waveimport.simulator.schema import Kind

TIMES = frozenset({Kind.DATE, Kind.TIMESTAMP, Kind.NAIVE})
NUMBERS = frozenset({Kind.NUMBER, Kind.FLOAT})


@dataclass(frozen=True, slots=True)
class Typed:
    """SQL and what it gives. `constant` marks a literal or placeholder."""

    sql: str
    kind: Kind
    scale: int = 0
    scaled: bool = False
    nullable: bool = True
    constant: bool = False


def scaled(value: Typed) -> str:
    """Return the NUMBER as an integer expression of its own scale."""
    if value.scaled or value.scale == 0:
        return value.sql
    return f"CAST(round(CAST({value.sql} AS REAL) * {10**value.scale}) AS INTEGER)"


def at_scale(value: Typed, scale: int) -> str:
    """Return the NUMBER as an integer expression of that scale, which must not be lower than its own."""
    factor = 10 ** (scale - value.scale)
    return scaled(value) if factor == 1 else f"({scaled(value)} * {factor})"


def real(value: Typed) -> str:
    """Return a number, or a text that Oracle would take for one, as a REAL expression."""
    if value.kind is Kind.FLOAT:
        return value.sql
    if value.kind is Kind.NUMBER and value.scaled:
        return f"({value.sql} / {10**value.scale}.0)"
    if value.kind in (Kind.NUMBER, Kind.TEXT):
        return f"CAST({value.sql} AS REAL)"
    raise unsupported(f"a {value.kind} where a number is needed")


def text(value: Typed) -> str:
    """Return the value as the service serves it: a string."""
    match value.kind:
        case Kind.TEXT | Kind.FLAG:
            return value.sql
        case Kind.DATE | Kind.NAIVE:
            return f"account_date({value.sql})"
        case Kind.TIMESTAMP:
            return f"account_date({local_time(value)})"
        case Kind.FLOAT:
            return f"CASE WHEN {value.sql} IS NULL THEN NULL ELSE printf('%.15g', {value.sql}) END"
        case Kind.NUMBER:
            if not value.scaled:
                return value.sql if value.scale else f"CAST({value.sql} AS TEXT)"
            return _decimal_text(value.sql, value.scale)


def _decimal_text(sql: str, scale: int) -> str:
    unit = 10**scale
    digits = f"printf('%s%d.%0{scale}d', iif({sql} < 0, '-', ''), abs({sql}) / {unit}, abs({sql}) % {unit})"
    return f"CASE WHEN {sql} IS NULL THEN NULL ELSE rtrim(rtrim({digits}, '0'), '.') END"


def local_time(value: Typed) -> str:
    """Return a time as "YYYY-MM-DD HH:MM:SS" of the account's time zone; a DATE is its midnight, as in Oracle."""
    match value.kind:
        case Kind.TIMESTAMP:
            return f"account_local({value.sql})"
        case Kind.DATE:
            return f"({value.sql} || ' 00:00:00')"
        case Kind.NAIVE:
            return value.sql
        case _:
            raise unsupported(f"a {value.kind} where a time is needed")


def _utc(value: Typed) -> str:
    return value.sql if value.kind is Kind.TIMESTAMP else f"account_utc({value.sql})"


def comparable(left: Typed, right: Typed) -> tuple[str, str]:
    """Return both sides as SQL that SQLite compares as Oracle would, a bare column left bare so that its index serves.

    Raises Refusal where Oracle would need a format to convert one side (a date and a text).
    """
    kinds = {left.kind, right.kind}
    if kinds == {Kind.NUMBER}:
        if left.scale == right.scale and left.sql == right.sql:
            return left.sql, right.sql
        scale = max(left.scale, right.scale)
        return at_scale(left, scale), at_scale(right, scale)
    if kinds <= {Kind.TEXT, Kind.FLAG}:
        return left.sql, right.sql
    if kinds <= TIMES:
        if len(kinds) == 1:
            return left.sql, right.sql
        if Kind.TIMESTAMP in kinds:
            return _utc(left), _utc(right)
        return local_time(left), local_time(right)
    if kinds <= {Kind.NUMBER, Kind.FLOAT, Kind.TEXT}:
        whole = left if left.kind is Kind.NUMBER else right
        other = right if whole is left else left
        if whole.kind is Kind.NUMBER and whole.scale == 0 and other.kind is Kind.TEXT and other.constant:
            # An INTEGER column takes a text for the number it shows, and keeps its index.
            return left.sql, right.sql
        return real(left), real(right)
    raise unsupported(f"{left.kind} compared with {right.kind}")


def unify(values: list[Typed]) -> list[Typed]:
    """Return the values as one kind, for NVL, COALESCE, DECODE and CASE; NULLs (TEXT "NULL") fit any."""
    kinds = {value.kind for value in values if value.sql != "NULL"}
    if kinds <= {Kind.NUMBER} and kinds:
        scale = max(value.scale for value in values)
        return [_as_scaled(value, scale) for value in values]
    if kinds <= NUMBERS and kinds:
        return [value if value.sql == "NULL" else Typed(real(value), Kind.FLOAT) for value in values]
    if len(kinds) == 1:
        kind = kinds.pop()
        return [Typed(value.sql, kind, nullable=value.nullable) for value in values]
    if kinds <= TIMES and kinds:
        return [Typed("NULL" if v.sql == "NULL" else local_time(v), Kind.NAIVE, nullable=v.nullable) for v in values]
    return [Typed("NULL" if v.sql == "NULL" else text(v), Kind.TEXT, nullable=v.nullable) for v in values]


def _as_scaled(value: Typed, scale: int) -> Typed:
    sql = "NULL" if value.sql == "NULL" else at_scale(value, scale)
    return Typed(sql, Kind.NUMBER, scale, scale > 0, value.nullable)
