"""What log lines bear beside their message: names and values that the code at work binds, in its thread or context.

structlog does the same, and takes 60 ms to be imported for it; only what writes lines needs structlog.
"""

import contextlib
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from types import MappingProxyType

_NOTHING: Mapping[str, object] = MappingProxyType({})
_fields: ContextVar[Mapping[str, object]] = ContextVar("waveimport_log_fields", default=_NOTHING)


def fields() -> Mapping[str, object]:
    """Return what is bound here."""
    return _fields.get()


def bind(**values: object) -> None:
    """Have lines bear these from now on, until the `bound` block around it ends."""
    _fields.set({**_fields.get(), **values})


@contextlib.contextmanager
def bound(**values: object) -> Iterator[None]:
    """Have lines bear these inside the block; behind it what was bound before it is so again."""
    token = _fields.set({**_fields.get(), **values})
    try:
        yield
    finally:
        _fields.reset(token)
