"""Other policies for `replay --what-if`: what would have been decided on what passes saw, with another limit."""

from collections.abc import Callable
from dataclasses import replace

from waveimport.core.waves import Decision, JobSnapshot, decide

Policy = Callable[[JobSnapshot], Decision]


def with_limit(limit: int) -> Policy:
    """Return today's rules for a run that has `limit` slots, as many of them in use as were.

    A pass counts what can be claimed no further than the slots that it has, so more slots than were there find no more
    batches than it counted.
    """

    def policy(snapshot: JobSnapshot) -> Decision:
        in_use = snapshot.limit - snapshot.free_slots
        return decide(replace(snapshot, limit=limit, free_slots=max(0, limit - in_use)))

    return policy
