"""The rules of `[records.*]`: what one record must say, and what the records must be to each other.

Words: a record without `derived_from` is a main record; one with it is derived, and belongs to the main record at
the end of its chain of parents. What a derived record depends on counts as a dependency of that main record, because
the derived rows are fetched while it is.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import Final

from waveimport.core.names import is_swap_name, target_name
from waveimport.core.settings_reader import KeyPath, Mistakes, TableReader, did_you_mean, listed, nearest, type_name
from waveimport.core.settings_types import Column, ColumnKind, Deletes, RecordSettings, Refresh
from waveimport.errors import BadRecords, BadValue, MissingKey

RECORD_KEYS: Final = (
    "columns", "table", "where", "key", "table_name", "depends_on", "derived_from", "parent_key", "cursor", "deletes",
    "refresh",
)  # fmt: skip

RESERVED_TABLES: Final = frozenset({
    "account_runs", "batch_events", "import_accounts", "import_columns", "import_jobs",
    "import_watermarks", "wave_batches", "wave_coordination", "wave_journal", "waveimport_version",
})  # fmt: skip
"""Tables of the importer itself: rows landed in one of them would destroy the job that lands them."""

MAX_PRECISION: Final = 65  # of MySQL's DECIMAL
MAX_SCALE: Final = 30  # of MySQL's DECIMAL

_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,50}")
_TABLE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_DECIMAL: Final = re.compile(r"decimal\(\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\)")
_KINDS: Final = ("text", "integer", "boolean", "decimal(p,s)", "float", "date", "timestamp")
_PLAIN_KINDS: Final = frozenset(kind.value for kind in ColumnKind) - {ColumnKind.DECIMAL.value}
_MAX_COLUMN_NAME: Final = 128
_MAX_KEY_COLUMNS: Final = 16  # of MySQL's index
_DEFAULT_KEY: Final = ("id",)
_COLUMNS_EXAMPLE: Final = 'for example columns = { id = "integer", entityid = "text" }'


@dataclass(frozen=True, slots=True)
class _Draft:
    """A record as read, with the destination name as it was configured, and whether `refresh` was."""

    record: RecordSettings
    wanted_table: str
    says_refresh: bool = False


def read_records(
    mistakes: Mistakes, value: object, prefix: str, elsewhere: Mapping[str, str]
) -> tuple[RecordSettings, ...]:
    """Read `[records]` into records in the order of the file; what is wrong with them is kept in `mistakes`."""
    if value is None or value == {}:
        mistakes.add(MissingKey, ("records",), "no record is configured",
                     "`waveimport discover` prints what the account has; by hand: [records.customer] with "
                     'columns = { id = "integer" }')  # fmt: skip
        return ()
    if not isinstance(value, Mapping):
        message = f"`records` must be tables, not {type_name(value)}"
        mistakes.add(BadValue, ("records",), message, "write [records.<name>] above the keys of each record")
        return ()
    drafts = []
    for name, table in value.items():
        if _NAME.fullmatch(name) is None:
            mistakes.add(BadValue, ("records", name), f"the record name `{name}` is no identifier",
                         "a letter, then letters, digits and _, at most 51 characters; the destination can be "
                         "called otherwise by `table_name`")  # fmt: skip
        drafts.append(_record(mistakes, name, table, elsewhere))
    records = tuple(draft.record for draft in drafts)
    _check_destinations(mistakes, drafts, prefix)
    return _refreshed(mistakes, drafts, _check_relations(mistakes, records))


def _record(mistakes: Mistakes, name: str, value: object, elsewhere: Mapping[str, str]) -> _Draft:
    path = ("records", name)
    reader = TableReader(mistakes, path, value, RECORD_KEYS, elsewhere=elsewhere)
    if not reader.is_table:
        return _Draft(RecordSettings(name=name, table=name, columns=(), table_name=target_name(name)), name)
    columns = _columns(reader, (*path, "columns"))
    key = reader.names("key", _DEFAULT_KEY, or_single=True)
    if not key:
        reader.wrong("key", "a column or a list of columns", f"leave it out for {_DEFAULT_KEY[0]}")
        key = _DEFAULT_KEY
    if len(key) > _MAX_KEY_COLUMNS:
        reader.wrong("key", f"at most {_MAX_KEY_COLUMNS} columns", "name only what makes a row unique")
    wanted_table = reader.text("table_name", name)
    record = RecordSettings(
        name=name,
        table=reader.matching("table", _TABLE, "a SuiteQL table", "letters, digits and _ only", default=name),
        columns=columns,
        key=key,
        where=reader.text("where") or None,
        table_name=target_name(wanted_table),
        depends_on=reader.names("depends_on", (), or_single=False),
        derived_from=reader.text("derived_from") or None,
        parent_key=reader.text("parent_key") or None,
        cursor=reader.text("cursor") or None,
        deletes=Deletes(reader.choice("deletes", list(Deletes), Deletes.HARD)),
        refresh=Refresh(reader.choice("refresh", list(Refresh), Refresh.IN_PLACE)),
    )
    if columns:
        _check_columns_used(reader, record)
    return _Draft(record, wanted_table, says_refresh="refresh" in reader)


# --- columns ----------------------------------------------------------------------------------------------------


def _columns(reader: TableReader, path: KeyPath) -> tuple[Column, ...]:
    if "columns" not in reader:
        reader.missing("columns", _COLUMNS_EXAMPLE)
        return ()
    value = reader.values["columns"]
    types: dict[str, object] = {}
    if isinstance(value, Mapping):
        types = dict(value)
    elif isinstance(value, list) and all(isinstance(name, str) for name in value):
        types = dict.fromkeys(reader.names("columns", (), or_single=False), ColumnKind.TEXT.value)
    else:
        reader.wrong("columns", "a table of names and types, or a list of names", _COLUMNS_EXAMPLE)
        return ()
    if not types:
        reader.wrong("columns", "at least one column", _COLUMNS_EXAMPLE)
    columns = [_column(reader, (*path, name), name, kind) for name, kind in types.items()]
    _check_twins(reader, path, columns)
    return tuple(columns)


def _column(reader: TableReader, path: KeyPath, name: str, kind: object) -> Column:
    def wrong(message: str, help: str) -> Column:
        reader.mistakes.add(BadValue, path, message, help)
        return Column(name=name, kind=ColumnKind.TEXT, target=target_name(name))

    if not name.strip() or len(name) > _MAX_COLUMN_NAME or not name.isprintable():
        message = f"a column name in {reader.title} is empty, not printable or over {_MAX_COLUMN_NAME} characters"
        return wrong(message, "write the column's name as SuiteQL knows it")
    if not isinstance(kind, str):
        return wrong(f"the type of column `{name}` in {reader.title} must be text such as \"integer\", not "
                     f"{type_name(kind)}", f"one of: {', '.join(_KINDS)}")  # fmt: skip
    if match := _DECIMAL.fullmatch(kind):
        precision, scale = int(match[1]), int(match[2])
        if not (1 <= precision <= MAX_PRECISION and scale <= min(precision, MAX_SCALE)):
            limits = f"decimal(p,s) takes p from 1 to {MAX_PRECISION} and s from 0 to p, at most {MAX_SCALE}"
            return wrong(f"column `{name}` in {reader.title} is {kind}, which no database can hold", limits)
        return Column(name, ColumnKind.DECIMAL, precision, scale, target_name(name))
    if kind not in _PLAIN_KINDS:
        base = kind.partition("(")[0].strip()
        found = nearest(base, [known.partition("(")[0] for known in _KINDS])
        if found == "decimal":
            help = 'write precision and scale, as in "decimal(15,2)"'
        else:
            help = f"did you mean \"{found}\"?" if found else f"one of: {', '.join(_KINDS)}"  # fmt: skip
        return wrong(f"unknown type \"{kind}\" of column `{name}` in {reader.title}", help)  # fmt: skip
    return Column(name, ColumnKind(kind), target=target_name(name))


def _check_twins(reader: TableReader, path: KeyPath, columns: list[Column]) -> None:
    """Refuse columns that meet: SuiteQL takes `ID` and `id` for one column, and answers with lower-case keys."""
    by_name: dict[str, Column] = {}
    for column in columns:
        for meeting in {column.name.casefold(), column.target}:
            first = by_name.setdefault(meeting, column)
            if first is not column:
                message = f"the columns `{first.name}` and `{column.name}` in {reader.title} meet in one column"
                reader.mistakes.add(BadValue, (*path, column.name), message, "names differ in more than case; keep one")
                break


def _check_columns_used(reader: TableReader, record: RecordSettings) -> None:
    """Hold `key`, `parent_key` and `cursor` to the columns, exactly as written there."""
    columns = {column.name: column for column in record.columns}

    def find(key: str, name: str) -> Column | None:
        if name not in columns:
            default = "" if key in reader else " (the default)"
            message = f"`{key}` in {reader.title} names `{name}`{default}, which is not among its columns"
            reader.mistakes.add(
                BadValue, (*reader.path, key), message, did_you_mean(name, list(columns), "the columns are")
            )
        return columns.get(name)

    for name in record.key:
        column = find("key", name)
        if column and column.kind is ColumnKind.FLOAT:
            message = f"the key column `{name}` in {reader.title} is a float, which has no exact value to page by"
            reader.mistakes.add(BadValue, (*reader.path, "key"), message, "declare it integer, decimal(p,s) or text")
    if record.parent_key:
        find("parent_key", record.parent_key)
    if record.cursor:
        column = find("cursor", record.cursor)
        if column and column.kind not in (ColumnKind.TIMESTAMP, ColumnKind.DATE):
            message = f"the cursor `{record.cursor}` in {reader.title} is {column.kind}, not timestamp or date"
            help = f'declare the column so: {record.cursor} = "timestamp"'
            reader.mistakes.add(BadValue, (*reader.path, "cursor"), message, help)


# --- records among each other -----------------------------------------------------------------------------------


def _check_destinations(mistakes: Mistakes, drafts: list[_Draft], prefix: str) -> None:
    """Refuse two records with one destination table, and a destination that is a table of the importer's own."""
    first_of: dict[str, RecordSettings] = {}
    for draft in drafts:
        record = draft.record
        path = ("records", record.name, "table_name")
        table = prefix + record.table_name
        # Two spellings of one word map to two tables, which nobody who reads the database could tell apart.
        for meeting in {draft.wanted_table.casefold(), record.table_name}:
            first = first_of.setdefault(meeting, record)
            if first is not record:
                message = f"the records `{first.name}` and `{record.name}` have one destination table, `{table}`"
                mistakes.add(BadRecords, path, message, "give one of them another `table_name`")
                break
        if table in RESERVED_TABLES or table.startswith("sqlite_"):
            message = f"the destination table `{table}` of record `{record.name}` is reserved"
            mistakes.add(BadRecords, path, message, "set another `table_name`, or a `prefix` in [destination]")
        if is_swap_name(table):
            message = f"the destination table `{table}` of record `{record.name}` is named as one of a swap"
            mistakes.add(BadRecords, path, message, "set another `table_name`, not ending in `__new_` or `__old_` and "
                                                    "eight digits")  # fmt: skip


def _check_relations(mistakes: Mistakes, records: tuple[RecordSettings, ...]) -> dict[str, str]:
    """Hold the records to each other; return the main record of each that has one."""
    by_name = {record.name: record for record in records}
    names = list(by_name)
    for record in records:
        _check_parent(mistakes, record, names)
        _check_dependencies(mistakes, record, by_name)
    roots = _roots(mistakes, by_name)
    _check_cycles(mistakes, by_name, roots)
    return roots


def _refreshed(mistakes: Mistakes, drafts: list[_Draft], roots: Mapping[str, str]) -> tuple[RecordSettings, ...]:
    """Return the records, the derived ones with the `refresh` of their main record: a family is swapped together.

    What is marked as deleted or kept for ever stands in the old table only, so it cannot be had with a new one.
    """
    mains = {draft.record.name: draft.record.refresh for draft in drafts}
    records = []
    for draft in drafts:
        record, root = draft.record, roots.get(draft.record.name)
        path = ("records", record.name)
        if root is not None:
            if draft.says_refresh and record.refresh is not mains[root]:
                mistakes.add(BadRecords, (*path, "refresh"),
                             f"`refresh` in [records.{record.name}] must be \"{mains[root]}\" as in [records.{root}], "
                             f"not \"{record.refresh}\": a main record and what derives from it are read in one way",
                             f"leave it out, or set it in [records.{root}]")  # fmt: skip
            record = replace(record, refresh=mains[root])
        if record.refresh is Refresh.SWAP and record.deletes is not Deletes.HARD:
            mistakes.add(BadRecords, (*path, "deletes"),
                         f"`deletes` in [records.{record.name}] must be \"hard\" beside refresh = \"swap\", not "
                         f"\"{record.deletes}\": the new table has only the rows that the source has",
                         "set refresh = \"in_place\" to keep rows that are gone")  # fmt: skip
        records.append(record)
    return tuple(records)


def _check_parent(mistakes: Mistakes, record: RecordSettings, names: list[str]) -> None:
    path = ("records", record.name)
    title = f"[records.{record.name}]"
    if record.derived_from is None:
        if record.parent_key is not None:
            mistakes.add(BadRecords, (*path, "parent_key"), f"`parent_key` in {title} stands without `derived_from`",
                         "name the parent record in `derived_from`, or leave `parent_key` out")  # fmt: skip
        return
    if record.parent_key is None:
        mistakes.add(MissingKey, (*path, "parent_key"), f"`parent_key` is missing in {title}",
                     f"name the column that holds the key of `{record.derived_from}`")  # fmt: skip
    if record.derived_from == record.name:
        mistakes.add(BadRecords, (*path, "derived_from"), f"the record `{record.name}` is derived from itself",
                     "name the record whose rows it belongs to")  # fmt: skip
    elif record.derived_from not in names:
        mistakes.add(BadRecords, (*path, "derived_from"),
                     f"`derived_from` in {title} names `{record.derived_from}`, which is no record",
                     did_you_mean(record.derived_from, [name for name in names if name != record.name],
                                  "the records are"))  # fmt: skip


def _check_dependencies(mistakes: Mistakes, record: RecordSettings, by_name: dict[str, RecordSettings]) -> None:
    path = ("records", record.name, "depends_on")
    for name in record.depends_on:
        if name not in by_name:
            others = [other for other in by_name if other != record.name]
            mistakes.add(BadRecords, path,
                         f"`depends_on` in [records.{record.name}] names `{name}`, which is no record",
                         did_you_mean(name, others, "the records are"))  # fmt: skip
        elif by_name[name].derived_from is not None and name != record.name:
            message = f"the record `{record.name}` depends on `{name}`, which is derived and comes after all main ones"
            help = f"depend on `{by_name[name].derived_from}` instead, or leave `{name}` out"
            mistakes.add(BadRecords, path, message, help)


def _roots(mistakes: Mistakes, by_name: dict[str, RecordSettings]) -> dict[str, str]:
    """Return the main record at the end of each record's chain of parents, where the chain has an end.

    A circle of parents is a mistake, kept once; what hangs on a circle or on an unknown parent has no main record.
    """
    roots: dict[str, str] = {}
    in_circle: set[str] = set()
    for start in by_name:
        chain = [start]
        while (parent := by_name[chain[-1]].derived_from) in by_name and parent not in chain:
            chain.append(parent)
        if parent is None:
            roots[start] = chain[-1]
        elif parent == start and len(chain) > 1 and start not in in_circle:
            in_circle.update(chain)
            circle = " -> ".join([*chain, start])
            mistakes.add(BadRecords, ("records", start, "derived_from"), f"records are derived in a circle: {circle}",
                         "one of them must be a main record, without `derived_from`")  # fmt: skip
    return roots


def _check_cycles(mistakes: Mistakes, by_name: dict[str, RecordSettings], roots: dict[str, str]) -> None:
    """Name every circle of dependencies among main records, those that derived records bring along included."""
    edges: dict[str, dict[str, str]] = {name: {} for name in by_name if roots.get(name) == name}
    for record in by_name.values():
        root = roots.get(record.name)
        if root is None:
            continue
        for name in record.depends_on:
            if name == record.name:
                mistakes.add(BadRecords, ("records", name, "depends_on"), f"the record `{name}` depends on itself",
                             "leave it out of its own `depends_on`")  # fmt: skip
            elif name != root:
                edges[root].setdefault(name, record.name)
    # One edge of each circle found is taken out, so the search ends after at most as many rounds as there are edges.
    for _ in range(sum(len(targets) for targets in edges.values())):
        try:
            TopologicalSorter(edges).prepare()
        except CycleError as error:
            # graphlib lists each node before the one that depends on it; told the other way round, and from the
            # record that comes first in the file, the same circle always reads the same.
            ring: list[str] = list(reversed(error.args[1]))[:-1]
            first = min(map(list(by_name).index, ring))
            start = ring.index(list(by_name)[first])
            circle = [*ring[start:], *ring[:start], ring[start]]
            brought = sorted({edges[one][other] for one, other in pairwise(circle)})
            derived = [name for name in brought if by_name[name].derived_from is not None]
            by = edges[circle[0]].pop(circle[1])
            note = f" (through the derived {listed(derived)})" if derived else ""
            mistakes.add(BadRecords, ("records", by, "depends_on"),
                         f"records depend on each other in a circle: {' -> '.join(circle)}{note}",
                         "take one of them out of a `depends_on`")  # fmt: skip
        else:
            return
