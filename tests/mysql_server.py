"""A MySQL or MariaDB server for the tests: the one named by WAVEIMPORT_TEST_MYSQL_URL, else a private one.

A private server is started in a temporary folder from the `mariadbd` or `mysqld` that is installed, listens on a free
port of the loopback, and is stopped and removed at the end. A server that somebody else runs is never touched.
"""

import os
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pymysql

from waveimport.store.mysql_driver import QuickConnection

DAEMON_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/mysql/bin", "/opt/homebrew/bin")
START_SECONDS = 60


MEMORY = Path("/dev/shm")
ROOM_BYTES = 2_000_000_000


def in_memory() -> Path | None:
    """Return a folder in memory, where a sync takes no time; None where there is none, or hardly any room.

    For what dies by SIGKILL that is as good as a disk: the kernel lives on.
    """
    try:
        free = shutil.disk_usage(MEMORY).free
    except OSError:
        return None
    return MEMORY if free > ROOM_BYTES and os.access(MEMORY, os.W_OK | os.X_OK) else None


class NoServer(Exception):
    """There is no server to test on; the text says why."""


def find(*names: str) -> str | None:
    """Return the first of the programs that is installed."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *DAEMON_FOLDERS])
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    return None


def free_port() -> int:
    """Return a port of the loopback that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class PrivateServer:
    """A server of our own in a folder of our own. `url` has no database; `kill`, `start`, `stop` as they say; `options`
    are those of its daemon beside, or instead of, the ones that tests have."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.folder = folder
        self._options = options
        self.port = free_port()
        self.url = f"mysql+pymysql://root@127.0.0.1:{self.port}/"
        daemon = find("mariadbd", "mysqld")
        if daemon is None:
            raise NoServer("neither mariadbd nor mysqld is installed, and WAVEIMPORT_TEST_MYSQL_URL is not set")
        self._daemon = daemon
        self._process: subprocess.Popen[bytes] | None = None
        data = folder / "data"
        user = ["--user=root"] if os.getuid() == 0 else []
        install = find("mariadb-install-db", "mysql_install_db")
        if install is not None:
            command = [install, "--no-defaults", f"--datadir={data}", "--auth-root-authentication-method=normal", *user]
        else:
            command = [daemon, "--no-defaults", "--initialize-insecure", f"--datadir={data}", *user]
        # Two servers being made at once remove each other's files from a temporary folder that they share.
        self._environment = {**os.environ, "TMPDIR": str(folder)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=180, env=self._environment)
        if done.returncode:
            raise NoServer(f"{command[0]} failed: {done.stderr[-400:]}")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        command = [
            self._daemon,
            "--no-defaults",
            f"--datadir={self.folder / 'data'}",
            f"--socket={self.folder / 's'}",
            f"--pid-file={self.folder / 'pid'}",
            f"--port={self.port}",
            "--bind-address=127.0.0.1",
            "--innodb-buffer-pool-size=64M",
            "--innodb-flush-log-at-trx-commit=1",
            "--max-connections=100",
            "--skip-log-bin",
            *self._options,
            *(["--user=root"] if os.getuid() == 0 else []),
        ]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise NoServer(f"{self._daemon} ended: {(self.folder / 'log').read_text(errors='replace')[-600:]}")
            try:
                pymysql.connect(host="127.0.0.1", port=self.port, user="root", ssl_disabled=True).close()
                return
            except pymysql.err.Error:
                time.sleep(0.05)  # a server says by no other means that it is ready
        raise NoServer(f"{self._daemon} did not answer within {START_SECONDS} s")

    @property
    def pid(self) -> int:
        """The process of the started server."""
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """Kill the server as a power cut would."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> None:
        """Stop the server."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self.kill()


@contextmanager
def server_url() -> Iterator[str]:
    """Yield the URL (ending in `/`, without a database) of a server that tests may use. Raises NoServer."""
    given = os.environ.get("WAVEIMPORT_TEST_MYSQL_URL")
    if given:
        parts = urlsplit(given)
        yield f"{parts.scheme}://{parts.netloc}/"
        return
    with private_server() as server:
        yield server.url


@contextmanager
def private_server(*options: str) -> Iterator[PrivateServer]:
    """Yield a started server of our own, with these options; it is gone afterwards. Raises NoServer."""
    # Unix sockets have short names, so not below pytest's deep folders.
    folder = Path(tempfile.mkdtemp(prefix="wi-my-", dir=in_memory()))
    try:
        server = PrivateServer(folder, *options)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def connect(url: str, database: str | None = None) -> "pymysql.connections.Connection[pymysql.cursors.Cursor]":
    """Return a plain connection to the server of a URL."""
    parts = urlsplit(url)
    return QuickConnection(
        host=parts.hostname or "127.0.0.1",
        port=parts.port or 3306,
        user=unquote(parts.username or "root"),
        password=unquote(parts.password or ""),
        database=database,
        autocommit=True,
        charset="utf8mb4",
    )


@contextmanager
def fresh_database(url: str) -> Iterator[str]:
    """Yield the URL of a new, empty database on the server; it is dropped afterwards."""
    name = f"waveimport_test_{uuid.uuid4().hex[:12]}"
    with connect(url) as connection, connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        yield url + name
    finally:
        with connect(url) as connection, connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE IF EXISTS {name}")
