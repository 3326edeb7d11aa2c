"""What docs/ says is what the code says."""

from __future__ import annotations

import re
from pathlib import Path

from commands.reference import GROUPS, markdown
from commands.registry import load

ROOT = Path(__file__).resolve().parent.parent


def test_the_command_reference_is_that_of_the_declarations() -> None:
    written = (ROOT / "docs" / "commands.md").read_text()
    assert written == markdown(), "stale: python -m commands.reference > docs/commands.md"


def test_each_command_is_in_the_reference_once() -> None:
    assert {spec.group for spec in load().values()} == set(GROUPS)
    assert sorted(re.findall(r"^### (\S+)$", markdown(), re.MULTILINE)) == sorted(load())


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
