"""The queries that an import asks, as SuiteQL text; nothing here does I/O.

Rules of the service that shape them:

- A date comes in the account's own format and a timestamp loses its time, so both are selected by TO_CHAR, and
  timestamps by SYS_EXTRACT_UTC. Since such an alias could shadow its column, every column is qualified by `t`.
- Rows must be ordered unambiguously or pages lose and repeat some: always by all key columns.
- Paging is by keyset: `offset` reaches 100,000 rows at most, and rows move between pages while the data changes.
- An IN list has at most 1000 members.
- A SELECT of more than 100 columns gives no rows: `core.wide` cuts such records before they come here.
- TO_DATE and TO_TIMESTAMP must not be mixed: TO_TIMESTAMP is not used. A date or timestamp key is compared as the text
  it was selected as, which also orders it to the very second that the row carried.

Source: Oracle, "SuiteQL Syntax and Examples" and "Executing SuiteQL Queries Through REST Web Services".
"""

import re
from collections.abc import Sequence
from typing import Final

from waveimport.core.records import reply_keys
from waveimport.core.settings import Column, ColumnKind, RecordSettings
from waveimport.core.values import Value

PARENTS_MAX = 1000
"""Members that an IN list may have."""

_PLAIN_NUMBER = re.compile(r"-?[0-9]+(?:\.[0-9]+)?")
_PLAIN_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_$#]*")

PROBE_QUERY: Final = "SELECT 1 AS n FROM dual"
"""Asks nothing of any table: whatever it is answered with, a refusal too, the service is there."""


def bounds_query(record: RecordSettings) -> str:
    """Return the query that counts a record and finds the ends of its first key column.

    The reply has one row with `n`, `lo` and `hi`: `SELECT COUNT(*) AS n, MIN(t.id) AS lo, MAX(t.id) AS hi FROM
    transaction t WHERE (type = 'SalesOrd')`. When the first key is no integer there are no ranges to cut, and `n` is
    all that is asked.
    """
    first = record.column(record.key[0])
    selected = "COUNT(*) AS n"
    if first.kind is ColumnKind.INTEGER:
        key = column_name(first.name)
        selected += f", MIN({key}) AS lo, MAX({key}) AS hi"
    return f"SELECT {selected} FROM {name_of(record.table)} t{_where(_configured(record))}"


def count_query(record: RecordSettings) -> str:
    """Return the query that counts a record and asks nothing else: `SELECT COUNT(*) AS n FROM transaction t`."""
    return f"SELECT COUNT(*) AS n FROM {name_of(record.table)} t{_where(_configured(record))}"


def page_query(
    record: RecordSettings,
    *,
    lower: int | None = None,
    upper: int | None = None,
    after: tuple[Value, ...] | None = None,
    parents: Sequence[int | str] | None = None,
    until: tuple[Value, ...] | None = None,
    distinct: bool = False,
) -> str:
    """Return the query of the next page inside a batch.

    The batch is a range of the first key column, `lower < key <= upper` (None is open), or the rows whose parent key
    is among `parents`, or both. `after` holds the key values of the last row already landed, as they were read, in
    the order of the record's key; `until` those of the last row that is wanted, where the page was read in part
    already; `distinct` has each row once, where the columns are no more than the key. For example, with `lower=0,
    upper=5000, after=(1000,)`:

        SELECT t.id, t.tranid, TO_CHAR(t.trandate,'YYYY-MM-DD') AS trandate FROM transaction t
        WHERE (type = 'SalesOrd') AND t.id <= 5000 AND t.id > 1000 ORDER BY t.id

    Raises ValueError on more than 1000 parents or none at all, and on an `after` or `until` of another length than the
    key.
    """
    conditions = _configured(record)
    first = comparable(record.column(record.key[0]))
    if lower is not None and after is None:  # a row already landed lies above the lower end
        conditions.append(f"{first} > {lower}")
    if upper is not None:
        conditions.append(f"{first} <= {upper}")
    if parents is not None:
        conditions.append(_parents(record, parents))
    if after is not None:
        conditions.append(_after(record, after))
    if until is not None:
        conditions.append(_until(record, until))
    selected = ", ".join(map(_selected, record.columns, reply_keys(record)))
    order = ", ".join(comparable(record.column(name)) for name in record.key)
    every = "DISTINCT " if distinct else ""
    return f"SELECT {every}{selected} FROM {name_of(record.table)} t{_where(conditions)} ORDER BY {order}"


def trial_query(record: RecordSettings) -> str:
    """Return a query that tries the table and every column of the record, and reads no row where it can help it.

    No key lies above 0 and not above 0; of a key that is no integer the first page is asked for, with limit 1. The
    record must have at most 100 columns.
    """
    nothing = 0 if record.column(record.key[0]).kind is ColumnKind.INTEGER else None
    return page_query(record, lower=nothing, upper=nothing)


def sample_query(table: str, where: str | None, rows: int) -> str:
    """Return the query of some rows with all their columns, whichever the service takes first.

    `SELECT * FROM transaction t WHERE (type = 'SalesOrd') AND ROWNUM <= 100`.
    """
    conditions = [f"({where})"] if where else []
    return f"SELECT * FROM {name_of(table)} t{_where([*conditions, f'ROWNUM <= {rows}'])}"


def _configured(record: RecordSettings) -> list[str]:
    return [f"({record.where})"] if record.where else []


def _where(conditions: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(conditions)}" if conditions else ""


def _parents(record: RecordSettings, parents: Sequence[int | str]) -> str:
    if record.parent_key is None:
        raise ValueError(f"{record.name} has no parent key")
    if not 0 < len(parents) <= PARENTS_MAX:
        raise ValueError(f"{len(parents)} parents; an IN list has 1 to {PARENTS_MAX} members")
    render = str if set(map(type, parents)) == {int} else _scalar
    return f"{column_name(record.parent_key)} IN ({','.join(map(render, parents))})"


def _after(record: RecordSettings, after: tuple[Value, ...]) -> str:
    """Return `(a, b, c) > (x, y, z)`, spelled out so that an index on the first column still serves:
    `(a >= x AND (a > x OR (b >= y AND (b > y OR c > z))))`."""
    *firsts, (column, value) = _key_values(record, after)
    condition = f"{comparable(column)} > {_literal(column, value)}"
    for column, value in reversed(firsts):
        left, right = comparable(column), _literal(column, value)
        condition = f"({left} >= {right} AND ({left} > {right} OR {condition}))"
    return condition


def _until(record: RecordSettings, until: tuple[Value, ...]) -> str:
    """Return `(a, b, c) <= (x, y, z)`, spelled out like `_after`:
    `(a <= x AND (a < x OR (b <= y AND (b < y OR c <= z))))`."""
    *firsts, (column, value) = _key_values(record, until)
    condition = f"{comparable(column)} <= {_literal(column, value)}"
    for column, value in reversed(firsts):
        left, right = comparable(column), _literal(column, value)
        condition = f"({left} <= {right} AND ({left} < {right} OR {condition}))"
    return condition


def _key_values(record: RecordSettings, values: tuple[Value, ...]) -> list[tuple[Column, Value]]:
    if len(values) != len(record.key):
        raise ValueError(f"{len(values)} key values for the {len(record.key)} key columns of {record.name}")
    return [(record.column(name), value) for name, value in zip(record.key, values, strict=True)]


def _selected(column: Column, reply_key: str) -> str:
    expression = comparable(column)
    if expression == f"t.{reply_key}":
        return expression
    return f"{expression} AS {reply_key}"


def comparable(column: Column, table: str = "t.") -> str:
    """Return the expression that is selected, compared and ordered by: all three the same, or pages would not meet.

    `table` goes before the column: nothing inside a subquery, whose table has no name of its own.
    """
    name = column_name(column.name, table)
    match column.kind:
        case ColumnKind.DATE:
            return f"TO_CHAR({name},'YYYY-MM-DD')"
        case ColumnKind.TIMESTAMP:
            return f"TO_CHAR(SYS_EXTRACT_UTC({name}),'YYYY-MM-DD HH24:MI:SS')"
        case _:
            return name


def column_name(name: str, table: str = "t.") -> str:
    """Return a column of the queried table, which is `t`; see `comparable` for another."""
    return f"{table}{name_of(name)}"


def name_of(name: str) -> str:
    """Return the name as an identifier, in double quotes where it is not a plain one."""
    if _PLAIN_NAME.fullmatch(name):
        return name
    doubled = name.replace('"', '""')
    return f'"{doubled}"'


def _literal(column: Column, value: Value) -> str:
    match column.kind, value:
        case ColumnKind.BOOLEAN, 0 | 1:
            return _text("T" if value else "F")
        case ColumnKind.INTEGER, int():
            return str(int(value))
        case ColumnKind.FLOAT, int() | float():
            return repr(float(value))
        case ColumnKind.DECIMAL, str() if _PLAIN_NUMBER.fullmatch(value):
            return value
        case ColumnKind.TEXT | ColumnKind.DATE | ColumnKind.TIMESTAMP, str():
            return _text(value)
    raise ValueError(f"{value!r} is no value of the key column {column.name}")


def _scalar(value: int | str) -> str:
    return str(int(value)) if isinstance(value, int) else _text(value)


def _text(value: str) -> str:
    doubled = value.replace("'", "''")
    return f"'{doubled}'"
