"""Cut the power under a run on SQLite, after any of its writes, and see what a later run finds.

    python tests/crash/power_cuts.py --cuts 20000
    python tests/crash/power_cuts.py --cuts 2000 --synchronous OFF      # the control: it must fail

A small import runs once, a recorder loaded before it (`record_writes.c`, so a C compiler is needed) notes each write
and each sync of the database's files in their order, and the run notes, in a file beside, how many of its transactions
it has been told are committed. Then the power is cut after any write: what was synced is there; of what was written
since, any part is, whole or up to a sector, in any choice. SQLite opens what is left, and it must hold every
transaction that was acknowledged before the cut, pass SQLite's own check, and break no rule of the oracle; from some
of them the next run must bring the job to its end.

Prints a JSON object: writes, cuts, lost (cuts that lost an acknowledged commit), broken, finished.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from crash_run import recover, run_import_of_all, settings_for

from waveimport.store import audit
from waveimport.store.transactions import Database

RECORDER = Path(__file__).with_name("record_writes.c")
HEAD = struct.Struct("=ciQI")
SECTOR = 512
FINISH_EVERY = 500
"""Every so many cuts the next run is let finish the job, which takes longer than to look."""


@dataclass
class Disk:
    """A file as the disk has it: what is synced, and what was written since, in order."""

    synced: bytearray = field(default_factory=bytearray)
    pending: list[tuple[str, int, bytes]] = field(default_factory=list)

    def sync(self) -> None:
        for operation in self.pending:
            apply(self.synced, *operation)
        self.pending.clear()

    def after_a_cut(self, chance: random.Random) -> bytes:
        """What is there when the power comes back: any choice of what was not synced, some of it torn."""
        image = bytearray(self.synced)
        keep = chance.choice((0.0, 0.5, 0.9, 1.0))
        for what, offset, data in self.pending:
            if chance.random() < keep:
                torn = len(data) > SECTOR and chance.random() < 0.2
                apply(image, what, offset, data[: SECTOR * chance.randrange(1 + len(data) // SECTOR)] if torn else data)
        return bytes(image)


def apply(image: bytearray, what: str, offset: int, data: bytes) -> None:
    """Write or truncate."""
    if what == "T":
        del image[offset:]
        image.extend(bytes(offset - len(image)))
        return
    if len(image) < offset:
        image.extend(bytes(offset - len(image)))
    image[offset : offset + len(data)] = data


def records(log: Path) -> Iterator[tuple[str, int, int, bytes]]:
    """Yield (operation, file, offset, bytes)."""
    with log.open("rb") as stream:
        while head := stream.read(HEAD.size):
            operation, number, offset, length = HEAD.unpack(head)
            yield operation.decode(), number, offset, stream.read(length)


def record(folder: Path, synchronous: str) -> Path:
    """Run an import under the recorder; return its log."""
    library = folder / "recorder.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", str(library), str(RECORDER), "-ldl"], check=True)
    log, place = folder / "log", folder / "disk"
    place.mkdir()
    environment = {**os.environ, "LD_PRELOAD": str(library), "RECORD_FOLDER": str(place), "RECORD_LOG": str(log)}
    subprocess.run(
        [sys.executable, __file__, "--record", str(place), "--synchronous", synchronous], check=True, env=environment
    )
    return log


def recorded_run(place: Path, synchronous: str) -> None:
    """The run that is recorded: each of its transactions also counts itself, and is acknowledged in a file."""
    database = Database.open(f"sqlite:///{place / 'run.db'}")
    database.run(lambda c: c.exec_driver_sql("CREATE TABLE counted (n INTEGER NOT NULL)") and None)
    database.run(lambda c: c.exec_driver_sql("INSERT INTO counted VALUES (0)") and None)
    database.close()
    acknowledged = os.open(place / "acknowledged", os.O_WRONLY | os.O_CREAT, 0o600)
    plain = Database.run

    def run(self: Database, work: Any, **how: Any) -> Any:
        if synchronous != "FULL":
            with self.engine.connect() as connection:
                raw: Any = connection.connection.driver_connection
                if not raw.in_transaction:
                    raw.execute(f"PRAGMA synchronous = {synchronous}")
        number = 0

        def counting(connection: Any) -> Any:
            nonlocal number
            answer = work(connection)
            number = connection.exec_driver_sql("UPDATE counted SET n = n + 1 RETURNING n").scalar_one()
            return answer

        answer = plain(self, counting, **how)
        os.pwrite(acknowledged, f"{number:09d}".encode(), 0)
        return answer

    Database.run = run
    run_import_of_all(settings_for(f"sqlite:///{place / 'run.db'}", place))


def cut(folder: Path, log: Path, cuts: int, seed: int) -> dict[str, Any]:
    """Replay the log, and cut the power `cuts` times, spread over its writes."""
    chance = random.Random(seed)
    history = list(records(log))
    places = [at for at, (operation, *_) in enumerate(history) if operation in "WTS"]
    wanted = Counter(places[at % len(places)] for at in range(cuts))
    names: dict[int, str] = {}
    disks: dict[int, Disk] = {}
    acknowledged = done = 0
    told = Counter[str]()
    examples: list[str] = []
    for at, (operation, number, offset, data) in enumerate(history):
        if operation == "O":
            names[number] = Path(data.decode()).name
            disks[number] = Disk()
        elif names[number] == "acknowledged":
            acknowledged = int(data) if operation == "W" else acknowledged
        elif operation == "S":
            disks[number].sync()
        elif operation == "U":
            disks[number] = Disk()
        else:
            disks[number].pending.append((operation, offset, data))
        for _ in range(wanted[at]):
            done += 1
            fault = look(folder / "cut", names, disks, acknowledged, chance, finish=done % FINISH_EVERY == 0)
            told[fault.partition(":")[0] or "whole"] += 1
            if fault and len(examples) < 3:
                examples.append(f"after write {at}: {fault}")
    return {
        "writes": len(places),
        "commits": acknowledged,
        "cuts": done,
        "lost": told["lost"],
        "broken": told["broken"],
        "finished": done // FINISH_EVERY,
        "examples": examples,
    }


def look(
    place: Path,
    names: dict[int, str],
    disks: dict[int, Disk],
    acknowledged: int,
    chance: random.Random,
    *,
    finish: bool,
) -> str:
    """Return what is wrong with what a cut has left, "" for nothing."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    for number, disk in disks.items():
        # The index of the WAL is memory that is shared; a machine that comes back has none.
        if names[number].startswith("run.db") and not names[number].endswith("-shm"):
            (place / names[number]).write_bytes(disk.after_a_cut(chance))
    try:
        with contextlib.closing(sqlite3.connect(place / "run.db")) as connection:
            if connection.execute("PRAGMA integrity_check").fetchone() != ("ok",):
                return "broken: SQLite's own check fails"
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            counted = (
                connection.execute("SELECT COALESCE(MAX(n), 0) FROM counted").fetchone()[0]
                if "counted" in tables
                else 0
            )
    except sqlite3.Error as error:
        return f"broken: {error}"
    if counted < acknowledged:
        return f"lost: {acknowledged} commits were acknowledged, {counted} are there"
    settings = settings_for(f"sqlite:///{place / 'run.db'}", place)
    if "import_jobs" in tables and "waveimport_version" in tables:
        database = Database.open(settings.database.url)
        found = database.run(audit.violations)
        database.close()
        if found:
            return f"broken: {found[0]}"
    if finish:
        # Another start of a machine proves no death: leases that were in force lapse first.
        with contextlib.closing(sqlite3.connect(place / "run.db")) as connection:
            for table in {"import_jobs", "wave_batches"} & tables:
                connection.execute(f"UPDATE {table} SET lease_expires_at = '2000-01-01 00:00:00.000000'"
                                   " WHERE lease_expires_at IS NOT NULL")  # fmt: skip
            connection.commit()
        said = recover(settings)
        return f"broken: {said}" if said else ""
    return ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--synchronous", choices=["FULL", "NORMAL", "OFF"], default="FULL")
    parser.add_argument("--folder", type=Path, help="where to work; a folder in memory is the quickest")
    parser.add_argument("--record", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.record is not None:
        recorded_run(options.record, options.synchronous)
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        log = record(Path(name), options.synchronous)
        found = cut(Path(name), log, options.cuts, options.seed)
    print(json.dumps(found))
    sys.exit(1 if found["lost"] or found["broken"] else 0)


if __name__ == "__main__":
    main()
