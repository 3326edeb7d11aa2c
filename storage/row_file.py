"""The row files: each table's 4 KiB blocks, and the double-write file that keeps a torn block restorable.

What a checkpoint does here comes as iterators: between two steps, each some 0.1 ms of Python at most, the
caller may let others run.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from storage import format as fmt
from storage.fs import Fs, is_full

DOUBLEWRITE_NAME = "doublewrite"
STEP_BLOCKS = 16
_SYNC_BYTES = 4 << 20  # the log's syncs must not wait behind hundreds of MB of ours


def table_path(directory: Path, number: int) -> Path:
    return directory / "tables" / f"{number}.rows"


@dataclass(frozen=True, slots=True)
class Place:
    table: int
    block: int


Slice = tuple[int, list[int], bytearray]  # table number, block numbers, their images one behind another


def write_doublewrite(
    fs: Fs, directory: Path, uuid: bytes, position: int, slices: Iterable[Slice], count: int
) -> Iterator[None]:
    """Writes sealed copies of all blocks in one file, header last, and syncs it.

    The header's checksum covers the places; each block bears its own. On a full disk it keeps no more
    room than it had.
    """
    fd = fs.open(directory / DOUBLEWRITE_NAME)
    before = fs.size(fd)
    try:
        fs.pwrite(fd, bytes(fmt.BLOCK_BYTES), 0)
        fs.fsync(fd)  # the old header must be gone before the blocks that it names are overwritten
        places = bytearray()
        offset = synced = first = _data_offset(count)
        for table, blocks, images in slices:
            fmt.seal_blocks(images, blocks, position)
            places += b"".join([fmt.PLACE.pack(table, 0, block) for block in blocks])
            fs.pwrite(fd, memoryview(images), offset)
            offset += len(images)
            if offset - synced >= _SYNC_BYTES:
                fs.fdatasync(fd)
                synced = offset
            yield
        assert offset == first + count * fmt.BLOCK_BYTES
        head = fmt.DOUBLEWRITE.pack(fmt.DOUBLEWRITE_MAGIC, fmt.FORMAT_VERSION, uuid, position, count, 0)[:-4]
        crc = zlib.crc32(places, zlib.crc32(head))
        fs.pwrite(fd, head + crc.to_bytes(4, "little") + bytes(places), 0)
        fs.fsync(fd)
    except OSError as error:
        if is_full(error):
            fs.truncate(fd, before)
        raise
    finally:
        fs.close(fd)
    fs.fsync_directory(directory)  # that it was there before does not say that its name is durable


def doublewrite_bytes(count: int) -> int:
    return _data_offset(count) + count * fmt.BLOCK_BYTES


def _data_offset(count: int) -> int:
    size = fmt.DOUBLEWRITE.size + count * fmt.PLACE.size
    return -(-size // fmt.BLOCK_BYTES) * fmt.BLOCK_BYTES


def _places(fs: Fs, fd: int, uuid: bytes) -> bytes:
    """The PLACE structures of the double-write file; none when it is foreign or unfinished."""
    head = fs.pread(fd, fmt.DOUBLEWRITE.size, 0)
    if len(head) < fmt.DOUBLEWRITE.size:
        return b""
    magic, version, owner, _, count, crc = fmt.DOUBLEWRITE.unpack(head)
    if magic != fmt.DOUBLEWRITE_MAGIC or version != fmt.FORMAT_VERSION or owner != uuid:
        return b""
    if fs.size(fd) < _data_offset(count) + count * fmt.BLOCK_BYTES:
        return b""
    places = fs.pread(fd, count * fmt.PLACE.size, fmt.DOUBLEWRITE.size)
    return places if zlib.crc32(places, zlib.crc32(head[:-4])) == crc else b""


def read_doublewrite(fs: Fs, directory: Path, uuid: bytes) -> Iterator[tuple[Place, bytes]]:
    """The sealed blocks of the double-write file; none when it is missing, foreign or unfinished."""
    path = directory / DOUBLEWRITE_NAME
    if not fs.exists(path):
        return
    fd = fs.open_readonly(path)
    try:
        places = _places(fs, fd, uuid)
        offset = _data_offset(len(places) // fmt.PLACE.size)
        for table, _, block in fmt.PLACE.iter_unpack(places):
            yield Place(table, block), fs.pread(fd, fmt.BLOCK_BYTES, offset)
            offset += fmt.BLOCK_BYTES
    finally:
        fs.close(fd)


def put_in_place(fs: Fs, directory: Path, uuid: bytes) -> Iterator[None]:
    """Puts the double-write file's blocks where they belong, and syncs every file that it touched."""
    copies = fs.open_readonly(directory / DOUBLEWRITE_NAME)
    files = RowFiles(fs, directory)
    try:
        places = _places(fs, copies, uuid)
        offset, unsynced, step = _data_offset(len(places) // fmt.PLACE.size), 0, STEP_BLOCKS * fmt.PLACE.size
        for i in range(0, len(places), step):
            blocks = [(table, block) for table, _, block in fmt.PLACE.iter_unpack(places[i : i + step])]
            images = fs.pread(copies, len(blocks) * fmt.BLOCK_BYTES, offset)
            files.write(blocks, images)
            offset += len(images)
            unsynced += len(images)
            if unsynced >= _SYNC_BYTES:
                files.sync()
                unsynced = 0
            yield
        files.sync()
        files.sync_names()
    finally:
        files.close()
        fs.close(copies)


class RowFiles:
    """The row files that blocks are being put into, one open at a time.

    Nothing is durable before `sync` and `sync_names`.
    """

    def __init__(self, fs: Fs, directory: Path) -> None:
        self._fs = fs
        self._directory = directory
        self._table = -1
        self._fd = -1
        self._is_synced = True

    def write(self, blocks: list[tuple[int, int]], images: bytes) -> None:
        """Table and number of each block, their sealed images one behind another; neighbours in one write."""
        size, view, begin = fmt.BLOCK_BYTES, memoryview(images), 0
        for i, (table, block) in enumerate(blocks, 1):
            if i < len(blocks) and blocks[i] == (table, block + 1):
                continue
            if table != self._table:
                self._open(table)
            first = block - (i - 1 - begin)
            self._is_synced = False
            self._fs.pwrite(self._fd, view[begin * size : i * size], first * size)
            begin = i

    def _open(self, table: int) -> None:
        self.sync()
        self.close()
        self._fd = self._fs.open(table_path(self._directory, table))
        self._table = table

    def sync(self) -> None:
        if not self._is_synced:
            self._fs.fsync(self._fd)
            self._is_synced = True

    def sync_table(self, number: int) -> None:
        """All that was ever written to its file, by whomever."""
        if self._fs.exists(table_path(self._directory, number)):
            self._open(number)
            self._is_synced = False
            self.sync()

    def sync_names(self) -> None:
        """Always: a file may be there since a checkpoint that came to no end, and its name not be durable."""
        self._fs.fsync_directory(self._directory / "tables")

    def close(self) -> None:
        if self._fd >= 0:
            self._fs.close(self._fd)
            self._fd = self._table = -1
