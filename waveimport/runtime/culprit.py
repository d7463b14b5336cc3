"""The column behind the failure of a batch.

The service names a column that it does not know, and gives 500 with nothing but an error id for some others.
"""

from collections.abc import Sequence
from dataclasses import replace

from waveimport.core.ranges import chunks
from waveimport.core.settings import Column
from waveimport.core.waves import BatchKind
from waveimport.core.wide import COLUMNS_MAX
from waveimport.errors import QueryRefused, ServerFault, WaveImportError
from waveimport.runtime.job_records import JobRecords
from waveimport.runtime.slices import Slice
from waveimport.runtime.steps import Steps
from waveimport.runtime.sweeping import is_sweep
from waveimport.store.batches import Claim


def explained(steps: Steps, records: JobRecords, claim: Claim, error: WaveImportError) -> WaveImportError:
    """Return the error that fails a batch for good, with the column's name where one column is behind it.

    Asks the source some queries of one row each if the batch reads rows and its query was refused or gave 500. Raises
    nothing of what they meet: the error is then returned as it is.
    """
    if not isinstance(error, QueryRefused | ServerFault) or is_sweep(claim) or claim.kind is BatchKind.PLAN:
        return error
    try:
        culprit = _culprit(steps, records, claim)
    except WaveImportError:
        return error
    if culprit is None:
        return error
    said = f"{error.message}; it is the column `{culprit}`: without it the query is answered"
    return type(error)(said, where=error.where, help=error.help)


def _culprit(steps: Steps, records: JobRecords, claim: Claim) -> str | None:
    """Return the column without which a batch's query is answered, by halves; None where it is not one column.

    Raises what ends all asking: a stop, a refused login, a source that is gone.
    """
    record, narrowed, rows = records.of(claim), records.narrowed(claim), Slice.of(claim.spec)
    keys = [record.column(name) for name in record.key]
    suspects = [column for column in record.columns if column not in keys]

    def fails(columns: Sequence[Column]) -> bool:
        try:
            steps.ask(claim, rows.query(replace(narrowed, columns=(*keys, *columns))), 1)
        except (QueryRefused, ServerFault):
            return True
        return False

    if not suspects or fails(()):
        return None
    parts = chunks(suspects, COLUMNS_MAX - len(keys))
    while (found := next((part for part in parts if fails(part)), None)) is not None and len(found) > 1:
        parts = chunks(found, (len(found) + 1) // 2)
    if found is None or fails([column for column in suspects if column != found[0]][: COLUMNS_MAX - len(keys)]):
        return None
    return found[0].name
