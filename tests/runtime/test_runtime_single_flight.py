"""One run on a host: the lock file, its identity, and the lock around each write of SQLite."""

import errno
import os
import socket
import subprocess
import sys
import time
import uuid
from dataclasses import replace
from pathlib import Path

import pytest

from waveimport.core.settings import (
    Column,
    ColumnKind,
    DatabaseSettings,
    NetSuiteSettings,
    RecordSettings,
    RunSettings,
    Settings,
)
from waveimport.errors import DatabaseBusy, LockUnusable
from waveimport.runtime import single_flight
from waveimport.runtime.single_flight import FileGuard, WriteLock, is_gone, lock_path, machine_id, owner_name

HOLD = """
import sys
from pathlib import Path
from waveimport.runtime.single_flight import FileGuard, WriteLock
kind, path = sys.argv[1], Path(sys.argv[2])
if kind == "guard":
    print(FileGuard(path).acquire(), flush=True)
guard = FileGuard(path)
if kind == "hold":
    print(guard.acquire(), flush=True)
    sys.stdin.readline()
if kind == "write":
    with WriteLock(path):
        print(True, flush=True)
        sys.stdin.readline()
"""


def other(kind: str, path: Path) -> "subprocess.Popen[str]":
    """Another process, which tells whether it got the lock and keeps it until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, kind, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def first_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def settings(tmp_path: Path, *, lock_dir: str | None = None, profile: str = "p") -> Settings:
    return Settings(
        profile=profile,
        database=DatabaseSettings(f"sqlite:///{tmp_path / 'x.db'}"),
        netsuite=NetSuiteSettings("1", "http://127.0.0.1:1"),
        run=RunSettings(lock_dir=lock_dir),
        records=(RecordSettings("a", "a", (Column("id", ColumnKind.INTEGER, target="id"),)),),
    )


def test_a_second_run_in_this_process_does_not_get_the_lock(tmp_path: Path) -> None:
    first, second = FileGuard(tmp_path / "x.lock"), FileGuard(tmp_path / "x.lock")
    assert first.acquire()
    assert not second.acquire()
    assert second.identity is None
    first.release()
    assert first.identity is None
    assert second.acquire()
    second.release()


def test_a_second_process_does_not_get_the_lock_and_its_death_frees_it(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    holder = other("hold", path)
    assert first_line(holder) == "True"
    guard = FileGuard(path)
    assert not guard.acquire()
    holder.kill()
    holder.wait(30)
    assert guard.acquire()
    asking = other("guard", path)
    assert first_line(asking) == "False"
    asking.communicate("", timeout=30)
    guard.release()


def test_the_identity_is_that_of_the_file_and_the_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "x.lock"
    guard = FileGuard(path)
    assert guard.acquire()
    found = path.stat()
    assert guard.identity == f"{found.st_dev}:{found.st_ino}"
    assert found.st_mode & 0o777 == 0o600
    guard.release()
    assert path.exists(), "a deleted lock file lets two in"
    again = FileGuard(path)
    assert again.acquire()
    assert again.identity == f"{found.st_dev}:{found.st_ino}", (
        "whoever holds it next proves the death of the one before"
    )
    again.release()


def test_a_lock_whose_file_was_deleted_or_replaced_meanwhile_guards_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.lock"
    guard = FileGuard(path)
    locked = guard._lock.acquire

    def gone(**how: object) -> object:
        answer = locked(**how)
        path.unlink()
        return answer

    def replaced(**how: object) -> object:
        answer = locked(**how)
        path.unlink()
        keep = path.with_name("keep")
        keep.touch()
        path.touch()
        return answer

    for change in (gone, replaced):
        monkeypatch.setattr(guard._lock, "acquire", change)
        assert not guard.acquire()
        assert guard.identity is None
        assert not guard._lock.is_locked
    monkeypatch.undo()
    assert guard.acquire()
    guard.release()


def test_a_lock_file_that_cannot_be_opened_is_an_error_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LockUnusable) as unusable:
        FileGuard(tmp_path / "file" / "x.lock").acquire()
    assert "x.lock" in (unusable.value.where or "")
    assert unusable.value.help


def test_the_lock_file_is_by_database_and_profile_in_a_private_folder(tmp_path: Path) -> None:
    mine = settings(tmp_path, lock_dir=str(tmp_path / "locks" / "deep"))
    path = lock_path(mine, "mysql://h/x", None)
    assert path.parent == tmp_path / "locks" / "deep"
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert path == lock_path(mine, "mysql://h/x", None)
    assert path != lock_path(mine, "mysql://h/y", None)
    assert path != lock_path(replace(mine, profile="q"), "mysql://h/x", None)
    assert path.suffix == ".lock"


def test_without_a_lock_dir_the_file_lies_beside_sqlite_else_where_the_system_lets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = settings(tmp_path)
    assert lock_path(mine, "sqlite:///x.db", tmp_path / "x.db").parent == tmp_path
    monkeypatch.setattr(single_flight, "SYSTEM_LOCK_DIR", tmp_path / "system")
    assert lock_path(mine, "mysql://h/x", None).parent == tmp_path / "system"
    blocked = tmp_path / "file"
    blocked.touch()
    monkeypatch.setattr(single_flight, "SYSTEM_LOCK_DIR", blocked / "below")
    monkeypatch.setattr(single_flight, "user_state_path", lambda name: tmp_path / "state" / name)
    assert lock_path(mine, "mysql://h/x", None).parent == tmp_path / "state" / "waveimport"
    with pytest.raises(LockUnusable, match="cannot be used"):
        lock_path(settings(tmp_path, lock_dir=str(blocked / "below")), "mysql://h/x", None)


def test_one_process_writes_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = tmp_path / "x.db"
    holder = other("write", database)
    assert first_line(holder) == "True"
    monkeypatch.setattr(single_flight, "WRITE_WAIT_SECONDS", 0.1)
    lock = WriteLock(database)
    with pytest.raises(DatabaseBusy) as busy, lock:
        raise AssertionError("both were let in")
    assert busy.value.help
    holder.communicate("\n", timeout=30)
    with lock:
        assert (tmp_path / "x.db.write").exists()
    (tmp_path / "file").touch()
    with pytest.raises(LockUnusable), WriteLock(tmp_path / "file" / "x.db"):
        raise AssertionError("there is no such folder")


def test_a_folder_that_knows_no_locks_is_told_and_leaves_nothing_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int) -> bool:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(single_flight, "_locked", refuse)
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(3):
        with pytest.raises(LockUnusable, match="taken: No locks available"), WriteLock(tmp_path / "x.db"):
            raise AssertionError("it was let in")
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_wait_for_the_write_lock_ends_when_it_is_told_to(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    holder = other("write", database)
    assert first_line(holder) == "True"
    answers = iter([False, False, True])
    began = time.monotonic()
    lock = WriteLock(database, stopped=lambda: next(answers))
    with pytest.raises(DatabaseBusy, match="told to stop"), lock:
        raise AssertionError("both were let in")
    assert next(answers, None) is None, "it was asked after each slice"
    assert time.monotonic() - began < single_flight.WRITE_WAIT_SECONDS / 2
    holder.communicate("\n", timeout=30)


def test_who_was_told_to_stop_still_gets_a_lock_that_becomes_free(tmp_path: Path) -> None:
    database = tmp_path / "x.db"
    with WriteLock(database, stopped=lambda: True):
        assert (tmp_path / "x.db.write").exists()
    holder = other("write", database)
    assert first_line(holder) == "True"

    def free() -> bool:
        holder.communicate("\n", timeout=30)
        return False

    with WriteLock(database, stopped=free):
        assert holder.returncode == 0


def test_names_tell_processes_apart() -> None:
    assert owner_name().endswith(f":{os.getpid()}")


def test_two_containers_and_two_boots_are_two_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, boot = tmp_path / "machine-id", tmp_path / "boot_id"
    monkeypatch.setattr(single_flight, "MACHINE_ID_FILE", machine)
    monkeypatch.setattr(single_flight, "BOOT_ID_FILE", boot)
    seen = []
    for machine_text, boot_text, host, node in (
        ("a\n", "b\n", "h", 1),
        ("", "b\n", "h", 1),
        ("", "c\n", "h", 1),
        ("", "c\n", "i", 1),
        ("", "c\n", "i", 2),
        ("\xff", "\xff", "i", 3),
    ):
        machine.write_text(machine_text, encoding="latin-1")
        boot.write_text(boot_text, encoding="latin-1")
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        monkeypatch.setattr(uuid, "getnode", lambda node=node: node)
        seen.append(machine_id())
        assert machine_id() == seen[-1]
    assert len(set(seen)) == len(seen)
    assert {len(name) for name in seen} == {64}
    machine.unlink()
    boot.unlink()
    assert machine_id() == seen[-1], "what cannot be read is left out"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="this system does not tell the state of a process")
def test_a_holder_that_ended_and_that_nobody_has_asked_for_is_gone() -> None:
    """In a container without an init it keeps its number for ever, and looked as if it were at work."""
    with subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = f"{socket.gethostname()}:{process.pid}"
        assert not is_gone(owner, machine_id())
        process.kill()
        # Waits for its end without taking its number away.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        assert is_gone(owner, machine_id())
        assert not is_gone(owner, "another")
    assert is_gone(owner, machine_id())
