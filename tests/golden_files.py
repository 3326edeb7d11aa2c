"""The golden files of each format version: a small data directory as text, tests/golden/v<version>.txt.

    == <file> <bytes>
    <offset>  <16 bytes in hex>  <the same as text>      ; lines that are all zeros are left out

`python -m tests.golden_files` prints the directory as today's code writes it. What was written once under a
version never changes: tests/test_golden.py says what to do when the format does.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from pathlib import Path
from unittest import mock

from storage import format as fmt
from storage.engine import Engine
from storage.schema import Schema, Value
from tests.fake_disk import FakeDisk, File
from tests.store import DIRECTORY, checkpoint, open_store

FOLDER = Path(__file__).with_name("golden")
SCHEMA = "is_booked U8 x,rank U16 x,price U32 ,serial U64 ,balance I64 ,buyer BYTES 6 x"
UNIX_MS = 1_700_000_000_000
Image = Mapping[Path, bytes]  # by the path within the directory


def schema() -> Schema:
    fields = [field.rsplit(" ", 1) for field in SCHEMA.split(",")]
    return Schema.from_description([[*field.split(" ", 1), indexed == "x"] for field, indexed in fields])


def row(booked: int, rank: int, buyer: bytes = b"") -> dict[bytes, Value]:
    return {
        b"is_booked": booked,
        b"rank": rank,
        b"price": 2**32 - 1 - rank,
        b"serial": 2**63 - 1 - rank,
        b"balance": -(2**63) + rank,
        b"buyer": buyer,
    }


def written() -> Image:
    """What today's code leaves behind when it is killed in the middle of a life with everything in it."""
    disk, counter = FakeDisk(), itertools.count(1)

    def random(count: int) -> bytes:
        return next(counter).to_bytes(2, "big") * (count // 2)

    with mock.patch("os.urandom", random), mock.patch("time.time_ns", lambda: UNIX_MS * 1_000_000):
        engine, _ = open_store(disk)
        engine.create(b"seats", schema(), False)
        seats = engine.table(b"seats")
        for number in (0, 1, 2, 60):
            engine.insert(seats, number, row(0, number))
        checkpoint(engine)
        replace(engine, 1, row(1, 1, b"ann\0"))
        engine.wal.commit()
        engine.begin()  # as MULTI does
        replace(engine, 2, row(1, 2, b"\xff"))
        engine.insert(seats, 3, row(0, 3))
        engine.commit()
        engine.create(b"gone", schema(), False)
        engine.drop(b"gone")
        engine.wal.commit()
    return {path.relative_to(DIRECTORY): data for path, data in disk.image().items()}


def replace(engine: Engine, number: int, values: dict[bytes, Value]) -> None:
    seats = engine.table(b"seats")
    token = engine.try_lock(((seats, number),), None, None)
    assert token is not None
    engine.replace(seats, number, token, values, True)


def as_text(image: Image) -> str:
    return "".join(itertools.chain.from_iterable(_lines(path, image[path]) for path in sorted(image)))


def _lines(path: Path, data: bytes) -> Iterator[str]:
    yield f"== {path} {len(data)}\n"
    for offset in range(0, len(data), 16):
        part = data[offset : offset + 16]
        if any(part):
            shown = "".join(chr(byte) if 32 < byte < 127 else "." for byte in part)
            yield f"{offset:04x}  {part.hex()}  {shown}\n"


def as_image(text: str) -> Image:
    image: dict[Path, bytearray] = {}
    data = bytearray()
    for line in text.splitlines():
        first, second, *rest = line.split()
        if first == "==":
            image[Path(second)] = data = bytearray(int(rest[0]))
        else:
            offset, part = int(first, 16), bytes.fromhex(second)
            data[offset : offset + len(part)] = part
    return {path: bytes(data) for path, data in image.items()}


def golden(version: int = fmt.FORMAT_VERSION) -> Image:
    return as_image((FOLDER / f"v{version}.txt").read_text())


def disk_of(image: Image) -> FakeDisk:
    disk = FakeDisk()
    for path, data in image.items():
        disk.make_directory((DIRECTORY / path).parent)
        disk.named[DIRECTORY / path] = File(bytearray(data), bytearray(data))
    disk.durably_named = dict(disk.named)
    return disk


if __name__ == "__main__":
    print(as_text(written()), end="")
