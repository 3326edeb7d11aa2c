"""KL.INSERT: a new row."""

from __future__ import annotations

from commands.arguments import pairs
from commands.spec import Arg, Context, Flags, Reply, command, syntax_error
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
)
def insert(context: Context, table: Table, row: int, words: list[bytes]) -> int:
    changes, at = pairs(table.schema, words)
    if at < len(words):
        raise syntax_error()
    return context.engine.insert(table, row, changes)
