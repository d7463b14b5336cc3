"""The simulated account of the demo: a process of its own, gone when the demo is."""

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import click

from waveimport.errors import ExitCode

_STOP_SECONDS: Final = 10.0
_OF_THIS_PROCESS: Final = ("client_id", "certificate_id", "private_key_file")
"""A key file that is gone with the account has no place in a configuration that stays: the demo logs in by token."""


class DemoAccount:
    """Runs `waveimport simulate` beside this process: in one interpreter the two would share its lock.

    `port` is taken if it is free, for an unfinished job goes on only at the address it was created with; otherwise
    any other is. `reached_by` are `base_url`, `account` and the credentials of token-based authentication, once the
    `with` block is entered.
    """

    def __init__(self, data: Path, scale: float, *, port: int | None, quiet: bool) -> None:
        chosen = port if port is not None and _is_free(port) else 0
        self._command = [
            sys.executable, "-m", "waveimport", *(["-q"] if quiet else []), "simulate", "--json",
            "--data", str(data), "--scale", f"{scale:g}", "--port", str(chosen),
        ]  # fmt: skip
        self._process: subprocess.Popen[str] | None = None
        self.reached_by: dict[str, str] = {}

    def __enter__(self) -> Self:
        """Start it and wait until it is ready. Raises click's Exit with its code when it ends instead: it said why."""
        # What this process was told by its environment was not meant for the simulator.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("WAVEIMPORT_")}
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            # Ctrl-C reaches a whole group of processes; the account has to outlive the batches in flight.
            start_new_session=True,
        )
        try:
            assert self._process.stdout is not None, "its output is a pipe"
            line = self._process.stdout.readline()
            if not line:
                raise click.exceptions.Exit(self._process.wait() or ExitCode.FAULT)
            told = json.loads(line)
            self.reached_by = {key: value for key, value in told.items() if key not in _OF_THIS_PROCESS}
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop it, gently first. Safe to call again."""
        process = self._process
        if process is None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def kill(self) -> None:
        """End it at once: for a second Ctrl-C, which waits for nothing."""
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()


def _is_free(port: int) -> bool:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
