"""A wire to a MySQL server that breaks where a test says: what a server or a network does rarely, done at will.

It passes on what client and server say to each other, reads the statements that go by, and asks `fault` about each.
Source of the packets: MariaDB's "Clients & Utilities: Client/Server Protocol".
"""

import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum, auto
from typing import Any
from urllib.parse import urlsplit

_QUERY = 3
_LONGEST_READ_STATEMENT = 4000
_UNDOES_ALL = frozenset({1213, 1020})
"""Measured on MariaDB 10.11: a deadlock and a row that changed since the snapshot roll everything back, while the
client thinks that its transaction is open. 1205, 1317 and 1969 undo their own statement only."""


class Cut(Enum):
    """How a connection ends at a statement."""

    REQUEST_LOST = auto()  # the server never gets it
    REPLY_LOST = auto()  # the server does it, and nobody hears of it
    GONE_BEHIND = auto()  # it is answered; who says more finds the connection reset


@dataclass(frozen=True)
class Refusal:
    """The server's error for a statement that it does not do."""

    code: int

    def undoes_all(self, statement: str | None) -> bool:
        """Whether the server rolls the whole transaction back with it: at a refused COMMIT, and at what `_UNDOES_ALL`
        names, wherever that comes."""
        return statement == "COMMIT" or self.code in _UNDOES_ALL


Blow = Cut | Refusal
Fault = Callable[[str, list[str]], Blow | None]


def no_fault(statement: str, before: list[str]) -> Blow | None:
    """Let everything pass."""
    return None


class Wire(socketserver.ThreadingTCPServer):
    """Listens on a port of its own for the server of `url`. `fault` is given a statement, and those before it in its
    transaction, on whatever connection; it is asked about one statement at a time."""

    daemon_threads = True
    allow_reuse_address = True
    block_on_close = False

    def __init__(self, url: str) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        parts = urlsplit(url)
        self.server = (parts.hostname or "127.0.0.1", parts.port or 3306)
        self.url = parts._replace(netloc=f"{parts.username or 'root'}@127.0.0.1:{self.server_address[1]}").geturl()
        self.fault: Fault = no_fault
        self.lock = threading.Lock()
        self.statements: list[str] = []
        self._thread = threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def judge(self, statement: str, before: list[str]) -> Blow | None:
        """Keep the statement, and ask what becomes of it."""
        with self.lock:
            self.statements.append(statement)
            return self.fault(statement, before)

    def handle_error(self, *_: Any) -> None:
        """A connection that ended is no error here."""

    def __exit__(self, *_: Any) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join(10)


class _Connection(socketserver.BaseRequestHandler):
    server: Wire
    request: socket.socket

    def handle(self) -> None:
        self.upstream = socket.create_connection(self.server.server)
        self.swallow, self.swallowed = threading.Event(), threading.Event()
        self.cut_at_reply: Cut | None = None
        threading.Thread(target=self._pass_replies, daemon=True).start()
        before: list[str] = []
        with suppress(OSError):
            while packet := self._packet():
                statement = self._statement(packet)
                blow = None
                if statement is not None:
                    blow = self.server.judge(statement, before)
                    undone = isinstance(blow, Refusal) and blow.undoes_all(statement)
                    if statement in ("COMMIT", "ROLLBACK") or undone:
                        before = []
                    else:
                        before.append(statement)
                if blow is Cut.REQUEST_LOST:
                    break
                if isinstance(blow, Cut):
                    self.cut_at_reply = blow
                if isinstance(blow, Refusal):
                    self._refuse(blow, rolled_back=blow.undoes_all(statement))
                else:
                    self.upstream.sendall(packet)
        self._close()

    def _refuse(self, blow: Refusal, *, rolled_back: bool) -> None:
        if rolled_back:
            self.swallow.set()
            self.upstream.sendall(_packed(0, bytes([_QUERY]) + b"ROLLBACK"))
            self.swallowed.wait(30)
            self.swallowed.clear()
        self.request.sendall(_packed(1, b"\xff" + struct.pack("<H", blow.code) + b"#HY000refused by the wire"))

    def _pass_replies(self) -> None:
        with suppress(OSError):
            while data := self.upstream.recv(1 << 16):
                if self.swallow.is_set():
                    self.swallow.clear()
                    self.swallowed.set()
                    continue
                if self.cut_at_reply is not Cut.REPLY_LOST:
                    self.request.sendall(data)
                if self.cut_at_reply is not None:
                    break
        self._close()

    def _close(self) -> None:
        """End both halves: the client's by a reset, so that what it says next is refused at once."""
        with suppress(OSError):
            self.request.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        for half in (self.request, self.upstream):
            with suppress(OSError):
                half.shutdown(socket.SHUT_RDWR)
            half.close()

    def _packet(self) -> bytes:
        head = self._read(4)
        return head + self._read(int.from_bytes(head[:3], "little")) if head else b""

    def _read(self, size: int) -> bytes:
        parts = b""
        while len(parts) < size:
            part = self.request.recv(size - len(parts))
            if not part:
                return b""
            parts += part
        return parts

    @staticmethod
    def _statement(packet: bytes) -> str | None:
        """The text of a statement; None for the login and other commands."""
        if packet[3] != 0 or len(packet) < 5 or packet[4] != _QUERY:
            return None
        return packet[5 : 5 + _LONGEST_READ_STATEMENT].decode("utf-8", "replace")


def _packed(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes([number]) + payload
