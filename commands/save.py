"""SAVE BGSAVE BGREWRITEAOF LASTSAVE: checkpoints, under the names that Redis's tools have for them."""

from __future__ import annotations

from commands.spec import (
    Arg,
    CommandError,
    Context,
    Flags,
    Job,
    Page,
    Reply,
    Status,
    command,
    syntax_error,
)
from storage.checkpoint import Checkpoint
from storage.engine import Engine
from storage.fs import met_full_disk

GROUP = "server"
IN_PROGRESS = "ERR Background save already in progress"


@command(
    "SAVE",
    summary="Makes a checkpoint and waits for it. Nothing depends on it: what was answered is in the log.",
    flags=Flags.ADMIN | Flags.NO_MULTI,
    group=GROUP,
    complexity="O(what changed since the last one), beside the other commands",
    page=Page(
        answers=(
            (
                "status",
                "`OK`, when the checkpoint is on disk",
            ),
        ),
        errors={"ERR": "one is being made", "MISCONF": "there is no room for it"},
    ),
)
def save(context: Context) -> Job:
    engine = context.engine
    _refuse_on_full_disk(engine)
    made: list[Checkpoint] = []
    job = Job(exclusive=True)

    def start() -> None:
        _refuse_on_full_disk(engine)
        made.append(engine.begin_checkpoint())
        job.position = made[0].position

    def run() -> OSError | None:
        return met_full_disk(made[0].write)

    job.start, job.run, job.finish = start, run, lambda error: _finish(engine, made[0], error)
    return job


def _finish(engine: Engine, checkpoint: Checkpoint, error: OSError | None) -> Status:
    if error is None:
        engine.end_checkpoint(checkpoint)
        return Status("OK")
    engine.miss_checkpoint(checkpoint, error)
    assert engine.readonly_reason is not None
    raise CommandError(engine.readonly_reason)


def _refuse_on_full_disk(engine: Engine) -> None:
    if engine.readonly_reason is not None:
        raise CommandError(engine.readonly_reason)


@command(
    "BGSAVE",
    summary="Starts a checkpoint and does not wait for it. SCHEDULE: after the one that is under way.",
    syntax="[SCHEDULE]",
    args=(("words", Arg.REST),),
    reply=Reply.STATUS,
    flags=Flags.ADMIN,
    group=GROUP,
    page=Page(
        arguments={"SCHEDULE": "behind the one that is being made, if there is one"},
        answers=(
            (
                "status",
                "`Background saving started`, or `scheduled`",
            ),
        ),
        errors={"ERR": "one is being made"},
    ),
)
def bgsave(context: Context, words: list[bytes]) -> str:
    if words and [word.upper() for word in words] != [b"SCHEDULE"]:
        raise syntax_error()
    control = context.server.control
    _refuse_on_full_disk(context.engine)
    if not control.is_saving:
        control.save_soon()
        return "Background saving started"
    if not words:
        raise CommandError(IN_PROGRESS)
    control.save_soon()
    return "Background saving scheduled"


@command(
    "BGREWRITEAOF",
    summary="As BGSAVE: a checkpoint is what lets go of log, as far as the archive does not keep it.",
    reply=Reply.STATUS,
    flags=Flags.ADMIN,
    group=GROUP,
    page=Page(
        answers=(
            (
                "status",
                "`Background append only file rewriting started`, or `scheduled`",
            ),
        ),
    ),
)
def bgrewriteaof(context: Context) -> str:
    _refuse_on_full_disk(context.engine)
    was_saving = context.server.control.is_saving
    context.server.control.save_soon()
    return f"Background append only file rewriting {'scheduled' if was_saving else 'started'}"


@command(
    "LASTSAVE",
    summary="Unix seconds of the last checkpoint that came to its end, before the last start perhaps.",
    reply=Reply.INTEGER,
    flags=Flags.FAST | Flags.ADMIN,
    group=GROUP,
    page=Page(
        answers=(
            (
                "integer",
                "unix seconds",
            ),
        ),
    ),
)
def lastsave(context: Context) -> int:
    return int(context.engine.checkpoint_made)
