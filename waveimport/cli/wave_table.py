"""The table of a job's waves, cut to fit the screen.

On a terminal no line of it wraps: the bar goes first, then columns, then the ends of names. Elsewhere all of it is
shown, with a percentage where the bar would be.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from waveimport.cli.render import Screen, ago
from waveimport.core.progress import JobProgress, WaveProgress
from waveimport.core.waves import BatchStatus, WaveStatus

BARS = (20, 10)
GAP = "  "


@dataclass(frozen=True, slots=True)
class _Column:
    head: str
    cells: list[str]
    right: bool = False

    @property
    def width(self) -> int:
        return max(len(cell) for cell in (self.head, *self.cells))


def wave_lines(job: JobProgress, screen: Screen, *, most: int | None = None) -> Iterator[str]:
    """Yield the table of a job's waves; of more than `most` those that are not completed are shown first."""
    waves = _shown(job.waves, most)
    columns = _fitted(waves, job.now, screen)
    widths = [column.width for column in columns]
    yield GAP.join(_set(column, column.head, width) for column, width in zip(columns, widths, strict=True)).rstrip()
    for at, wave in enumerate(waves):
        cells = [
            screen.coloured(_set(column, column.cells[at], width), wave.status.value)
            if column.head in ("STATUS", "PROGRESS")
            else _set(column, column.cells[at], width)
            for column, width in zip(columns, widths, strict=True)
        ]
        yield GAP.join(cells).rstrip()
    if len(waves) < len(job.waves):
        yield f"and {len(job.waves) - len(waves)} more waves"


def _shown(waves: Sequence[WaveProgress], most: int | None) -> Sequence[WaveProgress]:
    if most is None or len(waves) <= most:
        return waves
    chosen = sorted(waves, key=lambda wave: (wave.status is WaveStatus.COMPLETED, wave.wave_number))[:most]
    return sorted(chosen, key=lambda wave: wave.wave_number)


def _set(column: _Column, cell: str, width: int) -> str:
    return cell.rjust(width) if column.right else cell.ljust(width)


def _fitted(waves: Sequence[WaveProgress], now: datetime, screen: Screen) -> list[_Column]:
    """Return the columns that fit the screen: each step gives up what is missed least."""
    columns = _columns(waves, now)
    if screen.columns is None:
        return columns
    narrow = _without(columns, "SEALED")
    for tried in (*(_with_bars(columns, waves, length, screen) for length in BARS), columns, narrow):
        if _width(tried) <= screen.columns:
            return tried
    short = _without(_columns(waves, now, short=True), "SEALED")
    for without, fewest in (((), 16), (("KIND",), 8), (("KIND", "DONE"), 5), (("KIND", "DONE", "RETRIES"), 5)):
        tried = _without(short, *without)
        names = screen.columns - _width(_cut(tried, 0, screen))
        if names >= fewest:
            return _cut(tried, names, screen)
    return _cut(tried, fewest, screen)


def _columns(waves: Sequence[WaveProgress], now: datetime, *, short: bool = False) -> list[_Column]:
    commits = ["-" if wave.last_commit is None else ago(wave.last_commit, now, short=short) for wave in waves]
    return [
        _Column("WAVE", [str(wave.wave_number) for wave in waves], right=True),
        _Column("KIND", [wave.kind.value for wave in waves]),
        _Column("RECORDS", [", ".join(wave.rows) for wave in waves]),
        _Column("STATUS", [wave.status.value for wave in waves]),
        _Column("SEALED", ["yes" if wave.sealed else "no" for wave in waves]),
        _Column("DONE" if short else "PROGRESS", [f"{percent(wave)}%" for wave in waves], right=True),
        _Column("BATCHES", [f"{wave.done}/{wave.total}" for wave in waves], right=True),
        _Column("FAILED", [str(wave.batches.get(BatchStatus.FAILED, 0) or "-") for wave in waves], right=True),
        _Column("RETRIES", [str(wave.tries or "-") for wave in waves], right=True),
        _Column("ROWS", [f"{sum(wave.rows.values()):,}" for wave in waves], right=True),
        _Column("COMMIT" if short else "LAST COMMIT", commits),
    ]


def _with_bars(columns: list[_Column], waves: Sequence[WaveProgress], length: int, screen: Screen) -> list[_Column]:
    full, empty = ("█", "░") if screen.unicode else ("#", ".")
    cells = []
    for wave in waves:
        filled = percent(wave) * length // 100
        cells.append(f"{full * filled}{empty * (length - filled)} {percent(wave):>3}%")
    return [_Column("PROGRESS", cells) if column.head == "PROGRESS" else column for column in columns]


def _without(columns: list[_Column], *heads: str) -> list[_Column]:
    return [column for column in columns if column.head not in heads]


def _cut(columns: list[_Column], width: int, screen: Screen) -> list[_Column]:
    return [
        _Column(column.head[:width], [screen.cut(cell, width) for cell in column.cells])
        if column.head == "RECORDS"
        else column
        for column in columns
    ]


def _width(columns: list[_Column]) -> int:
    return sum(column.width for column in columns) + len(GAP) * (len(columns) - 1)


def percent(wave: WaveProgress) -> int:
    """Return how much of a wave's batches, as far as they are known, is completed: 100 only where all are."""
    if not wave.total:
        return 100 if wave.status is WaveStatus.COMPLETED else 0
    return wave.done * 100 // wave.total
