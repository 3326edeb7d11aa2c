"""A herd whose server was killed in its midst: nothing was verified, and its page claims nothing else."""

from __future__ import annotations

import html
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench.harness import launch
from tests.test_report import FIGURE, line_of, words_of

ROOT = Path(__file__).resolve().parent.parent
MANY = ("--users", "200000", "--seats", "1000", "--workers", "16", "--processes", "2")

Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The output of such a herd, and what it printed."""
    directory = tmp_path_factory.mktemp("killed")
    server = launch.klani(directory / "data")
    try:
        command = [sys.executable, str(ROOT / "bench" / "herd.py"), "--port", str(server.port), *MANY]
        with subprocess.Popen(
            [*command, "--output", str(directory / "out")], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as herd:
            assert herd.stdout is not None
            printed = b""
            while b"sample second=1 " not in printed:
                printed += herd.stdout.readline()
            server.process.kill()
            printed += herd.stdout.read()
        assert herd.returncode == 1
    finally:
        server.stop()
    return directory / "out", printed.decode()


@pytest.fixture(scope="module")
def page(killed: tuple[Path, str]) -> str:
    return (killed[0] / "report.html").read_text()


@pytest.fixture(scope="module")
def log(killed: tuple[Path, str]) -> Lines:
    return [json.loads(line) for line in (killed[0] / "raw.jsonl").read_text().splitlines()]


def test_what_was_not_read_is_no_count(killed: tuple[Path, str], log: Lines) -> None:
    final = killed[1].splitlines()[-1]
    assert " verified_sold=unread read_queries=" in final
    assert line_of(log, "verification") == {"kind": "verification", "verified_sold": None}
    assert json.loads((killed[0] / "result.json").read_text())["verified_sold"] is None
    assert "storage re-read" not in killed[1]


def test_what_follows_from_it_is_no_problem_of_its_own(killed: tuple[Path, str], log: Lines) -> None:
    problems = line_of(log, "totals")["problems"]
    assert [re.sub(r"re-read: .*", "re-read", problem) for problem in problems] == [
        "storage could not be re-read",
        "16 workers failed",
    ]


def test_its_page_claims_no_verification(page: str) -> None:
    words = words_of(page)
    assert "not right" in words
    assert "was read again from" not in words
    assert "KL.VERIFY" not in words
    assert "KL.SCAN" not in words
    assert "Afterwards storage could not be read again" in words
    assert re.search("verified_ ?sold \N{EN DASH} storage could not be read again", words)


def test_its_page_says_why_and_where_that_stands(page: str, log: Lines) -> None:
    top = page.partition('<div class="cards">')[0]
    told = {text: origin for origin, text in FIGURE.findall(top)}
    totals = next(number for number, line in enumerate(log, 1) if line["kind"] == "totals")
    assert told["16 workers failed"] == f"line {totals}: problems/1"
    failures = [number for number, line in enumerate(log, 1) if line["kind"] == "failure"]
    assert len(failures) == 16
    errors = {html.unescape(text): origin for text, origin in told.items() if origin.endswith("traceback")}
    assert any(error.startswith("redis.exceptions.ConnectionError: ") for error in errors)
    for error, origin in errors.items():
        assert error in log[int(re.findall(r"\d+", origin)[0]) - 1]["traceback"]
    named = re.findall(r"class=source>raw\.jsonl, lines? ([\d, -]+)</span></li>", top)
    assert f"{failures[0]:,}" in " ".join(named)
