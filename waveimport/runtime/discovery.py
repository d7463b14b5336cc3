"""What an account has, asked of the account: tables, their columns and types, as far as the role sees them.

Three ways lead to a column, and each alone is not enough. A preset knows the standard ones, and what they hold. The
metadata catalogue knows the account's own, but only of REST records, and its fields need not be columns. A sample of
rows shows what is a column beyond doubt, but not those that are NULL in all of it, and no types. So all three are
gathered, and every column is then tried in the very expression that an import selects: the service names one that it
does not know, and where it does not the columns are halved until the culprit stands alone.
"""

import re
import tomllib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import resources
from typing import Final, TypeVar

from waveimport.core.catalogue import Field, parse_listing, parse_schema
from waveimport.core.discovered import FoundRecord, column_of, link
from waveimport.core.presets import Preset, Presets, parse_presets
from waveimport.core.records import parse_bounds, parse_envelope
from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.core.settings_reader import nearest
from waveimport.core.values import convert
from waveimport.core.wide import COLUMNS_MAX
from waveimport.errors import (
    BadReply,
    CatalogueRefused,
    QueryRefused,
    ServerFault,
    SourceError,
    TableRefused,
    UsageError,
)
from waveimport.netsuite.client import SuiteQLClient
from waveimport.netsuite.suiteql import bounds_query, sample_query, trial_query

SAMPLE_ROWS: Final = 100
HIDDEN: Final = "not there, or hidden from this role, which NetSuite answers alike"
_TABLE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,50}")
_COLUMN: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,127}")
_INTEGER: Final = re.compile(r"-?[0-9]+")
_NAMED: Final = re.compile(r"(?:identifier|Field) '([^']+)'", re.IGNORECASE)
_LEDGER: Final = ("transaction", "transactionline", "transactionaccountingline")

_CURSORS: Final = ("lastmodifieddate", "linelastmodifieddate", "lastmodified")
_KNOWN: Final = {
    "id": "integer",
    "uniquekey": "integer",
    "isinactive": "boolean",
    **dict.fromkeys(_CURSORS, "timestamp"),
}
"""Types of columns that are what they are in every table."""

_FALLBACKS: Final = {ColumnKind.TIMESTAMP: "date", ColumnKind.DATE: "text"}
"""What a column is tried as when the service does not take the expression that its type is selected by."""

_JUDGED: Final = (ColumnKind.INTEGER, ColumnKind.BOOLEAN, ColumnKind.DECIMAL, ColumnKind.FLOAT)

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class SeenTable:
    """One line of the list. `rows` is None where they could not be counted: the table is `hidden`, or not there, or
    the service failed; `error` has its words."""

    record: str
    table: str
    rows: int | None
    hidden: bool = False
    error: str | None = None

    @property
    def is_type(self) -> bool:
        """Whether it is a type of transactions, and no table by itself."""
        return self.record != self.table


@dataclass(frozen=True, slots=True)
class Seen:
    """The list: the standard tables and types of transactions, and the names of other records of the catalogue."""

    tables: tuple[SeenTable, ...]
    others: tuple[str, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Found:
    """The records found, linked among each other; `refused` are the errors of those that were asked for by name."""

    records: tuple[FoundRecord, ...]
    refused: tuple[SourceError, ...]
    remarks: tuple[str, ...]


@dataclass(slots=True)
class _Candidates:
    """Columns that there may be, and their types; of which of them the type is in doubt, and which were passed over.

    `references` are typed as text for want of knowledge, `guessed` were seen in the sample only, `more` are columns of
    a standard record that its preset does not take. `described` says whether the catalogue had a word on the table.
    """

    types: dict[str, str]
    described: bool
    references: list[str] = field(default_factory=list)
    guessed: list[str] = field(default_factory=list)
    more: list[str] = field(default_factory=list)


def load_presets() -> Presets:
    """Return the standard records that the package brings."""
    text = resources.files("waveimport.core").joinpath("presets.toml").read_text(encoding="utf-8")
    return parse_presets(tomllib.loads(text))


class Discovery:
    """Asks one account. Every method raises LoginRefused, SourceDown and their like when it answers nobody."""

    def __init__(self, client: SuiteQLClient, *, at_once: int) -> None:
        self._client = client
        self._at_once = at_once
        self._presets = load_presets()
        # Threads fill these without a lock: at worst two ask the same thing at once, and get the same answer.
        self._samples: dict[tuple[str, str | None], list[dict[str, object]]] = {}
        self._tried: dict[str, dict[Column, bool | None]] = {}
        self._schemas: dict[str, bytes] = {}
        self._catalogue: tuple[str, ...] | None = None
        self._remarks: list[str] = []

    # --- the list -----------------------------------------------------------------------------------------------

    def look(self) -> Seen:
        """Return which of the standard tables the role sees, with their rows: one COUNT for each, some at a time."""
        presets = [preset for preset in self._presets.mains if preset.table != "transaction"]
        presets += [Preset(name, name, {}) for name in _LEDGER]
        tables = self._each(self._count, presets)
        if any(seen.table == "transaction" and seen.rows is not None for seen in tables):
            types = [preset for preset in self._presets.mains if preset.table == "transaction"]
            tables += self._each(self._count, types)
        standard = {name.lower() for preset in self._presets.by_name.values() for name in preset.catalogue}
        others = tuple(name for name in self._listing() if name.lower() not in standard)
        return Seen(tuple(tables), others, tuple(self._remarks))

    def _count(self, preset: Preset) -> SeenTable:
        column = Column("id", ColumnKind.TEXT)  # no integer: no bounds are wanted
        record = RecordSettings(preset.name, preset.table, (column,), where=preset.where)
        try:
            rows, _, _ = parse_bounds(self._client.query(bounds_query(record), limit=1))
        except (QueryRefused, ServerFault) as error:
            return SeenTable(preset.name, preset.table, None, isinstance(error, TableRefused), error.message)
        return SeenTable(preset.name, preset.table, rows)

    # --- records ------------------------------------------------------------------------------------------------

    def everything(self) -> Found:
        """Return all standard records that the role sees; types of transactions only where there are any."""
        seen = {one.record: one for one in self.look().tables}
        wanted: list[Preset] = []
        empty: list[str] = []
        hidden: list[str] = []
        for preset in self._presets.mains:
            one = seen.get(preset.name, seen["transaction"])
            if one.hidden:
                hidden.append(preset.name)
            elif one.rows is None:
                self._remarks.append(f"left out: {preset.name}: {one.error}")
            elif one.is_type and not one.rows:
                empty.append(preset.name)
            else:
                wanted += self._presets.family(preset.name)
        if hidden:
            self._remarks.append(f"{HIDDEN}: {', '.join(hidden)}")
        if empty:
            self._remarks.append(f"no transaction of these types: {', '.join(empty)}")
        return self._find(wanted, absent=(*hidden, *empty))

    def records(self, names: Sequence[str]) -> Found:
        """Return the records of these names, each with what derives from it: standard records or tables.

        Raises UsageError for a name that can be no table.
        """
        wanted: dict[str, Preset] = {}
        for name in names:
            lowered = name.lower()
            if lowered in self._presets.by_name:
                family = self._presets.family(lowered)
            elif _TABLE.fullmatch(name):
                family = (Preset(lowered, lowered, {}, catalogue=(lowered,)),)
            else:
                raise UsageError(
                    f"`{name}` can be no table: letters, digits and _ only", help="`waveimport discover` lists them"
                )
            wanted.update((preset.name, preset) for preset in family)
        mains = [preset.name for preset in wanted.values() if preset.derived_from is None]
        return self._find(list(wanted.values()), named=mains)

    def _find(self, wanted: Sequence[Preset], *, named: Collection[str] = (), absent: Collection[str] = ()) -> Found:
        self._listing()
        answers = self._each(self._record, wanted)
        found: dict[str, FoundRecord] = {}
        refused: list[SourceError] = []
        left_out: dict[str, list[str]] = {}
        for preset, answer in zip(wanted, answers, strict=True):
            if preset.derived_from is not None and preset.derived_from not in found:
                continue  # its parent has been told of
            if isinstance(answer, FoundRecord):
                found[answer.name] = answer
            elif preset.name in named:
                near = nearest(preset.name, self._presets.by_name)
                hint = f"did you mean `{near}`? " if near and near != preset.name else ""
                answer.where, answer.help = preset.table, f"{hint}`waveimport discover` lists what this role sees"
                refused.append(answer)
            else:
                left_out.setdefault(answer.message, []).append(preset.name)
        self._remarks += [f"left out: {', '.join(names)}: {why}" for why, names in left_out.items()]
        return Found(link(tuple(found.values()), absent), tuple(refused), tuple(self._remarks))

    def _record(self, preset: Preset) -> FoundRecord | SourceError:
        """Return the record, or why there is none."""
        try:
            sample = self._sample(preset)
        except (QueryRefused, ServerFault) as error:
            return error
        remarks: list[str] = []
        candidates = self._candidates(preset, sample)
        keys = preset.key if preset.columns or "uniquekey" not in candidates.types else ("uniquekey",)
        types = {name: self._fitting(name, kind, sample, remarks) for name, kind in candidates.types.items()}
        refused = self._cut(preset, types, keys[0], remarks)
        key = tuple(name for name in keys if name in types)
        if keys[0] not in types or (preset.parent_key is not None and preset.parent_key not in types):
            return TableRefused(f"the table {preset.table} shows no column to page by: {', '.join(keys)}")
        if key != keys:
            missing = ", ".join(name for name in keys if name not in types)
            remarks.append(f"this account shows no {missing}, so make sure that {', '.join(key)} is unique")
        if refused:
            remarks.append(f"left out, SuiteQL does not show them to this role: {', '.join(refused)}")
        if len(types) > COLUMNS_MAX:
            remarks.append(f"{len(types)} columns, so every page takes more than one query")
        remarks += _doubts(preset, candidates, types, len(sample))
        cursors = (preset.cursor,) if preset.columns else _CURSORS
        return FoundRecord(
            name=preset.name,
            table=preset.table,
            columns={name: types[name] for name in (*key, *(one for one in types if one not in key))},
            key=key,
            where=preset.where,
            depends_on=preset.depends_on,
            derived_from=preset.derived_from,
            parent_key=preset.parent_key,
            cursor=next((name for name in cursors if name and types.get(name) in ("timestamp", "date")), None),
            remarks=tuple(remarks),
        )

    # --- candidates ---------------------------------------------------------------------------------------------

    def _sample(self, preset: Preset) -> list[dict[str, object]]:
        """Return some rows of the table, keys in lower case, without their NULLs. Raises QueryRefused, ServerFault.

        Those of a derived record are of the parent's sample: any others would show other columns.
        """
        where = preset.where
        if preset.derived_from is not None:
            parents = [str(row.get("id")) for row in self._sample(self._presets.by_name[preset.derived_from])]
            ids = [one for one in parents if _INTEGER.fullmatch(one)]
            where = f"{preset.parent_key} IN ({', '.join(ids)})" if ids else None
        asked = (preset.table, where)
        if asked not in self._samples:
            body = self._client.query(sample_query(preset.table, where, SAMPLE_ROWS), limit=SAMPLE_ROWS)
            items, _, _ = parse_envelope(body)
            self._samples[asked] = [
                {key.lower(): value for key, value in item.items() if _COLUMN.fullmatch(key) and key.lower() != "links"}
                for item in items
            ]
        return self._samples[asked]

    def _candidates(self, preset: Preset, sample: Sequence[Mapping[str, object]]) -> _Candidates:
        """Return all columns that there may be.

        A preset is the judge of the standard columns, and leaves the account's own, `cust…`, to the account.
        """
        fields = self._fields(preset)
        found = _Candidates(dict(preset.columns) or {"id": _KNOWN["id"]}, described=bool(fields))
        for one in fields:
            if one.name not in found.types and (not preset.columns or one.name.startswith("cust")):
                found.types[one.name] = _KNOWN.get(one.name, one.type)
                found.references += [one.name] if one.reference else []
        for name in sorted({name for row in sample for name in row} - set(found.types)):
            if preset.columns and not name.startswith("cust"):
                found.more.append(name)
            else:
                found.types[name] = _KNOWN.get(name, "text")
                found.guessed += [] if name in _KNOWN else [name]
        return found

    def _fields(self, preset: Preset) -> list[Field]:
        """Return what the catalogue describes of the record; nothing, with a remark, where it does not."""
        listed = {name.lower(): name for name in self._listing()}
        fields: dict[str, Field] = {}
        for record in [listed[name.lower()] for name in preset.catalogue if name.lower() in listed]:
            try:
                if record not in self._schemas:
                    self._schemas[record] = self._client.catalogue(record)
                described = parse_schema(self._schemas[record], sublists=preset.sublists)
            except (CatalogueRefused, ServerFault, BadReply) as error:
                self._remarks.append(f"the metadata catalogue does not describe {record}: {error.message}")
                continue
            for one in described:
                fields.setdefault(one.name, one)
        return list(fields.values())

    def _listing(self) -> tuple[str, ...]:
        """Return the records of the catalogue; none, with a remark, where the role may not read it. Asked once."""
        if self._catalogue is None:
            try:
                self._catalogue = parse_listing(self._client.catalogue())
            except (CatalogueRefused, ServerFault, BadReply) as error:
                self._catalogue = ()
                self._remarks.append(
                    "the metadata catalogue is not to be had, so of the account's own columns only those are here that"
                    f" a sample of {SAMPLE_ROWS} rows shows: {error.message}"
                )
        return self._catalogue

    # --- columns ------------------------------------------------------------------------------------------------

    def _fitting(self, name: str, kind: str, sample: Sequence[Mapping[str, object]], remarks: list[str]) -> str:
        """Return the type, or text where a value of the sample contradicts it. Dates come in no form to judge by."""
        column = column_of(name, kind)
        for row in sample if column.kind in _JUDGED else ():
            try:
                convert(column, row.get(name))
            except ValueError as reason:
                remarks.append(f"{name} is text: it was taken for {kind}, but a value of it {reason}")
                return "text"
        return kind

    def _cut(self, preset: Preset, types: dict[str, str], key: str, remarks: list[str]) -> list[str]:
        """Take out of `types` what the service does not show, and return the names of that.

        A column that is there but not in the form that its type is selected by gets another type, with a remark.
        """
        refused: list[str] = []
        changed: dict[str, str] = {}
        kinds = dict(types)
        key_column = column_of(key, types[key])
        if self._refused(preset, key_column, [key_column]):
            del types[key]
            return [key]
        for _ in range(1 + len(_FALLBACKS)):
            columns = [column_of(name, kind) for name, kind in types.items() if name != key]
            for column, unknown in self._refused(preset, key_column, columns).items():
                other = _FALLBACKS.get(column.kind)
                if unknown or other is None:
                    del types[column.name]
                    refused.append(column.name)
                else:
                    types[column.name] = other
                    changed[column.name] = (
                        f"{column.name} is {other}: NetSuite does not give it as a {kinds[column.name]}"
                    )
        remarks += [remark for name, remark in changed.items() if name in types]
        return refused

    def _refused(self, preset: Preset, key: Column, columns: Sequence[Column]) -> dict[Column, bool]:
        """Return the columns that the service refuses, and whether it says that it does not know them.

        What was tried before in the same table is not tried again: `_tried` holds None for a column that is given.
        """
        tried = self._tried.setdefault(preset.table, {})
        untried = [column for column in columns if column not in tried]
        room = COLUMNS_MAX - 1
        waiting = [untried[at : at + room] for at in range(0, len(untried), room)]
        while waiting:
            part = waiting.pop()
            words = self._try(preset, key, part) if part else None
            if words is None:
                tried.update((column, None) for column in part)
                continue
            named = _NAMED.search(words)
            # The service names a column as it was asked for, behind the table's alias, or without.
            culprit = named[1].lower().rpartition(".")[2] if named else None
            culprits = [column for column in part if column.name == culprit]
            if culprits or len(part) == 1:
                tried.update((column, bool(culprits)) for column in culprits or part)
                waiting.append([column for column in part if column not in tried])
            else:
                waiting += [part[: len(part) // 2], part[len(part) // 2 :]]
        return {column: tried[column] is True for column in columns if tried[column] is not None}

    def _try(self, preset: Preset, key: Column, columns: Sequence[Column]) -> str | None:
        """Ask for these columns as an import would; return the service's words where it refuses, None where not."""
        selected = tuple(dict.fromkeys((key, *columns)))
        record = RecordSettings(preset.name, preset.table, selected, key=(key.name,), where=preset.where)
        try:
            self._client.query(trial_query(record), limit=1)
        except (QueryRefused, ServerFault) as error:
            return error.message
        return None

    def _each(self, ask: Callable[[T], R], things: Sequence[T]) -> list[R]:
        """Call `ask` for each, several at a time; the first that raises ends all."""
        with ThreadPoolExecutor(max(1, min(self._at_once, len(things)))) as pool:
            asked = [pool.submit(ask, thing) for thing in things]
            try:
                return [future.result() for future in asked]
            except BaseException:
                self._client.stop()
                raise


def _doubts(preset: Preset, candidates: _Candidates, types: Mapping[str, str], sample_rows: int) -> Iterator[str]:
    """Yield remarks on what is unsure of a record whose columns have come down to `types`."""
    if references := [name for name in candidates.references if name in types]:
        yield f"references, whose ids are taken as text: {', '.join(references)}"
    if guessed := [name for name in candidates.guessed if name in types]:
        yield (
            f"seen in a sample of {sample_rows} rows only, and taken as text since nothing tells their types (a date"
            f" then comes in the account's format, and without its time): {', '.join(guessed)}"
        )
    if not candidates.described and not preset.columns:
        yield (
            f"the metadata catalogue does not describe {preset.table}: a column that is NULL in all of the first"
            f" {SAMPLE_ROWS} rows cannot be seen, and is not here"
        )
    if candidates.more:
        yield f"there are more columns: {', '.join(candidates.more)}"
