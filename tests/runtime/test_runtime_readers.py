"""Processes that read pages beside a run: the same pages as here, whatever becomes of them, and none is left."""

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from runtime_world import ORDER, column, reply
from test_runtime_importer import Runs, runs

from waveimport.core.settings import ColumnKind, RecordSettings
from waveimport.errors import BadData, BadReply, ExitCode
from waveimport.runtime import importer, readers
from waveimport.runtime.readers import Readers
from waveimport.runtime.reading import ReadPage, Recipe
from waveimport.store import staging
from waveimport.store.packing import Packed, Packing

__all__ = ["runs"]  # a fixture

pytestmark = pytest.mark.skipif(os.name != "posix", reason="processes are started where they can inherit a socket")

ALL_KINDS = RecordSettings(
    "all",
    "kinds",
    (
        column("id"),
        column("sub", ColumnKind.TEXT),
        column("memo", ColumnKind.TEXT),
        column("posting", ColumnKind.BOOLEAN),
        column("amount", ColumnKind.DECIMAL, 15, 2),
        column("rate", ColumnKind.FLOAT),
        column("day", ColumnKind.DATE),
        column("at", ColumnKind.TIMESTAMP),
    ),
    key=("id", "sub"),
    table_name="all",
)
NAMES = [one.name for one in ALL_KINDS.columns]


def rows(first: int, count: int) -> list[tuple[Any, ...]]:
    """Rows as the service has them: texts of all kinds, every column but the key NULL somewhere."""
    texts = ["plain", "Ünal 'quoted' \\ and\nbroken", "", None, "\N{GRINNING FACE}", '"', "50%", "x" * 300]
    return [
        (
            number,
            f"k{number}",
            texts[number % len(texts)],
            [None, "T", "F"][number % 3],
            [None, f"{number % 10**9}.5", f"-{number % 10**9}"][number % 3],
            [None, f"{number / 7}"][number % 2],
            [None, "2026-02-28"][number % 2],
            [None, "2026-02-28 23:59:59"][number % 2],
        )
        for number in range(first, first + count)
    ]


BODIES = [
    reply(NAMES, rows(1, 1), 1),
    reply(NAMES, rows(1, 1000), 5000),
    reply(NAMES, rows(2**62, 7), 7),
    reply(NAMES, [], 0),
]


def recipe(record: RecordSettings = ALL_KINDS, *, mysql: bool = False, is_parent: bool = True) -> Recipe:
    return Recipe(record, Packing.of(record, mysql=mysql), is_parent)


@contextlib.contextmanager
def at_work(recipes: dict[str, Recipe], processes: int = 1) -> Iterator[Readers]:
    """Yield readers whose processes have come up."""
    made = Readers(recipes, processes)
    made.started = True
    made._start()
    try:
        until = time.monotonic() + 60
        while made._starting and time.monotonic() < until:
            made._given_back(process) if (process := made._taken()) else time.sleep(0.01)
        assert len(made._up) == processes, "they have come up"
        yield made
    finally:
        made.close()


def plain(page: ReadPage | None) -> ReadPage:
    assert page is not None
    return replace(page, rows=Packed(page.rows.count, page.rows.objects()))


def pids(of: Readers) -> list[int]:
    return [process._process.pid for process in of._up]


def runs_still(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("mysql", [False, True])
@pytest.mark.parametrize("body", BODIES)
def test_a_process_reads_what_this_one_reads(mysql: bool, body: bytes) -> None:
    recipes = {"order": recipe(ORDER), "all": recipe(mysql=mysql)}
    here = Readers(recipes, 0).read("all", body)
    with at_work(recipes) as beside:
        process = beside._taken()
        assert process is not None
        there = process.read(1, body)
        beside._given_back(process)
        assert isinstance(there.rows.parts, bytes)
        assert plain(there) == here
        assert plain(beside.read("all", body)) == here
    assert here.parents == [row[0] for row in rows(here.first[0], len(here.rows))] if here.first else not here.rows


def test_of_a_page_paging_learns_its_ends_its_parents_and_whether_it_is_the_last() -> None:
    twice = [(7, "a", *[None] * 6), (7, "b", *[None] * 6), (9, "a", *[None] * 6)]
    page = Readers({"all": recipe()}, 0).read("all", reply(NAMES, twice, 3))
    assert (page.first, page.last, page.parents, page.done) == ((7, "a"), (9, "a"), [7, 9], True)
    capped = Readers({"all": recipe(is_parent=False)}, 0).read("all", reply(NAMES, twice, 4, more=False))
    assert (capped.parents, capped.done) == ([], False), "it says that it is the last, and the total says otherwise"


def test_what_cannot_be_read_there_is_told_as_it_is_here() -> None:
    recipes = {"all": recipe()}
    bad = reply(NAMES, [(1, "a", None, "perhaps", *[None] * 4)], 1)
    with at_work(recipes) as beside:
        for body, error in ((bad, BadData), (b"<html>", BadReply), (b'{"items": "\xff"}', BadReply)):
            with pytest.raises(error) as there:
                beside.read("all", body)
            with pytest.raises(error) as here:
                Readers(recipes, 0).read("all", body)
            assert there.value.render() == here.value.render()
        assert len(beside._up) == 1, "it is of use still"


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_process_that_is_gone_or_hangs_costs_one_line_and_no_page(
    how: signal.Signals, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(readers, "ANSWER_SECONDS", 0.5)
    body = BODIES[1]
    with at_work({"all": recipe()}) as beside, caplog.at_level(logging.WARNING):
        (pid,) = pids(beside)
        os.kill(pid, how)
        for _ in range(3):
            assert plain(beside.read("all", body)) == Readers({"all": recipe()}, 0).read("all", body)
        assert not beside._up
        assert [record.levelname for record in caplog.records] == ["WARNING"]
        assert not runs_still(pid), "it was ended and waited for"


@pytest.mark.parametrize("answer", [(1, 0, bytearray(b"\xc1")), (0, 0, bytearray()), (2, 0, bytearray(b"\x80"))])
def test_an_answer_that_is_none_is_taken_for_a_failure(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    with at_work({"all": recipe()}) as beside:
        monkeypatch.setattr(readers, "receive", lambda of: answer)
        assert beside.read("all", BODIES[0]).first == (1, "k1")
        assert not beside._up


def test_who_breaks_off_between_question_and_answer_leaves_no_page_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    def short_of_memory(of: Any) -> Any:
        raise MemoryError

    with at_work({"all": recipe()}) as beside:
        with monkeypatch.context() as patch:
            patch.setattr(readers, "receive", short_of_memory)
            with pytest.raises(MemoryError):
                beside.read("all", BODIES[1])
        assert not beside._up
        assert beside.read("all", BODIES[0]).first == (1, "k1")


def test_a_process_that_does_not_come_up_is_given_up(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(readers, "_program", lambda: "raise SystemExit(3)")
    made = Readers({"all": recipe()}, 1)
    made.started = True
    made._start()
    until = time.monotonic() + 30
    while made._starting and time.monotonic() < until:
        assert made.read("all", BODIES[0]).first == (1, "k1")
    assert (made._starting, made._up) == ([], [])
    assert len(caplog.records) == 1, caplog.text


def test_where_none_can_be_started_the_run_reads(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sys, "executable", "/nonexistent/python")
    made = Readers({"all": recipe()}, 2)
    made.started = True
    made._start()
    assert made.read("all", BODIES[0]).first == (1, "k1")
    assert "no process can be started" in caplog.text
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert Readers({"all": recipe()}, 2)._processes == 0


def test_processes_are_started_where_reading_takes_the_time_and_nowhere_else(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    started: list[Readers] = []
    monkeypatch.setattr(readers.clock, "monotonic", lambda: now[0])
    monkeypatch.setattr(Readers, "_start", lambda made: started.append(made))

    def reading(made: Readers, takes: float, waits: float) -> None:
        monkeypatch.setattr(made._readings[0], "read", lambda body: now.__setitem__(0, now[0] + takes), raising=False)
        for _ in range(3 * readers.WINDOW_PAGES):
            now[0] += waits
            made.read("all", b"")

    class Slow:
        def __init__(self, recipe: Recipe) -> None:
            pass

    monkeypatch.setattr(readers, "Reading", Slow)
    slow, fast, none = (Readers({"all": recipe()}, processes) for processes in (1, 1, 0))
    reading(slow, takes=0.005, waits=0.2)
    reading(none, takes=0.005, waits=0.001)
    assert (started, slow.started, none.started) == ([], False, False)
    reading(fast, takes=0.005, waits=0.01)
    assert started == [fast], "once"
    assert fast.started
    reading(slow, takes=0.005, waits=0.01)
    assert started == [fast, slow], "a source that became fast"


def test_threads_share_processes_and_each_gets_its_own_page() -> None:
    bodies = [reply(NAMES, rows(1 + 1000 * number, 50), 50) for number in range(40)]
    with at_work({"all": recipe()}, 2) as beside, ThreadPoolExecutor(8) as pool:
        pages: list[ReadPage] = list(pool.map(lambda body: beside.read("all", body), bodies))
        assert [page.first for page in pages] == [(1 + 1000 * number, f"k{1 + 1000 * number}") for number in range(40)]


def test_a_process_has_its_next_question_before_its_answer_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "ANSWER_SECONDS", 30.0)
    with at_work({"all": recipe()}) as beside, ThreadPoolExecutor(3) as pool:
        (process,) = beside._up
        os.kill(process._process.pid, signal.SIGSTOP)
        asked = [pool.submit(beside.read, "all", reply(NAMES, rows(first, 50), 50)) for first in (1, 101, 201)]
        until = time.monotonic() + 10
        while process._serial < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert (process._serial, process.asked) == (2, 2), "the third waits for one of them"
        os.kill(process._process.pid, signal.SIGCONT)
        assert [one.result(30).first for one in asked] == [(first, f"k{first}") for first in (1, 101, 201)]
        assert (process._serial, process.asked, process.failed) == (3, 0, False)


def test_who_waits_for_a_process_reads_here_when_it_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "ANSWER_SECONDS", 1.0)
    with at_work({"all": recipe()}) as beside, ThreadPoolExecutor(4) as pool:
        (pid,) = pids(beside)
        os.kill(pid, signal.SIGSTOP)
        began = time.monotonic()
        pages = list(pool.map(lambda body: beside.read("all", body), [BODIES[0]] * 4))
        assert [page.first for page in pages] == [(1, "k1")] * 4
        assert time.monotonic() - began < 30, "nobody waits for it again"


def test_closing_ends_the_processes_and_waits_for_them() -> None:
    with at_work({"all": recipe()}, 2) as beside:
        there = pids(beside)
        assert all(map(runs_still, there))
        assert {os.getpgid(pid) for pid in there}.isdisjoint({os.getpgrp()}), "a terminal's Ctrl-C is not for them"
    assert not any(map(runs_still, there))
    assert beside.read("all", BODIES[0]).first == (1, "k1")


def test_a_process_that_does_not_end_when_told_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers, "END_SECONDS", 0.2)
    with at_work({"all": recipe()}) as beside:
        (pid,) = pids(beside)
        os.kill(pid, signal.SIGSTOP)
    assert not runs_still(pid)


PARENT = """
import sys, time
sys.path[:0] = {path!r}
from test_runtime_readers import at_work, pids, recipe
with at_work({{"all": recipe()}}, 2) as beside:
    print(*pids(beside), flush=True)
    time.sleep(600)
"""


def test_when_the_run_is_killed_its_processes_end(tmp_path: Path) -> None:
    here = Path(__file__).parent
    script = PARENT.format(path=[str(here), str(here.parent), str(here.parent / "netsuite")])
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=tmp_path)
    assert parent.stdout is not None
    there = [int(word) for word in parent.stdout.readline().split()]
    assert len(there) == 2
    parent.kill()
    parent.wait(30)
    until = time.monotonic() + 30
    while any(map(_is_at_work, there)) and time.monotonic() < until:
        time.sleep(0.02)  # until they have read the end of their sockets
    assert not any(map(_is_at_work, there))


def _is_at_work(pid: int) -> bool:
    """Whether a process runs; one that has ended may stand in the list until init has asked for it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return runs_still(pid) if not Path("/proc/self/stat").exists() else False
    return state != "Z"


# --- in a run -------------------------------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> list[Readers]:
    """Have every run start a process before its first page, and tell the readers that were made."""
    made: list[Readers] = []

    class AtOnce(Readers):
        def __init__(self, recipes: Any, processes: int) -> None:
            super().__init__(recipes, 1)
            made.append(self)
            self.started = True
            self._start()
            while self._starting:
                self._given_back(process) if (process := self._taken()) else time.sleep(0.01)

    monkeypatch.setattr(importer, "Readers", AtOnce)
    return made


def test_a_run_reads_all_its_pages_there_and_brings_the_same(
    runs: Runs, at_once: list[Readers], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(readers.Reading, "read", lambda self, body: pytest.fail("a page was read here"))
    runs.source.execute("UPDATE orders SET memo = ? WHERE id = 3", 'it\'s \\ "quoted"\n\N{GRINNING FACE}')
    assert runs().exit_code is ExitCode.OK
    assert runs.query("SELECT id, memo FROM `order` ORDER BY id") == runs.source.rows(
        "SELECT * FROM orders ORDER BY id"
    )
    assert runs.query("SELECT uniquekey, orderid FROM line ORDER BY uniquekey") == runs.source.rows(
        "SELECT * FROM lines ORDER BY uniquekey"
    )
    assert at_once[0]._up == [], "closed with the run"


def test_full_pages_land_in_sqlite_as_the_databases_that_they_came_as(
    runs: Runs, at_once: list[Readers], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In MySQL as texts; wherever, each row once, and again over themselves."""
    hung_in: list[int] = []
    find = staging.table_of

    def table_of(connection: Any, page: Packed) -> str | None:
        table = find(connection, page)
        hung_in.append(page.count if table is not None else 0)
        return table

    monkeypatch.setattr(staging, "table_of", table_of)
    runs.source.fill(range(31, 2001), lines_each=1)
    large = replace(runs.settings.run, page_size=1000, batch_size=1000, parents_per_batch=700)
    settings = replace(runs.settings, run=large)
    for full in (False, True):
        runs.source.execute("UPDATE orders SET memo = ?", f"in the import that is full: {full}")
        assert runs(settings=settings, full=full).exit_code is ExitCode.OK
        assert runs.query("SELECT id, memo FROM `order` ORDER BY id") == runs.source.rows(
            "SELECT * FROM orders ORDER BY id"
        )
        assert runs.query("SELECT uniquekey, orderid FROM line ORDER BY uniquekey") == runs.source.rows(
            "SELECT * FROM lines ORDER BY uniquekey"
        )
    assert sum(hung_in) >= (6000 if runs.settings.database.url.startswith("sqlite") else 0)
    assert bool(hung_in) is runs.settings.database.url.startswith("sqlite")


def test_a_run_whose_reader_is_killed_under_way_completes(runs: Runs, at_once: list[Readers]) -> None:
    pages = iter(range(10**6))
    killed = threading.Event()

    def before(sql: str) -> None:
        if next(pages) == 6:
            for pid in pids(at_once[0]):
                os.kill(pid, signal.SIGKILL)
            killed.set()

    runs.source.before = before
    assert runs().exit_code is ExitCode.OK
    assert killed.is_set()
    assert runs.orders() == list(range(1, 31))
    assert runs.query("SELECT COUNT(*) FROM line") == [(30,)]


def test_a_run_reads_with_as_many_processes_as_it_is_given_and_has_processors_for(
    runs: Runs, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[int] = []

    class Told(Readers):
        def __init__(self, recipes: Any, processes: int) -> None:
            given.append(processes)
            super().__init__(recipes, 0)

    monkeypatch.setattr(importer, "Readers", Told)
    for processors, processes in ((7, 3), (1, 1), (0, 0)):
        monkeypatch.setattr(importer, "processors_beside", lambda many=processors: many)
        runs()
        assert given.pop() == processes
    monkeypatch.setattr(importer, "processors_beside", lambda: 7)
    runs(settings=replace(runs.settings, run=replace(runs.settings.run, reader_processes=0)))
    assert given == [0]
    assert readers.processors_beside() >= 0
