"""What an operator sees, on real terminals: 80 columns, 200, without colours, without Unicode; and in a pipe.

The screens are files under `screens/`; WAVEIMPORT_REWRITE_SCREENS=1 writes them anew, to be looked at before they are
committed. The jobs are in bundles, whose clock stands still.
"""

import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
import time
from dataclasses import dataclass
from pathlib import Path

import pyte
import pytest
from screen_world import bundles

from waveimport.cli.main import run
from waveimport.cli.redraw import Redraw
from waveimport.cli.render import Screen
from waveimport.cli.wave_table import wave_lines
from waveimport.store.bundle import unpack
from waveimport.store.progress import read_progress

FOLDER = Path(__file__).parent / "screens"
REWRITE = bool(os.environ.get("WAVEIMPORT_REWRITE_SCREENS"))
LONGEST_SECONDS = 60.0


@dataclass(frozen=True)
class Look:
    """A command, and the terminal that it is typed at."""

    words: tuple[str, ...]
    columns: int = 80
    lines: int = 24
    environment: tuple[tuple[str, str], ...] = ()


PLAIN = (("NO_COLOR", "1"), ("PYTHONIOENCODING", "latin-1"))
LOOKS = {
    "running-80": Look(("status", "running")),
    "running-200": Look(("status", "running"), 200, 50),
    "running-80-plain": Look(("status", "running"), environment=PLAIN),
    "stuck-80-why": Look(("status", "stuck", "--why")),
    "stuck-80-replay": Look(("replay", "stuck")),
    "failed-80": Look(("status", "failed")),
    "failed-200-plain": Look(("status", "failed"), 200, 50, environment=PLAIN),
}


class Terminal:
    """A command at a pseudo-terminal, and the screen that it draws."""

    def __init__(self, look: Look, folder: Path, found: dict[str, Path]) -> None:
        self.raw = b""
        # Taller than the window: what has scrolled away is looked at too.
        self.screen = pyte.Screen(look.columns, 200)
        self._stream = pyte.ByteStream(self.screen)
        words = [str(found[word]) if word in found else word for word in look.words]
        self._fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", look.lines, look.columns, 0, 0))
        kept = {name: value for name, value in os.environ.items() if not name.startswith("WAVEIMPORT_")}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            kept.pop(name, None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "waveimport", *words],
            stdin=slave, stdout=slave, stderr=slave, cwd=folder, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**kept, "TERM": "xterm-256color", "PYTHONUTF8": "1", **dict(look.environment)},
        )  # fmt: skip
        os.close(slave)

    def read(self, until: bytes | None = None) -> None:
        """Draw what comes, to the end or until these bytes came."""
        end = time.monotonic() + LONGEST_SECONDS
        while until is None or until not in self.raw:
            assert time.monotonic() < end, self.text
            if not select.select([self._fd], [], [], 0.2)[0]:
                continue
            try:
                got = os.read(self._fd, 65536)
            except OSError:  # Linux says so when the other end is closed
                return
            if not got:
                return
            self.raw += got
            self._stream.feed(got)

    def type(self, keys: bytes) -> None:
        """Type at the keyboard."""
        os.write(self._fd, keys)

    def close(self) -> int:
        """Return how the command ended."""
        self.read()
        os.close(self._fd)
        return self.process.wait(LONGEST_SECONDS)

    @property
    def text(self) -> str:
        """The screen without what is blank at its edges."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip() + "\n"

    def colour(self, word: str) -> str:
        """The colour in which a word is first seen."""
        line, place = next((at, text.index(word)) for at, text in enumerate(self.screen.display) if word in text)
        return str(self.screen.buffer[line][place].fg)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return bundles(tmp_path_factory.mktemp("screens"))


@pytest.fixture(scope="module")
def terminals(found: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Terminal]:
    """All looks, started together: most of their time is that of starting."""
    folder = tmp_path_factory.mktemp("terminals")
    started = {name: Terminal(look, folder, found) for name, look in LOOKS.items()}
    for terminal in started.values():
        assert terminal.close() == 0, terminal.text
    return started


def compare(name: str, text: str) -> None:
    path = FOLDER / f"{name}.txt"
    if REWRITE:
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", LOOKS)
def test_a_screen_is_as_it_was_looked_at(terminals: dict[str, Terminal], name: str) -> None:
    compare(name, terminals[name].text)


@pytest.mark.parametrize("name", [name for name in LOOKS if "replay" not in name])
def test_no_line_of_the_wave_table_wraps(terminals: dict[str, Terminal], name: str) -> None:
    lines = terminals[name].text.splitlines()
    head = next(at for at, line in enumerate(lines) if line.startswith("WAVE"))
    numbers = [line.split()[0] for line in lines[head + 1 : lines.index("", head)]]
    assert numbers == [str(number + 1) for number in range(len(numbers))]
    assert len(numbers) in (2, 4)


def test_colours_say_the_same_as_the_words(terminals: dict[str, Terminal]) -> None:
    assert terminals["running-80"].colour("processing") == "cyan"
    assert terminals["running-200"].colour("████") == "green"
    assert terminals["failed-80"].colour("failed") == "red"
    assert terminals["stuck-80-why"].colour("alert[") == "red"


def test_no_color_and_no_unicode_are_obeyed(terminals: dict[str, Terminal]) -> None:
    for name in ("running-80-plain", "failed-200-plain"):
        raw = terminals[name].raw
        assert b"\x1b" not in raw
        assert raw.isascii()
    assert b"\x1b[36m" in terminals["running-80"].raw


@pytest.mark.parametrize(("name", "narrowest"), [("running", 66), ("failed", 69)])
def test_the_table_fits_every_width(found: dict[str, Path], tmp_path: Path, name: str, narrowest: int) -> None:
    database, manifest = unpack(found[name], tmp_path)
    job = database.run(lambda connection: read_progress(connection, manifest["job_id"]))
    database.close()
    for width in range(narrowest, 260):
        for line in wave_lines(job, Screen(width, 24)):
            assert len(line) <= width, line
    # Where names are cut anyway, no room is left unused.
    assert max(map(len, wave_lines(job, Screen(80, 24)))) >= 79


@pytest.mark.parametrize("name", ["running", "stuck", "failed"])
def test_in_a_pipe_all_is_shown_and_nothing_is_drawn(
    found: dict[str, Path], name: str, capsys: pytest.CaptureFixture[str], quiet_environment: None
) -> None:
    assert run(["status", str(found[name])]) == 0
    compare(f"{name}-pipe", capsys.readouterr().out)


def test_brief_is_one_line_with_the_time_left(
    found: dict[str, Path], capsys: pytest.CaptureFixture[str], quiet_environment: None
) -> None:
    assert run(["status", str(found["running"]), "--brief"]) == 0
    compare("running-brief", capsys.readouterr().out)


def test_ctrl_c_leaves_the_last_picture_and_ends_with_130(found: dict[str, Path], tmp_path: Path) -> None:
    terminal = Terminal(Look(("status", "running", "--watch")), tmp_path, found)
    terminal.read(until=b"import_20261122030000000000_77aa01fe\x1b[K\r\n\x1b[J")
    terminal.type(b"\x03")
    assert terminal.close() == 130
    assert "Traceback" not in terminal.text
    shown = terminal.text.replace("^C", "").rstrip() + "\n"
    # In the place of where the bundle is from stands the moment; below it is what is shown once.
    once = (FOLDER / "running-80.txt").read_text(encoding="utf-8")
    below = once.index("import_")
    assert shown == f"2026-11-23 03:14:15 UTC\n{once[below:]}"


class Window:
    """A terminal's window, as `Redraw` draws it in this process."""

    def __init__(self, columns: int, lines: int) -> None:
        self.size = Screen(columns, lines)
        self.screen = pyte.Screen(columns, lines)
        self._stream = pyte.Stream(self.screen)
        self.redraw = Redraw()

    def show(self, capsys: pytest.CaptureFixture[str], lines: list[str], waves: int = 0) -> str:
        """Draw a picture whose last `waves` lines are of waves, and return what was written."""

        def picture(most: int | None) -> list[str]:
            return lines if most is None else [*lines[: len(lines) - waves + most], f"and {waves - most} more waves"]

        self.redraw(self.size, picture, waves=waves)
        written = capsys.readouterr().out
        self._stream.feed(written.replace("\n", "\r\n"))
        return written

    @property
    def text(self) -> list[str]:
        """The lines of the window."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")


def test_a_picture_overwrites_the_one_before_without_a_blank_between(capsys: pytest.CaptureFixture[str]) -> None:
    window = Window(20, 8)
    assert "\x1b[2J" in window.show(capsys, ["a long first line", "second", "third"])
    written = window.show(capsys, ["short", "2nd"])
    assert "\x1b[2J" not in written
    assert window.text == ["short", "2nd"]
    window.size = Screen(10, 8)
    assert "\x1b[2J" in window.show(capsys, ["x"]), "a window of another size is cleared: its lines have moved"


def test_a_picture_that_is_too_tall_leaves_waves_out(capsys: pytest.CaptureFixture[str]) -> None:
    window = Window(40, 8)
    waves = [f"wave {number}" for number in range(20)]
    for _ in range(2):
        window.show(capsys, ["head", "", *waves], waves=20)
        assert window.text == ["head", "", "wave 0", "wave 1", "wave 2", "wave 3", "and 16 more waves"]


def test_prose_that_is_too_long_is_wrapped_before_it_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    window = Window(12, 8)
    for _ in range(2):
        window.show(capsys, ["one two three four", "five"])
        assert window.text == ["one two", "  three four", "five"]
