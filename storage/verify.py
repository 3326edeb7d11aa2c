"""VERIFY: counts the rows that have a value three times, from disk, for one log position P.

(1) The last checkpoint plus the log up to P. (2) A checkpoint at P is made and the row file read whole.
(3) The posting list as it was at P. The cut of the checkpoint is what fixes P; all files are read through
descriptors of their own.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pyroaring import BitMap

from storage import format as fmt
from storage import row_file
from storage.errors import StartError
from storage.fs import Fs
from storage.log_reader import read_log, records
from storage.manifest import Manifest, TableState
from storage.schema import Schema, Value
from storage.table import Table

if TYPE_CHECKING:
    from storage.engine import Engine


@dataclass(slots=True)
class Counted:
    rows: int
    matched: BitMap
    corrupt: set[int]


class RowFileScan:
    """Reads a table's row file through fresh descriptors, block by block, checksums checked."""

    def __init__(self, fs: Fs, directory: Path, state: TableState) -> None:
        self._fs = fs
        self._path = row_file.table_path(directory, state.number)
        self._directories = state.directories
        self.schema = Schema.from_description(state.schema)

    def blocks(self) -> Iterator[tuple[int, int, int, bytes | None]]:
        """(block number, first row id, rows in it, image or None when it fails its checksum)."""
        fs, schema = self._fs, self.schema
        if not fs.exists(self._path):
            return
        fd = fs.open_readonly(self._path)
        try:
            step = schema.blocks_per_directory
            for slot, number in enumerate(self._directories):
                data = fs.pread(fd, step * fmt.BLOCK_BYTES, slot * step * fmt.BLOCK_BYTES)
                for within in range(len(data) // fmt.BLOCK_BYTES):
                    image = data[within * fmt.BLOCK_BYTES : (within + 1) * fmt.BLOCK_BYTES]
                    row = within * schema.rows_per_block
                    count = min(schema.rows_per_block, fmt.DIRECTORY_ROWS - row)
                    block = slot * step + within
                    if fmt.block_is_sound(image, block):
                        yield block, (number << 16) + row, count, image
                    elif image.strip(b"\0"):
                        yield block, (number << 16) + row, count, None
        finally:
            fs.close(fd)

    def count(self, name: bytes, value: Value) -> Counted:
        """Which rows are there with the value in field `name`."""
        column = BlockColumn(self.schema, name)
        total, matched, corrupt = 0, BitMap(), set()
        for block, first, count, image in self.blocks():
            if image is None:
                corrupt.add(block)
                continue
            tokens, values = column.read(image, count)
            here = count - tokens.count(0)
            total += here
            if here and value in values:
                matched.update([first + i for i, v in enumerate(values) if v == value and tokens[i]])
        return Counted(total, matched, corrupt)


class BlockColumn:
    """Takes one field of all rows of a block at once: one C call where a loop would cost 20 x as much."""

    def __init__(self, schema: Schema, name: bytes) -> None:
        self._schema = schema
        column = schema.field_by_name[name][0]
        before = struct.calcsize("<" + "".join(f.code for f in schema.fields[:column]))
        field = schema.fields[column]
        self._is_bytes = field.is_bytes
        lead = fmt.ROW_HEADER_BYTES - 8 + before
        rest = schema.record_bytes - 8 - lead - struct.calcsize("<" + field.code)
        one = f"Q{lead}x{field.code}{rest}x"
        self._whole = struct.Struct("<" + one * schema.rows_per_block)

    def read(self, image: bytes, count: int) -> tuple[tuple[int, ...], tuple[Value, ...]]:
        flat = self._whole.unpack_from(image, fmt.BLOCK_HEADER_BYTES)
        if not self._is_bytes:
            return flat[: 2 * count : 2], flat[1 : 2 * count : 2]
        lengths, texts = flat[1 : 3 * count : 3], flat[2 : 3 * count : 3]
        return flat[: 3 * count : 3], tuple([text[:n] for n, text in zip(lengths, texts, strict=True)])


@dataclass(frozen=True, slots=True)
class Verdict:
    rows: int
    matched: int
    log_matched: int
    index_matched: int
    corrupt: int
    ok: bool


class Verification:
    """One KL.VERIFY: `start` and `finish` on the loop, `run` beside it once `position` is durable."""

    def __init__(self, engine: Engine, table: Table, name: bytes, value: Value) -> None:
        self._engine = engine
        self._table = table
        self._name = name
        self._value = value
        self.position = 0

    def start(self) -> None:
        """Fixes P: the cut of a checkpoint, and the posting list as it is now."""
        engine, table = self._engine, self._table
        self._replaced = engine.manifest
        self._checkpoint = engine.begin_checkpoint()
        self.position = self._checkpoint.position
        posting = table.index.find((table.index.columns[self._name],), (self._value,))
        self._posting = BitMap() if posting is None else posting.rows.copy()

    def run(self) -> Verdict:
        fs, directory = self._engine.fs, self._engine.directory
        log_matched, damaged = self._from_log(fs, directory)
        self._checkpoint.write()
        manifest = Manifest.load(fs, directory)
        state = _state_of(manifest, self._table.number)
        assert state is not None, "the cut holds the table"
        counted = RowFileScan(fs, directory, state).count(self._name, self._value)
        corrupt = counted.corrupt | damaged
        agreed = log_matched is not None and log_matched == counted.matched == self._posting
        return Verdict(
            rows=counted.rows,
            matched=len(counted.matched),
            log_matched=0 if log_matched is None else len(log_matched),
            index_matched=len(self._posting),
            corrupt=len(corrupt),
            ok=agreed and not corrupt and counted.rows == state.rows,
        )

    def finish(self, verdict: Verdict) -> Verdict:
        self._engine.end_checkpoint(self._checkpoint)
        return verdict

    def _from_log(self, fs: Fs, directory: Path) -> tuple[BitMap | None, set[int]]:
        """Last checkpoint plus log up to P, None when the log ends before; and its damaged blocks."""
        manifest = self._replaced
        state = _state_of(manifest, self._table.number)
        counted = Counted(0, BitMap(), set())
        if state is not None:
            counted = RowFileScan(fs, directory, state).count(self._name, self._value)
        start = manifest.position
        try:
            log = read_log(fs, directory / "wal", manifest.uuid_bytes, start, start, self.position)
        except (StartError, OSError):
            return None, counted.corrupt
        if log.end < self.position:
            return None, counted.corrupt
        schema, last = self._table.schema, {}
        for batch in log.batches:
            for _, kind, _, number, row, _, offset in records(batch):
                if number == self._table.number and kind >= fmt.Kind.INSERT:
                    values = schema.trim(schema.record.unpack_from(batch.payload, offset))
                    last[row] = schema.value(values, self._name) == self._value
        matched = counted.matched - BitMap([row for row, is_match in last.items() if not is_match])
        return matched | BitMap([row for row, is_match in last.items() if is_match]), counted.corrupt


def _state_of(manifest: Manifest, number: int) -> TableState | None:
    return next((state for state in manifest.tables if state.number == number), None)
