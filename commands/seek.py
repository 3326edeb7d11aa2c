"""KL.SEEK: one row."""

from __future__ import annotations

from typing import Any

from commands.spec import Arg, Context, Flags, Reply, command, syntax_error
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
