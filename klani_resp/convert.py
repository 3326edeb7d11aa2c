"""Arguments from the wire to values. What is common is inlined by the dispatcher; here is the general case.

`int(b"1_0")`, `int(b" 3 ")` and `int(b"+3")` succeed in Python: the form is checked before the value.
"""

from __future__ import annotations

import re

from commands.spec import CommandError
from klani_resp.protocol.errors import shown
from storage.engine import Engine
from storage.table import Table

ROW_ID_MAX = 2**32 - 1
INTEGER_MAX = 2**63 - 1
DIGITS_MAX = 32
_TABLE_NAME = re.compile(rb"[A-Za-z_][A-Za-z0-9_-]{0,127}").fullmatch


def integer(raw: bytes) -> int:
    """0 .. 2**63-1; leading zeros are fine."""
    if raw.isdigit() and len(raw) <= DIGITS_MAX:
        value = int(raw)
        if value <= INTEGER_MAX:
            return value
    raise CommandError("ERR value is not an integer or out of range")


def row_id(raw: bytes) -> int:
    if raw.isdigit() and len(raw) <= DIGITS_MAX:
        value = int(raw)
        if value <= ROW_ID_MAX:
            return value
    raise CommandError(f"ERR invalid row id '{shown(raw)}'")


def table(engine: Engine, raw: bytes) -> Table:
    found = engine.tables.get(raw)
    if found is None:
        raise CommandError(f"ERR unknown table '{shown(raw)}'")
    return found


def name(raw: bytes) -> str:
    """A table name by its form, whether there is such a table or not."""
    if _TABLE_NAME(raw) is None:
        raise CommandError(f"ERR invalid table name '{shown(raw)}'")
    return raw.decode()


def key(engine: Engine, raw: bytes) -> tuple[Table, int]:
    """`<table>:<id>`, `{<table>}:<id>`, or `<id>` in the default table."""
    name, colon, digits = raw.rpartition(b":")
    if not colon:
        row = row_id(raw)
        return table(engine, engine.default_table), row
    if name[:1] == b"{" and name[-1:] == b"}":
        name = name[1:-1]
    return table(engine, name), row_id(digits)
