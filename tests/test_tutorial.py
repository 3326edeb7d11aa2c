"""docs/tutorial.md and README.md are followed: their Python is run, redis-cli answers what stands there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from bench.harness.launch import ROOT, Server
from klani_resp.config import from_argv

TUTORIAL, README = ROOT / "docs" / "tutorial.md", ROOT / "README.md"
PORT = "7700"


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert {language for language, _ in found} == {"console", "python"}
    return found


def dialogues(text: str) -> Iterator[tuple[str, str]]:
    """What is typed, and what is answered."""
    for part in text.split("$ ")[1:]:
        typed, _, answered = part.partition("\n")
        yield typed, answered


@pytest.mark.parametrize(("page", "questions"), [(TUTORIAL, 5), (README, 5)])
def test_what_is_typed_is_answered_as_the_page_says(
    start: Callable[..., Server], need: Callable[[str], str], page: Path, questions: int
) -> None:
    redis_cli, port = need("redis-cli"), str(start().port)
    names: dict[str, Any] = {"__name__": "__main__"}
    asked = 0
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text.replace(PORT, port), str(page), "exec", dont_inherit=True), names)
            continue
        for typed, answered in dialogues(text):
            program, *words = typed.split()
            if program != "redis-cli":
                continue
            assert words[:2] == ["-p", PORT]
            done = subprocess.run(
                [redis_cli, "--no-raw", "-p", port, *words[2:]],
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
            assert done.stdout.rstrip("\n") == answered.rstrip("\n"), typed
            asked += 1
    assert asked == questions


@pytest.mark.parametrize("page", [TUTORIAL, README])
def test_the_server_is_started_with_options_that_there_are(page: Path) -> None:
    (options,) = re.findall(r"^\$ \.venv/bin/klani-resp (.*)$", page.read_text(), re.MULTILINE)
    assert from_argv(options.split()).board_port == 8081
