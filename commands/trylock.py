"""KL.TRYLOCK: a lease on rows, all or none."""

from __future__ import annotations

from commands.arguments import Options, key_of, lease_ms
from commands.spec import Arg, CommandError, Context, Flags, Reply, command, syntax_error
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
