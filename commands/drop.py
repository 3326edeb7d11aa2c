"""KL.DROP: ends a table."""

from __future__ import annotations

from commands.spec import Arg, Context, Flags, Page, Reply, command
from commands.wording import TABLE


@command(
    "KL.DROP",
    summary="Removes a table with all that belongs to it; 0 if there was none.",
    syntax="<table>",
    args=(("name", Arg.TABLE_NAME),),
    reply=Reply.INTEGER,
    flags=Flags.WRITE | Flags.ADMIN,
    page=Page(
        text=("Ends its locks, holds, requests and history: their tokens are unknown for ever."),
        arguments=TABLE,
        answers=(
            (
                "integer",
                "1, or 0 if there was none",
            ),
        ),
        examples=(
            "KL.DROP fields",
            "KL.DROP fields",
        ),
    ),
)
def drop(context: Context, name: bytes) -> int:
    return context.engine.drop(name)
