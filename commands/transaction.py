"""MULTI EXEC DISCARD WATCH UNWATCH: commands that take effect as one, or not at all."""

from __future__ import annotations

from commands.arguments import named_row
from commands.spec import Arg, CommandError, Context, Flags, RawReply, Reply, command

GROUP = "transactions"


@command(
    "MULTI",
    summary="Queues what follows, up to EXEC.",
    reply=Reply.STATUS,
    flags=Flags.FAST | Flags.CONNECTION,
    group=GROUP,
)
def multi(context: Context) -> str:
    context.client.begin_transaction()
    return "OK"


@command(
    "EXEC",
    summary="Carries out what was queued: one log record, all or nothing after a crash too.",
    flags=Flags.CONNECTION,
    complexity="that of the queued commands",
    group=GROUP,
)
def exec_(context: Context) -> RawReply:
    return context.client.execute_transaction()


@command(
    "DISCARD",
    summary="Forgets what was queued.",
    reply=Reply.STATUS,
    flags=Flags.FAST | Flags.CONNECTION,
    group=GROUP,
)
def discard(context: Context) -> str:
    context.client.discard_transaction()
    return "OK"


@command(
    "WATCH",
    summary=(
        "Watches rows: EXEC answers null, and does nothing, if any of them was written since, made, or its "
        "table dropped. Locks and holds are no writes: KL.TRYLOCK's token guards a row against those."
    ),
    syntax="<key> [<key> ...]",
    args=(("keys", Arg.REST),),
    least=1,
    keys=(1, -1, 1),
    reply=Reply.STATUS,
    flags=Flags.FAST | Flags.CONNECTION,
    complexity="O(keys), again at EXEC",
    group=GROUP,
)
def watch(context: Context, keys: list[bytes]) -> str:
    if context.client.in_transaction:
        raise CommandError("ERR WATCH inside MULTI is not allowed")
    context.client.watch([named_row(context.engine, key) for key in keys])
    return "OK"


@command(
    "UNWATCH",
    summary="Forgets all watched rows. EXEC and DISCARD do so, too.",
    reply=Reply.STATUS,
    flags=Flags.FAST | Flags.CONNECTION,
    group=GROUP,
)
def unwatch(context: Context) -> str:
    context.client.unwatch()
    return "OK"
