"""`waveimport demo`: what a new user runs first works, tidies up, and leaves what others own alone."""

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import click
import pytest
from project import DEEP

from waveimport.cli import demo as demo_command
from waveimport.cli import demo_folder
from waveimport.cli.demo import SAMPLE
from waveimport.cli.demo_account import DemoAccount
from waveimport.cli.main import run
from waveimport.errors import ExitCode
from waveimport.runtime.coordinator import Stop
from waveimport.simulator.handle import records_toml

SECONDS = 120


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "waveimport", "demo", "--scale", "0.001", *words]


def demo(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*words), cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)


def served_at(folder: Path) -> int:
    """The port that the configuration names."""
    document = tomllib.loads((folder / "waveimport-demo/waveimport.toml").read_text())
    port = urlsplit(document["netsuite"]["base_url"]).port
    assert port is not None
    return port


def listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def query(folder: Path, sql: str) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(folder / "waveimport-demo/waveimport.db")
    rows = connection.execute(sql).fetchall()
    connection.close()
    return rows


def slow_folder(folder: Path) -> None:
    """A demo's folder whose imports take their time: a request for every ten rows, one at a time."""
    made = demo_folder.DemoFolder(folder / "waveimport-demo")
    made.claim(0.001, records_toml())
    made.config.write_text(made.config.read_text().replace("# workers = 8", "workers = 1\npage_size = 10"))


def heed_hangups() -> None:
    """Undo what `nohup` does to all that it starts, these tests among it."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def interrupted(folder: Path, number: signal.Signals) -> int:
    """Start a demo, send a signal once it imports, return how it ended."""
    process = subprocess.Popen(
        command(), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=heed_hangups
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.startswith("importing from "):
            process.send_signal(number)
            break
    process.communicate(timeout=SECONDS)
    return process.returncode


def test_a_demo_imports_and_shows_what_to_look_at(tmp_path: Path) -> None:
    done = demo(tmp_path)
    assert done.returncode == ExitCode.OK, done.stderr
    assert "  completed  full  profile 1234567_SB1" in done.stdout
    [(job_id,)] = query(tmp_path, "SELECT job_id FROM import_jobs")
    for hint in (
        "The rows are in waveimport-demo/waveimport.db",
        "waveimport --config waveimport-demo/waveimport.toml status",
        f"waveimport --config waveimport-demo/waveimport.toml replay {job_id}",
        "SELECT c.companyname",
    ):
        assert hint in done.stdout
    assert query(tmp_path, "SELECT COUNT(*) FROM salesorder") == [(1500,)]
    assert len(query(tmp_path, SAMPLE)) == 5
    assert not listens(served_at(tmp_path)), "the account is still served"
    config = tmp_path / "waveimport-demo/waveimport.toml"
    assert config.stat().st_mode & 0o077 == 0
    secret = tomllib.loads(config.read_text())["netsuite"]["token_secret"]
    assert secret not in done.stdout + done.stderr


def test_the_hints_work_without_the_account(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    demo(tmp_path)
    config = str(tmp_path / "waveimport-demo/waveimport.toml")
    [(job_id,)] = query(tmp_path, "SELECT job_id FROM import_jobs")
    assert run(["--config", config, "status"]) == ExitCode.OK
    assert run(["--config", config, "replay", str(job_id)]) == ExitCode.OK
    assert "all agree" in capsys.readouterr().out


def test_a_second_demo_imports_anew_and_keeps_what_the_user_changed(tmp_path: Path) -> None:
    demo(tmp_path)
    port = served_at(tmp_path)
    config = tmp_path / "waveimport-demo/waveimport.toml"
    config.write_text(config.read_text().replace("# workers = 8", "workers = 2  # mine"))
    again = demo(tmp_path)
    assert again.returncode == ExitCode.OK, again.stderr
    assert "workers = 2  # mine" in config.read_text()
    assert served_at(tmp_path) == port
    assert query(tmp_path, "SELECT status FROM import_jobs") == [("completed",), ("completed",)]


@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, ExitCode.INTERRUPTED),
        (signal.SIGTERM, ExitCode.TERMINATED),
        *([(signal.SIGHUP, ExitCode.TERMINATED)] if DEEP else []),
    ],
)
def test_a_signal_stops_the_account_too_and_the_next_demo_goes_on(
    tmp_path: Path, number: signal.Signals, code: ExitCode
) -> None:
    slow_folder(tmp_path)
    assert interrupted(tmp_path, number) == code
    assert not listens(served_at(tmp_path)), "the account is still served"
    config = tmp_path / "waveimport-demo/waveimport.toml"
    config.write_text(config.read_text().replace("page_size = 10\n", ""))
    begun = query(tmp_path, "SELECT job_id FROM import_jobs") if has_jobs(tmp_path) else []
    assert demo(tmp_path).returncode == ExitCode.OK
    assert query(tmp_path, "SELECT status FROM import_jobs") == [("completed",)]
    assert set(begun) <= set(query(tmp_path, "SELECT job_id FROM import_jobs"))


def has_jobs(folder: Path) -> bool:
    return (folder / "waveimport-demo/waveimport.db").exists() and bool(
        query(folder, "SELECT 1 FROM sqlite_master WHERE name = 'import_jobs'")
    )


def test_a_signal_while_the_account_is_built_leaves_nothing_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command(),
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_hangups,
    )
    assert process.stderr is not None
    assert process.stderr.readline().startswith("building the account")
    process.send_signal(signal.SIGHUP)
    # The account holds the same stderr: it ends only when both are gone.
    process.communicate(timeout=SECONDS)
    assert process.returncode == ExitCode.TERMINATED
    assert demo(tmp_path).returncode == ExitCode.OK


def test_a_second_signal_ends_the_account_and_the_demo_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[object] = []

    class Account:
        def kill(self) -> None:
            events.append("killed")

    class Gone(Exception):
        pass

    def leave(code: int) -> None:
        events.append(code)
        raise Gone

    monkeypatch.setattr(os, "_exit", leave)
    before = signal.getsignal(signal.SIGINT)
    with demo_command._listening(events.append, Account()):
        signal.raise_signal(signal.SIGINT)
        assert events == [Stop.INTERRUPTED]
        with pytest.raises(Gone):
            signal.raise_signal(signal.SIGTERM)
    assert events == [Stop.INTERRUPTED, "killed", ExitCode.TERMINATED]
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_on_the_terminal_does_not_reach_the_account(tmp_path: Path) -> None:
    with DemoAccount(tmp_path / "account.sqlite", 0.001, port=None, quiet=True) as account:
        assert account._process is not None
        assert os.getpgid(account._process.pid) != os.getpgid(0)
        assert listens(urlsplit(account.reached_by["base_url"]).port or 0)
    assert account._process.returncode is not None


def test_an_unfinished_job_of_an_address_that_is_taken_makes_room_for_a_new_one(tmp_path: Path) -> None:
    demo(tmp_path)
    connection = sqlite3.connect(tmp_path / "waveimport-demo/waveimport.db")
    connection.execute("UPDATE import_jobs SET status = 'processing', finished_at = NULL")
    connection.commit()
    connection.close()
    with socket.socket() as rival:
        rival.bind(("127.0.0.1", served_at(tmp_path)))
        rival.listen()
        again = demo(tmp_path)
    assert again.returncode == ExitCode.OK, again.stderr
    assert query(tmp_path, "SELECT status FROM import_jobs ORDER BY created_at") == [("cancelled",), ("completed",)]


def test_a_folder_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    theirs = tmp_path / "waveimport-demo"
    theirs.mkdir()
    (theirs / "waveimport.toml").write_text("mine = true\n")
    done = demo(tmp_path)
    assert done.returncode == ExitCode.USAGE
    assert "error[WI-USE-002]: waveimport-demo is there already, and no demo made it" in done.stderr
    assert [path.name for path in theirs.iterdir()] == ["waveimport.toml"]
    assert (theirs / "waveimport.toml").read_text() == "mine = true\n"


def test_a_demo_of_another_scale_is_refused(tmp_path: Path) -> None:
    demo(tmp_path)
    done = demo(tmp_path, "--scale", "0.002")
    assert done.returncode == ExitCode.USAGE
    assert "holds a demo of scale 0.001, not 0.002" in done.stderr


def test_keep_names_another_folder(tmp_path: Path) -> None:
    assert demo(tmp_path, "--keep", "my demo").returncode == ExitCode.OK
    assert (tmp_path / "my demo/waveimport.db").exists()
    assert not (tmp_path / "waveimport-demo").exists()


def test_a_missing_extra_is_named_with_the_command_that_brings_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo_folder, "find_spec", lambda name: None)
    assert run(["demo"]) == ExitCode.USAGE
    err = capsys.readouterr().err
    assert "error[WI-USE-007]: the simulated account needs oauthlib" in err
    assert "pip install 'waveimport[demo]'" in err
    assert list(tmp_path.iterdir()) == []


def test_an_account_that_cannot_start_ends_the_demo_with_its_code(tmp_path: Path) -> None:
    (tmp_path / "account.sqlite").write_text("no database")
    with (
        pytest.raises(click.exceptions.Exit) as caught,
        DemoAccount(tmp_path / "account.sqlite", 0.001, port=None, quiet=True),
    ):
        pytest.fail("it did not start")
    assert caught.value.exit_code == ExitCode.USAGE
