"""KL.LOCKS: who holds what, for how long."""

from __future__ import annotations

from functools import partial
from itertools import islice
from typing import Any

from commands.arguments import Options, integer
from commands.spec import Arg, Context, Flags, Job, Page, Reply, command, syntax_error
from commands.wording import TABLE
from storage import locks as leases
from storage.pace import paced
from storage.table import Table

LIMIT_DEFAULT = 64
STEP_LOCKS_MAX = 1024  # answered in one step: 0.5 ms


@command(
    "KL.LOCKS",
    summary="Answers an array of live locks by ascending row id: [id, token, owner or null, ms left]; 64 "
    "without LIMIT.",
    syntax="<table> [LIMIT <n>]",
    args=(("table", Arg.TABLE), ("words", Arg.REST)),
    reply=Reply.ANY,
    flags=Flags.READONLY,
    complexity="O(LIMIT), a long answer beside the other commands, but then not in MULTI; and 20 ns per lock",
    page=Page(
        arguments=TABLE | {"LIMIT <n>": "at most that many: 64 unless told, 0 is all"},
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
def locks(context: Context, table: Table, words: list[bytes]) -> list[list[Any]] | Job:
    limit = LIMIT_DEFAULT
    options = Options(words, 0)
    for option in options:
        if option != b"LIMIT":
            raise syntax_error()
        limit = integer(options.value())
    now = context.engine.clock()
    live = leases.live(table, now)
    shown = (
        [row, lease.token, lease.owner, -(-(lease.deadline - now) // 1_000_000)]
        for row, lease in (islice(live, limit) if limit else live)
    )
    if min(limit or len(table.leases), len(table.leases)) <= STEP_LOCKS_MAX:
        return list(shown)
    return Job(items=partial(paced, shown))
