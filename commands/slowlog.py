"""SLOWLOG: the commands that took long."""

from __future__ import annotations

import re
from typing import Any

from commands.family import Family
from commands.spec import Arg, CommandError, Context, Flags, Page, Status, command

COUNT_DEFAULT = 10
_family = Family("SLOWLOG")
_number = re.compile(rb"-1|0|[1-9][0-9]{0,17}").fullmatch


@_family.member("GET", syntax="[<count>]", summary="The newest entries, 10 unless told, -1 is all.", most=1)
def slowlog_get(context: Context, words: list[bytes]) -> list[list[Any]]:
    count = COUNT_DEFAULT
    if words:
        if not _number(words[0]):
            raise CommandError("ERR count should be greater than or equal to -1")
        count = int(words[0])
    return [list(entry) for entry in context.server.slowlog.entries(count)]


@_family.member("LEN", summary="How many entries there are.")
def slowlog_len(context: Context, words: list[bytes]) -> int:
    return len(context.server.slowlog)


@_family.member("RESET", summary="Forgets them.")
def slowlog_reset(context: Context, words: list[bytes]) -> Status:
    context.server.slowlog.clear()
    return Status("OK")


@command(
    "SLOWLOG",
    summary="The commands that took longer than slowlog-log-slower-than.",
    syntax="<subcommand> [<argument> ...]",
    args=(("words", Arg.REST),),
    least=1,
    flags=Flags.ADMIN | Flags.LOADING | Flags.CONNECTION,
    group="server",
    complexity="O(entries)",
    family=_family,
    page=Page(
        text=(
            "An entry is its number, unix time, microseconds, the command's words (32 of 128 bytes at most; "
            "none of a password's), the client's address and name. Times are those on the server's loop or "
            "in the command's job: the wait for the disk is in none of them."
        )
    ),
)
def slowlog(context: Context, words: list[bytes]) -> object:
    return _family.run(context, words)
