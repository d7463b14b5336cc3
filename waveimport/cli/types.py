"""Types of command-line values that click does not have."""

import re

import click

_DURATION = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9}(?:\.\d+)?)s)?")


class Duration(click.ParamType[float]):
    """`90s`, `15m`, `1h30m`, `90d`: seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds, more than none. Fails with what a duration looks like."""
        if isinstance(value, float):
            return value
        match = _DURATION.fullmatch(str(value).strip())
        days, hours, minutes, seconds = match.groups() if match else (None, None, None, None)
        total = 86400.0 * int(days or 0) + 3600.0 * int(hours or 0) + 60.0 * int(minutes or 0) + float(seconds or 0)
        if not total:
            self.fail(f"`{value}` is no duration: write 90s, 15m, 1h30m or 90d", param, ctx)
        return total


class Names(click.ParamType[tuple[str, ...]]):
    """`a,b`: names parted by commas."""

    name = "names"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """Return the names in order, each once. Fails when there is none."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in str(value).split(",") if name.strip()))
        if not names:
            self.fail("name at least one record", param, ctx)
        return names
