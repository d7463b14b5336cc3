"""How near an import comes to a perfect schedule of its own requests.

    python tests/bench/makespan.py [--slots 15] [--latency 0.3] [--spread 0.5] [--batches 2000] [--seed 1]

The source takes `--latency` seconds for a request, give or take `--spread` of it by a draw of that request's own, and
writes down what it was asked. The same requests are then put into a list schedule: `--slots` of them at a time, no time
between two, the next always the first that is ready (orders before their lines, in the order of their keys), where a
page is ready when the page before it in its batch has come, lines when the page of their orders has, and the count at
the end when all has. `ratio` is the time from the first request to the last answer by the makespan of that schedule;
`bound` by what no schedule can beat (all latencies by the slots, or the longest chain). `whole ratio` is that of the
process, its start and end included.

Of the batches a fifth are ranges of orders, the others lines of some orders; each page has 100 rows at most.
"""

import argparse
import heapq
import json
import statistics
from dataclasses import dataclass, field
from typing import Any

from bench_project import cost_of, databases, show, waveimport, workplace, write_config
from page_server import served

PAGE = 100
PARENTS = 25


@dataclass(slots=True)
class Request:
    """One request that was made: how long the source took, and what had to be there before."""

    seconds: float
    rank: tuple[int, int]
    needs: list[int] = field(default_factory=list)


def requests_of(asked: list[dict[str, Any]]) -> list[Request]:
    """Return the requests with what each needs, by their place in the list."""
    order_pages = [(at, one) for at, one in enumerate(asked) if one["table"] == "orders"]
    page_of: dict[int, int] = {}
    for at, one in order_pages:
        page_of.update(dict.fromkeys(range(one["first"], one["last"] + 1), at))
    ends: dict[tuple[str, int], int] = {
        (one["table"], one["last"]): at for at, one in enumerate(asked) if one["table"] != "other" and one["more"]
    }
    firsts = [
        at for at, one in enumerate(asked) if one["table"] == "other" and one["began"] < order_pages[0][1]["began"]
    ]
    found = []
    for at, one in enumerate(asked):
        match one["table"]:
            case "orders":
                before = ends.get(("orders", one.get("above", 0)))
                found.append(Request(one["drawn"], (0, one["first"]), firsts if before is None else [before]))
            case "lines":
                before = ends.get(("lines", one["above"])) if "above" in one else None
                of_orders = page_of[one["lowest"]]
                found.append(Request(one["drawn"], (1, one["first"]), [of_orders if before is None else before]))
            case _ if at in firsts:
                found.append(Request(one["drawn"], (-1, at), firsts[: firsts.index(at)]))
            case _:
                found.append(Request(one["drawn"], (2, at), [other for other in range(len(asked)) if other < at]))
    return found


def list_schedule(every: list[Request], slots: int) -> float:
    """Return the makespan of a list schedule."""
    waiting = [len(one.needs) for one in every]
    followers: list[list[int]] = [[] for _ in every]
    for at, one in enumerate(every):
        for need in one.needs:
            followers[need].append(at)
    ready = [(one.rank, at) for at, one in enumerate(every) if not one.needs]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now = 0.0
    while ready or running:
        while ready and len(running) < slots:
            _, at = heapq.heappop(ready)
            heapq.heappush(running, (now + every[at].seconds, at))
        now, at = heapq.heappop(running)
        for follower in followers[at]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, (every[follower].rank, follower))
    assert not any(waiting), "a request needs what never came"
    return now


def longest_chain(every: list[Request]) -> float:
    """Return the latency of the longest chain of requests that need one another."""
    ends: dict[int, float] = {}

    def end(at: int) -> float:
        if at not in ends:
            ends[at] = every[at].seconds + max((end(need) for need in every[at].needs), default=0.0)
        return ends[at]

    return max(end(at) for at in range(len(every)))


def idle_share(asked: list[dict[str, Any]], slots: int) -> float:
    """Return the part of the slots' time in which none was used, from the first request to the last answer."""
    span = max(one["ended"] for one in asked) - min(one["began"] for one in asked)
    return 1 - sum(one["ended"] - one["began"] for one in asked) / (span * slots)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--slots", type=int, default=15)
    parser.add_argument("--latency", type=float, default=0.3)
    parser.add_argument("--spread", type=float, default=0.5)
    parser.add_argument("--batches", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--database", default="sqlite")
    told = parser.parse_args()
    orders = told.batches // 5 * PAGE
    rows = []
    with workplace(None) as folder:
        for kind in told.database.split(","):
            log = folder / "asked.json"
            words = ("--latency", str(told.latency), "--spread", str(told.spread), "--seed", str(told.seed))
            with databases(kind, folder) as made, made.fresh() as url:
                with served(orders, *words, "--log", str(log)) as source:
                    run = f"page_size = {PAGE}\nbatch_size = {PAGE}\nparents_per_batch = {PARENTS}"
                    config = write_config(folder, url, source, in_flight=told.slots, run=run)
                    cost = cost_of(waveimport(config, "run", "--json"), folder)
                asked = sorted(json.loads(log.read_text()), key=lambda one: one["began"])
            every = requests_of(asked)
            took = max(one["ended"] for one in asked) - min(one["began"] for one in asked)
            ideal = list_schedule(every, told.slots)
            bound = max(sum(one.seconds for one in every) / told.slots, longest_chain(every))
            late = statistics.fmean(one["ended"] - one["began"] - one["drawn"] for one in asked)
            rows.append(
                {
                    "database": kind, "slots": told.slots, "batches": orders // PAGE + orders // PARENTS,
                    "requests": len(asked), "seconds": round(took, 2), "list schedule": round(ideal, 2),
                    "ratio": round(took / ideal, 3), "bound": round(took / bound, 3),
                    "whole ratio": round(cost.seconds / ideal, 3),
                    "idle %": round(100 * idle_share(asked, told.slots), 1),
                    "source late ms": round(1000 * late, 2), "CPU s": round(cost.cpu_seconds, 1),
                }
            )  # fmt: skip
    show(rows)


if __name__ == "__main__":
    main()
