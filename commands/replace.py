"""KL.REPLACE: one row write under its lock."""

from __future__ import annotations

from commands.arguments import pairs, token_of
from commands.spec import Arg, Context, Flags, Page, Reply, command, syntax_error
from commands.wording import KEY, UNKNOWN
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
    page=Page(
        text=(
            "Fields that are not named keep their value. Without a live lock it is "
            "`OK`, and writes nothing, exactly when the row's last write bears this "
            "token and the named fields have these values already: a resend."
        ),
        arguments=KEY
        | {
            "<token>": "of the lock",
            "<field> <value>": "what is written",
            "UNLOCK": "lets go of this row in the same step",
        },
        answers=(
            (
                "status",
                "`OK`, durable",
            ),
        ),
        errors={
            "NOLOCK": (
                "the token holds no lock on the row; an earlier sending may have taken effect, KL.SEEK tells"
            ),
            "NOROW": "there is no such row",
            "BUSY": "units of the counter are held, or were sold since the row was locked",
            "ERR": UNKNOWN,
        },
        examples=(
            "KL.TRYLOCK 1",
            "KL.REPLACE 1 10 is_booked 1 buyer ann UNLOCK",
            "KL.REPLACE 1 10 is_booked 1 buyer ann UNLOCK",
            "KL.REPLACE 1 10 is_booked 0",
        ),
    ),
)
def replace(context: Context, table: Table, row: int, token: bytes, words: list[bytes]) -> str:
    changes, at = pairs(table.schema, words)
    unlock = at < len(words)
    if unlock and (at + 1 != len(words) or words[at].upper() != b"UNLOCK"):
        raise syntax_error()
    context.engine.replace(table, row, token_of(token), changes, unlock)
    return "OK"
