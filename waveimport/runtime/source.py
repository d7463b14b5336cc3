"""What a run needs of the source, so that it needs no HTTP."""

from typing import Protocol


class Source(Protocol):
    """One page's bytes, or a named error; and what time it is there."""

    def query(self, sql: str, *, limit: int = ..., offset: int = ...) -> bytes:
        """Return the reply's body."""

    def epoch_seconds(self) -> float | None:
        """Return the source's clock, rather too early than too late; None before the first reply."""
