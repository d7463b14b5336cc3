"""Import beside rivals that eat the account's limit, with faults, and compare with what the limit leaves.

    python tests/bench/shared_limit.py --limit 5 --rivals 2 --faults 0.2

The account answers after `--latency` seconds and refuses with 429 what is over its limit; `--rivals` of it is always
in use by others. `--faults` is the share of requests that meet a passing fault (half of them 500s, half resets). The
baseline, run first in the same process, is a bare loop: as many threads as the limit leaves send the same number of
requests with the same faults, each again until it is answered, with no pause and no bookkeeping. The ratio is its time
by that of the import.
"""

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from project import SMALL, Project

from waveimport.core.settings import NetSuiteSettings
from waveimport.errors import SourceError
from waveimport.netsuite.client import SuiteQLClient
from waveimport.runtime.config import load_settings
from waveimport.runtime.importer import run_import
from waveimport.runtime.options import RunOptions
from waveimport.simulator.faults import Fault, FaultKind, Faults
from waveimport.simulator.handle import Simulator


def bare_loop(simulator: Simulator, threads: int, requests: int) -> float:
    """Send so many requests from so many threads, each until it is answered; return the seconds."""
    given = simulator.credentials
    settings = NetSuiteSettings(
        given.account,
        simulator.base_url,
        consumer_key=given.consumer_key,
        consumer_secret=given.consumer_secret,
        token_id=given.token_id,
        token_secret=given.token_secret,
        concurrency=threads,
    )
    left = [requests]
    lock = threading.Lock()

    def work(client: SuiteQLClient) -> None:
        while True:
            with lock:
                if left[0] <= 0:
                    return
                left[0] -= 1
            while True:
                try:
                    client.query("SELECT t.id FROM subsidiary t ORDER BY t.id", limit=200)
                    break
                except SourceError:
                    continue

    with SuiteQLClient(settings, request_timeout_seconds=60, attempts=1, epoch_seconds=time.time) as client:
        began = time.perf_counter()
        workers = [threading.Thread(target=work, args=(client,)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--limit", type=int, default=5)
    parser.add_argument("--rivals", type=int, default=2)
    parser.add_argument("--faults", type=float, default=0.2)
    parser.add_argument("--latency", type=float, default=0.3)
    parser.add_argument("--scale", type=float, default=0.01)
    parser.add_argument("--url", help="the database; a SQLite file of its own if not given")
    told = parser.parse_args()
    plan = Faults(
        latency_seconds=told.latency,
        concurrency=told.limit,
        rivals=told.rivals,
        fault=(
            Fault(FaultKind.SERVER_ERROR, probability=told.faults / 2),
            Fault(FaultKind.RESET, probability=told.faults / 2),
        ),
    )
    with tempfile.TemporaryDirectory() as name, Simulator(scale=told.scale) as simulator:
        folder = Path(name)
        url = told.url or f"sqlite:///{folder / 'rows.db'}"
        project = Project(folder, url, simulator.netsuite_toml() + f"concurrency = {told.limit}\n", run=SMALL)
        simulator.set_faults(plan)
        began = time.perf_counter()
        result = run_import(load_settings(project.config, {}, secrets=True), RunOptions())
        seconds = time.perf_counter() - began
        log = simulator.requests
        rows = project.assert_equals_source(simulator.data)
        answered = sum(request.status == 200 for request in log)
        limited = [request.status == 429 for request in log]
        half = len(limited) // 2
        simulator.set_faults(plan)
        ideal = bare_loop(simulator, told.limit - told.rivals, answered)
    print(
        json.dumps(
            {
                "exit_code": int(result.exit_code),
                "rows": rows,
                "requests": len(log),
                "answered": answered,
                "429s": sum(limited),
                "429s in the second half": sum(limited[half:]),
                "seconds": round(seconds, 1),
                "bare loop seconds": round(ideal, 1),
                "ratio": round(ideal / seconds, 2),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
