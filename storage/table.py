"""One table: its rows, its posting lists, its leases. Each mutable thing has its owner here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from storage import format as fmt
from storage.index import Index
from storage.locks import Lease
from storage.rows import Rows
from storage.schema import Schema
from storage.table_sales import TableSales
from storage.tally import TableStatistics, Tally


class Table:
    """`number` names it in the log and is never used again; `position` is that of its last write."""

    __slots__ = (
        "index",
        "leases",
        "name",
        "number",
        "pack",
        "position",
        "read",
        "record_bytes",
        "rows",
        "sales",
        "schema",
        "tally",
        "unswept",
    )

    def __init__(self, number: int, name: bytes, schema: Schema) -> None:
        self.number = number
        self.name = name
        self.schema = schema
        self.rows = Rows(schema)
        self.index = Index(schema)
        self.leases: dict[int, Lease] = {}
        self.unswept: list[int] = []  # rows whose leases are still to be looked at in this round
        self.position = 0
        self.sales = TableSales()
        self.tally = Tally()
        self.record_bytes = fmt.RECORD.size + schema.record_bytes
        self.read = self.rows.read
        self.pack = schema.log_record.pack

    def apply(self, row: int, old: tuple[Any, ...] | None, new: Sequence[Any], image: bytes) -> None:
        """The one way that a row changes, live and in replay. `old` and `new` are trimmed records."""
        rows = self.rows
        rows.write(row, image)
        if old is None:
            rows.present.add(row)
        position = new[1]
        self.index.update(row, old, new, position)
        self.position = position
        if self.sales.walks.kept:
            self.sales.walks.changed((row,))

    def read_trimmed(self, row: int) -> tuple[Any, ...] | None:
        values = self.read(row)
        return None if values is None else self.schema.trim(values)

    def counter(self, row: int, field: bytes) -> int:
        """An integer field's value, 0 where there is no row."""
        values = self.read(row)
        return values[self.schema.column_of[field]] if values is not None else 0

    def bytes_used(self) -> int:
        return len(self.rows.present) * self.schema.record_bytes

    def statistics(self) -> TableStatistics:
        """But for its locks: those have to be counted (`locks.count`)."""
        return TableStatistics(
            rows=len(self.rows.present),
            bytes=self.bytes_used(),
            holds_live=len(self.sales.live),
            held_rows=len(self.sales.held),
            tally=replace(self.tally),
        )
