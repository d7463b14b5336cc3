"""Rows that are gone at the source go from the destination, with what derives from them, in the commit that knows it.

What is gone is known in three ways: keys that the source no longer has; rows of a range, or of some parents, that a
job has read whole without meeting them. The last two are told by `_job_id`, which every row that a job lands carries.

Rows are looked for before anything is deleted: mostly there are none, a DELETE that finds nothing still locks, and
MariaDB before 11.1 reads the whole table for a DELETE with a subquery.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.engine import Connection, CursorResult

from waveimport.core.ranges import chunks
from waveimport.core.settings import Deletes
from waveimport.store.destination import DELETED_COLUMN, Target, quote
from waveimport.store.dialect import MEMBERS_AT_ONCE, now

Key = int | str
_BIND = re.compile(r":(members|job|lower|upper)\b")


@dataclass(frozen=True, slots=True)
class GoneKeys:
    """Rows with these first keys are gone, and whatever derives from them."""

    keys: Sequence[Key]


@dataclass(frozen=True, slots=True)
class ReadRange:
    """All rows with lower < first key <= upper (None is open) were read by the job: others there are gone."""

    lower: int | None
    upper: int | None


@dataclass(frozen=True, slots=True)
class ReadParents:
    """All rows of these parents were read by the job: others of theirs are gone. `orphans_too` says that a parent may
    have gone since the batch was made, in a job before this one: what its rows then derive from is no row any more."""

    parents: Sequence[Key]
    orphans_too: bool = False


Removal = GoneKeys | ReadRange | ReadParents


class Remover:
    """Removes rows of one record's table and of those that derive from it.

    `nothing_before` may be set while the table holds no rows but those of the job at work: what a job has read whole
    then has nothing to remove.
    """

    def __init__(self, connection: Connection, target: Target, below: Sequence["Remover"]) -> None:
        record = target.record
        self._table = quote(connection, target.table)
        self._key = quote(connection, target.key_targets[0])
        self._parent = None
        if record.parent_key is not None:
            self._parent = quote(connection, record.column(record.parent_key).target)
        self._deletes = record.deletes
        self._below = below
        self.above: Remover | None = None
        for one in below:
            one.above = self
        self._clock = str(now().compile(dialect=connection.dialect))
        self.nothing_before = False

    def execute(self, connection: Connection, removal: Removal, job_id: str) -> int:
        """Remove what is gone; return how many rows of this table went, those marked as deleted included."""
        if self._deletes is Deletes.IGNORE:
            return 0
        match removal:
            case GoneKeys(keys):
                return sum(
                    self._remove(connection, f"{self._key} IN :members", {"members": list(part)}, part)
                    for part in chunks(keys, MEMBERS_AT_ONCE)
                )
            case _ if self.nothing_before:
                return 0
            case ReadParents(parents, orphans_too):
                orphans = self._remove_children_of_none(connection, parents) if orphans_too else 0
                return orphans + sum(
                    self._remove(
                        connection,
                        f"{self._parent} IN :members AND _job_id <> :job",
                        {"members": list(part), "job": job_id},
                    )
                    for part in chunks(parents, MEMBERS_AT_ONCE)
                )
            case ReadRange(lower, upper):
                condition, binds = _others_within(self._key, lower, upper, job_id)
                removed = self._remove(connection, condition, binds)
                self._remove_orphans(connection, lower, upper, job_id)
                return removed

    def _remove(
        self, connection: Connection, condition: str, binds: dict[str, Any], known: Sequence[Key] | None = None
    ) -> int:
        """Remove the rows that meet a condition, then what derives from keys that no row has any more.

        `known` are the keys where they are known beforehand: what derives from them goes even if their own rows went
        earlier.
        """
        soft = self._deletes is Deletes.SOFT
        there = f"{condition} AND {DELETED_COLUMN} IS NULL" if soft else condition
        keys = self._keys(connection, there, binds)
        removed = 0
        if keys:
            change = (
                f"UPDATE {self._table} SET {DELETED_COLUMN} = {self._clock}" if soft else f"DELETE FROM {self._table}"
            )
            removed = _execute(connection, f"{change} WHERE {there}", binds).rowcount
        if self._below:
            self._cascade(connection, list(known) if known is not None else keys, soft=soft)
        return removed

    def _remove_children_of_none(self, connection: Connection, parents: Sequence[Key]) -> int:
        """Remove the rows of those parents that have no live row of their own."""
        if self.above is None:
            return 0
        live = f" AND {DELETED_COLUMN} IS NULL" if self.above._deletes is Deletes.SOFT else ""
        removed = 0
        for part in chunks(parents, MEMBERS_AT_ONCE):
            there = set(self.above._keys(connection, f"{self.above._key} IN :members{live}", {"members": list(part)}))
            gone = [key for key in part if key not in there]
            if gone:
                removed += self._remove(connection, f"{self._parent} IN :members", {"members": gone})
        return removed

    def _remove_orphans(self, connection: Connection, lower: int | None, upper: int | None, job_id: str) -> None:
        """Remove what derives from keys of a range that no row has: it may have landed after its parent went, or have
        been left by a configuration that did not know it.

        The keys are looked for by indexes alone, as a join: MariaDB answers NOT EXISTS by reading all of the parents
        for every range. Mostly there are none; of which of their rows are another job's is asked then.
        """
        live = f" AND p.{DELETED_COLUMN} IS NULL" if self._deletes is Deletes.SOFT else ""
        for remover in self._below:
            if remover._deletes is Deletes.IGNORE:
                continue
            parent = f"c.{remover._parent}"
            bounds, binds = _within(parent, lower, upper)
            conditions = [f"p.{self._key} IS NULL", *bounds]
            if remover._deletes is Deletes.SOFT:
                conditions.append(f"c.{DELETED_COLUMN} IS NULL")
            sql = (
                f"SELECT DISTINCT {parent} FROM {remover._table} c LEFT JOIN {self._table} p"
                f" ON p.{self._key} = {parent}{live} WHERE {' AND '.join(conditions)}"
            )
            orphaned = list(_execute(connection, sql, binds).scalars())
            for part in chunks(orphaned, MEMBERS_AT_ONCE):
                others = f"SELECT DISTINCT {remover._parent} FROM {remover._table} WHERE {remover._parent} IN :members"
                binds = {"members": list(part), "job": job_id}
                old = _execute(connection, f"{others} AND _job_id <> :job", binds).scalars().all()
                if old:
                    remover._remove(connection, f"{remover._parent} IN :members", {"members": list(old)})

    def _cascade(self, connection: Connection, keys: Sequence[Key], *, soft: bool) -> None:
        for part in chunks(keys, MEMBERS_AT_ONCE):
            live = f" AND {DELETED_COLUMN} IS NULL" if soft else ""
            still = set(self._keys(connection, f"{self._key} IN :members{live}", {"members": list(part)}))
            gone = [key for key in part if key not in still]
            for remover in self._below:
                if gone and remover._deletes is not Deletes.IGNORE:
                    remover._remove(connection, f"{remover._parent} IN :members", {"members": gone})

    def _keys(self, connection: Connection, condition: str, binds: dict[str, Any]) -> list[Key]:
        sql = f"SELECT DISTINCT {self._key} FROM {self._table} WHERE {condition}"
        return list(_execute(connection, sql, binds).scalars())


def _others_within(column: str, lower: int | None, upper: int | None, job_id: str) -> tuple[str, dict[str, Any]]:
    """Return the condition, with what is bound in it, of rows of other jobs with lower < column <= upper."""
    conditions, binds = _within(column, lower, upper)
    return " AND ".join(["_job_id <> :job", *conditions]), {"job": job_id, **binds}


def _within(column: str, lower: int | None, upper: int | None) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions, with what is bound in them, of lower < column <= upper (None is open)."""
    conditions, binds = [], {}
    for sign, bound, name in ((">", lower, "lower"), ("<=", upper, "upper")):
        if bound is not None:
            conditions.append(f"{column} {sign} :{name}")
            binds[name] = bound
    return conditions, binds


def _execute(connection: Connection, sql: str, binds: dict[str, Any]) -> CursorResult[Any]:
    """Execute a statement, a list bound in it as so many values: handed to the driver as it is, as SQLAlchemy takes a
    third of the time of a batch that brings nothing to write out its parents."""
    sign = "?" if connection.dialect.name == "sqlite" else "%s"
    values: list[Any] = []

    def mark(found: re.Match[str]) -> str:
        value = binds[found[1]]
        if not isinstance(value, list):
            values.append(value)
            return sign
        if sign == "%s" and all(type(one) is int for one in value):
            # PyMySQL writes values into the text too, one by one.
            return f"({', '.join(map(str, value))})"
        values.extend(value)
        return f"({', '.join([sign] * len(value))})"

    return connection.exec_driver_sql(_BIND.sub(mark, sql), tuple(values))


def removers(connection: Connection, targets: Sequence[Target]) -> dict[str, Remover]:
    """Return what removes rows of each record, each knowing those that derive from it."""
    made: dict[str, Remover] = {}

    def make(target: Target) -> Remover:
        below = [make(other) for other in targets if other.record.derived_from == target.record.name]
        made[target.record.name] = Remover(connection, target, below)
        return made[target.record.name]

    for target in targets:
        if target.record.derived_from is None:
            make(target)
    return made
