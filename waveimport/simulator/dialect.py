"""SuiteQL into SQLite: the subset that the service documents for SELECT, and its refusals for the rest.

A query becomes two statements over the account's file: one that returns a page as ready JSON, one that counts all its
rows. Rules that an importer meets here:

* Columns not selected in a known format come in the account's: a date is 3/2/2026, a timestamp loses its time.
* Times are those of the account's clocks, and so are literals; SYS_EXTRACT_UTC gives UTC.
* Without an ORDER BY that is unique, rows that tie come in another order with every request.
* `ROWNUM <= n` takes n rows before ORDER BY; FETCH FIRST and TOP take them after it. SQL's OFFSET is ignored.
* WITH, LIMIT, date literals, set operations and square brackets are refused.

Parsing is sqlglot's, by Oracle's grammar; a translation is kept by the query's shape (see literals.py).
"""

import threading
from collections import OrderedDict

import sqlglot
from sqlglot import exp
from sqlglot.dialects.oracle import Oracle
from sqlglot.errors import SqlglotError

from waveimport.simulator.literals import Lifted, Value, lift
from waveimport.simulator.refusals import unsupported
from waveimport.simulator.selects import Select, Statement

_SHAPES_KEPT = 512


class _SuiteQL(Oracle):
    """Oracle's grammar with every function left as it is written, for expressions.py to know or refuse."""

    class Parser(Oracle.Parser):  # type: ignore[misc,name-defined,valid-type,unused-ignore]
        FUNCTIONS: dict[str, object] = {}  # noqa: RUF012 - sqlglot's own attribute, read by its parser
        FUNCTION_PARSERS: dict[str, object] = {}  # noqa: RUF012 - as above
        NO_PAREN_FUNCTIONS: dict[str, object] = {}  # noqa: RUF012 - as above


class Translator:
    """Translates queries and keeps the translations. Safe for many threads.

    `hidden` are the tables ("customer") and columns ("transaction.entity") that the role cannot see.
    """

    def __init__(self, hidden: frozenset[str] = frozenset()) -> None:
        self._hidden = hidden
        self._kept: OrderedDict[str, Statement] = OrderedDict()
        self._lock = threading.Lock()

    def translate(self, query: str, bound: tuple[str | int, ...] = ()) -> tuple[Statement, dict[str, Value]]:
        """Return the statement for a query and the parameters to run it with. Raises Refusal."""
        lifted: Lifted = lift(query, bound)
        with self._lock:
            statement = self._kept.get(lifted.shape)
            if statement is not None:
                self._kept.move_to_end(lifted.shape)
        if statement is None:
            statement = Select(_parse(lifted.shape), self._hidden, {}).statement()
            with self._lock:
                self._kept[lifted.shape] = statement
                while len(self._kept) > _SHAPES_KEPT:
                    self._kept.popitem(last=False)
        return statement, statement.bind(lifted.values)


def _parse(shape: str) -> exp.Select:
    try:
        trees = sqlglot.parse(shape, read=_SuiteQL)
    except (SqlglotError, RecursionError):
        raise unsupported("does not parse") from None
    if len(trees) != 1 or not isinstance(trees[0], exp.Select):
        raise unsupported("not one SELECT")
    return trees[0]
