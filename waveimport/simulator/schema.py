"""The account's tables and columns: what the dataset stores, the service serves and the records read.

How a value is stored, by its kind (all of it is served as a string):

* NUMBER of scale 0: INTEGER. NUMBER of a higher scale: TEXT, the exact decimal without trailing zeros, as Oracle
  prints a NUMBER ("711.5", "-0.04"); arithmetic turns it into a scaled integer, so that sums are exact.
* FLAG: "T" or "F". DATE: "YYYY-MM-DD". TIMESTAMP: "YYYY-MM-DD HH:MM:SS", UTC.
"""

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What a column or an expression holds. NAIVE (a time without a zone) and FLOAT arise in expressions only."""

    NUMBER = "number"
    TEXT = "text"
    FLAG = "flag"
    DATE = "date"
    TIMESTAMP = "timestamp"
    NAIVE = "naive"
    FLOAT = "float"


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `display` lists the (table, column) pairs that BUILTIN.DF looks the value up in, by id."""

    name: str
    kind: Kind
    scale: int = 0
    nullable: bool = False
    display: tuple[tuple[str, str], ...] = ()

    @property
    def storage(self) -> str:
        """The SQLite type of the stored value."""
        return "INTEGER" if self.kind is Kind.NUMBER and self.scale == 0 else "TEXT"


@dataclass(frozen=True, slots=True)
class Table:
    """One table. `keys` are its unique keys; the first one is the single integer that SQLite keeps rows by. A log has
    none."""

    name: str
    columns: tuple[Column, ...]
    keys: tuple[tuple[str, ...], ...]
    indexes: tuple[tuple[str, ...], ...] = ()

    def column(self, name: str) -> Column | None:
        """Return the column of that lower-case name, or None."""
        for column in self.columns:
            if column.name == name:
                return column
        return None


def _number(name: str, display: tuple[tuple[str, str], ...] = ()) -> Column:
    return Column(name, Kind.NUMBER, display=display)


def _money(name: str) -> Column:
    return Column(name, Kind.NUMBER, scale=2)


def _text(name: str) -> Column:
    return Column(name, Kind.TEXT)


def _flag(name: str) -> Column:
    return Column(name, Kind.FLAG)


def _date(name: str) -> Column:
    return Column(name, Kind.DATE)


def _timestamp(name: str) -> Column:
    return Column(name, Kind.TIMESTAMP)


def _or_null(column: Column) -> Column:
    return Column(column.name, column.kind, column.scale, True, column.display)


MEASUREMENTS = 120  # columns of a custom record that is wider than a SELECT

_SUBSIDIARY = (("subsidiary", "name"),)
_CUSTOMER_OR_VENDOR = (("customer", "entityid"), ("vendor", "entityid"))

_TABLES = (
    Table(
        "subsidiary",
        (
            _number("id"),
            _text("name"),
            _text("fullname"),
            _or_null(_number("parent", _SUBSIDIARY)),
            _flag("isinactive"),
            _flag("iselimination"),
            _timestamp("lastmodifieddate"),
            _or_null(_text("custrecord_comment")),
            _or_null(_number("custrecord_regionkey")),
            _or_null(_number("custrecord_nationkey")),
        ),
        (("id",),),
    ),
    Table(
        "customer",
        (
            _number("id"),
            _text("entityid"),
            _text("companyname"),
            _or_null(_text("email")),
            _or_null(_text("phone")),
            _money("balance"),
            _flag("isinactive"),
            _number("subsidiary", _SUBSIDIARY),
            _timestamp("lastmodifieddate"),
            _or_null(_text("comments")),
            _or_null(_number("custentity_custkey")),
            _or_null(_text("custentity_mktsegment")),
            _or_null(_text("custentity_address")),
        ),
        (("id",),),
        (("lastmodifieddate", "id"),),
    ),
    Table(
        "vendor",
        (
            _number("id"),
            _text("entityid"),
            _text("companyname"),
            _or_null(_text("phone")),
            _money("balance"),
            _flag("isinactive"),
            _number("subsidiary", _SUBSIDIARY),
            _timestamp("lastmodifieddate"),
            _or_null(_text("comments")),
            _number("custentity_suppkey"),
            _or_null(_text("custentity_address")),
        ),
        (("id",),),
        (("lastmodifieddate", "id"),),
    ),
    Table(
        "item",
        (
            _number("id"),
            _text("itemid"),
            _or_null(_text("displayname")),
            _text("itemtype"),
            _or_null(_text("description")),
            _flag("isinactive"),
            _timestamp("lastmodifieddate"),
            _or_null(_number("custitem_partkey")),
            _or_null(_text("custitem_mfgr")),
            _or_null(_text("custitem_brand")),
            _or_null(_text("custitem_type")),
            _or_null(_number("custitem_size")),
            _or_null(_text("custitem_container")),
            _or_null(_money("custitem_retailprice")),
        ),
        (("id",),),
        (("lastmodifieddate", "id"),),
    ),
    Table(
        "transaction",
        (
            _number("id"),
            _text("tranid"),
            _text("type"),
            _text("recordtype"),
            _date("trandate"),
            _text("status"),
            _or_null(_number("entity", _CUSTOMER_OR_VENDOR)),
            _money("foreigntotal"),
            _flag("posting"),
            _or_null(_date("duedate")),
            _timestamp("lastmodifieddate"),
            _or_null(_text("memo")),
            _or_null(_number("custbody_orderkey")),
            _or_null(_text("custbody_orderpriority")),
            _or_null(_text("custbody_clerk")),
            _or_null(_number("custbody_shippriority")),
        ),
        (("id",),),
        (("type",), ("lastmodifieddate", "id")),
    ),
    Table(
        "deletedrecord",
        (
            _number("recordid"),
            _number("recordtypeid"),
            _or_null(_text("scriptid")),
            _or_null(_text("name")),
            _text("type"),
            _or_null(_text("context")),
            _or_null(_number("deletedby")),
            _timestamp("deleteddate"),
            _flag("iscustomlist"),
            _flag("iscustomrecord"),
            _flag("iscustomtransaction"),
        ),
        (),
        (("deleteddate", "recordid"),),
    ),
    Table(
        "transactionline",
        (
            _number("uniquekey"),
            _number("transaction", (("transaction", "tranid"),)),
            _number("id"),
            _number("linesequencenumber"),
            _flag("mainline"),
            _or_null(_number("item", (("item", "itemid"),))),
            _or_null(_number("quantity")),
            _or_null(_money("rate")),
            _money("netamount"),
            _or_null(_number("subsidiary", _SUBSIDIARY)),
            _or_null(_text("memo")),
            _timestamp("linelastmodifieddate"),
            _or_null(_number("custcol_supplier", (("vendor", "entityid"),))),
            _or_null(_money("custcol_discount")),
            _or_null(_money("custcol_tax")),
            _or_null(_text("custcol_returnflag")),
            _or_null(_text("custcol_linestatus")),
            _or_null(_date("custcol_shipdate")),
            _or_null(_date("custcol_commitdate")),
            _or_null(_date("custcol_receiptdate")),
            _or_null(_text("custcol_shipinstruct")),
            _or_null(_text("custcol_shipmode")),
        ),
        (("uniquekey",), ("transaction", "id")),
        (("transaction", "id"),),
    ),
    # A custom record of more columns than one SELECT may have.
    Table(
        "customrecord_measurement",
        (
            _number("id"),
            _text("name"),
            _flag("isinactive"),
            _timestamp("lastmodified"),
            *(_or_null(_number(f"custrecord_m{number:03d}")) for number in range(MEASUREMENTS)),
        ),
        (("id",),),
    ),
)

TABLES: dict[str, Table] = {table.name: table for table in _TABLES}
"""Every table of the account, by its SuiteQL name."""
