"""What the log lines about a batch bear beside their message, bound in the thread that writes them."""

from contextlib import AbstractContextManager

from waveimport.log_fields import bound, fields
from waveimport.store.batches import Claim


def about(claim: Claim, request_id: str | None = None) -> AbstractContextManager[None]:
    """Have this thread's lines name the batch, its wave and this attempt at it, until the block ends.

    `request_id` is of the request that the lines are about; each one that is sent inside the block takes its place.
    """
    return bound(
        job=claim.job_id,
        wave=claim.wave_number,
        batch=claim.batch_id,
        attempt=claim.attempt,
        request_id=request_id,
    )


def last_request() -> str | None:
    """Return the id of the request that this thread sent last, None where it has sent none."""
    request_id = fields().get("request_id")
    return None if request_id is None else str(request_id)
