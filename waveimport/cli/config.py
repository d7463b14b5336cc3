"""`waveimport config show`: what is configured, and which line, variable or option says so."""

import json
import os
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from waveimport.cli.app import App

if TYPE_CHECKING:
    from waveimport.runtime.shown_config import ShownConfig, ShownKey


@click.group()
def command() -> None:
    """Show the configuration that is in force."""


@command.command()
@click.option("--workers", type=click.IntRange(1, 64), help="As for `run`: overrides the file.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document on stdout.")
@click.pass_context
def show(ctx: click.Context, workers: int | None, as_json: bool) -> None:
    """Show every key with its value and where that comes from: option, variable, line of the file, or default.

    Secrets are shown as ***, those inside URLs too; a ${NAME} is shown as it is written. No variable needs to be set.
    """
    app: App = ctx.obj
    from waveimport.cli.render import print_json
    from waveimport.runtime.shown_config import Origin, ShownKey, show_config

    overrides = {}
    if workers is not None:
        typed = ctx.get_parameter_source("workers") is ParameterSource.COMMANDLINE
        origin, where = (Origin.FLAG, "--workers") if typed else (Origin.ENVIRONMENT, "WAVEIMPORT_WORKERS")
        overrides["run.workers"] = ShownKey("run.workers", workers, origin, where)
    shown = show_config(app.config, os.environ, overrides)
    named_by = _named_by(ctx)
    if as_json:
        print_json(_document(shown, named_by))
        return
    for line in _lines(shown, named_by):
        click.echo(line)


def _named_by(ctx: click.Context) -> str:
    match ctx.find_root().get_parameter_source("config"):
        case ParameterSource.COMMANDLINE:
            return "--config"
        case ParameterSource.ENVIRONMENT:
            return "WAVEIMPORT_CONFIG"
        case _:
            return "default"


def _lines(shown: "ShownConfig", named_by: str) -> list[str]:
    from waveimport.cli.render import table

    lines = [f"{shown.path} ({named_by})", ""]
    given = [key for key in shown.keys if key.value is not None]
    lines += table([["KEY", "VALUE", "FROM"], *([key.key, _written(key), key.where or "default"] for key in given)])
    unset = [key.key for key in shown.keys if key.value is None]
    lines += ["", f"not set: {', '.join(unset)}"]
    if not shown.records:
        return [*lines, "", "no record is configured: `waveimport discover` prints what the account has"]
    head = ["RECORD", "TABLE", "KEY", "CURSOR", "DERIVED FROM", "COLUMNS", "FROM"]
    rows = [
        [
            one.settings.name,
            one.settings.table,
            ", ".join(one.settings.key),
            one.settings.cursor or "-",
            one.settings.derived_from or "-",
            str(len(one.settings.columns)),
            one.where,
        ]
        for one in shown.records
    ]
    return [*lines, "", *table([head, *rows], right=frozenset({5}))]


def _written(key: "ShownKey") -> str:
    return json.dumps(key.value, ensure_ascii=False)


def _document(shown: "ShownConfig", named_by: str) -> dict[str, Any]:
    return {
        "schema_version": 1,
        "file": shown.path,
        "named_by": named_by,
        "keys": [
            {"key": key.key, "value": key.value, "origin": key.origin.value, "where": key.where} for key in shown.keys
        ],
        "records": [
            {
                "record": one.settings.name,
                "table": one.settings.table,
                "table_name": one.settings.table_name,
                "key": list(one.settings.key),
                "cursor": one.settings.cursor,
                "derived_from": one.settings.derived_from,
                "columns": len(one.settings.columns),
                "where": one.where,
            }
            for one in shown.records
        ],
    }
