"""Posting lists on disk, so that a start need not walk every row. A cache of the rows: when it is
damaged or missing, the lists are made again from them.

Layout: magic, crc of the rest, length of the JSON directory, the directory, then the serialized bitmaps one
behind another. The directory lists `[table, column, value or {"hex": ...}, bytes]`; column -1 is the
set of all rows that are there.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from storage.errors import DamageError
from storage.fs import Fs, read_file, write_file_durably
from storage.table import Table

MAGIC = b"KLANIIDX"
HEAD = struct.Struct("<8sII")
PRESENT = -1


def encode(tables: Iterable[Table]) -> bytes:
    entries: list[list[Any]] = []
    blobs: list[bytes] = []
    for table in tables:
        blobs.append(table.rows.present.serialize())
        entries.append([table.number, PRESENT, 0, len(blobs[-1])])
        for column, lists in table.index.lists.items():
            for value, posting in lists.items():
                if posting.rows:
                    blobs.append(posting.rows.serialize())
                    shown = {"hex": value.hex()} if isinstance(value, bytes) else value
                    entries.append([table.number, column, shown, len(blobs[-1])])
    directory = json.dumps(entries, separators=(",", ":")).encode()
    body = b"".join((directory, *blobs))
    return HEAD.pack(MAGIC, zlib.crc32(body), len(directory)) + body


def save(fs: Fs, path: Path, data: bytes) -> None:
    write_file_durably(fs, path, data)


Entry = tuple[int, int, int | bytes, bytes]  # table number, column, value, serialized bitmap


def load(fs: Fs, path: Path) -> list[Entry]:
    data = read_file(fs, path)
    if len(data) < HEAD.size:
        raise DamageError(f"{path}: too short for an index")
    magic, crc, length = HEAD.unpack_from(data)
    if magic != MAGIC or zlib.crc32(memoryview(data)[HEAD.size :]) != crc:
        raise DamageError(f"{path}: the index's checksum is wrong")
    offset = HEAD.size + length
    entries: list[Entry] = []
    for number, column, value, size in json.loads(data[HEAD.size : offset]):
        key = bytes.fromhex(value["hex"]) if isinstance(value, dict) else value
        entries.append((number, column, key, data[offset : offset + size]))
        offset += size
    return entries
