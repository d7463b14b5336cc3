"""What a job need not read again: the records of which only changes are asked for, and since when.

A main record and all that derives from it are read in one way, full or incremental, because derived rows are fetched
by their parents. They are incremental where the record has a cursor, everything that it and its descendants need a
watermark for has one, nothing about them has been configured otherwise since those were set, and their tables still
hold rows: a table that was dropped or emptied is filled again.

A watermark is the source's clock when a job began to read the record, minus the look-back: what was changed while the
job ran lies behind it and is read by the next.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from waveimport.core.fingerprint import config_difference
from waveimport.core.graph import root_of
from waveimport.core.settings import RecordSettings

MOMENT_FORMAT: Final = "%Y-%m-%d %H:%M:%S"
"""A moment as text: UTC, to the second, as NetSuite's cursors are."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """Everything of a record up to `moment` ("YYYY-MM-DD HH:MM:SS", UTC) is in; `text` is what the job that read it
    was bound to, None where that is not known any more."""

    moment: str
    text: str | None


@dataclass(frozen=True, slots=True)
class Since:
    """From when on the changes of a main record are read, and those of the records below it that have a cursor of
    their own. Moments are "YYYY-MM-DD HH:MM:SS", UTC."""

    record: str
    below: Mapping[str, str]


def family(root: str, records: Sequence[RecordSettings]) -> list[RecordSettings]:
    """Return a main record and everything that derives from it, in configured order."""
    return [record for record in records if root_of(record.name, records) == root]


def increments(
    records: Sequence[RecordSettings],
    watermarks: Mapping[str, Watermark],
    text: str,
    *,
    filled: Collection[str],
) -> dict[str, Since]:
    """Return, by main record, since when its changes are read; a record that is not in it is read in full.

    `watermarks` by record, `text` what today's jobs are bound to (see `core.fingerprint`), `filled` the records whose
    tables hold rows. The watermarks of a family move together, so its main record's speaks for all of them.
    """
    found: dict[str, Since] = {}
    for record in records:
        if record.derived_from is not None or record.cursor is None:
            continue
        members = family(record.name, records)
        if any(one.name not in filled for one in members):
            continue
        below = [one.name for one in members if one.cursor is not None and one is not record]
        if any(name not in watermarks for name in (record.name, *below)):
            continue
        mark = watermarks[record.name]
        if mark.text is None or _differs(mark.text, text, {one.name for one in members}):
            continue
        found[record.name] = Since(mark.moment, {name: watermarks[name].moment for name in below})
    return found


def _differs(then: str, now: str, names: Collection[str]) -> bool:
    """Whether anything that these records read, or where their rows stand, is configured otherwise."""
    for line in config_difference(then, now):
        match line.partition(": ")[0].split("."):
            case ["records", name, *rest] if name not in names or rest == ["depends_on"]:
                continue
            case ["base_url"]:
                continue
            case _:
                return True
    return False
