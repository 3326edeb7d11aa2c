"""KL.CONFIRM: the sale of what was held."""

from __future__ import annotations

from commands.arguments import token_of
from commands.clauses import Clauses, digest, refuse_unchanged
from commands.spec import Arg, Context, Flags, Page, Reply, command, syntax_error
from commands.wording import UNKNOWN

_ALLOWED = frozenset((b"SET",))


@command(
    "KL.CONFIRM",
    summary="Sells what is held, once however often it is sent; answers the ids. After the deadline too, if "
    "nothing of it is gone.",
    syntax="<token> SET <field> <value> [<field> <value> ...]",
    args=(("token", Arg.HOLD), ("words", Arg.REST)),
    reply=Reply.IDS,
    flags=Flags.WRITE | Flags.NOTES_OWN_POSITION | Flags.ON_FULL_DISK,
    complexity="O(rows held)",
    group="selling",
    page=Page(
        text=(
            "The sale of what is held. After the deadline, a late payment, it is a sale "
            "still if every row of it matches what was held and is neither locked nor "
            "held; else nothing changes, and the error names the rows that are gone."
        ),
        arguments={"<token>": "of the hold", "SET <field> <value>": "what is written into each row"},
        answers=(
            (
                "array",
                "the ids; the same again when it is sent again",
            ),
        ),
        errors={
            "NOHOLD": "there is no such hold, or the shop let go of it",
            "RESOLD": "the ids that another has by now",
            "REQUEST": "it was confirmed with another SET",
            "ERR": UNKNOWN,
        },
        examples=(
            "KL.HOLD seats rank 2 is_booked 0 PX 60000 FOR ann COUNT 2",
            "KL.CONFIRM 10 SET is_booked 1 buyer ann",
            "KL.CONFIRM 10 SET is_booked 1 buyer ann",
            "KL.CONFIRM 99 SET is_booked 1",
        ),
    ),
    categories=("selling",),
)
def confirm(context: Context, token: bytes, words: list[bytes]) -> list[int]:
    selling, number = context.engine.selling, token_of(token)
    table = selling.table_of(number)
    asked = Clauses(table.schema, words, _ALLOWED)
    held = selling.holds[number]
    if asked.criteria or (not asked.changes and not held.units):
        raise syntax_error()
    if not held.units:
        refuse_unchanged({name.encode(): value for name, value in held.criteria.items()}, asked.changes)
    return selling.confirm(number, asked.changes, digest(b"SET", words[1:]))
