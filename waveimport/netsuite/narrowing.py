"""Which rows of a record a query is about that reads or counts not all of its table: the record again, narrowed by its
`where`.

A record that is narrowed is asked by the same queries as any other, so that paging, ranges and counting have one form.

A cursor is compared twice. `TO_CHAR(SYS_EXTRACT_UTC(…))` is exact to the second and in UTC, whatever the account's
time zone is; `TO_DATE` of a day that lies before the moment in every time zone lets the service use its index.

Source: Oracle, "SuiteQL Syntax and Examples": TO_DATE is never mixed with TO_TIMESTAMP. That a text and an index
condition stand side by side is our own precaution.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Final

from waveimport.core.increments import MOMENT_FORMAT
from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.netsuite.suiteql import column_name, comparable, name_of

_ZONES: Final = timedelta(days=1)
"""No clock of an account is further from UTC."""

DELETED: Final = RecordSettings(
    "deletedrecord",
    "deletedrecord",
    (
        Column("recordid", ColumnKind.INTEGER, target="recordid"),
        Column("deleteddate", ColumnKind.TIMESTAMP, target="deleteddate"),
    ),
    key=("recordid",),
    cursor="deleteddate",
)
"""The log of deleted base records; lines are not in it. Ids of all kinds of records are in one column."""

DELETED_MEND: Final = (
    'give the role the permission Deleted Records, or set deletes = "ignore" for records whose deletions need not be'
    " followed"
)


def changed(record: RecordSettings, since: str) -> RecordSettings:
    """Return the record narrowed to rows whose cursor is at `since` or later. Raises ValueError without a cursor."""
    return _narrowed(record, _since(record, since))


def deleted(since: str) -> RecordSettings:
    """Return the numbers of what was deleted at `since` or later. One number may stand there for several records: of a
    customer and of an item, say."""
    return _key_only(changed(DELETED, since))


def alive(record: RecordSettings) -> RecordSettings:
    """Return the record with its key alone, to be asked which of some keys (given as parents) it still has."""
    return replace(_key_only(record), parent_key=record.key[0])


def left(record: RecordSettings, since: str) -> RecordSettings:
    """Return the keys of rows that have changed and are not, or no longer, the record's by its `where`.

    Where the condition is NULL the row is not the record's either, so it is not simply negated.
    """
    condition = f"CASE WHEN ({record.where}) THEN 1 ELSE 0 END = 0"
    return _narrowed(replace(_key_only(record), where=condition), _since(record, since))


def changed_parents(record: RecordSettings, ancestors: Sequence[RecordSettings], since: str) -> RecordSettings:
    """Return the parents of a derived record's changed rows, one row per changed row.

    `ancestors` are its parent, that one's parent and so on to the main record: rows of other parents, or of none, are
    no business of it. A row that has left the record's own condition has changed too, so that condition is not asked.
    """
    assert record.parent_key is not None
    parent = record.column(record.parent_key)
    only = replace(record, columns=(parent,), key=(parent.name,), where=None, derived_from=None, parent_key=None)
    return _narrowed(only, _since(record, since), _of_parents(record, ancestors, {}))


def of_family(record: RecordSettings, ancestors: Sequence[RecordSettings]) -> RecordSettings:
    """Return a derived record narrowed to the rows of parents that its family has, `ancestors` being as for
    `changed_parents`. These are all that an import can have: its rows are fetched by their parents."""
    return _narrowed(record, _of_parents(record, ancestors, {}))


def touched(record: RecordSettings, ancestors: Sequence[RecordSettings], since: str) -> RecordSettings | None:
    """Return a derived record narrowed to the family's rows that have changed at `since` or later, by their own cursor
    or by that of an ancestor; None where none of them has one."""
    ways = [] if record.cursor is None else [f"({_since(record, since)})"]
    for one in ancestors:
        if one.cursor is not None:
            ways.append(_of_parents(record, ancestors, {one.name: _since(one, since, table="")}))
    if not ways:
        return None
    return _narrowed(record, _of_parents(record, ancestors, {}), f"({' OR '.join(ways)})")


def touched_keys(record: RecordSettings, since: str) -> RecordSettings:
    """Return the keys of the table's rows that have changed at `since` or later, whether they are, were or never have
    been the record's by its `where`. Raises ValueError without a cursor."""
    return _narrowed(replace(_key_only(record), where=None), _since(record, since))


def _of_parents(record: RecordSettings, ancestors: Sequence[RecordSettings], also: Mapping[str, str]) -> str:
    assert record.parent_key is not None
    return f"{column_name(record.parent_key)} IN ({_within(ancestors, also)})"


def _within(ancestors: Sequence[RecordSettings], also: Mapping[str, str]) -> str:
    """Return the SELECT of the keys that the first ancestor has. `also` holds further conditions, by record, whose
    columns stand without a table's name: `t` is the outer query's."""
    first, *rest = ancestors
    conditions = [f"({first.where})"] if first.where else []
    if first.name in also:
        conditions.append(also[first.name])
    if rest and first.parent_key is not None:
        conditions.append(f"{name_of(first.parent_key)} IN ({_within(rest, also)})")
    where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return f"SELECT {name_of(first.key[0])} FROM {name_of(first.table)}{where}"


def _key_only(record: RecordSettings) -> RecordSettings:
    return replace(record, columns=(record.column(record.key[0]),), key=record.key[:1])


def _since(record: RecordSettings, since: str, table: str = "t.") -> str:
    if record.cursor is None:
        raise ValueError(f"{record.name} has no cursor")
    column = record.column(record.cursor)
    day = (datetime.strptime(since, MOMENT_FORMAT) - _ZONES).strftime("%Y-%m-%d")
    coarse = f"{column_name(column.name, table)} >= TO_DATE('{day}','YYYY-MM-DD')"
    if column.kind is ColumnKind.DATE:
        return coarse
    return f"{coarse} AND {comparable(column, table)} >= '{since}'"


def _narrowed(record: RecordSettings, *conditions: str) -> RecordSettings:
    own = [f"({record.where})"] if record.where else []
    return replace(record, where=" AND ".join([*own, *conditions]))
