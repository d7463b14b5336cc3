"""A mutant: a named bug as a patch, with its story and the tests that must notice it.

A patch begins with the story. Each line `layer: pytest words` (or `layer on MySQL: …`, which needs a server) names
tests that must fail with it and the layer that they belong to, the quickest first. The rest is a unified diff, which is
applied here by its text and not by its line numbers: what a hunk takes out, and what stands beside, must be in the file
once.
"""

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).parents[2]
FOLDER = Path(__file__).parent
PARTS = ("pyproject.toml", "schema.sql", "waveimport", "tests", "examples")
"""What the tests need of the project."""
LAYERS = (
    "unit", "model check", "stateful", "store", "lock order", "interleavings", "runtime", "crash points", "end to end",
)  # fmt: skip
_KILLER = re.compile(rf"({'|'.join(LAYERS)})( on MySQL)?: (tests/\S+.*)")


class Stale(Exception):
    """A patch that does not fit the code any more: the code has moved on and the mutant must follow."""


@dataclass(frozen=True)
class Killer:
    """Tests that must fail, as words for pytest, and their layer."""

    layer: str
    words: tuple[str, ...]
    needs_mysql: bool


@dataclass(frozen=True)
class Mutant:
    """A patch file, read."""

    name: str
    story: str
    killers: tuple[Killer, ...]
    diff: str

    @classmethod
    def read(cls, path: Path) -> "Mutant":
        head, mark, diff = path.read_text().partition("--- a/")
        lines = head.splitlines()
        killers = [
            Killer(found[1], tuple(shlex.split(found[3])), bool(found[2]))
            for found in map(_KILLER.fullmatch, lines)
            if found
        ]
        story = "\n".join(line for line in lines if not _KILLER.fullmatch(line)).strip()
        return cls(path.stem, story, tuple(killers), mark + diff)

    def apply(self, folder: Path) -> None:
        """Change the copy of the project in `folder`. Raises Stale."""
        for part in re.split(r"^--- a/", self.diff, flags=re.MULTILINE)[1:]:
            head, *hunks = re.split(r"^@@.*\n", part, flags=re.MULTILINE)
            path = folder / head.splitlines()[0].strip()
            if not path.exists():
                raise Stale(f"{self.name}: {path.name}, which it changes, is no more")
            text = path.read_text()
            for hunk in hunks:
                lines = hunk.splitlines(keepends=True)
                before = "".join(line[1:] for line in lines if line[0] in " -")
                after = "".join(line[1:] for line in lines if line[0] in " +")
                if text.count(before) != 1:
                    raise Stale(
                        f"tests/mutants/{self.name}.patch does not fit {head.split()[0]} any more: these lines stand in"
                        f" it {text.count(before)} times; make the same mistake in the code as it is now\n{before}"
                    )
                text = text.replace(before, after)
            path.write_text(text)
            # A file of the same size and second would else be taken for what was compiled of the one before.
            for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
                compiled.unlink()


def mutants() -> list[Mutant]:
    """Return every mutant, by name."""
    return [Mutant.read(path) for path in sorted(FOLDER.glob("*.patch"))]


def copy_project(folder: Path) -> None:
    """Copy what the tests need; with what Python has compiled, which a copy that keeps its times can use."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PARTS:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("mutants", "bench"))
        else:
            shutil.copy2(source, folder / name)
