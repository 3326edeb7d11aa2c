"""FORMAT.md says what format.py does: its tables are read and compared, its example is built again."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

import storage
from storage import event_files, index_file, manifest
from storage import format as fmt
from storage.schema import Schema
from tests.store import FIELDS

assert storage.__file__ is not None
TEXT = (Path(storage.__file__).parent / "FORMAT.md").read_text()
STRUCTS = {
    "SEGMENT": fmt.SEGMENT,
    "BATCH": fmt.BATCH,
    "RECORD": fmt.RECORD,
    "BLOCK": fmt.BLOCK,
    "ROW_HEADER": struct.Struct(fmt.ROW_HEADER),
    "DOUBLEWRITE": fmt.DOUBLEWRITE,
    "PLACE": fmt.PLACE,
    "INDEX": index_file.HEAD,
    "EVENTS": event_files.HEAD,
}


def table(heading: str) -> list[list[str]]:
    """The cells of the first table below a heading."""
    section = re.split(rf"^#+ {heading}$", TEXT, flags=re.MULTILINE)[1]
    lines = re.search(r"(?:^\|.*\n)+", section, re.MULTILINE)
    assert lines is not None
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[0].splitlines()]
    return rows[2:]


@pytest.mark.parametrize("name", STRUCTS)
def test_fields_of_a_structure(name: str) -> None:
    layout, offset = STRUCTS[name], 0
    for _, code, stated in table(name):
        assert int(stated) == offset
        offset += struct.calcsize("<" + code)
    assert "<" + "".join(code for _, code, _ in table(name)) == layout.format
    assert offset == layout.size


def test_every_structure_of_the_code_has_its_table() -> None:
    known = {name for name, value in vars(fmt).items() if isinstance(value, struct.Struct)}
    assert known | {"ROW_HEADER", "INDEX", "EVENTS"} == set(STRUCTS)


def test_sizes_in_the_prose() -> None:
    for name in ("SEGMENT", "BATCH", "RECORD"):
        section = TEXT.split(f"### {name}\n")[1]
        size = re.search(r"^(\d+) bytes", section, re.MULTILINE)
        assert size is not None
        assert int(size[1]) == STRUCTS[name].size


def test_constants() -> None:
    stated = {name.strip("`"): int(value) for name, value in table("Constants")}
    ints = {name for name, value in vars(fmt).items() if name.isupper() and type(value) is int}
    assert ints - set(stated) == {"BATCH_MAGIC", "RECORD_ROOM_BYTES"}
    assert stated == {name: getattr(fmt, name) for name in stated}


def test_magics() -> None:
    assert {name: magic.strip("`").encode() for name, magic in table("Magics")} == {
        "segment": fmt.SEGMENT_MAGIC,
        "batch": fmt.BATCH_MAGIC.to_bytes(4, "little"),
        "double-write": fmt.DOUBLEWRITE_MAGIC,
        "checkpoint": manifest.MAGIC,
        "index": index_file.MAGIC,
        "events": event_files.MAGIC,
    }
    assert f'"{manifest.MAGIC.decode()} {fmt.FORMAT_VERSION} "' in TEXT


def test_kinds() -> None:
    kinds = {
        name: int(number) for name, number in re.findall(r"^\| `([A-Z]+)` \| (\d+) \|", TEXT, re.MULTILINE)
    }
    kinds = {name: number for name, number in kinds.items() if name in fmt.Kind.__members__}
    assert kinds == {kind.name: kind.value for kind in fmt.Kind}


def test_checkpoint_fields() -> None:
    for name in (*manifest.Manifest.__slots__, *manifest.TableState.__slots__):
        assert re.search(rf"\b{name}\b", TEXT.split("## CHECKPOINT\n")[1])


def test_example() -> None:
    schema = Schema.from_description([["state", "U8", 1], ["note", "BYTES 3", 0]])
    length = fmt.RECORD.size + schema.record_bytes
    image = schema.record.pack(7, 1000 + length, fmt.NO_OWNER, 2, 2, b"hi")
    record = fmt.RECORD.pack(length, fmt.Kind.INSERT, 0, 1, 258, 0) + image
    batch, _ = fmt.encode_batch(0x0102030405060708, 1000, 900, 1_700_000_000_000, 0xDEADBEEF, record)
    lines = re.findall(r"^    (00[0-9a-f]{2})  ((?:[0-9a-f]{2} )+)", TEXT, re.MULTILINE)
    shown = b"".join(bytes.fromhex(text) for _, text in lines)
    assert [int(offset, 16) for offset, _ in lines] == list(range(0, len(shown), 16))
    assert batch == shown.ljust(0x200, b"\0")
    assert f"{fmt.padded(len(record)):04x}" == "0200"


def test_zeros_are_no_batch_and_no_block() -> None:
    assert fmt.batch_crc(0, bytes(fmt.BATCH.size), b"") != 0
    assert not fmt.block_is_sound(bytes(fmt.BLOCK_BYTES), 0)
    assert fmt.BATCH_MAGIC != 0


def test_block_knows_its_number() -> None:
    block = bytearray(fmt.BLOCK_BYTES)
    fmt.seal_blocks(block, [3], 1000)
    image = memoryview(block)
    assert fmt.block_is_sound(image, 3)
    assert not fmt.block_is_sound(image, 4)
    for offset in range(0, fmt.BLOCK_BYTES, 61):
        image[offset] ^= 1
        assert not fmt.block_is_sound(image, 3)
        image[offset] ^= 1


def test_row_is_laid_out_as_described() -> None:
    schema = Schema.from_description(FIELDS)
    image = schema.record.pack(1, 2, bytes(range(16)), 3, 4, 2, b"ab")
    assert image == struct.pack("<QQ", 1, 2) + bytes(range(16)) + b"\x03\x04\0\x02\0ab".ljust(
        1 + 2 + 2 + 12, b"\0"
    )
