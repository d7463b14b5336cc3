"""Reading one table of a configuration: known keys, types, ranges, and every mistake kept instead of the first raised.

A `TableReader` hands out values of the wanted type and a harmless default where the value is a mistake, so that
reading goes on and the person sees all mistakes at once. Values of secret keys never come into a message.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Final

from waveimport.errors import BadValue, ConfigError, ConfigErrors, MissingKey, UnknownKey

KeyPath = tuple[str, ...]
Locate = Callable[[KeyPath], str]

PLACEHOLDER: Final = re.compile(r"\$\{([^{}]*)\}")


class Mistakes:
    """The mistakes found so far, each with its place."""

    def __init__(self, locate: Locate) -> None:
        self.locate = locate
        self.errors: list[ConfigError] = []

    def add(self, error: type[ConfigError], path: KeyPath, message: str, help: str | None = None) -> None:
        """Keep one mistake about the key at `path`."""
        self.errors.append(error(message, where=self.locate(path), help=help))

    def raise_any(self) -> None:
        """Raise the only mistake itself, several as ConfigErrors, none not at all."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise ConfigErrors(self.errors)


def nearest(name: str, names: Iterable[str]) -> str | None:
    """Return the valid name that `name` most likely was meant to be, or None."""
    by_folded = {candidate.casefold(): candidate for candidate in names}
    close = get_close_matches(name.casefold(), list(by_folded), n=1)
    return by_folded[close[0]] if close else None


def did_you_mean(name: str, names: Sequence[str], otherwise: str) -> str:
    """Return the mend for an unknown name: the nearest valid one, else `otherwise` followed by all of them."""
    found = nearest(name, names)
    return f"did you mean `{found}`?" if found else f"{otherwise}: {', '.join(names) or 'none'}"


def listed(names: Iterable[str]) -> str:
    """Return names for a sentence: `a`, `b` and `c`."""
    quoted = [f"`{name}`" for name in names]
    return " and ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)


def has_placeholder(value: str) -> bool:
    """Say whether a `${NAME}` still stands in `value`: its format cannot be judged yet."""
    return PLACEHOLDER.search(value) is not None


def type_name(value: object) -> str:
    """Return what a TOML value is, in the words of an error."""
    match value:
        case bool():
            return "true or false"
        case str():
            return "text"
        case int():
            return "a whole number"
        case float():
            return "a number"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a table"
        case _:
            return "a date or time"


def escaped(text: str) -> str:
    """Return a text on one line and free of control characters, as it stands between quotes in a message."""
    return text.encode("unicode_escape").decode("ascii").replace('"', '\\"')


def shown(value: object) -> str:
    """Return a value as TOML would write it, for an error about it."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return '"' + escaped(value) + '"'
        case int() | float():
            return repr(value)
        case _:
            return type_name(value)


class TableReader:
    """One table of the configuration, at `path`.

    `known` are its keys; `elsewhere` maps the keys of other tables to the table they belong to, for the mend of a
    key that stands in the wrong one. `secret` keys are named but never quoted in a message.
    """

    def __init__(
        self,
        mistakes: Mistakes,
        path: KeyPath,
        value: object,
        known: Sequence[str],
        *,
        elsewhere: Mapping[str, str] | None = None,
        secret: Sequence[str] = (),
    ) -> None:
        self.mistakes = mistakes
        self.path = path
        self.known = known
        self.secret = secret
        self.title = f"[{'.'.join(path)}]" if path else "the file"
        self.is_table = isinstance(value, Mapping)
        self.values: Mapping[str, object] = value if isinstance(value, Mapping) else {}
        if not self.is_table:
            name = ".".join(path)
            mend = f"write [{name}] above its keys"
            mistakes.add(BadValue, path, f"`{name}` must be a table, not {type_name(value)}", mend)
        for key in self.values:
            if key not in known:
                mistakes.add(UnknownKey, (*path, key), f"unknown key `{key}` in {self.title}",
                             self._mend_of_unknown(key, elsewhere or {}))  # fmt: skip

    def _mend_of_unknown(self, key: str, elsewhere: Mapping[str, str]) -> str:
        if key in elsewhere:
            return f"`{key}` belongs in {elsewhere[key]}"
        if found := nearest(key, self.known):
            return f"did you mean `{found}`?"
        if found := nearest(key, elsewhere):
            return f"did you mean `{found}`? It belongs in {elsewhere[found]}"
        return f"known keys here: {', '.join(self.known)}"

    def __contains__(self, key: str) -> bool:
        return key in self.values

    def wrong(self, key: str, expected: str, help: str) -> None:
        """Keep a BadValue about `key`: it `must be <expected>`."""
        value = self.values.get(key)
        if key not in self.secret:
            got = f", not {shown(value)}"
        else:
            got = "" if isinstance(value, str) else f", not {type_name(value)}"
        self.mistakes.add(BadValue, (*self.path, key), f"`{key}` in {self.title} must be {expected}{got}", help)

    def missing(self, key: str, help: str | None = None) -> None:
        """Keep a MissingKey about `key`, placed at the table."""
        self.mistakes.add(MissingKey, (*self.path, key), f"`{key}` is missing in {self.title}", help)

    def text(self, key: str, default: str = "", *, required: str | None = None) -> str:
        """Return a non-empty text without control characters; `required` is the mend if it is missing."""
        if key not in self.values:
            if required is not None:
                self.missing(key, required)
            return default
        value = self.values[key]
        if not isinstance(value, str):
            self.wrong(key, "text", f"write it in quotes: {key} = \"…\"")  # fmt: skip
        elif not value.strip():
            self.wrong(key, "text that is not empty", required or "give it a value, or leave it out")
        elif any(ord(character) < 32 and character not in "\n\r\t" for character in value):
            self.wrong(key, "text without control characters", "type it again by hand")
        else:
            return value
        return default

    def matching(self, key: str, pattern: re.Pattern[str], expected: str, mend: str, *,
                 default: str = "", required: bool = False) -> str:  # fmt: skip
        """Return a text that `pattern` matches as a whole, or that still holds a placeholder."""
        value = self.text(key, required=mend if required else None)
        if value and not has_placeholder(value) and pattern.fullmatch(value) is None:
            self.wrong(key, expected, mend)
            return default
        return value or default

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """Return one of `choices`."""
        value = self.text(key, default)
        if value in choices:
            return value
        self.wrong(key, f"one of {', '.join(choices)}", did_you_mean(value, choices, "one of"))
        return default

    def whole(self, key: str, default: int, least: int, most: int | None = None) -> int:
        """Return a whole number from `least` to `most`; true and false are none, though Python counts them so."""
        value = self.values.get(key, default)
        if isinstance(value, int) and not isinstance(value, bool) and least <= value <= (most or value):
            return value
        expected = f"a whole number from {least} to {most}" if most else f"a whole number of at least {least}"
        self.wrong(key, expected, f"for example {key} = {default}")
        return default

    def seconds(self, key: str, default: float) -> float:
        """Return a finite number of seconds above zero."""
        value = self.values.get(key, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and isinstance(value, int | float) and math.isfinite(value) and value > 0:
            return float(value)
        self.wrong(key, "a number of seconds above 0", f"for example {key} = {default:g}")
        return default

    def hours(self, key: str, default: float) -> float:
        """Return a finite number of hours, not below zero."""
        value = self.values.get(key, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number and isinstance(value, int | float) and math.isfinite(value) and value >= 0:
            return float(value)
        self.wrong(key, "a number of hours, 0 or more", f"for example {key} = 26")
        return default

    def flag(self, key: str, default: bool) -> bool:
        """Return true or false."""
        value = self.values.get(key, default)
        if isinstance(value, bool):
            return value
        self.wrong(key, "true or false", f"without quotes: {key} = {str(default).lower()}")
        return default

    def words(self, key: str) -> tuple[str, ...]:
        """Return a command: a list of texts, the program first; empty where there is none."""
        value = self.values.get(key, [])
        if isinstance(value, list) and all(isinstance(word, str) for word in value) and (not value or value[0]):
            return tuple(value)
        self.wrong(key, "a list of texts, the program first", f'for example {key} = ["/usr/local/bin/tell", "ops"]')
        return ()

    def names(self, key: str, default: tuple[str, ...], *, or_single: bool) -> tuple[str, ...]:
        """Return a list of texts without twins; a single text stands for a list of one if `or_single`."""
        if key not in self.values:
            return default
        value = self.values[key]
        if or_single and isinstance(value, str) and value:
            return (value,)
        if isinstance(value, list) and all(isinstance(name, str) and name for name in value):
            twins = [name for name in dict.fromkeys(value) if value.count(name) > 1]
            if twins:
                message = f"`{key}` in {self.title} names {listed(twins)} twice"
                self.mistakes.add(BadValue, (*self.path, key), message, "keep one of them")
            return tuple(dict.fromkeys(value))
        expected = "a name or a list of names" if or_single else "a list of names"
        self.wrong(key, expected, f'write {key} = ["{value if isinstance(value, str) and value else "…"}"]')
        return default
