"""How long a batch waits before it is tried again. Pure: the randomness is handed in as a fraction."""

REFUSED_BASE_SECONDS = 0.5
REFUSED_MOST_SECONDS = 60.0
OUTAGE_BASE_SECONDS = 1.0
OUTAGE_MOST_SECONDS = 30.0
LONGEST_SECONDS = max(REFUSED_MOST_SECONDS, OUTAGE_MOST_SECONDS)


def growing(attempt: int, fraction: float, *, base_seconds: float, most_seconds: float) -> float:
    """Return a delay in seconds that doubles with `attempt` (from 0), spread over its upper half by `fraction`.

    The spread keeps batches that failed together from coming back together.
    """
    full = min(most_seconds, base_seconds * 2.0 ** min(attempt, 30))
    return full * (0.5 + 0.5 * fraction)


def is_over(until: float, now: float) -> bool:
    """Return whether a batch that was to wait until a moment may be tried (both in seconds of one clock).

    A moment further ahead than any delay is long was set by a clock that has gone back since: held to it, a batch would
    wait for as long as the clock had been wrong.
    """
    return not now < until <= now + LONGEST_SECONDS


def after_refusal(tries: int, fraction: float) -> float:
    """Return the delay after a refusal of the batch itself; `tries` were spent before it."""
    return growing(tries, fraction, base_seconds=REFUSED_BASE_SECONDS, most_seconds=REFUSED_MOST_SECONDS)


def after_outage(failures: int, fraction: float) -> float:
    """Return the delay after a fault that was not the batch's own; `failures` of them came in a row."""
    return growing(failures, fraction, base_seconds=OUTAGE_BASE_SECONDS, most_seconds=OUTAGE_MOST_SECONDS)
