"""Completion: the scripts are those of the shells, and what they ask is answered fast and without a sentence."""

import os
import shutil
import subprocess
import sys

import pytest

from waveimport.cli.lazy import COMMANDS
from waveimport.cli.main import run
from waveimport.errors import ExitCode


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_script_is_printed_and_its_shell_takes_it(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", shell]) == ExitCode.OK
    script = capsys.readouterr().out
    assert f"_WAVEIMPORT_COMPLETE={shell}_complete" in script
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=script, text=True, check=True)


def test_another_shell_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["completion", "tcsh"]) == ExitCode.USAGE
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in capsys.readouterr().err


def asked(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """What a shell is offered for the last of `words`."""
    monkeypatch.setenv("_WAVEIMPORT_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(("waveimport", *words)))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    with pytest.raises(SystemExit):
        run([])
    out, err = capsys.readouterr()
    assert err == ""
    return [line.partition(",")[2] for line in out.splitlines() if line]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (("ru",), ["run"]),
        (("--log-format", ""), ["text", "json"]),
        (("completion", "f"), ["fish"]),
        (("run", "--trig"), ["--trigger"]),
        (("watermark", "s"), ["set", "show"]),
        (("help", "exit"), ["exit-codes"]),
        (("explain", "wi-use-00"), [f"WI-USE-00{number}" for number in range(1, 10)]),
        (("no-such", "x"), []),
    ],
)
def test_what_is_offered(
    words: tuple[str, ...], offered: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert asked(capsys, monkeypatch, *words) == offered


def test_commands_are_offered_without_importing_one() -> None:
    script = (
        "import sys\nfrom waveimport.cli.main import run\ntry:\n    run([])\nexcept SystemExit:\n    pass\n"
        "print('MODULES', sorted(name for name in sys.modules if name.startswith('waveimport.cli.')))"
    )
    environment = {
        **os.environ,
        "_WAVEIMPORT_COMPLETE": "bash_complete",
        "COMP_WORDS": "waveimport ",
        "COMP_CWORD": "1",
    }
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    *offered, modules = done.stdout.splitlines()
    assert [line.partition(",")[2] for line in offered] == list(COMMANDS)
    ours = {"app", "lazy", "main", "streams"}
    assert modules == f"MODULES {sorted(f'waveimport.cli.{name}' for name in ours)}"
