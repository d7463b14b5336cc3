"""The process that reads pages for a run, and how the two talk.

The run sends, over a pair of sockets, its recipes once, then replies of the source; back come pages. A page that cannot
be read comes back as nothing: the run then reads it itself, and meets the error itself. The process knows no database,
no login and no job, keeps nothing, and ends when the run does, however that ends: it reads the end of the socket.
"""

import contextlib
import pickle
import socket
import struct
from collections.abc import Callable, Sequence
from dataclasses import replace

import msgspec

from waveimport.runtime.garbage import collected_rarely
from waveimport.runtime.reading import Reading, ReadPage, Recipe
from waveimport.store.packing import Packed
from waveimport.store.staging import stager_of

HEAD = struct.Struct("<QII")
"""Before each message: its serial number, which the answer bears too; the recipe's (0 in answers); how many bytes
follow."""
READY = b"ready"
SOCKET_BYTES = 1 << 20

_page_of = msgspec.msgpack.Decoder(ReadPage).decode


def encode(page: ReadPage, stage: Callable[[Packed], Packed]) -> bytes:
    """Return a page as it is sent, its rows as `stage` makes them."""
    return msgspec.msgpack.encode(replace(page, rows=stage(page.rows)))


def decode(message: bytes | bytearray) -> ReadPage:
    """Return the page that was sent. Raises msgspec.MsgspecError where it is none."""
    return _page_of(message)


def send(to: socket.socket, serial: int, message: bytes, recipe: int = 0) -> None:
    """Send one message. Raises OSError."""
    to.sendall(HEAD.pack(serial, recipe, len(message)))
    to.sendall(message)


def receive(of: socket.socket) -> tuple[int, int, bytearray]:
    """Return the next message behind its serial number and that of its recipe. Raises EOFError where the other side has
    ended, OSError."""
    serial, recipe, length = HEAD.unpack(_exactly(of, HEAD.size))
    return serial, recipe, _exactly(of, length)


def _exactly(of: socket.socket, length: int) -> bytearray:
    message = bytearray(length)
    view = memoryview(message)
    at = 0
    while at < length:
        came = of.recv_into(view[at:])
        if not came:
            raise EOFError("the other side has ended")
        at += came
    return message


def serve(run: socket.socket) -> None:
    """Read pages until the run has ended."""
    serial, _, recipes = receive(run)
    wanted: Sequence[Recipe] = pickle.loads(recipes)
    readings = [(Reading(recipe), stager_of(recipe.packing)) for recipe in wanted]
    send(run, serial, READY)
    while True:
        serial, recipe, body = receive(run)
        try:
            reading, stage = readings[recipe]
            page = encode(reading.read(bytes(body)), stage)
        except Exception:
            page = b""  # whatever it is, the run meets it by the same code
        send(run, serial, page)


def main() -> None:
    """Serve the run at the other end of the socket that is this process's standard input."""
    with socket.socket(fileno=0) as run, collected_rarely(), contextlib.suppress(EOFError, OSError):
        serve(run)
