"""KL.CLAIM: the sale in one step."""

from __future__ import annotations

from commands.arguments import pairs
from commands.clauses import NAME_BYTES_MAX, Clauses, digest, refuse_unchanged
from commands.spec import Arg, Context, Flags, Page, Reply, command, syntax_error
from commands.wording import CHOICE, CHOICE_ERRORS, CRITERIA, UNKNOWN
from storage.selling import Terms
from storage.table import Table

_ALLOWED = frozenset(b"SET COUNT IDS ADJACENT WITHIN TAKE FOR MAX REQUEST".split())


@command(
    "KL.CLAIM",
    summary="Sells the lowest free rows that match, or chosen ones, all or none; answers their ids, "
    "none when sold out.",
    syntax="<table> <field> <value> [<field> <value> ...] SET <field> <value> [<field> <value> ...] "
    "[COUNT <n> | IDS <n> <id> [<id> ...]] [ADJACENT <field> [WITHIN <field>]] [FOR <owner> [MAX <n>]] "
    "[REQUEST <id>]\n"
    "<table> [<field> <value> ...] IDS 1 <id> TAKE <n> FROM <counter> [SET <field> <value> "
    "[<field> <value> ...]] [FOR <owner> [MAX <n>]] [REQUEST <id>]",
    args=(("table", Arg.TABLE), ("words", Arg.REST)),
    least=6,
    reply=Reply.IDS,
    flags=Flags.WRITE | Flags.NOTES_OWN_POSITION,
    complexity="O(COUNT); rows that others lock or hold are passed over",
    group="selling",
    page=Page(
        text=(
            "Nobody chooses a seat before it is theirs: the server takes the rows and "
            "writes SET into them in one step, and answers when that is on disk. SET "
            "must change at least one of the fields that were asked for."
        ),
        arguments=CRITERIA | {"SET <field> <value>": "what is written into each row"} | CHOICE,
        answers=(
            (
                "array",
                ("the ids, ascending; empty when it is sold out, though fewer rows than asked may be free"),
            ),
        ),
        errors=CHOICE_ERRORS | {"ERR": UNKNOWN + "; SET leaves the row matching"},
        examples=(
            "KL.CLAIM seats rank 1 is_booked 0 SET is_booked 1",
            (
                "KL.CLAIM seats rank 1 is_booked 0 SET is_booked 1 COUNT 2 ADJACENT seat_no "
                "FOR ann REQUEST order-17"
            ),
            (
                "KL.CLAIM seats rank 1 is_booked 0 SET is_booked 1 COUNT 2 ADJACENT seat_no "
                "FOR ann REQUEST order-17"
            ),
            "KL.CLAIM seats rank 1 is_booked 0 SET is_booked 1 COUNT 2",
            "KL.CLAIM fields IDS 1 1 TAKE 3 FROM places FOR bob",
        ),
    ),
    categories=("selling",),
)
def claim(context: Context, table: Table, words: list[bytes]) -> list[int]:
    sold = _usual(context, table, words)
    if sold is not None:
        return sold
    asked = Clauses(table.schema, words, _ALLOWED)
    asked.need_choice()
    if asked.wanted.field is None:
        if not asked.changes:
            raise syntax_error()
        refuse_unchanged(asked.criteria, asked.changes)
    if asked.terms.request:
        asked.terms.args = digest(b"KL.CLAIM", words)
    return context.engine.selling.claim(table, asked.criteria, asked.changes, asked.wanted, asked.terms)


def _usual(context: Context, table: Table, words: list[bytes]) -> list[int] | None:
    """One row, and no clauses but SET, FOR, MAX and REQUEST: a third of what the general case costs."""
    try:
        at = words.index(b"SET", 2)
    except ValueError:
        return None
    engine, index = context.engine, table.index
    asked = tuple(words[:at])
    order = index.orders.get(asked)
    if order is None:
        criteria, end = pairs(table.schema, words, least=0)
        if end != at or not criteria:  # the word is a value, or other clauses come first
            return None
        order = engine.posting(table, criteria), criteria
        index.remember_order(asked, order)
    posting, criteria = order
    changes, end = pairs(table.schema, words, at + 1)
    if table.schema.counters:
        return None
    terms = None
    if end < len(words):
        terms = _terms(words, end)
        if terms is None:
            return None
    refuse_unchanged(criteria, changes)
    return engine.selling.claim_lowest(table, posting, changes, terms)


def _terms(words: list[bytes], at: int) -> Terms | None:
    """Whatever is not quite as it should be is left to Clauses, which has the words for it."""
    terms = Terms()
    if (len(words) - at) % 2:
        return None
    for name, value in zip(words[at::2], words[at + 1 :: 2], strict=True):
        if name == b"REQUEST" and not terms.request and 1 <= len(value) <= NAME_BYTES_MAX:
            terms.request = value
        elif name == b"FOR" and not terms.owner and 1 <= len(value) <= NAME_BYTES_MAX:
            terms.owner = value
        elif name == b"MAX" and terms.most is None and len(value) < 10 and value.isdigit():
            terms.most = int(value)
        else:
            return None
    if terms.most is not None and not terms.owner:
        return None
    if terms.request:
        terms.args = digest(b"KL.CLAIM", words)
    return terms
