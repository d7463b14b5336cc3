"""Names at the destination: every source name becomes one that both databases take without surprise.

SQLite and MySQL differ in case, length and quoting, and a `%` in a column name breaks parameter styles. So a table
or column keeps its name only if it is `[a-z][a-z0-9_]{0,50}`; any other is mapped, readably and for ever alike.
"""

import hashlib
import re

MAX_NAME_LENGTH = 51  # leaves 13 of MySQL's 64 characters to a prefix

_SAFE = re.compile(r"[a-z][a-z0-9_]{0,50}")
_UNSAFE_RUN = re.compile(r"[^a-z0-9]+")
_HASH_DIGITS = 10


def is_safe_name(name: str) -> bool:
    """Say whether `name` can stand at the destination as it is."""
    return _SAFE.fullmatch(name) is not None


def target_name(source: str) -> str:
    """Return the destination name of a source name: itself if safe, else `<mapped>_<10 hex digits>`.

    The digits are of SHA-256 over the exact source name, so that two sources which look alike once mapped
    (`Größe`, `Gr_e`; `ID`, `id`) do not meet. Names that start with `_` are mapped like other unsafe ones, because
    `_job_id` and `_synced_at` stand in every table. The result is always safe, so mapping it again changes nothing.
    """
    if is_safe_name(source):
        return source
    digits = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH_DIGITS]
    words = _UNSAFE_RUN.sub("_", source.lower()).strip("_")
    if not words[:1].isalpha():
        words = f"x_{words}".rstrip("_")
    room = MAX_NAME_LENGTH - _HASH_DIGITS - 1
    return f"{words[:room].rstrip('_')}_{digits}"
