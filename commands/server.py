"""INFO CONFIG DBSIZE TIME: the process."""

from __future__ import annotations

import time

from commands.family import Family, name_matcher
from commands.spec import (
    Arg,
    Context,
    Flags,
    Job,
    Page,
    Reply,
    Status,
    command,
    syntax_error,
)

GROUP = "server"
EVERY_SECTION = frozenset({"all", "everything"})
NOT_BY_DEFAULT = frozenset({"commandstats", "latencystats"})  # long, and only for who asks
# Their values are shown nowhere; Redis's are among them, for whoever sends them here by mistake.
SECRET_SETTINGS = frozenset(
    {
        *("requirepass", "users"),
        *("masterauth", "masteruser", "tls-key-file-pass", "tls-client-key-file-pass"),
    }
)
_config = Family("CONFIG")


@command(
    "INFO",
    summary="Facts and counters of the server, by section.",
    syntax="[<section> ...]",
    args=(("sections", Arg.REST),),
    reply=Reply.RAW_TEXT,
    flags=Flags.LOADING,
    group=GROUP,
    complexity="O(tables)",
    categories=("dangerous",),
    page=Page(
        text=(
            "Of Redis's fields those that are true here; 0 stands where nothing of the kind ever happens, "
            "as in `expired_keys`. `keyspace_hits` and `keyspace_misses` are left out: to count them would "
            "make each read dearer. `used_memory` is what the kernel says that the process has, as "
            "`used_memory_rss` is."
        ),
        arguments={"<section>": "its name, `default`, `all` or `everything`"},
        answers=(
            (
                "text",
                "`# Section`, then `name:value` lines",
            ),
        ),
        partly="`keyspace_hits` and `keyspace_misses`, `hz`, fields of what does not exist here",
    ),
)
def info(context: Context, sections: list[bytes]) -> str:
    asked = {section.decode("utf-8", "surrogateescape").lower() for section in sections}
    by_default = not asked or "default" in asked
    parts = []
    for title, facts in context.server.sections().items():
        name = title.lower()
        if name in asked or asked & EVERY_SECTION or (by_default and name not in NOT_BY_DEFAULT):
            lines = "".join(f"{key}:{value}\r\n" for key, value in facts().items())
            parts.append(f"# {title}\r\n{lines}")
    return "\r\n".join(parts)


@_config.member("GET", syntax="<pattern> ...", summary="The settings whose names match.", least=1, most=None)
def config_get(context: Context, patterns: list[bytes]) -> dict[str, str]:
    wanted = [name_matcher(pattern) for pattern in patterns]
    settings = context.server.settings.shown()
    return {name: value for name, value in settings.items() if any(fits(name) for fits in wanted)}


def _secret_values(words: list[bytes]) -> list[int]:
    """All, where names and values do not come in pairs: a password may have had a space."""
    secret = [i for i, word in enumerate(words) if word.decode("latin-1").lower() in SECRET_SETTINGS]
    if len(words) % 2:
        return list(range(len(words))) if secret else []
    return [i + 1 for i in secret if i % 2 == 0]


@_config.member(
    "SET",
    syntax="<name> <value> [<name> <value> ...]",
    summary="Changes settings, all or none.",
    least=2,
    most=None,
    flags=Flags.SECRET,
    secrets=_secret_values,
)
def config_set(context: Context, words: list[bytes]) -> Status:
    if len(words) % 2:
        raise syntax_error()
    texts = [word.decode("utf-8", "surrogateescape") for word in words]
    context.server.settings.change(list(zip(texts[::2], texts[1::2], strict=True)))
    return Status("OK")


@_config.member(
    "REWRITE",
    summary="Writes the settings, and the users if no ACL file has them, to the TOML file of the start.",
)
def config_rewrite(context: Context, words: list[bytes]) -> Job:
    return Job(run=context.server.settings.rewriting(), finish=lambda _: Status("OK"))


@_config.member("RESETSTAT", summary="What INFO counts begins anew.")
def config_resetstat(context: Context, words: list[bytes]) -> Status:
    context.server.reset_statistics()
    return Status("OK")


@command(
    "CONFIG",
    summary="The server's settings.",
    syntax="<subcommand> [<argument> ...]",
    args=(("words", Arg.REST),),
    least=1,
    flags=Flags.ADMIN | Flags.LOADING | Flags.CONNECTION,
    group=GROUP,
    complexity="O(settings)",
    family=_config,
    page=Page(
        text=(
            "What there is, and what SET may change, is in [server.md](../server.md#limits); the names are "
            "those of the TOML file, the same with dashes, and Redis's where it has the setting. With "
            "Redis's names alone GET also answers what has one answer here: `appendonly`, `save`, "
            "`databases`, `maxmemory`, `maxmemory-policy`, `notify-keyspace-events`, "
            "`client-output-buffer-limit`."
        ),
        partly=(
            "most of Redis's settings; SET of `appendfsync`, `save`, `maxmemory`, `bind`, `port` and all "
            "else that is fixed at the start answers `can't set immutable config`"
        ),
    ),
)
def config(context: Context, words: list[bytes]) -> object:
    return _config.run(context, words)


@command(
    "DBSIZE",
    summary="How many rows all tables have together.",
    reply=Reply.INTEGER,
    flags=Flags.READONLY | Flags.FAST,
    group=GROUP,
    complexity="O(tables)",
    categories=("keyspace",),
    page=Page(
        answers=(
            (
                "integer",
                "rows of all tables",
            ),
        ),
        examples=("DBSIZE",),
    ),
)
def dbsize(context: Context) -> int:
    return sum(len(table.rows.present) for table in context.engine.tables.values())


@command(
    "TIME",
    summary="The wall clock: seconds and microseconds.",
    flags=Flags.FAST | Flags.CONNECTION,
    group=GROUP,
    page=Page(
        answers=(
            (
                "array",
                "unix seconds and microseconds, as bulk strings",
            ),
        ),
    ),
)
def time_(context: Context) -> list[str]:
    seconds, microseconds = divmod(time.time_ns() // 1000, 1_000_000)
    return [str(seconds), str(microseconds)]
