"""KL.COUNT: how many rows have these values."""

from __future__ import annotations

from commands.arguments import Options, pairs
from commands.spec import Arg, Context, Flags, Page, Reply, command, syntax_error
from commands.wording import CRITERIA, NOT_INDEXED
from storage.table import Table


@command(
    "KL.COUNT",
    summary="Answers how many rows match.",
    syntax="<table> <field> <value> [<field> <value> ...] [FREE]",
    args=(("table", Arg.TABLE), ("words", Arg.REST)),
    least=3,
    reply=Reply.INTEGER,
    flags=Flags.READONLY | Flags.NOTES_OWN_POSITION,
    complexity="O(1), with FREE O(locks); the first use of a combination of values costs an intersection",
    page=Page(
        arguments=CRITERIA | {"FREE": "leaves out what is locked or held now"},
        answers=(
            (
                "integer",
                "how many rows match",
            ),
        ),
        errors=NOT_INDEXED,
        examples=(
            "KL.COUNT seats rank 1 is_booked 0",
            "KL.TRYLOCK 0",
            "KL.COUNT seats rank 1 is_booked 0 FREE",
        ),
    ),
)
def count(context: Context, table: Table, words: list[bytes]) -> int:
    criteria, at = pairs(table.schema, words)
    free = False
    for option in Options(words, at):
        if option != b"FREE":
            raise syntax_error()
        free = True
    return context.engine.count(table, criteria, free)
