"""MEMORY: what rows and the process take."""

from __future__ import annotations

from typing import Any

from commands.connection import integer_of
from commands.family import Family
from commands.keyspace import row_of
from commands.spec import Arg, Context, Flags, Page, Text, command, syntax_error

_family = Family("MEMORY")


@_family.member(
    "USAGE",
    syntax="<key> [SAMPLES <count>]",
    summary="Bytes of a row's record; null where there is no row. The index is all rows' together.",
    least=1,
    most=3,
)
def memory_usage(context: Context, words: list[bytes]) -> int | None:
    if len(words) > 1 and (len(words) != 3 or words[1].upper() != b"SAMPLES"):
        raise syntax_error()
    if len(words) == 3 and integer_of(words[2]) < 0:
        raise syntax_error()
    found = row_of(context.engine, words[0])
    return None if found is None else found[0].schema.record_bytes


@_family.member("STATS", summary="What the process and all rows take, in bytes.")
def memory_stats(context: Context, words: list[bytes]) -> dict[str, Any]:
    memory = context.server.sections()["Memory"]()
    tables = context.engine.tables.values()
    rows, rows_bytes = sum(len(table.rows.present) for table in tables), sum(t.bytes_used() for t in tables)
    return {
        "peak.allocated": memory["used_memory_peak"],
        "total.allocated": memory["used_memory"],
        "keys.count": rows,
        "keys.bytes-per-key": rows_bytes // rows if rows else 0,
        "dataset.bytes": rows_bytes,
    }


@_family.member("DOCTOR", summary="What there is to be said of it, in a sentence.")
def memory_doctor(context: Context, words: list[bytes]) -> Text:
    found = memory_stats(context, [])
    beside = found["total.allocated"] - found["dataset.bytes"]
    return Text(
        f"{found['dataset.bytes']} bytes are rows, {beside} the index, what is remembered of sales, and the "
        "program itself. Nothing is ever evicted.\n"
    )


@command(
    "MEMORY",
    summary="What rows and the process take.",
    syntax="<subcommand> [<argument> ...]",
    args=(("words", Arg.REST),),
    least=1,
    keys=(2, 2, 1),
    flags=Flags.READONLY,
    group="server",
    complexity="O(tables)",
    family=_family,
    page=Page(partly="MALLOC-STATS PURGE"),
)
def memory(context: Context, words: list[bytes]) -> object:
    return _family.run(context, words)
