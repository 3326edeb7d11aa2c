"""KL.INSERT: a new row."""

from __future__ import annotations

from commands.arguments import pairs
from commands.spec import Arg, Context, Flags, Page, Reply, command, syntax_error
from commands.wording import KEY, UNKNOWN
from storage.table import Table


@command(
    "KL.INSERT",
    summary="Puts a row in; 1 also when it is there with exactly these contents.",
    syntax="<key> <field> <value> [<field> <value> ...]",
    args=(("key", Arg.KEY), ("words", Arg.REST)),
    least=3,
    reply=Reply.INTEGER,
    flags=Flags.WRITE | Flags.NOTES_OWN_POSITION,
    complexity="O(fields)",
    page=Page(
        arguments=KEY | {"<field> <value>": "fields that are not named are zero or empty"},
        answers=(
            (
                "integer",
                "1, and 1 again when the row is there with exactly these contents",
            ),
        ),
        errors={"EXISTS": "the row is there with other contents", "ERR": UNKNOWN},
        examples=(
            "KL.INSERT seats:100 rank 3 seat_no 1 is_booked 0",
            "KL.INSERT seats:100 rank 3 seat_no 1 is_booked 0",
            "KL.INSERT seats:100 rank 4",
        ),
    ),
)
def insert(context: Context, table: Table, row: int, words: list[bytes]) -> int:
    changes, at = pairs(table.schema, words)
    if at < len(words):
        raise syntax_error()
    return context.engine.insert(table, row, changes)
