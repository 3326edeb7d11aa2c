"""What docs/ says is what the code says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import redirect_stdout, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import redis
from msgspec.structs import asdict

from bench.harness import launch
from commands.refused import REFUSED
from commands.registry import load
from commands.spec import Command, Flags
from commands.syntax import arguments
from klani_resp.config import Config, from_argv
from klani_resp.reference import DEFAULT_ANSWERS, GROUPS, KINDS, kinds_of, pages, replies
from klani_resp.settings import DECLARED
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


def bounds_told() -> Iterator[tuple[str, str, int, int, bool]]:
    """Command, keyword, the least and the most that its page says, and whether of bytes."""
    for spec in COMMANDS:
        for argument, text in spec.page.arguments.items():
            if found := re.search(r"\b(\d+) to ([\d,]+)( bytes)?", text):
                least, most = (int(number.replace(",", "")) for number in found.groups()[:2])
                yield spec.name, argument.split()[0], least, most, bool(found[3])


@pytest.mark.parametrize(("name", "keyword", "least", "most", "is_bytes"), list(bounds_told()))
def test_the_bounds_on_a_page_are_those_of_the_code(
    name: str, keyword: str, least: int, most: int, is_bytes: bool
) -> None:
    examples = next(spec for spec in COMMANDS if spec.name == name).page.examples
    at = next((i for i, line in enumerate(examples) if name in line and f" {keyword} " in line), None)
    assert at is not None, f"no example of {name} has {keyword}"
    for number, is_taken in ((least - 1, False), (least, True), (most, True), (most + 1, False)):
        value = "x" * number or '""' if is_bytes else str(number)
        line = re.sub(rf" {keyword} \S+", f" {keyword} {value}", examples[at])
        assert replies((*examples[:at], line))[-1].startswith(b"-ERR") is not is_taken, line


NOT_THERE = [name for one in REFUSED for name in one.names.split()]


def test_each_command_of_redis_is_there_or_named(tmp_path: Path) -> None:
    """Of the Redis that is installed: newer ones have more, which are named, too."""
    server = launch.redis(tmp_path)
    try:
        with redis.Redis(port=server.port, decode_responses=True) as client:
            theirs = {name.upper() for name in client.command_list() if "|" not in name}
    finally:
        server.stop()
    assert theirs - set(load()) - set(NOT_THERE) == set()
    assert len(NOT_THERE) == len(set(NOT_THERE))


def test_what_is_refused_is_not_there() -> None:
    session = new_session(new_app())
    for name in NOT_THERE:
        assert session.receive(f"{name} a\r\n".encode()).startswith(f"-ERR unknown command '{name}'".encode())


UNITS = {"seconds": "s", "ms": "ms", "us": "us", "days": "days", "hours": "hours"}
BYTE_UNITS = ((30, "GiB"), (20, "MiB"), (10, "KiB"))
LIMITS = {name: default for name, default in asdict(Config()).items() if name.endswith("_max")}


def as_told(name: str, default: float) -> str:
    if "_bytes_" in name:
        shift, unit = next((shift, unit) for shift, unit in BYTE_UNITS if default >= 1 << shift)
        return f"{int(default) >> shift} {unit}"
    unit = next((f" {unit}" for part, unit in UNITS.items() if f"_{part}_" in name), "")
    return (f"{default:,}" if isinstance(default, int) else f"{default:g}") + unit


@pytest.mark.parametrize(("name", "default"), LIMITS.items(), ids=list(LIMITS))
def test_each_limit_is_told_with_its_default_and_what_it_does(name: str, default: float) -> None:
    page = (DOCS / "server.md").read_text()
    rows = re.findall(rf"^\| `{name}` \| (.+?) \| (.+) \|$", page, re.MULTILINE)
    assert [told for told, _ in rows] == [as_told(name, default)]
    assert rows[0][1].startswith("+;") is DECLARED[name].is_live


SETTINGS = {name: default for name, default in asdict(Config()).items() if not name.endswith("_max")}
SETTINGS.pop("config_file")  # what --config named
DEFAULTS_SAID = {"tls_bind": "as `--bind`", "board_table": "the default table"}


def options() -> list[str]:
    """In the order of `--help`."""
    with redirect_stdout(StringIO()) as printed, suppress(SystemExit):
        from_argv(["--help"])
    return re.findall(r"^  (--\S+)", printed.getvalue(), re.MULTILINE)


def setting_as_told(name: str, default: Any) -> str:
    if default in ("", ()) or isinstance(default, bool):
        return "yes" if default else "none"
    if isinstance(default, str):
        return default if DECLARED[name].choices else f"`{default}`"
    return str(default) if name.endswith("port") else as_told(f"{name}_", default)


@pytest.mark.parametrize(("name", "default"), SETTINGS.items(), ids=list(SETTINGS))
def test_each_setting_is_told_with_its_default(name: str, default: Any) -> None:
    option = "--" + name.replace("_", "-")
    shown = option if option in options() else name
    rows = re.findall(rf"^\| `{shown}` \| (.+?) \| (.+) \|$", (DOCS / "server.md").read_text(), re.MULTILINE)
    assert [told for told, _ in rows] == [DEFAULTS_SAID.get(name) or setting_as_told(name, default)]
    assert rows[0][1].startswith("+;") is DECLARED[name].is_live


def test_the_page_s_order_is_that_of_the_help() -> None:
    told = re.findall(r"^\| `(--\S+)` \|", (DOCS / "server.md").read_text(), re.MULTILINE)
    asked = [option for option in options() if option not in ("--version", "--config")]
    assert told == [option for option in asked if not option.endswith("-max")]


def test_links_between_pages_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
