"""Syntax lines as COMMAND DOCS tells them: shapes as Redis's own, which redis-cli draws its hints from."""

from __future__ import annotations

from typing import Any

import pytest

from commands.registry import load
from commands.syntax import arguments

TYPES = {"string", "pure-token", "oneof", "block"}


def told(one: dict[str, Any]) -> tuple[Any, ...]:
    inner = tuple(told(part) for part in one.get("arguments", ()))
    kind = (one["type"],) if inner else ()
    return (*kind, one["name"], one.get("token"), *one.get("flags", ()), *inner)


@pytest.mark.parametrize(
    ("syntax", "wanted"),
    [
        (
            "<key> [<key> ...] [PX <ms>] [FREE]",
            [
                ("key", None),
                ("key", None, "optional", "multiple"),
                ("ms", "PX", "optional"),
                ("free", "FREE", "optional"),
            ],
        ),
        (
            "<table> SCHEMA <f> <t> [INDEX] [<f> <t> [INDEX] ...]",
            [
                ("table", None),
                ("f", "SCHEMA"),
                ("t", None),
                ("index", "INDEX", "optional"),
                # The whole block is repeated, not its last word.
                (
                    *("block", "f", None, "optional", "multiple"),
                    *(("f", None), ("t", None), ("index", "INDEX", "optional")),
                ),
            ],
        ),
        ("<pattern> ...", [("pattern", None, "multiple")]),
        ("<command> <argument> ...", [("command", None), ("argument", None, "multiple")]),
        ("[ID <id> ...]", [("id", "ID", "optional", "multiple")]),
        ("[FREE] <x>", [("free", "FREE", "optional"), ("x", None)]),
    ],
)
def test_arguments(syntax: str, wanted: list[tuple[Any, ...]]) -> None:
    assert [told(one) for one in arguments(syntax)] == wanted


@pytest.mark.parametrize(
    ("syntax", "wanted"),
    [
        (  # as SHUTDOWN's of Redis
            "[NOSAVE | SAVE] [NOW]",
            [
                ("oneof", "nosave-or-save", None, "optional", ("nosave", "NOSAVE"), ("save", "SAVE")),
                ("now", "NOW", "optional"),
            ],
        ),
        (
            "[COUNT <n> | IDS <n> <id> [<id> ...]]",
            [
                (
                    *("oneof", "count-or-ids", None, "optional", ("n", "COUNT")),
                    ("block", "ids", None, ("n", "IDS"), ("id", None), ("id", None, "optional", "multiple")),
                )
            ],
        ),
        ("ON | OFF", [("oneof", "on-or-off", None, ("on", "ON"), ("off", "OFF"))]),
        (
            "[A (B | C)]",
            [("block", "a", None, "optional", ("a", "A"), ("oneof", "b-or-c", None, ("b", "B"), ("c", "C")))],
        ),
        (  # what forms begin with is told once
            "<t> <x> SET\n<t> IDS 1 <id>",
            [
                ("t", None),
                (
                    *("oneof", "x-or-ids", None),
                    *(
                        ("block", "x", None, ("x", None), ("set", "SET")),
                        ("block", "ids", None, ("ids", "IDS"), ("id", "1")),
                    ),
                ),
            ],
        ),
    ],
)
def test_alternatives(syntax: str, wanted: list[tuple[Any, ...]]) -> None:
    assert [told(one) for one in arguments(syntax)] == wanted


def test_every_bar_of_a_declaration_is_told() -> None:
    def counted(found: list[dict[str, Any]]) -> int:
        assert {one["type"] for one in found} <= TYPES
        bars = sum(len(one["arguments"]) - 1 for one in found if one["type"] == "oneof")
        return bars + sum(counted(one.get("arguments", [])) for one in found)

    for spec in load().values():
        members = [] if spec.family is None else [member for _, member in spec.family.members()]
        for syntax in (spec.syntax, *(member.syntax for member in members)):
            assert counted(arguments(syntax)) == syntax.count("|") + syntax.count("\n"), syntax
