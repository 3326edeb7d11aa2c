"""One table as the board shows it: a map of at most `CELLS_MAX` cells, each a run of neighbouring row ids.

A row is sold when an indexed field has the value that the board was told. What is seen is taken in one step,
so it belongs to one log position; whoever shows it waits until that is released. The map is made of what was
seen, and of nothing that came meanwhile.
"""

from __future__ import annotations

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
CHANGES_MAX = 10_000  # rows; to go through more takes longer than to count all cells anew
STEP_CELLS = 250  # between two chances for others
LEASES_MAX = 10_000  # of a table; above it a walk over them would hold up the loop, and locks are left out
SOLD, HELD = 1, 2  # in a cell


class UnknownSale(Exception):
    """There is no such table, or its field cannot be asked for; the text says which."""


@dataclass(frozen=True, slots=True)
class Seen:
    """Row ids at one moment, and the log position of the last change among them."""

    present: BitMap
    sold: BitMap
    held: BitMap  # or locked, and not sold
    locked: int | None  # of them; None: not counted
    position: int


class Sale:
    """`cells`: rows, those of them that are sold, and held, each as of what was shown last. `sales`: how many
    rows became sold between what was shown first and last; one that was returned counts still."""

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
        self.first = 0
        self.width = 1
        self.cells: list[list[int]] = []
        self.sales = 0
        self._shown: Seen | None = None

    def look(self, now: int) -> Seen:
        """One step. `now` on the engine's clock."""
        table, shown = self.table, self._shown
        posting = table.index.find((self._column,), (self._value,))
        sold = BitMap() if posting is None else posting.rows.copy()
        held, locked = table.sales.held.copy(), None
        if len(table.leases) <= LEASES_MAX:
            taken = BitMap([row for row, lease in table.leases.items() if lease.deadline > now])
            locked = len(taken - held - sold)
            held |= taken
        held -= sold
        present = table.rows.present
        is_same = shown is not None and len(shown.present) == len(present)  # rows come, and never go
        present = shown.present if shown is not None and is_same else present.copy()
        return Seen(present, sold, held, locked, max(table.position, table.sales.position))

    def is_laid_out(self, seen: Seen) -> bool:
        """Whether the cells are those of the rows that were seen, with few changes since."""
        shown = self._shown
        if shown is None or shown.present is not seen.present:
            return False
        changes = shown.sold.symmetric_difference_cardinality(seen.sold)
        return changes + shown.held.symmetric_difference_cardinality(seen.held) <= CHANGES_MAX

    def lay_out(self, seen: Seen) -> Iterator[None]:
        """New cells; yields so that others may have their turn."""
        present = seen.present
        self.first = present.min() if present else 0
        span = present.max() - self.first + 1 if present else 0
        self.width = max(1, -(-span // CELLS_MAX))
        self.cells = []
        for begin in range(self.first, self.first + span, self.width):
            end = min(begin + self.width, IDS)
            counted = (rows.range_cardinality(begin, end) for rows in (present, seen.sold, seen.held))
            self.cells.append([*counted])
            if len(self.cells) % STEP_CELLS == 0:
                yield
        self._take_over(seen)

    def update(self, seen: Seen) -> list[tuple[int, int, int]]:
        """Brings cells that are laid out up to what was seen; those that changed: cell, sold, held."""
        shown = self._shown
        assert shown is not None and self.is_laid_out(seen)
        cells, first, width = self.cells, self.first, self.width
        changed: set[int] = set()
        for before, now, what in ((shown.sold, seen.sold, SOLD), (shown.held, seen.held, HELD)):
            for rows, step in ((now - before, 1), (before - now, -1)):
                for row in rows:
                    cell = (row - first) // width
                    cells[cell][what] += step
                    changed.add(cell)
        self._take_over(seen)
        return [(cell, cells[cell][SOLD], cells[cell][HELD]) for cell in sorted(changed)]

    def _take_over(self, seen: Seen) -> None:
        if self._shown is not None:
            self.sales += len(seen.sold - self._shown.sold)
        self._shown = seen
