"""The row files: each table's 4 KiB blocks, and the double-write file that keeps a torn block restorable."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from storage import format as fmt
from storage.errors import DamageError
from storage.fs import Fs

DOUBLEWRITE_NAME = "doublewrite"
_STEP_BLOCKS = 256  # blocks that are written or read at once: 1 MiB


def table_path(directory: Path, number: int) -> Path:
    return directory / "tables" / f"{number}.rows"


@dataclass(frozen=True, slots=True)
class Place:
    table: int
    block: int


def write_doublewrite(
    fs: Fs, directory: Path, uuid: bytes, position: int, blocks: Iterator[tuple[Place, bytes]], count: int
) -> None:
    """Writes sealed copies of all blocks in one file, header last, and syncs it.

    The header's checksum covers the places; each block bears its own.
    """
    path = directory / DOUBLEWRITE_NAME
    known = fs.exists(path)
    fd = fs.open(path)
    try:
        fs.pwrite(fd, bytes(fmt.BLOCK_BYTES), 0)
        fs.fsync(fd)  # the old header must be gone before the blocks that it names are overwritten
        places = bytearray()
        offset = first = _data_offset(count)
        batch: list[bytes] = []
        for place, image in blocks:
            sealed = bytearray(image)
            fmt.seal_block(sealed, place.block, position)
            places += fmt.PLACE.pack(place.table, 0, place.block)
            batch.append(bytes(sealed))
            if len(batch) == _STEP_BLOCKS:
                fs.pwrite(fd, b"".join(batch), offset)
                offset += len(batch) * fmt.BLOCK_BYTES
                batch = []
        if batch:
            fs.pwrite(fd, b"".join(batch), offset)
            offset += len(batch) * fmt.BLOCK_BYTES
        assert offset == first + count * fmt.BLOCK_BYTES
        head = fmt.DOUBLEWRITE.pack(fmt.DOUBLEWRITE_MAGIC, fmt.FORMAT_VERSION, uuid, position, count, 0)[:-4]
        crc = zlib.crc32(bytes(places), zlib.crc32(head))
        fs.pwrite(fd, head + crc.to_bytes(4, "little") + bytes(places), 0)
        fs.fsync(fd)
    finally:
        fs.close(fd)
    if not known:
        fs.fsync_directory(directory)


def _data_offset(count: int) -> int:
    size = fmt.DOUBLEWRITE.size + count * fmt.PLACE.size
    return -(-size // fmt.BLOCK_BYTES) * fmt.BLOCK_BYTES


def read_doublewrite(fs: Fs, directory: Path, uuid: bytes) -> Iterator[tuple[Place, bytes]]:
    """The sealed blocks of the double-write file; none when it is missing, foreign or unfinished."""
    path = directory / DOUBLEWRITE_NAME
    if not fs.exists(path):
        return
    fd = fs.open_readonly(path)
    try:
        head = fs.pread(fd, fmt.DOUBLEWRITE.size, 0)
        if len(head) < fmt.DOUBLEWRITE.size:
            return
        magic, version, owner, _, count, crc = fmt.DOUBLEWRITE.unpack(head)
        if magic != fmt.DOUBLEWRITE_MAGIC or version != fmt.FORMAT_VERSION or owner != uuid:
            return
        if fs.size(fd) < _data_offset(count) + count * fmt.BLOCK_BYTES:
            return
        places = fs.pread(fd, count * fmt.PLACE.size, fmt.DOUBLEWRITE.size)
        if zlib.crc32(places, zlib.crc32(head[:-4])) != crc:
            return
        offset = _data_offset(count)
        for table, _, block in fmt.PLACE.iter_unpack(places):
            yield Place(table, block), fs.pread(fd, fmt.BLOCK_BYTES, offset)
            offset += fmt.BLOCK_BYTES
    finally:
        fs.close(fd)


def write_in_place(fs: Fs, directory: Path, blocks: Iterator[tuple[Place, bytes]]) -> None:
    """Puts sealed blocks where they belong, neighbours in one write, and syncs every file it touched."""
    fds: dict[int, int] = {}
    created = False
    try:
        run: list[bytes] = []
        start: Place | None = None
        for place, image in blocks:
            if place.table not in fds:
                path = table_path(directory, place.table)
                created = created or not fs.exists(path)
                fds[place.table] = fs.open(path)
            follows = (
                start is not None and start.table == place.table and start.block + len(run) == place.block
            )
            if start is not None and (not follows or len(run) == _STEP_BLOCKS):
                fs.pwrite(fds[start.table], b"".join(run), start.block * fmt.BLOCK_BYTES)
                run, start = [], None
            if start is None:
                start = place
            run.append(image)
        if start is not None:
            fs.pwrite(fds[start.table], b"".join(run), start.block * fmt.BLOCK_BYTES)
        for fd in fds.values():
            fs.fsync(fd)
    finally:
        for fd in fds.values():
            fs.close(fd)
    if created:
        fs.fsync_directory(directory / "tables")


def checked(path: Path, image: bytes | memoryview, block: int) -> bool:
    """True for a sound block, False for one never written; DamageError for anything else."""
    if fmt.block_is_sound(image, block):
        return True
    if not bytes(image).strip(b"\0"):
        return False
    raise DamageError(f"{path}: block {block} (offset {block * fmt.BLOCK_BYTES}) fails its checksum")
