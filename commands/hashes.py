"""HGETALL HLEN HSCAN: a row as browsers read a hash. Values are bulk strings, numbers as decimal text."""

from __future__ import annotations

from typing import Any

from commands.arguments import Options, integer
from commands.keyspace import GROUP, matcher, row_of
from commands.spec import (
    Arg,
    CommandError,
    Context,
    Flags,
    Page,
    Reply,
    command,
    syntax_error,
)
from commands.wording import KEY
from storage.schema import Value


def _fields(context: Context, key: bytes) -> dict[bytes, bytes]:
    found = row_of(context.engine, key)
    if found is None:
        return {}
    table, row = found
    values = table.read_trimmed(row)
    assert values is not None, "a present row has a token"
    return {field.name: _text(table.schema.value(values, field.name)) for field in table.schema.fields}


def _text(value: Value) -> bytes:
    return value if isinstance(value, bytes) else b"%d" % value


@command(
    "HGETALL",
    summary="All fields of a row as text; an empty map where there is none. KL.SEEK has their types.",
    syntax="<key>",
    args=(("key", Arg.BYTES),),
    keys=(1, 1, 1),
    flags=Flags.READONLY,
    group=GROUP,
    complexity="O(fields)",
    page=Page(
        arguments=KEY,
        answers=(
            (
                "map",
                "field to value, all as text; empty where there is no row",
            ),
        ),
        examples=("HGETALL fields:1",),
    ),
)
def hgetall(context: Context, key: bytes) -> dict[bytes, bytes]:
    return _fields(context, key)


@command(
    "HLEN",
    summary="How many fields a row has, 0 where there is none.",
    syntax="<key>",
    args=(("key", Arg.BYTES),),
    keys=(1, 1, 1),
    reply=Reply.INTEGER,
    flags=Flags.READONLY | Flags.FAST,
    group=GROUP,
    page=Page(
        arguments=KEY,
        answers=(
            (
                "integer",
                "how many fields the row has, 0 where there is none",
            ),
        ),
        examples=("HLEN fields:1",),
    ),
)
def hlen(context: Context, key: bytes) -> int:
    found = row_of(context.engine, key)
    return 0 if found is None else len(found[0].schema.fields)


@command(
    "HSCAN",
    summary="Cursor 0 and an array of a row's fields and values: a row is small, all of them come at once.",
    syntax="<key> <cursor> [MATCH <pattern>] [COUNT <n>] [NOVALUES]",
    args=(("key", Arg.BYTES), ("cursor", Arg.BYTES), ("words", Arg.REST)),
    keys=(1, 1, 1),
    flags=Flags.READONLY,
    group=GROUP,
    complexity="O(fields)",
    page=Page(
        arguments=KEY
        | {
            "<cursor>": "0",
            "MATCH <pattern>": "only fields that fit",
            "COUNT <n>": "taken, and not needed: all come at once",
            "NOVALUES": "names alone",
        },
        answers=(
            (
                "array",
                "the cursor 0; array of names and values in turn",
            ),
        ),
        errors={"ERR": "an invalid cursor, syntax"},
        examples=("HSCAN fields:1 0",),
    ),
)
def hscan(context: Context, key: bytes, cursor: bytes, words: list[bytes]) -> list[Any]:
    if not cursor.isdigit() or len(cursor) > 20:
        raise CommandError("ERR invalid cursor")
    pattern, has_values = b"*", True
    options = Options(words, 0)
    for option in options:
        if option == b"MATCH":
            pattern = options.value()
        elif option == b"COUNT":
            integer(options.value(), 1)
        elif option == b"NOVALUES":
            has_values = False
        else:
            raise syntax_error()
    fits = matcher(pattern)
    found = [pair for pair in _fields(context, key).items() if fits(pair[0])]
    return ["0", [word for pair in found for word in (pair if has_values else pair[:1])]]
