"""Logging of a command: to stderr, in UTC, as text for people or as one JSON object a line for machines."""

import json
import logging
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, TextIO

_LEVELS: Final = {-1: logging.WARNING, 0: logging.INFO}
_HANDLER_NAME: Final = "waveimport"


class _Lines(logging.Formatter):
    def __init__(self, log_format: str, scrub: Callable[[str], str]) -> None:
        super().__init__()
        self.as_json = log_format == "json"
        self.scrub = scrub

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        message = self.scrub(record.getMessage())
        trace = self.scrub(self.formatException(record.exc_info)) if record.exc_info else ""
        if not self.as_json:
            return f"{at} {record.levelname} {message}" + (f"\n{trace}" if trace else "")
        line = {"time": at, "level": record.levelname, "logger": record.name, "message": message}
        return json.dumps(line | {"trace": trace} if trace else line, ensure_ascii=False)


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
