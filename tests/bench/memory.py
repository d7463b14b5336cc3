"""How much memory an import takes at its peak, by how many lines there are.

    python tests/bench/memory.py [--lines 100000,1000000] [--million 6] [--database sqlite] [--in-flight 5]

Peak resident memory of `waveimport run` and of the processes that read for it, as the operating system tells it, pages
served by another process.
`--million 6` adds an account of so many million lines; it needs 350 bytes a row in memory for the source, and disk
for the rows. Prints a table to stderr and JSON to stdout; `ratio` is by the peak of the smallest account.
"""

import argparse
from pathlib import Path
from typing import Any

from bench_project import cost_of, databases, show, waveimport, workplace, write_config
from page_server import served


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", default="100000,1000000")
    parser.add_argument("--million", type=float)
    parser.add_argument("--database", default="sqlite")
    parser.add_argument("--in-flight", type=int, default=5)
    parser.add_argument("--folder", type=Path)
    told = parser.parse_args()
    sizes = [int(one) for one in told.lines.split(",") if one] + ([int(told.million * 1e6)] if told.million else [])
    rows: list[dict[str, Any]] = []
    with workplace(told.folder) as folder:
        for kind in told.database.split(","):
            with databases(kind, folder) as made:
                least = 0.0
                for lines in sizes:
                    with served(lines // 4) as source, made.fresh() as url:
                        config = write_config(folder, url, source, in_flight=told.in_flight)
                        cost = cost_of(waveimport(config, "run", "--json"), folder)
                    least = least or cost.peak_mb
                    rows.append(
                        {
                            "database": kind,
                            "in flight": told.in_flight,
                            "lines": source.lines,
                            "peak MB": round(cost.peak_mb, 1),
                            "ratio": round(cost.peak_mb / least, 3),
                            "rows/s": round(source.rows / cost.seconds),
                        }
                    )
    show(rows)


if __name__ == "__main__":
    main()
