"""SCAN TYPE EXISTS TTL PTTL: rows as keys `<table>:<id>`, for browsers and `redis-cli --scan`, `--bigkeys`.

A row shows as a hash, which is what it is to a reader: fields with values (commands.hashes). KEYS is not
there: it would stop everybody for as long as all keys take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

from commands.arguments import Options, named_row
from commands.connection import integer_of
from commands.glob import Glob
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
from storage.engine import Engine
from storage.table import Table

GROUP = "keyspace"
TYPE = "hash"
REDIS_TYPES = frozenset({"string", "list", "set", "zset", "hash", "stream"})
COUNT_DEFAULT = 10
COUNT_MAX = 1_000  # rows looked at in one step, 1 ms: all others wait meanwhile
PATTERN_BYTES_MAX = 512
_number = re.compile(rb"[0-9]{1,20}").fullmatch
_special = re.compile(rb"[*?\[\\]").search


def row_of(engine: Engine, key: bytes) -> tuple[Table, int] | None:
    """The row that the key names, if it is there; what could never be a key is none."""
    try:
        name, row = named_row(engine, key)
    except CommandError:
        return None
    table = engine.tables.get(name)
    return None if table is None or row not in table.rows.present else (table, row)


def matcher(pattern: bytes) -> Callable[[bytes], object]:
    """Whether a key fits a glob pattern."""
    if len(pattern) > PATTERN_BYTES_MAX:
        raise CommandError(f"ERR a pattern has at most {PATTERN_BYTES_MAX} bytes, not {len(pattern)}")
    return Glob(pattern).fits


def row_count(text: bytes) -> int:
    """COUNT's value, as Redis reads it."""
    count = integer_of(text)
    if count < 1:
        raise syntax_error()
    return count


@command(
    "SCAN",
    summary=(
        "Answers the next cursor and an array of keys of all tables; cursor 0 starts and ends. A row there "
        "throughout comes once. Every key is of type hash."
    ),
    syntax="<cursor> [MATCH <pattern>] [COUNT <n>] [TYPE <type>]",
    args=(("cursor", Arg.BYTES), ("words", Arg.REST)),
    flags=Flags.READONLY,
    group=GROUP,
    categories=("keyspace",),
    complexity="O(COUNT), of which 1,000 are taken at most; tables that MATCH's beginning excludes are free",
    page=Page(
        arguments={
            "<cursor>": "0 to begin, then what the last call answered",
            "MATCH <pattern>": "only keys that fit: `*`, `?`, `[abc]`, `[^a]`, `\\` before one of these",
            "COUNT <n>": "rows looked at, 10 unless told, at most 1,000",
            "TYPE <type>": "`hash` is all, any other of Redis's types none",
        },
        answers=(
            (
                "array",
                "next cursor as a bulk string, 0 at the end; array of keys",
            ),
        ),
        errors={"ERR": "an invalid cursor, pattern or type"},
        examples=(
            "SCAN 0 MATCH fields:*",
            "SCAN 0 COUNT 3",
        ),
    ),
)
def scan(context: Context, cursor: bytes, words: list[bytes]) -> list[Any]:
    """The cursor is a table's number and the id to go on from: 16 bits and 32."""
    if not _number(cursor) or int(cursor) >= 1 << 64:
        raise CommandError("ERR invalid cursor")
    amount, pattern, kind = _scan_options(words)
    if kind != TYPE:
        return ["0", []]
    fits = None if pattern in (b"", b"*") else matcher(pattern)
    engine, sees = context.engine, partial(context.server.access.sees, context.client)
    special = _special(pattern)
    if fits is not None and special is None:  # it names a key
        found = row_of(engine, pattern) if b":" in pattern else None
        if found is None or b"%b:%d" % (found[0].name, found[1]) != pattern or not sees(found[0].name):
            return ["0", []]
        return ["0", [pattern]]
    beginning = pattern[: special.start()] if special else b""
    keys = _keys(engine, int(cursor), beginning, sees)
    some = list(islice(keys, amount + 1))
    following = str(some.pop()[0]) if len(some) > amount else "0"
    return [following, [key for _, key in some if fits is None or fits(key)]]


def _scan_options(words: list[bytes]) -> tuple[int, bytes, str]:
    amount, pattern, kind = COUNT_DEFAULT, b"", TYPE
    options = Options(words, 0, each_once=False)
    for option in options:
        if option == b"COUNT":
            amount = min(row_count(options.value()), COUNT_MAX)
        elif option == b"MATCH":
            pattern = options.value()
        elif option == b"TYPE":
            text = options.value().decode("utf-8", "surrogateescape")
            kind = text.lower()
            if kind not in REDIS_TYPES:
                raise CommandError(f"ERR unknown type name '{text[:128]}'")
        else:
            raise syntax_error()
    return amount, pattern, kind


def _keys(
    engine: Engine, cursor: int, beginning: bytes, sees: Callable[[bytes], bool]
) -> Iterator[tuple[int, bytes]]:
    """Keys from `cursor` on, each with its own, of the seen tables that have any with this beginning."""
    first, row = cursor >> 32, cursor & 0xFFFF_FFFF
    for number in sorted(number for number in engine.by_number if number >= first):
        table = engine.by_number[number]
        head = table.name + b":"
        if (head.startswith(beginning) or beginning.startswith(head)) and sees(table.name):
            for found in table.rows.present.iter_equal_or_larger(row if number == first else 0):
                yield number << 32 | found, b"%b%d" % (head, found)


@command(
    "TYPE",
    summary="hash for a row that is there, none for anything else.",
    syntax="<key>",
    args=(("key", Arg.BYTES),),
    keys=(1, 1, 1),
    reply=Reply.STATUS,
    flags=Flags.READONLY | Flags.FAST,
    group=GROUP,
    categories=("keyspace",),
    page=Page(
        arguments=KEY,
        answers=(
            (
                "status",
                "`hash`, or `none`",
            ),
        ),
        examples=(
            "TYPE seats:1",
            "TYPE seats:99",
        ),
    ),
)
def type_(context: Context, key: bytes) -> str:
    return "none" if row_of(context.engine, key) is None else TYPE


@command(
    "EXISTS",
    summary="How many of the keys are rows that are there; one named twice counts twice.",
    syntax="<key> [<key> ...]",
    args=(("keys", Arg.REST),),
    least=1,
    keys=(1, -1, 1),
    reply=Reply.INTEGER,
    flags=Flags.READONLY | Flags.FAST,
    group=GROUP,
    categories=("keyspace",),
    complexity="O(keys)",
    page=Page(
        arguments=KEY,
        answers=(
            (
                "integer",
                "how many are there",
            ),
        ),
        examples=("EXISTS seats:1 seats:99",),
    ),
)
def exists(context: Context, keys: list[bytes]) -> int:
    return sum(row_of(context.engine, key) is not None for key in keys)


def _declare_ttl(name: str, unit: str) -> None:
    @command(
        name,
        summary=f"{unit} until the key is gone: -1, for no row ever goes by itself; -2 where there is none.",
        syntax="<key>",
        args=(("key", Arg.BYTES),),
        keys=(1, 1, 1),
        reply=Reply.INTEGER,
        flags=Flags.READONLY | Flags.FAST,
        group=GROUP,
        categories=("keyspace",),
        page=Page(
            arguments=KEY,
            answers=(("integer", "-1, or -2 where there is no row"),),
            examples=(f"{name} seats:1",),
        ),
    )
    def ttl(context: Context, key: bytes) -> int:
        return -2 if row_of(context.engine, key) is None else -1


_declare_ttl("TTL", "Seconds")
_declare_ttl("PTTL", "Milliseconds")
