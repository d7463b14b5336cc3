"""Kill `waveimport run` at random moments, beside rivals, until it has been killed often; count what was lost.

    python tests/bench/torture.py --kills 500 sqlite:///torture.db
    python tests/bench/torture.py --kills 500 mysql+pymysql://root@127.0.0.1/torture
    python tests/bench/torture.py --kills 200 --server-kills 40 mysql       # a server of its own, killed too

Each round imports the whole account anew. Three runs are started, as a cron, a retry and a watchdog that fire at once
would; each is killed by SIGKILL at a moment of its own, often what reads its pages before it, and so on until the round
has had its kills. Then a plain `run` must complete the job, and every table is compared with the source row by row,
`check --data` is asked, and the coordination tables are. Nothing is done by hand in between. Prints one line a round,
and the sum as a table.
"""

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

import mysql_server
from project import Project
from tpch import served

KILLS_A_ROUND = 10
TRIGGERS = ("cron", "retry", "watchdog")
ENDINGS = {0: "done or stepped aside", -9: "killed", 5: "database gone"}


class Torture:
    """The rounds, and what they add up to."""

    def __init__(
        self, project: Project, data: Path, chance: random.Random, longest: float, quiet: threading.Lock
    ) -> None:
        self.project = project
        self.quiet = quiet
        self.data = data
        self.chance = chance
        self.longest = longest
        self.endings: Counter[str] = Counter()
        self.readers = self.kills = self.rounds = self.rows = self.lost = self.twice = 0

    def round(self, kills: int) -> None:
        """Kill until the round has had so many, then let one run finish and compare."""
        had = 0
        while had < kills:
            runs = [self.project.start("run", "--trigger", trigger) for trigger in TRIGGERS]
            born = time.monotonic()
            # Each dies at a moment of its own, the last at the latest; what reads for a run often dies before it.
            deaths = [(self.chance.uniform(0.2, self.longest), run.kill) for run in runs]
            deaths += [
                (moment * self.chance.random(), partial(self.kill_readers, run))
                for (moment, _), run in zip(deaths, runs, strict=True)
            ]
            for moment, kill in sorted(deaths, key=lambda pair: pair[0]):
                time.sleep(max(0.0, born + moment - time.monotonic()))  # the moment is what is drawn
                kill()
            for run in runs:
                _, err = run.communicate()
                assert run.returncode in ENDINGS, f"a run ended with {run.returncode}:\n{err}"
                assert "Traceback" not in err, err
                self.endings[ENDINGS[run.returncode]] += 1
                had += run.returncode == -9
        self.kills += had
        self.finish()
        with self.quiet:
            self.compare()
            self.project.assert_coordination_is_whole()
            checked = self.project.run("check", "--data")
        assert checked.returncode == 0, checked.stdout
        self.rounds += 1
        print(f"{self.kills} kills: {self.rows:,} rows, {self.lost} lost, {self.twice} twice", flush=True)

    def kill_readers(self, run: subprocess.Popen[str]) -> None:
        """Kill the processes that read pages for a run, where it has started any."""
        for task in Path(f"/proc/{run.pid}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                for child in task.read_text().split():
                    os.kill(int(child), signal.SIGKILL)
                    self.readers += 1

    def finish(self) -> None:
        """Run as cron does, until the job is completed; a run that finds no server leaves it to the next."""
        for _ in range(20):
            done = self.project.run("run", "--json")
            assert "Traceback" not in done.stderr, done.stderr
            if done.returncode == 0:
                assert json.loads(done.stdout)["status"] == "completed", done.stderr
                return
            assert done.returncode == 5, done.stderr
            self.endings[ENDINGS[5]] += 1
        raise AssertionError("20 runs did not complete the job")

    def compare(self) -> None:
        """Count the rows that are not in as they are at the source, and those that are in more than once."""
        self.rows = 0
        for record, spec in tomllib.loads(self.project.records)["records"].items():
            source, landed = self.project.source(self.data, record), self.project.landed(record)
            self.rows += len(landed)
            self.lost += sum(landed.get(key) != row for key, row in source.items())
            key = spec.get("key", "id")
            sql = f"SELECT COUNT(*) - COUNT(DISTINCT `{key}`) FROM `{spec.get('table_name', record)}`"
            self.twice += int(self.project.query(sql, landing=True)[0][0]) + len(landed.keys() - source.keys())


@contextlib.contextmanager
def killed_now_and_then(
    server: mysql_server.PrivateServer, times: int, chance: random.Random, quiet: threading.Lock
) -> Iterator[list[int]]:
    """Kill a server and start it again, so often, at random moments but none of `quiet`, while the block lasts."""
    stop, killed = threading.Event(), [0]

    def kill() -> None:
        while killed[0] < times and not stop.wait(chance.uniform(2.0, 8.0)):
            with quiet:
                server.kill()
                server.start()
            killed[0] += 1

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url", help="an empty SQLite file or MySQL database, or `mysql` for a private server")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--server-kills", type=int, default=0, help="of the private server")
    parser.add_argument("--scale", type=float, default=0.002)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--longest", type=float, default=2.5, help="seconds that a run lives at most")
    options = parser.parse_args()
    chance = random.Random(options.seed)
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        url, killed, quiet = options.url, [0], threading.Lock()
        if url == "mysql":
            server = stack.enter_context(mysql_server.private_server())
            url = stack.enter_context(mysql_server.fresh_database(server.url))
            killed = stack.enter_context(
                killed_now_and_then(server, options.server_kills, random.Random(options.seed), quiet)
            )
        netsuite = stack.enter_context(served(folder / "account.sqlite", options.scale))
        project = Project(folder, url, netsuite, run="lease_seconds = 5\nbatch_size = 2000\nparents_per_batch = 200")
        torture = Torture(project, folder / "account.sqlite", chance, options.longest, quiet)
        began = time.monotonic()
        while torture.kills < options.kills:
            torture.round(min(KILLS_A_ROUND, options.kills - torture.kills))
        seconds = time.monotonic() - began
    print(f"rounds        {torture.rounds:6}")
    print(f"kills         {torture.kills:6}   ({torture.kills / seconds * 60:.0f} a minute)")
    print(f"readers       {torture.readers:6}   killed beside")
    print(f"server kills  {killed[0]:6}")
    print(f"rows lost     {torture.lost:6}")
    print(f"rows twice    {torture.twice:6}")
    for ending, count in sorted(torture.endings.items()):
        print(f"  runs {ending}: {count}")
    sys.exit(1 if torture.lost or torture.twice else 0)


if __name__ == "__main__":
    main()
