"""Whether the source shows anything of a record: one that is hidden from the role looks empty, and is not."""

from waveimport.core.records import PageReader
from waveimport.core.settings import RecordSettings
from waveimport.netsuite.narrowing import alive
from waveimport.netsuite.suiteql import page_query
from waveimport.runtime.steps import Steps
from waveimport.store.batches import Claim


class Visibility:
    """Remembers of a run which records have shown a row. Threads share one: where two ask at once, both learn it."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._seen: dict[str, bool] = {}

    def saw(self, record: RecordSettings) -> None:
        """Tell that a page has shown a row of the record."""
        self._seen[record.name] = True

    def is_seen(self, claim: Claim, record: RecordSettings) -> bool:
        """Whether the source shows any row of the record at all: if not, what is known of it must stay. Asked once a
        run, in the name of the batch, where no page has shown it. Raises the source's errors."""
        if record.name not in self._seen:
            only = alive(record)
            page = PageReader(only).read(self._steps.ask(claim, page_query(only), 1))
            self._seen.setdefault(record.name, bool(page.rows))
        return self._seen[record.name]
