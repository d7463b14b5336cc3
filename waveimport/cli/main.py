"""The command `waveimport`: options before the command, and every way to end turned into one sentence and a code.

Click exits 1 on Ctrl-C, does not catch SIGTERM and prints usage errors in a form of its own; all three are done
here, so that cron lines and other programs can rely on the published exit codes.
"""

import gc
import signal
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

import click
from click.core import ParameterSource

from waveimport import __version__
from waveimport.cli.app import App
from waveimport.cli.lazy import LazyGroup, add_environment
from waveimport.cli.streams import tolerant_streams
from waveimport.errors import ExitCode, UsageError, WaveImportError
from waveimport.runtime.garbage import collected_rarely

TRACEBACK_VERBOSITY: Final = 2


class Terminated(SystemExit):
    """SIGTERM arrived: raised wherever the main thread is, so that `finally` blocks put things in order."""

    def __init__(self) -> None:
        super().__init__(int(ExitCode.TERMINATED))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: `waveimport help exit-codes`. An error's code: `waveimport explain CODE`.",
)
@click.version_option(__version__, "-V", "--version", prog_name="waveimport", message="%(prog)s %(version)s")
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Configuration.  [default: waveimport.toml]"
)
@click.option("-v", "--verbose", count=True, help="Say more; -vv shows tracebacks.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what is wrong.")
@click.option(
    "--log-format", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Form of log lines."
)
@click.pass_context
def command(ctx: click.Context, config: Path | None, verbose: int, quiet: bool, log_format: str) -> None:
    """Import a NetSuite account by SuiteQL into SQLite or MySQL, in waves of batches."""
    app = ctx.ensure_object(App)
    app.config = config
    app.verbosity = _verbosity(ctx, verbose, quiet)
    app.log_format = log_format
    # Logging costs more to import than all of click's help.
    from waveimport.cli.logs import configure_logging

    configure_logging(app.verbosity, log_format, app.scrub)


add_environment(command)


def _verbosity(ctx: click.Context, verbose: int, quiet: bool) -> int:
    """Return -1 for quiet, else the number of `-v`; a flag beats a variable, and two flags contradict."""
    if not (quiet and verbose):
        return -1 if quiet else verbose
    typed = {name for name in ("verbose", "quiet") if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if len(typed) != 1:
        raise click.UsageError("-v and -q contradict each other", ctx)
    return verbose if "verbose" in typed else -1


def run(arguments: Sequence[str], app: App | None = None) -> int:
    """Run one command line and return its exit code; every error has been told on stderr.

    A command returns an ExitCode, an int, or None for 0. SystemExit passes through.
    """
    app = app or App()
    try:
        result = command.main(args=list(arguments), prog_name="waveimport", standalone_mode=False, obj=app)
    except click.exceptions.NoArgsIsHelpError as error:
        # Click's own message is the whole help text.
        click.echo(error.format_message(), err=True)
        return ExitCode.USAGE
    except click.ClickException as error:
        return _tell(app, _usage_error(error))
    except WaveImportError as error:
        return _tell(app, error)
    except (click.Abort, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    except Exception as error:
        # Its text may quote a value or a URL, so it is shown only with the traceback, scrubbed.
        fault = WaveImportError(
            f"unexpected {type(error).__name__}, a fault of waveimport's own",
            help="run again with -vv to see where, and report it",
        )
        return _tell(app, fault, cause=error)
    return int(result) if isinstance(result, int) else ExitCode.OK


def _usage_error(error: click.ClickException) -> UsageError:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "waveimport"
    message = error.format_message().rstrip(".")
    return UsageError(message, help=f"`{path} --help` shows what fits")


def _tell(app: App, error: WaveImportError, cause: BaseException | None = None) -> int:
    if app.verbosity >= TRACEBACK_VERBOSITY:
        click.echo(app.scrub("".join(traceback.format_exception(cause or error)).rstrip()), err=True)
    click.echo(app.scrub(error.render()), err=True)
    return error.exit_code


def _on_sigterm(number: int, frame: FrameType | None) -> None:
    # A second SIGTERM leaves at once, whatever the tidying up is waiting for.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def main() -> NoReturn:
    """Entry point of the command `waveimport`."""
    signal.signal(signal.SIGTERM, _on_sigterm)
    with collected_rarely(), tolerant_streams():
        code = run(sys.argv[1:])
    # The interpreter looks through all there is for cycles as it ends, and the memory goes with the process anyway.
    gc.freeze()
    sys.exit(code)
