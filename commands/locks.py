"""KL.LOCKS: who holds what, for how long."""

from __future__ import annotations

from itertools import islice
from typing import Any

from commands.arguments import Options, integer
from commands.spec import Arg, Context, Flags, Page, Reply, command, syntax_error
from commands.wording import TABLE
from storage import locks as leases
from storage.table import Table

LIMIT_DEFAULT = 64


@command(
    "KL.LOCKS",
    summary="Answers an array of live locks by ascending row id: [id, token, owner or null, ms left].",
    syntax="<table> [LIMIT <n>]",
    args=(("table", Arg.TABLE), ("words", Arg.REST)),
    reply=Reply.ANY,
    flags=Flags.READONLY,
    complexity="O(locks)",
    page=Page(
        arguments=TABLE | {"LIMIT <n>": "at most that many; all unless told"},
        answers=(
            (
                "array",
                "of arrays: row id, token, owner or null, milliseconds left",
            ),
        ),
        errors={"ERR": "syntax, an unknown table"},
        examples=(
            "KL.TRYLOCK 1 OWNER 5f0c",
            "KL.LOCKS seats",
        ),
    ),
)
def locks(context: Context, table: Table, words: list[bytes]) -> list[list[Any]]:
    limit = LIMIT_DEFAULT
    options = Options(words, 0)
    for option in options:
        if option != b"LIMIT":
            raise syntax_error()
        limit = integer(options.value())
    now = context.engine.clock()
    live = leases.live(table, now)
    chosen = islice(live, limit) if limit else live
    return [[row, lease.token, lease.owner, -(-(lease.deadline - now) // 1_000_000)] for row, lease in chosen]
