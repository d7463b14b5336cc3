"""Expressions of SuiteQL, from sqlglot's tree into typed SQLite SQL: each node kind that the dialect has, no other.

What has no case here is refused, as the service refuses what it does not know. SQL text is only ever built from names
in schema.py, placeholders and quoted literals.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlglot import exp

from waveimport.simulator import dateformats
from waveimport.simulator.literals import IN_LIST_MAXIMUM
from waveimport.simulator.refusals import bad_query, unknown_column, unsupported
from waveimport.simulator.schema import Kind
from waveimport.simulator.typed import (
    NUMBERS,
    TIMES,
    Typed,
    at_scale,
    comparable,
    local_time,
    real,
    scaled,
    text,
    unify,
)

_COMPARISONS: dict[type[exp.Expression], str] = {
    exp.EQ: "=",
    exp.NEQ: "<>",
    exp.LT: "<",
    exp.LTE: "<=",
    exp.GT: ">",
    exp.GTE: ">=",
}
_AGGREGATES = frozenset({"COUNT", "MIN", "MAX", "SUM", "AVG"})
_NULL = Typed("NULL", Kind.TEXT, constant=True)


@dataclass(frozen=True, slots=True)
class Source:
    """One table or subquery in FROM: its alias, what it stands for, its visible columns, and its unique keys, which a
    subquery and a log have not."""

    alias: str
    table: str
    columns: Mapping[str, Typed]
    keys: tuple[tuple[str, ...], ...] = ()
    display: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    subquery: bool = False


class Expressions:
    """Translates the expressions of one SELECT.

    `formats` gathers the placeholders that TO_DATE reads, with their format, to be converted as they are bound;
    `bare` the columns used outside an aggregate, `aggregates` whether one was seen.
    """

    def __init__(
        self,
        sources: list[Source],
        formats: dict[str, tuple[str, bool]],
        subquery: Callable[[exp.Expression], tuple[str, Typed]],
    ) -> None:
        self._sources = sources
        self._formats = formats
        self._subquery = subquery
        self._depth = 0
        self.bare: set[str] = set()
        self.aggregates = False

    # --- values -------------------------------------------------------------------------------------------------

    def value(self, node: exp.Expression) -> Typed:
        """Return the typed SQL of a value expression. Raises Refusal."""
        match node:
            case exp.Paren():
                return self.value(node.this)
            case exp.Column():
                return self._column(node)
            case exp.Placeholder():
                return self._placeholder(node.name)
            case exp.Literal():
                return self._literal(node)
            case exp.Null():
                return _NULL
            case exp.Neg():
                return self._negative(self.value(node.this))
            case exp.Add() | exp.Sub() | exp.Mul() | exp.Div():
                return self._arithmetic(node)
            case exp.DPipe():
                parts = [self.value(side) for side in (node.this, node.expression)]
                # To Oracle a NULL is an empty string, so a concatenation with NULL is the other side.
                return Typed(" || ".join(f"ifnull({text(part)}, '')" for part in parts).join("()"), Kind.TEXT)
            case exp.Case():
                return self._case(node)
            case exp.Anonymous():
                return self._function(str(node.this).upper(), list(node.expressions))
            case exp.Dot():
                return self._builtin(node)
        raise unsupported(f"expression {type(node).__name__}")

    def _column(self, node: exp.Column) -> Typed:
        source, name = self.resolve(node)
        found = source.columns[name]
        if self._depth == 0:
            self.bare.add(found.sql)
        return found

    def resolve(self, node: exp.Column) -> tuple[Source, str]:
        """Return the source and the lower-case name that a column stands for. Raises Refusal if there is none."""
        name, alias = node.name.lower(), node.table.lower()
        if node.args.get("join_mark"):
            raise unsupported("an outer join by (+)")
        found = [s for s in self._sources if name in s.columns and (not alias or s.alias == alias)]
        if not found:
            named = f"{node.table}.{node.name}" if node.table else node.name
            raise unknown_column(named, {source.alias: source.table for source in self._sources})
        if len(found) > 1:
            raise bad_query(f"Search error occurred: Field '{node.name}' is ambiguous.")
        return found[0], name

    def _placeholder(self, name: str) -> Typed:
        if name.startswith("s_"):
            return Typed(f":{name}", Kind.TEXT, nullable=False, constant=True)
        if name.startswith("n"):
            scale = int(name[1 : name.index("_")])
            return Typed(f":{name}", Kind.NUMBER, scale, scale > 0, nullable=False, constant=True)
        raise unsupported("a list where a value is needed")

    def _literal(self, node: exp.Literal) -> Typed:
        if node.is_string:
            quoted = "'" + str(node.this).replace("'", "''") + "'"
            return Typed(quoted, Kind.TEXT, nullable=False, constant=True)
        whole, _, decimals = str(node.this).partition(".")
        if not (whole + decimals).isdigit():
            raise unsupported(f"the number {node.this}")
        number = str(int(whole + decimals))
        return Typed(number, Kind.NUMBER, len(decimals), bool(decimals), nullable=False, constant=True)

    def _negative(self, value: Typed) -> Typed:
        if value.kind is Kind.FLOAT:
            return Typed(f"(-{value.sql})", Kind.FLOAT, nullable=value.nullable)
        if value.kind is Kind.NUMBER:
            return Typed(f"(-{scaled(value)})", Kind.NUMBER, value.scale, value.scale > 0, value.nullable)
        raise unsupported("minus before what is no number")

    def _arithmetic(self, node: exp.Add | exp.Sub | exp.Mul | exp.Div) -> Typed:
        left, right = self.value(node.this), self.value(node.expression)
        if {left.kind, right.kind} - NUMBERS:
            # Among them text + text, which the service does not take for a concatenation, and dates.
            raise unsupported("arithmetic on what is no number")
        nullable = left.nullable or right.nullable
        sign = {exp.Add: "+", exp.Sub: "-", exp.Mul: "*", exp.Div: "/"}[type(node)]
        if isinstance(node, exp.Div):
            return Typed(f"({real(left)} / {real(right)})", Kind.FLOAT)
        if Kind.FLOAT in (left.kind, right.kind):
            return Typed(f"({real(left)} {sign} {real(right)})", Kind.FLOAT, nullable=nullable)
        if isinstance(node, exp.Mul):
            scale = left.scale + right.scale
            return Typed(f"({scaled(left)} * {scaled(right)})", Kind.NUMBER, scale, scale > 0, nullable)
        scale = max(left.scale, right.scale)
        sql = f"({at_scale(left, scale)} {sign} {at_scale(right, scale)})"
        return Typed(sql, Kind.NUMBER, scale, scale > 0, nullable)

    def _case(self, node: exp.Case) -> Typed:
        default = node.args.get("default")
        results = [self.value(branch.args["true"]) for branch in node.args["ifs"]]
        results.append(self.value(default) if default is not None else _NULL)
        *then, otherwise = unify(results)
        arms: list[str] = []
        for branch, result in zip(node.args["ifs"], then, strict=True):
            if node.this is None:
                test = self.condition(branch.this)
            else:
                test = " = ".join(comparable(self.value(node.this), self.value(branch.this)))
            arms.append(f"WHEN {test} THEN {result.sql}")
        sql = f"CASE {' '.join(arms)} ELSE {otherwise.sql} END"
        return Typed(sql, otherwise.kind, otherwise.scale, otherwise.scaled)

    # --- functions ----------------------------------------------------------------------------------------------

    def _function(self, name: str, arguments: list[exp.Expression]) -> Typed:
        if name in _AGGREGATES:
            return self._aggregate(name, arguments)
        if name in ("TO_DATE", "TO_TIMESTAMP"):
            return self._to_time(name, arguments)
        if name == "TO_CHAR":
            return self._to_char(arguments)
        values = [self.value(argument) for argument in arguments]
        match name, values:
            case "SYS_EXTRACT_UTC", [Typed(kind=Kind.TIMESTAMP) as value]:
                return Typed(value.sql, Kind.NAIVE, nullable=value.nullable)
            case ("NVL", [_, _]) | ("COALESCE", [_, _, *_]):
                return self._coalesce(values)
            case "NVL2", [tested, _, _]:
                some, none = unify(values[1:])
                return Typed(
                    f"iif({tested.sql} IS NOT NULL, {some.sql}, {none.sql})", some.kind, some.scale, some.scaled
                )
            case "DECODE", [_, _, _, *_]:
                return self._decode(values)
            case "TRUNC", [value, *_] if len(values) <= 2:
                return self._trunc(value, arguments[1:])
            case "TO_NUMBER", [value]:
                return value if value.kind is Kind.NUMBER else Typed(real(value), Kind.FLOAT)
            case (("UPPER" | "LOWER" | "TRIM" | "LENGTH"), [value]):
                sql = f"{name.lower()}({text(value)})"
                return Typed(sql, Kind.NUMBER if name == "LENGTH" else Kind.TEXT, nullable=value.nullable)
            case "SUBSTR", [value, *bounds] if 1 <= len(bounds) <= 2:
                cut = ", ".join([text(value), *(scaled(bound) for bound in bounds)])
                return Typed(f"substr({cut})", Kind.TEXT, nullable=value.nullable)
            case "INSTR", [value, part]:
                return Typed(f"instr({text(value)}, {text(part)})", Kind.NUMBER, nullable=value.nullable)
            case "CONCAT", [left, right]:
                return Typed(f"(ifnull({text(left)}, '') || ifnull({text(right)}, ''))", Kind.TEXT)
            case "ABS", [value] if value.kind is Kind.NUMBER:
                return Typed(f"abs({scaled(value)})", Kind.NUMBER, value.scale, value.scale > 0, value.nullable)
            case "MOD", [Typed(kind=Kind.NUMBER, scale=0) as left, Typed(kind=Kind.NUMBER, scale=0) as right]:
                return Typed(f"({left.sql} % {right.sql})", Kind.NUMBER)
        raise unsupported(f"function {name}")

    def _aggregate(self, name: str, arguments: list[exp.Expression]) -> Typed:
        if len(arguments) != 1 or self._depth:
            raise unsupported(f"{name} of other than one argument, or inside another")
        self.aggregates = True
        (argument,) = arguments
        if isinstance(argument, exp.Star):
            if name != "COUNT":
                raise unsupported(f"{name}(*)")
            return Typed("COUNT(*)", Kind.NUMBER, nullable=False)
        distinct = ""
        if isinstance(argument, exp.Distinct):
            (argument,) = argument.expressions
            distinct = "DISTINCT "
        self._depth += 1
        value = self.value(argument)
        self._depth -= 1
        if name == "COUNT":
            return Typed(f"COUNT({distinct}{value.sql})", Kind.NUMBER, nullable=False)
        if name == "AVG" or (value.kind is Kind.FLOAT and name == "SUM"):
            return Typed(f"{name}({distinct}{real(value)})", Kind.FLOAT)
        if value.kind is Kind.NUMBER:
            return Typed(f"{name}({distinct}{scaled(value)})", Kind.NUMBER, value.scale, value.scale > 0)
        if name == "SUM":
            raise unsupported("SUM of what is no number")
        return Typed(f"{name}({value.sql})", value.kind)

    def _to_char(self, arguments: list[exp.Expression]) -> Typed:
        value = self.value(arguments[0]) if arguments else _NULL
        match arguments[1:]:
            case []:
                return Typed(text(value), Kind.TEXT, nullable=value.nullable)
            case [exp.Literal() as pattern] if pattern.is_string and value.kind in TIMES:
                shown = str(pattern.this)
                if value.kind is Kind.DATE and shown.upper() == "YYYY-MM-DD":
                    return Typed(value.sql, Kind.TEXT, nullable=value.nullable)
                return Typed(dateformats.to_char(local_time(value), shown), Kind.TEXT, nullable=value.nullable)
        raise unsupported("TO_CHAR in this form")

    def _to_time(self, name: str, arguments: list[exp.Expression]) -> Typed:
        match arguments:
            case [exp.Placeholder() as literal, exp.Literal() as pattern] if literal.name.startswith("s_"):
                shown = str(pattern.this)
                dated = name == "TO_DATE" and not dateformats.has_time_of_day(shown)
                self._formats[literal.name] = (shown, dated)
                kind = Kind.DATE if dated else Kind.NAIVE
                return Typed(f":{literal.name}", kind, nullable=False, constant=True)
        raise unsupported(f"{name} of other than a literal and a format")

    def _coalesce(self, values: list[Typed]) -> Typed:
        same = unify(values)
        sql = f"coalesce({', '.join(value.sql for value in same)})"
        nullable = all(value.nullable for value in same)
        return Typed(sql, same[0].kind, same[0].scale, same[0].scaled, nullable)

    def _decode(self, values: list[Typed]) -> Typed:
        tested, *rest = values
        default = rest.pop() if len(rest) % 2 else _NULL
        searches, results = rest[::2], unify([*rest[1::2], default])
        arms = " ".join(
            # DECODE, unlike =, finds NULL equal to NULL.
            f"WHEN {' IS '.join(comparable(tested, s) if s.sql != 'NULL' else (tested.sql, 'NULL'))} THEN {r.sql}"
            for s, r in zip(searches, results[:-1], strict=True)
        )
        last = results[-1]
        return Typed(f"CASE {arms} ELSE {last.sql} END", last.kind, last.scale, last.scaled)

    def _trunc(self, value: Typed, rest: list[exp.Expression]) -> Typed:
        unit = str(rest[0].this).upper() if rest and isinstance(rest[0], exp.Literal) else ""
        if value.kind in TIMES and unit in ("", "DD", "DAY"):
            return Typed(f"substr({local_time(value)}, 1, 10)", Kind.DATE, nullable=value.nullable)
        if value.kind in TIMES and unit in ("MM", "MONTH", "YYYY", "YEAR"):
            length, tail = (8, "01") if unit.startswith("M") else (5, "01-01")
            return Typed(f"(substr({local_time(value)}, 1, {length}) || '{tail}')", Kind.DATE, nullable=value.nullable)
        if value.kind is Kind.NUMBER and not rest:
            return Typed(f"({scaled(value)} / {10**value.scale})", Kind.NUMBER, nullable=value.nullable)
        raise unsupported("TRUNC in this form")

    def _builtin(self, node: exp.Dot) -> Typed:
        call = node.expression
        if node.this.name.upper() != "BUILTIN" or not isinstance(call, exp.Anonymous) or str(call.this).upper() != "DF":
            raise unsupported(f"{node.sql()}")
        match call.expressions:
            case [exp.Column() as column]:
                source, name = self.resolve(column)
                value = self._column(column)
                looked_up = [
                    f'(SELECT "{shown}" FROM "{table}" WHERE id = {value.sql})'
                    for table, shown in source.display.get(name, ())
                ]
                if not looked_up:
                    return Typed(text(value), Kind.TEXT, nullable=value.nullable)
                return Typed(f"coalesce({', '.join([*looked_up, 'NULL'])})", Kind.TEXT)
        raise unsupported("BUILTIN.DF of other than a column")

    # --- conditions ---------------------------------------------------------------------------------------------

    def condition(self, node: exp.Expression) -> str:
        """Return the SQL of a condition. Raises Refusal."""
        operator = _COMPARISONS.get(type(node))
        if operator:
            left, right = comparable(self.value(node.this), self.value(node.expression))
            return f"{left} {operator} {right}"
        match node:
            case exp.And() | exp.Or():
                word = "AND" if isinstance(node, exp.And) else "OR"
                return f"({self.condition(node.this)} {word} {self.condition(node.expression)})"
            case exp.Not():
                return f"(NOT {self.condition(node.this)})"
            case exp.Paren():
                return f"({self.condition(node.this)})"
            case exp.Is() if isinstance(node.expression, exp.Null):
                return f"({self.value(node.this).sql} IS NULL)"
            case exp.Between():
                value = self.value(node.this)
                low = " >= ".join(comparable(value, self.value(node.args["low"])))
                high = " <= ".join(comparable(value, self.value(node.args["high"])))
                return f"({low} AND {high})"
            case exp.Like():
                return f"({text(self.value(node.this))} LIKE {text(self.value(node.expression))})"
            case exp.In():
                return self._in(node)
        raise unsupported(f"condition {type(node).__name__}")

    def _in(self, node: exp.In) -> str:
        value = self.value(node.this)
        query = node.args.get("query")
        if query is not None:
            sql, column = self._subquery(query.this if isinstance(query, exp.Subquery) else query)
            if column.kind is not value.kind or column.scale != value.scale or column.scaled != value.scaled:
                raise unsupported("IN of another kind")
            return f"({value.sql} IN ({sql}))"
        match node.expressions:
            case [exp.Placeholder() as listed] if listed.name.startswith("l"):
                return self._in_list(value, listed.name)
        if not 1 <= len(node.expressions) <= IN_LIST_MAXIMUM:
            raise unsupported("too many arguments of IN")
        return "(" + " OR ".join(" = ".join(comparable(value, self.value(e))) for e in node.expressions) + ")"

    def _in_list(self, value: Typed, name: str) -> str:
        if value.kind is Kind.NUMBER and value.scale == 0:
            element = "value" if name.startswith("ln_") else "CAST(value AS INTEGER)"
            return f"({value.sql} IN (SELECT {element} FROM json_each(:{name})))"
        if value.kind in NUMBERS:
            return f"({real(value)} IN (SELECT CAST(value AS REAL) FROM json_each(:{name})))"
        if value.kind in (Kind.TEXT, Kind.FLAG):
            return f"({value.sql} IN (SELECT CAST(value AS TEXT) FROM json_each(:{name})))"
        raise unsupported("IN of times")
