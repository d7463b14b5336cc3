"""The account's clocks and its way to write a date: what is shown, what a literal stands for, on the days of a change.

In Los Angeles clocks went from 02:00 to 03:00 on 2026-03-08 (10:00 UTC), and from 02:00 back to 01:00 on 2025-11-02
(09:00 UTC).
"""

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from simulator_client import asking

from waveimport.simulator.account_time import AccountTime
from waveimport.simulator.faults import Faults, check
from waveimport.simulator.handle import Simulator

MOMENTS = {
    1002: "2025-11-02 08:30:00",  # 01:30 of summer time
    1004: "2025-11-02 09:10:00",  # 01:10 of standard time, forty minutes later
    1006: "2025-11-02 06:30:00",  # the day before, in Los Angeles
    1008: "2026-03-08 09:59:59",  # the last second before the gap
    1010: "2026-03-08 10:00:00",  # the first after it
}
LOS_ANGELES = {"time_zone": "America/Los_Angeles", "date_format": "DD.MM.YYYY"}
Answer = Callable[[str], list[dict[str, str]]]


@pytest.fixture(scope="module")
def moments(small_account: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An account of which five customers have changed at moments that matter."""
    path = tmp_path_factory.mktemp("moments") / "account.sqlite"
    shutil.copy(small_account, path)
    with contextlib.closing(sqlite3.connect(path)) as account, account:
        account.executemany(
            "UPDATE customer SET lastmodifieddate = ? WHERE id = ?", [(at, key) for key, at in MOMENTS.items()]
        )
    return path


@pytest.fixture
def answer(moments: Path) -> Iterator[Answer]:
    """Ask the account in Los Angeles over HTTP."""
    with (
        Simulator(data=moments, scale=0.001, faults=Faults(**LOS_ANGELES)) as running,
        requests.Session() as session,
    ):
        yield lambda query: asking(running, session)(query).json()["items"]


def shown(answer: Answer, expression: str) -> list[str]:
    query = f"SELECT {expression} AS x FROM customer WHERE id BETWEEN 1002 AND 1010 ORDER BY id"
    return [item["x"] for item in answer(query)]


def found(answer: Answer, condition: str) -> list[int]:
    query = f"SELECT id FROM customer WHERE id BETWEEN 1002 AND 1010 AND {condition} ORDER BY id"
    return [int(item["id"]) for item in answer(query)]


def test_a_bare_time_is_the_accounts_day_in_the_accounts_format(answer: Answer) -> None:
    days = ["02.11.2025", "02.11.2025", "01.11.2025", "08.03.2026", "08.03.2026"]
    assert shown(answer, "lastmodifieddate") == days
    assert shown(answer, "TO_CHAR(lastmodifieddate)") == days
    assert shown(answer, "TRUNC(lastmodifieddate)") == days
    assert shown(answer, "BUILTIN.DF(lastmodifieddate)") == days


def test_a_date_belongs_to_no_zone(answer: Answer) -> None:
    assert answer("SELECT trandate FROM transaction WHERE id = 1")[0]["trandate"] == "02.01.1996"


def test_to_char_shows_the_accounts_clocks_and_loses_which_of_two_hours_it_was(answer: Answer) -> None:
    assert shown(answer, "TO_CHAR(lastmodifieddate, 'YYYY-MM-DD HH24:MI:SS')") == [
        "2025-11-02 01:30:00",
        "2025-11-02 01:10:00",
        "2025-11-01 23:30:00",
        "2026-03-08 01:59:59",
        "2026-03-08 03:00:00",
    ]


def test_sys_extract_utc_loses_nothing(answer: Answer) -> None:
    asked = "TO_CHAR(SYS_EXTRACT_UTC(lastmodifieddate), 'YYYY-MM-DD HH24:MI:SS')"
    assert shown(answer, asked) == list(MOMENTS.values())
    assert found(answer, f"{asked} >= '2025-11-02 09:00:00'") == [1004, 1008, 1010]


@pytest.mark.parametrize(
    ("literal", "after"),
    [
        ("TO_DATE('2025-11-02', 'YYYY-MM-DD')", [1002, 1004, 1008, 1010]),  # midnight there: 07:00 UTC
        ("TO_DATE('02.11.2025', 'DD.MM.YYYY')", [1002, 1004, 1008, 1010]),
        ("TO_TIMESTAMP('2026-03-08 01:59:59', 'YYYY-MM-DD HH24:MI:SS')", [1008, 1010]),
        ("TO_TIMESTAMP('2026-03-08 03:00:00', 'YYYY-MM-DD HH24:MI:SS')", [1010]),
        # It is shown twice; Oracle takes it for standard time, so that 01:30 of summer time lies before it.
        ("TO_TIMESTAMP('2025-11-02 01:10:00', 'YYYY-MM-DD HH24:MI:SS')", [1004, 1008, 1010]),
        # It is never shown.
        ("TO_TIMESTAMP('2026-03-08 02:30:00', 'YYYY-MM-DD HH24:MI:SS')", [1008, 1010]),
    ],
)
def test_a_literal_is_a_time_of_the_accounts_clocks(answer: Answer, literal: str, after: list[int]) -> None:
    assert found(answer, f"lastmodifieddate >= {literal}") == after


def test_rows_are_ordered_and_grouped_by_what_was_asked_for(answer: Answer) -> None:
    within = "FROM customer WHERE id BETWEEN 1002 AND 1010"
    by_moment = [int(item["id"]) for item in answer(f"SELECT id {within} ORDER BY lastmodifieddate, id")]
    assert by_moment == [1006, 1002, 1004, 1008, 1010]
    days = answer(f"SELECT TRUNC(lastmodifieddate) d, COUNT(*) n {within} GROUP BY TRUNC(lastmodifieddate) ORDER BY 1")
    assert [(item["d"], item["n"]) for item in days] == [("01.11.2025", "1"), ("02.11.2025", "2"), ("08.03.2026", "2")]


@pytest.mark.parametrize(
    ("date_format", "expected"),
    [
        ("M/D/YYYY", "3/5/2025"),
        ("D/M/YYYY", "5/3/2025"),
        ("D-Mon-YYYY", "5-Mar-2025"),
        ("D.M.YYYY", "5.3.2025"),
        ("DD/MM/YYYY", "05/03/2025"),
        ("DD-MONTH-YYYY", "05-March-2025"),
        ("D MONTH, YYYY", "5 March, 2025"),
        ("YYYY-MM-DD", "2025-03-05"),
        ("DD.MM.YY", "05.03.25"),
    ],
)
def test_a_date_format_is_one_of_netsuites(date_format: str, expected: str) -> None:
    times = AccountTime(date_format=date_format)
    assert times.shown("2025-03-05") == times.shown("2025-03-05 23:59:59") == expected


def test_every_hour_of_two_years_comes_back_but_for_the_first_of_the_two() -> None:
    times = AccountTime("America/Los_Angeles")
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        hours = [
            hour
            for (hour,) in connection.execute(
                "WITH RECURSIVE h(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM h WHERE n < 17543)"
                " SELECT datetime('2025-01-01', n || ' hours') FROM h"
            )
        ]
    lost = [hour for hour in hours if times.utc(times.local(hour)) != hour]
    assert lost == ["2025-11-02 08:00:00", "2026-11-01 08:00:00"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("time_zone", "America/Los_Angles"),
        ("time_zone", "America"),
        ("time_zone", "../etc/passwd"),
        ("time_zone", ""),
        ("date_format", ""),
        ("date_format", "YYYY-MM"),
        ("date_format", "YYYY-MM-DD HH24"),
        ("date_format", "DD/DD/YYYY"),
    ],
)
def test_a_zone_or_a_format_that_is_none_is_a_mistake_in_the_plan(key: str, value: str) -> None:
    with pytest.raises(ValueError, match="no time zone" if key == "time_zone" else "no date format"):
        check(Faults(**{key: value}))
