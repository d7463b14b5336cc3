"""The frame of the command line: options, environment, and each way to end with its sentence and exit code."""

import json
import logging
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import click
import pytest

from waveimport.cli.app import App
from waveimport.cli.lazy import COMMANDS, add_environment
from waveimport.cli.main import command as top
from waveimport.cli.main import run
from waveimport.errors import ConfigMissing, ExitCode, SourceDown

CANARY = "canary-c0de"

Register = Callable[[click.Command], None]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No variable of the machine decides a test, and logging is left as it was."""
    for option in ("CONFIG", "VERBOSE", "QUIET", "LOG_FORMAT", "JSON"):
        monkeypatch.delenv(f"WAVEIMPORT_{option}", raising=False)
    root, ours = logging.getLogger(), logging.getLogger("waveimport")
    before = (list(root.handlers), root.level, ours.level)
    yield
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Register:
    """Add a command to the table, as a module of its own would."""

    def add(command: click.Command) -> None:
        module = ModuleType(f"extra_{command.name}")
        module.command = command
        monkeypatch.setitem(sys.modules, module.__name__, module)
        monkeypatch.setitem(COMMANDS, str(command.name), (f"{module.__name__}:command", "Extra."))

    return add


def register_raising(register: Register, error: BaseException) -> None:
    @click.command("boom")
    def boom() -> None:
        raise error

    register(boom)


# --- help -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"]])
def test_help_lists_every_command_and_imports_no_heavy_library(arguments: list[str]) -> None:
    script = (
        "import sys\nfrom waveimport.cli.main import run\n"
        f"code = run({arguments!r})\n"
        "heavy = {'rich', 'sqlalchemy', 'requests', 'alembic', 'pymysql', 'tomlkit', 'msgspec', 'jinja2',"
        " 'structlog', 'opentelemetry'}\n"
        "heavy &= set(sys.modules)\n"
        "print('HEAVY', sorted(heavy), 'CODE', int(code))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.endswith("HEAVY [] CODE 0\n")
    for name in COMMANDS:
        assert re.search(rf"^  {name} +\S", done.stdout, re.MULTILINE), name


def test_status_of_a_sqlite_file_starts_without_what_only_others_need() -> None:
    """Start-up is most of the time of `status`: the driver of the other database alone is an eighth of it."""
    script = (
        "import sys\nimport waveimport.cli.status, waveimport.cli.reading, waveimport.cli.job_lines\n"
        "import waveimport.runtime.config, waveimport.store.progress, waveimport.store.schema\n"
        "heavy = {'rich', 'requests', 'alembic', 'pymysql', 'jinja2', 'jwt', 'cryptography', 'prometheus_client',"
        " 'tenacity', 'filelock', 'waveimport.core.why', 'waveimport.store.destination'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_no_command_is_a_usage_error_that_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert "Commands:" in err


@pytest.mark.parametrize("flag", ["-V", "--version"])
def test_the_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str], flag: str) -> None:
    assert run([flag]) == ExitCode.OK
    assert capsys.readouterr().out == f"waveimport {version('waveimport')}\n"


def test_python_m_waveimport_is_the_same_command() -> None:
    done = subprocess.run([sys.executable, "-m", "waveimport", "-V"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"waveimport {version('waveimport')}\n")


# --- options and environment ------------------------------------------------------------------------------------


def test_every_option_has_its_variable_and_help_shows_it(
    register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command("extra")
    @click.option("--as-json", "--json", "-j", "some_name", is_flag=True)
    @click.option("--max-runtime")
    @click.option("--own", envvar="OTHER")
    def extra(some_name: bool, max_runtime: str, own: str) -> None: ...

    register(extra)
    assert run(["extra", "-h"]) == ExitCode.OK
    out = capsys.readouterr().out
    assert "WAVEIMPORT_AS_JSON" in out
    assert "WAVEIMPORT_MAX_RUNTIME" in out
    assert "WAVEIMPORT_OWN" not in out
    assert "WAVEIMPORT_HELP" not in out


def test_the_options_of_subcommands_have_variables_without_the_names_of_groups() -> None:
    @click.group("outer")
    def outer() -> None: ...

    @outer.command("inner")
    @click.option("--dialect")
    def inner(dialect: str) -> None: ...

    add_environment(outer)
    assert [option.envvar for option in inner.params if isinstance(option, click.Option)] == ["WAVEIMPORT_DIALECT"]


def test_every_own_option_of_the_program_has_a_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == ExitCode.OK
    out = capsys.readouterr().out
    for name in ("CONFIG", "VERBOSE", "QUIET", "LOG_FORMAT"):
        assert f"WAVEIMPORT_{name}" in out
    assert "WAVEIMPORT_VERSION" not in out


@pytest.mark.parametrize(
    ("arguments", "environment", "seen"),
    [
        ([], {}, (None, 0, "text")),
        (["--config", "f.toml"], {"WAVEIMPORT_CONFIG": "e.toml"}, ("f.toml", 0, "text")),
        ([], {"WAVEIMPORT_CONFIG": "e.toml", "WAVEIMPORT_LOG_FORMAT": "json"}, ("e.toml", 0, "json")),
        (["--log-format", "text"], {"WAVEIMPORT_LOG_FORMAT": "json"}, (None, 0, "text")),
        (["-v"], {}, (None, 1, "text")),
        (["-vv"], {}, (None, 2, "text")),
        (["-q"], {}, (None, -1, "text")),
        ([], {"WAVEIMPORT_VERBOSE": "2"}, (None, 2, "text")),
        ([], {"WAVEIMPORT_QUIET": "1"}, (None, -1, "text")),
        (["-v"], {"WAVEIMPORT_QUIET": "1"}, (None, 1, "text")),
        (["-q"], {"WAVEIMPORT_VERBOSE": "1"}, (None, -1, "text")),
    ],
)
def test_a_flag_beats_the_environment_and_the_environment_the_default(
    register: Register, monkeypatch: pytest.MonkeyPatch, arguments: list[str], environment: dict[str, str],
    seen: tuple[str | None, int, str],
) -> None:  # fmt: skip
    got: list[App] = []

    @click.command("extra")
    @click.pass_obj
    def extra(app: App) -> None:
        got.append(app)

    register(extra)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert run([*arguments, "extra"]) == ExitCode.OK
    assert (got[0].config and str(got[0].config), got[0].verbosity, got[0].log_format) == seen


# --- ways to end ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (ExitCode.PAUSED, 7), (3, 3)])
def test_what_a_command_returns_is_the_exit_code(register: Register, returned: int | None, code: int) -> None:
    @click.command("extra")
    def extra() -> int | None:
        return returned

    register(extra)
    assert run(["extra"]) == code


def test_an_error_is_told_in_its_form_with_its_code_and_without_traceback(
    register: Register, capsys: pytest.CaptureFixture[str]
) -> None:
    register_raising(register, SourceDown("no answer", where="example.com", help="wait"))
    assert run(["boom"]) == ExitCode.UNREACHABLE
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "error[WI-SRC-002]: no answer\n  where: example.com\n  help:  wait\n"


def test_vv_shows_the_traceback_before_the_error(register: Register, capsys: pytest.CaptureFixture[str]) -> None:
    register_raising(register, SourceDown("no answer"))
    assert run(["-vv", "boom"]) == ExitCode.UNREACHABLE
    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.endswith("error[WI-SRC-002]: no answer\n")


def test_an_unforeseen_fault_is_one_sentence_and_exit_1(register: Register, capsys: pytest.CaptureFixture[str]) -> None:
    register_raising(register, KeyError(CANARY))
    assert run(["boom"]) == ExitCode.FAULT
    err = capsys.readouterr().err
    assert err.startswith("error[WI-INT-001]: unexpected KeyError")
    assert "-vv" in err
    assert CANARY not in err
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("arguments", "sentence", "mend"),
    [
        (["rnu"], "no command `rnu`; did you mean `run`?", "`waveimport --help`"),
        (["zzz"], "no command `zzz`; the commands are: init, discover, check", "`waveimport --help`"),
        (["--confg", "x", "run"], "No such option", "`waveimport --help`"),
        (["-v", "-q", "help"], "-v and -q contradict each other", "`waveimport --help`"),
        (["--log-format", "xml", "help"], "'xml' is not one of", "`waveimport --help`"),
        (["help", "--nix"], "No such option", "`waveimport help --help`"),
        (["explain", "a", "b"], "unexpected extra argument", "`waveimport explain --help`"),
    ],
)
def test_a_usage_error_has_the_form_of_every_error(
    capsys: pytest.CaptureFixture[str], arguments: list[str], sentence: str, mend: str
) -> None:
    assert run(arguments) == ExitCode.USAGE
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error[WI-USE-001]: ")
    assert sentence in err
    assert mend in err


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_ctrl_c_is_130(register: Register, error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    register_raising(register, error)
    assert run(["boom"]) == ExitCode.INTERRUPTED
    assert "Traceback" not in capsys.readouterr().err


BLOCKING = """
import signal, sys, types
import click
from waveimport.cli.lazy import COMMANDS
from waveimport.cli.main import main

@click.command("block")
def command():
    try:
        print("ready", flush=True)
        signal.pause()
    finally:
        print("tidied", flush=True)
        if "twice" in sys.argv[0]:
            signal.pause()

sys.modules["block"] = types.SimpleNamespace(command=command)
COMMANDS["block"] = ("block:command", "Block.")
sys.argv = [sys.argv[1], "block"]
main()
"""


def start_blocking(word: str) -> "subprocess.Popen[str]":
    process = subprocess.Popen([sys.executable, "-c", BLOCKING, word], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True)  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, ExitCode.TERMINATED), (signal.SIGINT, ExitCode.INTERRUPTED)]
)
def test_a_signal_tidies_up_and_has_its_exit_code(number: signal.Signals, code: ExitCode) -> None:
    process = start_blocking("once")
    process.send_signal(number)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (code, "tidied\n")
    assert "Traceback" not in err


def test_a_second_sigterm_leaves_at_once() -> None:
    process = start_blocking("twice")
    assert process.stdout is not None
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "tidied\n"
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("argument", ["explain", "--help", "help"])
def test_a_reader_who_stops_early_is_no_fault(argument: str) -> None:
    script = f"import sys\nfrom waveimport.cli.main import main\ninput()\nsys.argv[1:] = [{argument!r}]\nmain()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=20) == ExitCode.OK


# --- settings and secrets ---------------------------------------------------------------------------------------

CONFIG = """\
[database]
url = "mysql://u:${PW}@h/d"
[netsuite]
account = "1"
consumer_key = "k"
consumer_secret = "${SECRET}"
token_id = "t"
token_secret_file = "token"
[records.customer]
columns = ["id"]
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "w.toml"
    path.write_text(CONFIG)
    (tmp_path / "token").write_text("tok-canary\n")
    (tmp_path / "token").chmod(0o644)
    monkeypatch.setenv("PW", "pass/canary")
    monkeypatch.setenv("SECRET", CANARY)
    return path


def test_a_command_gets_the_settings_and_stderr_the_warnings(
    register: Register, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command("extra")
    @click.pass_obj
    def extra(app: App) -> None:
        click.echo(app.settings(secrets=True).netsuite.token_id)

    register(extra)
    assert run(["--config", str(config), "extra"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert out == "t\n"
    assert err.startswith("warning: the secret file")
    assert run(["-q", "--config", str(config), "extra"]) == ExitCode.OK
    assert capsys.readouterr().err == ""


def test_no_secret_comes_out_whatever_happens(
    register: Register, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command("extra")
    @click.pass_obj
    def extra(app: App) -> None:
        settings = app.settings(secrets=True)
        log = logging.getLogger("waveimport.extra")
        words = f"{settings.netsuite} {settings.netsuite.consumer_secret} {settings.netsuite.token_secret}"
        log.warning("%s", words)
        try:
            raise ValueError(settings.database.url)
        except ValueError as error:
            log.exception("failed")
            raise SourceDown(f"cannot reach {settings.database.url}, pass/canary", help=words) from error

    register(extra)
    for form in ("text", "json"):
        assert run(["-vv", "--log-format", form, "--config", str(config), "extra"]) == ExitCode.UNREACHABLE
        out, err = capsys.readouterr()
        assert "canary" not in out + err
        assert "u:***@h" in err


def test_a_configuration_mistake_is_exit_2_with_its_place(
    register: Register, config: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command("extra")
    @click.pass_obj
    def extra(app: App) -> None:
        app.settings(secrets=False)

    register(extra)
    config.write_text(CONFIG.replace("token_id", "token_ident"))
    assert run(["--config", str(config), "extra"]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert f"where: {config}:7" in err
    assert "did you mean" in err
    register_raising(register, ConfigMissing("x"))
    assert run(["boom"]) == ExitCode.USAGE


# --- logging ----------------------------------------------------------------------------------------------------


def register_logging(register: Register) -> None:
    @click.command("extra")
    def extra() -> None:
        log = logging.getLogger("waveimport.extra")
        log.debug("fine")
        log.info("batch %d", 7)
        log.warning("late")
        logging.getLogger("oauthlib").debug("signature canary")
        logging.getLogger("alembic").info("other")

    register(extra)


@pytest.mark.parametrize(
    ("flags", "levels"),
    [
        (["-q"], ["WARNING late"]),
        ([], ["INFO batch 7", "WARNING late"]),
        (["-v"], ["DEBUG fine", "INFO batch 7", "WARNING late"]),
        (["-vv"], ["DEBUG fine", "INFO batch 7", "WARNING late"]),
    ],
)
def test_v_and_q_choose_what_is_logged_and_only_of_ours(
    register: Register, capsys: pytest.CaptureFixture[str], flags: list[str], levels: list[str]
) -> None:
    register_logging(register)
    assert run([*flags, "extra"]) == ExitCode.OK
    out, err = capsys.readouterr()
    assert out == ""
    lines = [line.split(" ", 1) for line in err.splitlines()]
    assert [rest for _, rest in lines] == levels
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", at) for at, _ in lines)


def test_a_json_log_is_one_object_a_line(register: Register, capsys: pytest.CaptureFixture[str]) -> None:
    register_logging(register)
    assert run(["--log-format", "json", "extra"]) == ExitCode.OK
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["level"], line["message"], line["logger"]) for line in lines] == [
        ("INFO", "batch 7", "waveimport.extra"), ("WARNING", "late", "waveimport.extra"),
    ]  # fmt: skip
    assert {"time", "level", "logger", "message"} == set(lines[0])


def test_log_times_are_utc(monkeypatch: pytest.MonkeyPatch) -> None:
    from waveimport.cli.logs import _Lines

    record = logging.makeLogRecord({"msg": "x", "created": 0.0, "levelname": "INFO"})
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert _Lines("text", str).format(record) == "1970-01-01T00:00:00Z INFO x"
    finally:
        monkeypatch.undo()
        time.tzset()


def test_the_top_command_is_a_group_of_the_listed_commands() -> None:
    assert isinstance(top, click.Group)
    assert top.list_commands(click.Context(top)) == list(COMMANDS)
