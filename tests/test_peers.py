"""bench/peers.py, small: every peer runs and is verified, and one that is not there is named."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.harness import launch_postgres
from bench.horde.sqlite import PRAGMAS
from bench.peers import OURS, PROGRAMS, PUBLISHED, RACES, Taken

ROOT = Path(__file__).resolve().parent.parent
SMALL = ("--", "--users", "600", "--seats", "100", "--ranks", "4", "--workers", "8", "--processes", "2")


def run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "bench" / "peers.py"), *options]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=110, check=False, env=environment or None
    )


def test_every_peer_races_and_is_written_down(tmp_path: Path, need: Callable[[str], str]) -> None:
    for program, _ in PROGRAMS.values():
        need(program)
    done = run("--rounds", "1", "--write", str(tmp_path), *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    page = (tmp_path / "benchmarks.md").read_text()
    for name in PUBLISHED:
        for peer in RACES[name][1]:
            row = rf"^\| {re.escape(peer.name)} \| [\d.]+ - [\d.]+ - [\d.]+ \|( [\d.]+ \|){{4}}"
            assert re.search(row, page, re.MULTILINE), peer.name
            assert re.search(rf"^- {re.escape(peer.name)}: \w*version", page, re.MULTILINE), peer.name
    sets = {
        OURS: ["appendfsync always"],
        "Redis, Lua, everysec": ["save none", "appendonly yes", "appendfsync everysec"],
        "PostgreSQL, SKIP LOCKED": [f"{name} {value}" for name, value in launch_postgres.settings(8).items()],
        "SQLite, no server": [f"{name} {value}" for name, value in PRAGMAS.items()],
    }
    for name, settings in sets.items():
        assert re.search(rf"^- {name}: [^,]*, {re.escape(', '.join(settings))}$", page, re.MULTILINE), name
    assert re.search(r"^Commit \w+\+?, 1 round, load average before them \d", page, re.MULTILINE)
    assert "one herd (600 users, 100 seats, 4 ranks, 8\nworkers in 2 processes" in page
    assert "Differences smaller than the spread mean nothing." in page
    picture = ET.parse(tmp_path / "benchmarks.svg").getroot()
    bars = sum(len(RACES[name][1]) for name in PUBLISHED)
    assert len(picture.findall("{*}rect")) == len(picture.findall("{*}path[@class='spread']")) == bars
    texts = [text.text for text in picture.findall("{*}text")]
    assert texts[0] == "Seconds for 600 users: median, min and max of 1 round"
    assert {"Single commands", "One call per user", OURS} < set(texts)


@pytest.mark.parametrize("race", ["shortcut", "pipelined"])
def test_the_other_races_run_when_asked_for(race: str, need: Callable[[str], str]) -> None:
    need("redis-server")
    done = run("--rounds", "1", "--only", race, *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (
        len(re.findall(rf"^  {race} 1/1  .* s  \(CPU: server [\d.]+, clients", done.stdout, re.MULTILINE))
        == 2
    )
    assert re.search(r"^\| Redis, single commands, always \|", done.stdout, re.MULTILINE)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--only", "foo"), "argument --only: no race `foo`; there are exact, shortcut, pipelined, claim"),
        (("--rounds", "0"), "argument --rounds: 0 is not positive"),
    ],
)
def test_what_is_no_race_is_refused(options: tuple[str, ...], complaint: str) -> None:
    done = run(*options)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines()[-1].endswith(complaint)


def test_a_purchase_is_of_those_who_bought() -> None:
    """Of the rounds' percentiles the median; a buyer who starved in one round is not hidden by the others."""
    taken = Taken(
        purchases_us=[{"p50": 1000 * p50, "max": 1000 * most} for p50, most in [(1, 9), (2, 331), (3, 8)]]
    )
    assert taken.purchase_ms("p50") == 2
    assert taken.purchase_ms("max") == 331


def test_a_peer_that_is_not_installed_is_named(tmp_path: Path) -> None:
    done = run("--rounds", "1", *SMALL, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "redis-server is not installed; on Debian: apt-get install redis-server" in done.stderr


def test_a_client_that_is_not_installed_is_named_before_the_first_run(tmp_path: Path) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('no libpq')")
    done = run("--rounds", "1", *SMALL, PATH=os.environ["PATH"], PYTHONPATH=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    assert "Python's psycopg is not installed: pip install 'klani-resp[postgres]'" in done.stderr


def test_the_page_in_docs_has_every_peer() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert all(f"| {peer.name} |" in page for name in PUBLISHED for peer in RACES[name][1])
    assert not re.search(r"Commit unknown", page)
