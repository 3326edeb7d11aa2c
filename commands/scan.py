"""KL.SCAN: all rows, some at a time."""

from __future__ import annotations

from itertools import islice
from typing import Any

from commands.arguments import Options, integer, shown
from commands.spec import Arg, CommandError, Context, Flags, Page, Reply, command, syntax_error
from commands.wording import TABLE
from storage.format import ROW_ID_MAX
from storage.table import Table

COUNT_DEFAULT = 10
COUNT_MAX = 1_000  # rows of one step, 5 ms: all others wait meanwhile


@command(
    "KL.SCAN",
    summary="Answers the next cursor and an array of [id, row] by ascending id; cursor 0 starts and ends.",
    syntax="<table> <cursor> [COUNT <n>]",
    args=(("table", Arg.TABLE), ("cursor", Arg.INTEGER), ("words", Arg.REST)),
    reply=Reply.ANY,
    flags=Flags.READONLY,
    complexity="O(COUNT), of which 1,000 are taken at most",
    page=Page(
        text="A row that is there throughout comes exactly once.",
        arguments=TABLE
        | {
            "<cursor>": "0 to begin, then what the last call answered",
            "COUNT <n>": "so many rows, 10 unless told, at most 1,000",
        },
        answers=(
            (
                "array",
                ("next cursor as a bulk string, 0 at the end; array of pairs of row id and row (a map)"),
            ),
        ),
        errors={"ERR": "syntax, an invalid cursor, an unknown table"},
        examples=(
            "KL.SCAN seats 0 COUNT 2",
            "KL.SCAN seats 7 COUNT 2",
        ),
    ),
)
def scan(context: Context, table: Table, cursor: int, words: list[bytes]) -> list[Any]:
    """The cursor is the id to go on from: a row there throughout comes exactly once."""
    if cursor > ROW_ID_MAX + 1:
        raise CommandError(f"ERR invalid cursor '{shown(str(cursor).encode())}'")
    amount = COUNT_DEFAULT
    options = Options(words, 0)
    for option in options:
        if option != b"COUNT":
            raise syntax_error()
        amount = integer(options.value(), 1)
    amount = min(amount, COUNT_MAX)
    present = table.rows.present
    if cursor > ROW_ID_MAX:
        return ["0", []]
    ids = list(islice(present.iter_equal_or_larger(cursor), amount + 1))
    following = str(ids.pop()) if len(ids) > amount else "0"
    names = [field.name for field in table.schema.fields]
    rows = []
    for row in ids:
        values = table.read_trimmed(row)
        assert values is not None, "a present row has a token"
        rows.append([row, {name: table.schema.value(values, name) for name in names}])
    return [following, rows]
