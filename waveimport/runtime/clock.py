"""The only reader of time in waveimport (leases go by the database's clock, see `store.dialect`)."""

import time
from datetime import UTC, datetime


def monotonic() -> float:
    """Return seconds of a clock that never goes back: for deadlines and rates."""
    return time.monotonic()


def utc_now() -> datetime:
    """Return the wall clock, UTC: for names and messages, never for a decision."""
    return datetime.now(UTC)


def epoch_seconds() -> float:
    """Return the wall clock as seconds since 1970: to compare with the service's."""
    return time.time()


def pause(seconds: float) -> None:
    """Sleep."""
    time.sleep(seconds)
