"""How many rows a second an import brings, beside what the hardware allows and what others make of it.

    python tests/bench/import_speed.py [--orders 125000] [--in-flight 1,4,15] [--times 3] [--database sqlite,mysql]
    python tests/bench/import_speed.py --dlt      # beside dlt too: pip install 'dlt[sqlalchemy]'
    python tests/bench/import_speed.py --profile  # and where the processor time goes

One process serves pages that were rendered beforehand, and every contestant is a process of its own, so that start-up
counts: `waveimport run` as a user has it; `byhand.py`, which checks and remembers nothing; `plain_script.py` with one
thread and with a pool. They take turns (A B C A B C …), each into an empty database, then once more into the same
(`run --full` for waveimport). Sums over all columns must be equal. MariaDB is one of our own, in memory, with
innodb_flush_log_at_trx_commit = 1; SQLite files are in `--folder`.

Prints a table to stderr and JSON to stdout: medians over `--times`; rows/s of the first import and of the second, peak
resident MB, processor seconds a million rows of the process, the source and the database server. `by hand` is the
ratio of waveimport's rate to that of the faster by hand, `plain` to that of the faster plain script.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench_project import (
    HERE,
    Cost,
    Databases,
    cost_of,
    databases,
    machine,
    table,
    totals,
    waveimport,
    workplace,
    write_config,
)
from page_server import Served, null_rate, served


@dataclass(slots=True)
class Measured:
    """What one contestant took, a run after the other."""

    first: list[Cost] = field(default_factory=list)
    again: list[Cost] = field(default_factory=list)
    source_cpu: list[float] = field(default_factory=list)
    server_cpu: list[float] = field(default_factory=list)


def contestants(kind: str, threads: int, told: argparse.Namespace) -> dict[str, list[str]]:
    """Return the command lines, without URL and source, of who takes part; none for waveimport."""
    hand, plain = str(HERE / "byhand.py"), str(HERE / "plain_script.py")
    every = {"waveimport": [], "by hand": [hand, "--threads", str(threads)]}
    if kind == "mysql":
        every["by hand, 2 writers"] = [hand, "--threads", str(threads), "--writers", "2"]
    if told.bare:
        every["by hand, bare"] = [hand, "--threads", str(threads), "--bare"]
    every["plain, 1 thread"] = [plain]
    if threads > 1:
        every["plain, pool"] = [plain, "--threads", str(threads)]
    return every


def commands(name: str, words: list[str], url: str, source: Served, threads: int, folder: Path) -> Iterator[list[str]]:
    """Yield the command line of the first import and of the second."""
    if name == "waveimport":
        config = write_config(folder, url, source, in_flight=threads)
        yield waveimport(config, "run", "--json")
        yield waveimport(config, "run", "--full", "--json")
        return
    counts = ["--port", str(source.port), "--orders", str(source.orders), "--lines", str(source.lines)]
    for _ in range(2):
        yield [sys.executable, words[0], url, *counts, *words[1:]]


def compete(made: Databases, source: Served, threads: int, told: argparse.Namespace) -> dict[str, Measured]:
    """Let everyone import, in turns."""
    measured: dict[str, Measured] = {}
    expected = None
    for _ in range(told.times):
        for name, words in contestants(made.kind, threads, told).items():
            one = measured.setdefault(name, Measured())
            print(f"{made.kind}, {threads} in flight: {name}", file=sys.stderr, flush=True)
            with made.fresh() as url:
                for of, command in zip(
                    (one.first, one.again), commands(name, words, url, source, threads, made.folder), strict=True
                ):
                    before = source.cpu_seconds(), made.cpu_seconds()
                    of.append(cost_of(command, made.folder))
                    if of is one.first:
                        one.source_cpu.append(source.cpu_seconds() - before[0])
                        one.server_cpu.append(made.cpu_seconds() - before[1])
                    found = totals(url)
                    expected = expected or found
                    if found != expected:
                        raise SystemExit(f"{name} imported something else: {found} instead of {expected}")
    return measured


def figures(kind: str, threads: int, source: Served, measured: dict[str, Measured]) -> list[dict[str, Any]]:
    """Return a row of the table for each contestant."""
    rates = {
        name: [
            source.rows / statistics.median(cost.seconds for cost in costs) for costs in (one.first, one.again) if costs
        ]
        for name, one in measured.items()
    }

    def best(word: str, at: int) -> float:
        chosen = (rate[at] for name, rate in rates.items() if name.startswith(word) and not name.endswith("bare"))
        return max(chosen)

    rows = []
    for name, one in measured.items():
        row: dict[str, Any] = {"database": kind, "in flight": threads, "contestant": name}
        row["rows/s"] = round(rates[name][0])
        row["again rows/s"] = round(rates[name][1])
        row["spread %"] = round(
            100 * (max(c.seconds for c in one.first) / min(c.seconds for c in one.first) - 1)
        )  # of the slowest over the fastest
        row["peak MB"] = round(max(cost.peak_mb for cost in (*one.first, *one.again)))
        million = source.rows / 1e6
        row["CPU s/M"] = round(statistics.median(cost.cpu_seconds for cost in one.first) / million, 2)
        row["source CPU s/M"] = round(statistics.median(one.source_cpu) / million, 2)
        if kind == "mysql":
            row["server CPU s/M"] = round(statistics.median(one.server_cpu) / million, 2)
        if name == "waveimport":
            row |= {
                "by hand": round(rates[name][0] / best("by hand", 0), 2),
                "again by hand": round(rates[name][1] / best("by hand", 1), 2),
                "plain": round(rates[name][0] / best("plain", 0), 2),
                "again plain": round(rates[name][1] / best("plain", 1), 2),
            }
        rows.append(row)
    return rows


def beside_dlt(made: Databases, told: argparse.Namespace) -> dict[str, Any]:
    """Import a smaller account by dlt and by waveimport, in turns."""
    seconds: dict[str, list[float]] = {"dlt": [], "waveimport": []}
    with served(told.dlt_orders) as source:
        for _ in range(2):
            for name, words in {"waveimport": [], "dlt": [str(HERE / "dlt_script.py"), "--threads", "4"]}.items():
                with made.fresh() as url:
                    command = next(commands(name, words, url, source, 4, made.folder))
                    seconds[name].append(cost_of(command, made.folder).seconds)
        rates = {name: source.rows / min(took) for name, took in seconds.items()}
    return {
        "database": made.kind, "in flight": 4, "contestant": f"dlt, {source.rows:,} rows",
        "rows/s": round(rates["dlt"]), "dlt": round(rates["waveimport"] / rates["dlt"], 1),
    }  # fmt: skip


def profile(made: Databases, source: Served, threads: int) -> list[dict[str, Any]]:
    """Return the processor seconds a million rows of each stage of one more import."""
    with made.fresh() as url:
        config = write_config(made.folder, url, source, in_flight=threads)
        cost = cost_of([sys.executable, str(HERE / "stages.py"), str(config)], made.folder)
    stages = json.loads(cost.out.splitlines()[-1])
    return [
        {
            "database": made.kind, "in flight": threads, "contestant": "stage", "stage": name,
            "CPU s/M": round(cpu / source.rows * 1e6, 3), "calls": calls,
        }
        for name, (cpu, calls) in stages.items()
    ]  # fmt: skip


def tell(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Print what is known so far of a run that may take long."""
    table(rows)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--orders", type=int, default=125_000, help="each has four lines on average")
    parser.add_argument("--in-flight", default="1,4,15")
    parser.add_argument("--times", type=int, default=3)
    parser.add_argument("--database", default="sqlite,mysql")
    parser.add_argument("--folder", type=Path, help="where SQLite files are made, by default in the temporary folder")
    parser.add_argument("--bare", action="store_true", help="by hand without the two columns and the index too")
    parser.add_argument("--dlt", action="store_true")
    parser.add_argument("--dlt-orders", type=int, default=40_000)
    parser.add_argument("--profile", action="store_true")
    told = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with served(told.orders) as source, workplace(told.folder) as folder:
        rate = null_rate(source.port, source.lines, 4)
        print(f"{source.rows:,} rows; clients that drop what they read get {rate:,.0f} rows/s", file=sys.stderr)
        rows.append({"contestant": "reads and drops", "in flight": 4, "rows/s": round(rate)})
        for kind in told.database.split(","):
            with databases(kind, folder) as made:
                for threads in map(int, told.in_flight.split(",")):
                    rows += tell(figures(kind, threads, source, compete(made, source, threads, told)))
                    if told.profile:
                        rows += tell(profile(made, source, threads))
                if told.dlt:
                    rows += tell([beside_dlt(made, told)])
    print(json.dumps({"machine": machine(), "figures": rows}))


if __name__ == "__main__":
    main()
