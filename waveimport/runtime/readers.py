"""Who reads the pages of a run: its own threads and, where that pays, processes beside it.

Where the source is what an import waits for, which is the rule, reading takes a hundredth of the time and the threads
do it. Where it answers faster, reading takes most of the time that this process may compute; then processes are
started that read, one for each processor beside the first. Whatever goes wrong with one of them, the page is read here,
by the same code.
"""

import contextlib
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
from collections.abc import Collection, Iterable, Mapping

import msgspec

from waveimport.core.records import Page
from waveimport.core.settings_types import RecordSettings
from waveimport.runtime import clock, reading_process
from waveimport.runtime.reading import Reading, ReadPage, Recipe
from waveimport.runtime.reading_process import READY, SOCKET_BYTES, decode, receive, send
from waveimport.runtime.writer import Place

log = logging.getLogger(__name__)

WINDOW_PAGES = 16
"""Pages after which it is asked whether processes would pay."""
WORTH = 0.1
"""Of the time that passes, how much reading must take for processes to be started."""
END_SECONDS = 2.0
QUESTIONS_MOST = 2
"""Pages that a process has at once: while the answer to one is taken in here, it reads the next."""
ANSWER_SECONDS = 60.0
"""A page takes milliseconds; a process that takes so long is stopped or starved, and is given up."""


def processors_beside() -> int:
    """Return how many processors this process may use beside one."""
    affinity = getattr(os, "sched_getaffinity", None)
    return (len(affinity(0)) if affinity is not None else os.cpu_count() or 1) - 1


class Readers:
    """Reads pages by the recipe of their record; threads share one. `processes` is how many may be started; 0 has all
    pages read by the threads that ask. `started` once they are, as the source is fast."""

    def __init__(self, recipes: Mapping[str, Recipe], processes: int) -> None:
        self._recipes = list(recipes.values())
        self._numbers = {name: number for number, name in enumerate(recipes)}
        self._readings = [Reading(recipe) for recipe in self._recipes]
        self._processes = processes if _can_start() else 0
        self._changed = threading.Condition()
        self._starting: list[_Process] = []
        self._up: list[_Process] = []
        self.started = self._closed = False
        self._window_began = clock.monotonic()
        self._window_pages = 0
        self._window_seconds = 0.0

    @classmethod
    def of(
        cls, records: Iterable[RecordSettings], place: Place, *, derived: Collection[str], processes: int
    ) -> "Readers":
        """Return readers of the pages of records that land at a place; from those in `derived` batches derive."""
        recipes = {
            record.name: Recipe(record, place.upserts[record.name].packing, record.name in derived)
            for record in records
        }
        return cls(recipes, processes)

    def read(self, name: str, body: bytes) -> ReadPage:
        """Return the page of a record that a reply holds. Raises BadReply and BadData as PageReader does."""
        number = self._numbers[name]
        process = self._taken()
        if process is not None:
            try:
                page = process.read(number, body)
            finally:
                self._given_back(process)
            if page is not None:
                return page
        if self.started or not self._processes:
            return self._readings[number].read(body)
        began = clock.monotonic()
        page = self._readings[number].read(body)
        self._count(clock.monotonic() - began)
        return page

    def packed(self, name: str, page: Page) -> ReadPage:
        """Return a page of a record whose rows are typed already."""
        return self._readings[self._numbers[name]].packed(page)

    def close(self) -> None:
        """End the processes."""
        with self._changed:
            self._closed = True
            # One that is at work is ended by the last that it has given its answer.
            processes = [*self._starting, *(process for process in self._up if not process.asked)]
            self._starting, self._up = [], []
            self._changed.notify_all()
        for process in processes:
            process.close()

    def _taken(self) -> "_Process | None":
        """Return the process that has the least to do, after waiting where all have enough; None where there is none
        to wait for."""
        with self._changed:
            for process in list(self._starting):
                if not process.failed and process.is_ready():
                    self._starting.remove(process)
                    self._up.append(process)
                elif process.failed:
                    self._starting.remove(process)
                    process.close()
            while useful := [process for process in self._up if not process.failed]:
                process = min(useful, key=lambda one: one.asked)
                if process.asked < QUESTIONS_MOST:
                    process.asked += 1
                    return process
                self._changed.wait()
            return None

    def _given_back(self, process: "_Process") -> None:
        with self._changed:
            process.asked -= 1
            useless = process.failed or self._closed
            if useless and process in self._up:
                self._up.remove(process)
            ended = useless and not process.asked
            self._changed.notify_all()
        if ended:
            process.close()

    def _count(self, seconds: float) -> None:
        """Count a page that took so long to read here; start processes once that is much of the time that passes."""
        with self._changed:
            self._window_pages += 1
            self._window_seconds += seconds
            if self._window_pages < WINDOW_PAGES or self.started or self._closed:
                return
            now = clock.monotonic()
            pays = self._window_seconds >= WORTH * (now - self._window_began)
            self._window_began, self._window_pages, self._window_seconds = now, 0, 0.0
            if not pays:
                return
            self.started = True
        self._start()

    def _start(self) -> None:
        recipes = pickle.dumps(self._recipes)
        started: list[_Process] = []
        try:
            for _ in range(self._processes):
                started.append(_Process(recipes))
        except OSError as error:
            log.warning("no process can be started to read pages, the run reads them itself: %s", error)
        log.debug("processes started to read pages beside the run: %d", len(started))
        with self._changed:
            if not self._closed:
                self._starting += started
                return
        for process in started:
            process.close()


class _Process:
    """A process that reads pages, one after the other. `asked` is how many it has. `failed` once it is of no more use,
    which is told once."""

    def __init__(self, recipes: bytes) -> None:
        """Start it. Raises OSError."""
        self.failed = False
        self.asked = 0
        self._told = False
        self._serial = 0
        self._asking = threading.Lock()
        self._listening = threading.Lock()
        self._socket, theirs = socket.socketpair()
        try:
            with theirs:
                for end in (self._socket, theirs):
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SOCKET_BYTES)
                self._process = subprocess.Popen(
                    [sys.executable, "-c", _program()],
                    stdin=theirs.fileno(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    # A terminal's Ctrl-C is for the run alone, which lets what is at work come to its end.
                    process_group=0,
                )
        except OSError:
            self._socket.close()
            raise
        self._socket.settimeout(ANSWER_SECONDS)
        try:
            send(self._socket, self._serial, recipes)
        except OSError as fault:
            self._fail(fault)

    def is_ready(self) -> bool:
        """Whether it has come up, as far as that is to be told without waiting."""
        self._socket.setblocking(False)
        try:
            self._socket.recv(1, socket.MSG_PEEK)
            self._socket.settimeout(ANSWER_SECONDS)
            if receive(self._socket)[2] == READY:
                return True
            raise EOFError("it says something else than that it is ready")
        except BlockingIOError:
            return False
        except (OSError, EOFError) as fault:
            self._fail(fault)
            return False
        finally:
            self._socket.settimeout(ANSWER_SECONDS)

    def read(self, number: int, body: bytes) -> ReadPage | None:
        """Return the page that a reply holds, None where it cannot be read there. Threads may ask at once."""
        done = False
        try:
            with self._asking:
                if self.failed:
                    return None
                self._serial += 1
                serial = self._serial
                send(self._socket, serial, body, number)
                # Answers come in the order of the questions: who has asked is the next to listen.
                self._listening.acquire()
            try:
                if self.failed:
                    return None
                answered, _, page = receive(self._socket)
                if answered != serial:
                    raise EOFError("it answers something else than it was asked")
                done = True
            finally:
                # Before another listens: who breaks off in between must not leave it a page that is not its own.
                self.failed = self.failed or not done
                self._listening.release()
            return decode(page) if page else None
        except (OSError, EOFError, msgspec.MsgspecError) as fault:
            self._fail(fault)
            return None
        finally:
            self.failed = self.failed or not done

    def _fail(self, fault: Exception) -> None:
        self.failed = True
        if not self._told:
            self._told = True
            log.warning(
                "a process that read pages is of no more use, the run reads them itself: %s", fault or repr(fault)
            )
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)  # who listens still need not wait for it

    def close(self) -> None:
        """End it, at once where it does not end by itself."""
        self._socket.close()
        if self.failed:
            self._process.kill()
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _program() -> str:
    """Return what the process is to run: the module, from where this process has it."""
    path = [entry for entry in sys.path if isinstance(entry, str)]
    return f"import sys; sys.path = {path!r}; from {reading_process.__name__} import main; main()"


def _can_start() -> bool:
    """Whether this program can start another interpreter and hand it a socket."""
    return os.name == "posix" and bool(sys.executable) and not getattr(sys, "frozen", False)
