"""KL.CONFIRM: the sale of what was held."""

from __future__ import annotations

from commands.arguments import token_of
from commands.clauses import Clauses, digest, refuse_unchanged
from commands.spec import Arg, Context, Flags, Reply, command, syntax_error

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
