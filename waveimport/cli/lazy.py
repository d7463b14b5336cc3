"""Commands by name, imported only when called: `--help` must not wait for a database toolkit.

Also the one place that gives each option its environment variable, so that no command can forget it.
"""

from difflib import get_close_matches
from importlib import import_module
from typing import Final

import click
from click.shell_completion import CompletionItem

COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("waveimport.cli.init:command", "Write a commented starter configuration."),
    "discover": ("waveimport.cli.discover:command", "Show what the account has, as records to paste."),
    "check": ("waveimport.cli.check:command", "Check configuration, database, credentials and clock."),
    "config": ("waveimport.cli.config:command", "Show the configuration and where each value comes from."),
    "plan": ("waveimport.cli.plan:command", "Show what a run would do; writes nothing."),
    "run": ("waveimport.cli.run:command", "Import: resume the unfinished job, or create one."),
    "status": ("waveimport.cli.status:command", "Show a job, its waves, batches and alerts."),
    "replay": ("waveimport.cli.replay:command", "Fold the journal again and show each decision."),
    "bundle": ("waveimport.cli.bundle:command", "Put a job into one file for support, without row data."),
    "report": ("waveimport.cli.report:command", "Write a job as one HTML page."),
    "jobs": ("waveimport.cli.jobs:command", "List past and present jobs."),
    "cancel": ("waveimport.cli.cancel:command", "End an unfinished job."),
    "skip": ("waveimport.cli.skip:command", "Write a failed batch off."),
    "watermark": ("waveimport.cli.watermark:command", "Show or change from when on changes are read."),
    "prune": ("waveimport.cli.prune:command", "Delete old jobs and their journals."),
    "schedule": ("waveimport.cli.schedule:command", "Print a crontab line, or systemd units, for this configuration."),
    "simulate": ("waveimport.cli.simulate:command", "Serve a simulated NetSuite account on this machine."),
    "demo": ("waveimport.cli.demo:command", "Import a simulated account into SQLite, from start to end."),
    "db": ("waveimport.cli.db:command", "Create or migrate the tables; print their DDL."),
    "completion": ("waveimport.cli.completion:command", "Print a script that completes commands by Tab."),
    "help": ("waveimport.cli.help:command", "Help on a command, or on `exit-codes`."),
    "explain": ("waveimport.cli.help:explain", "Explain an error code such as WI-CFG-003."),
}
"""Name of each command: where it is (module:attribute), and its line in `--help`."""


class LazyGroup(click.Group):
    """The top command: lists its commands from a table and imports one only to run it."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in the order in which a new user meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return a command, its options tied to the environment; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command = getattr(import_module(module), attribute)
        assert isinstance(command, click.Command)
        add_environment(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with. Raises click.UsageError with the nearest name if there is none."""
        # A shell that completes a word wants no sentence about an earlier one.
        if args and args[0] not in COMMANDS and not args[0].startswith("-") and not ctx.resilient_parsing:
            close = get_close_matches(args[0], list(COMMANDS), n=1)
            mend = f"did you mean `{close[0]}`?" if close else f"the commands are: {', '.join(COMMANDS)}"
            raise click.UsageError(f"no command `{args[0]}`; {mend}", ctx)
        return super().resolve_command(ctx, args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with `incomplete`, without importing any command."""
        names = [CompletionItem(name, help=line) for name, (_, line) in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table of commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


def add_environment(command: click.Command) -> None:
    """Give each option without a variable of its own `WAVEIMPORT_<OPTION>`, the same for every command.

    The variable is named after the long option and shown in help. `--help` and `--version` have none.
    """
    for option in command.params:
        if isinstance(option, click.Option) and option.envvar is None and not option.is_eager:
            option.envvar = f"WAVEIMPORT_{_long_name(option)}"
            option.show_envvar = True
    if isinstance(command, click.Group):
        for inner in command.commands.values():
            add_environment(inner)


def _long_name(option: click.Option) -> str:
    written = [name for name in option.opts if name.startswith("--")] or [f"--{option.name}"]
    return written[0][2:].replace("-", "_").upper()
