"""Each mutant must be noticed: the tests that it names are run on a copy of the project with its bug, and must fail.

CI runs the first layer that a mutant names, the deep profile every one. The same tests must pass on a copy without a
bug, or a failure would say nothing.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mutant import LAYERS, Killer, Mutant, Stale, copy_project, mutants
from project import DEEP

MUTANTS = mutants()
SECONDS = 900
NOT_A_KILL = ("NameError", "ImportError", "ModuleNotFoundError", "SyntaxError", "UnboundLocalError")
"""Errors of a mutant that cannot run, which any test would notice."""


def python(folder: Path, *words: str, mysql: str | None = None) -> "subprocess.CompletedProcess[str]":
    """Run Python in a copy of the project, whose package goes before the installed one."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("WAVEIMPORT_", "PYTEST_"))}
    environment |= {"PYTHONPATH": str(folder), "HYPOTHESIS_PROFILE": "mutant"}
    if mysql is not None:
        environment["WAVEIMPORT_TEST_MYSQL_URL"] = mysql
    return subprocess.run(
        [sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
    )


def run_tests(folder: Path, words: tuple[str, ...], mysql: str | None) -> "subprocess.CompletedProcess[str]":
    quick = ("-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--tb=short", f"--basetemp={folder / 'tmp'}")
    return python(folder, "-m", "pytest", *quick, *words, mysql=mysql)


def server(request: pytest.FixtureRequest, needed: bool) -> str | None:
    """Return the URL of the session's server where tests need one; skips without."""
    return request.getfixturevalue("mysql_url") if needed else None


def cases() -> list[object]:
    return [
        pytest.param(mutant, killer, id=f"{mutant.name}-{killer.layer}", marks=[pytest.mark.mysql] * killer.needs_mysql)
        for mutant in MUTANTS
        for killer in mutant.killers[: None if DEEP else 1]
    ]


@pytest.mark.parametrize(("mutant", "killer"), cases())
def test_a_mutant_is_noticed(mutant: Mutant, killer: Killer, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    mysql = server(request, killer.needs_mysql)
    copy_project(tmp_path)
    mutant.apply(tmp_path)
    done = run_tests(tmp_path, killer.words, mysql)
    told = f"{mutant.name}, {killer.layer}: {' '.join(killer.words)}\n{done.stdout[-6000:]}{done.stderr[-2000:]}"
    assert done.returncode != 0, f"it survived {told}"
    assert done.returncode == 1, f"the tests did not run {told}"
    failures = [line.partition(" - ")[2] for line in done.stdout.splitlines() if line.startswith("FAILED ")]
    assert failures, f"no test failed, something around them did {told}"
    assert not any(failure.startswith(NOT_A_KILL) for failure in failures), f"the mutant cannot run {told}"


@pytest.mark.parametrize("mysql", [False, pytest.param(True, marks=pytest.mark.mysql)])
def test_what_notices_the_mutants_passes_without_them(
    mysql: bool, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """All at once, in a copy like those of the mutants; the other layers are run as they are by the suite itself."""
    url = server(request, mysql)
    killers = [mutant.killers[0] for mutant in MUTANTS if mutant.killers[0].needs_mysql is mysql]
    copy_project(tmp_path)
    done = run_tests(tmp_path, tuple(dict.fromkeys(word for killer in killers for word in killer.words)), url)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "skipped" not in done.stdout


def test_the_package_of_the_copy_is_what_its_tests_import(tmp_path: Path) -> None:
    copy_project(tmp_path)
    (tmp_path / "tests" / "test_seen.py").write_text(
        "from pathlib import Path\n\nimport waveimport\n\n\n"
        "def test_it_is_the_copy() -> None:\n    assert Path(waveimport.__file__).parents[1] == Path.cwd()\n"
    )
    done = run_tests(tmp_path, ("tests/test_seen.py",), None)
    assert done.returncode == 0, done.stdout + done.stderr
    done = python(tmp_path, "-P", "-c", "import waveimport; print(waveimport.__file__)")
    assert Path(done.stdout.strip()).parents[1] == tmp_path, "nor do programs that a test starts get another"


def test_a_patch_that_no_longer_fits_says_so(tmp_path: Path) -> None:
    (tmp_path / "waveimport").mkdir()
    (tmp_path / "waveimport" / "some.py").write_text("a = 1\nb = 3\n")
    diff = "--- a/waveimport/some.py\n+++ b/waveimport/some.py\n@@ -1,2 +1,2 @@\n a = 1\n-b = 2\n+b = 4\n"
    with pytest.raises(Stale, match="the same mistake in the code as it is now"):
        Mutant("old", "", (), diff).apply(tmp_path)
    (tmp_path / "waveimport" / "some.py").write_text("a = 1\nb = 2\n")
    Mutant("old", "", (), diff).apply(tmp_path)
    assert (tmp_path / "waveimport" / "some.py").read_text() == "a = 1\nb = 4\n"


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_mutant_has_a_story_and_two_layers_that_notice_it(mutant: Mutant) -> None:
    assert len(mutant.story.splitlines()) >= 2, "what is wrong, and where it is from"
    layers = [killer.layer for killer in mutant.killers]
    assert set(layers) <= set(LAYERS)
    assert len(set(layers)) == len(layers)
    assert len(layers) >= 2 or "One layer only:" in mutant.story
