"""bench/peers.py, small: every peer runs and is verified, and one that is not there is named."""

from __future__ import annotations

import re
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

from bench.peers import PROGRAMS, RACES

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
    for _, peers in RACES.values():
        for peer in peers:
            assert re.search(rf"^\| {re.escape(peer.name)} \| [0-9.]+ \| 0% \|", page, re.MULTILINE), (
                peer.name
            )
            assert re.search(rf"^- {re.escape(peer.name)}: \w*version", page, re.MULTILINE), peer.name
    assert re.search(r"^Commit \w+, 1 rounds\.", page, re.MULTILINE)
    picture = ET.parse(tmp_path / "benchmarks.svg").getroot()
    assert len(picture.findall("{*}rect")) == sum(len(peers) for _, peers in RACES.values())


def test_a_peer_that_is_not_installed_is_named(tmp_path: Path) -> None:
    done = run("--rounds", "1", *SMALL, PATH=str(tmp_path))
    assert done.returncode == 1
    assert "redis-server is not installed; on Debian: apt-get install redis-server" in done.stderr


def test_the_page_in_docs_has_every_peer() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert all(f"| {peer.name} |" in page for _, peers in RACES.values() for peer in peers)
    assert not re.search(r"Commit unknown", page)
