"""How things look to people: plain text that reads the same on a terminal, in a pipe and in a mail from cron."""

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import click

_COLOURS = {"completed": "green", "failed": "red", "processing": "cyan", "cancelled": "yellow"}


@dataclass(frozen=True, slots=True)
class Screen:
    """Where lines go: `columns` and `lines` of a terminal, None where it is none; `colour` and `unicode` say whether
    these can be shown."""

    columns: int | None = None
    lines: int | None = None
    colour: bool = False
    unicode: bool = True

    @classmethod
    def of_stdout(cls) -> "Screen":
        """Return what standard output is at this moment: a window may change."""
        unicode = "utf" in (getattr(sys.stdout, "encoding", None) or "").lower()
        if not sys.stdout.isatty():
            return cls(unicode=unicode)
        size = shutil.get_terminal_size()
        return cls(size.columns, size.lines, colour=not os.environ.get("NO_COLOR"), unicode=unicode)

    def coloured(self, word: str, name: str | None = None) -> str:
        """Return a word in the colour of a status, its own or the one named; as it is where there are no colours."""
        colour = _COLOURS.get(name or word)
        return click.style(word, fg=colour) if self.colour and colour is not None else word

    def cut(self, text: str, width: int) -> str:
        """Return the text in at most so many characters, with a mark where its end is missing."""
        mark = "…" if self.unicode else "~"
        return text if len(text) <= width else text[: max(0, width - len(mark))] + mark


COMMANDS = ("  next:", "  to write")
"""How a line begins that ends in a command to be copied: a terminal wraps it so that it stays one."""


def folded(lines: Iterable[str], screen: Screen) -> Iterator[str]:
    """Yield lines of prose that are too long for the screen in several, broken between words."""
    for line in lines:
        plain = click.unstyle(line)
        is_prose = line == plain or line.startswith("\x1b")
        if screen.columns is None or len(plain) <= screen.columns or line.startswith(COMMANDS) or not is_prose:
            yield line
            continue
        first, *others = textwrap.wrap(
            plain, screen.columns, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False
        )
        # Of prose the first word is coloured, if any.
        yield line[: len(line) - len(plain) + len(first)]
        yield from others


def print_json(document: Any) -> None:
    """Write one JSON document to stdout."""
    click.echo(json.dumps(document, ensure_ascii=not Screen.of_stdout().unicode, indent=2, default=str))


def table(rows: Sequence[Sequence[str]], *, right: frozenset[int] = frozenset()) -> Iterator[str]:
    """Yield lines of columns as wide as they need be; columns in `right` are flush right. The first row is a head."""
    widths = [max(len(row[at]) for row in rows) for at in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  ".join(cells).rstrip()


def ago(since: datetime, now: datetime, *, short: bool = False) -> str:
    """Return how long ago a moment was, in one figure; `short` in the fewest characters."""
    told = figure(max(0.0, (now - since).total_seconds()))
    return f"{told.replace(' ', '').replace('min', 'm') if short else told} ago"


def figure(seconds: float) -> str:
    """Return a duration in one figure, rounded down."""
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds // size:.0f} {unit}"
    return f"{seconds // 1:.0f} s"


def span(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def between(low: float, likely: float, high: float) -> tuple[str, str]:
    """Return a time to come in one figure, and its bounds in the same unit."""
    size, unit = next(((size, unit) for size, unit in ((3600.0, "h"), (60.0, "min")) if high >= 2 * size), (1.0, "s"))
    told = [f"{seconds / size:.{1 if unit == 'h' else 0}f}" for seconds in (low, likely, high)]
    return f"{told[1]} {unit}", f"{told[0]} to {told[2]} {unit}"
