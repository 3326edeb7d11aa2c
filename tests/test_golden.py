"""The format on disk, held byte by byte by files that were written once (tests/golden_files.py).

When a test here fails, the format has changed, wanted or not. If it was not wanted, undo it: directories
out there would not open, or worse. If it was: 1. raise `FORMAT_VERSION` and say in FORMAT.md what is new;
2. leave tests/golden/v<old>.txt as it is: today's code reads it, or refuses it naming both versions;
3. make v<new>.txt by `python -m tests.golden_files`, and set the expectations below right by hand.
"""

from __future__ import annotations

import re
import struct
import zlib
from pathlib import Path

import pytest

from klani_resp.__main__ import main
from storage import event_files
from storage import format as fmt
from storage.check import check
from storage.errors import DamageError, StartError
from storage.events import Event, Verb, encode, record_of
from tests.fake_disk import FakeDisk
from tests.golden_files import FOLDER, Image, as_image, as_text, disk_of, golden, row, written
from tests.store import DIRECTORY, assert_sound, contents, open_store, recount

UUID = bytes.fromhex("0001" * 8)
SEGMENT = Path("wal/0000000000000000-00000001.wal")
CHECKPOINT = Path("CHECKPOINT")
ROWS = Path("tables/1.rows")
INDEX = Path("index-0000000000000218")
DOUBLEWRITE = Path("doublewrite")
HELP = __doc__


def test_there_are_golden_files_of_each_version_there_was() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == [
        f"v{version}.txt" for version in range(1, fmt.FORMAT_VERSION + 1)
    ], HELP


def test_todays_code_writes_them_byte_for_byte() -> None:
    assert as_text(written()) == (FOLDER / f"v{fmt.FORMAT_VERSION}.txt").read_text(), HELP


def test_todays_code_opens_them_to_what_they_hold() -> None:
    disk = disk_of(golden())
    assert list(check(disk, DIRECTORY)) == [], HELP
    engine, warnings = open_store(disk)
    assert warnings == []
    assert contents(engine) == {
        b"seats": {
            0: row(0, 0),
            1: row(1, 1, b"ann\0"),
            2: row(1, 2, b"\xff"),
            3: row(0, 3),
            60: row(0, 60),
        }
    }, HELP
    assert (engine.manifest.uuid, engine.manifest.epoch) == (UUID.hex(), 2)
    assert (engine.next_table, engine.catalog_position) == (3, 988)
    assert engine.draw_token() == fmt.TOKENS_RESERVED + 1
    seats = engine.table(b"seats")
    assert {
        value: list(rows) for value, rows in recount(seats)[seats.index.columns[b"is_booked"]].items()
    } == {
        0: [0, 3, 60],
        1: [1, 2],
    }
    assert_sound(engine, disk)


def test_as_files_of_the_operating_system(tmp_path: Path) -> None:
    for path, data in golden().items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    assert main(["check", str(tmp_path)]) == 0
    assert {path: (tmp_path / path).read_bytes() for path in golden()} == golden()


# --- each structure, by numbers that no code of ours computes -----------------------------------------


def test_segment() -> None:
    data = golden()[SEGMENT]
    salt = 0x0002000200020002
    *fields, crc = struct.unpack_from("<8sI16sQQQ32sI", data)
    salted = int.from_bytes(salt.to_bytes(8, "big"), "little")
    assert fields == [b"KLANIWAL", 2, UUID, 1, salted, 0, bytes(32)]
    assert crc == zlib.crc32(data[:84])
    assert data[88:512] == bytes(424)


def test_batches_and_records() -> None:
    """A start's record; a table and its rows; a sale; what MULTI and two more commands did."""
    data, position, durable, chain = golden()[SEGMENT], 0, 0, 0
    batches = []
    for offset in (0x200, 0x400, 0x800, 0xA00):
        magic, length, first, named, unix_ms, previous, crc = struct.unpack_from("<IIQQQII", data, offset)
        assert (magic, first, named, previous) == (0x54434B4C, position, durable, chain)
        assert unix_ms == 1_700_000_000_000
        begin = offset + 40
        salt = struct.unpack_from("<Q", data, 36)[0]
        sealed = struct.pack("<Q", salt) + data[offset : offset + 36] + data[begin : begin + length]
        assert crc == zlib.crc32(sealed)
        assert not any(data[begin + length : -(-(begin + length) // 512) * 512])
        batches.append(list(records(data[begin : begin + length], position)))
        position += length
        durable, chain = position, crc
    assert not any(data[0xC00:])
    assert [[record[1:5] for record in batch] for batch in batches] == [
        [(3, 0, 0, 0)],
        [(1, 0, 1, 0), (4, 0, 1, 0), (4, 0, 1, 1), (4, 0, 1, 2), (4, 0, 1, 60)],
        [(5, 0, 1, 1)],
        [(5, 1, 1, 2), (4, 0, 1, 3), (1, 0, 2, 0), (2, 0, 2, 0)],
    ]
    assert batches[0][0][5] == 1 << 20, "RESERVE: the highest token that may be given out"
    sale, before = batches[2][0], batches[1][2]
    assert sale[5] == before[6], "the position of the row's previous record"
    assert sale[7] == row_bytes(5, 619, 1, 1, b"ann\0")


def records(payload: bytes, position: int) -> list[tuple[int, int, int, int, int, int, int, bytes]]:
    found, offset = [], 0
    while offset < len(payload):
        head = struct.unpack_from("<IBBHIQ", payload, offset)
        body = payload[offset + 20 : offset + head[0]]
        offset += head[0]
        found.append((*head, position + offset, body))
    assert offset == len(payload)
    return found


def row_bytes(token: int, position: int, booked: int, rank: int, buyer: bytes) -> bytes:
    fields = (booked, rank, 2**32 - 1 - rank, 2**63 - 1 - rank, -(2**63) + rank, len(buyer), buyer)
    return struct.pack("<QQ16sBHIQqH6s", token, position, b"", *fields)


def test_block_and_rows() -> None:
    data = golden()[ROWS]
    assert len(data) == 4096
    crc, number, position = struct.unpack_from("<IIQ", data)
    assert (crc, number, position) == (zlib.crc32(data[4:]), 0, 536)
    for token, row_id, at in ((1, 0, 287), (2, 1, 370), (3, 2, 453), (4, 60, 536)):
        begin = 16 + row_id * 63
        assert data[begin : begin + 63] == row_bytes(token, at, 0, row_id, b"")
    assert not any(data[16 + 3 * 63 : 16 + 60 * 63])


def test_double_write_file() -> None:
    data = golden()[DOUBLEWRITE]
    *fields, crc = struct.unpack_from("<8sI16sQQI", data)
    assert fields == [b"KLANIDBW", 2, UUID, 536, 1]
    assert struct.unpack_from("<HHI", data, 48) == (1, 0, 0)
    assert crc == zlib.crc32(data[:44] + data[48:56])
    assert data[4096:] == golden()[ROWS]


def test_checkpoint() -> None:
    head, _, body = golden()[CHECKPOINT].partition(b"\n")
    assert head == b"KLANICKP 2 %08x" % zlib.crc32(body)
    assert body.decode() == (
        '{"uuid":"00010001000100010001000100010001","epoch":1,"position":536,"tokens":1048576,"next_table":2,'
        '"index_file":"index-0000000000000218","tables":[{"number":1,"name":"seats","schema":'
        '[["is_booked","U8",1],["rank","U16",1],["price","U32",0],["serial","U64",0],["balance","I64",0],'
        '["buyer","BYTES 6",1]],"directories":[0],"rows":4,"position":536,"is_owned":false}],'
        '"catalog_position":204,"event_files":{},"store_ms":0}'
    )


def test_index_file() -> None:
    data = golden()[INDEX]
    magic, crc, length = struct.unpack_from("<8sII", data)
    assert (magic, crc) == (b"KLANIIDX", zlib.crc32(data[16:]))
    assert data[16 : 16 + length] == (
        b'[[1,-1,0,24],[1,3,0,24],[1,4,0,18],[1,4,1,18],[1,4,2,18],[1,4,60,18],[1,9,{"hex":""},24]]'
    )
    # Portable Roaring: cookie 12346, one container: key 0, four values, at byte 16.
    assert data[16 + length :][:24] == struct.pack("<IIHHI4H", 12346, 1, 0, 3, 16, 0, 1, 2, 60)


def test_an_event() -> None:
    """Of a hold, by its msgpack: a map of letters; what is 0 or empty is not there."""
    event = Event(
        Verb.HOLD, 1, 7, 300, (5, 6), b"ann", 107, {"is_booked": 0}, request=b"r", args=b"d", answer=b"w"
    )
    assert encode(event) == bytes.fromhex(
        "8ba17602a17401a16107a16bcd012ca172920506a16fc403616e6ea1646b"
        "a16381a969735f626f6f6b656400a171c40172a167c40164a177c40177"
    )
    record = record_of(1, b"body")
    assert record == struct.pack("<IBBHIQ", 24, 9, 0, 1, 0, 0) + b"body"


def test_an_event_file() -> None:
    disk = FakeDisk()
    disk.make_directory(DIRECTORY)
    path = DIRECTORY / "events-01"
    assert [*event_files.save(disk, path, [b"one", b"three"])][-1:] in ([], [None])
    rest = b"\x03\0\0\0one\x05\0\0\0three"
    counts = struct.pack("<II", 2, zlib.crc32(rest))
    assert bytes(disk.named[path].seen) == b"KLANIEVT" + struct.pack("<I", zlib.crc32(counts)) + counts + rest


# --- other versions -----------------------------------------------------------------------------------


def of_version(version: int, name: Path) -> Image:
    """As another program might leave them: one file names that version, all checksums are right."""
    image = dict(golden())
    data = bytearray(image[name])
    if name == CHECKPOINT:
        data[9:10] = b"%d" % version
    elif version == 1:  # had no head, so its checksum comes where that begins
        data = bytearray(golden(1)[SEGMENT])
    else:
        data[8:12] = struct.pack("<I", version)
        struct.pack_into("<I", data, 84, zlib.crc32(data[:84]))
    image[name] = bytes(data)
    return image


@pytest.mark.parametrize("name", [CHECKPOINT, SEGMENT], ids=str)
@pytest.mark.parametrize("version", [1, 3])
def test_another_version_is_refused_and_both_are_named(version: int, name: Path, tmp_path: Path) -> None:
    image = of_version(version, name)
    disk = disk_of(image)
    said = f"{name.name}: format version {version}, this program reads 2"
    with pytest.raises(StartError, match=said) as caught:
        open_store(disk)
    assert not isinstance(caught.value, DamageError), "it may be sound: it is another program's"
    assert {path.relative_to(DIRECTORY): data for path, data in disk.image().items()} == image
    assert any(said in trouble for trouble in check(disk, DIRECTORY))
    for path, data in image.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(data)
    assert main(["check", str(tmp_path)]) == 1


def test_a_directory_of_version_1_is_refused_as_a_whole() -> None:
    image = golden(1)
    disk = disk_of(image)
    with pytest.raises(StartError, match="CHECKPOINT: format version 1, this program reads 2"):
        open_store(disk)
    assert {path.relative_to(DIRECTORY): data for path, data in disk.image().items()} == image


def test_a_double_write_file_of_version_3_restores_nothing() -> None:
    image = dict(golden())
    later = bytearray(image[DOUBLEWRITE])
    later[8:12] = struct.pack("<I", 3)
    struct.pack_into("<I", later, 44, zlib.crc32(later[:44] + later[48:56]))
    torn = image[ROWS][:2048] + bytes(2048)
    with pytest.raises(DamageError, match="has no copy of it"):
        open_store(disk_of({**image, DOUBLEWRITE: bytes(later), ROWS: torn}))
    engine, warnings = open_store(disk_of({**image, ROWS: torn}))
    assert re.search("restored from the double-write file", warnings[0])
    assert len(contents(engine)[b"seats"]) == 5


# --- the files themselves -----------------------------------------------------------------------------


def test_text_and_image_are_the_same() -> None:
    image = {Path("a"): bytes(40) + b"x" + bytes(100), Path("b"): b"", Path("c/d"): bytes(range(256))}
    assert as_image(as_text(image)) == image
    assert as_image(as_text(golden())) == golden()
    assert sum(map(len, golden().values())) < 20_000
