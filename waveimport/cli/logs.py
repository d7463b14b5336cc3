"""Logging of a command: to stderr, in UTC, as text for people or as one JSON object a line for machines.

Records are made by the standard library's loggers, ours and those of others, and written by structlog, which adds what
the thread at work has bound (`waveimport.log_fields`): job and lease, wave, batch, attempt, the last request.
"""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, TextIO

from waveimport.log_fields import fields

if TYPE_CHECKING:
    from structlog.stdlib import ProcessorFormatter
    from structlog.typing import EventDict

_LEVELS: Final = {-1: logging.WARNING, 0: logging.INFO}
_HANDLER_NAME: Final = "waveimport"
_CONTEXT: Final = ("job", "token", "wave", "batch", "attempt", "request_id")
_EXTRAS: Final = ("method", "kind", "status", "rows", "bytes", "seconds", "operation_id")
"""What our own records may bring beside their message; those of others bring nothing that we know to be harmless."""
_OMITTED_IN_TEXT: Final = frozenset({"job", "token", "wave", "method", "kind", "status"})
"""A line for people has these in its message, or in the id of its batch, and is to fit on a screen."""


class _Lines(logging.Formatter):
    """One record, one line. structlog is imported by the first: it costs as much as all of click's help."""

    def __init__(self, log_format: str, scrub: Callable[[str], str]) -> None:
        super().__init__()
        self.as_json = log_format == "json"
        self.scrub = scrub
        self._formatter: ProcessorFormatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._formatter is None:
            self._formatter = self._made()
        return self._formatter.format(record)

    def _made(self) -> "ProcessorFormatter":
        from structlog.processors import JSONRenderer, LogfmtRenderer, format_exc_info
        from structlog.stdlib import ExtraAdder, ProcessorFormatter

        context = LogfmtRenderer()
        as_json = JSONRenderer(serializer=json.dumps, ensure_ascii=False)
        return ProcessorFormatter(
            foreign_pre_chain=[_with_fields, ExtraAdder(allow=_EXTRAS), format_exc_info],
            processors=[self._shape, as_json if self.as_json else lambda *event: _as_text(event[-1], context)],
        )

    def _shape(self, logger: Any, method: str, event: "EventDict") -> "EventDict":
        """Name and order the parts of a line, and take the secrets out of each."""
        record = event.pop("_record")
        del event["_from_structlog"]
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "level": record.levelname,
            "logger": record.name,
            "message": event.pop("event"),
        }
        trace = event.pop("exception", None)
        line |= {name: event[name] for name in (*_CONTEXT, *_EXTRAS) if event.get(name) is not None}
        if trace:
            line["trace"] = trace
        return {name: self.scrub(value) if isinstance(value, str) else value for name, value in line.items()}


def _with_fields(logger: Any, method: str, event: "EventDict") -> "EventDict":
    """Add what is bound where the record was made."""
    return {**fields(), **event}


def _as_text(line: "EventDict", render: Callable[[Any, str, "EventDict"], str]) -> str:
    """Return `time LEVEL message`, then what is known of where it was said, as `name=value`, then the trace."""
    said, trace = f"{line.pop('time')} {line.pop('level')} {line.pop('message')}", line.pop("trace", "")
    del line["logger"]
    context = render(None, "", {name: value for name, value in line.items() if name not in _OMITTED_IN_TEXT})
    return said + (f"  {context}" if context else "") + (f"\n{trace}" if trace else "")


class _StandardError(logging.StreamHandler[TextIO]):
    """Writes to what `sys.stderr` is at the moment: while bars are drawn, that puts lines above them."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        self.stream = sys.stderr
        super().emit(record)


def configure_logging(verbosity: int, log_format: str, scrub: Callable[[str], str]) -> None:
    """Send log records to stderr: warnings under `-q`, information by default, everything of ours under `-v`.

    Other libraries are heard from warnings upwards only: their debug records hold request headers and signatures.
    Every text passes through `scrub`. Calling it again replaces what the last call set up.
    """
    handler = _StandardError()
    handler.name = _HANDLER_NAME
    handler.setFormatter(_Lines(log_format, scrub))
    root = logging.getLogger()
    for old in [old for old in root.handlers if old.name == _HANDLER_NAME]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("waveimport").setLevel(_LEVELS.get(verbosity, logging.DEBUG))
