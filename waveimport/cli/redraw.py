"""The same place of a terminal written again and again, without a flicker; elsewhere one picture below the other."""

import os
from collections.abc import Callable, Sequence

import click

from waveimport.cli.render import Screen, folded

_HOME, _CLEAR, _REST_OF_LINE, _BELOW = "\x1b[H", "\x1b[2J\x1b[H", "\x1b[K", "\x1b[J"


class Redraw:
    """Called with what is to be seen: `draw` returns the lines, with at most so many waves where it is told a number.

    A picture overwrites the one before line by line, in one write: nothing is blank in between. What is too long for
    the window is wrapped here, and waves are left out of one that is too tall, for a terminal that scrolls cannot be
    overwritten. The last picture stays.
    """

    def __init__(self) -> None:
        self._size: tuple[int | None, int | None] | None = None

    def __call__(self, screen: Screen, draw: Callable[[int | None], Sequence[str]], *, waves: int) -> None:
        """Show a picture."""
        if screen.columns is None or screen.lines is None or os.environ.get("TERM") == "dumb":
            apart = "" if self._size is None else "\n"
            self._size = (None, None)
            click.echo(apart + "\n".join(draw(None)))
            return
        lines = list(folded(draw(None), screen))
        over = _height(lines, screen.columns) - (screen.lines - 1)
        if over > 0:
            # One more, for the line that says how many are left out.
            lines = list(folded(draw(max(1, waves - over - 1)), screen))
            while _height(lines, screen.columns) > screen.lines - 1:
                lines.pop()
        start = _HOME if self._size == (screen.columns, screen.lines) else _CLEAR
        self._size = (screen.columns, screen.lines)
        click.echo(start + "".join(f"{line}{_REST_OF_LINE}\n" for line in lines) + _BELOW, nl=False, color=True)


def _height(lines: Sequence[str], width: int) -> int:
    """Return how many lines of the window these take."""
    return sum(max(1, -(-len(click.unstyle(line)) // width)) for line in lines)
