"""A table's rows in memory: 4 KiB blocks in flat buffers, laid out as they are on disk.

Invariants: 1. A row is there exactly when its token is not 0, and then its id is in `present`. 2. A block
whose bytes differ from the last checkpoint is in `dirty`. 3. While a cut is being written, a block of it
is copied to `preimages` before its first change, so the cut is exactly the state at its position. 4. While
the posting lists of a cut are being copied, a row's image goes to `before` ahead of its first change, and
ahead of that of any list.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterator
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
        self._unpack = schema.record.unpack_from
        self._blocks_per_directory = schema.blocks_per_directory
        self.directories: dict[int, mmap.mmap] = {}
        self.slots: dict[int, int] = {}  # directory -> its place in the row file
        self.numbers: list[int] = []  # place in the row file -> directory
        self.present = BitMap()
        self.dirty: set[int] = set()
        self.cut: set[int] | None = None
        self.sliced: list[int] = []  # blocks that `cut_slices` took off the cut
        self.preimages: dict[int, bytes] = {}
        self.before: dict[int, bytes] | None = None
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
        values = self._unpack(directory, self.offsets[row & 0xFFFF])
        return values if values[0] else None

    def write(self, row: int, image: bytes) -> None:
        """Puts a row's new image in place. The caller has logged it and keeps the index."""
        number = row >> 16
        directory = self.directories.get(number)
        if directory is None:
            directory = self.add_directory(number)
        offset = self.offsets[row & 0xFFFF]
        block = self.slots[number] * self._blocks_per_directory + (offset >> 12)
        if self.cut is not None:
            self._keep(row, block, directory, offset)
        directory[offset : offset + len(image)] = image
        self.dirty.add(block)

    def add_directory(self, number: int) -> mmap.mmap:
        # An anonymous mapping: pages that no row touches cost nothing. A shared one costs twice the time.
        directory = mmap.mmap(-1, self.directory_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self.directories[number] = directory
        self.slots[number] = len(self.numbers)
        self.numbers.append(number)
        return directory

    # --- the cut --------------------------------------------------------------------------------------
    # `begin_cut` and `end_cut` are called on the loop, `end_before` and `cut_slices` in a thread beside it.

    def begin_cut(self) -> int:
        """Freezes the dirty blocks; answers how many they are."""
        assert self.cut is None, "one cut at a time"
        self.cut, self.dirty = self.dirty, set()
        self.before = {}
        self.sliced = []
        return len(self.cut)

    def _keep(self, row: int, block: int, directory: mmap.mmap, offset: int) -> None:
        """Before a row is written: what the cut still needs of it."""
        before, cut = self.before, self.cut
        if before is not None and row not in before:
            before[row] = directory[offset : offset + self.schema.record_bytes]
        if cut is not None and block in cut:
            start = offset & ~4095
            self.preimages[block] = directory[start : start + fmt.BLOCK_BYTES]
            cut.discard(block)

    def end_before(self) -> dict[int, bytes]:
        """The rows written since the cut, as they were at it: zeros where no row was."""
        before, self.before = self.before, None
        assert before is not None
        return before.copy()  # a writer may have it in hand still

    def cut_slices(self, blocks_max: int) -> Iterator[tuple[list[int], bytearray]]:
        """The cut's blocks as they were at the cut, ascending: numbers, and the images one behind another.

        Safe beside a writer: a slice is copied in one step and then taken off the cut; a writer keeps the
        pre-image and then takes its block off. Who finds a block gone uses the pre-image.
        """
        cut, preimages = self.cut, self.preimages
        assert cut is not None
        size, per_directory = fmt.BLOCK_BYTES, self.schema.blocks_per_directory
        for slot, number in enumerate(self.numbers.copy()):
            directory, base = memoryview(self.directories[number]), slot * per_directory
            blocks = [b for b in range(base, base + per_directory) if b in cut or b in preimages]
            for i in range(0, len(blocks), blocks_max):
                part = blocks[i : i + blocks_max]
                starts = [(block - base) * size for block in part]
                images = bytearray().join([directory[start : start + size] for start in starts])
                for at, block in enumerate(part):
                    try:
                        cut.remove(block)
                    except KeyError:
                        images[at * size : (at + 1) * size] = preimages.pop(block)
                self.sliced += part
                yield part, images

    def end_cut(self, *, is_written: bool = True) -> None:
        """A cut that was not written leaves its blocks dirty."""
        if not is_written:
            assert self.cut is not None
            self.dirty.update(self.cut, self.sliced)  # what a writer took off is dirty again already
        self.cut = self.before = None
        self.preimages = {}
        self.sliced = []
