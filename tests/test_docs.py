"""What docs/ says is what the code says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from commands.introspection import arguments
from commands.refused import REFUSED
from commands.registry import load
from commands.spec import Command, Flags
from klani_resp.reference import DEFAULT_ANSWERS, GROUPS, KINDS, kinds_of, pages, replies
from tests.in_memory import new_app, new_session

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
COMMANDS = list(load().values())

each_command = pytest.mark.parametrize(
    "spec", [spec for spec in COMMANDS if spec.family is None], ids=lambda spec: spec.name
)


def test_the_commands_pages_are_those_of_the_declarations() -> None:
    written = {str(path.relative_to(DOCS)): path.read_text() for path in (DOCS / "commands").glob("*.md")}
    written["commands.md"] = (DOCS / "commands.md").read_text()
    assert written == pages(), "stale: python -m klani_resp.reference docs"


def test_each_command_is_in_the_overview_once() -> None:
    assert {spec.group for spec in COMMANDS} == set(GROUPS)
    listed = re.findall(r"^\| \[(\S+)\]\(", (DOCS / "commands.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(load())


def words_of(found: list[dict[str, Any]]) -> Iterator[str]:
    """Names and keywords of a syntax."""
    for argument in found:
        if "arguments" in argument:
            yield from words_of(argument["arguments"])
        elif "token" in argument:
            yield argument["token"]
        else:
            yield f"<{argument['name']}>"


@each_command
def test_a_page_explains_each_word_of_the_syntax(spec: Command) -> None:
    explained = " ".join(spec.page.arguments)
    assert [word for word in words_of(arguments(spec.syntax)) if word not in explained] == []


@each_command
def test_a_page_says_what_is_answered_and_shows_it(spec: Command) -> None:
    assert spec.page.answers or spec.reply in DEFAULT_ANSWERS
    assert {kind for kind, _ in spec.page.answers} <= set(KINDS)
    assert spec.page.examples or spec.flags & Flags.ADMIN or not spec.name.startswith("KL.")


@pytest.mark.parametrize("spec", [spec for spec in COMMANDS if spec.family], ids=lambda spec: spec.name)
def test_each_subcommand_says_what_it_answers(spec: Command) -> None:
    assert spec.family is not None
    for _, member in spec.family.members():
        assert set(kinds_of(member.handler)) <= set(KINDS)


WIRE_KINDS = {
    b"+": "status",
    b":": "integer",
    b"_": "null",
    b"$": "bulk",
    b"*": "array",
    b"%": "map",
    b"=": "text",
}


@each_command
@pytest.mark.parametrize("protocol", [2, 3])
def test_the_examples_are_answered_as_the_page_says(spec: Command, protocol: int) -> None:
    declared = {kind for kind, _ in spec.page.answers or DEFAULT_ANSWERS.get(spec.reply, ())}
    for line, reply in zip(spec.page.examples, replies(spec.page.examples, protocol), strict=True):
        if line.split()[0] != spec.name:
            continue
        if reply.startswith(b"-"):
            assert reply[1:].split()[0].decode() in spec.page.errors
        elif protocol == 2:
            wire = "null" if reply.startswith(b"$-1") else WIRE_KINDS[reply[:1]]
            assert wire in {"array" if kind == "map" else kind for kind in declared}
        else:
            assert WIRE_KINDS[reply[:1]] in declared


def test_what_is_refused_is_not_there() -> None:
    session = new_session(new_app())
    for name in (name for names, _ in REFUSED for name in names):
        assert session.receive(f"{name} a\r\n".encode()).startswith(f"-ERR unknown command '{name}'".encode())


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
