"""One table as the board shows it: a map of at most `CELLS_MAX` cells, each a run of neighbouring row ids.

A row is sold when an indexed field has the value that the board was told. What is seen is taken in one step
from the index, so it belongs to one log position; whoever shows it waits until that is released.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pyroaring import BitMap

from commands.arguments import pairs
from commands.spec import CommandError
from storage.errors import StoreError
from storage.format import ROW_ID_MAX
from storage.table import Table

CELLS_MAX = 10_000
IDS = ROW_ID_MAX + 1
STEP_CELLS = 500  # between two chances for others


class UnknownSale(Exception):
    """There is no such table, or its field cannot be asked for; the text says which."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Row ids at one moment, and the log position of the last change among them."""

    sold: BitMap
    held: BitMap
    rows: int
    position: int


class Sale:
    """`sold_in` and `held_in`: rows by cell, as of the last `take`."""

    def __init__(self, table: Table, sold: tuple[bytes, bytes]) -> None:
        """`sold`: the field and the value of it, as a client would write them. Raises UnknownSale."""
        self.table = table
        try:
            criteria, end = pairs(table.schema, list(sold))
        except (CommandError, StoreError) as error:
            raise UnknownSale(error.text.removeprefix("ERR ")) from error
        field, self._value = next(iter(criteria.items()))
        if end != 2 or field not in table.index.columns:
            raise UnknownSale(f"field '{field.decode()}' is not indexed")
        self._column = table.index.columns[field]
        self._present_count = -1
        self.first = self.width = 0
        self.cells: list[int] = []  # rows that are there
        self.sold_in: Counter[int] = Counter()
        self.held_in: Counter[int] = Counter()
        self._sold = BitMap()
        self._held = BitMap()

    def look(self) -> Seen:
        """One step."""
        posting = self.table.index.find((self._column,), (self._value,))
        held, rows = self.table.sales.held, len(self.table.rows.present)
        position = max(self.table.position, self.table.sales.position)
        return Seen(BitMap() if posting is None else posting.rows.copy(), held.copy(), rows, position)

    def lay_out(self) -> Iterator[None]:
        """Cells for the rows that are there, all of them free; yields so that others may have their turn."""
        present = self.table.rows.present.copy()
        self._present_count = len(present)
        self.first = present.min() if present else 0
        span = present.max() - self.first + 1 if present else 0
        self.width = max(1, -(-span // CELLS_MAX))
        self.cells, self._sold, self._held = [], BitMap(), BitMap()
        self.sold_in.clear()
        self.held_in.clear()
        for begin in range(self.first, self.first + span, self.width):
            self.cells.append(present.range_cardinality(begin, min(begin + self.width, IDS)))
            if len(self.cells) % STEP_CELLS == 0:
                yield

    @property
    def is_laid_out(self) -> bool:
        """Whether the cells are those of the rows that are there now."""
        return self._present_count == len(self.table.rows.present)

    def take(self, seen: Seen) -> dict[int, tuple[int, int]]:
        """Brings the map up to what was seen; answers the cells that changed: sold, held."""
        changed: set[int] = set()
        for before, now, count_in in (
            (self._sold, seen.sold, self.sold_in),
            (self._held, seen.held, self.held_in),
        ):
            for rows, step in ((now - before, 1), (before - now, -1)):
                for row in rows:
                    cell = (row - self.first) // self.width
                    count_in[cell] += step
                    changed.add(cell)
        self._sold, self._held = seen.sold, seen.held
        return {cell: (self.sold_in[cell], self.held_in[cell]) for cell in sorted(changed)}
