"""The account's time zone and date format, as functions that SQLite calls for each row that asks for them.

The dialect writes `account_local(x)`, `account_utc(x)` and `account_date(x)` and knows no zone; each connection is
given the functions of its account. A query that asks for times in UTC and in a format of its own, as importers do,
calls none of them per row.

A date format is spelled as in NetSuite's General Preferences ("M/D/YYYY", "DD.MM.YYYY", "D-Mon-YYYY"), which is not how
Oracle's TO_CHAR spells one.
Source: Oracle, "Formatting Dates, Numbers, Phone Numbers, and Time".
"""

import re
import sqlite3
from datetime import UTC, date, datetime
from typing import Final
from zoneinfo import ZoneInfo

TIME_ZONE: Final = "America/Phoenix"
"""Seven hours behind UTC all year."""
DATE_FORMAT: Final = "M/D/YYYY"

_MONTHS: Final = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_PARTS: Final = re.compile(r"(?P<year>YYYY|YY)|(?P<month>MONTH|Mon|MM|M)|(?P<day>DD|D)|(?P<mark>[-/., ])")


class AccountTime:
    """One account's times. Raises ValueError for a zone that this machine does not know, or a format that is none."""

    def __init__(self, time_zone: str = TIME_ZONE, date_format: str = DATE_FORMAT) -> None:
        try:
            self._zone = ZoneInfo(time_zone)
        except (KeyError, OSError, ValueError):
            raise ValueError(f"no time zone {time_zone!r} is known here") from None
        self._format = _parts(date_format)

    def serve(self, connection: sqlite3.Connection) -> None:
        """Give the connection the functions of this account."""
        connection.create_function("account_local", 1, self.local, deterministic=True)
        connection.create_function("account_utc", 1, self.utc, deterministic=True)
        connection.create_function("account_date", 1, self.shown, deterministic=True)

    def local(self, utc: str | None) -> str | None:
        """Return a time of UTC, "YYYY-MM-DD HH:MM:SS", as the account's clocks show it."""
        if utc is None:
            return None
        moment = datetime.fromisoformat(utc).replace(tzinfo=UTC).astimezone(self._zone)
        return moment.replace(tzinfo=None).isoformat(" ", "seconds")

    def utc(self, local: str | None) -> str | None:
        """Return a time of the account's clocks, or a day's midnight, as one of UTC.

        A time that the clocks show twice is taken for the second, in standard time, as Oracle does by default. What
        the service makes of one that they skip is not documented; here it lies before the gap by as much as it lies
        before the gap's end.
        """
        if local is None:
            return None
        moment = datetime.fromisoformat(local).replace(tzinfo=self._zone, fold=1)
        return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "seconds")

    def shown(self, time: str | None) -> str | None:
        """Return the day of a time or date as the account shows it where no format is asked for."""
        if time is None:
            return None
        day = date(int(time[:4]), int(time[5:7]), int(time[8:10]))
        return "".join(_show(part, day) for part in self._format)


def _parts(date_format: str) -> tuple[str, ...]:
    """Return the format's elements and marks. Raises ValueError unless it has each of year, month and day once."""
    found = list(_PARTS.finditer(date_format))
    kinds = sorted(str(match.lastgroup) for match in found if match.lastgroup != "mark")
    if "".join(match[0] for match in found) != date_format or kinds != ["day", "month", "year"]:
        raise ValueError(f"{date_format!r} is no date format of NetSuite's, like {DATE_FORMAT!r} or 'DD.MM.YYYY'")
    return tuple(match[0] for match in found)


def _show(part: str, day: date) -> str:
    match part:
        case "YYYY":
            return f"{day.year:04d}"
        case "YY":
            return f"{day.year % 100:02d}"
        case "MONTH":
            return _MONTHS[day.month - 1]
        case "Mon":
            return _MONTHS[day.month - 1][:3]
        case "MM":
            return f"{day.month:02d}"
        case "M":
            return str(day.month)
        case "DD":
            return f"{day.day:02d}"
        case "D":
            return str(day.day)
        case _:
            return part
