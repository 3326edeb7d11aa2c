"""CLIENT: names and facts of connections. What is not done answers as Redis answers an unknown one."""

from __future__ import annotations

from commands.connection import redis_integer, shown, valid_name
from commands.family import Family
from commands.spec import Arg, Client, CommandError, Context, Flags, Status, command, syntax_error

OK = Status("OK")
_family = Family("CLIENT")


@_family.member("ID", summary="Answers the id of this connection.")
def client_id(context: Context, words: list[bytes]) -> int:
    return context.client.id


@_family.member("INFO", summary="Answers this connection's line of CLIENT LIST.")
def client_info(context: Context, words: list[bytes]) -> str:
    return context.client.describe() + "\n"


@_family.member("LIST", summary="[ID <id> ...] | [TYPE normal]: a line per connection.", most=None)
def client_list(context: Context, words: list[bytes]) -> str:
    return "".join(client.describe() + "\n" for client in _chosen(context.server.clients(), words))


def _chosen(clients: list[Client], words: list[bytes]) -> list[Client]:
    if not words:
        return clients
    option, values = words[0].upper(), words[1:]
    if option == b"TYPE" and len(values) == 1:
        kind = values[0].lower()
        if kind not in (b"normal", b"master", b"replica", b"slave", b"pubsub"):
            raise CommandError(f"ERR Unknown client type '{shown(values[0])}'")
        return clients if kind == b"normal" else []
    if option == b"ID" and values:
        wanted = {redis_integer(value) for value in values}
        if None in wanted:
            raise CommandError("ERR Invalid client ID")
        return [client for client in clients if client.id in wanted]
    raise syntax_error()


@_family.member("GETNAME", summary="Answers the name of this connection, null when it has none.")
def client_getname(context: Context, words: list[bytes]) -> bytes | None:
    return context.client.name or None


@_family.member("SETNAME", summary="<name>: names this connection.", least=1, most=1)
def client_setname(context: Context, words: list[bytes]) -> Status:
    context.client.name = valid_name(words[0], "Client names")
    return OK


@_family.member(
    "SETINFO", summary="LIB-NAME <name> | LIB-VER <version>: what library it is.", least=2, most=2
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


# Nothing is ever evicted, and no row has an access time: either setting is in force as it stands.
@_family.member("NO-EVICT", summary="ON | OFF: no connection is ever evicted here.", least=1, most=1)
@_family.member("NO-TOUCH", summary="ON | OFF: reading changes no access times here.", least=1, most=1)
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
)
def client(context: Context, words: list[bytes]) -> object:
    return _family.run(context, words)
