"""HGETALL HGET HMGET HEXISTS HKEYS HVALS HLEN HSTRLEN HSCAN: a row as browsers read a hash.

Values are bulk strings, numbers as decimal text. What is no row has no fields.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from commands.arguments import Options
from commands.keyspace import GROUP, matcher, row_count, row_of
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
from storage.schema import Schema, Value

FIELD = {"<field>": "its name; one that the row has not is no error here, as in Redis"}


def _row(context: Context, key: bytes) -> tuple[Schema, Any] | None:
    """Its values, and how to read them."""
    found = row_of(context.engine, key)
    return None if found is None else (found[0].schema, found[0].read_trimmed(found[1]))


def _fields(context: Context, key: bytes) -> dict[bytes, bytes]:
    if (row := _row(context, key)) is None:
        return {}
    schema, values = row
    return {field.name: _text(schema.value(values, field.name)) for field in schema.fields}


def _field(context: Context, key: bytes, name: bytes) -> bytes | None:
    if (row := _row(context, key)) is None or name not in row[0].field_by_name:
        return None
    schema, values = row
    return _text(schema.value(values, name))


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
    categories=("hash",),
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
    "HGET",
    summary="One field of a row as text; null where there is no such row or field.",
    syntax="<key> <field>",
    args=(("key", Arg.BYTES), ("field", Arg.BYTES)),
    keys=(1, 1, 1),
    flags=Flags.READONLY | Flags.FAST,
    group=GROUP,
    categories=("hash",),
    page=Page(
        arguments=KEY | FIELD,
        answers=(("bulk", "its value"), ("null", "there is no such row or field")),
        examples=("HGET fields:1 day", "HGET fields:1 nope"),
    ),
)
def hget(context: Context, key: bytes, name: bytes) -> bytes | None:
    return _field(context, key, name)


@command(
    "HMGET",
    summary="Some fields of a row as text, in the order asked.",
    syntax="<key> <field> [<field> ...]",
    args=(("key", Arg.BYTES), ("names", Arg.REST)),
    least=2,
    keys=(1, 1, 1),
    flags=Flags.READONLY | Flags.FAST,
    group=GROUP,
    categories=("hash",),
    complexity="O(fields)",
    page=Page(
        arguments=KEY | FIELD,
        answers=(("array", "their values, null for each that is not there"),),
        examples=("HMGET fields:1 places nope day",),
    ),
)
def hmget(context: Context, key: bytes, names: list[bytes]) -> list[bytes | None]:
    fields = _fields(context, key)
    return [fields.get(name) for name in names]


@command(
    "HEXISTS",
    summary="1 where the row is there and has this field, else 0.",
    syntax="<key> <field>",
    args=(("key", Arg.BYTES), ("field", Arg.BYTES)),
    keys=(1, 1, 1),
    reply=Reply.INTEGER,
    flags=Flags.READONLY | Flags.FAST,
    group=GROUP,
    categories=("hash",),
    page=Page(
        arguments=KEY | FIELD,
        answers=(("integer", "1 or 0"),),
        examples=("HEXISTS fields:1 day", "HEXISTS fields:1 nope"),
    ),
)
def hexists(context: Context, key: bytes, name: bytes) -> int:
    return int(_field(context, key, name) is not None)


@command(
    "HSTRLEN",
    summary="How many bytes a field's value has as text, 0 where there is none.",
    syntax="<key> <field>",
    args=(("key", Arg.BYTES), ("field", Arg.BYTES)),
    keys=(1, 1, 1),
    reply=Reply.INTEGER,
    flags=Flags.READONLY | Flags.FAST,
    group=GROUP,
    categories=("hash",),
    page=Page(
        arguments=KEY | FIELD,
        answers=(("integer", "bytes of the value, 0 where there is no such row or field"),),
        examples=("HSTRLEN fields:1 day",),
    ),
)
def hstrlen(context: Context, key: bytes, name: bytes) -> int:
    return len(_field(context, key, name) or b"")


def _declare_list(name: str, what: str, listed: Callable[[dict[bytes, bytes]], Iterable[bytes]]) -> None:
    @command(
        name,
        summary=f"{what} of a row, in the order of its schema; none where there is no row.",
        syntax="<key>",
        args=(("key", Arg.BYTES),),
        keys=(1, 1, 1),
        flags=Flags.READONLY,
        group=GROUP,
        categories=("hash",),
        complexity="O(fields)",
        page=Page(
            arguments=KEY,
            answers=(("array", f"{what.lower()}; empty where there is no row"),),
            examples=(f"{name} fields:1",),
        ),
    )
    def listing(context: Context, key: bytes) -> list[bytes]:
        return list(listed(_fields(context, key)))


_declare_list("HKEYS", "Names of all fields", lambda fields: fields.keys())
_declare_list("HVALS", "Values of all fields as text", lambda fields: fields.values())


@command(
    "HLEN",
    summary="How many fields a row has, 0 where there is none.",
    syntax="<key>",
    args=(("key", Arg.BYTES),),
    keys=(1, 1, 1),
    reply=Reply.INTEGER,
    flags=Flags.READONLY | Flags.FAST,
    group=GROUP,
    categories=("hash",),
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
    categories=("hash",),
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
    fields = _fields(context, key)
    if not fields:  # then Redis looks at no option
        return ["0", []]
    pattern, has_values = b"*", True
    options = Options(words, 0, each_once=False)
    for option in options:
        if option == b"MATCH":
            pattern = options.value()
        elif option == b"COUNT":
            row_count(options.value())
        elif option == b"NOVALUES":
            has_values = False
        else:
            raise syntax_error()
    fits = matcher(pattern)
    found = [pair for pair in fields.items() if fits(pair[0])]
    return ["0", [word for pair in found for word in (pair if has_values else pair[:1])]]
