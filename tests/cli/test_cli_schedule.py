"""`waveimport schedule`: what it prints starts this configuration, however its paths are spelt; examples/ are such."""

import dataclasses
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from cli_world import RECORDS, World

from waveimport.core.schedule import DAY, MINUTE, Job, Times, crontab, service_unit, timer_unit
from waveimport.errors import ExitCode
from waveimport.runtime.scheduling import scheduled_job

EXAMPLES = Path(__file__).parents[2] / "examples"
ODD = "a b'c %d $e \"f"
NETSUITE = """
[netsuite]
account = "1234567_SB1"
consumer_key = "${SECRET_ONE}"
consumer_secret = "${SECRET_TWO}"
token_id = "${SECRET_ONE}"
token_secret = "${SECRET_THREE}"
client_id = "${OF_THE_OTHER_WAY}"
"""


def lines_of(text: str) -> list[str]:
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.fixture
def odd(sqlite_world: World) -> World:
    """A configuration and its variables in a folder whose name every reader reads in its own way."""
    folder = sqlite_world.folder / ODD
    folder.mkdir()
    sqlite_world.configure(NETSUITE, url="sqlite:///data.db")
    sqlite_world.config = sqlite_world.config.rename(folder / "x.toml")
    return sqlite_world


def program(folder: Path) -> Path:
    """A program that prints its words and two variables."""
    path = folder / "tell"
    path.write_text(
        f"#!{sys.executable}\nimport json, os, sys\n"
        "print(json.dumps([sys.argv[1:], os.environ.get('SECRET_ONE'), os.environ.get('SECRET_TWO')]))\n"
    )
    path.chmod(0o700)
    return path


def test_the_crontab_line_starts_it_with_its_variables(odd: World) -> None:
    folder = odd.config.parent
    (folder / "waveimport.env").write_text("SECRET_ONE='one %'\nSECRET_TWO=two\n")
    job = scheduled_job(
        odd.config, {}, [str(program(folder))], ["--max-runtime", "9s"], user=None, environment_file=None
    )
    (line,) = lines_of(crontab(job, Times(15 * MINUTE)))
    *times, command = line.split(" ", 5)
    assert times == ["*/15", "*", "*", "*", "*"]
    assert re.search(r"(?<!\\)%", command) is None, "cron would end the command here"
    done = subprocess.run(
        ["/bin/sh", "-c", command.replace(r"\%", "%")], capture_output=True, text=True, check=True, cwd="/", env={}
    )
    words = ["--config", str(odd.config), "run", "--trigger", "cron", "--max-runtime", "9s"]
    assert json.loads(done.stdout) == [words, "one %", "two"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze")
def test_systemd_takes_the_units(odd: World, tmp_path: Path) -> None:
    folder = tmp_path / "of $a program 5%h"
    folder.mkdir()
    tell = program(folder)
    job = scheduled_job(odd.config, {}, [str(tell)], [], user="root", environment_file=None)
    files = [str(tmp_path / f"waveimport.{kind}") for kind in ("timer", "service")]

    def verify() -> str:
        for path, text in zip(files, (timer_unit(job, Times(DAY, 2, 30)), service_unit(job)), strict=True):
            Path(path).write_text(text)
        words = ["systemd-analyze", "verify", "--man=no", *files]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        return "\n".join(line for line in done.stderr.splitlines() if "waveimport." in line)

    assert verify() == ""
    job = dataclasses.replace(job, command=[str(program(odd.config.parent)), *job.command[1:]])
    assert 'ExecStart=/usr/bin/env "' in service_unit(job)
    assert verify() == ""
    job = dataclasses.replace(job, command=[str(tell), *job.command[1:]])
    tell.unlink()
    assert f"{tell} is not executable" in verify(), "it has read the path as it is"


@pytest.mark.parametrize(
    ("times", "cron", "systemd"),
    [
        (Times(MINUTE), "* * * * *", "*-*-* *:00/1:00"),
        (Times(15 * MINUTE), "*/15 * * * *", "*-*-* *:00/15:00"),
        (Times(60 * MINUTE), "0 * * * *", "*-*-* 00/1:00:00"),
        (Times(360 * MINUTE), "0 */6 * * *", "*-*-* 00/6:00:00"),
        (Times(DAY, 2, 5), "5 2 * * *", "*-*-* 02:05:00"),
    ],
)
def test_times_are_the_same_in_both(times: Times, cron: str, systemd: str) -> None:
    job = Job(["/w"], "p", None)
    assert lines_of(crontab(job, times)) == [f"{cron} /w"]
    assert f"OnCalendar={systemd}" in timer_unit(job, times)


def test_the_variables_are_named_and_never_their_values(odd: World, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SECRET_ONE", "SECRET_TWO", "SECRET_THREE", "OF_THE_OTHER_WAY"):
        monkeypatch.setenv(name, f"value-of-{name}")
    for words in (("cron",), ("systemd",)):
        said = odd.call("schedule", *words)
        assert (said.code, said.err) == (ExitCode.OK, "")
        assert "lines NAME='value' for SECRET_ONE, SECRET_TWO, SECRET_THREE, in a file" in said.out
        assert "value-of" not in said.out
        assert "OF_THE_OTHER_WAY" not in said.out
    assert "SQLite: on the one machine" in said.out


def test_what_is_printed_is_of_this_installation(sqlite_world: World) -> None:
    line = lines_of(sqlite_world.call("schedule", "cron", "--at", "3:05", "--user", "import").out)
    script = Path(sys.executable).with_name("waveimport")
    assert line == [f"5 3 * * * import {script} --config {sqlite_world.config} run --trigger cron"]
    assert subprocess.run([str(script), "--version"], capture_output=True, check=True).stdout.startswith(b"waveimport ")
    units = sqlite_world.call("schedule", "systemd").out
    service = sqlite_world.call("schedule", "systemd", "--unit", "service").out
    timer = sqlite_world.call("schedule", "systemd", "--unit", "timer").out
    assert units == f"{service}\n{timer}"
    assert "OnCalendar=*-*-* *:00/15:00" in timer
    assert "EnvironmentFile" not in service
    assert "SuccessExitStatus" not in service
    paused = sqlite_world.call("schedule", "systemd", "--max-runtime", "1h30m").out
    assert "run --trigger cron --max-runtime 5400s\n" in paused
    assert "SuccessExitStatus=7\n" in paused


def test_a_server_of_this_machine_is_started_first(sqlite_world: World) -> None:
    sqlite_world.configure(url="mysql+pymysql://u:${PW}@localhost/db")
    unit = sqlite_world.call("schedule", "systemd", "--unit", "service").out
    assert "After=network-online.target mariadb.service mysql.service\n" in unit
    assert "other machines may run it too" in unit
    sqlite_world.configure(url="mysql+pymysql://u:${PW}@db.example.com/db")
    assert "mariadb" not in sqlite_world.call("schedule", "systemd", "--unit", "service").out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("at",), "'at' is not one of 'cron', 'systemd'"),
        (("cron", "--every", "7m"), "must part an hour or a day evenly"),
        (("cron", "--every", "2d"), "must part an hour or a day evenly"),
        (("cron", "--every", "90s"), "must part an hour or a day evenly"),
        (("cron", "--every", "1h", "--at", "02:30"), "--at is the time of the one run of a day"),
        (("cron", "--at", "24:00"), "`24:00` is no time of day: write 02:30"),
        (("cron", "--user", "a b"), "`a b` is no name of a user"),
        (("cron", "--unit", "timer"), "--unit is for systemd"),
        (("cron", "--environment-file", "a\nb"), "holds a backslash or a control character"),
    ],
)
def test_what_cannot_be_is_told(sqlite_world: World, words: tuple[str, ...], told: str) -> None:
    sqlite_world.configure(NETSUITE, records=RECORDS)
    said = sqlite_world.call("schedule", *words)
    assert (said.code, said.out) == (ExitCode.USAGE, "")
    assert told in said.err


def test_the_examples_are_what_is_printed() -> None:
    def job(*options: str) -> Job:
        made = scheduled_job(
            EXAMPLES / "waveimport.toml", {}, ["/opt/waveimport/bin/waveimport"], options, user="waveimport",
            environment_file=Path("/etc/waveimport/secrets"),
        )  # fmt: skip
        command = [word.replace(str(EXAMPLES), "/etc/waveimport") for word in made.command]
        return dataclasses.replace(made, command=command, needed_paths=["/etc/waveimport"])

    every = Times(10 * MINUTE)
    for name, text in (
        ("waveimport.service", service_unit(job())),
        ("waveimport.timer", timer_unit(job(), every)),
    ):
        assert lines_of((EXAMPLES / name).read_text()) == lines_of(text)
    (line,) = lines_of(crontab(job("--max-runtime", "32400s"), every))
    examples = lines_of((EXAMPLES / "crontab").read_text())
    assert examples[0] == line
    before = line[line.index("set -a") : line.index(" run ")]
    assert [before in one for one in examples] == [True] * len(examples)
