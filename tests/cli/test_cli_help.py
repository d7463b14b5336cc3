"""`waveimport help` and `explain`: every exit code and every error code can be looked up."""

import pytest

from waveimport.cli.main import run
from waveimport.errors import EXIT_CODES, ExitCode, all_errors


def test_help_exit_codes_lists_each_with_its_meaning(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "exit-codes"]) == ExitCode.OK
    lines = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    assert lines == [[str(int(code)), EXIT_CODES[code]] for code in ExitCode]


def test_help_on_a_command_is_its_own_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["init", "--help"]) == ExitCode.OK
    own = capsys.readouterr().out
    assert run(["help", "init"]) == ExitCode.OK
    assert capsys.readouterr().out == own
    assert own.startswith("Usage: waveimport init")


def test_help_on_nothing_known_names_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["help", "exit-code"]) == ExitCode.USAGE
    assert "did you mean `exit-codes`?" in capsys.readouterr().err


def test_explain_says_what_each_error_means_and_its_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    for error in all_errors():
        assert run(["explain", error.code]) == ExitCode.OK
        out = capsys.readouterr().out
        assert out.startswith(f"{error.code}: {' '.join((error.__doc__ or '').split())}")
        assert f"\nExit code {int(error.exit_code)}: " in out


def test_explain_takes_a_code_in_small_letters(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "wi-cfg-003"]) == ExitCode.OK
    assert capsys.readouterr().out.startswith("WI-CFG-003: ")


def test_explain_without_a_code_lists_them_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain"]) == ExitCode.OK
    listed = [line.split("  ")[0] for line in capsys.readouterr().out.splitlines()]
    assert listed == sorted(error.code for error in all_errors())


def test_an_unknown_code_is_a_usage_error_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["explain", "WI-CFG-03"]) == ExitCode.USAGE
    assert "no error has the code `WI-CFG-03`" in capsys.readouterr().err


def test_no_two_errors_share_a_code_and_none_is_without_a_meaning() -> None:
    errors = list(all_errors())
    assert len({error.code for error in errors}) == len(errors)
    assert all(error.__doc__ and error.exit_code in EXIT_CODES for error in errors)
