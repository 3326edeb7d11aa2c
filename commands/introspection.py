"""COMMAND [COUNT LIST INFO DOCS GETKEYS]: the declarations, in the shapes that clients read."""

from __future__ import annotations

from collections.abc import Iterator
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
    command,
    syntax_error,
)

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
            [],  # tips are for proxies of clusters
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
    shown = [Status(text) for flag, text in _FLAG_NAMES.items() if flags & flag]
    categories_of = [Status("@" + one) for one in categories(spec, flags)]
    return Constant(
        [f"{name}|{member_name}".lower(), member.arity, shown, 0, 0, 0, categories_of, [], [], []]
    )


def _key_flags(spec: Command) -> list[Status]:
    if spec.flags & Flags.WRITE:
        return [Status("RW"), Status("UPDATE")]
    return [Status("RO"), Status("ACCESS")]


def _key_specs(spec: Command) -> list[dict[str, Any]]:
    """Where keys begin, and how many follow: of some commands only as far as positions can say."""
    first, last, step = spec.keys
    if not first:
        return []
    flags = _key_flags(spec)
    if spec.keys_end:
        flags.append(Status("INCOMPLETE"))
    through = last if last < 0 else last - first
    return [
        {
            "flags": flags,
            "begin_search": {"type": "index", "spec": {"index": first}},
            "find_keys": {"type": "range", "spec": {"lastkey": through, "keystep": step, "limit": 0}},
        }
    ]


def flag_names(spec: Command) -> list[Status]:
    names = [text for flag, text in _FLAG_NAMES.items() if spec.flags & flag]
    if spec.keys_end:  # clients then ask COMMAND GETKEYS
        names.append("movablekeys")
    return [Status(name) for name in names]


@_family.member("COUNT", summary="How many commands there are.")
def command_count(context: Context, words: list[bytes]) -> int:
    return len(REGISTERED)


@_family.member(
    "LIST",
    syntax="[FILTERBY MODULE <name> | ACLCAT <category> | PATTERN <pattern>]",
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
    whole, bar, part = name.partition(b"|")
    spec = _find(whole)
    if spec is None or not bar:
        return None if spec is None else _info(spec.name)
    known = spec.family is not None and spec.family.get(part) is not None
    return _member_info(spec.name, part.decode().upper()) if known else None


@_family.member("DOCS", syntax="[<name> ...]", summary="Summaries and arguments.", most=None)
def command_docs(context: Context, words: list[bytes]) -> dict[str, Constant]:
    found = [_find(word) for word in words] if words else list(REGISTERED.values())
    return {spec.name.lower(): _docs(spec.name) for spec in found if spec is not None}


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


def arguments(syntax: str) -> list[dict[str, Any]]:
    """A syntax line as redis-cli's hints want it: a map per argument, blocks within blocks."""
    spaced = syntax.replace("[", " [ ").replace("]", " ] ").replace("|", " | ")
    return _sequence(iter(spaced.split()))[0]


def _sequence(words: Iterator[str]) -> tuple[list[dict[str, Any]], bool]:
    """Up to the closing bracket, and whether `...` stands before it: all within the bracket may be repeated.

    `PX <ms>` is one argument with a token.
    """
    found: list[dict[str, Any]] = []
    repeats = False
    token = ""
    for word in words:
        if word == "]":
            break
        if word.startswith("<"):
            found.append({"name": word[1:-1], "type": "string"} | ({"token": token} if token else {}))
            token = ""
            continue
        if token:
            found.append({"name": token.lower(), "type": "pure-token", "token": token})
            token = ""
        if word == "[":
            inner, is_multiple = _sequence(words)
            one = (
                inner[0]
                if len(inner) == 1
                else {"name": inner[0]["name"], "type": "block", "arguments": inner}
            )
            one = _flagged(one, "optional")
            found.append(_flagged(one, "multiple") if is_multiple else one)
        elif word == "...":
            repeats = True
        elif word != "|":
            token = word
    if token:
        found.append({"name": token.lower(), "type": "pure-token", "token": token})
    return found, repeats


def _flagged(argument: dict[str, Any], flag: str) -> dict[str, Any]:
    """The argument with one flag more; its flags stand before what it contains."""
    flags = [*argument.get("flags", []), Status(flag)]
    rest = {name: value for name, value in argument.items() if name not in ("flags", "arguments")}
    contained = {"arguments": argument["arguments"]} if "arguments" in argument else {}
    return {**rest, "flags": flags, **contained}


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
