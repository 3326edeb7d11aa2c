"""Fields and the fixed-size record that they make.

Invariants: 1. Every record of a schema has the same size. 2. What `check` accepts, `pack` takes without
error. 3. Integers are stored little-endian; BYTES as its length and its bytes, so that what went in
comes back, trailing zeros too.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

from storage import format as fmt
from storage.errors import StoreError

FIELDS_MAX = 64
DIGITS_MAX = 32
RESERVED = frozenset(
    b"LIMIT FREE AFTER UNLOCK SET COUNT ADJACENT WITHIN FOR MAX REQUEST PX IDS TAKE FROM "
    b"REPLACING INDEX".split()
)
TABLE_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_-]{0,127}")
FIELD_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_]{0,63}")
_INTEGERS = {
    "U8": ("B", 0, (1 << 8) - 1),
    "U16": ("H", 0, (1 << 16) - 1),
    "U32": ("I", 0, (1 << 32) - 1),
    "COUNTER": ("I", 0, (1 << 32) - 1),  # a U32 that sales take from
    "U64": ("Q", 0, (1 << 63) - 1),
    "I64": ("q", -(1 << 63), (1 << 63) - 1),
}

Value = int | bytes


@dataclass(frozen=True, slots=True)
class Field:
    """One column. `size` is the declared number of bytes, `code` its struct code."""

    name: bytes
    type: str
    indexed: bool
    size: int
    code: str
    low: int
    high: int
    digits_sure: int = 0  # a number of so many digits fits whatever they are

    @property
    def is_bytes(self) -> bool:
        return self.type == "BYTES"

    @property
    def is_counter(self) -> bool:
        return self.type == "COUNTER"

    @property
    def type_text(self) -> str:
        return f"BYTES {self.size}" if self.is_bytes else self.type

    def parse(self, text: bytes) -> Value:
        """The value that `text` stands for; StoreError when it does not fit the field."""
        if self.type == "BYTES":
            if len(text) > self.size:
                raise StoreError(
                    f"ERR value of field '{self.name.decode()}' is {len(text)} bytes, at most {self.size} fit"
                )
            return text
        digits = text[1:] if self.low < 0 and text[:1] == b"-" else text
        if not digits.isdigit() or len(digits) > DIGITS_MAX:
            raise StoreError(f"ERR field '{self.name.decode()}': value is not an integer: '{_shown(text)}'")
        value = int(text)
        if not self.low <= value <= self.high:
            raise StoreError(
                f"ERR field '{self.name.decode()}': value is out of range for {self.type}: {value}"
            )
        return value


def _shown(text: bytes) -> str:
    return text[:64].decode("ascii", "backslashreplace")


def make_field(name: bytes, type_name: bytes, size: bytes | None, indexed: bool) -> Field:
    if not FIELD_NAME.fullmatch(name) or name.upper() in RESERVED:
        raise StoreError(f"ERR invalid field name '{_shown(name)}'")
    kind = type_name.upper().decode("ascii", "replace")
    if kind == "BYTES":
        if (
            size is None
            or not size.isdigit()
            or len(size) > DIGITS_MAX
            or not 1 <= int(size) <= fmt.RECORD_BYTES_MAX
        ):
            raise StoreError(
                f"ERR BYTES takes a size from 1 to {fmt.RECORD_BYTES_MAX}: '{_shown(size or b'')}'"
            )
        return Field(name, kind, indexed, int(size), f"H{int(size)}s", 0, 0)
    if kind not in _INTEGERS:
        raise StoreError(f"ERR unknown type '{_shown(type_name)}'")
    code, low, high = _INTEGERS[kind]
    digits_sure = len(str(high)) - 1
    return Field(name, kind, indexed, struct.calcsize("<" + code), code, low, high, digits_sure)


class RowShape:
    """A choice of fields in an order, with the reply templates that show it (`%` of `pick(values)`)."""

    __slots__ = ("fields", "has_bytes", "pick", "template2", "template3")

    def __init__(self, fields: list[tuple[Field, int]]) -> None:
        """`fields`: each field with its column in the unpacked record."""
        self.fields = tuple(field for field, _ in fields)
        columns: list[int] = []
        parts: list[bytes] = []
        for field, column in fields:
            parts.append(b"$%d\r\n%b\r\n" % (len(field.name), field.name))
            if field.is_bytes:
                parts.append(b"$%d\r\n%b\r\n")
                columns += [column, column + 1]
            else:
                parts.append(b":%d\r\n")
                columns.append(column)
        # A name may not hold '%', so the only directives are ours.
        self.has_bytes = any(field.is_bytes for field in self.fields)
        self.pick: Callable[[tuple[Any, ...]], tuple[Any, ...]] = _picker(columns)
        self.template2 = b"*%d\r\n" % (2 * len(fields)) + b"".join(parts)
        self.template3 = b"%%%%%d\r\n" % len(fields) + b"".join(parts)


def _picker(columns: list[int]) -> Callable[[tuple[Any, ...]], tuple[Any, ...]]:
    """What takes these columns out of an unpacked record; neighbours by one slice, which costs half."""
    first, count = columns[0], len(columns)
    if columns == list(range(first, first + count)):
        return itemgetter(slice(first, first + count))
    return itemgetter(*columns)


class Schema:
    """The fields of a table and their record: token, position, owner digest, then the fields."""

    def __init__(self, fields: tuple[Field, ...]) -> None:
        if not 1 <= len(fields) <= FIELDS_MAX:
            raise StoreError(f"ERR a table has 1 to {FIELDS_MAX} fields, not {len(fields)}")
        if len({field.name for field in fields}) != len(fields):
            raise StoreError("ERR syntax error")
        declared = sum(field.size for field in fields)
        self.codes = "".join(field.code for field in fields)
        if declared > fmt.RECORD_BYTES_MAX or struct.calcsize("<" + self.codes) > fmt.RECORD_ROOM_BYTES:
            raise StoreError(
                f"ERR a record has at most {fmt.RECORD_BYTES_MAX} bytes, these fields make {declared}"
            )
        self.fields = fields
        self.record = struct.Struct(fmt.ROW_HEADER + self.codes)
        self.record_bytes = self.record.size
        self.log_record = struct.Struct(fmt.RECORD.format + (fmt.ROW_HEADER + self.codes).removeprefix("<"))
        self.rows_per_block = (fmt.BLOCK_BYTES - fmt.BLOCK_HEADER_BYTES) // self.record_bytes
        self.blocks_per_directory = -(-fmt.DIRECTORY_ROWS // self.rows_per_block)
        self.field_by_name: dict[bytes, tuple[int, Field]] = {}
        self.column_of: dict[bytes, int] = {}
        self.empty: list[Any] = [0, 0, fmt.NO_OWNER]
        for number, field in enumerate(fields):
            self.field_by_name[field.name] = (number, field)
            self.column_of[field.name] = len(self.empty)
            self.empty += [0, b""] if field.is_bytes else [0]
        # BYTES columns: the value's column -> its length column is the one before it.
        self.bytes_columns = tuple(self.column_of[f.name] for f in fields if f.is_bytes)
        self.indexed = tuple(f.name for f in fields if f.indexed)
        self.counters = frozenset(f.name for f in fields if f.is_counter)
        self.shapes: dict[tuple[bytes, ...], RowShape] = {}
        self.whole = self.shape(tuple(f.name for f in fields))

    def field(self, name: bytes) -> Field:
        found = self.field_by_name.get(name)
        if found is None:
            raise StoreError(f"ERR unknown field '{_shown(name)}'")
        return found[1]

    def value_column(self, name: bytes) -> int:
        """Where an unpacked record has the field's value: BYTES have their length one before it."""
        return self.column_of[name] + self.field(name).is_bytes

    def shape(self, names: tuple[bytes, ...]) -> RowShape:
        known = self.shapes.get(names)
        if known is None:
            known = RowShape([(self.field(name), self.column_of[name]) for name in names])
            if len(self.shapes) < 256:  # a client's odd orders must not grow memory without end
                self.shapes[names] = known
        return known

    def trim(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The unpacked record with each BYTES cut to its length."""
        if not self.bytes_columns:
            return values
        out = list(values)
        for column in self.bytes_columns:
            out[column + 1] = out[column + 1][: out[column]]
        return tuple(out)

    def assign(self, values: list[Any], changes: dict[bytes, Value]) -> None:
        """Puts parsed values into an unpacked record."""
        for name, value in changes.items():
            column = self.column_of[name]
            if type(value) is bytes:
                values[column] = len(value)
                values[column + 1] = value
            else:
                values[column] = value

    def value(self, values: tuple[Any, ...], name: bytes) -> Value:
        column = self.column_of[name]
        found = values[column]
        return values[column + 1][:found] if self.fields[self.field_by_name[name][0]].is_bytes else found  # type: ignore[no-any-return]

    def describe(self) -> list[list[Any]]:
        """As KL.INFO shows it, and as the log keeps it: `[field, type, indexed]`."""
        return [[field.name.decode(), field.type_text, int(field.indexed)] for field in self.fields]

    @classmethod
    def from_description(cls, description: list[list[Any]]) -> Schema:
        fields = []
        for name, type_text, indexed in description:
            kind, _, size = type_text.partition(" ")
            fields.append(make_field(name.encode(), kind.encode(), size.encode() or None, bool(indexed)))
        return cls(tuple(fields))
