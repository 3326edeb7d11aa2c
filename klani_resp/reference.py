"""docs/commands.md and a page per command in docs/commands/, from the declarations.

`python -m klani_resp.reference docs` writes them again. The examples on the pages are played against a store
made for it, so that each reply shown is one that was given.
"""

from __future__ import annotations

import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import hiredis

from commands.access import shown_categories
from commands.introspection import flag_names
from commands.refused import REFUSED
from commands.registry import load
from commands.spec import Command, Flags, Job, RawReply, Reply, Status, Text
from klani_resp.app import App
from klani_resp.committer import InlineCommitter
from klani_resp.config import Config
from klani_resp.sessions.session import Session
from klani_resp.sessions.transport import Transport
from storage.engine import EngineOptions
from storage.recovery import Opening

GROUPS = {
    "selling": "Selling",
    "inventory": "Tables, rows and locks",
    "transactions": "Transactions",
    "connection": "Connection",
    "keyspace": "Rows as browsers see them",
    "server": "Server",
}
# What a reply is called, and what it is on the wire: RESP2, RESP3.
KINDS = {
    "status": ("simple string", "simple string"),
    "integer": ("integer", "integer"),
    "null": ("nil bulk string", "null"),
    "array": ("array", "array"),
    "map": ("array of names and values in turn", "map"),
    "bulk": ("bulk string", "bulk string"),
    "text": ("bulk string", "verbatim string"),
    "nothing": ("nothing", "nothing"),
}
KIND_OF_TYPE: dict[Any, str] = {
    Status: "status",
    Text: "text",
    Job: "status",  # those of families end so
    RawReply: "nothing",
    int: "integer",
    str: "bulk",
    bytes: "bulk",
    list: "array",
    dict: "map",
    type(None): "null",
}
DEFAULT_ANSWERS = {
    Reply.STATUS: (("status", "`OK`"),),
    Reply.INTEGER: (("integer", ""),),
    Reply.RAW_TEXT: (("text", ""),),
}
FULL_DISK = "the disk is full: writes are refused, reads go on"
HEAD = """\
# Commands

Made from the commands' own declarations by `python -m klani_resp.reference docs`; a test compares the two.
Each command has a page of its own: syntax, arguments, replies in RESP2 and RESP3, errors, examples.

`<x>` is an argument, `[x]` is optional, `...` repeats what stands before it, `x | y` is one of the two, `(x)`
holds together; several lines are several forms. Names, keywords and types are case-insensitive; table and
field names are case-sensitive. A key is `<table>:<id>`, `{<table>}:<id>`, or a bare `<id>` in the default
table. A command that answers an error has changed nothing.
"""
REFUSED_HEAD = """
## Refused

Commands of Redis 7.4 that are not there on purpose: with those above they are all it has. They answer as
Redis answers an unknown command.

| | commands | why |
|---|---|---|
"""
PARTLY_HEAD = """
## Partly there

Commands of Redis that do less here.

| command | what is not there |
|---|---|
"""
STAGE = (
    "KL.CREATE seats SCHEMA rank U32 INDEX seat_no U32 is_booked U8 INDEX buyer BYTES 16",
    *(f"KL.INSERT {row} rank {row // 4 + 1} seat_no {row % 4 + 1} is_booked 0" for row in range(8)),
    "KL.CREATE fields SCHEMA day U32 INDEX places COUNTER",
    "KL.INSERT fields:1 day 20261225 places 500",
)
UNIX_MS_SHOWN = 1_767_225_600_000  # for whatever moment the examples are played at
_DAY_MS = 86_400_000


def pages() -> dict[str, str]:
    """File names below docs/, and what is in them."""
    commands = list(load().values())
    return {"commands.md": "".join(_index(commands))} | {
        f"commands/{_file(spec.name)}": "".join(_page(spec)) for spec in commands
    }


def _file(name: str) -> str:
    return f"{name.lower()}.md"


def _index(commands: list[Command]) -> Iterator[str]:
    yield HEAD
    for group, title in GROUPS.items():
        yield f"\n## {title}\n\n| command | |\n|---|---|\n"
        for spec in sorted((spec for spec in commands if spec.group == group), key=lambda spec: spec.name):
            yield f"| [{spec.name}](commands/{_file(spec.name)}) | {spec.summary} |\n"
    yield PARTLY_HEAD
    yield from (f"| {spec.name} | {spec.page.partly} |\n" for spec in commands if spec.page.partly)
    yield REFUSED_HEAD
    yield from (f"| {one.group} | {', '.join(one.names.split())} | {one.why} |\n" for one in REFUSED)
    yield "\n## Examples\n\nThe examples on the commands' pages begin with these tables:\n\n```\n"
    yield from (f"> {line}\n" for line in STAGE)
    yield "```\n"


def _page(spec: Command) -> Iterator[str]:
    page = spec.page
    yield f"# {spec.name}\n\n"
    yield from (f"    {spec.name} {form}".rstrip() + "\n" for form in spec.syntax.splitlines() or [""])
    yield f"\n{spec.summary}\n\n"
    facts = {
        "Since": spec.since,
        "Complexity": spec.complexity,
        "Arity": f"{spec.arity} (the name counts{'' if spec.arity > 0 else ', at least that many'})",
        "Flags": ", ".join(flag_names(spec)),
        "ACL categories": ", ".join(shown_categories(spec)),
    }
    yield from (f"- {name}: {value}\n" for name, value in facts.items() if value)
    if page.text:
        yield f"\n{page.text}\n"
    if page.arguments:
        yield "\n## Arguments\n\n"
        yield from (f"- `{name}`: {text}\n" for name, text in page.arguments.items())
    if spec.family:
        yield "\n## Subcommands\n\n| | | answers |\n|---|---|---|\n"
        for name, member in spec.family.members():
            usage = f"{spec.name} {name} {member.syntax}".rstrip().replace("|", "\\|")
            yield f"| `{usage}` | {member.summary} | {', '.join(kinds_of(member.handler))} |\n"
    yield from _replies(spec)
    yield from _errors(spec)
    if page.examples:
        yield "\n## Examples\n\nOn the tables of [the overview](../commands.md#examples).\n\n"
        yield "```\n" + played(page.examples) + "```\n"


def kinds_of(handler: Callable[..., Any]) -> list[str]:
    """What a subcommand answers, by its handler's type."""
    hint = get_type_hints(handler)["return"]
    parts = get_args(hint) if get_origin(hint) is UnionType else (hint,)
    return list(dict.fromkeys(KIND_OF_TYPE[get_origin(one) or one] for one in parts))


def _replies(spec: Command) -> Iterator[str]:
    answers = spec.page.answers or DEFAULT_ANSWERS.get(spec.reply, ())
    if answers:
        yield "\n## Replies\n\n| RESP2 | RESP3 | |\n|---|---|---|\n"
        yield from (f"| {KINDS[kind][0]} | {KINDS[kind][1]} | {text} |\n" for kind, text in answers)


def _errors(spec: Command) -> Iterator[str]:
    errors = dict(spec.page.errors)
    if spec.wants_room:
        errors["MISCONF"] = FULL_DISK
    if not spec.flags & Flags.LOADING:
        errors["LOADING"] = "the store is still being loaded"
    if errors:
        yield "\n## Errors\n\n"
        yield from (f"- `{word}`: {text}\n" for word, text in errors.items())


# --- examples -----------------------------------------------------------------------------------------


def played(lines: tuple[str, ...]) -> str:
    """The dialogue as `redis-cli -3` shows it."""
    return "".join(f"> {line}\n{shown(reply)}\n" for line, reply in zip(lines, replies(lines), strict=True))


def replies(lines: tuple[str, ...], protocol: int = 3) -> list[bytes]:
    """A dialogue with a store of its own, on the stage that all pages share."""
    with tempfile.TemporaryDirectory() as directory:
        options = EngineOptions(appendfsync="no", segment_bytes=1 << 16)
        opening = Opening(Path(directory), options, clock=lambda: 10**9)
        opening.lock()
        for _ in opening:
            pass
        app = App(Config(dir=directory, appendfsync="no"))
        app.opened(opening.engine, InlineCommitter(opening.engine.wal, app.release))
        session = app.open_session(Transport("127.0.0.1:50000", "127.0.0.1:7700"))
        for line in (f"HELLO {protocol}", *STAGE):
            assert not _ask(app, session, line).startswith(b"-"), line
        answered = [_ask(app, session, line) for line in lines]
        opening.engine.close()
        return answered


def _ask(app: App, session: Session, line: str) -> bytes:
    reply = session.receive(line.encode() + b"\r\n")
    app.wake_committer()
    if session.job is not None:
        job = session.job
        if job.start is not None:
            job.start()
        app.wake_committer()
        reply = session.finish_job(job.run())
    return reply


def shown(reply: bytes) -> str:
    """As redis-cli prints it in RESP3."""
    if reply.startswith(b"+"):
        return reply[1:-2].decode()
    reader = hiredis.Reader()
    reader.feed(reply)
    return "\n".join(_lines(reader.gets()))


def _lines(value: Any) -> list[str]:
    if isinstance(value, Exception):
        return [f"(error) {value}"]
    if value is None:
        return ["(nil)"]
    if isinstance(value, int):
        is_moment = abs(value - time.time() * 1000) < _DAY_MS * 2
        return [f"(integer) {UNIX_MS_SHOWN if is_moment else value}"]
    if isinstance(value, bytes):
        return ['"' + re.sub(rb"[^ -~]", lambda byte: b"\\x%02x" % byte[0][0], value).decode() + '"']
    if isinstance(value, dict):
        return _numbered([(f"{_lines(key)[0]} => ", item) for key, item in value.items()], "#") or [
            "(empty hash)"
        ]
    return _numbered([("", item) for item in value], ")") or ["(empty array)"]


def _numbered(items: list[tuple[str, Any]], mark: str) -> list[str]:
    width = len(str(len(items)))
    lines: list[str] = []
    for number, (before, item) in enumerate(items, 1):
        head = f"{number:>{width}}{mark} {before}"
        first, *others = _lines(item)
        lines += [head + first, *(" " * len(head) + other for other in others)]
    return lines


def main(directory: Path) -> None:
    """Writes all pages, and removes those of commands that are gone."""
    wanted = pages()
    (directory / "commands").mkdir(exist_ok=True)
    for path in (directory / "commands").glob("*.md"):
        if f"commands/{path.name}" not in wanted:
            path.unlink()
    for name, text in wanted.items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
