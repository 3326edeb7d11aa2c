"""One field of many rows at once: a C call per column, where a loop over the rows costs many times that."""

from __future__ import annotations

import struct
from collections.abc import Callable

from storage import format as fmt
from storage.schema import Schema, Value

Reader = Callable[[bytes | memoryview], list[Value]]


def column_reader(schema: Schema, name: bytes) -> Reader:
    """Takes the field's values out of row images that lie one behind another; BYTES cut to their length."""
    number, field = schema.field_by_name[name]
    before = struct.calcsize(fmt.ROW_HEADER + "".join(f.code for f in schema.fields[:number]))
    rest = schema.record_bytes - before - struct.calcsize("<" + field.code)
    one = struct.Struct(f"<{before}x{field.code}{rest}x")
    if field.is_bytes:
        return lambda images: [text[:length] for length, text in one.iter_unpack(images)]
    return lambda images: [value for (value,) in one.iter_unpack(images)]


def digest_reader(schema: Schema) -> Callable[[bytes | memoryview], list[bytes]]:
    """As column_reader, for the digest of each row's owner."""
    one = struct.Struct(f"<16x16s{schema.record_bytes - 32}x")
    return lambda images: [digest for (digest,) in one.iter_unpack(images)]


def position_reader(schema: Schema) -> Callable[[bytes | memoryview], list[int]]:
    """As column_reader, for the position of each row's last write: 0 where there is no row."""
    one = struct.Struct(f"<8xQ{schema.record_bytes - 16}x")
    return lambda images: [position for (position,) in one.iter_unpack(images)]
