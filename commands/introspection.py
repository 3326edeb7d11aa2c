"""COMMAND [COUNT LIST INFO DOCS GETKEYS]: the declarations, in the shapes that clients read."""

from __future__ import annotations

from functools import cache
from typing import Any

from commands.access import categories, shown_categories
from commands.family import Family, Subcommand, name_matcher
from commands.spec import (
    REGISTERED,
    Arg,
    Command,
    CommandError,
    Constant,
    Context,
    Flags,
    Status,
    Unordered,
    command,
    syntax_error,
)
from commands.syntax import arguments

_family = Family("COMMAND")
_FLAG_NAMES = {
    Flags.WRITE: "write",
    Flags.READONLY: "readonly",
    Flags.FAST: "fast",
    Flags.ADMIN: "admin",
    Flags.LOADING: "loading",
    Flags.NO_MULTI: "no_multi",
    Flags.NO_AUTH: "no_auth",
}


def _find(name: bytes) -> Command | None:
    return REGISTERED.get(name.decode("utf-8", "surrogateescape").upper())


def _find_member(name: bytes) -> tuple[Command, str, Subcommand] | None:
    """What `command|subcommand` names."""
    whole, _, part = name.partition(b"|")
    spec = _find(whole)
    if spec is None or spec.family is None:
        return None
    part_name = part.decode("utf-8", "surrogateescape").upper()
    member = dict(spec.family.members()).get(part_name)
    return None if member is None else (spec, part_name, member)


@cache
def _info(name: str) -> Constant:
    """The ten elements of COMMAND INFO."""
    spec = REGISTERED[name]
    members = [] if spec.family is None else [_member_info(name, member) for member in spec.family.names]
    return Constant(
        [
            name.lower(),
            spec.arity,
            flag_names(spec),
            *spec.keys,
            shown_categories(spec),
            Unordered(),  # tips are for proxies of clusters
            _key_specs(spec),
            members,
        ]
    )


@cache
def _member_info(name: str, member_name: str) -> Constant | None:
    spec = REGISTERED[name]
    member = None if spec.family is None else spec.family.get(member_name.encode())
    if member is None:
        return None
    flags = spec.flags | member.flags
    has_key = member.syntax.startswith("<key>")  # where its family has them
    return Constant(
        [
            f"{name}|{member_name}".lower(),
            member.arity,
            _named(flags),
            *(spec.keys if has_key else (0, 0, 0)),
            Unordered(Status("@" + one) for one in categories(spec, flags)),
            Unordered(),
            _key_specs(spec) if has_key else Unordered(),
            [],
        ]
    )


def _key_flags(spec: Command) -> Unordered:
    words = ("RW", "UPDATE") if spec.flags & Flags.WRITE else ("RO", "ACCESS")
    return Unordered(map(Status, words))


def _key_specs(spec: Command) -> Unordered:
    """Where keys begin, and how many follow: of some commands only as far as positions can say."""
    first, last, step = spec.keys
    if not first:
        return Unordered()
    flags = _key_flags(spec)
    if spec.keys_end:
        flags.append(Status("INCOMPLETE"))
    through = last if last < 0 else last - first
    return Unordered(
        [
            {
                "flags": flags,
                "begin_search": {"type": "index", "spec": {"index": first}},
                "find_keys": {"type": "range", "spec": {"lastkey": through, "keystep": step, "limit": 0}},
            }
        ]
    )


def _named(flags: Flags) -> Unordered:
    return Unordered(Status(text) for flag, text in _FLAG_NAMES.items() if flags & flag)


def flag_names(spec: Command) -> Unordered:
    names = _named(spec.flags)
    if spec.keys_end:  # clients then ask COMMAND GETKEYS
        names.append(Status("movablekeys"))
    return names


@_family.member("COUNT", summary="How many commands there are.")
def command_count(context: Context, words: list[bytes]) -> int:
    return len(REGISTERED)


@_family.member(
    "LIST",
    syntax="[FILTERBY (MODULE <name> | ACLCAT <category> | PATTERN <pattern>)]",
    summary="Names of commands.",
    most=3,
)
def command_list(context: Context, words: list[bytes]) -> list[str]:
    if not words:
        return sorted(name.lower() for name in REGISTERED)
    if len(words) != 3 or words[0].upper() != b"FILTERBY":
        raise syntax_error()
    kind, wanted = words[1].upper(), words[2]
    if kind == b"MODULE":
        return []  # there are none
    if kind == b"ACLCAT":
        category = wanted.decode("utf-8", "surrogateescape").lower()
        found = [spec.name.lower() for spec in REGISTERED.values() if category in categories(spec)]
    elif kind == b"PATTERN":
        found = list(filter(name_matcher(wanted), (name.lower() for name in REGISTERED)))
    else:
        raise syntax_error()
    return sorted(found)


@_family.member("INFO", syntax="[<name> ...]", summary="Arity, flags and key positions.", most=None)
def command_info(context: Context, words: list[bytes]) -> list[Constant | None]:
    return [_info_of(word) for word in words] if words else list(map(_info, REGISTERED))


def _info_of(name: bytes) -> Constant | None:
    """Of a command, or of `command|subcommand`."""
    if (found := _find_member(name)) is not None:
        return _member_info(found[0].name, found[1])
    spec = _find(name)
    return None if spec is None else _info(spec.name)


@_family.member("DOCS", syntax="[<name> ...]", summary="Summaries and arguments.", most=None)
def command_docs(context: Context, words: list[bytes]) -> dict[str, Constant]:
    """Of commands, and of subcommands as `command|subcommand`; what is not there is left out."""
    if not words:
        return {name.lower(): _docs(name) for name in REGISTERED}
    found = {spec.name.lower(): _docs(spec.name) for spec in map(_find, words) if spec is not None}
    for spec, name, member in filter(None, map(_find_member, words)):
        found[f"{spec.name}|{name}".lower()] = Constant(_member_docs(spec, member))
    return found


@_family.member(
    "GETKEYS",
    syntax="<command> <argument> ...",
    summary="Which of its arguments are keys.",
    least=2,
    most=None,
)
def command_getkeys(context: Context, words: list[bytes]) -> list[bytes]:
    return _with_keys(words).keys_of(words)


@_family.member(
    "GETKEYSANDFLAGS",
    syntax="<command> <argument> ...",
    summary="Which of its arguments are keys, and what it does with each.",
    least=2,
    most=None,
)
def command_getkeysandflags(context: Context, words: list[bytes]) -> list[list[Any]]:
    spec = _with_keys(words)
    return [[key, _key_flags(spec)] for key in spec.keys_of(words)]


def _with_keys(words: list[bytes]) -> Command:
    spec = _find(words[0])
    if spec is None:
        raise CommandError("ERR Invalid command specified")
    if not spec.keys[0]:
        raise CommandError("ERR The command has no key arguments")
    if len(words) < abs(spec.arity):
        raise CommandError("ERR Invalid number of arguments specified for command")
    return spec


@cache
def _docs(name: str) -> Constant:
    spec = REGISTERED[name]
    docs: dict[str, Any] = {
        "summary": spec.summary,
        "since": spec.since,
        "group": spec.group,
        "complexity": spec.complexity,
    }
    if spec.family is not None:
        docs["subcommands"] = {
            f"{name}|{one}".lower(): _member_docs(spec, member) for one, member in spec.family.members()
        }
    elif spec.syntax:
        docs["arguments"] = arguments(spec.syntax)
    return Constant(docs)


def _member_docs(spec: Command, member: Subcommand) -> dict[str, Any]:
    docs: dict[str, Any] = {
        "summary": member.summary,
        "since": spec.since,
        "group": spec.group,
        "complexity": spec.complexity,
    }
    return docs | ({"arguments": arguments(member.syntax)} if member.syntax else {})


@command(
    "COMMAND",
    summary="What the server can do.",
    syntax="[<subcommand> [<argument> ...]]",
    args=(("words", Arg.REST),),
    flags=Flags.CONNECTION,
    group="server",
    complexity="O(commands)",
    family=_family,
    categories=("connection",),
)
def command_(context: Context, words: list[bytes]) -> object:
    return _family.run(context, words) if words else list(map(_info, REGISTERED))
