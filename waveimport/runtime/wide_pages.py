"""Pages of records of more than 100 columns: several SELECTs a page, asked again while rows change between them."""

from dataclasses import replace

from waveimport.core.records import Page
from waveimport.core.wide import COLUMNS_MAX, WideReader
from waveimport.errors import BadReply
from waveimport.runtime.slices import Slice
from waveimport.runtime.steps import Steps
from waveimport.store.batches import Claim

JOINS_MAX = 5
"""How often a page of more than 100 columns is asked for anew while its rows change between its SELECTs."""


def read_wide(steps: Steps, claim: Claim, wide: WideReader, where: str | None, rows: Slice) -> Page:
    """Return a page of whole rows of more than 100 columns: what the first SELECT gives, and the others up to its
    last key. `where` is the condition of each.

    Asks for all of them again while rows change between them; then raises BadReply. Raises Stopped, and what the source
    and reading its replies raise.
    """
    head, *rest = [replace(part, where=where) for part in wide.parts]
    for _ in range(JOINS_MAX):
        first = wide.readers[0].read(steps.ask(claim, rows.query(head)))
        if not first.rows:
            return first
        until = wide.key_of(first.rows[-1])
        others = []
        for part, reader in zip(rest, wide.readers[1:], strict=True):
            steps.check_stop()
            others.append(reader.read(steps.ask(claim, rows.query(part, until=until))))
        page = wide.join(first, others)
        if page is not None:
            return page
    raise BadReply(
        f"rows of {claim.record} changed or went between the {len(wide.parts)} queries that its more than"
        f" {COLUMNS_MAX} columns need, {JOINS_MAX} times in a row",
        where=claim.batch_id,
        help="run again when fewer people work in the account, or configure fewer columns; is the key unique?",
    )
