"""How many requests may be in flight, and why no more: what an operator is told of a limit that is cut."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class Strike(StrEnum):
    """What cut the limit: a 429, or a 401 that a lone, freshly signed request did not confirm, which the service gives
    under load as well."""

    RATE_LIMITED = "429"
    LOGIN_UNDER_LOAD = "401"


@dataclass(frozen=True, slots=True)
class Limits:
    """The requests of one run. `configured` of them may be in flight at most, `share` of these while `runs` of the same
    database ask the same account, `allowed` now. `struck_at` (UTC) is when and `strike` by what the limit was cut last;
    None for never."""

    configured: int
    share: int
    runs: int
    allowed: int
    in_flight: int
    struck_at: datetime | None = None
    strike: Strike | None = None


def share_of(rank: int, runs: int, configured: int) -> int:
    """Return the part of `configured` requests for the run of that rank (from 0) among `runs`: at least one."""
    return max(1, configured // runs + (rank < configured % runs))


def reason(limits: Limits) -> str | None:
    """Say why fewer requests than are configured may be in flight; None where they may."""
    if limits.allowed >= limits.configured:
        return None
    reasons = []
    if limits.share < limits.configured:
        others = limits.runs - 1
        reasons.append(
            f"{others} other {'run on this database asks' if others == 1 else 'runs on this database ask'} the same"
            f" account, which leaves {limits.share} of {limits.configured}"
        )
    if limits.allowed < limits.share and limits.struck_at is not None:
        what = (
            "NetSuite answered 429: its limit is in use, by other integrations of the account too"
            if limits.strike is Strike.RATE_LIMITED
            else "NetSuite refused a good login (401), as it does under load"
        )
        reasons.append(f"{what}; the last one at {limits.struck_at:%H:%M:%S} UTC")
    return "; ".join(reasons) or None
