"""HELLO AUTH PING ECHO QUIT RESET SELECT: the connection itself."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from commands.spec import (
    Arg,
    CommandError,
    Context,
    Flags,
    Page,
    Reply,
    Status,
    command,
)

REDIS_VERSION = "7.4.0"  # fixed: clients choose their features by it
NOT_AN_INTEGER = "ERR value is not an integer or out of range"
NO_PASSWORD_SET = (
    "ERR AUTH <password> called without any password configured for the default user. "
    "Are you sure your configuration is correct?"
)
HELLO_BEFORE_AUTH = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH "
    "<user> <pass> option can be used to authenticate the client and select the RESP protocol version at the "
    "same time"
)
# A number where Redis reads one: no leading zeros, no `-0`. KL commands are more liberal.
_number = re.compile(rb"0|-?[1-9][0-9]{0,18}").fullmatch
NAME_BYTES_MAX = 1024  # Redis takes any; but who has many connections would have many megabytes kept
_is_printable = re.compile(rb"[!-~]*").fullmatch
_INT_MAX = 2**31 - 1


def redis_integer(text: bytes) -> int | None:
    """A signed 64-bit number in the one form that Redis reads."""
    value = int(text) if _number(text) else None
    return value if value is not None and -(2**63) <= value < 2**63 else None


def integer_of(text: bytes) -> int:
    """As `redis_integer`; anything else is refused."""
    value = redis_integer(text)
    if value is None:
        raise CommandError(NOT_AN_INTEGER)
    return value


def shown(text: bytes) -> str:
    """As C prints it in an error: up to a NUL."""
    return text.partition(b"\0")[0][:128].decode("utf-8", "surrogateescape")


def valid_name(text: bytes, what: str) -> bytes:
    """A client's or a library's name: printable, no spaces, as Redis has it."""
    if len(text) > NAME_BYTES_MAX:
        raise CommandError(f"ERR {what} cannot have more than {NAME_BYTES_MAX} bytes.")
    if not _is_printable(text):
        raise CommandError(f"ERR {what} cannot contain spaces, newlines or special characters.")
    return text


def _passwords(words: list[bytes]) -> Iterator[int]:
    """Of HELLO's arguments what AUTH takes; and all behind a word that is no option, which may be a slip."""
    at = 1
    while at < len(words):
        option = words[at].upper()
        if option == b"SETNAME":
            at += 2
        elif option == b"AUTH":
            yield from (at + 1, at + 2)
            at += 3
        else:
            yield from range(at + 1, len(words))
            return


@command(
    "HELLO",
    summary="Chooses the protocol version and tells what the server is.",
    syntax="[<protover> [AUTH <username> <password>] [SETNAME <clientname>]]",
    args=(("words", Arg.REST),),
    flags=Flags.LOADING | Flags.FAST | Flags.CONNECTION | Flags.NO_AUTH | Flags.SECRET,
    secrets=_passwords,
    group="connection",
    page=Page(
        arguments={
            "<protover>": "2 or 3; without it nothing changes",
            "AUTH <username> <password>": "logs in first, as AUTH does",
            "SETNAME <clientname>": "names the connection",
        },
        answers=(
            (
                "map",
                "`server` `version` `proto` `id` `mode` `role` `modules`",
            ),
        ),
        errors={
            "NOPROTO": "another version",
            "WRONGPASS": "there is no such user, or the password is another",
            "NOAUTH": "a password is needed, and AUTH was not there",
            "ERR": "syntax, a name with spaces",
        },
        examples=("HELLO",),
    ),
)
def hello(context: Context, words: list[bytes]) -> dict[str, Any]:
    client = context.client
    if words:
        _hello_options(context, words)
    elif not context.server.access.is_known(client):
        raise CommandError(HELLO_BEFORE_AUTH)
    return {
        "server": "redis",
        "version": REDIS_VERSION,
        "proto": client.protocol,
        "id": client.id,
        "mode": "standalone",
        "role": "master",
        "modules": [],
    }


def _hello_options(context: Context, words: list[bytes]) -> None:
    """All of them are checked before any takes effect; who it is comes first, as in Redis."""
    version = redis_integer(words[0])
    if version is None:
        raise CommandError("ERR Protocol version is not an integer or out of range")
    if version not in (2, 3):
        raise CommandError("NOPROTO unsupported protocol version")
    name: bytes | None = None
    login: tuple[bytes, bytes] | None = None
    at = 1
    while at < len(words):
        option, left = words[at].upper(), len(words) - at - 1
        if option == b"AUTH" and left >= 2:
            login = words[at + 1], words[at + 2]
            at += 3
        elif option == b"SETNAME" and left >= 1:
            name = valid_name(words[at + 1], "Client names")
            at += 2
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{shown(words[at])}'")
    access = context.server.access
    if login is not None:
        access.authenticate(context.client, *login)
    if not access.is_known(context.client):
        raise CommandError(HELLO_BEFORE_AUTH)
    if name is not None:
        context.client.name = name
    context.client.set_protocol(version)


@command(
    "AUTH",
    summary="Names the user of this connection.",
    syntax="[<username>] <password>",
    args=(("words", Arg.REST),),
    least=1,
    reply=Reply.STATUS,
    flags=Flags.LOADING | Flags.FAST | Flags.CONNECTION | Flags.NO_AUTH | Flags.SECRET,
    group="connection",
    page=Page(
        arguments={"<username>": "`default` unless told", "<password>": "of the user"},
        errors={
            "WRONGPASS": "there is no such user, or the password is another",
            "ERR": "the default user has no password",
        },
    ),
)
def auth(context: Context, words: list[bytes]) -> str:
    if len(words) > 2:
        raise CommandError("ERR syntax error")
    access = context.server.access
    if len(words) == 1 and access.is_open:
        raise CommandError(NO_PASSWORD_SET)
    name = words[0] if len(words) == 2 else b"default"
    access.authenticate(context.client, name, words[-1])
    return "OK"


@command(
    "PING",
    summary="Answers PONG, or what it was given.",
    syntax="[<message>]",
    args=(("message", Arg.BYTES),),
    optional=1,
    flags=Flags.FAST | Flags.CONNECTION,
    group="connection",
    page=Page(
        arguments={"<message>": "answered in place of PONG"},
        answers=(
            (
                "status",
                "`PONG`",
            ),
            (
                "bulk",
                "the message",
            ),
        ),
        examples=(
            "PING",
            "PING hello",
        ),
    ),
)
def ping(context: Context, message: bytes | None = None) -> bytes | Status:
    return Status("PONG") if message is None else message


@command(
    "ECHO",
    summary="Answers its argument.",
    syntax="<message>",
    args=(("message", Arg.BYTES),),
    flags=Flags.FAST | Flags.CONNECTION,
    group="connection",
    page=Page(
        arguments={"<message>": "what is answered"},
        answers=(
            (
                "bulk",
                "the message",
            ),
        ),
        examples=("ECHO hello",),
    ),
)
def echo(context: Context, message: bytes) -> bytes:
    return message


@command(
    "QUIT",
    summary="Closes the connection when all replies are out.",
    args=(("words", Arg.REST),),
    reply=Reply.STATUS,
    flags=Flags.LOADING | Flags.FAST | Flags.CONNECTION | Flags.NO_AUTH,
    group="connection",
)
def quit_(context: Context, words: list[bytes]) -> str:
    context.client.close_after_reply()
    return "OK"


@command(
    "RESET",
    summary="Puts the connection back as it was when it came: RESP2, no name, no MULTI, the default user.",
    reply=Reply.STATUS,
    flags=Flags.LOADING | Flags.FAST | Flags.CONNECTION | Flags.NO_AUTH,
    group="connection",
    page=Page(
        answers=(
            (
                "status",
                "`RESET`",
            ),
        ),
    ),
)
def reset(context: Context) -> str:
    context.client.reset()
    context.server.monitor(context.client, is_on=False)
    context.server.access.reset(context.client)
    return "RESET"


@command(
    "SELECT",
    summary="There is one database, number 0.",
    syntax="<index>",
    args=(("index", Arg.BYTES),),
    reply=Reply.STATUS,
    flags=Flags.FAST | Flags.CONNECTION,
    group="connection",
    page=Page(
        arguments={"<index>": "0"},
        errors={"ERR": "any other number, or none"},
        examples=(
            "SELECT 0",
            "SELECT 1",
        ),
    ),
)
def select(context: Context, index: bytes) -> str:
    number = integer_of(index)
    if not -_INT_MAX - 1 <= number <= _INT_MAX:
        raise CommandError(
            f"ERR value is out of range, value must between {-_INT_MAX - 1} and {_INT_MAX}"  # sic
        )
    if number != 0:
        raise CommandError("ERR DB index is out of range")
    return "OK"
