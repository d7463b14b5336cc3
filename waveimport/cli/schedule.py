"""`waveimport schedule`: the crontab line, or the systemd units, of this configuration."""

import os
import pwd
import re
import sys
from pathlib import Path
from typing import Final

import click

from waveimport.cli.app import App
from waveimport.cli.types import Duration

_USER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")
_NIGHT: Final = (2, 30)


class TimeOfDay(click.ParamType[tuple[int, int]]):
    """`02:30`: hour and minute."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Return (hour, minute). Fails with what a time of day looks like."""
        if isinstance(value, tuple):
            return value
        match = re.fullmatch(r"([01]?[0-9]|2[0-3]):([0-5][0-9])", str(value).strip())
        if match is None:
            self.fail(f"`{value}` is no time of day: write 02:30", param, ctx)
        return int(match[1]), int(match[2])


@click.command()
@click.argument("kind", type=click.Choice(["cron", "systemd"]))
@click.option("--every", type=Duration(), help="Time between two runs (15m, 1h, 1d).  [default: 15m, or 1d with --at]")
@click.option("--at", type=TimeOfDay(), help="Once a day, at this time.  [default: 02:30 with --every 1d]")
@click.option("--user", metavar="NAME", help="Who runs it: makes the crontab line one for /etc/cron.d.")
@click.option(
    "--environment-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Where the variables are given.  [default: waveimport.env beside the configuration]",
)
@click.option("--max-runtime", type=Duration(), help="As for `run`: pause after this long.")
@click.option("--unit", type=click.Choice(["service", "timer"]), help="Only this unit of systemd.")
@click.pass_obj
def command(
    app: App,
    kind: str,
    every: float | None,
    at: tuple[int, int] | None,
    user: str | None,
    environment_file: Path | None,
    max_runtime: float | None,
    unit: str | None,
) -> None:
    """Print what has cron or systemd run this configuration: a crontab line, or a service and its timer.

    All paths in it are absolute. The variables that the configuration reads are named, never their values: they come
    from --environment-file. Nothing is installed.
    """
    from waveimport.core.schedule import DAY, HOUR, Times, check_times, crontab, service_unit, timer_unit
    from waveimport.runtime.scheduling import scheduled_job

    every = every or (HOUR / 4 if at is None else DAY)
    if at is not None and every != DAY:
        raise click.UsageError("--at is the time of the one run of a day: leave --every out, or give it as 1d")
    if user is not None and not _USER.fullmatch(user):
        raise click.UsageError(f"`{user}` is no name of a user")
    if unit is not None and kind != "systemd":
        raise click.UsageError("--unit is for systemd: cron has no units")
    times = Times(every, *(at or _NIGHT))
    check_times(times)
    options = () if max_runtime is None else ("--max-runtime", f"{max_runtime:.3f}".rstrip("0").rstrip(".") + "s")
    job = scheduled_job(
        app.config,
        os.environ,
        _program(),
        options,
        user=user or (_me() if kind == "systemd" else None),
        environment_file=environment_file,
    )
    if kind == "cron":
        click.echo(crontab(job, times), nl=False)
        return
    units = {"service": service_unit(job), "timer": timer_unit(job, times)}
    click.echo("\n".join(text for name, text in units.items() if unit in (None, name)), nl=False)


def _program() -> tuple[str, ...]:
    """Return how this very installation is started, by absolute paths: its script, else its interpreter."""
    interpreter = Path(sys.executable).absolute()
    script = interpreter.with_name("waveimport")
    return (str(script),) if os.access(script, os.X_OK) else (str(interpreter), "-m", "waveimport")


def _me() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
