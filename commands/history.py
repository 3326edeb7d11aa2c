"""KL.HISTORY: what a row was, write by write."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from commands.arguments import Options, integer
from commands.spec import Arg, Context, Flags, Job, Page, Reply, command, syntax_error
from commands.wording import KEY
from storage import format as fmt
from storage.errors import StartError, StoreError
from storage.events import Verb, decode
from storage.history import Entry, Record, history
from storage.schema import Schema
from storage.table import Table

LIMIT_DEFAULT = 64
LIMIT_MAX = 1000  # the reply is in memory, up to 4 MB
Answer = dict[str, Any]


@command(
    "KL.HISTORY",
    summary="Answers an array of maps, newest first, one for each write of the row as far as the log is "
    "kept: position, unix_ms, verb, token, owner, request, row; at most 1,000, and 64 without LIMIT.",
    syntax="<key> [LIMIT <n>]",
    args=(("key", Arg.KEY), ("words", Arg.REST)),
    reply=Reply.ANY,
    flags=Flags.READONLY | Flags.NO_MULTI,
    complexity="O(n) and the batches of the log between them, beside the other commands",
    group="selling",
    page=Page(
        text=("As far back as the log is kept: `history_keep_days` and `history_bytes_max`."),
        arguments=KEY | {"LIMIT <n>": "at most that many: 64 unless told, and no more than 1,000"},
        answers=(
            (
                "array",
                ("of maps `position` `unix_ms` `verb` `token` `owner` `request` `row`, newest first"),
            ),
        ),
        errors={"ERR": "syntax, an unknown table; the log cannot be read"},
        examples=(
            ("KL.CLAIM seats rank 1 is_booked 0 SET is_booked 1 FOR ann REQUEST order-17"),
            "KL.HISTORY 0",
        ),
    ),
)
def history_of(context: Context, table: Table, row: int, words: list[bytes]) -> Job | list[Answer]:
    limit = LIMIT_DEFAULT
    options = Options(words, 0)
    for option in options:
        if option != b"LIMIT":
            raise syntax_error()
        limit = integer(options.value())
    engine = context.engine
    values = table.read(row)
    if values is None:
        return []
    fs, directory, uuid, position = engine.fs, engine.directory, engine.manifest.uuid_bytes, values[1]
    number, schema, wanted = table.number, table.schema, min(limit or LIMIT_MAX, LIMIT_MAX)

    def answers() -> Iterator[Answer]:
        try:
            for entry in history(fs, directory, uuid, number, row, position, wanted):
                yield _shown(schema, entry)
        except (StartError, OSError) as error:
            raise StoreError(f"ERR KL.HISTORY cannot read the log: {error}") from error

    return Job(items=answers, position=position)


def details_of(frame: tuple[Record, ...], record: Record) -> tuple[bytes | None, bytes | None]:
    """Whom the row was sold to or taken back from by this record, and in which request: a sale's event stands
    right behind its rows, which share a token, where there was anything to be said. A frame of EXEC may have
    other sales behind them, of this very row, too."""
    if record.kind not in fmt.SALE_KINDS:
        return None, None
    behind = frame[frame.index(record) + 1 :]
    said = next((other for other in behind if not _is_of_one_sale(record, other)), None)
    if said is None or (said.kind, said.table) != (fmt.Kind.EVENT, record.table):
        return None, None
    event = decode(said.body)
    if record.row not in event.rows or Verb(event.verb).name != fmt.Kind(record.kind).name:
        return None, None
    return event.owner or None, event.request or None


def _is_of_one_sale(one: Record, other: Record) -> bool:
    return (one.kind, one.table, one.token) == (other.kind, other.table, other.token)


def _shown(schema: Schema, entry: Entry) -> Answer:
    record = entry.record
    values = schema.record.unpack(record.body)
    owner, request = details_of(entry.frame, record)
    return {
        "position": record.position,
        "unix_ms": entry.unix_ms,
        "verb": fmt.Kind(record.kind).name.lower(),
        "token": record.token,
        "owner": owner,
        "request": request,
        "row": {field.name: schema.value(values, field.name) for field in schema.fields},
    }
