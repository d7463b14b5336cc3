"""Which records a new job reads incrementally, and since when: watermarks, configuration and tables together."""

from collections.abc import Sequence

from waveimport.core.increments import Since, increments
from waveimport.core.settings import RecordSettings, Settings
from waveimport.store import watermarks
from waveimport.store.destination import Target, holds_rows, table_exists
from waveimport.store.transactions import Database


def targets_of(settings: Settings, records: Sequence[RecordSettings]) -> list[Target]:
    """Return the destination table of each record."""
    return [Target(settings.prefix + record.table_name, record) for record in records]


def filled_records(destination: Database, targets: Sequence[Target]) -> set[str]:
    """Return the records whose tables are there and hold rows."""
    return destination.run(
        lambda connection: {
            target.record.name
            for target in targets
            if table_exists(connection, target) and holds_rows(connection, target)
        }
    )


def since_of_new_job(
    settings: Settings, records: Sequence[RecordSettings], text: str, database: Database, filled: set[str]
) -> dict[str, Since]:
    """Return since when a new job that is bound to `text` reads each of these main records; the others in full."""
    marks = database.run(lambda connection: watermarks.read(connection, settings.profile))
    return increments(records, marks, text, filled=filled)
