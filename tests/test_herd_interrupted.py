"""Ctrl-C during a herd, as a terminal sends it: to the herd and to all that it started."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench.horde.output import raw_log
from tests import interrupts

ROOT = Path(__file__).resolve().parent.parent
MANY = ("--users", "500000", "--seats", "1000", "--workers", "16", "--processes", "2")
SECONDS_MAX = 2.0  # on a busy machine; it is some milliseconds


def interrupt(output: Path, behind: bytes) -> tuple[int, str, float]:
    """Ends a herd once it has printed `behind`: its status, what it said, and after how many seconds."""
    command = [sys.executable, str(ROOT / "bench" / "herd.py"), *MANY, "--output", str(output)]
    with interrupts.heeded():
        herd = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    with herd:
        assert herd.stdout is not None and herd.stderr is not None
        for line in herd.stdout:
            if line.startswith(behind):
                break
        started = time.monotonic()
        os.killpg(herd.pid, signal.SIGINT)
        said = herd.stderr.readline()
        seconds = time.monotonic() - started
        said += herd.stderr.read()
        herd.wait(timeout=60)
        return herd.returncode, said.decode(), seconds


def serving(output: Path) -> list[Path]:
    """Processes whose command names this directory."""
    found = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # ended meanwhile
            if str(output).encode() in place.read_bytes():
                found.append(place)
    return found


@pytest.mark.parametrize("behind", [b"sample second=1 ", b"loaded "])
def test_it_ends_at_once_and_says_so(tmp_path: Path, behind: bytes) -> None:
    """While all sell, and while the processes are being started."""
    status, said, seconds = interrupt(tmp_path, behind)
    assert said == "herd: interrupted: nothing was verified, no page\n"
    assert status == 130
    assert seconds <= SECONDS_MAX
    assert not (tmp_path / "report.html").exists()
    start = json.loads((tmp_path / "raw.jsonl").read_text().splitlines()[0])
    assert start["kind"] == "start"
    assert not serving(tmp_path), "its server is left"


def test_an_earlier_run_leaves_nothing_beside_a_new_log(tmp_path: Path) -> None:
    """Not even when the new run comes to no end, or is to have no page."""
    for name in ("report.html", "result.json", "host.json", "raw.jsonl"):
        (tmp_path / name).write_text("earlier")
    with raw_log(tmp_path) as log:
        log.line("start")
    assert [path.name for path in tmp_path.iterdir()] == ["raw.jsonl"]
