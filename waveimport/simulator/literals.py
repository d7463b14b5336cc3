"""Lift the literals out of a query, so that its shape is parsed once and every later page only binds values.

A keyset import asks the same query thousands of times with other keys. `lift` replaces the literals that stand after a
comparison, in BETWEEN, in an IN list, as first argument of TO_DATE or TO_TIMESTAMP, and bound `?`, by named
placeholders. A placeholder's name tells its kind, so that the shape alone decides the translation:

    :n2_5   a number with two decimals, bound as the integer value * 10**2
    :s_5    a string
    :ln_5, :ls_5   an IN list of whole numbers, of strings, bound as a JSON array
"""

import re
from dataclasses import dataclass

import msgspec

from waveimport.simulator.refusals import bad_query, unsupported

IN_LIST_MAXIMUM = 1000

_NUMBER = r"-?\d+(?:\.\d+)?"
_STRING = r"'(?:[^']|'')*'"
_LITERAL = rf"(?:{_NUMBER}|{_STRING})"
# Strings, quoted names and comments come first, so that nothing inside them is taken for anything else.
_TOKENS = re.compile(
    rf"""
      (?P<comment>--[^\n]*|/\*.*?\*/)
    | (?P<compare><=|>=|<>|!=|\^=|=|<|>)\s*(?P<operand>{_LITERAL})(?![\w.'])
    | \bBETWEEN\s+(?P<low>{_LITERAL})\s+AND\s+(?P<high>{_LITERAL})(?![\w.'])
    | \bIN\s*\(\s*(?P<list>{_LITERAL}(?:\s*,\s*{_LITERAL})*)\s*\)
    | \b(?P<convert>TO_DATE|TO_TIMESTAMP)\s*\(\s*(?P<moment>{_STRING})
    | (?P<skip>{_STRING}|"[^"]*")
    | (?P<bound>\?)
    | (?P<refused>[\[\]:]|\bLIMIT\b|,\s*FROM\b)
    """,
    re.VERBOSE | re.IGNORECASE | re.DOTALL,
)
_EACH = re.compile(_LITERAL)
_WHOLE_NUMBERS = re.compile(r"[\s\d,-]+")

Value = int | str


@dataclass(frozen=True, slots=True)
class Lifted:
    """A query's shape, and the values of its placeholders by name."""

    shape: str
    values: dict[str, Value]


def lift(query: str, bound: tuple[str | int, ...] = ()) -> Lifted:
    """Return the shape of `query` and its values; `bound` are the values of its `?`, in order.

    Raises Refusal for what the dialect has no words for (LIMIT, square brackets, colons), for more than 1,000
    arguments of IN, and when the `?` and the bound values do not match in number.
    """
    values: dict[str, Value] = {}
    given = iter(bound)

    def place(literal: str) -> str:
        name, value = _scalar(literal, len(values))
        values[name] = value
        return f":{name}"

    def replace(match: re.Match[str]) -> str:
        kind = match.lastgroup
        if kind == "skip":
            return match[0]
        if kind == "operand":
            return f"{match['compare']} {place(match['operand'])}"
        if kind == "high":
            return f"BETWEEN {place(match['low'])} AND {place(match['high'])}"
        if kind == "list":
            name, value = _list(match["list"], len(values))
            values[name] = value
            return f"IN (:{name})"
        if kind == "moment":
            return f"{match['convert']}({place(match['moment'])}"
        if kind == "bound":
            param = next(given, None)
            if param is None:
                raise unsupported("more ? than params")
            return place(str(param) if isinstance(param, int) else "'" + param.replace("'", "''") + "'")
        if kind == "comment":
            return " "
        raise unsupported(f"{match[0]} is not in the dialect")

    shape = _TOKENS.sub(replace, query)
    if next(given, None) is not None:
        raise unsupported("more params than ?")
    return Lifted(shape, values)


def _scalar(literal: str, number: int) -> tuple[str, Value]:
    if literal.startswith("'"):
        return f"s_{number}", literal[1:-1].replace("''", "'")
    whole, _, decimals = literal.partition(".")
    return f"n{len(decimals)}_{number}", int(whole + decimals)


def _list(listed: str, number: int) -> tuple[str, str]:
    if _WHOLE_NUMBERS.fullmatch(listed):
        whole = [int(text) for text in listed.split(",")]
        _check_length(len(whole))
        return f"ln_{number}", msgspec.json.encode(whole).decode()
    literals = _EACH.findall(listed)
    _check_length(len(literals))
    strings = [text[1:-1].replace("''", "'") if text.startswith("'") else text for text in literals]
    return f"ls_{number}", msgspec.json.encode(strings).decode()


def _check_length(length: int) -> None:
    if length > IN_LIST_MAXIMUM:
        raise bad_query(
            f"Search error occurred: The IN clause has {length} arguments; at most {IN_LIST_MAXIMUM} are allowed."
        )
