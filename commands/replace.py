"""KL.REPLACE: one row write under its lock."""

from __future__ import annotations

from commands.arguments import pairs, token_of
from commands.spec import Arg, Context, Flags, Reply, command, syntax_error
from storage.table import Table


@command(
    "KL.REPLACE",
    summary="Writes fields of a locked row, durably; with UNLOCK lets go of it in the same step.",
    syntax="<key> <token> <field> <value> [<field> <value> ...] [UNLOCK]",
    args=(("key", Arg.KEY), ("token", Arg.BYTES), ("words", Arg.REST)),
    least=4,
    reply=Reply.STATUS,
    flags=Flags.WRITE | Flags.NOTES_OWN_POSITION,
    complexity="O(fields)",
)
def replace(context: Context, table: Table, row: int, token: bytes, words: list[bytes]) -> str:
    changes, at = pairs(table.schema, words)
    unlock = at < len(words)
    if unlock and (at + 1 != len(words) or words[at].upper() != b"UNLOCK"):
        raise syntax_error()
    context.engine.replace(table, row, token_of(token), changes, unlock)
    return "OK"
