"""Byte layouts of the store's files. FORMAT.md is the same in prose; a test holds the two together.

All integers are little-endian. A log position (LSN) is a byte offset in the stream of records that the
segments carry: it counts records only, no batch headers and no padding, so it never changes when a
batch is written again elsewhere.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from enum import IntEnum
from hashlib import sha256
from typing import NamedTuple

FORMAT_VERSION = 2
SECTOR_BYTES = 512
BLOCK_BYTES = 4096
DIRECTORY_ROWS = 1 << 16  # ids map through directories of this many rows
ROW_ID_MAX = (1 << 32) - 1
TOKEN_MAX = (1 << 53) - 1
TOKENS_RESERVED = 1 << 20  # tokens that one RESERVE record sets aside

# --- log ------------------------------------------------------------------------------------------
SEGMENT_MAGIC = b"KLANIWAL"
# magic, version, store uuid, epoch, salt, first position, head of the chain there, crc
SEGMENT = struct.Struct("<8sI16sQQQ32sI")
SEGMENT_BYTES = SECTOR_BYTES
BATCH_MAGIC = 0x54434B4C  # "LKCT"
# magic, payload length >= 1, first position, highest durable position when built, unix ms, previous crc, crc
BATCH = struct.Struct("<IIQQQII")
BATCH_PAYLOAD_MAX = 1 << 30
CHAINED_BYTES = 32  # of a batch's header: all but the checksums, which belong to its segment
CHAIN_START = bytes(32)  # the head before a store's first batch

# --- records --------------------------------------------------------------------------------------
# length of the whole record, kind, flags, table number, row id, position of the row's previous record
RECORD = struct.Struct("<IBBHIQ")
FRAME_CONTINUES = 1  # the next record belongs to the same command or MULTI


class Kind(IntEnum):
    CREATE = 1  # payload: JSON schema
    DROP = 2
    RESERVE = 3  # previous position carries the highest token that may be given out
    INSERT = 4  # payload: the row's image
    REPLACE = 5
    CLAIM = 6  # a row sold by KL.CLAIM; the payload of this and the next two: the row's image
    CONFIRM = 7
    RETURN = 8
    EVENT = 9  # payload: storage.events


SALE_KINDS = frozenset({6, 7, 8})  # rows that get an owner, or lose one
ROW_KINDS = SALE_KINDS | {4, 5}  # the payload is the row's image

# --- rows -----------------------------------------------------------------------------------------
ROW_HEADER = "<QQ16s"  # last token (0: no row here), position of the last write, owner digest
ROW_HEADER_BYTES = struct.calcsize(ROW_HEADER)
NO_OWNER = bytes(16)
BLOCK = struct.Struct("<IIQ")  # crc over the rest, block number, log position of the checkpoint
BLOCK_HEADER_BYTES = BLOCK.size
RECORD_ROOM_BYTES = BLOCK_BYTES - BLOCK_HEADER_BYTES - ROW_HEADER_BYTES
RECORD_BYTES_MAX = 4000  # declared bytes of a row's fields

# --- double-write file ----------------------------------------------------------------------------
DOUBLEWRITE_MAGIC = b"KLANIDBW"
DOUBLEWRITE = struct.Struct("<8sI16sQQI")  # magic, version, store uuid, position, blocks, crc
PLACE = struct.Struct("<HHI")  # table number, 0, block number in the row file


class BatchHeader(NamedTuple):
    length: int
    first: int
    durable: int
    unix_ms: int
    previous_crc: int
    crc: int


def batch_crc(salt: int, header: bytes | memoryview, payload: bytes | memoryview) -> int:
    """Over the salt, the header without its crc, and the payload. The salt comes first: crc32(b"") is 0."""
    return zlib.crc32(payload, zlib.crc32(header[: BATCH.size - 4], zlib.crc32(salt.to_bytes(8, "little"))))


def encode_batch(
    salt: int, first: int, durable: int, unix_ms: int, previous_crc: int, payload: bytes
) -> tuple[bytes, int]:
    """The batch's bytes, padded to whole sectors, and its crc."""
    header = BATCH.pack(BATCH_MAGIC, len(payload), first, durable, unix_ms, previous_crc, 0)
    crc = batch_crc(salt, header, payload)
    header = header[:-4] + crc.to_bytes(4, "little")
    padding = -(len(header) + len(payload)) % SECTOR_BYTES
    return b"".join((header, payload, bytes(padding))), crc


def chained(head: bytes, batch: bytes | memoryview, payload: bytes | memoryview) -> bytes:
    """The chain's head behind a batch, from the head before it.

    Without the checksums: a start that writes a batch again, in a segment with a salt of its own, must not
    change a head that somebody was shown.
    """
    digest = sha256(head + batch[:CHAINED_BYTES])
    digest.update(payload)
    return digest.digest()


def padded(length: int) -> int:
    """Bytes on disk of a batch with `length` bytes of records."""
    return -(-(BATCH.size + length) // SECTOR_BYTES) * SECTOR_BYTES


def encode_segment(uuid: bytes, epoch: int, salt: int, first: int, head: bytes) -> bytes:
    """`head`: the chain's, behind the last batch before `first`."""
    fields = SEGMENT.pack(SEGMENT_MAGIC, FORMAT_VERSION, uuid, epoch, salt, first, head, 0)[:-4]
    return (fields + zlib.crc32(fields).to_bytes(4, "little")).ljust(SEGMENT_BYTES, b"\0")


def seal_blocks(images: bytearray, numbers: Sequence[int], position: int) -> None:
    """Stamps 4 KiB blocks, one behind another, with number, the checkpoint's position and the checksum."""
    crc32, pack = zlib.crc32, BLOCK.pack_into
    with memoryview(images) as view:
        for start, number in zip(range(0, len(images), BLOCK_BYTES), numbers, strict=True):
            pack(images, start, 0, number, position)
            crc = crc32(view[start + 4 : start + BLOCK_BYTES])
            view[start : start + 4] = crc.to_bytes(4, "little")


def block_is_sound(image: bytes | bytearray | memoryview, number: int) -> bool:
    crc, stored, _ = BLOCK.unpack_from(image)
    return bool(stored == number and zlib.crc32(memoryview(image)[4:]) == crc)
