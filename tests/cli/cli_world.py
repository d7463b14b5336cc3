"""What the tests of commands share: a configured folder, imports into it, and the command called in this process."""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from waveimport.cli.main import run
from waveimport.core.settings import Settings
from waveimport.core.waves import Trigger
from waveimport.runtime.config import load_settings
from waveimport.runtime.importer import run_import
from waveimport.runtime.options import RunOptions, RunResult
from waveimport.simulator.handle import Simulator
from waveimport.store.transactions import Database

CANARY = "canary-53c7e7-a1b2c3"

RECORDS = """
[records.subsidiary]
columns = { id = "integer", name = "text", parent = "integer" }

[records.customer]
depends_on = ["subsidiary"]
columns = { id = "integer", entityid = "text", balance = "decimal(15,2)" }

[records.salesorder]
table = "transaction"
where = "type = 'SalesOrd'"
depends_on = ["customer"]
columns = { id = "integer", entity = "integer", foreigntotal = "decimal(15,2)", memo = "text" }

[records.salesorderline]
table = "transactionline"
key = "uniquekey"
derived_from = "salesorder"
parent_key = "transaction"
columns = { uniquekey = "integer", transaction = "integer", netamount = "decimal(15,2)" }
"""
"""Three main waves and a derived one: 31 subsidiaries, and so on up from there, at scale 0.001."""

NO_SERVER = f"""
[netsuite]
account = "1234567_SB1"
base_url = "http://127.0.0.1:9"
consumer_key = "{CANARY}-ck"
consumer_secret = "{CANARY}-cs"
token_id = "{CANARY}-ti"
token_secret = "{CANARY}-ts"
"""
"""An account that nobody serves, its credentials canaries: no output may hold one."""


@dataclass(frozen=True)
class Said:
    """What a command said and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


class World:
    """A folder with a configuration of one database."""

    def __init__(self, folder: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.url = url
        self.config = folder / "waveimport.toml"
        self._capsys = capsys
        self.configure()

    def configure(
        self,
        netsuite: str = NO_SERVER,
        *,
        run: str = "",
        records: str = RECORDS,
        destination: str | None = None,
        top: str = "",
        url: str | None = None,
    ) -> None:
        """Write the configuration anew."""
        landing = f'[destination]\nurl = "{destination}"\n' if destination else ""
        self.config.write_text(
            f'{top}\n[database]\nurl = "{url or self.url}"\n{landing}{netsuite}\n[run]\nworkers = 4\nmax_tries = 1\n'
            f'lease_seconds = 30\nlock_dir = "{self.folder / "locks"}"\n{run}\n{records}',
            encoding="utf-8",
        )

    def settings(self) -> Settings:
        """Return the configuration as a command loads it."""
        return load_settings(self.config, os.environ, secrets=True)

    def call(self, *words: str) -> Said:
        """Call a command in this process; nothing it says may hold a canary."""
        self._capsys.readouterr()
        code = run(["--config", str(self.config), *words])
        out, err = self._capsys.readouterr()
        assert CANARY not in out + err
        return Said(int(code), out, err)

    def run_import(self, on_turn: Callable[[str], None] = lambda job_id: None, **options: Any) -> RunResult:
        """Import, as `run` does."""
        return run_import(self.settings(), RunOptions(trigger=Trigger.CRON, **options), on_turn=on_turn)

    def database(self) -> Database:
        """Open the database for writing; the caller closes it."""
        return Database.open(self.settings().database.url)

    def import_from(self, simulator: Simulator, **how: Any) -> str:
        """Import a simulated account and return the job's id."""
        self.configure(simulator.netsuite_toml(), **how)
        result = self.run_import()
        assert result.job_id is not None, result
        return result.job_id
