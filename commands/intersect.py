"""KL.INTERSECT: which rows have all these values."""

from __future__ import annotations

from commands.arguments import Options, integer, pairs
from commands.spec import Arg, Context, Flags, Job, Page, Reply, command, syntax_error
from commands.wording import CRITERIA, NOT_INDEXED
from storage.format import ROW_ID_MAX
from storage.listing import pinned
from storage.table import Table

LIMIT_DEFAULT = 64
STEP_IDS_MAX = 4096  # answered in one step: 0.5 ms


@command(
    "KL.INTERSECT",
    summary="Answers the ids of rows whose indexed fields all have the given values, ascending.",
    syntax="<table> <field> <value> [<field> <value> ...] [FREE] [AFTER <id>] [LIMIT <n>]",
    args=(("table", Arg.TABLE), ("words", Arg.REST)),
    least=3,
    reply=Reply.IDS,
    flags=Flags.READONLY | Flags.NOTES_OWN_POSITION,
    complexity="O(LIMIT), a long answer in slices beside the other commands; "
    "the first use of a combination of values costs an intersection",
    page=Page(
        text=("All fields must be indexed: there is no silent scan. Locks and holds show only with FREE."),
        arguments=CRITERIA
        | {
            "FREE": "leaves out what is locked or held now",
            "AFTER <id>": "ids above this one",
            "LIMIT <n>": "so many, 64 unless told; 0 is all",
        },
        answers=(
            (
                "array",
                "row ids, ascending",
            ),
        ),
        errors=NOT_INDEXED,
        examples=(
            "KL.INTERSECT seats rank 1 is_booked 0",
            "KL.INTERSECT seats rank 1 is_booked 0 AFTER 1 LIMIT 1",
            "KL.INTERSECT seats rank 9",
        ),
    ),
)
def intersect(context: Context, table: Table, words: list[bytes]) -> list[int] | Job:
    engine, index = context.engine, table.index
    asked = tuple(words)
    # Nine of ten questions in a sale were asked before: 2 us less each.
    plan = index.plans.get(asked)
    if plan is None:
        criteria, at = pairs(table.schema, words)
        limit, after, free = _options(words, at)
        posting = engine.posting(table, criteria)
        plan = posting, limit, after, free
        if not 0 < limit <= STEP_IDS_MAX:
            # Not remembered: its next answer may be a long one.
            if posting is not None and len(posting.rows) > STEP_IDS_MAX:
                if free:
                    engine.selling.settle(table)
                count, slices = pinned(table, posting, limit, after, free, engine.clock())
                return Job(slices=slices, count=count)
            return engine.listed(table, *plan)
        index.remember(asked, plan)
    return engine.listed(table, *plan)


def _options(words: list[bytes], at: int) -> tuple[int, int | None, bool]:
    limit, after, free = LIMIT_DEFAULT, None, False
    options = Options(words, at)
    for option in options:
        if option == b"LIMIT":
            limit = integer(options.value())
        elif option == b"AFTER":
            after = integer(options.value(), 0, ROW_ID_MAX)
        elif option == b"FREE":
            free = True
        else:
            raise syntax_error()
    return limit, after, free
