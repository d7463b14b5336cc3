"""Configured values as people may see them: secrets hidden, the names of variables not."""

import re
from typing import Final

from waveimport.core.settings_reader import PLACEHOLDER

HIDDEN: Final = "***"
_TELLING: Final = re.compile(r"pass|pwd|secret|token|key", re.IGNORECASE)


def masked(text: str) -> str:
    """Return a secret with all that is written of it as `***`; each `${NAME}` stays, which names it and is none."""
    shown = ""
    end = 0
    for match in PLACEHOLDER.finditer(text):
        shown += (HIDDEN if match.start() > end else "") + match[0]
        end = match.end()
    return shown + (HIDDEN if end < len(text) else "")


def masked_url(url: str) -> str:
    """Return a URL with passwords in it masked: behind the user, and in parameters whose name says so.

    What is no URL is masked as a whole; where it is unclear what is a password, rather too much is.
    """
    scheme, there, rest = url.partition("://")
    if not there:
        return masked(url)
    if scheme.partition("+")[0] == "sqlite":
        return url
    # A password that is not encoded may hold any of `/?#@`, so it is taken to end at the last `@` of all.
    login, at, place = rest.rpartition("@")
    user, colon, password = login.partition(":")
    place, mark, query = place.partition("?")
    parameters = [_parameter(one) for one in query.split("&")] if mark else []
    login = f"{user}{colon}{masked(password)}" if at else ""
    return f"{scheme}://{login}{at}{_place(place)}{mark}{'&'.join(parameters)}"


def _place(place: str) -> str:
    """Return host, port and path; what stands where a port belongs and is none may be a password without its host."""
    end = re.search(r"[/#]|$", place)
    assert end is not None, "every text has an end"
    host, colon, port = place[: end.start()].rpartition(":")
    if not colon or host.startswith("[") or port.isdigit() or PLACEHOLDER.fullmatch(port):
        return place
    return f"{host}:{HIDDEN}"


def _parameter(text: str) -> str:
    name, equals, value = text.partition("=")
    return f"{name}{equals}{masked(value)}" if _TELLING.search(name) else text
