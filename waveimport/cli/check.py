"""`waveimport check`: everything a run needs, tried one by one, each line with its mend."""

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import click

from waveimport.cli.app import App
from waveimport.errors import ExitCode, WaveImportError

if TYPE_CHECKING:
    from waveimport.runtime.checkup import Finding

_COLOURS: Final = {"ok": "green", "warn": "yellow", "fail": "red"}


@click.command()
@click.option("--data", is_flag=True, help="Compare the coordination tables with themselves and with the rows, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_obj
def command(app: App, data: bool, as_json: bool) -> int:
    """Check the configuration, the database, the lock directory, the credentials and the clocks.

    NetSuite is asked one query, even when it refused the credentials lately: once they are accepted, runs go on. The
    exit code is that of the first part that failed.
    """
    from dataclasses import asdict

    from waveimport.cli.render import print_json
    from waveimport.runtime.checkup import Level

    found: list[Finding] = []
    for finding in _findings(app, data):
        found.append(finding)
        if not as_json:
            for line in _lines(finding):
                click.echo(app.scrub(line))
    code = next((finding.exit_code for finding in found if finding.level is Level.FAIL), ExitCode.OK)
    if as_json:
        print_json(
            {
                "schema_version": 1,
                "ok": code is ExitCode.OK,
                "exit_code": int(code),
                "checks": [
                    {
                        key: app.scrub(value) if isinstance(value, str) else value
                        for key, value in asdict(finding).items()
                        if key != "exit_code"
                    }
                    for finding in found
                ],
            }
        )
    return code


def _findings(app: App, data: bool) -> "Iterator[Finding]":
    from waveimport.runtime.checkup import check_up, failures_of
    from waveimport.runtime.data_check import check_data

    try:
        settings = app.settings(secrets=True)
    except WaveImportError as error:
        yield from failures_of("configuration", error)
        return
    yield from check_up(settings)
    if data:
        yield from check_data(settings)


def _lines(finding: "Finding") -> Iterator[str]:
    level = f"{finding.level.value:<4}"
    if not os.environ.get("NO_COLOR"):
        level = click.style(level, fg=_COLOURS[finding.level.value])
    code = f" [{finding.code}]" if finding.code else ""
    yield f"{level}  {finding.part}: {finding.message}{code}"
    if finding.help:
        yield f"      help: {finding.help}"
