"""How long commands take before they do anything, beside Python itself and what they import.

    python tests/bench/start_up.py [--times 15]

Of an empty SQLite database whose tables are there. Prints a table to stderr and JSON to stdout: milliseconds, medians
and fastest of `--times` calls, taken in turns.
"""

import argparse
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench_project import show, waveimport, workplace
from page_server import RECORDS

CONFIG = """[database]
url = "sqlite:///{folder}/rows.db"
[netsuite]
account = "1_SB1"
base_url = "http://127.0.0.1:9"
consumer_key = "a"
consumer_secret = "b"
token_id = "c"
token_secret = "d"
"""


def milliseconds(command: list[str], folder: Path) -> float:
    """Run a command, whatever it ends with, and return how long it took."""
    began = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=folder, check=False)
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=15)
    told = parser.parse_args()
    with workplace(None) as folder:
        config = folder / "waveimport.toml"
        config.write_text(CONFIG.format(folder=folder) + RECORDS)
        config.chmod(0o600)
        subprocess.run(waveimport(config, "db", "upgrade"), check=True, stdout=subprocess.DEVNULL)
        installed = str(Path(sys.executable).with_name("waveimport"))
        calls = {
            "python -c pass": [sys.executable, "-c", "pass"],
            "import click": [sys.executable, "-c", "import click"],
            "import sqlalchemy": [sys.executable, "-c", "import sqlalchemy"],
            "import sqlalchemy, urllib3": [sys.executable, "-c", "import sqlalchemy, urllib3"],
            "waveimport --help": [installed, "--help"],
            "waveimport --version": [installed, "--version"],
            "waveimport run --help": [installed, "run", "--help"],
            "waveimport status": waveimport(config, "status"),
            "waveimport jobs": waveimport(config, "jobs"),
            "waveimport config": waveimport(config, "config"),
        }
        took: dict[str, list[float]] = {name: [] for name in calls}
        for _ in range(told.times):
            for name, command in calls.items():
                took[name].append(milliseconds(command, folder))
    show(
        [
            {"call": name, "median ms": round(statistics.median(one)), "fastest ms": round(min(one))}
            for name, one in took.items()
        ]
    )


if __name__ == "__main__":
    main()
