"""`refresh = "swap"`: which families a job reads beside their tables, and what the tables are called meanwhile.

A family, a main record with what derives from it, is read beside its tables when a job reads it in full while one of
them holds rows: whoever reads the destination sees the old tables whole until the new ones are, and never lines of new
orders beside old orders. A first import and an incremental job have nothing to hide and work in place.

Three tables of a record can be there while a job swaps: the table itself; the one beside it, into which the job reads;
and, once the job has put that one into its place, the old one, aside until the job is completed. The names of the last
two (see `core.names`) are of one job alone. So they tell how far it has come, whoever goes on with it: beside, not
swapped yet; aside, swapped. And what another job has left behind can never be taken for its own.
"""

from collections.abc import Collection, Sequence

from waveimport.core.increments import family
from waveimport.core.settings import RecordSettings, Refresh


def roots_to_swap(
    records: Sequence[RecordSettings], *, incremental: Collection[str], filled: Collection[str]
) -> tuple[str, ...]:
    """Return the main records whose families a new job over `records` reads beside their tables.

    `incremental` are the main records of which it reads only changes, `filled` the records whose tables hold rows.
    """
    return tuple(
        record.name
        for record in records
        if record.derived_from is None
        and record.refresh is Refresh.SWAP
        and record.name not in incremental
        and any(one.name in filled for one in family(record.name, records))
    )
