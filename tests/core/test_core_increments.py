"""What is read incrementally: only what is known to be in already, of tables that still hold it."""

from dataclasses import replace

import pytest

from waveimport.core.fingerprint import redacted_text
from waveimport.core.increments import Since, Watermark, increments
from waveimport.core.settings import (
    Column,
    ColumnKind,
    DatabaseSettings,
    Deletes,
    NetSuiteSettings,
    RecordSettings,
    RunSettings,
    Settings,
)

AT = Column("at", ColumnKind.TIMESTAMP, target="at")
ID = Column("id", ColumnKind.INTEGER, target="id")
PARENT = Column("parent", ColumnKind.INTEGER, target="parent")
ORDER = RecordSettings("order", "transaction", (ID, AT), where="type = 'SalesOrd'", table_name="o", cursor="at")
LINE = RecordSettings(
    "line", "lines", (ID, PARENT, AT), table_name="l", derived_from="order", parent_key="parent", cursor="at"
)
TAX = replace(LINE, name="tax", table="taxes", derived_from="line", cursor=None, table_name="t")
PLACE = RecordSettings("place", "location", (ID,), table_name="p")
RECORDS = (ORDER, LINE, TAX, PLACE)
NAMES = {record.name for record in RECORDS}


def text(*records: RecordSettings, url: str = "sqlite:///a.db") -> str:
    return redacted_text(
        Settings(
            "p",
            DatabaseSettings("sqlite:///own.db"),
            NetSuiteSettings("1", "https://1.suitetalk.api.netsuite.com"),
            RunSettings(),
            records,
            DatabaseSettings(url),
        )
    )


def marks(then: str | None, *names: str) -> dict[str, Watermark]:
    return {name: Watermark(f"2026-01-0{number} 00:00:00", then) for number, name in enumerate(names, 1)}


def found(
    records: tuple[RecordSettings, ...] = RECORDS,
    given: dict[str, Watermark] | None = None,
    filled: set[str] = NAMES,
    **how: str,
) -> dict[str, Since]:
    return increments(
        records,
        marks(text(*RECORDS), "order", "line") if given is None else given,
        text(*records, **how),
        filled=filled,
    )


def test_a_record_with_a_cursor_and_a_watermark_is_incremental_with_those_below_it() -> None:
    assert found() == {"order": Since("2026-01-01 00:00:00", {"line": "2026-01-02 00:00:00"})}


@pytest.mark.parametrize("missing", ["order", "line"])
def test_a_family_of_which_one_watermark_is_missing_is_read_in_full(missing: str) -> None:
    given = marks(text(*RECORDS), "order", "line")
    del given[missing]
    assert found(given=given) == {}


def test_a_watermark_whose_job_is_forgotten_counts_for_nothing() -> None:
    assert found(given=marks(None, "order", "line")) == {}


@pytest.mark.parametrize("empty", ["order", "line", "tax"])
def test_a_family_of_which_one_table_is_empty_is_read_in_full(empty: str) -> None:
    assert found(filled=NAMES - {empty}) == {}


@pytest.mark.parametrize(
    "changed",
    [
        replace(ORDER, where=None),
        replace(ORDER, columns=(ID, AT, PARENT)),
        replace(ORDER, table_name="other"),
        replace(LINE, key=("id", "parent")),
        replace(LINE, deletes=Deletes.IGNORE),
        replace(TAX, where="amount > 0"),
    ],
)
def test_a_family_of_which_anything_is_configured_otherwise_is_read_in_full(changed: RecordSettings) -> None:
    records = tuple(changed if record.name == changed.name else record for record in RECORDS)
    assert found(records) == {}


def test_another_destination_is_filled_from_the_beginning() -> None:
    assert found(url="sqlite:///b.db") == {}


def test_what_becomes_of_other_records_and_what_comes_before_changes_nothing() -> None:
    other = replace(PLACE, where="id > 0")
    assert "order" in found((replace(ORDER, depends_on=("place",)), LINE, TAX, other))
    assert "order" in found((ORDER, LINE, TAX))
