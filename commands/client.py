"""CLIENT: names and facts of connections. What is not done answers as Redis answers an unknown one."""

from __future__ import annotations

from collections.abc import Callable

from commands.connection import redis_integer, shown, valid_name
from commands.family import Family
from commands.spec import (
    Arg,
    Client,
    CommandError,
    Context,
    Flags,
    Mute,
    Page,
    RawReply,
    Status,
    Text,
    command,
    syntax_error,
)

OK = Status("OK")
_family = Family("CLIENT")


@_family.member("ID", summary="Answers the id of this connection.")
def client_id(context: Context, words: list[bytes]) -> int:
    return context.client.id


@_family.member("INFO", summary="Answers this connection's line of CLIENT LIST.")
def client_info(context: Context, words: list[bytes]) -> Text:
    return Text(context.client.describe() + "\n")


@_family.member(
    "LIST",
    syntax="[ID <id> ...] | [TYPE <type>]",
    summary="A line per connection.",
    most=None,
    flags=Flags.ADMIN,
)
def client_list(context: Context, words: list[bytes]) -> Text:
    return Text("".join(client.describe() + "\n" for client in _chosen(context.server.clients(), words)))


def _chosen(clients: list[Client], words: list[bytes]) -> list[Client]:
    if not words:
        return clients
    option, values = words[0].upper(), words[1:]
    if option == b"TYPE" and len(values) == 1:
        return clients if _kind(values[0]) == b"normal" else []
    if option == b"ID" and values:
        wanted = {redis_integer(value) for value in values}
        if None in wanted:
            raise CommandError("ERR Invalid client ID")
        return [client for client in clients if client.id in wanted]
    raise syntax_error()


def _kind(word: bytes) -> bytes:
    """All clients are normal ones; Redis has others, too."""
    kind = word.lower()
    if kind not in (b"normal", b"master", b"replica", b"slave", b"pubsub"):
        raise CommandError(f"ERR Unknown client type '{shown(word)}'")
    return kind


@_family.member("GETNAME", summary="Answers the name of this connection, null when it has none.")
def client_getname(context: Context, words: list[bytes]) -> bytes | None:
    return context.client.name or None


@_family.member("SETNAME", syntax="<name>", summary="Names this connection.", least=1, most=1)
def client_setname(context: Context, words: list[bytes]) -> Status:
    context.client.name = valid_name(words[0], "Client names")
    return OK


@_family.member(
    "SETINFO", syntax="LIB-NAME <name> | LIB-VER <version>", summary="What library it is.", least=2, most=2
)
def client_setinfo(context: Context, words: list[bytes]) -> Status:
    option, client = words[0].upper(), context.client
    if option == b"LIB-NAME":
        client.library_name = valid_name(words[1], "lib-name")
    elif option == b"LIB-VER":
        client.library_version = valid_name(words[1], "lib-ver")
    else:
        raise CommandError(f"ERR Unrecognized option '{shown(words[0])}'")
    return OK


@_family.member(
    "REPLY", syntax="ON | OFF | SKIP", summary="Whether this connection is answered.", least=1, most=1
)
def client_reply(context: Context, words: list[bytes]) -> Status | RawReply:
    mode = words[0].upper()
    if mode == b"ON":
        context.client.mute(None)
        return OK
    if mode not in (b"OFF", b"SKIP"):
        raise syntax_error()
    context.client.mute(Mute.OFF if mode == b"OFF" else Mute.SKIP)
    return RawReply(b"")


@_family.member(
    "KILL",
    syntax="<address> | [ID <id>] [ADDR <address>] [LADDR <address>] [USER <name>] [TYPE <type>] "
    "[MAXAGE <seconds>] [SKIPME <yes-or-no>]",
    summary="Closes connections; how many.",
    least=1,
    most=None,
    flags=Flags.ADMIN,
)
def client_kill(context: Context, words: list[bytes]) -> Status | int:
    clients = context.server.clients()
    if len(words) == 1:
        found = [client for client in clients if client.address.encode() == words[0]]
        if not found:
            raise CommandError("ERR No such client")
        _end(context, found)
        return OK
    if len(words) % 2:
        raise syntax_error()
    skips_me = True
    for option, value in zip(words[::2], words[1::2], strict=True):
        if option.upper() == b"SKIPME":
            if value.lower() not in (b"yes", b"no"):
                raise syntax_error()
            skips_me = value.lower() == b"yes"
        else:
            fits = _filter(context, option.upper(), value)
            clients = [client for client in clients if fits(client)]
    chosen = [client for client in clients if not (skips_me and client is context.client)]
    _end(context, chosen)
    return len(chosen)


def _filter(context: Context, option: bytes, value: bytes) -> Callable[[Client], bool]:
    if option == b"ID":
        number = _positive(value, "client-id should be greater than 0")
        return lambda client: client.id == number
    if option == b"ADDR":
        return lambda client: client.address.encode() == value
    if option == b"LADDR":
        return lambda client: client.local_address.encode() == value
    if option == b"TYPE":
        is_normal = _kind(value) == b"normal"
        return lambda client: is_normal
    if option == b"USER":
        if value not in context.server.access.lines():
            raise CommandError(f"ERR No such user '{shown(value)}'")
        return lambda client: client.user_name == value
    if option == b"MAXAGE":
        seconds = _positive(value, "maxage is not an integer or out of range")
        return lambda client: client.age_seconds >= seconds
    raise syntax_error()


def _positive(value: bytes, complaint: str) -> int:
    if not value.isdigit() or len(value) > 18 or int(value) == 0:
        raise CommandError(f"ERR {complaint}")
    return int(value)


def _end(context: Context, clients: list[Client]) -> None:
    """The one that asks is answered first."""
    for client in clients:
        if client is context.client:
            client.close_after_reply()
        else:
            client.end()


# Nothing is ever evicted, and no row has an access time: either setting is in force as it stands.
@_family.member("NO-EVICT", syntax="ON | OFF", summary="No connection is ever evicted here.", least=1, most=1)
@_family.member(
    "NO-TOUCH", syntax="ON | OFF", summary="Reading changes no access times here.", least=1, most=1
)
def client_on_or_off(context: Context, words: list[bytes]) -> Status:
    if words[0].upper() not in (b"ON", b"OFF"):
        raise syntax_error()
    return OK


@command(
    "CLIENT",
    summary="Names and facts of connections.",
    syntax="<subcommand> [<argument> ...]",
    args=(("words", Arg.REST),),
    least=1,
    flags=Flags.LOADING | Flags.CONNECTION,
    group="connection",
    complexity="O(1); LIST O(connections)",
    family=_family,
    page=Page(partly="CACHING GETREDIR PAUSE TRACKING TRACKINGINFO UNBLOCK UNPAUSE"),
)
def client(context: Context, words: list[bytes]) -> object:
    return _family.run(context, words)
