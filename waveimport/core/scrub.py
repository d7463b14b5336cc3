"""Take the values of rows out of texts that leave the machine: errors quote what could not be typed, keys are words."""

import re
from collections.abc import Collection, Iterator
from typing import Any, Final

GONE: Final = "…"

_APOSTROPHE: Final = re.compile(r"(?<=\w)'(?=\w)")
_QUOTED: Final = re.compile(r"'(?:[^'\\]|\\.|'')*'|\"(?:[^\"\\]|\\.|\"\")*\"")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_./]*")


def without_values(text: str, names: Collection[str]) -> str:
    """Return the text with everything in quotes replaced by `…`, save the names that are known: of records, tables and
    columns. What a message has in backticks is a name of ours already, and stays where it looks like one."""

    def keep(found: re.Match[str]) -> str:
        quote, inner = found[0][0], found[0][1:-1]
        return found[0] if inner in names else f"{quote}{GONE}{quote}"

    # An apostrophe within a word opens nothing; a quote that nothing closes hides all behind it.
    parted = _APOSTROPHE.sub("\0", text)
    shown = _QUOTED.sub(keep, parted)
    opened = next((at for at in _unclosed(shown)), None)
    return (shown if opened is None else shown[: opened + 1] + GONE).replace("\0", "'")


def _unclosed(text: str) -> Iterator[int]:
    """Yield where a quote stands that is no part of a whole pair."""
    whole = [found.span() for found in _QUOTED.finditer(text)]
    for at, sign in enumerate(text):
        if sign in "'\"" and not any(start <= at < end for start, end in whole):
            yield at


_KEY = re.compile(r'"[a-z_]+":')


def has_words(text: str) -> bool:
    """Whether a JSON text may hold a string that is no key: a million lists of numbers need not be taken apart."""
    return '"' in _KEY.sub("", text)


def without_words(value: Any) -> Any:
    """Return decoded JSON with every text in a list replaced by `…`: keys and parents that are words. Numbers stay, and
    the texts that are the value of a key of an object, which are moments and names."""
    match value:
        case dict():
            return {key: without_words(part) if isinstance(part, dict | list) else part for key, part in value.items()}
        case list():
            return [
                without_words(part) if isinstance(part, dict | list) else GONE if isinstance(part, str) else part
                for part in value
            ]
        case _:
            return value


def names_of(config: Any) -> Iterator[str]:
    """Yield every name in a decoded redacted configuration: keys, and texts that are names."""
    match config:
        case dict():
            for key, value in config.items():
                yield key
                yield from names_of(value)
        case list():
            for value in config:
                yield from names_of(value)
        case str() if _NAME.fullmatch(config):
            yield config
