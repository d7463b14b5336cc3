"""What a job is bound to: everything that decides which rows land where, and no secret."""

import json
from dataclasses import replace

import pytest

from waveimport.core.fingerprint import config_difference, config_hash, redacted_text
from waveimport.core.settings import (
    Column,
    ColumnKind,
    DatabaseSettings,
    NetSuiteSettings,
    RecordSettings,
    RunSettings,
    Settings,
)

CANARY = "canary-55d0"
CUSTOMER = RecordSettings(
    name="customer",
    table="customer",
    columns=(Column("id", ColumnKind.INTEGER), Column("balance", ColumnKind.DECIMAL, 15, 2)),
    table_name="customer",
    depends_on=("b", "a"),
)
SETTINGS = Settings(
    profile="p",
    database=DatabaseSettings(f"mysql+pymysql://u:{CANARY}@h/d?ssl_key={CANARY}"),
    netsuite=NetSuiteSettings("1", "https://h", consumer_key=CANARY, consumer_secret=CANARY, token_id=CANARY,
                              token_secret=CANARY, client_id=CANARY, certificate_id=CANARY, private_key_file=CANARY),
    run=RunSettings(),
    records=(CUSTOMER,),
    path=CANARY,
)  # fmt: skip
VENDOR = RecordSettings("vendor", "vendor", (Column("id", ColumnKind.TEXT),), table_name="vendor")


def with_customer(**changes: object) -> Settings:
    return replace(SETTINGS, records=(replace(CUSTOMER, **changes),))


def with_url(url: str) -> Settings:
    """Rows that land in a database of their own, at `url`."""
    return replace(SETTINGS, destination=DatabaseSettings(url))


APART = with_url("mysql+pymysql://h/d2")


def test_the_text_holds_no_secret() -> None:
    assert CANARY not in redacted_text(SETTINGS)


def test_the_hash_is_sha256_of_the_text() -> None:
    text = redacted_text(SETTINGS)
    assert config_hash("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert config_hash(text) != config_hash(text + " ")


def test_every_setting_of_a_record_is_in_the_text_but_how_its_table_is_refreshed() -> None:
    kept = json.loads(redacted_text(SETTINGS))["records"]["customer"]
    assert {*kept, "name", "refresh"} == set(RecordSettings.__dataclass_fields__)
    assert kept["columns"] == {"id": "integer", "balance": "decimal(15,2)"}


@pytest.mark.parametrize(
    "same",
    [
        replace(SETTINGS, profile="q", run=RunSettings(workers=1), path=""),
        replace(SETTINGS, netsuite=NetSuiteSettings("1", "https://h", auth="m2m", concurrency=1)),
        replace(SETTINGS, database=DatabaseSettings("sqlite:////moved/x.db")),
        replace(SETTINGS, destination=SETTINGS.database),
        with_customer(depends_on=("a", "b")),
        with_customer(columns=tuple(reversed(CUSTOMER.columns))),
    ],
)
def test_what_may_change_under_a_job_leaves_the_text_as_it_is(same: Settings) -> None:
    assert redacted_text(same) == redacted_text(SETTINGS)


@pytest.mark.parametrize(
    "same",
    [
        with_url("mysql+pymysql://other:pw@H:3306/d2?charset=utf8mb4"),
        replace(APART, database=DatabaseSettings("sqlite:////moved/x.db")),
    ],
)
def test_a_destination_of_its_own_is_a_place_without_user_and_parameters(same: Settings) -> None:
    assert redacted_text(same) == redacted_text(APART)
    assert "mysql+pymysql://h/d2" in redacted_text(same)


def test_a_moved_file_leaves_the_hash_as_it_is() -> None:
    here, there = (
        replace(SETTINGS, database=DatabaseSettings(f"sqlite:////{name}/x.db")) for name in ("here", "there")
    )
    assert config_hash(redacted_text(here)) == config_hash(redacted_text(there))


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (replace(SETTINGS, netsuite=NetSuiteSettings("2", "https://h")), ["account: was 1, now 2"]),
        (replace(SETTINGS, netsuite=NetSuiteSettings("1", "https://i")), ["base_url: was https://h, now https://i"]),
        (APART, ["destination.url: was the database of the job, now mysql+pymysql://h/d2"]),
        (with_url("mysql+pymysql://h/d"), ["destination.url: was the database of the job, now mysql+pymysql://h/d"]),
        (replace(SETTINGS, destination=DatabaseSettings(SETTINGS.database.url, "ns_")),
         ["destination.prefix: was not set, now ns_"]),
        (replace(SETTINGS, records=(CUSTOMER, VENDOR)), ["records.vendor: added"]),
        (replace(SETTINGS, records=()), ["records.customer: removed"]),
        (with_customer(columns=(CUSTOMER.columns[0], Column("balance", ColumnKind.TEXT))),
         ["records.customer.columns.balance: was decimal(15,2), now text"]),
        (with_customer(columns=CUSTOMER.columns[:1]), ["records.customer.columns.balance: removed (decimal(15,2))"]),
        (with_customer(columns=(*CUSTOMER.columns, Column("x", ColumnKind.DATE))),
         ["records.customer.columns.x: added (date)"]),
        (with_customer(where="a = 1"), ["records.customer.where: was not set, now a = 1"]),
        (with_customer(key=("id", "balance")), ["records.customer.key: was id, now id, balance"]),
        (with_customer(depends_on=()), ["records.customer.depends_on: was a, b, now not set"]),
        (with_customer(cursor="id", table="t"),
         ["records.customer.cursor: was not set, now id", "records.customer.table: was customer, now t"]),
    ],
)  # fmt: skip
def test_a_difference_is_told_by_record_and_key(changed: Settings, difference: list[str]) -> None:
    assert config_difference(redacted_text(SETTINGS), redacted_text(changed)) == difference


@pytest.mark.parametrize(
    "place",
    [
        "mysql+pymysql://h/e",
        "mysql+pymysql://h:3307/d2",
        "mysql+pymysql:///d2?unix_socket=/s",
        "mysql+pymysql://[::1]/d2",
        "sqlite:////a#b",
    ],
)
def test_another_place_of_the_rows_is_a_difference(place: str) -> None:
    assert config_difference(redacted_text(APART), redacted_text(with_url(place))) == [
        f"destination.url: was mysql+pymysql://h/d2, now {place}"
    ]


def test_the_order_of_a_key_counts() -> None:
    one, other = with_customer(key=("id", "balance")), with_customer(key=("balance", "id"))
    assert config_difference(redacted_text(one), redacted_text(other)) == [
        "records.customer.key: was id, balance, now balance, id"
    ]
