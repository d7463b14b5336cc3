"""What the lines of a run say of the batch that they are about, whichever thread writes them."""

import json
import logging
import threading
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest
from runtime_world import ORDER, World

from waveimport.cli.logs import _Lines
from waveimport.errors import QueryRefused
from waveimport.log_fields import bind, bound, fields
from waveimport.runtime import coordinator, writer
from waveimport.runtime.log_context import about
from waveimport.store import landing
from waveimport.store.transactions import Database


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    made = World(database, records=(ORDER,))
    yield made
    made.close()


class Listener(logging.Handler):
    """Keeps each line as it would be written, in either form."""

    def __init__(self) -> None:
        super().__init__()
        self.json = _Lines("json", str)
        self.text = _Lines("text", str)
        self.said: list[tuple[dict[str, Any], str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append((json.loads(self.json.format(record)), self.text.format(record)))

    def about(self, words: str) -> list[dict[str, Any]]:
        return [line for line, _ in self.said if words in line["message"]]


@pytest.fixture
def heard() -> Iterator[Listener]:
    ours, listener = logging.getLogger("waveimport"), Listener()
    level = ours.level
    ours.addHandler(listener)
    ours.setLevel(logging.DEBUG)
    yield listener
    ours.removeHandler(listener)
    ours.setLevel(level)


def numbered(world: World, then: Callable[[str], bytes | None]) -> None:
    """Have the source name its requests r1, r2, …, as the client does."""
    numbers = count(1)

    def before(sql: str) -> bytes | None:
        bind(request_id=f"r{next(numbers)}")
        return then(sql)

    world.source.before = before


def test_a_refused_batch_is_told_of_with_its_wave_attempt_and_request(world: World, heard: Listener) -> None:
    world.source.fill(range(1, 4))

    def refuse(sql: str) -> None:
        if "memo" in sql:
            raise QueryRefused("no")

    numbered(world, refuse)
    with bound(token=9):
        world.coordinator().run()
    assert world.job() == "failed"
    (first,), (last,) = heard.about("was refused, try 1"), heard.about("failed for good")
    batch = {"job": "import_1", "token": 9, "wave": 1, "batch": "1/order/0000000"}
    # The plan's request was the first; those after the third were asked to find the column.
    assert first.items() >= {**batch, "attempt": 1, "request_id": "r2"}.items()
    assert last.items() >= {**batch, "attempt": 2, "request_id": "r3"}.items()
    assert len(world.source.asked) > 3
    texts = [text for line, text in heard.said if line is first or line is last]
    assert [text.rpartition("  ")[2] for text in texts] == [
        "batch=1/order/0000000 attempt=1 request_id=r2",
        "batch=1/order/0000000 attempt=2 request_id=r3",
    ]
    # The worker's own lines: the token is what the coordinating thread had bound when it made the worker.
    ended = heard.about("batch ended: refused")
    assert [(line["batch"], line["token"], line["request_id"]) for line in ended] == [
        ("1/order/0000000", 9, "r2"), ("1/order/0000000", 9, "r3"),
    ]  # fmt: skip


def test_a_page_lands_under_the_request_that_brought_it(world: World, heard: Listener) -> None:
    world.source.fill(range(1, 14))
    numbered(world, lambda sql: None)
    (plan,) = world.claim()
    world.fetcher().work(plan)
    (first, *_) = sorted(world.claim(), key=lambda claim: claim.batch_id)
    heard.said.clear()
    world.fetcher().work(first)
    landed = heard.about("landed")
    assert [(line["batch"], line["request_id"], line["rows"]) for line in landed] == [
        (first.batch_id, f"r{number}", rows) for number, rows in ((2, 5), (3, len(world.orders()) - 5))
    ]
    assert "request_id" not in fields(), "what a batch had bound ends with it"


def test_threads_at_work_at_once_do_not_mix_their_batches(world: World, heard: Listener) -> None:
    world.source.fill(range(1, 40))
    both, pages = threading.Barrier(2, timeout=10), count()

    def meet(sql: str) -> None:
        if "COUNT(" not in sql and next(pages) < 2:
            both.wait()

    numbered(world, meet)
    world.coordinator().run()
    assert world.job() == "completed"
    requests: dict[str, set[str]] = {}
    for line in heard.about("landed"):
        requests.setdefault(line["request_id"], set()).add(line["batch"])
    assert len({batch for batches in requests.values() for batch in batches}) > 2
    assert all(len(batches) == 1 for batches in requests.values()), "a request is of one batch"


def test_a_batch_that_hangs_is_told_of_by_name(world: World, heard: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    world.source.fill(range(1, 4))
    (plan,) = world.claim()
    loop = world.coordinator(step_seconds=-1.0)
    loop._flights[plan.batch_id, plan.attempt] = coordinator._Flight(plan, 0.0)
    loop._renew(1.0)
    (line,) = heard.about("hangs beyond every time limit")
    assert (line["wave"], line["batch"], line["attempt"]) == (1, "1/order/plan", 1)


def test_what_the_writer_does_for_a_batch_is_told_of_under_its_name(world: World) -> None:
    """On SQLite, and for pages on either database, another thread does it."""
    world.source.fill(range(1, 4))
    (plan,) = world.claim()
    with about(plan, "r1"):
        seen = world.writer.transact(lambda connection: fields())
    assert seen == {"job": "import_1", "wave": 1, "batch": "1/order/plan", "attempt": 1, "request_id": "r1"}
    assert world.writer.transact(lambda connection: fields()) == {}


def test_a_page_is_landed_under_the_name_of_its_batch(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.source.fill(range(1, 4))
    numbered(world, lambda sql: None)
    seen: list[tuple[Any, Any]] = []

    def land(*given: Any) -> bool:
        bound = fields()
        seen.append((bound.get("batch"), bound.get("request_id")))
        return landing.land(*given)

    monkeypatch.setattr(writer, "land", land)
    world.work_all()
    assert seen == [("1/order/plan", "r1"), ("1/order/plan", "r1"), ("1/order/0000000", "r2")]
