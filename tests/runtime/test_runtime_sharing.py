"""Runs that ask one account from one database: each takes its part of the limit, and says so."""

from collections.abc import Callable, Iterator
from datetime import datetime

import pytest
from runtime_world import JOB, World

from waveimport.core.limits import Limits, Strike
from waveimport.errors import Fenced
from waveimport.runtime import clock
from waveimport.runtime.sharing import BEAT_SECONDS, JOURNAL_EVERY_SECONDS, AccountShare
from waveimport.store import sharing
from waveimport.store.progress import read_progress
from waveimport.store.transactions import Database


class Source:
    """A client whose limit is 5, cut by hand."""

    def __init__(self) -> None:
        self.shared = self.allowed = 5
        self.strike: Strike | None = None

    @property
    def limits(self) -> Limits:
        struck = None if self.strike is None else datetime(2026, 11, 26, 3, 4, 5)
        return Limits(5, self.shared, 1, min(self.allowed, self.shared), 2, struck, self.strike)

    def share(self, requests: int) -> None:
        self.shared = requests


@pytest.fixture
def world(database: Database) -> Iterator[World]:
    made = World(database)
    yield made
    made.close()


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Let so many seconds pass."""
    passed = [1_000.0]
    monkeypatch.setattr(clock, "monotonic", lambda: passed[0])

    def wait(seconds: float = BEAT_SECONDS) -> None:
        passed[0] += seconds

    return wait


def other(world: World, owner: str, seconds: float = 30.0) -> None:
    """Have another run tell of itself."""
    world.writer.transact(
        lambda connection: sharing.tell(
            connection, "1_SB1", owner, "import_9", Limits(5, 5, 1, 5, 0), None, seconds=seconds
        )
    )


def test_a_run_alone_has_all_of_it_and_says_how_much_it_uses(world: World, later: Callable[[float], None]) -> None:
    source = Source()
    share = AccountShare(world.writer, source, "1_SB1", world.lease)
    share.beat()
    assert source.shared == 5
    told = world.writer.transact(lambda connection: read_progress(connection, JOB)).requests
    assert told is not None
    assert (told.account, told.configured, told.allowed, told.in_flight, told.reason) == ("1_SB1", 5, 5, 2, None)
    share.leave()
    assert world.writer.transact(lambda connection: read_progress(connection, JOB)).requests is None
    assert world.query("SELECT event FROM wave_journal WHERE event = 'limit'") == []


def test_two_runs_have_five_between_them_until_one_ends_or_its_row_lapses(
    world: World, later: Callable[..., None]
) -> None:
    source = Source()
    share = AccountShare(world.writer, source, "1_SB1", world.lease)
    other(world, "another:1")
    other(world, "zealous:1")
    share.beat()
    assert source.shared == 2, "the first of the three has 2, by name"
    later(BEAT_SECONDS - 1)
    world.writer.transact(lambda connection: sharing.forget(connection, "1_SB1", ["another:1"]))
    share.beat()
    assert source.shared == 2, "not before the next beat"
    later()
    share.beat()
    assert source.shared == 3
    told = world.writer.transact(lambda connection: read_progress(connection, JOB)).requests
    assert told is not None
    assert told.reason == "2 other runs on this database ask the same account, which leaves 2 of 5"
    other(world, "zealous:1", seconds=-1.0)
    later()
    share.beat()
    assert source.shared == 5
    share.leave()
    assert world.query("SELECT COUNT(*) FROM account_runs") == [(0,)], "the row that lapsed is gone with it"


def test_a_cut_stands_in_the_journal_with_its_cause_and_not_at_every_beat(
    world: World, later: Callable[..., None]
) -> None:
    source = Source()
    share = AccountShare(world.writer, source, "1_SB1", world.lease)
    share.beat()
    source.allowed, source.strike = 3, Strike.RATE_LIMITED
    for allowed in (3, 4, 3, 4, 3):
        source.allowed = allowed
        later()
        share.beat()
    notes = "SELECT note FROM wave_journal WHERE event = 'limit' ORDER BY seq"
    [(note,)] = world.query(notes)
    assert note.startswith("3 of 5 requests may be in flight: NetSuite answered 429: its limit is in use")
    source.allowed = 5
    later(JOURNAL_EVERY_SECONDS)
    share.beat()
    assert [row[0] for row in world.query(notes)][1:] == ["5 of 5 requests may be in flight"]


def test_who_has_lost_the_job_writes_nothing_into_its_journal(world: World, later: Callable[..., None]) -> None:
    source = Source()
    share = AccountShare(world.writer, source, "1_SB1", world.lease)
    world.take(2)
    source.allowed, source.strike = 3, Strike.RATE_LIMITED
    with pytest.raises(Fenced):
        share.beat()
