"""Kill `waveimport run` at random moments, run it again, and count what was lost or came twice.

    python tests/bench/kills.py --kills 20 sqlite:///kills.db
    python tests/bench/kills.py --kills 20 --rivals mysql+pymysql://root@127.0.0.1/kills

Each round imports the whole account anew: the run is killed with SIGKILL at a random moment, again and again until it
gets through, and then every table is compared with the source row by row. With --rivals a second `run` is started
beside each. Nothing is done by hand between a kill and the next run.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

from project import Project
from tpch import served


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="destination: an empty SQLite file or MySQL database")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--scale", type=float, default=0.01)
    parser.add_argument("--data", type=Path, help="the account's file, kept for the next time")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=3.0, help="seconds that a run lives at most")
    parser.add_argument("--rivals", action="store_true", help="start a second run beside each")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or Path(folder) / "account.sqlite"
        with served(data, options.scale) as netsuite:
            project = Project(Path(folder), options.url, netsuite, run="lease_seconds = 5")
            kills = others = 0
            while kills < options.kills:
                run = project.start("run")
                rival = project.start("run") if options.rivals else None
                time.sleep(chance.uniform(0.05, options.longest))  # the moment of the kill is what is drawn
                run.kill()
                run.communicate()
                if rival is not None:
                    rival.communicate(timeout=120)
                    others += 1
                    assert rival.returncode == 0, f"a rival ended with {rival.returncode}"
                if run.returncode == -9:
                    kills += 1
                if kills == options.kills or (kills % 5 == 0 and run.returncode == -9):
                    project.imported()
                    rows = project.assert_equals_source(data)
                    project.assert_coordination_is_whole()
                    print(f"{kills} kills: {rows:,} rows equal the source, none lost, none twice", flush=True)
    print(f"{kills} kills, {others} rivals; every job was finished by a plain `run`")


if __name__ == "__main__":
    main()
