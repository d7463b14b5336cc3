"""How TPC-H becomes a NetSuite account: the rows of each table, made from the files of `tpchgen-cli`.

TPC-H's keys stay derivable, and each also stands in a custom field of its row:

    region     subsidiary.id = r_regionkey + 1           custrecord_regionkey
    nation     subsidiary.id = n_nationkey + 11          custrecord_nationkey; parent = n_regionkey + 1
    customer   customer.id   = 2 * c_custkey + 1000      custentity_custkey
    supplier   vendor.id     = 2 * s_suppkey + 1001      custentity_suppkey
    part       item.id       = p_partkey + 10            custitem_partkey
    orders     transaction.id = o_orderkey               custbody_orderkey, type 'SalesOrd'
    lineitem   transactionline.uniquekey = 8 * l_orderkey + l_linenumber; transaction = l_orderkey, id = l_linenumber

The rest of what TPC-H's queries need: customer.subsidiary and vendor.subsidiary are the nation's subsidiary;
o_orderdate is trandate, o_totalprice foreigntotal, o_orderstatus status, l_extendedprice netamount (before discount
and tax), l_quantity quantity; the custom fields carry TPC-H's names.

Beyond TPC-H, and without a TPC-H key: an elimination subsidiary (-1), a customer far below (-5) and one far above the
others (5,000,000,003: more than 32 bits), NetSuite's system items (-7 to 0), and transactions of other types between
the orders: invoices (order id + 8), journals (+ 16) and vendor bills (+ 24), one invoice at 9,000,000,000, each with
lines of its own. Sales orders have exactly TPC-H's lines; only the invoices show the `mainline` row that NetSuite
keeps. A custom record, `customrecord_measurement`, has more columns than one SELECT may have.
Up to 1,300 orders share one second of `lastmodifieddate`, as after a mass update: more than a page.
"""

import operator
import shutil
import sqlite3
import subprocess
import sys
from array import array
from collections.abc import Iterator
from pathlib import Path

from waveimport.errors import MissingExtra, UsageError
from waveimport.simulator.schema import MEASUREMENTS

MASS_UPDATE = range(100, 1400)  # the orders, by position, that one mass update touched
MASS_UPDATE_AT = "1998-12-01 06:00:00"
FAR_INVOICE_ID = 9_000_000_000

_NAMES = (
    "Müller & Söhne",
    "Ångström Instruments",
    "Łódź Tkaniny",
    "Café Noël",
    "東京商事",
    'O\'Neil "Bold" Supplies',
    "Δέλτα Εμπορική",
    "Straße 9 \\ Lager",
    "Ñandú S.A.",
    "Plain Trading",
    "🚚 Fast Freight",
    "Zoë Tools",
)
_SYSTEM_ITEMS = ((-7, "TaxItem"), (-6, "TaxItem"), (-5, "Subtotal"), (-4, "Payment"), (-3, "Description"))
_MORE_SYSTEM_ITEMS = ((-2, "Discount"), (-1, "Markup"), (0, "OthCharge"))

Row = tuple[object, ...]


def _generator() -> str:
    """Return the path of `tpchgen-cli`, first beside this interpreter, then on PATH. Raises MissingExtra."""
    beside = Path(sys.executable).with_name("tpchgen-cli")
    found = str(beside) if beside.exists() else shutil.which("tpchgen-cli")
    if found is None:
        raise MissingExtra(
            "the simulated account needs tpchgen-cli, which is not installed",
            help="pip install 'waveimport[demo]'",
        )
    return found


def generate(folder: Path, scale: float) -> None:
    """Write TPC-H's tables into `folder`, pipe-delimited, in key order, all at once: a start takes a second."""
    names = "region,nation,customer,supplier,part,orders,lineitem"
    command = [_generator(), "-s", f"{scale:g}", "-T", names, "-o", str(folder), "-q", "--no-progress"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise UsageError(f"tpchgen-cli failed: {said[-1]}", help="run it by hand to see why: " + " ".join(command))


def _tpch(source: Path, table: str) -> Iterator[list[str]]:
    """Yield the rows of TPC-H's `table` as lists of text fields, in key order; the file goes once it was read."""
    path = source / f"{table}.tbl"
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            yield line.split("|")
    path.unlink()


def _decimal(text: str) -> str:
    """Return the decimal as Oracle prints a NUMBER: without trailing zeros."""
    return text.rstrip("0").rstrip(".") if "." in text else text


def _moment(day: str, key: int) -> str:
    """Return a UTC time of that day, a function of the key."""
    return f"{day} {key * 7 % 24:02d}:{key * 13 % 60:02d}:{key * 29 % 60:02d}"


def subsidiaries(source: Path) -> Iterator[Row]:
    """Yield the rows of `subsidiary`: the regions and nations, and an elimination subsidiary."""
    at = "1991-12-31 08:30:00"
    yield (-1, "Élimination", "Élimination", None, "F", "T", at, None, None, None)
    regions: dict[int, str] = {}
    for key_text, name, comment, *_ in _tpch(source, "region"):
        key = int(key_text)
        regions[key] = name
        yield (key + 1, name, name, None, "F", "F", at, comment, key, None)
    for key_text, name, region_text, comment, *_ in _tpch(source, "nation"):
        key, region = int(key_text), int(region_text)
        memo = None if key % 5 == 0 else comment
        yield (key + 11, name, f"{regions[region]} : {name}", region + 1, "F", "F", at, memo, None, key)


def customers(source: Path) -> Iterator[Row]:
    """Yield the rows of `customer`: the customers, one of them far below and one far above the rest."""
    at = "1992-01-01 00:00:00"
    yield (-5, "System", "System", None, None, "0", "F", 1, at, None, None, None, None)
    for key_text, name, address, nation, phone, balance, segment, comment, *_ in _tpch(source, "customer"):
        key = int(key_text)
        yield (
            2 * key + 1000,
            name,
            f"{_NAMES[key % len(_NAMES)]} {key}",
            None if key % 3 == 0 else f"kontakt{key}@example.com",
            phone,
            _decimal(balance),
            "T" if key % 50 == 0 else "F",
            int(nation) + 11,
            _moment(f"199{2 + key % 7}-{1 + key % 12:02d}-{1 + key % 28:02d}", key),
            None if key % 7 == 0 else comment,
            key,
            segment,
            address,
        )
    yield (5_000_000_003, "Far Away", "Weit weg ∞", None, None, "-0.5", "T", 12, at, None, None, None, None)


def vendors(source: Path) -> Iterator[Row]:
    """Yield the rows of `vendor`: the suppliers."""
    for key_text, name, address, nation, phone, balance, comment, *_ in _tpch(source, "supplier"):
        key = int(key_text)
        yield (
            2 * key + 1001,
            name,
            f"{_NAMES[key % len(_NAMES)]} {key}",
            phone,
            _decimal(balance),
            "F",
            int(nation) + 11,
            _moment(f"199{2 + key % 7}-{1 + key % 12:02d}-{1 + key % 28:02d}", key),
            None if key % 7 == 0 else comment,
            key,
            address,
        )


def items(source: Path) -> Iterator[Row]:
    """Yield the rows of `item`: the parts, after NetSuite's system items."""
    at = "1991-12-31 08:30:00"
    for number, kind in _SYSTEM_ITEMS + _MORE_SYSTEM_ITEMS:
        yield (number, f"System {kind} {-number}", None, kind, None, "F", at, *[None] * 7)
    for key_text, name, mfgr, brand, kind, size, container, price, comment, *_ in _tpch(source, "part"):
        key = int(key_text)
        yield (
            key + 10,
            f"PART-{key:09d}",
            None if key % 13 == 0 else name,
            "InvtPart",
            None if key % 5 == 0 else comment,
            "T" if key % 40 == 0 else "F",
            _moment(f"199{2 + key % 7}-{1 + key % 12:02d}-{1 + key % 28:02d}", key),
            key,
            mfgr,
            brand,
            kind,
            int(size),
            container,
            _decimal(price),
        )


def transactions(source: Path, others: "array[int]") -> Iterator[Row]:
    """Yield the orders and, between them, the transactions of other types; note the latters' ids in `others`."""
    group: list[Row] = []  # the other types of one run of order keys, whose ids all lie above that run
    previous = 0
    for position, fields in enumerate(_tpch(source, "orders")):
        key_text, customer_text, status, total, day, priority, clerk, shipping, comment = fields[:9]
        key = int(key_text)
        if key - previous > 8:
            yield from _in_order(group, others)
        previous = key
        entity = 2 * int(customer_text) + 1000
        changed = MASS_UPDATE_AT if position in MASS_UPDATE else _moment(day, key)
        yield (
            key,
            f"SO{key}",
            "SalesOrd",
            "salesorder",
            day,
            status,
            entity,
            _decimal(total),
            "F",
            None,
            changed,
            None if key % 11 == 0 else comment,
            key,
            priority,
            clerk,
            int(shipping),
        )
        if position % 10 == 0:
            group.append(_other(key + 8, "INV", "CustInvc", "invoice", day, entity, _decimal(total)))
        if position % 25 == 0:
            group.append(_other(key + 16, "JE", "Journal", "journalentry", day, None, "0"))
        if position % 40 == 0:
            group.append(_other(key + 24, "BILL", "VendBill", "vendorbill", day, 1003, "12.5"))
    yield from _in_order(group, others)
    group.append(_other(FAR_INVOICE_ID, "INV", "CustInvc", "invoice", "1998-08-02", 5_000_000_003, "0.01"))
    yield from _in_order(group, others)


def _in_order(group: list[Row], others: "array[int]") -> Iterator[Row]:
    group.sort(key=operator.itemgetter(0))
    for row in group:
        assert isinstance(row[0], int)
        others.append(row[0])
        yield row
    group.clear()


def _other(number: int, prefix: str, kind: str, record: str, day: str, entity: int | None, total: str) -> Row:
    due = None if entity is None else f"{day[:8]}28"
    head = (number, f"{prefix}{number}", kind, record, day, "A", entity, total, "T", due, _moment(day, number))
    return (*head, None, None, None, None, None)


def lines(connection: sqlite3.Connection, source: Path, others: "array[int]") -> Iterator[Row]:
    """Yield all lines by their unique key: rows appended in key order pack SQLite's pages, others split them."""
    vendors = dict(connection.execute("SELECT custentity_suppkey, subsidiary FROM vendor").fetchall())
    small = {f"0.{hundredths:02d}": _decimal(f"0.{hundredths:02d}") for hundredths in range(11)}
    extra = _other_lines(others)
    waiting: Row | None = next(extra, None)
    waiting_key = others[0] * 8 if others else 0
    for fields in _tpch(source, "lineitem"):
        order, part, supplier, number, quantity, price, discount, tax, returned, status, ship, commit, receipt = fields[
            :13
        ]
        transaction, line, units, seller = int(order), int(number), int(quantity), int(supplier)
        key = transaction * 8 + line
        while waiting is not None and waiting_key < key:
            yield waiting
            waiting = next(extra, None)
            waiting_key = int(str(waiting[0])) if waiting else 0
        cents = int(price.replace(".", ""))
        unit_cents = cents // units
        yield (
            key,
            transaction,
            line,
            line,
            "F",
            int(part) + 10,
            units,
            _decimal(f"{unit_cents // 100}.{unit_cents % 100:02d}"),
            _decimal(price),
            vendors[seller],
            None if key % 6 == 0 else fields[15],
            _moment(ship, key),
            2 * seller + 1001,
            small[discount],
            small[tax],
            returned,
            status,
            ship,
            commit,
            receipt,
            fields[13],
            fields[14],
        )
    while waiting is not None:
        yield waiting
        waiting = next(extra, None)


def _other_lines(others: "array[int]") -> Iterator[Row]:
    """Yield two lines for each of the other transactions: a summary and an item, or the two sides of a journal."""
    for number in others:
        summary = number % 32 < 16  # the invoices: their first line is the header's own, mainline 'T'
        at = _moment("1998-08-02", number)
        for line in range(2):
            tail = (None,) * 10
            head: Row = (number * 8 + line, number, line, line, "T" if summary and line == 0 else "F")
            if summary and line == 1:
                yield (*head, -3, 1, "12.5", "12.5", 11, "Überweisung", at, *tail)
            else:
                yield (*head, None, None, None, "-12.5" if line else "12.5", None, None, at, *tail)


def measurements() -> Iterator[Row]:
    """Yield the rows of the custom record: more than a page, each column NULL in some."""
    for key in range(1, 1201):
        values = (None if (key + number) % 9 == 0 else key * 1000 + number for number in range(MEASUREMENTS))
        yield (key, f"Messung {key}", "F", _moment("1998-08-02", key), *values)
