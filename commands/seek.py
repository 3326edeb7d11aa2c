"""KL.SEEK: one row."""

from __future__ import annotations

from typing import Any

from commands.spec import Arg, Context, Flags, Page, Reply, command, syntax_error
from commands.wording import KEY
from storage.schema import RowShape
from storage.table import Table


@command(
    "KL.SEEK",
    summary="Answers a row's fields, all of them or those named; null where there is no row.",
    syntax="<key> [<field> ...]",
    args=(("key", Arg.KEY), ("names", Arg.REST)),
    reply=Reply.ROW,
    flags=Flags.READONLY | Flags.FAST | Flags.NOTES_OWN_POSITION,
    complexity="O(fields)",
    page=Page(
        arguments=KEY | {"<field>": "only these, in the order asked"},
        answers=(
            (
                "map",
                "field to value: integers as integers, BYTES as bulk strings",
            ),
            (
                "null",
                "there is no such row",
            ),
        ),
        errors={"ERR": "an unknown table or field, a field named twice, an invalid row id"},
        examples=(
            "KL.SEEK 1",
            "KL.SEEK seats:1 seat_no rank",
            "KL.SEEK seats:99",
        ),
    ),
)
def seek(
    context: Context, table: Table, row: int, names: list[bytes]
) -> tuple[RowShape, tuple[Any, ...]] | None:
    schema = table.schema
    if not names:
        return context.engine.seek(table, row, schema.whole)
    asked = tuple(names)
    shape = schema.shapes.get(asked)
    if shape is None:
        if len(set(asked)) != len(asked):
            raise syntax_error()
        shape = schema.shape(asked)
    return context.engine.seek(table, row, shape)
