"""KL.RETURN: a refund."""

from __future__ import annotations

from commands.arguments import integer
from commands.clauses import Clauses, digest
from commands.spec import Arg, Context, Flags, Page, Reply, command, syntax_error
from commands.wording import MEMORY, REQUEST, TABLE, TAKE, UNKNOWN
from storage.format import ROW_ID_MAX
from storage.offers import Wanted
from storage.table import Table

_ALLOWED = frozenset(b"SET TAKE REQUEST FOR".split())


@command(
    "KL.RETURN",
    summary="Takes back rows that were sold to an owner; answers how many. One that was not sold to it "
    "counts 0.",
    syntax="<table> FOR <owner> <id> [<id> ...] SET <field> <value> [<field> <value> ...] [REQUEST <id>]\n"
    "<table> FOR <owner> <id> TAKE <n> FROM <counter> [SET <field> <value> [<field> <value> ...]] "
    "[REQUEST <id>]",
    args=(("table", Arg.TABLE), ("words", Arg.REST)),
    least=6,
    reply=Reply.INTEGER,
    flags=Flags.WRITE | Flags.NOTES_OWN_POSITION,
    complexity="O(ids)",
    group="selling",
    page=Page(
        arguments=TABLE
        | {"FOR <owner>": "whom they were sold to", "<id>": "of a row"}
        | TAKE
        | {"SET <field> <value>": "what is written into each row that goes back"}
        | REQUEST,
        answers=(
            (
                "integer",
                ("how many rows (units, of a counter) went back; a row not sold to that owner counts 0"),
            ),
        ),
        errors={"BUSY": "one of the rows is locked: ask again"} | MEMORY | {"ERR": UNKNOWN},
        examples=(
            "KL.CLAIM seats rank 1 is_booked 0 SET is_booked 1 FOR ann",
            "KL.RETURN seats FOR ann 0 SET is_booked 0 REQUEST refund-9",
            "KL.RETURN seats FOR ann 0 SET is_booked 0",
            "KL.CLAIM fields IDS 1 1 TAKE 3 FROM places FOR bob",
            "KL.RETURN fields FOR bob 1 TAKE 2 FROM places",
        ),
    ),
    categories=("selling",),
)
def give_back(context: Context, table: Table, words: list[bytes]) -> int:
    if words[0].upper() != b"FOR":
        raise syntax_error()
    at = 2
    ids: list[int] = []
    while at < len(words) and words[at].isdigit():
        ids.append(integer(words[at], 0, ROW_ID_MAX))
        at += 1
    asked = Clauses(table.schema, [*words[:2], *words[at:]], _ALLOWED)
    wanted = Wanted(ids=tuple(dict.fromkeys(ids)), field=asked.wanted.field, units=asked.wanted.units)
    if not ids or asked.criteria or (wanted.field is None and not asked.changes):
        raise syntax_error()
    if wanted.field is not None and len(ids) > 1:
        raise syntax_error()
    if asked.terms.request:
        asked.terms.args = digest(b"KL.RETURN", words)
    return context.engine.selling.give_back(table, list(wanted.ids or ()), asked.changes, asked.terms, wanted)
