"""Records and their dependencies into numbered waves.

Main records are levelled by `depends_on` (longest path from a record without dependencies); each level is a main
wave. Every derived record is a wave of its own, numbered after the main waves by (depth, name); a derived record of
a derived record has depth 2, and so on. What a derived record depends on is added to its root parent.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from waveimport.core.settings import RecordSettings
from waveimport.core.waves import WaveKind
from waveimport.errors import BadRecords


@dataclass(frozen=True, slots=True)
class PlannedWave:
    """One wave to be made. `parent_wave` and `depth` are None and 0 for a main wave."""

    wave_number: int
    kind: WaveKind
    records: tuple[str, ...]
    parent_wave: int | None = None
    depth: int = 0


def root_of(name: str, records: Sequence[RecordSettings]) -> str:
    """Return the main record that `name` derives from, itself if it is main. Raises BadRecords on a cycle."""
    by_name = {record.name: record for record in records}
    seen = [name]
    while (parent := by_name[seen[-1]].derived_from) is not None:
        if parent in seen:
            raise BadRecords(f"records derive from each other: {' -> '.join([*seen, parent])}")
        seen.append(parent)
    return seen[-1]


def select(records: Sequence[RecordSettings], names: Collection[str] | None) -> tuple[RecordSettings, ...]:
    """Return the records named, with all that derive from them, in configured order; all of them for None.

    Raises BadRecords for a name that is not configured and for a derived record named without its parent, whose
    batches nothing would make.
    """
    if names is None:
        return tuple(records)
    by_name = {record.name: record for record in records}
    for name in names:
        if name not in by_name:
            raise BadRecords(f"no record `{name}` is configured", help=f"the records are {', '.join(sorted(by_name))}")
    chosen = set(names)
    for _ in records:
        chosen |= {record.name for record in records if record.derived_from in chosen}
    for name in names:
        parent = by_name[name].derived_from
        if parent is not None and parent not in chosen:
            raise BadRecords(
                f"`{name}` derives from `{parent}`, whose batches make its own",
                help=f"name `{root_of(name, records)}`: what derives from it comes with it",
            )
    return tuple(record for record in records if record.name in chosen)


def plan_waves(records: Sequence[RecordSettings]) -> tuple[PlannedWave, ...]:
    """Return the waves of a job over `records`, in order of their numbers.

    A dependency on a record that is not among `records` (left out by `--records`) counts as satisfied.
    Raises BadRecords on a cycle.
    """
    mains = {record.name for record in records if record.derived_from is None}
    needs: dict[str, set[str]] = {name: set() for name in sorted(mains)}
    for record in records:
        root = root_of(record.name, records)
        needs[root] |= {name for name in record.depends_on if name in mains and name != root}
    sorter = TopologicalSorter(needs)
    try:
        sorter.prepare()
    except CycleError as error:
        raise BadRecords(f"records depend on each other: {' -> '.join(error.args[1])}") from error
    waves: list[PlannedWave] = []
    while sorter.is_active():
        level = tuple(sorted(sorter.get_ready()))
        waves.append(PlannedWave(len(waves) + 1, WaveKind.MAIN, level))
        sorter.done(*level)
    home = {name: wave.wave_number for wave in waves for name in wave.records}
    depths: list[tuple[int, str, str]] = []
    for record in records:
        if record.derived_from is not None:
            depths.append((_depth(record, records), record.name, record.derived_from))
    for depth, name, parent in sorted(depths):
        home[name] = len(waves) + 1
        waves.append(PlannedWave(len(waves) + 1, WaveKind.DERIVED, (name,), home[parent], depth))
    return tuple(waves)


def _depth(record: RecordSettings, records: Sequence[RecordSettings]) -> int:
    by_name = {other.name: other for other in records}
    depth, parent = 0, record.derived_from
    while parent is not None:
        depth, parent = depth + 1, by_name[parent].derived_from
    return depth
