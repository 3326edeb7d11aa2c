"""KL.CREATE: a table and its schema."""

from __future__ import annotations

from commands.spec import Arg, Context, Flags, Page, Reply, command, syntax_error
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
    page=Page(
        text=(
            "Types: `U8 U16 U32`, `U64` (0 to 2^63-1), `I64`, `BYTES <n>` (at most n "
            "bytes, any bytes), `COUNTER` (a U32 that sales take from). At most 64 "
            "fields, and 4,000 bytes in all. The words of the commands (LIMIT, FREE, "
            "SET ...) cannot name a field.\n\n"
            "Fields of `U64` and `I64` may have numbers above 2^53-1, which clients in JavaScript round "
            "unless told otherwise ([How to sell safely](../selling.md) has the options): for ids of that "
            "size `BYTES` is the careful choice."
        ),
        arguments={
            "<table>": "`[A-Za-z_][A-Za-z0-9_-]{0,127}`",
            "IFNOTEXISTS": "`OK` also when the table is there with the same schema",
            "<field>": "`[A-Za-z_][A-Za-z0-9_]{0,63}`",
            "SCHEMA": "the fields follow",
            "<type>": "one of those above",
            "INDEX": (
                "the field can be asked for in KL.INTERSECT, KL.COUNT, KL.CLAIM, KL.HOLD and KL.VERIFY"
            ),
        },
        answers=(
            (
                "status",
                "`OK`",
            ),
        ),
        errors={
            "EXISTS": "the table is there",
            "ERR": "syntax, an invalid name or type, too many tables or fields",
        },
        examples=(
            "KL.CREATE rooms SCHEMA hotel U32 INDEX is_booked U8 INDEX guest BYTES 64",
            "KL.CREATE rooms SCHEMA hotel U32",
        ),
    ),
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
