"""Run an import in this process and tell the processor time of each stage, as `import_speed.py --profile` shows it.

    python tests/bench/stages.py waveimport.toml

Functions of the product are wrapped from outside; a stage has what its functions use themselves, without those of
other stages that they call, by the clock of the thread. Waits take no processor time and are not seen. Prints JSON:
stage → [seconds, calls]. `rest` is what the process used beside: start-up, queues, the loop itself. What the processes
beside have used is a stage of its own.
"""

import functools
import json
import resource
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

began = time.process_time()

from waveimport.core import records  # noqa: E402
from waveimport.netsuite import auth, client, transport  # noqa: E402
from waveimport.runtime import coordinator, fetcher, importer, paging, readers  # noqa: E402
from waveimport.runtime.config import load_settings  # noqa: E402
from waveimport.store import batches, destination, landing, packing, removal, transactions, waves  # noqa: E402

imported = time.process_time()
STAGES: list[tuple[str, Any, str]] = [
    ("fetch: request, signature, reply", client.SuiteQLClient, "query"),
    ("fetch: sign", auth.TokenBasedLogin, "ticket"),
    ("fetch: send and read the head", transport.Connection, "ask"),
    ("fetch: read the body", client.SuiteQLClient, "_read"),
    ("parse", records.PageReader, "read"),
    ("pack", packing.Packing, "pack"),
    ("have a page read beside", readers.Readers, "read"),
    ("children of a page", paging.Pager, "_children"),
    ("upsert", destination.Upsert, "execute"),
    ("remove what is gone", removal.Remover, "execute"),
    ("land: fence", landing, "take_fence"),
    ("land: derived batches", landing, "make_children"),
    ("coordinate: pass", waves, "advance"),
    ("coordinate: claim", batches, "claim"),
    ("coordinate: start", fetcher, "start"),
    ("transaction: begin, commit", transactions.Database, "run"),
    ("worker of a batch", fetcher.Fetcher, "work"),
    ("loop", coordinator.Coordinator, "run"),
    ("reconcile", importer, "reconcile"),
]


class Stage(threading.local):
    """What the stages inside have used that are at work in a thread."""

    inside = 0.0


current = Stage()
lock = threading.Lock()
used: dict[str, list[float]] = {}


def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, its processor time added to a stage."""

    @functools.wraps(work)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        outer, current.inside = current.inside, 0.0
        start = time.thread_time()
        try:
            return work(*args, **kwargs)
        finally:
            took = time.thread_time() - start
            with lock:
                entry = used.setdefault(name, [0.0, 0])
                entry[0] += took - current.inside
                entry[1] += 1
            current.inside = outer + took

    return wrapped


def main() -> None:
    for name, owner, attribute in STAGES:
        setattr(owner, attribute, timed(name, getattr(owner, attribute)))
    result = importer.run_import(load_settings(Path(sys.argv[1]), {}, secrets=True), importer.RunOptions())
    if result.exit_code:
        raise SystemExit(f"the import ended with {result.exit_code}: {result.message or result.error}")
    every = time.process_time() - began
    used["imports"] = [imported - began, 1]
    beside = resource.getrusage(resource.RUSAGE_CHILDREN)
    used["rest"] = [every - sum(seconds for seconds, _ in used.values()), 1]
    used["processes that read"] = [beside.ru_utime + beside.ru_stime, 1]
    ordered = sorted(used.items(), key=lambda item: -item[1][0])
    print(json.dumps({name: [round(seconds, 4), int(calls)] for name, (seconds, calls) in ordered}))


if __name__ == "__main__":
    main()
