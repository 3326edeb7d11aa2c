"""Reads a table's row file as it is on disk, many blocks at a time, checksums checked.

A question about one byte of every row ("which tokens end in 0?") is a slice with a stride, one C call per
block. Sets of rows of a step are masks: integers with one byte per row, 1 or 0, the first row's lowest.
(Measured, 85 rows per block: checksum 0.7 us per block, one byte of all its rows 0.2 us; unpacking one
field of each row 2.5 us and more.)
"""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import compress
from pathlib import Path
from typing import Any, TypeVar

from pyroaring import BitMap

from storage import format as fmt
from storage import row_file
from storage.columns import Reader
from storage.fs import Fs
from storage.manifest import TableState
from storage.schema import Schema, Value

T = TypeVar("T")
_STEP_BLOCKS = 128  # read and looked at together: 512 KiB stay in the CPU's cache
_HEADERS = struct.Struct(f"{fmt.BLOCK.format}{fmt.BLOCK_BYTES - fmt.BLOCK.size}x")
_NO_BLOCK = bytes(fmt.BLOCK_BYTES)


@dataclass(frozen=True, slots=True)
class Needle:
    """What a row that has a value in a field has at `offset` of its record. BYTES begin with their length."""

    offset: int
    data: bytes

    @classmethod
    def of(cls, schema: Schema, name: bytes, value: Value) -> Needle:
        number, field = schema.field_by_name[name]
        before = "".join(other.code for other in schema.fields[:number])
        offset = fmt.ROW_HEADER_BYTES + struct.calcsize("<" + before)
        if isinstance(value, bytes):
            return cls(offset, struct.pack("<H", len(value)) + value)
        return cls(offset, struct.pack("<" + field.code, value))

    def is_in(self, payload: bytes, record: int) -> bool:
        """Whether the record at `record` of a payload has the value."""
        return payload.startswith(self.data, record + self.offset)


class RowFile:
    """A table's row file through a descriptor of its own, as the checkpoint `state` describes it."""

    def __init__(self, fs: Fs, directory: Path, state: TableState) -> None:
        self._fs = fs
        self._path = row_file.table_path(directory, state.number)
        self._directories = state.directories
        self.schema = Schema.from_description(state.schema)

    def steps(self) -> Iterator[Step]:
        """All of the file in order. A step is good until the next one is asked for."""
        fs, schema = self._fs, self.schema
        if not fs.exists(self._path):
            return
        fd = fs.open_readonly(self._path)
        try:
            buffer = bytearray(_STEP_BLOCKS * fmt.BLOCK_BYTES)
            per_directory = schema.blocks_per_directory
            for slot, number in enumerate(self._directories):
                for within in range(0, per_directory, _STEP_BLOCKS):
                    block = slot * per_directory + within
                    wanted = min(_STEP_BLOCKS, per_directory - within) * fmt.BLOCK_BYTES
                    read = fs.pread_into(fd, memoryview(buffer)[:wanted], block * fmt.BLOCK_BYTES)
                    if read >= fmt.BLOCK_BYTES:
                        data = buffer if read == len(buffer) else buffer[: read & -fmt.BLOCK_BYTES]
                        row = within * schema.rows_per_block
                        yield Step(schema, data, block, (number << 16) + row, fmt.DIRECTORY_ROWS - row)
        finally:
            fs.close(fd)


class Step:
    """Some neighbouring blocks. Those that fail their checksum are in `corrupt`, and hold no rows here."""

    def __init__(self, schema: Schema, data: bytearray, block: int, row: int, rows_max: int) -> None:
        self._schema = schema
        self._data = data
        self._bases = range(0, len(data), fmt.BLOCK_BYTES)
        self._block = block
        self._row = row
        self._rows = min(len(self._bases) * schema.rows_per_block, rows_max)
        self._all = _ones(self._rows)
        self.empty: list[int] = []  # never written, or zeroed by a power loss
        self.corrupt = list(self._check())

    def _check(self) -> Iterator[int]:
        data, crc32, size = self._data, zlib.crc32, fmt.BLOCK_BYTES
        view = memoryview(data)
        for block, (crc, number, _) in enumerate(_HEADERS.iter_unpack(data), self._block):
            base = (block - self._block) * size
            if number == block and crc32(view[base + 4 : base + size]) == crc:
                continue
            if data[base : base + size] == _NO_BLOCK:
                self.empty.append(block)
            else:
                yield block
                data[base : base + size] = _NO_BLOCK

    def put(self, block: int, image: bytes) -> None:
        """A sound copy in the place of a corrupt block."""
        base = (block - self._block) * fmt.BLOCK_BYTES
        self._data[base : base + fmt.BLOCK_BYTES] = image

    def positions(self) -> list[int]:
        """Log position of the checkpoint that wrote each block; 0 for one never written."""
        return [position for _, _, position in _HEADERS.iter_unpack(self._data)]

    def present(self) -> int:
        """Mask of the rows that are there: whose token, the record's first 8 bytes, is not 0."""
        absent = self._all
        for offset in range(8):
            absent &= self._equal(offset, 0)
            if not absent:
                break
        return self._all ^ absent

    def having(self, needle: Needle) -> int:
        """Mask of the rows that have the value, were they there."""
        offset, data = needle.offset, needle.data
        if len(data) > self._schema.rows_per_block:
            return self._compared(offset, data)
        found = self._all
        for at, byte in enumerate(data, offset):
            found &= self._equal(at, byte)
            if not found:
                break
        return found

    def values(self, read: Reader, mask: int) -> Iterator[tuple[int, Value]]:
        """Row and value of each row of the mask; `read` takes a field out of row images."""
        return self._chosen(read(self._images()), mask)

    def rows(self) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """Id and unpacked record of each row that is there."""
        return self._chosen(list(self._schema.record.iter_unpack(self._images())), self.present())

    def _images(self) -> bytes:
        """The rows one behind another, also those that are not there."""
        begin = fmt.BLOCK_HEADER_BYTES
        end = begin + self._schema.record_bytes * self._schema.rows_per_block
        images = b"".join([self._data[base + begin : base + end] for base in self._bases])
        return images[: self._rows * self._schema.record_bytes]

    def _chosen(self, values: Sequence[T], mask: int) -> Iterator[tuple[int, T]]:
        rows = range(self._row, self._row + self._rows)
        return compress(zip(rows, values, strict=True), mask.to_bytes(self._rows, "little"))

    def ids(self, mask: int) -> BitMap:
        first = self._row
        if not mask:
            return BitMap()
        if mask == self._all:
            return BitMap(range(first, first + self._rows))
        chosen = mask.to_bytes(self._rows, "little")
        return BitMap(array("I", compress(range(first, first + self._rows), chosen)))

    def _equal(self, offset: int, byte: int) -> int:
        """Mask of the rows whose record has this byte at `offset`."""
        data, size = self._data, self._schema.record_bytes
        begin = fmt.BLOCK_HEADER_BYTES + offset
        end = fmt.BLOCK_HEADER_BYTES + size * self._schema.rows_per_block
        column = b"".join([data[base + begin : base + end : size] for base in self._bases])[: self._rows]
        count = column.count(byte)
        if count == 0 or count == self._rows:
            return self._all if count else 0
        return int.from_bytes(column.translate(_is_byte(byte)), "little")

    def _compared(self, offset: int, data: bytes) -> int:
        """As `having`, row by row: cheaper where a value has more bytes than a block has rows."""
        size, per_block = self._schema.record_bytes, self._schema.rows_per_block
        whole = bytes(self._data)
        places = [
            base + fmt.BLOCK_HEADER_BYTES + offset + row * size
            for base in self._bases
            for row in range(per_block)
        ]
        return int.from_bytes([whole.startswith(data, place) for place in places[: self._rows]], "little")


@lru_cache(maxsize=16)
def _ones(rows: int) -> int:
    return int.from_bytes(b"\1" * rows, "little")


@lru_cache(maxsize=256)
def _is_byte(byte: int) -> bytes:
    """The table that makes 1 of `byte`, 0 of all others."""
    return bytes(other == byte for other in range(256))
