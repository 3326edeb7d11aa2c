"""OBJECT: what there is to say of how a row is kept."""

from __future__ import annotations

from commands.family import Family
from commands.keyspace import GROUP, row_of
from commands.spec import Arg, CommandError, Context, Flags, Page, command

_family = Family("OBJECT")


@_family.member("ENCODING", syntax="<key>", summary="Record, for a row has one fixed size.", least=1, most=1)
def object_encoding(context: Context, words: list[bytes]) -> str | None:
    return None if row_of(context.engine, words[0]) is None else "record"


@_family.member("REFCOUNT", syntax="<key>", summary="1.", least=1, most=1)
def object_refcount(context: Context, words: list[bytes]) -> int | None:
    return None if row_of(context.engine, words[0]) is None else 1


@_family.member("FREQ", syntax="<key>", summary="Refused, accesses are not counted.", least=1, most=1)
def object_freq(context: Context, words: list[bytes]) -> None:
    if row_of(context.engine, words[0]) is not None:
        raise CommandError(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that "
            "when switching between policies at runtime LRU and LFU data will take some time to adjust."
        )


@_family.member("IDLETIME", syntax="<key>", summary="Refused, times of access are not kept.", least=1, most=1)
def object_idletime(context: Context, words: list[bytes]) -> None:
    if row_of(context.engine, words[0]) is not None:
        raise CommandError("ERR idle time not tracked: no row is ever evicted")


@command(
    "OBJECT",
    summary="How a row is kept; null where there is none.",
    syntax="<subcommand> [<argument> ...]",
    args=(("words", Arg.REST),),
    least=1,
    keys=(2, 2, 1),
    flags=Flags.READONLY,
    group=GROUP,
    categories=("keyspace",),
    family=_family,
    page=Page(partly="FREQ and IDLETIME: accesses are not counted"),
)
def object_(context: Context, words: list[bytes]) -> object:
    return _family.run(context, words)
