"""KL.UNLOCK: lets go of rows."""

from __future__ import annotations

from commands.arguments import key_of, token_of
from commands.spec import Arg, Context, Flags, Page, Reply, command
from commands.wording import KEY
from storage.table import Table


@command(
    "KL.UNLOCK",
    summary="Lets go of locked rows and answers how many; an expired or foreign lock counts 0.",
    syntax="<key> [<key> ...] <token>",
    args=(("key", Arg.KEY), ("words", Arg.REST)),
    least=2,
    keys=(1, -2, 1),
    reply=Reply.INTEGER,
    flags=Flags.WRITE | Flags.FAST | Flags.NOTES_OWN_POSITION | Flags.ON_FULL_DISK,
    complexity="O(keys)",
    page=Page(
        arguments=KEY | {"<token>": "of the lock"},
        answers=(
            (
                "integer",
                "how many were let go of",
            ),
        ),
        errors={"ERR": "a number out of range, an unknown table"},
        examples=(
            "KL.TRYLOCK 1 2",
            "KL.UNLOCK 1 2 10",
            "KL.UNLOCK 1 2 10",
        ),
    ),
)
def unlock(context: Context, table: Table, row: int, words: list[bytes]) -> int:
    engine = context.engine
    keys = [(table, row)]
    if len(words) > 1:
        keys += [key_of(engine, word) for word in words[:-1]]
    return engine.unlock(keys, token_of(words[-1]))
