"""`waveimport simulate`: serves a simulated NetSuite account until it is stopped."""

import json
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import click

from waveimport.cli.app import App
from waveimport.cli.streams import reader_gone
from waveimport.errors import MissingExtra

if TYPE_CHECKING:
    from waveimport.simulator.handle import Simulator

_OF_DEMO = ("oauthlib", "sqlglot")


@click.command(name="simulate", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--scale", type=float, default=0.01, show_default=True, help="TPC-H scale: at 0.01, 15,000 orders.")
@click.option("--port", type=click.IntRange(0, 65535), default=8765, show_default=True, help="0 takes a free one.")
@click.option(
    "--data",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Keep the data in this file, and use it again when it is there; otherwise it is temporary.",
)
@click.option(
    "--faults",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A plan of faults, TOML or JSON: latency_seconds, slow_count_seconds, concurrency, hidden_tables, one_world, "
    "catalogue, suiteql, time_zone, date_format, [[fault]].",
)
@click.option("--json", "as_json", is_flag=True, help="Print address and credentials as one JSON object.")
@click.pass_obj
def command(app: App, scale: float, port: int, data: Path | None, faults: Path | None, as_json: bool) -> None:
    """Serve a simulated NetSuite account on 127.0.0.1, to try waveimport against.

    Its data is TPC-H in NetSuite's tables. Once it is ready, one line says how to reach it: the [netsuite] table of a
    configuration, its credentials good for nothing else: those of token-based authentication, and those of OAuth 2.0
    machine-to-machine, which take auth = "m2m" beside them. Ctrl-C ends it.
    """
    try:
        from waveimport.simulator import faults as fault_plans
        from waveimport.simulator.handle import Simulator
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in _OF_DEMO:
            raise
        raise MissingExtra(
            f"the simulated account needs {missing}, which is not installed", help="pip install 'waveimport[demo]'"
        ) from None

    def tell(step: str) -> None:
        if app.verbosity >= 0:
            click.echo(f"building the account at scale {scale:g}: {step}", err=True)

    plan = fault_plans.load(faults) if faults else None
    with Simulator(data=data, scale=scale, port=port, faults=plan, progress=tell) as simulator:
        click.echo(json.dumps(simulator.reached_by) if as_json else _ready_line(simulator))
        if reader_gone():
            # Nobody knows where it is served, nor will anybody end it.
            return
        # Until Ctrl-C or SIGTERM raises: both unwind through the block above, which takes the data away again.
        threading.Event().wait()


def _ready_line(simulator: "Simulator") -> str:
    """Return the one line of TOML that stands for the whole [netsuite] table."""
    # A JSON string without control characters is a TOML string too.
    return f"netsuite = {{ {', '.join(f'{k} = {json.dumps(v)}' for k, v in simulator.reached_by.items())} }}"
