"""`waveimport help` and `waveimport explain`: what the program can say about itself without a configuration."""

import inspect
from difflib import get_close_matches
from typing import Final

import click

from waveimport.errors import EXIT_CODES, UsageError, WaveImportError, all_errors

EXIT_CODES_TOPIC: Final = "exit-codes"


def _complete_topic(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    top = ctx.find_root()
    assert isinstance(top.command, click.Group), "the root of every call is the group of all commands"
    return [name for name in (*top.command.list_commands(top), EXIT_CODES_TOPIC) if name.startswith(incomplete)]


def _complete_code(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    return sorted(error.code for error in all_errors() if error.code.startswith(incomplete.upper()))


@click.command("help")
@click.argument("topic", required=False, shell_complete=_complete_topic)
@click.pass_context
def command(ctx: click.Context, topic: str | None) -> None:
    """Help on a command, or on a topic: `waveimport help exit-codes` lists what each exit code means."""
    top = ctx.find_root()
    if topic is None:
        click.echo(top.get_help())
    elif topic == EXIT_CODES_TOPIC:
        click.echo(exit_codes_text())
    else:
        click.echo(_help_of(top, topic))


def _help_of(top: click.Context, topic: str) -> str:
    group = top.command
    assert isinstance(group, click.Group), "the root of every call is the group of all commands"
    found = group.get_command(top, topic)
    if found is None:
        names = [*group.list_commands(top), EXIT_CODES_TOPIC]
        raise UsageError(f"no help on `{topic}`", help=_nearest(topic, names, "there is help on"))
    return found.get_help(click.Context(found, info_name=topic, parent=top))


def exit_codes_text() -> str:
    """Return the table of exit codes, one a line: the number, then its meaning."""
    return "\n".join(f"{int(code):>4}  {meaning}" for code, meaning in EXIT_CODES.items())


@click.command("explain")
@click.argument("code", required=False, shell_complete=_complete_code)
def explain(code: str | None) -> None:
    """Explain an error code such as WI-CFG-003; without one, list them all."""
    by_code = {error.code: error for error in all_errors()}
    if code is None:
        click.echo("\n".join(f"{known}  {_sentence(error)}" for known, error in sorted(by_code.items())))
        return
    error = by_code.get(code.upper())
    if error is None:
        raise UsageError(f"no error has the code `{code}`",
                         help=_nearest(code.upper(), sorted(by_code), "the codes are"))  # fmt: skip
    click.echo(f"{error.code}: {_meaning(error)}\n\nExit code {int(error.exit_code)}: {EXIT_CODES[error.exit_code]}.")


def _nearest(word: str, names: list[str], otherwise: str) -> str:
    close = get_close_matches(word, names, n=1)
    return f"did you mean `{close[0]}`?" if close else f"{otherwise}: {', '.join(names)}"


def _meaning(error: type[WaveImportError]) -> str:
    return " ".join((inspect.getdoc(error) or "").split())


def _sentence(error: type[WaveImportError]) -> str:
    """Return the meaning up to its first full stop or colon."""
    return _meaning(error).partition(". ")[0].partition(":")[0].rstrip(".")
