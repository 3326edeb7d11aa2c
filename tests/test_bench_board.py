"""bench/board_cost.py, small: the watcher watches, the figures are there, and it ends by itself."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import board_cost
from bench.harness.launch import ROOT, free_port
from bench.harness.loadgen import LoadError

HERD = ("--users", "1000", "--seats", "200", "--ranks", "4", "--workers", "16", "--processes", "2")


def test_each_kind_is_measured(tmp_path: Path) -> None:
    output = tmp_path / "cost.json"
    command = [
        sys.executable,
        str(ROOT / "bench" / "board_cost.py"),
        "--rounds",
        "1",
        "--output",
        str(output),
    ]
    done = subprocess.run([*command, "--", *HERD], capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    facts = json.loads(output.read_text())
    for kind, (run,) in facts["runs"].items():
        assert run["wall"] > 0
        assert (run["looks"] > 0) == (kind == "watched")
    assert [(line["what"], line["kind"]) for line in facts["lines"]] == [
        (what, kind) for what in ("wall", "cpu") for kind in board_cost.KINDS
    ]
    assert all(name in done.stdout for name in board_cost.KINDS.values())


def test_a_herd_that_cannot_run_is_said() -> None:
    command = [sys.executable, str(ROOT / "bench" / "board_cost.py"), "--rounds", "1", "--", "--flow", "no"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert (done.returncode, done.stderr) == (1, "")
    assert "a herd failed" in done.stdout


def test_a_watcher_that_sees_nothing_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board_cost, "CONNECT_SECONDS_MAX", 0.1)
    with pytest.raises(LoadError, match="saw nothing"), board_cost.watching(free_port()):
        pass
