"""Posting lists on disk, so that a start need not walk every row. A cache of the rows: when it is
damaged or missing, the lists are made again from them.

Layout: magic, crc of the rest, length of the JSON directory, the directory, then the serialized bitmaps one
behind another. The directory lists `[table, column, value or {"hex": ...}, bytes]`; column -1 is the
set of all rows that are there. A long list stands in several entries: its rows are those of all of them.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyroaring import BitMap

from storage.errors import DamageError
from storage.fs import Fs, read_file, replace_durably
from storage.index_cut import PRESENT, Entry
from storage.schema import Value

__all__ = ["HEAD", "MAGIC", "PRESENT", "Entry", "load", "save"]

MAGIC = b"KLANIIDX"
Key = tuple[int, int, Value]  # table number, column, value
HEAD = struct.Struct("<8sII")
_STEP_BYTES = 256 << 10


def save(fs: Fs, path: Path, entries: Iterable[Entry | None]) -> Iterator[None]:
    """Writes the file so that a crash leaves it whole or not there. In steps, and without one large copy."""
    described: list[str] = []
    parts: list[bytes | memoryview] = []
    part = bytearray()
    for entry in entries:
        if entry is not None:
            number, column, value, data = entry
            shown = {"hex": value.hex()} if isinstance(value, bytes) else value
            described.append(json.dumps([number, column, shown, len(data)], separators=(",", ":")))
            part += data
            if len(part) >= _STEP_BYTES:
                parts.append(memoryview(part))
                part = bytearray()
        yield
    directory = f"[{','.join(described)}]".encode()
    parts = [directory, *parts, memoryview(part)]
    crc = 0
    for piece in parts:
        crc = zlib.crc32(piece, crc)
        yield
    with replace_durably(fs, path) as fd:
        offset = 0
        for piece in (HEAD.pack(MAGIC, crc, len(directory)), *parts):
            fs.pwrite(fd, piece, offset)
            offset += len(piece)
            yield


def load(fs: Fs, path: Path) -> dict[Key, BitMap]:
    """The lists by table number, column and value. Raises DamageError, OSError, ValueError."""
    data = read_file(fs, path)
    if len(data) < HEAD.size:
        raise DamageError(f"{path}: too short for an index")
    magic, crc, length = HEAD.unpack_from(data)
    if magic != MAGIC or zlib.crc32(memoryview(data)[HEAD.size :]) != crc:
        raise DamageError(f"{path}: the index's checksum is wrong")
    offset = HEAD.size + length
    lists: dict[Key, BitMap] = {}
    for number, column, value, size in json.loads(data[HEAD.size : offset]):
        key = number, column, bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
        rows = BitMap.deserialize(data[offset : offset + size])
        offset += size
        if key in lists:
            lists[key] |= rows
        else:
            lists[key] = rows
    return lists
