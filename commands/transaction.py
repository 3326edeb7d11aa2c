"""MULTI EXEC DISCARD, WATCH UNWATCH: commands that take effect as one, or not at all."""

from __future__ import annotations

from commands.spec import (
    Arg,
    CommandError,
    Context,
    Flags,
    Page,
    RawReply,
    Reply,
    command,
)
from commands.wording import KEY

GROUP = "transactions"


@command(
    "MULTI",
    summary="Queues what follows, up to EXEC.",
    reply=Reply.STATUS,
    flags=Flags.FAST | Flags.CONNECTION,
    group=GROUP,
    page=Page(
        text=(
            "At most `transaction_commands_max` commands of `transaction_bytes_max` bytes together "
            "([limits](../server.md#limits)): the one beyond is answered `-ERR transaction is too long`, and "
            "EXEC does nothing then. redis-py makes a transaction of any `pipeline()` unless told "
            "`transaction=False`."
        ),
        errors={"ERR": "MULTI inside of MULTI"},
    ),
)
def multi(context: Context) -> str:
    context.client.begin_transaction()
    return "OK"


@command(
    "EXEC",
    summary="Carries out what was queued: one log record, all or nothing after a crash too; null when a "
    "watched row has changed.",
    flags=Flags.CONNECTION,
    complexity="that of the queued commands",
    group=GROUP,
    page=Page(
        text=(
            "Nobody else is served meanwhile, so what is read in one EXEC has a budget: "
            "`transaction_bytes_max` (16 MiB) of replies, `transaction_read_ms_max` (50) of its time. "
            "Once it is used up, whatever does not write rows answers an error in place of its reply, and is "
            "not run. What writes is done, until `transaction_bytes_max` of log is written. A pipeline "
            "without MULTI has no such limit. "
            "How much can be queued is one of the server's [limits](../server.md#limits)."
        ),
        answers=(
            (
                "array",
                "the reply of each queued command, in order",
            ),
            (
                "null",
                "a watched row has changed, and nothing was done; in RESP2 the nil array",
            ),
        ),
        errors={
            "EXECABORT": "a command was refused when it was queued, one too many, say; or the disk is full",
            "ERR": "there was no MULTI",
        },
        examples=(
            "MULTI",
            "KL.CLAIM seats rank 1 is_booked 0 SET is_booked 1",
            "KL.SEEK 0 is_booked",
            "EXEC",
        ),
    ),
)
def exec_(context: Context) -> RawReply:
    return context.client.execute_transaction()


@command(
    "DISCARD",
    summary="Forgets what was queued.",
    reply=Reply.STATUS,
    flags=Flags.FAST | Flags.CONNECTION,
    group=GROUP,
    page=Page(errors={"ERR": "there was no MULTI"}),
)
def discard(context: Context) -> str:
    context.client.discard_transaction()
    return "OK"


@command(
    "WATCH",
    summary="Makes EXEC do nothing if one of these rows has been written, by whomever, since now.",
    syntax="<key> [<key> ...]",
    args=(("keys", Arg.REST),),
    least=1,
    keys=(1, -1, 1),
    reply=Reply.STATUS,
    flags=Flags.FAST | Flags.READONLY,
    complexity="O(keys)",
    group=GROUP,
    page=Page(
        text=(
            "A row is watched as it is: one that is not there may come, one that is there may go with its "
            "table. Locks and holds are no part of it. A fencing token of KL.TRYLOCK does the same, and "
            "keeps others from writing meanwhile."
        ),
        arguments=KEY,
        examples=(
            "WATCH 0",
            "KL.CLAIM seats rank 1 is_booked 0 SET is_booked 1",
            "MULTI",
            "PING",
            "EXEC",
        ),
    ),
)
def watch(context: Context, keys: list[bytes]) -> str:
    if context.client.in_transaction:
        raise CommandError("ERR WATCH inside MULTI is not allowed")
    context.client.watch(keys)
    return "OK"


@command(
    "UNWATCH",
    summary="Forgets all that WATCH named.",
    reply=Reply.STATUS,
    flags=Flags.FAST | Flags.CONNECTION,
    group=GROUP,
)
def unwatch(context: Context) -> str:
    context.client.unwatch()
    return "OK"
