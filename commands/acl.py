"""ACL: users, and what each may do."""

from __future__ import annotations

import secrets
from typing import Any

from commands.access import CATEGORIES, permissions
from commands.connection import integer_of
from commands.family import Family
from commands.spec import (
    REGISTERED,
    Arg,
    CommandError,
    Context,
    Flags,
    Job,
    Page,
    Status,
    command,
)

OK = Status("OK")
GENPASS_BITS_MAX = 4096
LOG_ENTRIES_SHOWN = 10
_family = Family("ACL")
_SECRET = Flags.ADMIN | Flags.SECRET


@_family.member("WHOAMI", summary="Answers the name of this connection's user.")
def whoami(context: Context, words: list[bytes]) -> bytes:
    return context.client.user_name


@_family.member("CAT", syntax="[<category>]", summary="All categories, or the commands of one.", most=1)
def cat(context: Context, words: list[bytes]) -> list[str]:
    if not words:
        return list(CATEGORIES)
    wanted = words[0].decode("utf-8", "surrogateescape").lower()
    if wanted not in CATEGORIES:
        raise CommandError(f"ERR Unknown category '{words[0][:128].decode('utf-8', 'surrogateescape')}'")
    return [name for name, found in permissions(REGISTERED.values()).items() if wanted in found]


@_family.member(
    "GENPASS", syntax="[<bits>]", summary="A password of so many random bits, 256 unless told.", most=1
)
def genpass(context: Context, words: list[bytes]) -> str:
    bits = integer_of(words[0]) if words else 256
    if not 0 < bits <= GENPASS_BITS_MAX:
        raise CommandError(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number "
            f"up to {GENPASS_BITS_MAX}"
        )
    digits = (bits + 3) // 4
    return secrets.token_hex((digits + 1) // 2)[:digits]


@_family.member(
    "SETUSER",
    syntax="<username> [<rule> ...]",
    summary="Makes or changes a user; its connections follow at once.",
    least=1,
    most=None,
    flags=_SECRET,
)
def setuser(context: Context, words: list[bytes]) -> Status:
    context.server.access.set_user(words[0], words[1:])
    return OK


@_family.member(
    "DELUSER",
    syntax="<username> [<username> ...]",
    summary="Removes users and ends their connections; answers how many.",
    least=1,
    most=None,
    flags=_SECRET,
)
def deluser(context: Context, words: list[bytes]) -> int:
    return context.server.access.delete_users(words, context.client)


@_family.member(
    "GETUSER",
    syntax="<username>",
    summary="A user's flags, hashed passwords, commands, keys; null when there is none.",
    least=1,
    most=1,
    flags=_SECRET,
)
def getuser(context: Context, words: list[bytes]) -> dict[str, Any] | None:
    return context.server.access.describe(words[0])


@_family.member("LIST", summary="All users, a line for each as in an ACL file.", flags=Flags.ADMIN)
def list_(context: Context, words: list[bytes]) -> list[bytes]:
    return list(context.server.access.lines().values())


@_family.member("USERS", summary="The names of all users.", flags=Flags.ADMIN)
def users(context: Context, words: list[bytes]) -> list[bytes]:
    return list(context.server.access.lines())


@_family.member(
    "DRYRUN",
    syntax="<username> <command> [<argument> ...]",
    summary="OK, or why the user may not call it. Nothing is done.",
    least=2,
    most=None,
    flags=_SECRET,
)
def dryrun(context: Context, words: list[bytes]) -> Status | str:
    refusal = context.server.access.refusal_of(words[0], words[1:])
    return OK if refusal is None else refusal


@_family.member(
    "LOG",
    syntax="[<count> | RESET]",
    summary="The latest refusals for want of permission, newest first.",
    most=1,
    flags=Flags.ADMIN,
)
def log(context: Context, words: list[bytes]) -> list[dict[str, Any]] | Status:
    access = context.server.access
    if words and words[0].upper() == b"RESET":
        access.reset_log()
        return OK
    return access.log_entries(max(0, integer_of(words[0])) if words else LOG_ENTRIES_SHOWN)


@_family.member(
    "LOAD", summary="Takes all users from the ACL file, or none when it is wrong.", flags=Flags.ADMIN
)
def load(context: Context, words: list[bytes]) -> Job:
    return context.server.access.load(context.client)


@_family.member("SAVE", summary="Writes all users to the ACL file.", flags=Flags.ADMIN)
def save(context: Context, words: list[bytes]) -> Job:
    return context.server.access.save()


@command(
    "ACL",
    summary="Users, their passwords, and which commands and keys are theirs.",
    syntax="<subcommand> [<argument> ...]",
    args=(("words", Arg.REST),),
    least=1,
    flags=Flags.LOADING | Flags.CONNECTION,
    group="server",
    complexity="O(users); SETUSER and DELUSER O(connections)",
    family=_family,
    page=Page(partly="selectors; rules for first arguments that are no subcommands"),
)
def acl(context: Context, words: list[bytes]) -> object:
    return _family.run(context, words)
