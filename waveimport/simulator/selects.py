"""One SELECT, from sqlglot's tree into the SQL over the account's file that pages it and counts it."""

from dataclasses import dataclass, replace
from typing import cast

from sqlglot import exp

from waveimport.simulator import dateformats
from waveimport.simulator.expressions import Expressions, Source
from waveimport.simulator.literals import Value
from waveimport.simulator.refusals import hidden_table, unknown_table, unsupported
from waveimport.simulator.schema import TABLES, Kind, Table
from waveimport.simulator.typed import Typed, scaled, text

COLUMNS_MAXIMUM = 100  # of a SELECT; more of them give no rows, and no error
_PAIRS_MAXIMUM = 60  # of json_object: SQLite's functions take 127 arguments


@dataclass(frozen=True, slots=True)
class Statement:
    """A translated shape.

    `page` wants the parameters of `bind` and `_limit`, `_offset`; it gives one row: the rows of the page, these as a
    JSON array, and for each name in `nullable` how many of them have a value. A NULL stands in the JSON as
    `,"name":null` and has to be cut out. `count` gives one row with the number of all rows.
    """

    page: str
    count: str
    nullable: tuple[str, ...]
    formats: dict[str, tuple[str, bool]]

    def bind(self, values: dict[str, Value]) -> dict[str, Value]:
        """Return the values as the statement wants them bound: dates read by their format. Raises Refusal."""
        if not self.formats:
            return values
        bound = dict(values)
        for name, (pattern, dated) in self.formats.items():
            moment = dateformats.parse_literal(str(values[name]), pattern)
            bound[name] = moment[:10] if dated else moment
        return bound


@dataclass(frozen=True, slots=True)
class _Output:
    name: str
    value: Typed


class Select:
    """One SELECT being translated; `formats` gathers what its literals of time are to be read by. Raises Refusal."""

    def __init__(self, tree: exp.Select, hidden: frozenset[str], formats: dict[str, tuple[str, bool]]) -> None:
        self._tree = tree
        self._hidden = hidden
        self._formats = formats
        known = {"expressions", "from", "from_", "joins", "where", "group", "having", "order", "limit", "offset"}
        known |= {"distinct", "kind", "hint"}
        extra = [name for name, value in tree.args.items() if value and name not in known]
        if extra:
            raise unsupported(f"clause {extra[0]}")
        self._rownum: str | None = None
        self._sources: list[Source] = []
        self._from = self._sources_sql()
        self._expressions = Expressions(self._sources, formats, self._subquery)
        conditions = [self._expressions.condition(part) for part in self._plain_conditions()]
        self._where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        self._expressions.bare.clear()
        self._outputs = self._select_list()
        self._group: list[str] = []
        allowed = self._group_by()
        self._having = self._having_sql()
        self._aggregated = self._expressions.aggregates
        if (self._aggregated or self._group) and not self._expressions.bare <= allowed:
            raise unsupported("a column beside an aggregate that is not grouped by")
        self._order = self._order_by()

    # --- the statements -----------------------------------------------------------------------------------------

    def statement(self) -> Statement:
        """Return the whole SELECT as the statements that serve it."""
        names = [output.name for output in self._outputs]
        columns = [f"{text(output.value)} AS c{number}" for number, output in enumerate(self._outputs)]
        paged = self._sql(columns)
        if self._limit is None:
            paged += " LIMIT :_limit OFFSET :_offset"
        else:
            # Which rows ROWNUM takes of a table is arbitrary, and so is their order.
            scrambled = " ORDER BY random()" if self._takes_any and not self._ordered_within else ""
            paged = f"SELECT * FROM ({paged}){scrambled} LIMIT :_limit OFFSET :_offset"
        if len(names) > COLUMNS_MAXIMUM:
            return Statement("SELECT 0, CAST('[]' AS BLOB)", "SELECT 0", (), self._formats)
        nullable = {number: name for number, name in enumerate(names) if self._outputs[number].value.nullable}
        filled = "".join(f", count(c{number})" for number in nullable)
        page = f"SELECT count(*), CAST(json_group_array({_object(names)}) AS BLOB){filled} FROM ({paged})"
        return Statement(page, self._count_sql(), tuple(nullable.values()), self._formats)

    def subquery(self) -> tuple[str, list[_Output]]:
        """Return the SELECT as a table of raw values, one column by each output's name."""
        columns = [f"{output.value.sql} AS {_name(output.name)}" for output in self._outputs]
        return self._sql(columns), self._outputs

    def _sql(self, columns: list[str]) -> str:
        distinct = "DISTINCT " if self._tree.args.get("distinct") else ""
        sql = f"SELECT {distinct}{', '.join(columns)} FROM {self._rows()}{self._grouped()}{self._order}"
        return f"{sql} LIMIT {self._limit}" if self._limit is not None else sql

    def _rows(self) -> str:
        """Return FROM and WHERE, cut to ROWNUM rows where these must be chosen before the rest is done."""
        if self._rownum is None or not self._chooses_first:
            return f"{self._from}{self._where}"
        if len(self._sources) != 1:
            raise unsupported("ROWNUM with a join and an order")
        alias = _name(self._sources[0].alias)
        # Any rows may be taken. The newest, here: a caller that believes ORDER BY comes first shall notice.
        latest = " ORDER BY rowid DESC" if self._sources[0].keys else ""
        return f"(SELECT * FROM {self._from}{self._where}{latest} LIMIT {self._rownum}) AS {alias}"

    def _grouped(self) -> str:
        group = f" GROUP BY {', '.join(self._group)}" if self._group else ""
        return f"{group}{self._having}"

    @property
    def _chooses_first(self) -> bool:
        return bool(self._tree.args.get("order") or self._group or self._aggregated or self._tree.args.get("distinct"))

    @property
    def _limit(self) -> str | None:
        """The number of rows after ORDER BY, from FETCH FIRST, TOP, or a ROWNUM that nothing follows."""
        taken = self._tree.args.get("limit")
        if taken is not None:
            number = taken.args.get("count") if isinstance(taken, exp.Fetch) else taken.expression
            if not isinstance(number, exp.Literal) or not str(number.this).isdigit():
                raise unsupported("rows to fetch that are no number")
            return str(number.this)
        return self._rownum if self._takes_any else None

    @property
    def _takes_any(self) -> bool:
        """Whether ROWNUM takes the rows that come first, in whichever order they come."""
        return self._rownum is not None and not self._chooses_first

    @property
    def _ordered_within(self) -> bool:
        """Whether the order of the rows is a subquery's, and stays."""
        return len(self._sources) == 1 and self._sources[0].subquery and not self._chooses_first

    def _count_sql(self) -> str:
        rows = f"{self._rows()}{self._grouped()}"
        if self._tree.args.get("distinct"):
            listed = ", ".join(f"{output.value.sql} AS c{i}" for i, output in enumerate(self._outputs))
            counted = f"SELECT DISTINCT {listed} FROM {rows}"
        elif self._group or self._aggregated:
            # The aggregate keeps a SELECT without GROUP BY at its one row.
            counted = f"SELECT COUNT(*) FROM {rows}"
        elif self._limit is None:
            return f"SELECT COUNT(*) FROM {rows}"
        else:
            counted = f"SELECT 1 FROM {rows}"
        limited = f" LIMIT {self._limit}" if self._limit is not None else ""
        return f"SELECT COUNT(*) FROM ({counted}{limited})"

    # --- FROM ---------------------------------------------------------------------------------------------------

    def _sources_sql(self) -> str:
        start = self._tree.args.get("from_") or self._tree.args.get("from")
        if start is None:
            raise unsupported("no FROM")
        sql = self._source(start.this)
        for join in self._tree.args.get("joins") or ():
            sql += self._join(join)
        return sql

    def _join(self, join: exp.Join) -> str:
        side, kind = str(join.args.get("side") or "").upper(), str(join.args.get("kind") or "").upper()
        on = join.args.get("on")
        if side not in ("", "LEFT") or kind not in ("", "INNER", "OUTER", "CROSS") or join.args.get("using"):
            raise unsupported("this join")
        joined = self._source(join.this)
        if side:
            last = self._sources[-1]
            columns = {
                name: Typed(value.sql, value.kind, value.scale, value.scaled) for name, value in last.columns.items()
            }
            self._sources[-1] = replace(last, columns=columns)
        if on is None:
            return f", {joined}"
        condition = Expressions(self._sources, self._formats, self._subquery).condition(on)
        return f" {'LEFT ' if side else ''}JOIN {joined} ON {condition}"

    def _source(self, node: exp.Expression) -> str:
        if isinstance(node, exp.Subquery) and isinstance(node.this, exp.Select):
            sql, outputs = Select(node.this, self._hidden, self._formats).subquery()
            alias = (node.alias or f"q{len(self._sources)}").lower()
            columns = {
                o.name: Typed(f"{_name(alias)}.{_name(o.name)}", o.value.kind, o.value.scale, o.value.scaled)
                for o in outputs
            }
            self._add(Source(alias, alias, columns, subquery=True))
            return f"({sql}) AS {_name(alias)}"
        if not isinstance(node, exp.Table) or node.args.get("db"):
            raise unsupported("what is no table in FROM")
        name = node.name.lower()
        table = TABLES.get(name)
        if table is None:
            raise unknown_table(node.name)
        if name in self._hidden:
            raise hidden_table(node.name)
        alias = (node.alias or name).lower()
        self._add(self._table_source(alias, table))
        return f"{_name(name)} AS {_name(alias)}"

    def _table_source(self, alias: str, table: Table) -> Source:
        visible = [column for column in table.columns if f"{table.name}.{column.name}" not in self._hidden]
        columns = {
            column.name: Typed(
                f"{_name(alias)}.{_name(column.name)}", column.kind, column.scale, nullable=column.nullable
            )
            for column in visible
        }
        display = {
            column.name: tuple(pair for pair in column.display if pair[0] not in self._hidden) for column in visible
        }
        return Source(alias, table.name, columns, table.keys, display)

    def _add(self, source: Source) -> None:
        if any(known.alias == source.alias for known in self._sources):
            raise unsupported(f"two tables called {source.alias}")
        self._sources.append(source)

    def _subquery(self, node: exp.Expression) -> tuple[str, Typed]:
        if not isinstance(node, exp.Select):
            raise unsupported("a subquery that is no SELECT")
        sql, outputs = Select(node, self._hidden, self._formats).subquery()
        if len(outputs) != 1:
            raise unsupported("a subquery of more than one column")
        return sql, outputs[0].value

    # --- WHERE, SELECT, GROUP BY, ORDER BY ----------------------------------------------------------------------

    def _plain_conditions(self) -> list[exp.Expression]:
        """Return the parts of WHERE that AND connects, without ROWNUM's, which is noted instead."""
        where = self._tree.args.get("where")
        parts: list[exp.Expression] = []
        if where:
            flat = where.this.flatten() if isinstance(where.this, exp.And) else [where.this]
            parts = cast("list[exp.Expression]", list(flat))
        plain: list[exp.Expression] = []
        for part in parts:
            if any(column.name.upper() == "ROWNUM" for column in part.find_all(exp.Column)):
                self._rownum = self._rownum_limit(part)
            else:
                plain.append(part)
        return plain

    def _rownum_limit(self, part: exp.Expression) -> str:
        number = part.args.get("expression")
        if (
            self._rownum is not None
            or not isinstance(part, exp.LTE | exp.LT | exp.EQ)
            or not isinstance(part.this, exp.Column)
            or not isinstance(number, exp.Placeholder)
            or not number.name.startswith("n0_")
        ):
            raise unsupported("ROWNUM in this form")
        limit = f":{number.name}"
        if isinstance(part, exp.LTE):
            return f"max({limit}, 0)"
        if isinstance(part, exp.LT):
            return f"max({limit} - 1, 0)"
        # No row is ever the second: the first is only numbered once it was taken.
        return f"({limit} = 1)"

    def _select_list(self) -> list[_Output]:
        outputs: list[_Output] = []
        for node in self._tree.expressions:
            if isinstance(node, exp.Star) or (isinstance(node, exp.Column) and isinstance(node.this, exp.Star)):
                outputs.extend(self._star(node))
                continue
            inner = node.this if isinstance(node, exp.Alias) else node
            plain = inner.name if isinstance(inner, exp.Column) else f"expr{len(outputs) + 1}"
            name = (node.alias if isinstance(node, exp.Alias) else plain).lower()
            outputs.append(_Output(name, self._expressions.value(inner)))
        names = [output.name for output in outputs]
        if not outputs or len(set(names)) != len(names):
            raise unsupported("no columns, or two of one name")
        return outputs

    def _star(self, node: exp.Expression) -> list[_Output]:
        alias = node.table.lower() if isinstance(node, exp.Column) else ""
        sources = [source for source in self._sources if not alias or source.alias == alias]
        outputs = [_Output(name, value) for source in sources for name, value in source.columns.items()]
        self._expressions.bare |= {output.value.sql for output in outputs}
        return outputs

    def _group_by(self) -> set[str]:
        """Note the grouped expressions; return the columns that may stand outside an aggregate."""
        group = self._tree.args.get("group")
        if group is None:
            return set()
        if any(value for name, value in group.args.items() if name != "expressions"):
            raise unsupported("this GROUP BY")
        allowed: set[str] = set()
        for node in group.expressions:
            expressions = Expressions(self._sources, self._formats, self._subquery)
            value = expressions.value(node)
            if value.constant:
                raise unsupported("GROUP BY a constant")
            self._group.append(value.sql)
            # A column inside a grouped expression may stand in the same expression of the select list.
            allowed |= expressions.bare
        return allowed

    def _having_sql(self) -> str:
        having = self._tree.args.get("having")
        return f" HAVING {self._expressions.condition(having.this)}" if having is not None else ""

    def _order_by(self) -> str:
        order = self._tree.args.get("order")
        terms: list[str] = []
        plain: set[tuple[str, str]] = set()
        for node in order.expressions if order is not None else ():
            value = self._ordered_value(node.this, plain)
            sql = scaled(value) if value.kind is Kind.NUMBER else value.sql
            descending = bool(node.args.get("desc"))
            first = node.args.get("nulls_first")
            # Oracle sorts NULL above all values; SQLite below. A column without NULLs keeps the plain form, which an
            # index can serve.
            nulls = (" NULLS FIRST" if (first or (first is None and descending)) else " NULLS LAST") * value.nullable
            terms.append(f"{sql}{' DESC' if descending else ''}{nulls}")
        if not self._one_order(plain):
            terms.append("random()")
        return f" ORDER BY {', '.join(terms)}" if terms else ""

    def _ordered_value(self, node: exp.Expression, plain: set[tuple[str, str]]) -> Typed:
        if isinstance(node, exp.Literal) and not node.is_string:
            position = int(str(node.this))
            if not 1 <= position <= len(self._outputs):
                raise unsupported("ORDER BY a column that is not selected")
            value = self._outputs[position - 1].value
            self._note_plain(value, plain)
            return value
        if isinstance(node, exp.Column) and not node.table:
            for output in self._outputs:
                if output.name == node.name.lower():
                    self._note_plain(output.value, plain)
                    return output.value
        value = self._expressions.value(node)
        self._note_plain(value, plain)
        return value

    def _note_plain(self, value: Typed, plain: set[tuple[str, str]]) -> None:
        for source in self._sources:
            plain.update((source.alias, name) for name, column in source.columns.items() if column.sql == value.sql)

    def _one_order(self, plain: set[tuple[str, str]]) -> bool:
        """Tell whether the rows can come in one order only (or the order is a subquery's, and stays)."""
        if self._aggregated and not self._group:
            return True
        if self._takes_any or self._ordered_within:
            return True
        if self._group or self._tree.args.get("distinct"):
            return False
        return all(any({(s.alias, k) for k in key} <= plain for key in s.keys) for s in self._sources)


def _object(names: list[str]) -> str:
    """Return the expression of a row as a JSON object; the columns are c0, c1 and so on."""
    if len(names) <= _PAIRS_MAXIMUM:
        members = ", ".join(f"{_quote(name)}, c{number}" for number, name in enumerate(names))
        return f"json_object('links', json_array(), {members})"
    joined = "".join(
        f" || ',' || json_quote({_quote(name)}) || ':' || json_quote(c{n})" for n, name in enumerate(names)
    )
    return f"""json('{{"links":[]'{joined} || '}}')"""


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _quote(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
