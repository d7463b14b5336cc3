"""The page of a job: whole and well-formed in every state, harmless, and small however large the job is."""

import re
import shutil
import subprocess
from collections import Counter
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_world import HOSTILE, write_job

from waveimport.core.waves import JobStatus
from waveimport.runtime.report import write_report
from waveimport.store.schema import upgrade
from waveimport.store.transactions import Database

VOID = {"meta", "br", "hr", "img", "input", "link"}
SECTIONS = {"verdict", "graph", "gantt", "counts", "errors", "failures", "log"}
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Page(HTMLParser):
    """A page read strictly: every element is closed where it was opened, every reference leads somewhere."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.ids: list[str] = []
        self.refers: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.unlabelled = 0
        self.feed(text)
        self.close()
        assert self.open == []
        assert len(self.ids) == len(set(self.ids))
        assert set(self.refers) <= set(self.ids)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._met(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._met(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag, f"</{tag}> at {self.getpos()}"

    def _met(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        assert len(attrs) == len({name for name, _ in attrs}), f"an attribute twice at {self.getpos()}"
        for name, value in attrs:
            self.attributes.append((name, value or ""))
            if name == "id":
                self.ids.append(value or "")
            elif name == "aria-labelledby" or (name == "href" and (value or "").startswith("#")):
                self.refers.append((value or "").lstrip("#"))
        given = dict(attrs)
        if given.get("class", "") and "chart" in (given.get("class") or "").split():
            self.unlabelled += not (given.get("role") == "img" and given.get("aria-label"))


def check(text: str) -> Page:
    """Return a page that needs nothing but itself, runs nothing, and has all its parts."""
    assert text.startswith("<!DOCTYPE html>")
    assert "<script" not in text.lower()
    assert not re.search(r"@import|url\((?!#)", text)
    page = Page(text)
    assert not page.tags.keys() & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    for name, value in page.attributes:
        assert not name.startswith("on"), f"{name}={value}"
        assert name not in ("src", "srcset", "xlink:href", "action")
        assert name != "href" or value.startswith("#")
    assert set(page.ids) >= SECTIONS
    assert page.unlabelled == 0
    assert "\x00" not in text
    assert "\x1b" not in text
    return page


@pytest.fixture
def database(tmp_path: Path) -> Database:
    database = Database.open(f"sqlite:///{tmp_path / 'report.db'}")
    upgrade(database)
    return database


def recent(seconds: float) -> datetime:
    return datetime.now(UTC).replace(tzinfo=None) - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("status", "began", "title"),
    [
        (JobStatus.COMPLETED, 3000.0, "Done"),
        (JobStatus.FAILED, 3000.0, "Failed"),
        (JobStatus.PROCESSING, 510.0, "Running"),
        (JobStatus.PROCESSING, 90_000.0, "Stuck"),
    ],
)
def test_a_page_is_whole_in_every_state(database: Database, status: JobStatus, began: float, title: str) -> None:
    write_job(database, "import_1", batches=1000, seconds=1000.0, status=status, start=recent(began))
    report = write_report(database, "import_1")
    page = check(report.html)
    assert f'<h2 id="verdict">{title}</h2>' in report.html
    assert "all agree" in report.html
    assert (report.diverged, report.damaged) == (False, None)
    assert page.tags["rect"] > 100
    assert ("Standstill" if title == "Stuck" else "Hatched: 1 standstill") not in report.html
    assert ("Hatched: 1 standstill" in report.html) == (title == "Stuck")


def test_a_job_that_nothing_has_happened_to_has_a_page(database: Database) -> None:
    from waveimport.core.graph import PlannedWave
    from waveimport.core.waves import WaveKind
    from waveimport.store.jobs import NewJob, create_job

    new = NewJob("import_1", "p", "full", "", "{}", None, (PlannedWave(1, WaveKind.MAIN, ("<item>",)),))
    database.run(lambda connection: create_job(connection, new))
    report = write_report(database, "import_1", replayed=True)
    check(report.html)
    assert "Waiting for a run" in report.html
    assert "&lt;item&gt;" in report.html
    assert "Rows a second" not in report.html, "there is nothing to draw"


def test_what_a_server_said_is_shown_and_never_run(database: Database) -> None:
    write_job(database, "import_1", batches=1000, status=JobStatus.FAILED)
    text = write_report(database, "import_1").html
    check(text)
    assert "<script>" in HOSTILE
    assert "HTTP 500: &lt;script&gt;alert(&#34;x&#34;)&lt;/script&gt; &amp; &#39;quoted&#39; \ufffd\ufffd[31m" in text


def test_ten_thousand_batches_are_columns_in_a_small_page(database: Database) -> None:
    write_job(database, "import_1", batches=10_000, status=JobStatus.FAILED)
    text = write_report(database, "import_1", replayed=True).html
    page = check(text)
    assert len(text.encode()) < 600_000
    assert "10 batches failed for good; the other 9,990 of 10,000 landed" in text
    assert text.count('class="c-done"') > 100
    assert 'rect class="b-done" x=' not in text.replace('<rect class="b-done" width', "")
    assert page.tags["rect"] < 2000


@pytest.mark.skipif(BROWSER is None, reason="no Chromium or Chrome is installed")
def test_a_browser_draws_the_page(database: Database, tmp_path: Path) -> None:
    write_job(database, "import_1", batches=200, status=JobStatus.FAILED)
    page, picture = tmp_path / "page.html", tmp_path / "page.png"
    page.write_text(write_report(database, "import_1").html, encoding="utf-8")
    assert BROWSER is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    said = subprocess.run(
        [BROWSER, *options, "--window-size=1000,2000", f"--screenshot={picture}", page.as_uri()],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in said.stderr
    assert picture.stat().st_size > 50_000, "a page of one colour is smaller"
