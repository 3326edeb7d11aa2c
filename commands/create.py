"""KL.CREATE: a table and its schema."""

from __future__ import annotations

from commands.spec import Arg, Context, Flags, Reply, command, syntax_error
from storage.schema import Field, Schema, make_field


@command(
    "KL.CREATE",
    summary="Makes a table of fixed-size rows.",
    syntax="<table> [IFNOTEXISTS] SCHEMA <field> <type> [INDEX] [<field> <type> [INDEX] ...]",
    args=(("name", Arg.TABLE_NAME), ("words", Arg.REST)),
    least=4,
    reply=Reply.STATUS,
    flags=Flags.WRITE,
    complexity="O(fields)",
)
def create(context: Context, name: bytes, words: list[bytes]) -> str:
    if_not_exists = words[0].upper() == b"IFNOTEXISTS"
    at = 1 if if_not_exists else 0
    if at >= len(words) or words[at].upper() != b"SCHEMA":
        raise syntax_error()
    context.engine.create(name, Schema(tuple(_fields(words[at + 1 :]))), if_not_exists)
    return "OK"


def _fields(words: list[bytes]) -> list[Field]:
    fields: list[Field] = []
    at = 0
    while at < len(words):
        if at + 1 >= len(words):
            raise syntax_error()
        name, kind = words[at], words[at + 1]
        at += 2
        size: bytes | None = None
        if kind.upper() == b"BYTES":
            if at >= len(words):
                raise syntax_error()
            size = words[at]
            at += 1
        indexed = at < len(words) and words[at].upper() == b"INDEX"
        at += indexed
        fields.append(make_field(name, kind, size, indexed))
    return fields
