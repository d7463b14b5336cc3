"""Jobs for the screens: written into bundles, in which the clock stands still, so that each look is the same."""

import gzip
import json
import sqlite3
from datetime import datetime, timedelta
from pathlib import Path

from waveimport.core.graph import PlannedWave
from waveimport.core.waves import WaveKind
from waveimport.store import bundle, jobs, schema
from waveimport.store.jobs import NewJob
from waveimport.store.transactions import Database

MADE_AT = datetime(2026, 11, 23, 3, 14, 15)
RUNNING = "import_20261123030215000000_5bb72485"
STUCK = "import_20261122210000000000_0c41d7aa"
FAILED = "import_20261121233000000000_9e02f1b3"
LONG = "customrecord_measurement_of_quality_by_department_and_site"
WAVES = (
    PlannedWave(1, WaveKind.MAIN, ("item", "subsidiary")),
    PlannedWave(2, WaveKind.MAIN, ("customer", "vendor")),
    PlannedWave(3, WaveKind.MAIN, ("salesorder",)),
    PlannedWave(4, WaveKind.DERIVED, ("salesorderline",), parent_wave=3, depth=1),
)
LONG_WAVES = (
    PlannedWave(1, WaveKind.MAIN, ("item", LONG, "customrecord_site")),
    PlannedWave(2, WaveKind.DERIVED, (f"{LONG}_line",), parent_wave=1, depth=1),
)


def ago(seconds: float) -> str:
    """Return the moment so long before the bundles were made, as SQLite has it."""
    return (MADE_AT - timedelta(seconds=seconds)).strftime("%Y-%m-%d %H:%M:%S.%f")


class Writer:
    """Writes what runs would have left."""

    def __init__(self, path: Path) -> None:
        self.database = Database.open(f"sqlite:///{path}")
        schema.upgrade(self.database)
        self._plain = sqlite3.connect(path, isolation_level=None)
        self._plain.execute("PRAGMA synchronous = OFF")

    def close(self) -> None:
        """Let go of the file."""
        self._plain.close()
        self.database.close()

    def sql(self, statement: str, *values: object) -> None:
        """Change the tables."""
        self._plain.execute(statement, values)

    def job(self, job_id: str, profile: str, waves: tuple[PlannedWave, ...], *, age: float, **values: object) -> None:
        """Make a job so long ago, with these values of its row."""
        cursors = {"customer": {"cursor": "lastmodifieddate"}, "salesorder": {"cursor": "lastmodifieddate"}}
        text = json.dumps({"account": "1234567_SB1", "records": cursors | {"item": {"cursor": None}}})
        mode = str(values.pop("mode", "full"))
        new = NewJob(job_id, profile, mode, "hash", text, None, waves)
        self.database.run(lambda connection: jobs.create_job(connection, new))
        row = {"created_at": ago(age), "as_of": ago(age), "status": "processing", **values}
        names = ", ".join(f"{name} = ?" for name in row)
        self.sql(f"UPDATE import_jobs SET {names} WHERE job_id = ?", *row.values(), job_id)
        self.sql("UPDATE wave_batches SET created_at = ?, updated_at = ? WHERE job_id = ?", ago(age), ago(age), job_id)

    def planned(self, job_id: str, **counts: int) -> None:
        """Complete the planning of records, of which so many rows were counted."""
        for record, count in counts.items():
            self.sql(
                "UPDATE wave_batches SET status = 'completed', spec = ?"
                " WHERE job_id = ? AND record = ? AND kind = 'plan'",
                json.dumps({"count": count}), job_id, record,
            )  # fmt: skip

    def wave(self, job_id: str, number: int, status: str, *, sealed: bool = True) -> None:
        """Bring a wave to a status."""
        self.sql(
            "UPDATE wave_coordination SET status = ?, sealed = ? WHERE job_id = ? AND wave_number = ?",
            status, int(sealed), job_id, number,
        )  # fmt: skip

    def batches(self, job_id: str, wave: int, record: str, count: int, status: str, rows: int, **how: float) -> None:
        """Write batches of so many rows, the last touched `last` seconds ago, one each `every` seconds before; those at
        work are held for half a minute from then, and failed ones say why."""
        start = int(how.get("start", 0))
        live = status in ("dispatched", "processing")
        error = "WI-SRC-009: column custrecord_value of row 17 is not a decimal number" if status == "failed" else None
        self._plain.execute("BEGIN")
        self._plain.executemany(
            "INSERT INTO wave_batches (job_id, batch_id, wave_number, record, kind, status, attempt, tries, spec,"
            " row_count, created_at, updated_at, lease_owner, lease_token, lease_expires_at, error, owed)"
            " VALUES (?, ?, ?, ?, 'range', ?, 1, ?, '{}', ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (
                    job_id, f"{wave}/{record}/{start + number:07d}", wave, record, status, int(how.get("tries", 0)),
                    rows + (number % 5) * int(how.get("uneven", 0)), ago(7200.0),
                    ago(how.get("last", 3600.0) + how.get("every", 1.0) * (count - number - 1)),
                    "etl-1.example.com:4711" if live else None, 3 if live else None,
                    ago(how.get("held", -30.0)) if live else None, error, int(how.get("owed", 0)),
                )
                for number in range(count)
            ],
        )  # fmt: skip
        self._plain.execute("COMMIT")
        self.sql(
            "UPDATE wave_coordination SET total = total + ? WHERE job_id = ? AND wave_number = ?", count, job_id, wave
        )


def running(made: Writer) -> None:
    """Twelve minutes into a nightly run whose limit is cut."""
    made.job("import_20261122030000000000_77aa01fe", "1234567_SB1", (), age=87_000.0, status="completed",
             finished_at=ago(86_313.0))  # fmt: skip
    made.job(RUNNING, "1234567_SB1", WAVES, age=720.0, mode="incremental", lease_owner="etl-1.example.com:4711",
             lease_token=3, lease_expires_at=ago(-41.0), coordination_status="planned")  # fmt: skip
    made.planned(RUNNING, item=2008, subsidiary=31, customer=1502, vendor=100, salesorder=400_000)
    for number in (1, 2):
        made.wave(RUNNING, number, "completed")
    made.wave(RUNNING, 3, "processing")
    made.wave(RUNNING, 4, "processing", sealed=False)
    for record, wave, rows in (("item", 1, 2008), ("subsidiary", 1, 31), ("customer", 2, 1502), ("vendor", 2, 100)):
        made.batches(RUNNING, wave, record, 1, "completed", rows, last=640.0)
    made.batches(RUNNING, 3, "salesorder", 30, "completed", 4_000, last=12.0, every=20.0, uneven=500, tries=1)
    made.batches(RUNNING, 3, "salesorder", 2, "processing", 1_000, start=30, last=3.0)
    made.batches(RUNNING, 3, "salesorder", 48, "pending", 0, start=32, last=600.0)
    made.batches(RUNNING, 4, "salesorderline", 60, "completed", 2_000, last=4.0, every=9.5, uneven=250)
    made.batches(RUNNING, 4, "salesorderline", 1, "processing", 0, start=60, last=1.0)
    made.batches(RUNNING, 4, "salesorderline", 239, "pending", 0, start=61, last=30.0)
    made.sql(
        "INSERT INTO account_runs VALUES ('1234567_SB1', 'etl-1.example.com:4711', ?, 5, 3, 3, ?, ?, ?)",
        RUNNING, "NetSuite refused 12 requests in the last minute (429)", ago(20.0), ago(-40.0),
    )  # fmt: skip
    made.sql(
        "INSERT INTO import_watermarks VALUES ('1234567_SB1', 'customer', ?, 'import_x', ?)",
        ago(86_400.0), ago(86_400.0),
    )  # fmt: skip


def journal(made: Writer, job_id: str, seq: int, age: float, event: str, note: str) -> None:
    """Write an entry of the journal that decides nothing."""
    made.sql(
        "INSERT INTO wave_journal (job_id, seq, at, source, token, event, note, decision_version, code_version)"
        " VALUES (?, ?, ?, 'cron', ?, ?, ?, 1, '0.1.0')", job_id, seq, ago(age), seq, event, note,
    )  # fmt: skip


def stuck(made: Writer) -> None:
    """A run that was killed two hours ago."""
    made.job(STUCK, "1234567", WAVES[:2], age=22_455.0, lease_owner="etl-2.example.com:91823", lease_token=2,
             lease_expires_at=ago(7_140.0), coordination_status="planned")  # fmt: skip
    journal(made, STUCK, 1, 22_455.0, "lease", "taken by etl-1.example.com:4711")
    journal(made, STUCK, 2, 15_000.0, "ended", "NetSuite answered no request for 600 s; the job stays as it is, and the"
            " next run goes on where this one was")  # fmt: skip
    journal(made, STUCK, 3, 9_000.0, "lease", "taken by etl-2.example.com:91823 from nobody")
    made.planned(STUCK, item=2008, subsidiary=31, customer=250_000, vendor=100)
    made.wave(STUCK, 1, "completed")
    made.wave(STUCK, 2, "processing")
    made.batches(STUCK, 1, "item", 2, "completed", 1_004, last=22_000.0)
    made.batches(STUCK, 1, "subsidiary", 1, "completed", 31, last=22_000.0)
    made.batches(STUCK, 2, "customer", 9, "completed", 5_000, last=7_260.0, every=60.0)
    made.batches(STUCK, 2, "customer", 2, "processing", 1_000, start=9, last=7_200.0, held=7_140.0)
    made.batches(STUCK, 2, "customer", 39, "pending", 0, start=11, last=22_000.0)
    made.batches(STUCK, 2, "vendor", 1, "completed", 100, last=20_000.0)


def failed(made: Writer) -> None:
    """A job of records with long names, of which two batches failed for good."""
    profile = "1234567_SB1_quality_and_measurements"
    made.job(FAILED, profile, LONG_WAVES, age=13_455.0, status="failed", finished_at=ago(9_000.0),
             error="batch 1/item/0000001: it failed", mode="incremental")  # fmt: skip
    made.planned(FAILED, **dict.fromkeys(LONG_WAVES[0].records, 1_250_000))
    made.wave(FAILED, 1, "failed")
    made.wave(FAILED, 2, "completed")
    made.batches(FAILED, 1, "item", 1, "completed", 5_000, last=9_100.0)
    made.batches(FAILED, 1, LONG, 248, "completed", 5_000, last=9_100.0)
    made.batches(FAILED, 1, LONG, 2, "failed", 0, start=248, last=9_050.0, tries=5, owed=1)
    made.batches(FAILED, 2, f"{LONG}_line", 1_480, "completed", 9_000, last=9_020.0, every=0.01)


def bundles(folder: Path) -> dict[str, Path]:
    """Return the jobs in bundles, by name, made in one go."""
    plain = folder / "jobs.db"
    made = Writer(plain)
    for write in (running, stuck, failed):
        write(made)
    profiles = dict(made.database.run(lambda c: c.exec_driver_sql("SELECT job_id, profile FROM import_jobs").all()))
    made.close()
    found = {}
    for name, job_id in (("running", RUNNING), ("stuck", STUCK), ("failed", FAILED)):
        facts = {
            "format": bundle.FORMAT, "job_id": job_id, "profile": profiles[job_id], "made_at": str(MADE_AT),
            "waveimport": "0.1.0", "database": "mysql://db.example.com:3306/netsuite", "run": "{}",
        }  # fmt: skip
        connection = sqlite3.connect(plain)
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("DROP TABLE IF EXISTS bundle")
        connection.execute("CREATE TABLE bundle (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        connection.executemany("INSERT INTO bundle VALUES (?, ?)", facts.items())
        connection.execute(f"PRAGMA application_id = {bundle.APPLICATION_ID}")
        connection.commit()
        connection.close()
        found[name] = folder / f"{name}.bundle"
        found[name].write_bytes(gzip.compress(plain.read_bytes(), compresslevel=1))
    return found
