"""Numbers as a page says them."""

from math import floor, log10


def duration(seconds: float) -> str:
    """Return seconds with a unit: `40 ms`, `2.5 s`, `3 min 20 s`, `5 h 12 min`, `3 d 4 h`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    for unit, part, size, small in (("min", "s", 60, 1), ("h", "min", 3600, 60)):
        if round(seconds / small) * small < size * (60 if unit == "min" else 24):
            whole, rest = divmod(round(seconds / small), size // small)
            return f"{whole} {unit} {rest} {part}" if rest else f"{whole} {unit}"
    days, hours = divmod(round(seconds / 3600), 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def number(value: float) -> str:
    """Return a number with its thousands parted, and a decimal only where it is small."""
    return f"{value:,.1f}" if 0 < abs(value) < 10 and value != int(value) else f"{value:,.0f}"


def counted(count: int, one: str, more: str | None = None) -> str:
    """Return `1 batch`, `2 batches`."""
    return f"{count:,} {one if count == 1 else more or one + 's'}"


def ceiling(value: float) -> float:
    """Return the round number at or above a value that a scale ends with: 120 for 113."""
    if value <= 0:
        return 1.0
    power = 10.0 ** floor(log10(value))
    for step in (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 10):
        if step * power >= value * (1 - 1e-9):
            return step * power
    return 10 * power
