"""docs/tutorial.md is followed, line by line: its Python is run, redis-cli answers what stands there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from bench.harness.launch import Server
from klani_resp.config import from_argv

PAGE = Path(__file__).resolve().parent.parent / "docs" / "tutorial.md"
PORT = "7700"


def blocks() -> list[tuple[str, str]]:
    """Language and text."""
    found = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert {language for language, _ in found} == {"console", "python"}
    return found


def dialogues(text: str) -> Iterator[tuple[str, str]]:
    """What is typed, and what is answered."""
    for part in text.split("$ ")[1:]:
        typed, _, answered = part.partition("\n")
        yield typed, answered


def without_margin(text: str) -> list[str]:
    """redis-cli sets numbers of one digit one further in where there are ten."""
    return [line.strip() for line in text.splitlines()]


def test_all_of_it_is_true(start: Callable[..., Server], need: Callable[[str], str]) -> None:
    redis_cli, port = need("redis-cli"), str(start().port)
    names: dict[str, Any] = {"__name__": "__main__"}
    asked = 0
    for language, text in blocks():
        if language == "python":
            exec(compile(text.replace(PORT, port), str(PAGE), "exec", dont_inherit=True), names)
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
            assert without_margin(done.stdout) == without_margin(answered), typed
            asked += 1
    assert asked == 5


def test_the_server_is_started_with_options_that_there_are() -> None:
    (options,) = re.findall(r"^\$ \.venv/bin/klani-resp (.*)$", PAGE.read_text(), re.MULTILINE)
    assert from_argv(options.split()).board_port == 8081
