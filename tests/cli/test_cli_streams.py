"""A command's exit code is its own, whoever reads what it prints: nobody, a reader that left, a full device."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import World

from waveimport.errors import ExitCode
from waveimport.simulator.faults import Faults
from waveimport.simulator.handle import Simulator

PRINTING = """
import sys, types
import click
from waveimport.cli.lazy import COMMANDS
from waveimport.cli.main import main

@click.command()
@click.option("--length", default=10)
def command(length):
    input()
    click.echo("x" * length)
    click.echo("said on stderr", err=True)
    return 3

sys.modules["say"] = types.SimpleNamespace(command=command)
COMMANDS["say"] = ("say:command", "Say.")
sys.argv[1:] = ["say", *sys.argv[1:]]
main()
"""
"""Waits for a line, prints, and returns 3."""

LENGTHS = (10, 100_000)
"""What the stream's buffer keeps until the end, and what it does not."""


def through_a_shell(tail: str, *, length: int = 10, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the command with its streams as `tail` has them; the shell's stdout is the command's exit code."""
    return subprocess.run(
        ["bash", "-c", f'echo go | "$0" -c "$1" --length {length} {tail}', sys.executable, PRINTING],
        capture_output=True,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"} | environment,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("length", LENGTHS)
def test_a_reader_that_has_gone_leaves_the_exit_code_as_it_is_and_is_not_told_of(length: int) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", PRINTING, "--length", str(length)], stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert process.stderr.read() == b"said on stderr\n"
        assert process.wait(timeout=20) == ExitCode.INCOMPLETE


def test_a_reader_of_both_streams_that_has_gone_leaves_the_exit_code_as_it_is() -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", PRINTING], stdin=pipe, stdout=pipe, stderr=subprocess.STDOUT
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdout.close()
        process.stdin.write(b"go\n")
        process.stdin.close()
        assert process.wait(timeout=20) == ExitCode.INCOMPLETE


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize(("tail", "reason"), [(">/dev/full", "No space left"), (">&-", "Bad file descriptor")])
def test_results_that_cannot_be_written_are_told_in_a_sentence_beside_the_exit_code(
    tail: str, reason: str, length: int, unbuffered: str
) -> None:
    done = through_a_shell(tail, length=length, PYTHONUNBUFFERED=unbuffered)
    assert done.returncode == ExitCode.INCOMPLETE
    said = done.stderr.splitlines()
    assert said[0] == "said on stderr"
    assert len(said) == 2
    assert "could not be written to stdout" in said[1]
    assert reason in said[1]


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("length", LENGTHS)
def test_what_is_printed_arrives_whole(length: int, unbuffered: str) -> None:
    done = through_a_shell("", length=length, PYTHONUNBUFFERED=unbuffered)
    assert (done.returncode, done.stdout, done.stderr) == (3, "x" * length + "\n", "said on stderr\n")


@pytest.mark.parametrize("tail", [">/dev/full 2>&1", ">&- 2>&-", "2>&-", "2>/dev/full"])
def test_with_nowhere_to_complain_the_exit_code_still_says_it(tail: str) -> None:
    assert through_a_shell(tail).returncode == ExitCode.INCOMPLETE


def test_a_closed_descriptor_is_not_given_to_the_next_file_opened(tmp_path: Path) -> None:
    opened = tmp_path / "precious"
    script = (
        "import os, sys\nfrom waveimport.cli.streams import tolerant_streams\n"
        "with tolerant_streams():\n"
        f"    file = os.open({str(opened)!r}, os.O_CREAT | os.O_WRONLY)\n"
        "    print('results')\n    os.write(1, b'more')\n    assert file > 2, file\n    assert sys.stdin.read() == ''\n"
    )
    done = subprocess.run(["bash", "-c", '"$0" -c "$1" <&- >&- 2>&-', sys.executable, script], timeout=30, check=False)
    assert (done.returncode, opened.read_bytes()) == (0, b"")


def test_an_incomplete_run_says_so_to_a_script_that_reads_nothing(sqlite_world: World, account: Simulator) -> None:
    account.set_faults(Faults(hidden_tables=("customer",)))
    sqlite_world.configure(account.netsuite_toml())
    command = f'"$0" -m waveimport --config "{sqlite_world.config}"'
    for tail in ("run | true", "run >/dev/full", "run >&-", "run 2>&1 | true"):
        done = subprocess.run(
            ["bash", "-c", f"{command} {tail}; exit ${{PIPESTATUS[0]}}", sys.executable],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == ExitCode.INCOMPLETE, (tail, done.stderr)
        assert "unexpected" not in done.stderr


def test_a_status_that_is_watched_by_nobody_ends(sqlite_world: World, account: Simulator) -> None:
    sqlite_world.configure(account.netsuite_toml())
    # One second into the job, which is unfinished and stays so.
    account.set_faults(Faults(latency_seconds=0.5))
    assert sqlite_world.run_import(max_runtime_seconds=1.0).exit_code is ExitCode.PAUSED
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "waveimport", "--config", str(sqlite_world.config), "status", "--watch"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=30,
            check=False,
        )
    assert done.returncode == ExitCode.OK, done.stderr
