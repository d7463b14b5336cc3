"""Oracle's date formats as SQLite expressions over stored times, and as Python formats for literals.

A stored time is text, "YYYY-MM-DD" or "YYYY-MM-DD HH:MM:SS", so most format elements are a slice of it, and the formats
that importers use are the whole of it: no function of ours runs per row.
"""

import re
from datetime import datetime

from waveimport.simulator.refusals import unsupported

_ELEMENTS = re.compile(
    r'"(?P<quoted>[^"]*)"|(?P<element>YYYY|YY|MM|MON|DD|HH24|HH12|HH|MI|SS|AM|PM|[A-Z]+)|(?P<mark>.)', re.I
)
_SLICES = {"YYYY": (1, 4), "YY": (3, 2), "MM": (6, 2), "DD": (9, 2), "HH24": (12, 2), "MI": (15, 2), "SS": (18, 2)}
_SEPARATORS = {5: "-", 8: "-", 11: " ", 14: ":", 17: ":"}
_OF_DAY = {"HH24", "HH12", "HH", "MI", "SS", "AM", "PM"}
_PYTHON = {
    "YYYY": "%Y",
    "YY": "%y",
    "MM": "%m",
    "MON": "%b",
    "DD": "%d",
    "HH24": "%H",
    "HH12": "%I",
    "HH": "%I",
    "MI": "%M",
    "SS": "%S",
    "AM": "%p",
    "PM": "%p",
}


def _split(pattern: str) -> list[tuple[str, str]]:
    """Return the format as pairs ("element", NAME) and ("text", characters). Raises Refusal for an unknown element."""
    parts: list[tuple[str, str]] = []
    for match in _ELEMENTS.finditer(pattern):
        if match["quoted"] is not None:
            parts.append(("text", match["quoted"]))
        elif match["mark"] is not None:
            parts.append(("text", match["mark"]))
        elif match["element"].upper() in _PYTHON:
            parts.append(("element", match["element"].upper()))
        else:
            raise unsupported(f"date format element {match['element']}")
    return parts


def has_time_of_day(pattern: str) -> bool:
    """Tell whether the format has hours, minutes or seconds."""
    return any(kind == "element" and name in _OF_DAY for kind, name in _split(pattern))


def to_char(time: str, pattern: str) -> str:
    """Return the SQLite expression that prints by `pattern` the expression `time` ("YYYY-MM-DD HH:MM:SS")."""
    pieces: list[tuple[int, int] | str] = []  # slices (start, length) of the stored time, or SQL
    for kind, name in _split(pattern):
        last = pieces[-1] if pieces else None
        if kind == "text":
            follows = isinstance(last, tuple) and _SEPARATORS.get(last[0] + last[1]) == name
            if follows and isinstance(last, tuple):
                pieces[-1] = (last[0], last[1] + 1)
            else:
                pieces.append(_quote(name))
        elif name in _SLICES:
            start, length = _SLICES[name]
            if isinstance(last, tuple) and last[0] + last[1] == start:
                pieces[-1] = (last[0], last[1] + length)
            else:
                pieces.append((start, length))
        else:
            pieces.append(_computed(time, name))
    if pieces == [(1, 19)]:
        return time
    if not pieces:
        return "NULL"
    return "(" + " || ".join(p if isinstance(p, str) else f"substr({time}, {p[0]}, {p[1]})" for p in pieces) + ")"


def parse_literal(value: str, pattern: str) -> str:
    """Return the literal of TO_DATE or TO_TIMESTAMP in the stored form. Raises Refusal if it is not of the format."""
    python = "".join(_PYTHON[name] if kind == "element" else name.replace("%", "%%") for kind, name in _split(pattern))
    try:
        moment = datetime.strptime(value, python)
    except ValueError:
        raise unsupported(f"{value} is not of the format {pattern}") from None
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def _computed(time: str, name: str) -> str:
    if name == "MON":
        return f"substr('JANFEBMARAPRMAYJUNJULAUGSEPOCTNOVDEC', 3 * CAST(substr({time}, 6, 2) AS INTEGER) - 2, 3)"
    hour = f"CAST(substr({time}, 12, 2) AS INTEGER)"
    if name in ("AM", "PM"):
        return f"iif({hour} < 12, 'AM', 'PM')"
    return f"printf('%02d', ({hour} + 11) % 12 + 1)"


def _quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
