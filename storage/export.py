"""`klani-resp check DIR --export FILE`: what is sound of a directory, as commands that make it again.

FILE holds KL.CREATE and KL.INSERT as clients send them, for `redis-cli --pipe`. Rows come from sound blocks
of the row files (or their copies in the double-write file) and from the log behind the checkpoint. A log that
a start would refuse gives every sound batch there is: a record stands for the whole row, so each one that can
be read is one sale less lost. What is left out is said, table by table, and why. Tokens, positions and owners
are not exported: the rows are new ones where they are loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pyroaring import BitMap

from storage import format as fmt
from storage import index_file, row_file
from storage.errors import DamageError, StartError
from storage.fs import Fs, replace_durably
from storage.log_reader import Batch, read_log, records, sound_batches
from storage.manifest import Manifest, TableState
from storage.scan import RowFile, Step
from storage.schema import Schema

Say = Callable[[str], None]
Row = tuple[Any, ...]  # an unpacked record: token, position, owner digest, fields
_WRITE_BYTES = 1 << 20
_RANGES_MAX = 20  # of row ids in one line


@dataclass(slots=True)
class Found:
    """A table, and what the log behind the checkpoint has of it. `state` is None where that is all."""

    number: int
    name: str
    schema: Schema
    state: TableState | None
    latest: dict[int, Row] = field(default_factory=dict)


def export(fs: Fs, directory: Path, file: Path, say: Say) -> None:
    """Writes `file`, whole or not at all. OSError where something cannot be read or written."""
    try:
        manifest = Manifest.load(fs, directory)
    except StartError as error:
        say(f"export: nothing is written, for nothing says which tables there are: {error}")
        return
    tables = _from_log(fs, directory, manifest, say)
    source = _Source(fs, directory, manifest)
    buffer, offset = bytearray(), 0
    with replace_durably(fs, file) as fd:
        for table in tables.values():
            for piece in source.commands(table, say):
                buffer += piece
                if len(buffer) >= _WRITE_BYTES:
                    fs.pwrite(fd, bytes(buffer), offset)
                    offset += len(buffer)
                    buffer.clear()
        fs.pwrite(fd, bytes(buffer), offset)


# --- the log ------------------------------------------------------------------------------------------


def _from_log(fs: Fs, directory: Path, manifest: Manifest, say: Say) -> dict[int, Found]:
    tables = {
        state.number: Found(state.number, state.name, Schema.from_description(state.schema), state)
        for state in manifest.tables
    }
    wal, uuid, start = directory / "wal", manifest.uuid_bytes, manifest.position
    try:
        batches = read_log(fs, wal, uuid, start, start).batches
    except StartError:
        batches, troubles = sound_batches(fs, wal, uuid, start)
        for trouble in troubles:
            say(f"export: left out of all tables: {trouble}")
    except FileNotFoundError:
        say(f"export: left out of all tables: what came behind position {start}, for {wal} is missing")
        return tables
    unknown: dict[int, int] = {}
    for batch in batches:
        try:
            _take(tables, unknown, batch)
        except DamageError as error:
            say(f"export: left out of all tables: {error}")
    for number, count in unknown.items():
        say(f"export: left out: {count} writes of table number {number}: its KL.CREATE is lost")
    return tables


def _take(tables: dict[int, Found], unknown: dict[int, int], batch: Batch) -> None:
    payload = batch.payload
    for length, kind, _, number, row, _, offset in records(batch):
        table = tables.get(number)
        if kind == fmt.Kind.CREATE:
            made = json.loads(payload[offset : offset + length - fmt.RECORD.size])
            for older in [n for n, found in tables.items() if found.name == made["name"]]:
                del tables[older]  # its KL.DROP is lost
            tables[number] = Found(number, made["name"], Schema.from_description(made["schema"]), None)
        elif kind == fmt.Kind.DROP:
            tables.pop(number, None)
        elif kind in fmt.ROW_KINDS:
            if table is None:
                unknown[number] = unknown.get(number, 0) + 1
            else:
                table.latest[row] = table.schema.record.unpack_from(payload, offset)


# --- the rows -----------------------------------------------------------------------------------------


class _Source:
    """The row files of a directory, beside the double-write file and the set of rows that were there."""

    def __init__(self, fs: Fs, directory: Path, manifest: Manifest) -> None:
        self._fs = fs
        self._directory = directory
        self._copies = dict(row_file.read_doublewrite(fs, directory, manifest.uuid_bytes))
        self._present: dict[int, BitMap] | None = None
        try:
            lists = index_file.load(fs, directory / manifest.index_file) if manifest.index_file else {}
            self._present = {
                number: rows for (number, column, _), rows in lists.items() if column == index_file.PRESENT
            }
        except (DamageError, OSError, ValueError):
            pass  # then it is not known which rows a damaged block held

    def commands(self, table: Found, say: Say) -> Iterator[bytes]:
        """The table's KL.CREATE and KL.INSERTs; then says what of it is there and what is not."""
        yield _create(table.name, table.schema)
        insert, ids, latest, bad = _Insert(table), BitMap(), table.latest, list[int]()
        for step in self._steps(table.state, bad):
            for row, values in step.rows():
                ids.add(row)
                newer = latest.get(row)
                yield insert(row, newer if newer is not None and newer[1] > values[1] else values)
        for row in sorted(latest.keys() - set(ids)):
            ids.add(row)
            yield insert(row, latest[row])
        say(f"export: table {table.name}: {len(ids)} rows")
        for line in self._left_out(table, ids, bad):
            say(f"export: table {table.name}: left out: {line}")

    def _steps(self, state: TableState | None, bad: list[int]) -> Iterator[Step]:
        """With what the double-write file can restore; `bad` gets the blocks that it cannot."""
        if state is None:
            return
        for step in RowFile(self._fs, self._directory, state).steps():
            for block in step.corrupt:
                copy = self._copies.get(row_file.Place(state.number, block))
                if copy is not None and fmt.block_is_sound(copy, block):
                    step.put(block, copy)
                else:
                    bad.append(block)
            yield step

    def _left_out(self, table: Found, ids: BitMap, bad: list[int]) -> Iterator[str]:
        state = table.state
        if state is None:
            return
        lost = None if self._present is None else self._present.get(table.number, BitMap()) - ids
        for block in bad:
            rows = _rows_of_block(state, table.schema, block)
            named = f"block {block} (rows {rows.start}..{rows.stop - 1}) fails its checksum"
            if lost is None:
                yield f"{named}: whatever rows it had, but for those that the log has"
                continue
            within = lost & BitMap(rows)
            lost -= within
            yield f"{named}: {_shown(within)}" if within else f"{named}: nothing, the log has all its rows"
        if lost:
            yield f"their blocks are empty or missing: {_shown(lost)}"
        elif lost is None and len(ids) < state.rows:
            yield f"some of {state.rows} rows; the posting lists, which would tell which, are damaged"


def _rows_of_block(state: TableState, schema: Schema, block: int) -> range:
    slot, within = divmod(block, schema.blocks_per_directory)
    first = within * schema.rows_per_block
    base = state.directories[slot] << 16
    return range(base + first, base + min(first + schema.rows_per_block, fmt.DIRECTORY_ROWS))


def _shown(rows: BitMap) -> str:
    """`3 rows: 4..5, 9`"""
    ranges: list[list[int]] = []
    for row in rows:
        if ranges and ranges[-1][1] == row - 1:
            ranges[-1][1] = row
        elif len(ranges) == _RANGES_MAX:
            break
        else:
            ranges.append([row, row])
    parts = [str(a) if a == b else f"{a}..{b}" for a, b in ranges]
    more = ", ..." if ranges[-1][1] != rows.max() else ""
    return f"{len(rows)} rows: {', '.join(parts)}{more}"


# --- the commands -------------------------------------------------------------------------------------


def _bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


def _create(name: str, schema: Schema) -> bytes:
    words = [b"KL.CREATE", name.encode(), b"IFNOTEXISTS", b"SCHEMA"]
    for one in schema.fields:
        words += [one.name, *one.type_text.encode().split(), *([b"INDEX"] if one.indexed else [])]
    return b"*%d\r\n" % len(words) + b"".join(map(_bulk, words))


class _Insert:
    """Makes a table's KL.INSERTs: all fields are named, each with its value."""

    def __init__(self, table: Found) -> None:
        schema = table.schema
        self._head = b"*%d\r\n" % (2 + 2 * len(schema.fields)) + _bulk(b"KL.INSERT")
        self._key = table.name.encode() + b":%d"
        self._fields = [(_bulk(f.name), schema.column_of[f.name], f.is_bytes) for f in schema.fields]

    def __call__(self, row: int, values: Row) -> bytes:
        parts = [self._head, _bulk(self._key % row)]
        for name, column, is_bytes in self._fields:
            value = values[column]
            parts += (name, _bulk(values[column + 1][:value] if is_bytes else b"%d" % value))
        return b"".join(parts)
