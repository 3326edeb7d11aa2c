"""docs/commands.md, from the declarations.

`python -m commands.reference > docs/commands.md` makes it again.
"""

from __future__ import annotations

from collections.abc import Iterator

from commands.introspection import categories, flag_names
from commands.registry import load
from commands.spec import Command, Reply

GROUPS = {
    "inventory": "Tables, rows and locks",
    "transactions": "Transactions",
    "keyspace": "Rows as keys, for browsers",
    "connection": "Connection",
    "server": "Server",
}
REPLIES = {
    Reply.STATUS: "status",
    Reply.INTEGER: "integer",
    Reply.INTEGER_OR_NULL: "integer, or null",
    Reply.IDS: "array of row ids",
    Reply.ROW: "map of field to value, or null",
    Reply.ANY: "as the summary says, in the forms of its parts",
    Reply.RAW_TEXT: "text",
}
HEAD = """\
# Commands

Made from the commands' own declarations by `python -m commands.reference > docs/commands.md`; a test compares
the two.

`<x>` is an argument, `[x]` is optional, `...` repeats what stands before it. Names, keywords and types are
case-insensitive; table and field names are case-sensitive. A key is `<table>:<id>`, `{<table>}:<id>`, or a
bare `<id>` in the default table. The arity counts the command's name, a negative one means "at least". All
replies are named as RESP3 has them: in RESP2 a map is a flat array, null the nil bulk string. A command may
answer an error instead, and has changed nothing then.
"""


def markdown() -> str:
    return HEAD + "".join(_parts(list(load().values())))


def _parts(commands: list[Command]) -> Iterator[str]:
    for group, title in GROUPS.items():
        yield f"\n## {title}\n"
        for spec in sorted((spec for spec in commands if spec.group == group), key=lambda spec: spec.name):
            yield from _entry(spec)


def _entry(spec: Command) -> Iterator[str]:
    yield f"\n### {spec.name}\n\n"
    yield f"    {spec.name} {spec.syntax}".rstrip() + "\n\n"
    yield f"{spec.summary}\n\n"
    facts = {
        "reply": REPLIES[spec.reply],
        "complexity": spec.complexity,
        "arity": str(spec.arity),
        "flags": " ".join(flag_names(spec)),
        "categories": " ".join(categories(spec)),
        "subcommands": " ".join(spec.family.names) if spec.family else "",
        "since": spec.since,
    }
    yield from (f"- {name}: {value}\n" for name, value in facts.items() if value)


if __name__ == "__main__":
    print(markdown(), end="")
