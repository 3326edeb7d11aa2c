"""A command's syntax line as COMMAND DOCS tells it, and redis-cli's hints want it: a map per argument.

    form        arguments; a syntax of several lines has several forms
    argument    <name>  |  KEYWORD  |  KEYWORD <name>  |  [choice], optional  |  (choice)
    choice      arguments, or several of these with `|` between them

`...` at the end of a bracket: all within it may be repeated; at the end of a line it is the last argument.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import takewhile
from typing import Any

from commands.spec import Status, Unordered

Argument = dict[str, Any]
_words = re.compile(r"<[^>]*>|[\[\]()|]|[^\s<>\[\]()|]+").findall


def arguments(syntax: str) -> list[Argument]:
    """What several forms begin with is told once."""
    forms = [_form(line) for line in syntax.splitlines() or [""]]
    same = takewhile(lambda at: all(one == at[0] for one in at[1:]), zip(*forms, strict=False))
    shared = [at[0] for at in same]
    if len(forms) == 1:
        return shared
    return [*shared, _one_of([form[len(shared) :] for form in forms])]


def _form(line: str) -> list[Argument]:
    alternatives, repeats = _alternatives(iter(_words(line)))
    found = alternatives[0] if len(alternatives) == 1 else [_one_of(alternatives)]
    if repeats:
        found[-1] = _flagged(found[-1], "multiple")
    return found


def _alternatives(words: Iterator[str]) -> tuple[list[list[Argument]], bool]:
    """Up to the closing bracket what stands between bars, and whether it ends in `...`."""
    found: list[list[Argument]] = [[]]
    repeats = False
    for word in words:
        sequence = found[-1]
        if word in ("]", ")"):
            break
        if word == "|":
            found.append([])
        elif word == "...":
            repeats = True
        elif word in ("[", "("):
            inner, is_multiple = _alternatives(words)
            one = _one_of(inner)
            one = _flagged(one, "optional") if word == "[" else one
            sequence.append(_flagged(one, "multiple") if is_multiple else one)
        elif word.startswith("<"):
            is_told_by = (
                bool(sequence) and sequence[-1]["type"] == "pure-token" and "flags" not in sequence[-1]
            )
            token = {"token": sequence.pop()["token"]} if is_told_by else {}
            sequence.append({"name": word[1:-1], "type": "string", **token})
        else:
            sequence.append({"name": word.lower(), "type": "pure-token", "token": word})
    return found, repeats


def _is_keyword(argument: Argument) -> bool:
    """One that must be there: behind `[FREE]` a name is an argument of its own."""
    return argument["type"] == "pure-token" and "flags" not in argument


def _one_of(alternatives: list[list[Argument]]) -> Argument:
    """As Redis's own: `oneof` with its alternatives, each of which is an argument or a block of them."""
    blocks = [_block(sequence) for sequence in alternatives]
    if len(blocks) == 1:
        return blocks[0]
    name = "-or-".join(_called(block) for block in blocks)
    return {"name": name, "type": "oneof", "arguments": blocks}


def _block(sequence: list[Argument]) -> Argument:
    if len(sequence) == 1:
        return sequence[0]
    return {"name": _called(sequence[0]), "type": "block", "arguments": sequence}


def _called(argument: Argument) -> str:
    return str(argument.get("token", argument["name"])).lower()


def _flagged(argument: Argument, flag: str) -> Argument:
    """The argument with one flag more; its flags stand before what it contains."""
    flags = Unordered([*argument.get("flags", []), Status(flag)])
    rest = {name: value for name, value in argument.items() if name not in ("flags", "arguments")}
    contained = {"arguments": argument["arguments"]} if "arguments" in argument else {}
    return {**rest, "flags": flags, **contained}
