"""KL.TABLES and KL.INFO: what there is."""

from __future__ import annotations

from typing import Any

from commands.spec import Arg, Context, Flags, Page, Reply, command
from commands.wording import TABLE
from storage import locks
from storage.table import Table


@command(
    "KL.TABLES",
    summary="Answers an array of the names of all tables that the user may read, sorted.",
    reply=Reply.ANY,
    flags=Flags.READONLY,
    complexity="O(tables)",
    page=Page(
        answers=(
            (
                "array",
                "names, sorted",
            ),
        ),
        examples=("KL.TABLES",),
    ),
)
def tables(context: Context) -> list[str]:
    sees = context.server.access.sees
    return sorted(name.decode() for name in context.engine.tables if sees(context.client, name))


@command(
    "KL.INFO",
    summary="Answers a map of schema ([field, type, indexed]), rows, bytes, locks, holds, appended, durable.",
    syntax="<table>",
    args=(("table", Arg.TABLE),),
    reply=Reply.ANY,
    flags=Flags.READONLY,
    complexity="O(locks)",
    page=Page(
        arguments=TABLE,
        answers=(
            (
                "map",
                (
                    "`schema` (array of `[field, type, indexed]`) `rows` `bytes` `locks` "
                    "`holds` `appended` `durable` (log positions)"
                ),
            ),
        ),
        errors={"ERR": "an unknown table"},
        examples=("KL.INFO fields",),
    ),
)
def info(context: Context, table: Table) -> dict[str, Any]:
    engine = context.engine
    return {
        "schema": table.schema.describe(),
        "rows": len(table.rows.present),
        "bytes": table.bytes_used(),
        "locks": sum(1 for _ in locks.live(table, engine.clock())),
        "holds": len(engine.selling.live_holds(table, None)),
        "appended": engine.appended,
        "durable": engine.durable,
    }
