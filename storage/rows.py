"""A table's rows in memory: 4 KiB blocks in flat buffers, laid out as they are on disk.

Invariants: 1. A row is there exactly when its token is not 0, and then its id is in `present`. 2. A block
whose bytes differ from the last checkpoint is in `dirty`. 3. While a cut is being written, a block of it
is copied to `preimages` before its first change, so the cut is exactly the state at its position.
"""

from __future__ import annotations

import mmap
from array import array
from functools import lru_cache
from typing import Any

from pyroaring import BitMap

from storage import format as fmt
from storage.schema import Schema


@lru_cache(maxsize=64)
def _offsets(per_block: int, size: int) -> array[int]:
    return array(
        "I",
        (
            (row // per_block) * fmt.BLOCK_BYTES + fmt.BLOCK_HEADER_BYTES + (row % per_block) * size
            for row in range(fmt.DIRECTORY_ROWS)
        ),
    )


class Rows:
    """Directories of 64 Ki rows each, made when the first row of their neighbourhood is."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema
        self.directories: dict[int, mmap.mmap] = {}
        self.slots: dict[int, int] = {}  # directory -> its place in the row file
        self.numbers: list[int] = []  # place in the row file -> directory
        self.present = BitMap()
        self.dirty: set[int] = set()
        self.cut: set[int] | None = None
        self.preimages: dict[int, bytes] = {}
        # Row's offset in its directory: one look-up, where divmod and two multiplications cost 3 x as much.
        self.offsets = _offsets(schema.rows_per_block, schema.record_bytes)

    @property
    def directory_bytes(self) -> int:
        return self.schema.blocks_per_directory * fmt.BLOCK_BYTES

    def read(self, row: int) -> tuple[Any, ...] | None:
        """The unpacked record (token, position, digest, fields); None where there is no row."""
        directory = self.directories.get(row >> 16)
        if directory is None:
            return None
        values = self.schema.record.unpack_from(directory, self.offsets[row & 0xFFFF])
        return values if values[0] else None

    def write(self, row: int, image: bytes) -> None:
        """Puts a row's new image in place. The caller has logged it and keeps the index."""
        number = row >> 16
        directory = self.directories.get(number)
        if directory is None:
            directory = self.add_directory(number)
        offset = self.offsets[row & 0xFFFF]
        block = self.slots[number] * self.schema.blocks_per_directory + (offset >> 12)
        if self.cut is not None and block in self.cut:
            start = offset & ~4095
            self.preimages[block] = directory[start : start + fmt.BLOCK_BYTES]
            self.cut.discard(block)
        directory[offset : offset + len(image)] = image
        self.dirty.add(block)

    def add_directory(self, number: int) -> mmap.mmap:
        # An anonymous mapping: pages that no row touches cost nothing. A shared one costs twice the time.
        directory = mmap.mmap(-1, self.directory_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.directories[number] = directory
        self.slots[number] = len(self.numbers)
        self.numbers.append(number)
        return directory

    def begin_cut(self) -> list[int]:
        """Freezes the dirty blocks; answers their numbers in the row file, ascending."""
        assert self.cut is None, "one cut at a time"
        self.cut, self.dirty = self.dirty, set()
        return sorted(self.cut)

    def cut_block(self, block: int) -> bytes:
        """A block as it was at the cut. Safe in a thread beside a writer: it copies the block first and
        then takes it off the cut; a writer takes it off first. Who finds it gone uses the pre-image."""
        cut = self.cut
        assert cut is not None
        slot, within = divmod(block, self.schema.blocks_per_directory)
        directory = self.directories[self.numbers[slot]]
        image = directory[within * fmt.BLOCK_BYTES : (within + 1) * fmt.BLOCK_BYTES]
        try:
            cut.remove(block)
        except KeyError:
            return self.preimages.pop(block)
        return image

    def end_cut(self) -> None:
        self.cut = None
        self.preimages = {}
