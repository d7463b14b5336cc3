"""Single flight on one host: a file lock held for the life of a run.

It is a hint and a proof, not the truth. The truth is the leased row of the job. The lock keeps a second cron on the
same host from even asking, and whoever holds the very file that a lease row names knows that the holder named there
is dead, and takes over at once instead of waiting for the lease to lapse.
"""

import hashlib
import os
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from filelock import FileLock, Timeout
from platformdirs import user_state_path

from waveimport.core.settings import Settings
from waveimport.errors import DatabaseBusy, LockUnusable
from waveimport.runtime import clock

SYSTEM_LOCK_DIR = Path("/var/lock/waveimport")
MACHINE_ID_FILE = Path("/etc/machine-id")
BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
WRITE_POLL_SECONDS = 0.001
"""A writer that polls at filelock's default of 50 ms waited up to 6.7 s beside a busy run."""
WRITE_WAIT_SECONDS = 60.0
WRITE_SLICE_SECONDS = 0.5
"""A writer asks this often whether it is to go on waiting; one slice is waited even then, so that a run that was told
to stop can still land what it has beside a busy neighbour."""


def owner_name() -> str:
    """Return `host:pid`, as leases name their holder."""
    return f"{socket.gethostname()}:{os.getpid()}"


def is_gone(owner: str | None, machine: str | None) -> bool:
    """Whether the holder of a lease was a process of this machine, since its last start, and runs no more.

    A process number may have been given to another since: then it does not look gone.
    """
    if owner is None or machine != machine_id() or os.name != "posix":
        return False
    host, _, number = owner.rpartition(":")
    if host != socket.gethostname() or not number.isdigit():
        return False
    try:
        os.kill(int(number), 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return _has_ended(int(number))


def _has_ended(process: int) -> bool:
    """Whether a process has ended and nobody has asked how: in a container without an init it stays so for ever."""
    stat = _first_line(Path(f"/proc/{process}/stat"))
    # The state is the first word behind the name, which stands in brackets and may hold any.
    return stat.rpartition(")")[2].split()[:1] == ["Z"]


def machine_id() -> str:
    """Return what tells this machine, and this start of it, from others, in 64 hexadecimal digits.

    A lock file's device and inode are one file's only within one running kernel. Images give the same machine-id to
    many, or none, and containers the same hardware address, so the id of the boot and the host's name stand beside
    it. A restart is another machine: its leases lapse, instead of being taken over at once.
    """
    parts = (
        _first_line(MACHINE_ID_FILE) or f"{uuid.getnode():x}",
        _first_line(BOOT_ID_FILE),
        socket.gethostname(),
    )
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def _first_line(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""


def lock_path(settings: Settings, database_name: str, sqlite_file: Path | None) -> Path:
    """Return the lock file of a profile in a database, in a folder that exists (made with mode 0700 if need be).

    The folder is `run.lock_dir`, else beside the SQLite file, else /var/lock/waveimport where it can be written, else
    the user's state directory; never the temporary folder, which cleaners empty. Raises LockUnusable.
    """
    digest = hashlib.sha256(f"{database_name}\n{settings.profile}".encode()).hexdigest()
    if settings.run.lock_dir is not None:
        folders = [Path(settings.run.lock_dir)]
    elif sqlite_file is not None:
        folders = [sqlite_file.parent]
    else:
        folders = [SYSTEM_LOCK_DIR, user_state_path("waveimport")]
    reason = ""
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            continue
        if os.access(folder, os.W_OK | os.X_OK):
            return folder / f"{digest}.lock"
        reason = "it cannot be written"
    raise LockUnusable(
        f"the lock directory {folders[-1]} cannot be used: {reason}",
        where="[run] lock_dir",
        help="name a folder on a local disk that this user may write",
    )


class FileGuard:
    """The lock file of a run. The file is never deleted: a deleted lock file lets two in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = FileLock(path, timeout=0, mode=0o600, thread_local=False)
        self.identity: str | None = None

    def acquire(self) -> bool:
        """Take the lock without waiting. False when another process (or another run in this one) holds it.

        Raises LockUnusable when the file cannot be opened.
        """
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as error:
            raise LockUnusable(
                f"the lock file cannot be opened: {error.strerror or type(error).__name__}",
                where=str(self.path),
                help="mend its rights, or set [run] lock_dir",
            ) from error
        descriptor = self._lock._context.lock_file_fd
        held = os.fstat(descriptor) if descriptor is not None else None
        try:
            now = self.path.stat()
        except OSError:
            now = None
        if held is None or now is None or (held.st_dev, held.st_ino) != (now.st_dev, now.st_ino):
            # Somebody deleted the file between our opening and our locking it: what we hold guards nothing.
            self._lock.release()
            return False
        self.identity = f"{held.st_dev}:{held.st_ino}"
        return True

    def release(self) -> None:
        """Give the lock back; the file stays."""
        self.identity = None
        self._lock.release()


class WriteLock:
    """The lock that every writing process of a SQLite database takes around a transaction; a context manager.

    `busy_timeout` alone starves: of four equal writers two committed once while the others committed 1,000 times.
    It is taken for every commit, by the system's own call: through filelock it took 0.24 ms, a tenth of a commit.
    """

    def __init__(self, sqlite_file: Path, *, stopped: Callable[[], bool] = lambda: False) -> None:
        """`stopped` says whether to give up waiting; it is asked in the thread that waits."""
        self._stopped = stopped
        self._path = sqlite_file.with_name(sqlite_file.name + ".write")
        self._held = _Held()

    def __enter__(self) -> None:
        """Take the lock. Raises DatabaseBusy when another process keeps it for a minute, or until this one is told to
        stop; LockUnusable on its file."""
        until = clock.monotonic() + WRITE_WAIT_SECONDS
        while not self._acquire(max(0.0, min(WRITE_SLICE_SECONDS, until - clock.monotonic()))):
            stopped = self._stopped()
            if stopped or clock.monotonic() >= until:
                waited = "until this run was told to stop" if stopped else f"for {WRITE_WAIT_SECONDS:.0f} s"
                raise DatabaseBusy(
                    f"another process has held the write lock {waited}",
                    where=str(self._path),
                    help="look for a waveimport that hangs or is stopped (`fuser` names it); then run again",
                )

    def _acquire(self, seconds: float) -> bool:
        until = clock.monotonic() + seconds
        descriptor = -1
        try:
            # Opened each time: should somebody delete the file, the next commit is guarded again.
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
            while not _locked(descriptor):
                if clock.monotonic() >= until:
                    return False
                clock.pause(WRITE_POLL_SECONDS)
            self._held.descriptor, descriptor = descriptor, -1
        except OSError as error:
            what = "opened" if descriptor < 0 else "taken"
            raise LockUnusable(
                f"the write lock cannot be {what}: {error.strerror or type(error).__name__}",
                where=str(self._path),
                help="mend the rights of the database's folder, which must be on a local disk",
            ) from error
        finally:
            if descriptor >= 0:
                os.close(descriptor)
        return True

    def __exit__(self, *_: object) -> None:
        descriptor, self._held.descriptor = self._held.descriptor, -1
        os.close(descriptor)  # which gives the lock back, as no program that is started keeps it open


class _Held(threading.local):
    """The descriptor by which a thread holds a lock."""

    descriptor = -1


def _locked(descriptor: int) -> bool:
    """Take the lock of an open file, for this descriptor alone, if it is free. Raises OSError where it has none."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True
