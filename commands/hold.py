"""KL.HOLD, KL.EXTEND, KL.RELEASE, KL.HOLDS: rows kept aside for an owner until a deadline."""

from __future__ import annotations

from functools import partial
from typing import Any

from commands.arguments import integer, token_of
from commands.clauses import NAME_BYTES_MAX, Clauses, digest
from commands.spec import Arg, CommandError, Context, Flags, Job, Page, Reply, command, syntax_error
from commands.wording import CHOICE, CHOICE_ERRORS, CRITERIA, HOLD_PX, TABLE, UNKNOWN
from storage.holds import HOLD_MS_MAX
from storage.pace import paced
from storage.table import Table

STEP_IDS_MAX = 4096  # that KL.HOLDS answers in one step, a hold being as much as four: 1 ms
_ALLOWED = frozenset(b"PX COUNT IDS ADJACENT WITHIN TAKE FOR MAX REQUEST REPLACING".split())


@command(
    "KL.HOLD",
    summary="Keeps rows aside for an owner, durably; answers [token, [ids], deadline as unix ms], "
    "an empty array when sold out.",
    syntax="<table> <field> <value> [<field> <value> ...] PX <ms> FOR <owner> "
    "[COUNT <n> | IDS <n> <id> [<id> ...]] [ADJACENT <field> [WITHIN <field>]] [MAX <n>] [REQUEST <id>] "
    "[REPLACING <token>]\n"
    "<table> [<field> <value> ...] IDS 1 <id> TAKE <n> FROM <counter> PX <ms> FOR <owner> [MAX <n>] "
    "[REQUEST <id>] [REPLACING <token>]",
    args=(("table", Arg.TABLE), ("words", Arg.REST)),
    least=7,
    reply=Reply.ANY,
    flags=Flags.WRITE | Flags.NOTES_OWN_POSITION,
    complexity="O(COUNT); rows that others lock or hold are passed over",
    group="selling",
    page=Page(
        text=(
            "As KL.CLAIM, but the rows are kept aside and nothing is written into them. "
            "A hold survives a restart; time in which the server is down does not "
            "count. Whether it is over is judged at every use of its rows."
        ),
        arguments=CRITERIA
        | HOLD_PX
        | CHOICE
        | {
            "REPLACING <token>": (
                "the token of a hold of the same owner: let go of in the same step, its rows count as free"
            )
        },
        answers=(
            (
                "array",
                "token, array of ids, deadline as unix ms; empty when it is sold out",
            ),
        ),
        errors=CHOICE_ERRORS | {"NOHOLD": "REPLACING names a hold of another owner", "ERR": UNKNOWN},
        examples=(
            "KL.HOLD seats rank 2 is_booked 0 PX 600000 FOR ann COUNT 2 REQUEST cart-17",
            "KL.INTERSECT seats rank 2 is_booked 0 FREE",
            "KL.HOLD fields IDS 1 1 TAKE 3 FROM places PX 600000 FOR bob",
        ),
    ),
    categories=("selling",),
)
def hold(context: Context, table: Table, words: list[bytes]) -> list[Any]:
    asked = Clauses(table.schema, words, _ALLOWED)
    if not {b"PX", b"FOR"} <= asked.said:
        raise syntax_error()
    asked.need_choice()
    if asked.terms.request:
        asked.terms.args = digest(b"KL.HOLD", words)
    return context.engine.selling.hold(
        table, asked.criteria, asked.px_ms, asked.wanted, asked.terms, asked.replacing
    )


@command(
    "KL.EXTEND",
    summary="Gives a hold a new deadline, PX from now; answers it as unix ms.",
    syntax="<token> PX <ms>",
    args=(("token", Arg.HOLD), ("px", Arg.BYTES), ("ms", Arg.BYTES)),
    reply=Reply.INTEGER,
    flags=Flags.WRITE | Flags.FAST | Flags.NOTES_OWN_POSITION,
    group="selling",
    page=Page(
        arguments={"<token>": "of the hold"} | HOLD_PX,
        answers=(
            (
                "integer",
                "the new deadline as unix ms",
            ),
        ),
        errors={"NOHOLD": "there is no such hold, or it is over", "ERR": "syntax, a number out of range"},
        examples=(
            "KL.HOLD seats rank 2 is_booked 0 PX 60000 FOR ann",
            "KL.EXTEND 10 PX 600000",
            "KL.EXTEND 99 PX 600000",
        ),
    ),
    categories=("selling",),
)
def extend(context: Context, token: bytes, px: bytes, ms: bytes) -> int:
    if px.upper() != b"PX":
        raise syntax_error()
    return context.engine.selling.extend(token_of(token), integer(ms, 1, HOLD_MS_MAX))


@command(
    "KL.RELEASE",
    summary="Ends a hold; answers how many rows went back, 0 when it was over already.",
    syntax="<token>",
    args=(("token", Arg.HOLD),),
    reply=Reply.INTEGER,
    flags=Flags.WRITE | Flags.FAST | Flags.NOTES_OWN_POSITION | Flags.ON_FULL_DISK,
    complexity="O(rows held)",
    group="selling",
    page=Page(
        arguments={"<token>": "of the hold"},
        answers=(
            (
                "integer",
                (
                    "how many rows (units, of a counter) went back; 0 after KL.CONFIRM, "
                    "KL.RELEASE or the deadline"
                ),
            ),
        ),
        errors={"ERR": "a number out of range"},
        examples=(
            "KL.HOLD seats rank 2 is_booked 0 PX 60000 FOR ann COUNT 2",
            "KL.RELEASE 10",
            "KL.RELEASE 10",
        ),
    ),
    categories=("selling",),
)
def release(context: Context, token: bytes) -> int:
    return context.engine.selling.release(token_of(token))


@command(
    "KL.HOLDS",
    summary="Answers an array of live holds by ascending token: [token, owner, [ids], ms left].",
    syntax="<table> [FOR <owner>]",
    args=(("table", Arg.TABLE), ("words", Arg.REST)),
    reply=Reply.ANY,
    flags=Flags.READONLY,
    complexity="O(holds), a long answer beside the other commands, but then not in MULTI",
    group="selling",
    page=Page(
        arguments=TABLE | {"FOR <owner>": "only this owner's"},
        answers=(
            (
                "array",
                "of arrays: token, owner, array of ids, milliseconds left",
            ),
        ),
        errors={"ERR": "syntax, an unknown table"},
        examples=(
            "KL.HOLD seats rank 2 is_booked 0 PX 60000 FOR ann COUNT 2",
            "KL.HOLDS seats",
        ),
    ),
)
def holds(context: Context, table: Table, words: list[bytes]) -> list[list[Any]] | Job:
    owner: bytes | None = None
    if words:
        if len(words) != 2 or words[0].upper() != b"FOR":
            raise syntax_error()
        owner = words[1]
        if not 1 <= len(owner) <= NAME_BYTES_MAX:
            raise CommandError(f"ERR FOR takes 1 to {NAME_BYTES_MAX} bytes, not {len(owner)}")
    live, now = context.engine.selling.live_holds(table, owner), context.engine.clock()
    shown = (
        [hold.number, hold.holder, list(hold.ids), max(1, (hold.deadline - now) // 1_000_000)]
        for hold in live
    )
    if len(live) <= STEP_IDS_MAX // 4 and sum(len(hold.ids) for hold in live) <= STEP_IDS_MAX:
        return list(shown)
    return Job(items=partial(paced, shown))
