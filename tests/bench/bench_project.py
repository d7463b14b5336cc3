"""What the benchmarks share: a project that imports from the page server, a process and what it cost, a database."""

import contextlib
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

import mysql_server
from page_server import RECORDS, Served
from project import plain_query

HERE = Path(__file__).parent
TOTALS = {
    "salesorder": "COUNT(*), SUM(id), SUM(CAST(ROUND(foreigntotal * 100) AS {int})), SUM(posting), SUM(entity),"
    " SUM(LENGTH(memo)), MIN(lastmodifieddate), MAX(lastmodifieddate), MIN(trandate), MAX(custbody_clerk)",
    "salesorderline": "COUNT(*), SUM(uniquekey), SUM(`transaction`), SUM(CAST(ROUND(netamount * 100) AS {int})),"
    " SUM(CAST(ROUND(rate * 100) AS {int})), SUM(quantity), SUM(mainline), COUNT(memo), SUM(LENGTH(memo)),"
    " MIN(custcol_shipdate), MAX(custcol_shipdate), MAX(linelastmodifieddate), MIN(custcol_shipmode)",
}
"""What is compared between imports, by table."""


_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")
_INSTALLED = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""The environment of a process: of an installed package the byte code is kept, as pip leaves it."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took, with those that it started: seconds on the clock and of processor time, peak resident MB
    (the sum of their peaks, so that what they share counts for each); what it printed."""

    seconds: float
    cpu_seconds: float
    peak_mb: float
    out: str


def cost_of(command: list[str], folder: Path, **environment: str) -> Cost:
    """Run a command to its end. Ends the benchmark where it fails."""
    with (folder / "out").open("w+") as out, (folder / "err").open("w+") as err:
        began = time.monotonic()
        process = subprocess.Popen(
            command, stdout=out, stderr=err, stdin=subprocess.DEVNULL, env={**_INSTALLED, **environment}
        )
        ended = threading.Event()
        peaks: dict[str, float] = {}
        watching = threading.Thread(target=_watch, args=(process.pid, ended, peaks))
        watching.start()
        _, code, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - began
        ended.set()
        watching.join()
        out.seek(0)
        err.seek(0)
        if os.waitstatus_to_exitcode(code) != 0:
            raise SystemExit(f"{command} ended with {os.waitstatus_to_exitcode(code)}: {err.read()[-2000:]}")
        peak_mb = usage.ru_maxrss / 1024 + sum(peaks.values())
        return Cost(seconds, usage.ru_utime + usage.ru_stime, peak_mb, out.read())


def _watch(pid: int, ended: threading.Event, peaks: dict[str, float]) -> None:
    """Keep the peak of resident memory, in MB, of each process that a process has started."""
    while not ended.wait(0.05):
        with contextlib.suppress(OSError):
            for task in Path(f"/proc/{pid}/task").iterdir():
                for child in (task / "children").read_text().split():
                    found = _PEAK.search(Path(f"/proc/{child}/status").read_text())
                    if found is not None:
                        peaks[child] = int(found[1]) / 1024


def write_config(folder: Path, url: str, source: Served, *, in_flight: int, run: str = "") -> Path:
    """Write the configuration of an import with so many requests in flight; `run` are further keys of `[run]`."""
    config = folder / "waveimport.toml"
    config.write_text(
        f'[database]\nurl = "{url}"\n\n{source.netsuite(in_flight)}\n[run]\nlock_dir = "{folder}"\n'
        f"workers = {2 * in_flight + 2}\n{run}\n{RECORDS}"
    )
    config.chmod(0o600)
    return config


def waveimport(config: Path, *words: str) -> list[str]:
    """Return the command line of the product."""
    return [sys.executable, "-m", "waveimport", "--config", str(config), *words]


def totals(url: str) -> list[tuple[Any, ...]]:
    """Return sums over all columns of both tables."""
    word = "INTEGER" if url.startswith("sqlite") else "SIGNED"
    found = []
    for table, what in TOTALS.items():
        (row,) = plain_query(url, f"SELECT {what.format(int=word)} FROM {table}")
        found.append(tuple(f"{value:.0f}" if isinstance(value, Decimal | float) else str(value) for value in row))
    return found


@contextlib.contextmanager
def databases(kind: str, folder: Path) -> Iterator["Databases"]:
    """Yield a maker of empty databases: files in the folder, or databases of a MariaDB of our own."""
    if kind == "sqlite":
        yield Databases(kind, folder, None)
        return
    with mysql_server.private_server("--innodb-buffer-pool-size=256M") as server:
        yield Databases(kind, folder, server)


@dataclass(slots=True)
class Databases:
    """Makes empty databases, one at a time; see `databases`."""

    kind: str
    folder: Path
    server: Any
    _count: int = 0

    @contextlib.contextmanager
    def fresh(self) -> Iterator[str]:
        """Yield the URL of an empty database; it is gone afterwards."""
        self._count += 1
        if self.kind == "sqlite":
            file = self.folder / f"rows{self._count}.db"
            try:
                yield f"sqlite:///{file}"
            finally:
                for one in self.folder.glob(f"{file.name}*"):
                    one.unlink()
            return
        with mysql_server.fresh_database(self.server.url) as url:
            yield url

    def cpu_seconds(self) -> float:
        """Processor time of the server so far; 0 for SQLite, which is part of its user."""
        if self.server is None:
            return 0.0
        fields = Path(f"/proc/{self.server.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def workplace(given: Path | None) -> Iterator[Path]:
    """Yield a folder that is gone afterwards, inside the one given."""
    with tempfile.TemporaryDirectory(dir=given, prefix="wi-bench-") as name:
        yield Path(name)


def machine() -> dict[str, Any]:
    """Say where it was measured, and how busy that was."""
    return {
        "cpus": os.cpu_count(),
        "python": platform.python_version(),
        "load": [round(one, 1) for one in os.getloadavg()],
    }


def show(rows: list[dict[str, Any]]) -> None:
    """Print a table to stderr, and JSON to stdout."""
    table(rows)
    print(json.dumps({"machine": machine(), "figures": rows}))


def table(rows: list[dict[str, Any]]) -> None:
    """Print a table to stderr."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    cells = [names, *([_cell(row.get(name)) for name in names] for row in rows)]
    widths = [max(len(line[at]) for line in cells) for at in range(len(names))]
    for line in cells:
        print(
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)), file=sys.stderr, flush=True
        )


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
