"""KL.VERIFY: counts from disk what the engine says in memory."""

from __future__ import annotations

from dataclasses import asdict

from commands.spec import Arg, CommandError, Context, Flags, Job, Page, Reply, command
from commands.wording import NOT_INDEXED, TABLE
from storage.counting_process import counting_beside
from storage.engine import Engine
from storage.table import Table
from storage.verify import Verdict, Verification


@command(
    "KL.VERIFY",
    summary="Counts the rows that have a value in an indexed field three times: log, row file, index.",
    syntax="<table> <field> <value>",
    args=(("table", Arg.TABLE), ("field", Arg.BYTES), ("value", Arg.BYTES)),
    reply=Reply.ANY,
    flags=Flags.READONLY | Flags.ADMIN | Flags.NO_MULTI,
    complexity="O(rows), beside the other commands",
    page=Page(
        text=(
            "Counts from what is on disk, through fresh descriptors, for one log "
            "position: the last checkpoint with the log behind it (`log_matched`), the "
            "row file as a checkpoint at that position leaves it (`rows`, `matched`, "
            "`corrupt` blocks), and the index (`index_matched`). Later writes change "
            "none of it."
        ),
        arguments=TABLE | {"<field>": "an indexed one", "<value>": "that is counted"},
        answers=(
            (
                "map",
                (
                    "`rows` `matched` `log_matched` `index_matched` `corrupt` `ok`; `ok` is 1 "
                    "only if all three counts agree and nothing is corrupt"
                ),
            ),
        ),
        errors=NOT_INDEXED | {"MISCONF": "the disk is full, and a checkpoint finds no room"},
    ),
)
def verify(context: Context, table: Table, field: bytes, value: bytes) -> Job:
    engine = context.engine
    _refuse_on_full_disk(engine)
    column = table.schema.field(field)
    if field not in table.index.columns:
        raise CommandError(f"ERR field '{field.decode()}' is not indexed")
    verification = Verification(engine, table, field, column.parse(value), counting_beside(engine.fs))
    job = Job(
        run=verification.run, finish=lambda verdict: _reply(verification.finish(verdict)), exclusive=True
    )

    def start() -> None:
        # A checkpoint was waited for, perhaps: the table may have been dropped meanwhile.
        _refuse_on_full_disk(engine)
        if engine.tables.get(table.name) is not table:
            raise CommandError(f"ERR unknown table '{table.name.decode()}'")
        verification.start()
        job.position = verification.position

    job.start = start
    return job


def _refuse_on_full_disk(engine: Engine) -> None:
    """Its checkpoint would find no room, and what it rests on may wait for room to become durable."""
    if engine.readonly_reason is not None:
        raise CommandError(engine.readonly_reason)


def _reply(verdict: Verdict) -> dict[str, int]:
    shown = asdict(verdict)
    shown["ok"] = int(verdict.ok)
    return shown
