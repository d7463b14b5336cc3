"""Where in a TOML file each key stands, so that a mistake can name its line.

TOML parsers give values without their lines. This walks a text that a parser has accepted already, and therefore
needs to know only where strings, brackets and keys begin and end, not to judge them.
"""

import re
from typing import Final

KeyPath = tuple[str, ...]

_BARE_KEY: Final = re.compile(r"[A-Za-z0-9_-]+")
_BLANK: Final = re.compile(r"[ \t]*")
_GAP: Final = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)*")
_BASIC: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"')
_LITERAL: Final = re.compile(r"'[^'\n]*'")
_LONG_BASIC: Final = re.compile(r'"""(?:[^"\\]|\\.|"(?!""))*"{3,5}', re.DOTALL)
_LONG_LITERAL: Final = re.compile(r"'''(?:[^']|'(?!''))*'{3,5}", re.DOTALL)
_SCALAR: Final = re.compile(r"[^,\]}\n#]*")
_ESCAPE: Final = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([btnfr"\\]))')
_ESCAPED: Final = {"b": "\b", "t": "\t", "n": "\n", "f": "\f", "r": "\r", '"': '"', "\\": "\\"}


def key_lines(text: str) -> dict[KeyPath, int]:
    """Return the line, counted from 1, on which each key and table of a valid TOML text first appears.

    Paths are as a parser nests them: table headers, dotted keys and inline tables alike. Keys inside arrays are not
    listed, nor is the position within an array of tables. Raises ValueError where the text is not valid TOML.
    """
    return _Walk(text).statements()


class _Walk:
    def __init__(self, text: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self.at = 0
        self.lines: dict[KeyPath, int] = {}

    def statements(self) -> dict[KeyPath, int]:
        table: KeyPath = ()
        self._skip(_GAP)
        while self.at < len(self.text):
            if self._sees("["):
                brackets = 2 if self._sees("[[") else 1
                self.at += brackets
                table = self._key(())
                self.at += brackets
            else:
                self._pair(table)
            self._skip(_GAP)
        return self.lines

    def _sees(self, start: str) -> bool:
        return self.text.startswith(start, self.at)

    def _skip(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.at)
        if match is None:
            raise ValueError(f"not valid TOML near character {self.at}")
        self.at = match.end()
        return match[0]

    def _key(self, table: KeyPath) -> KeyPath:
        """Step over a possibly dotted key and what follows it up to `=` or `]`; keep the line of each of its parts."""
        line = self.text.count("\n", 0, self.at) + 1
        path = table
        while True:
            self._skip(_BLANK)
            if self._sees('"'):
                part = _ESCAPE.sub(_unescaped, self._skip(_BASIC)[1:-1])
            elif self._sees("'"):
                part = self._skip(_LITERAL)[1:-1]
            else:
                part = self._skip(_BARE_KEY)
            path = (*path, part)
            self.lines.setdefault(path, line)
            self._skip(_BLANK)
            if not self._sees("."):
                break
            self.at += 1
        return path

    def _pair(self, table: KeyPath, *, keep: bool = True) -> None:
        known = None if keep else dict(self.lines)
        path = self._key(table)
        if not self._sees("="):
            raise ValueError(f"not valid TOML near character {self.at}")
        self.at += 1
        self._skip(_BLANK)
        self._value(path, keep=keep)
        if known is not None:
            self.lines = known

    def _value(self, path: KeyPath, *, keep: bool) -> None:
        if self._sees('"""'):
            self._skip(_LONG_BASIC)
        elif self._sees("'''"):
            self._skip(_LONG_LITERAL)
        elif self._sees('"'):
            self._skip(_BASIC)
        elif self._sees("'"):
            self._skip(_LITERAL)
        elif self._sees("["):
            self._items("]", path, keep=False)
        elif self._sees("{"):
            self._items("}", path, keep=keep)
        else:
            self._skip(_SCALAR)

    def _items(self, end: str, path: KeyPath, *, keep: bool) -> None:
        self.at += 1
        self._skip(_GAP)
        while not self._sees(end):
            if end == "}":
                self._pair(path, keep=keep)
            else:
                self._value(path, keep=False)
            self._skip(_GAP)
            if self._sees(","):
                self.at += 1
            elif not self._sees(end):
                raise ValueError(f"not valid TOML near character {self.at}")
            self._skip(_GAP)
        self.at += 1


def _unescaped(match: re.Match[str]) -> str:
    if short := match[3]:
        return _ESCAPED[short]
    return chr(int(match[1] or match[2], 16))
