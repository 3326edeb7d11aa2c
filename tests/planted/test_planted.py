"""A11: each bug of tests/planted/bugs.py, planted in a copy of the code, is caught by the tests it names.

The copies lie in temporary directories, and pytest runs in a process of its own on each, two at a time.
Nothing in the real code knows of it. That the same tests pass without the bug, the rest of the suite says.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.planted.bug import Bug
from tests.planted.bugs import BUGS, page

ROOT = Path(__file__).resolve().parents[2]
AT_A_TIME = 2
COPIED = ("storage", "commands", "klani_resp", "bench", "tests", "pyproject.toml")
SECONDS_MAX = 60  # for one bug

pytestmark = pytest.mark.proof
# What tests have installed for themselves is large, and no code of ours.
NOT_OURS = shutil.ignore_patterns("__pycache__", "node_modules", ".venv*")


def run(bug: Bug, directory: Path) -> tuple[int, str]:
    """pytest's status, and what it said, with the bug in the code."""
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, directory / name, ignore=NOT_OURS)
        else:
            shutil.copy(ROOT / name, directory / name)
    file = directory / bug.file
    file.write_text(bug.plant(file.read_text()))
    options = ["-q", "-p", "no:cacheprovider", "--tb=line"]
    done = subprocess.run(
        [sys.executable, "-B", "-m", "pytest", *options, *bug.caught_by],
        cwd=directory,
        env={name: value for name, value in os.environ.items() if name not in ("KLANI_PROOF", "PYTHONPATH")},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[tuple[int, str]]]]:
    """All that were asked for, under way."""
    with ThreadPoolExecutor(AT_A_TIME) as pool:
        yield {
            bug.name: pool.submit(run, bug, tmp_path_factory.mktemp("planted")) for bug in _asked_for(request)
        }


def _asked_for(request: pytest.FixtureRequest) -> list[Bug]:
    calls = (getattr(item, "callspec", None) for item in request.session.items)
    return [call.params["bug"] for call in calls if call is not None and "bug" in call.params]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_planted_bug_is_caught(
    bug: Bug, runs: dict[str, Future[tuple[int, str]]], figure: Callable[[str, int], None]
) -> None:
    status, said = runs[bug.name].result()
    assert status == 1, f"status {status}, not 1 (tests failed):\n{said}"
    failed = {line.split(" ")[1] for line in said.splitlines() if line.startswith("FAILED ")}
    print(said)
    for node in bug.caught_by:
        assert any(line.startswith(f"FAILED {node}") for line in said.splitlines()), (
            f"{node} passes: {failed}"
        )
    figure("A11 planted bugs caught", 1)


def test_a_bug_that_cannot_be_planted_says_so() -> None:
    bug = BUGS[0]
    for text in ("", bug.old * 2):
        with pytest.raises(AssertionError, match=f"{bug.file} has {text.count(bug.old)} times, not once"):
            bug.plant(text)


def test_there_are_enough_of_them() -> None:
    assert len(BUGS) >= 20
    assert len({bug.name for bug in BUGS}) == len(BUGS)


def test_the_page_is_that_of_the_table() -> None:
    written = (ROOT / "docs" / "planted-bugs.md").read_text()
    assert written == page(), "stale: python -m tests.planted.bugs > docs/planted-bugs.md"
