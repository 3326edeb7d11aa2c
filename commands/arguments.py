"""Arguments that several commands share: lists of field-value pairs, numbers, keys, options."""

from __future__ import annotations

from commands.spec import CommandError, syntax_error
from storage.engine import Engine
from storage.format import ROW_ID_MAX, TOKEN_MAX
from storage.locks import LEASE_MS_MAX
from storage.schema import DIGITS_MAX, RESERVED, Schema, Value
from storage.table import Table


def shown(text: bytes) -> str:
    return text[:128].decode("ascii", "backslashreplace")


def integer(text: bytes, low: int = 0, high: int = (1 << 63) - 1) -> int:
    """A number as the wire has it: decimal digits only, at most 32 of them.

    The form comes before the value: `int` takes `1_0`, ` 3 ` and `+3` as well.
    """
    if text.isdigit() and len(text) <= DIGITS_MAX:
        value = int(text)
        if low <= value <= high:
            return value
    raise CommandError(f"ERR value is not an integer or out of range: '{shown(text)}'")


def lease_ms(text: bytes) -> int:
    return integer(text, 1, LEASE_MS_MAX)


def token_of(text: bytes) -> int:
    return integer(text, 0, TOKEN_MAX)


def key_of(engine: Engine, text: bytes) -> tuple[Table, int]:
    """`42`, `seats:42` or `{seats}:42`."""
    name, row = named_row(engine, text)
    return engine.table(name), row


def named_row(engine: Engine, text: bytes) -> tuple[bytes, int]:
    """As `key_of`, by the table's name: it need not be there."""
    name, row = split_key(engine.default_table, text)
    if row is None or row > ROW_ID_MAX:
        raise CommandError(f"ERR invalid row id '{shown(text.rpartition(b':')[2])}'")
    return name, row


def split_key(default_table: bytes, text: bytes) -> tuple[bytes, int | None]:
    """A key's table and row, the latter None where there is no number."""
    name, colon, digits = text.rpartition(b":")
    if not colon:
        name = default_table
    elif name[:1] == b"{" and name[-1:] == b"}":
        name = name[1:-1]
    return name, int(digits) if digits.isdigit() and len(digits) <= DIGITS_MAX else None


def pairs(
    schema: Schema, words: list[bytes], start: int = 0, *, least: int = 1
) -> tuple[dict[bytes, Value], int]:
    """Field-value pairs from `start` up to the first reserved word in field position, and where that is."""
    found: dict[bytes, Value] = {}
    end = len(words)
    fields = schema.field_by_name
    while start < end:
        name = words[start]
        known = fields.get(name)
        if known is None:
            if name.upper() in RESERVED:
                break
            schema.field(name)  # raises
            raise AssertionError
        if start + 1 == end or name in found:
            raise syntax_error()
        field, text = known[1], words[start + 1]
        # The usual number without a call: a third of what `parse` costs.
        found[name] = int(text) if len(text) <= field.digits_sure and text.isdigit() else field.parse(text)
        start += 2
    if len(found) < least:
        raise syntax_error()
    return found, start


class Options:
    """Options behind the positional arguments: any order, each once; or, as Redis has it, the last counts."""

    def __init__(self, words: list[bytes], start: int, *, each_once: bool = True) -> None:
        self._words = words
        self._at = start
        self._each_once = each_once
        self._seen: set[bytes] = set()

    def __iter__(self) -> Options:
        return self

    def __next__(self) -> bytes:
        if self._at >= len(self._words):
            raise StopIteration
        name = self._words[self._at].upper()
        if self._each_once and name in self._seen:
            raise syntax_error()
        self._seen.add(name)
        self._at += 1
        return name

    def value(self) -> bytes:
        if self._at >= len(self._words):
            raise syntax_error()
        self._at += 1
        return self._words[self._at - 1]
