"""What happens in an account while it is read: rows come, change and go, by a seeded script.

As the service does: a change of a record bumps its `lastmodifieddate` to the second; a record that is deleted goes
with its lines and is noted in `deletedrecord`; a line that is deleted is noted nowhere, but its order is bumped, and
added again it is another line.
"""

import contextlib
import random
import sqlite3
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

ORDER_RECORD_TYPE = 31
CUSTOMER_RECORD_TYPE = -2
_CLOSED = "H"
"""The status of a closed order, which none has to begin with."""


class Changes:
    """The script at work on the account's file; the same seed does the same to the same file. Safe for many threads.

    `clock` gives the moment that changes bear.
    """

    def __init__(self, data: Path, seed: int = 1, clock: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._data = data
        self._random = random.Random(seed)
        self._clock = clock
        self._lock = threading.Lock()
        self._kinds: tuple[tuple[str, Callable[[sqlite3.Connection, str], None]], ...] = (
            ("insert an order", self._insert_order),
            ("edit orders in one second", self._edit_orders),
            ("edit a line alone", self._edit_line),
            ("delete an order", self._delete_order),
            ("delete a line", self._delete_line),
            ("delete a line and add it again", self._replace_line),
            ("close an order", self._close_order),
            ("edit a customer", self._edit_customer),
            ("insert a customer", self._insert_customer),
            ("delete a customer", self._delete_customer),
        )

    def round(self, count: int = 1) -> list[str]:
        """Make `count` changes, in one moment; return what was done."""
        chosen = [self._random.choice(self._kinds) for _ in range(count)]
        self._make([change for _, change in chosen])
        return [name for name, _ in chosen]

    def each_once(self) -> None:
        """Make one change of every kind, in one moment."""
        self._make([change for _, change in self._kinds])

    def _make(self, changes: Sequence[Callable[[sqlite3.Connection, str], None]]) -> None:
        with self._lock, contextlib.closing(sqlite3.connect(self._data, timeout=60, isolation_level=None)) as account:
            account.execute("BEGIN IMMEDIATE")
            at = self._clock().strftime("%Y-%m-%d %H:%M:%S")
            for change in changes:
                change(account, at)
            account.execute("COMMIT")

    # --- one change each ----------------------------------------------------------------------------------------

    def _order(self, account: sqlite3.Connection) -> int:
        ids = account.execute("SELECT id FROM \"transaction\" WHERE type = 'SalesOrd' ORDER BY id").fetchall()
        return int(self._random.choice(ids)[0])

    def _customer(self, account: sqlite3.Connection) -> int:
        ids = account.execute("SELECT id FROM customer WHERE id > 0 ORDER BY id").fetchall()
        return int(self._random.choice(ids)[0])

    def _insert_order(self, account: sqlite3.Connection, at: str) -> None:
        (highest,) = account.execute('SELECT MAX(id) FROM "transaction"').fetchone()
        number = highest + self._random.randint(1, 5)
        self._copy(account, "transaction", self._order(account), {"id": number, "tranid": f"SO{number}", "status": "O"})
        self._bump(account, number, at)
        for line in range(1, self._random.randint(2, 5)):
            self._add_line(account, number, line, at)

    def _edit_orders(self, account: sqlite3.Connection, at: str) -> None:
        for _ in range(self._random.randint(1, 4)):
            number = self._order(account)
            account.execute(
                'UPDATE "transaction" SET memo = ?, foreigntotal = ? WHERE id = ?',
                (None if self._random.random() < 0.3 else f"é {self._random.random()}", self._amount(), number),
            )
            self._bump(account, number, at)

    def _edit_line(self, account: sqlite3.Connection, at: str) -> None:
        account.execute(
            'UPDATE transactionline SET netamount = ?, linelastmodifieddate = ? WHERE "transaction" = ?',
            (self._amount(), at, self._order(account)),
        )

    def _delete_order(self, account: sqlite3.Connection, at: str) -> None:
        number = self._order(account)
        account.execute('DELETE FROM transactionline WHERE "transaction" = ?', (number,))
        account.execute('DELETE FROM "transaction" WHERE id = ?', (number,))
        self._log(account, number, ORDER_RECORD_TYPE, "salesorder", at)

    def _delete_line(self, account: sqlite3.Connection, at: str) -> None:
        number = self._order(account)
        account.execute(
            "DELETE FROM transactionline WHERE uniquekey ="
            ' (SELECT MAX(uniquekey) FROM transactionline WHERE "transaction" = ?)',
            (number,),
        )
        self._bump(account, number, at)

    def _replace_line(self, account: sqlite3.Connection, at: str) -> None:
        number = self._order(account)
        (line,) = account.execute('SELECT MAX(id) FROM transactionline WHERE "transaction" = ?', (number,)).fetchone()
        account.execute('DELETE FROM transactionline WHERE "transaction" = ? AND id = ?', (number, line))
        self._add_line(account, number, (line or 0) + 1, at)
        self._bump(account, number, at)

    def _close_order(self, account: sqlite3.Connection, at: str) -> None:
        number = self._order(account)
        account.execute('UPDATE "transaction" SET status = ? WHERE id = ?', (_CLOSED, number))
        self._bump(account, number, at)

    def _edit_customer(self, account: sqlite3.Connection, at: str) -> None:
        account.execute(
            "UPDATE customer SET phone = ?, balance = ?, lastmodifieddate = ? WHERE id = ?",
            (None if self._random.random() < 0.3 else "0", self._amount(), at, self._customer(account)),
        )

    def _insert_customer(self, account: sqlite3.Connection, at: str) -> None:
        (highest,) = account.execute("SELECT MAX(id) FROM customer").fetchone()
        self._copy(account, "customer", self._customer(account), {"id": highest + 2, "lastmodifieddate": at})

    def _delete_customer(self, account: sqlite3.Connection, at: str) -> None:
        number = self._customer(account)
        account.execute("DELETE FROM customer WHERE id = ?", (number,))
        self._log(account, number, CUSTOMER_RECORD_TYPE, "customer", at)

    # --- their parts --------------------------------------------------------------------------------------------

    def _amount(self) -> str:
        return f"{self._random.randint(1, 99_999) / 100:.2f}".rstrip("0").rstrip(".")

    def _bump(self, account: sqlite3.Connection, number: int, at: str) -> None:
        account.execute('UPDATE "transaction" SET lastmodifieddate = ? WHERE id = ?', (at, number))

    def _add_line(self, account: sqlite3.Connection, number: int, line: int, at: str) -> None:
        (highest,) = account.execute("SELECT MAX(uniquekey) FROM transactionline").fetchone()
        values = {
            "uniquekey": highest + 1,
            "transaction": number,
            "id": line,
            "linesequencenumber": line,
            "netamount": self._amount(),
            "linelastmodifieddate": at,
        }
        (like,) = account.execute("SELECT uniquekey FROM transactionline ORDER BY uniquekey LIMIT 1").fetchone()
        self._copy(account, "transactionline", like, values, key="uniquekey")

    def _copy(
        self, account: sqlite3.Connection, table: str, key_value: int, values: dict[str, object], key: str = "id"
    ) -> None:
        """Insert a row like another one, but for some values."""
        cursor = account.execute(f'SELECT * FROM "{table}" WHERE {key} = ?', (key_value,))
        names = [column[0] for column in cursor.description]
        row = dict(zip(names, cursor.fetchone(), strict=True)) | values
        marks = ", ".join("?" * len(names))
        account.execute(f'INSERT INTO "{table}" VALUES ({marks})', [row[name] for name in names])

    def _log(self, account: sqlite3.Connection, number: int, kind: int, name: str, at: str) -> None:
        account.execute(
            "INSERT INTO deletedrecord (recordid, recordtypeid, name, type, context, deletedby, deleteddate,"
            " iscustomlist, iscustomrecord, iscustomtransaction) VALUES (?, ?, ?, ?, 'UIF', -5, ?, 'F', 'F', 'F')",
            (number, kind, f"{name} {number}", name, at),
        )
