"""bench/churn.py and bench/adjacent.py, small: what they say at the end, and their exit status."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from bench import adjacent, churn

ROOT = Path(__file__).resolve().parent.parent


def run(name: str, output: Path, *options: object) -> tuple[int, str, Any]:
    """Its exit status, what it printed, and the figures that it wrote."""
    command = [sys.executable, str(ROOT / "bench" / name), *map(str, options), "--output", str(output)]
    done = subprocess.run(
        command, cwd=output.parent, capture_output=True, text=True, timeout=100, check=False
    )
    assert not done.stderr, done.stdout + done.stderr
    return done.returncode, done.stdout, json.loads(output.read_text()) if output.exists() else None


def test_churn_gives_every_seat_back(tmp_path: Path) -> None:
    """In some seconds the pace is no figure: a machine with neighbours may slow the last of them down."""
    options = ("--shoppers", 20, "--seats", 100, "--seconds", 3, "--hold-ms", 20, "--room-mib", 64)
    status, said, facts = run("churn.py", tmp_path / "churn.json", *options, "--pace-ms", 10)
    assert "for sale at the end: 100 of 100  ok" in said
    assert facts["claimed"] == 100
    assert facts["holds"] > 100, "each seat was held more than once"
    assert len(facts["seconds"]) == 3
    verdict = facts["verdict"]
    assert status == (0 if verdict["fall"] <= verdict["noise"] else 1)
    assert said.splitlines()[-1].startswith("churn_done shoppers=20 seats=100 ")


def test_churn_says_that_the_room_is_full(tmp_path: Path) -> None:
    options = ("--shoppers", 200, "--seats", 1000, "--seconds", 30, "--hold-ms", 50, "--room-mib", 1)
    status, said, _ = run("churn.py", tmp_path / "churn.json", *options)
    assert status == 1
    (why,) = (line for line in said.splitlines() if "OOM" in line)
    assert why.startswith("ended ") and why.endswith("MISSED")


def seconds(*holds: int) -> list[churn.Second]:
    return [churn.Second(holds=count, server_us=10.0, rss_bytes=1 << 20) for count in holds]


@pytest.mark.parametrize(
    ("held", "claimed", "room_full", "status"),
    [
        ((1000, 1000, 1000, 1000), 50, "", 0),
        ((1000, 1000, 1000, 990), 50, "", 0),
        ((1000, 1000, 1000, 900), 50, "", 1),  # ever slower
        ((1000, 1000, 1000, 1000), 49, "", 1),  # a seat is lost
        ((1000, 1000), 50, "OOM", 1),  # not the whole time
        ((), 50, "OOM", 1),  # nor a second of it
    ],
)
def test_the_verdict_of_churn(held: tuple[int, ...], claimed: int, room_full: str, status: int) -> None:
    options = argparse.Namespace(seats=50, seconds=4, shoppers=5, output=None)
    assert churn.report(seconds(*held), claimed, room_full, options) == status


def test_adjacent_measures_both_halls(tmp_path: Path) -> None:
    status, said, facts = run("adjacent.py", tmp_path / "adjacent.json", "--seats", 4000, "--claims", 50)
    assert status == 0, said
    assert [line["hall"] for line in facts] == ["whole hall", "one of 10 blocks"]
    for line in facts:
        verdict = "ok" if max(line["ratios"]) <= adjacent.RATIO_MAX else "MISSED"
        (printed,) = (shown for shown in said.splitlines() if shown.startswith(line["hall"]))
        assert printed.endswith(verdict)
        assert min(line["ratios"]) > 0


@pytest.mark.parametrize(
    "ids", [[], [1, 2, 3], [1, 2, 3, 5], [48, 49, 50, 51], [6, 7, 8, 9]], ids=lambda ids: str(ids)
)
def test_adjacent_refuses_a_wrong_answer(ids: list[int]) -> None:
    """Too few, a gap, across two rows of the hall, a seat that was sold."""
    adjacent.check("adjacent", [10, 11, 12, 13], {9})
    with pytest.raises(RuntimeError, match=r"adjacent: KL\.CLAIM answers"):
        adjacent.check("adjacent", ids, {9})
