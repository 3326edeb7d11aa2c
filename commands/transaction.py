"""MULTI EXEC DISCARD: commands that take effect as one. WATCH is not: KL.REPLACE's token does its work."""

from __future__ import annotations

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
    summary="Refused: a fencing token of KL.TRYLOCK guards a row instead.",
    syntax="<key> [<key> ...]",
    args=(("keys", Arg.REST),),
    least=1,
    keys=(1, -1, 1),
    reply=Reply.STATUS,
    flags=Flags.FAST | Flags.CONNECTION,
    group=GROUP,
)
def watch(context: Context, keys: list[bytes]) -> str:
    if context.client.in_transaction:
        raise CommandError("ERR WATCH inside MULTI is not allowed")
    raise CommandError(
        "ERR WATCH is not supported: lock the rows with KL.TRYLOCK, KL.REPLACE checks the token"
    )


@command(
    "UNWATCH",
    summary="Nothing is ever watched, so nothing remains so.",
    reply=Reply.STATUS,
    flags=Flags.FAST | Flags.CONNECTION,
    group=GROUP,
)
def unwatch(context: Context) -> str:
    return "OK"
