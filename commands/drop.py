"""KL.DROP: ends a table."""

from __future__ import annotations

from commands.spec import Arg, Context, Flags, Reply, command


@command(
    "KL.DROP",
    summary="Removes a table with all that belongs to it; 0 if there was none.",
    syntax="<table>",
    args=(("name", Arg.TABLE_NAME),),
    reply=Reply.INTEGER,
    flags=Flags.WRITE | Flags.ADMIN,
)
def drop(context: Context, name: bytes) -> int:
    return context.engine.drop(name)
