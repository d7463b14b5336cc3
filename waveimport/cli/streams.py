"""Standard streams that cannot end a command: what a command found out, its exit code says, whoever listens.

A reader that has gone (`| head`), a full device and a closed descriptor (`>&-`) raise at a write, or at the flush
behind the last one, where the exit code is known already and would be lost. Here such a write is noted and let go.
"""

import contextlib
import errno
import io
import os
import sys
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


class _Tolerant(io.RawIOBase):
    """Writes to a descriptor until that fails; from then on takes all and writes nothing."""

    def __init__(self, descriptor: int, failed: OSError | None) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._closed_from_the_start = failed
        self.failed: OSError | None = None

    def write(self, data: "ReadableBuffer", /) -> int:
        """Write all, or note why not. Returns how many bytes are dealt with, which is all."""
        with memoryview(data).cast("B") as left:
            size = left_over = len(left)
            while left_over and self.failed is None:
                try:
                    if self._closed_from_the_start is not None:
                        raise self._closed_from_the_start
                    left_over -= os.write(self._descriptor, left[size - left_over :])
                except OSError as error:
                    self.failed = error
        return size

    def writable(self) -> bool:
        """True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor: a terminal is asked for its size by it."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether a person looks on."""
        return os.isatty(self._descriptor)


@contextlib.contextmanager
def tolerant_streams() -> Iterator[None]:
    """Have sys.stdout and sys.stderr tolerate their loss; at the end say in a sentence what could not be written.

    A reader that has gone wanted no more, so nothing is said of it. A descriptor that was closed is opened on the
    null device: the next file opened would take its number otherwise, and get what is printed.
    """
    lost = _fill_descriptors()
    out = _Tolerant(1, lost.get(1))
    before = sys.stdin, sys.stdout, sys.stderr
    if sys.stdin is None:
        sys.stdin = open(0, closefd=False)  # noqa: SIM115  # a descriptor, left open to the end
    sys.stdout = _text(out, before[1], "surrogateescape")
    sys.stderr = _text(_Tolerant(2, lost.get(2)), before[2], "backslashreplace")
    try:
        yield
    finally:
        sys.stdout.flush()
        if out.failed is not None and out.failed.errno != errno.EPIPE:
            sys.stderr.write(f"warning: the results could not be written to stdout: {out.failed.strerror}\n")
        sys.stderr.flush()
        sys.stdin, sys.stdout, sys.stderr = before


def reader_gone() -> bool:
    """Whether standard output was found to lead nowhere: what only prints need not go on. For `tolerant_streams`."""
    sys.stdout.flush()
    buffer = getattr(sys.stdout, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    return isinstance(raw, _Tolerant) and raw.failed is not None


def _fill_descriptors() -> dict[int, OSError]:
    """Open the standard descriptors that are closed, lowest first, and return which they were, with the error."""
    closed: dict[int, OSError] = {}
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError as error:
            closed[descriptor] = error
            os.open(os.devnull, os.O_RDWR)
    return closed


def _text(raw: _Tolerant, like: "IO[str] | None", errors: str) -> io.TextIOWrapper:
    """Return a text stream over `raw` that encodes and buffers as `like` does."""
    was = cast(Any, like)
    handling = was.errors if was else errors
    unbuffered = was is not None and was.write_through
    return io.TextIOWrapper(
        cast(IO[bytes], raw) if unbuffered else io.BufferedWriter(raw),
        encoding=was.encoding if was else "utf-8",
        # A character that the terminal's encoding lacks is no reason to end: it is told by its number.
        errors="backslashreplace" if handling == "strict" else handling,
        line_buffering=was.line_buffering if was else False,
        write_through=unbuffered,
    )
