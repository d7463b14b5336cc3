"""`waveimport demo`: a simulated account imported into SQLite, from start to end, and what to look at then."""

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Final

import click

from waveimport.cli.app import App
from waveimport.errors import ConfigChanged, ExitCode

if TYPE_CHECKING:
    from waveimport.cli.demo_account import DemoAccount
    from waveimport.cli.demo_folder import DemoFolder
    from waveimport.core.settings import Settings
    from waveimport.runtime.options import RunResult
    from waveimport.runtime.stop import StopSwitch

DEFAULT_FOLDER: Final = Path("waveimport-demo")
SAMPLE: Final = (
    "SELECT c.companyname, COUNT(*) AS lines, ROUND(SUM(l.netamount), 2) AS amount"
    ' FROM salesorderline l JOIN salesorder o ON o.id = l."transaction" JOIN customer c ON c.id = o.entity'
    " GROUP BY c.id ORDER BY amount DESC LIMIT 5"
)


@click.command()
@click.option("--scale", type=click.FloatRange(0.001, 100), default=0.01, show_default=True,
              help="TPC-H scale: at 0.01, 15,000 orders and 60,175 lines.")  # fmt: skip
@click.option("--keep", type=click.Path(file_okay=False, path_type=Path), metavar="DIR", default=DEFAULT_FOLDER,
              show_default=True, help="The folder for the configuration, the account and the database.")  # fmt: skip
@click.option("--no-progress", is_flag=True, help="No progress bars.")
@click.pass_obj
def command(app: App, scale: float, keep: Path, no_progress: bool) -> int:
    """Import a simulated NetSuite account into SQLite: the whole way, over real HTTP, with nothing to set up.

    The account is served by a process of its own while the demo runs. Everything stays in one folder, to look at. A
    demo that was stopped is gone on with by the next; after a finished one the next imports anew.
    """
    from waveimport.cli.demo_account import DemoAccount
    from waveimport.cli.demo_folder import DemoFolder
    from waveimport.runtime.stop import StopSwitch
    from waveimport.simulator.handle import records_toml

    # A terminal that is closed sends SIGHUP, which would leave the account running without anybody to stop it; under
    # nohup it is ignored, and stays so.
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
    folder = DemoFolder(keep)
    folder.claim(scale, records_toml())
    with DemoAccount(folder.data, scale, port=folder.port, quiet=app.verbosity < 0) as account:
        folder.configure(account.reached_by)
        app.config = folder.config
        settings = app.settings(secrets=True)
        if app.verbosity >= 0:
            click.echo(f"importing from {account.reached_by['base_url']} into {folder.database}", err=True)
        switch = StopSwitch()
        with _listening(switch, account):
            result = _import(app, settings, switch, bars=not no_progress and app.verbosity >= 0)
    return _tell(app, settings, folder, result)


@contextmanager
def _listening(switch: "StopSwitch", account: "DemoAccount") -> Iterator[None]:
    """Have a signal end the import in order, a second one everything at once; the account never stays behind."""
    from waveimport.runtime.coordinator import Stop

    ways = {
        signal.SIGINT: (Stop.INTERRUPTED, ExitCode.INTERRUPTED),
        signal.SIGTERM: (Stop.TERMINATED, ExitCode.TERMINATED),
    }
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ways[signal.SIGHUP] = ways[signal.SIGTERM]
    heard: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        stop, code = ways[signal.Signals(number)]
        if heard:
            account.kill()
            os._exit(code)
        heard.append(number)
        switch(stop)

    before = {number: signal.signal(number, handler) for number in ways}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)


def _import(app: App, settings: "Settings", switch: "StopSwitch", *, bars: bool) -> "RunResult":
    from waveimport.cli.watch import Watcher
    from waveimport.core.waves import Trigger
    from waveimport.runtime.importer import run_import
    from waveimport.runtime.options import RunOptions

    options = RunOptions(trigger=Trigger.MANUAL if sys.stdin.isatty() else Trigger.CRON)
    with Watcher(settings, bars=bars) as watcher:

        def attempt() -> "RunResult":
            return run_import(settings, options, switch=switch, on_turn=watcher)

        try:
            return attempt()
        except ConfigChanged:
            # An earlier demo was killed and its port is taken: its job is bound to an address that is no more.
            _give_up_unfinished(app, settings)
            return attempt()


def _give_up_unfinished(app: App, settings: "Settings") -> None:
    from waveimport.cli.reading import find_job, open_for_reading
    from waveimport.core.waves import Trigger
    from waveimport.runtime.cancel import cancel_import

    with open_for_reading(settings) as database:
        unfinished = find_job(database, settings, None)
    assert unfinished is not None, "a job refused the configuration, so there is one"
    cancel_import(settings, unfinished, trigger=Trigger.MANUAL)
    if app.verbosity >= 0:
        click.echo(f"{unfinished} was begun under another configuration: cancelled, a new job begins", err=True)


def _tell(app: App, settings: "Settings", folder: "DemoFolder", result: "RunResult") -> int:
    """Print how it ended, the status, and what to look at next."""
    from waveimport.cli.job_lines import job_lines
    from waveimport.cli.reading import look, open_for_reading
    from waveimport.cli.render import Screen, folded

    if result.error is not None:
        click.echo(app.scrub(result.error.render()), err=True)
    if result.message is not None and app.verbosity >= 0:
        click.echo(result.message, err=True)
    if result.job_id is not None and app.verbosity >= 0:
        with open_for_reading(settings) as database:
            if database is not None:
                for line in folded(job_lines(*look(database, settings, result.job_id)), Screen.of_stdout()):
                    click.echo(line)
        for line in _next_steps(folder, result.job_id, done=result.exit_code is ExitCode.OK):
            click.echo(line)
    return int(result.exit_code)


def _next_steps(folder: "DemoFolder", job_id: str, *, done: bool) -> Iterator[str]:
    waveimport = f"waveimport --config {shlex.quote(str(folder.config))}"
    yield ""
    if not done:
        yield "`waveimport demo` again goes on where this one was"
        yield ""
    yield f"The rows are in {folder.database}, one table a record. Look at them:"
    yield f"  sqlite3 {shlex.quote(str(folder.database))} {shlex.quote(SAMPLE)}"
    yield "At the job, and at every decision that was taken for it:"
    yield f"  {waveimport} status"
    yield f"  {waveimport} replay {job_id}"
    yield f"At the configuration: {folder.config}. `waveimport init` writes one for an account of your own."
