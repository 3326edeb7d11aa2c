"""Fields, their limits, and the record that they make."""

from __future__ import annotations

import pytest

from storage import format as fmt
from storage.errors import StoreError
from storage.schema import FIELDS_MAX, RESERVED, Schema, make_field


def one(kind: str, size: bytes | None = None) -> Schema:
    return Schema((make_field(b"f", kind.encode(), size, False),))


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("U8", 0, 255),
        ("U16", 0, 65_535),
        ("U32", 0, (1 << 32) - 1),
        ("U64", 0, (1 << 63) - 1),
        ("I64", -(1 << 63), (1 << 63) - 1),
        ("i64", -(1 << 63), (1 << 63) - 1),
    ],
)
def test_integers_at_their_limits(kind: str, low: int, high: int) -> None:
    field = one(kind).fields[0]
    for value in (low, 0, high):
        assert field.parse(b"%d" % value) == value
    for value in (low - 1, high + 1):
        with pytest.raises(StoreError, match=r"out of range|not an integer"):
            field.parse(b"%d" % value)


@pytest.mark.parametrize(
    "text", [b"", b"-", b"+3", b" 3", b"3 ", b"1_0", b"--1", b"0x1", b"1.0", b"\xb2", b"0" * 33]
)
def test_what_is_no_integer(text: bytes) -> None:
    for kind in ("U8", "I64"):
        with pytest.raises(StoreError, match="not an integer"):
            one(kind).fields[0].parse(text)


def test_integer_forms_that_are_fine() -> None:
    assert one("U8").fields[0].parse(b"0" * 29 + b"255") == 255
    assert one("I64").fields[0].parse(b"-007") == -7
    with pytest.raises(StoreError, match="not an integer"):
        one("U8").fields[0].parse(b"-1")


@pytest.mark.parametrize("value", [b"", b"\0", b"a\0", b"\0\0\0", b"\xff\0\xfe", b"LIMI"])
def test_bytes_come_back_as_they_went_in(value: bytes) -> None:
    schema = one("BYTES", b"4")
    values = list(schema.empty)
    schema.assign(values, {b"f": schema.fields[0].parse(value)})
    image = schema.record.pack(*values)
    assert schema.value(schema.trim(schema.record.unpack(image)), b"f") == value
    assert schema.value(schema.record.unpack(image), b"f") == value


def test_bytes_that_do_not_fit() -> None:
    with pytest.raises(StoreError, match="is 5 bytes, at most 4 fit"):
        one("BYTES", b"4").fields[0].parse(b"12345")


@pytest.mark.parametrize("size", [None, b"", b"0", b"-1", b"4001", b"x", b"1" * 33])
def test_sizes_of_bytes(size: bytes | None) -> None:
    with pytest.raises(StoreError, match="BYTES takes a size from 1 to 4000"):
        make_field(b"f", b"bytes", size, False)


@pytest.mark.parametrize(
    "name", [b"", b"1a", b"a-b", b"a b", b"a" * 65, b"\xe4", b"a\n", b"%d", b"limit", b"Index"]
)
def test_names_that_no_field_can_have(name: bytes) -> None:
    with pytest.raises(StoreError, match="invalid field name"):
        make_field(name, b"U8", None, False)


def test_reserved_words_are_those_of_the_contract() -> None:
    assert len(RESERVED) == 17
    for word in RESERVED:
        with pytest.raises(StoreError):
            make_field(word.lower(), b"U8", None, False)
    assert make_field(b"_" + b"a" * 63, b"U8", None, False).name


def test_unknown_type() -> None:
    with pytest.raises(StoreError, match="unknown type 'U7'"):
        make_field(b"f", b"U7", None, False)


def test_number_of_fields() -> None:
    fields = tuple(make_field(b"f%d" % n, b"U8", None, False) for n in range(FIELDS_MAX + 1))
    assert len(Schema(fields[:FIELDS_MAX]).fields) == FIELDS_MAX
    for wrong in ((), fields):
        with pytest.raises(StoreError, match="1 to 64 fields"):
            Schema(wrong)
    with pytest.raises(StoreError, match=r"^ERR syntax error$"):
        Schema((fields[0], fields[0]))


def test_largest_record_fits_a_block() -> None:
    schema = one("BYTES", b"4000")
    assert schema.rows_per_block == 1
    assert schema.blocks_per_directory == fmt.DIRECTORY_ROWS
    fields = (*schema.fields, make_field(b"g", b"U8", None, False))
    with pytest.raises(StoreError, match="at most 4000 bytes, these fields make 4001"):
        Schema(fields)
    parts = tuple(make_field(b"f%d" % n, b"BYTES", b"125", False) for n in range(32))
    with pytest.raises(StoreError, match="at most 4000 bytes"):
        Schema(parts)


@pytest.mark.parametrize("size", [1, 2, 7, 100, 1999, 3999])
def test_no_row_crosses_a_block(size: int) -> None:
    schema = one("BYTES", b"%d" % size)
    room = fmt.BLOCK_BYTES - fmt.BLOCK_HEADER_BYTES
    assert (
        schema.rows_per_block * schema.record_bytes
        <= room
        < (schema.rows_per_block + 1) * schema.record_bytes
    )
    assert schema.rows_per_block * schema.blocks_per_directory >= fmt.DIRECTORY_ROWS


def test_description_makes_the_same_schema() -> None:
    described = [["a", "U8", 1], ["b", "BYTES 9", 0], ["c", "I64", 1]]
    schema = Schema.from_description(described)
    assert schema.describe() == described
    assert schema.indexed == (b"a", b"c")
    assert schema.record_bytes == fmt.ROW_HEADER_BYTES + 1 + 2 + 9 + 8


def test_unknown_field() -> None:
    with pytest.raises(StoreError, match="unknown field 'g'"):
        one("U8").field(b"g")


def test_odd_shapes_do_not_grow_memory_without_end() -> None:
    fields = tuple(make_field(b"f%d" % n, b"U8", None, False) for n in range(64))
    schema = Schema(fields)
    for first in range(64):
        for second in range(64):
            schema.shape((b"f%d" % first, b"f%d" % second))
    assert len(schema.shapes) <= 256
