"""How long a batch waits before it is tried again. Pure: the randomness is handed in as a fraction."""

REFUSED_BASE_SECONDS = 0.5
REFUSED_MOST_SECONDS = 60.0
OUTAGE_BASE_SECONDS = 1.0
OUTAGE_MOST_SECONDS = 30.0


def growing(attempt: int, fraction: float, *, base_seconds: float, most_seconds: float) -> float:
    """Return a delay in seconds that doubles with `attempt` (from 0), spread over its upper half by `fraction`.

    The spread keeps batches that failed together from coming back together.
    """
    full = min(most_seconds, base_seconds * 2.0 ** min(attempt, 30))
    return full * (0.5 + 0.5 * fraction)


def after_refusal(tries: int, fraction: float) -> float:
    """Return the delay after a refusal of the batch itself; `tries` were spent before it."""
    return growing(tries, fraction, base_seconds=REFUSED_BASE_SECONDS, most_seconds=REFUSED_MOST_SECONDS)


def after_outage(failures: int, fraction: float) -> float:
    """Return the delay after a fault that was not the batch's own; `failures` of them came in a row."""
    return growing(failures, fraction, base_seconds=OUTAGE_BASE_SECONDS, most_seconds=OUTAGE_MOST_SECONDS)
