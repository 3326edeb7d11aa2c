"""KL.TRYLOCK: a lease on rows, all or none."""

from __future__ import annotations

from commands.arguments import Options, key_of, lease_ms
from commands.spec import Arg, CommandError, Context, Flags, Page, Reply, command, syntax_error
from commands.wording import KEY
from storage.locks import LEASE_MS_MAX
from storage.table import Table

OWNER_BYTES_MAX = 64
_OPTIONS = (b"PX", b"OWNER")


@command(
    "KL.TRYLOCK",
    summary="Locks rows and answers a fencing token, or null when one of them is locked or held by another.",
    syntax="<key> [<key> ...] [PX <ms>] [OWNER <attempt>]",
    args=(("key", Arg.KEY), ("words", Arg.REST)),
    keys_end=_OPTIONS,
    reply=Reply.INTEGER_OR_NULL,
    flags=Flags.WRITE | Flags.FAST | Flags.NOTES_OWN_POSITION,
    complexity="O(keys)",
    page=Page(
        text=(
            "Never waits; all keys or none. The lease ends after PX by the monotonic "
            "clock. Locks belong to the token, not to the connection; a restart drops "
            "them. The same OWNER on exactly the same keys gets the same token and a "
            "fresh lease, so that a resend is harmless."
        ),
        arguments=KEY
        | {
            "PX <ms>": f"of the lease, 1 to {LEASE_MS_MAX:,}; the server's `lease_ms` unless told",
            "OWNER <attempt>": (
                "1 to 64 bytes: a fresh UUID for each attempt, never a service or a customer"
            ),
        },
        answers=(
            (
                "integer",
                "the fencing token, for all the keys",
            ),
            (
                "null",
                "one of them is locked or held by another",
            ),
        ),
        errors={"NOROW": "there is no such row", "ERR": "syntax, a number out of range, an unknown table"},
        examples=(
            "KL.TRYLOCK 1 2 PX 10000 OWNER 5f0c",
            "KL.TRYLOCK 1 2 PX 10000 OWNER 5f0c",
            "KL.TRYLOCK 2",
            "KL.TRYLOCK 99",
        ),
    ),
)
def trylock(context: Context, table: Table, row: int, words: list[bytes]) -> int | None:
    engine = context.engine
    if not words:
        return engine.try_lock(((table, row),), None, None)
    if len(words) == 2 and words[0] == b"PX":  # the usual one, without what the general case costs
        return engine.try_lock(((table, row),), lease_ms(words[1]), None)
    keys = [(table, row)]
    at = 0
    while at < len(words) and words[at].upper() not in _OPTIONS:
        keys.append(key_of(engine, words[at]))
        at += 1
    ms: int | None = None
    owner: bytes | None = None
    options = Options(words, at)
    for option in options:
        if option == b"PX":
            ms = lease_ms(options.value())
        elif option == b"OWNER":
            owner = options.value()
            if not 1 <= len(owner) <= OWNER_BYTES_MAX:
                raise CommandError(f"ERR OWNER takes 1 to {OWNER_BYTES_MAX} bytes, not {len(owner)}")
        else:
            raise syntax_error()
    return engine.try_lock(tuple(keys), ms, owner)
