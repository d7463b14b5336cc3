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
_TABLE_LENGTH = 64  # of MySQL
_JOB_DIGITS = 8
_OF_A_SWAP = re.compile(rf".*__(?:new|old)_[0-9a-f]{{{_JOB_DIGITS}}}", re.IGNORECASE)


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


def beside_name(table: str, job_id: str) -> str:
    """Return the name of the table that a job reads into, `<table>__new_<8 hex digits>`, at most 64 characters."""
    return _of_job(table, "__new_", job_id)


def aside_name(table: str, job_id: str) -> str:
    """Return the name of the table that a job has replaced, `<table>__old_<8 hex digits>`, at most 64 characters."""
    return _of_job(table, "__old_", job_id)


def is_swap_name(table: str) -> bool:
    """Say whether a table's name is of the kind that is kept for the tables of a swap."""
    return _OF_A_SWAP.fullmatch(table) is not None


def _of_job(table: str, word: str, job_id: str) -> str:
    # Of the whole name, so that two long tables that are cut to one beginning stay apart.
    digits = hashlib.sha256(f"{job_id}/{table}".encode()).hexdigest()[:_JOB_DIGITS]
    return f"{table[: _TABLE_LENGTH - len(word) - _JOB_DIGITS]}{word}{digits}"
