"""What it means that a destination table refuses rows.

Only the statement that puts rows into a destination asks here. The same code in a coordination table is no fault of
any row, and must never be taken for one: a duplicate key there is a rival's work, or a fault of the program.
"""

import sqlite3

from sqlalchemy.exc import DBAPIError

from waveimport.errors import BadData, TableClash
from waveimport.store import dialect
from waveimport.store.transactions import Verdict, classify, error_number, safe_text

_SQLITE_BAD_ROW = frozenset({sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG})
_SQLITE_OTHER_TABLE = frozenset({sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA})
"""SQLite has no code of its own for a missing table or column; the statement was right when the run began."""
_WORDS_OF_OTHERS = frozenset({"1644", "SQLITE_CONSTRAINT_TRIGGER"})
"""A trigger says what its author wrote, which may be a value of the row."""


def refusal(error: DBAPIError, table: str, job_id: str) -> BadData | TableClash | None:
    """Return what to raise in place of a driver's error that met rows on their way into `table`.

    BadData where a constraint, a unique index, a trigger or a type does not take a row: a fault of the batch, which
    spends a try. TableClash where the table or a column is gone or cannot be written: a fault of no batch, which ends
    the run. None for all else (a conflict, a lost connection, a full disk), which is for `Database.run` to judge.
    """
    number = error_number(error)
    said = number if number in _WORDS_OF_OTHERS else f"{number}: {safe_text(error)}"
    orig = error.orig
    if isinstance(orig, sqlite3.Error):
        primary = (getattr(orig, "sqlite_errorcode", None) or 0) & 0xFF
        bad_row, other_table = primary in _SQLITE_BAD_ROW, primary in _SQLITE_OTHER_TABLE
    else:
        code = int(number) if number.isdigit() else -1
        bad_row = code in dialect.MYSQL_BAD_ROW or classify(error) is Verdict.BAD_VALUE
        other_table = code in dialect.MYSQL_OTHER_TABLE
    if bad_row:
        return BadData(
            f"table `{table}` refused a row ({said})",
            help="look at the table's own constraints, unique indexes, triggers and columns that may not be NULL",
        )
    if other_table:
        return TableClash(
            f"table `{table}` was dropped or changed while the run was at work, or takes no rows ({said})",
            help=f"mend the table and run again; where it was dropped, `waveimport cancel {job_id}` first, since going"
            " on brings only the rows that had not landed yet",
        )
    return None
