"""Which rows a claim or a hold gets: the lowest free ones that match, chosen ones, a run, units of a counter.

Answers ids, nothing where it is sold out (too few match, taken ones counted), and raises `BUSY` where
others' locks and holds alone are in the way: sold out and busy are never confused.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

from pyroaring import BitMap

from storage import locks
from storage.adjacent import Question
from storage.errors import StoreError
from storage.free import lowest_free
from storage.holds import Hold
from storage.index import Posting
from storage.schema import Value
from storage.table import Table

if TYPE_CHECKING:
    from storage.engine import Engine

Criteria = dict[bytes, Value]


@dataclass(slots=True)
class Wanted:
    """`count` rows, the lowest; or `ids`; or a run, `adjacent` in a field and `within` another; or `units` of
    the counter `field` of the one row in `ids`."""

    count: int = 1
    ids: tuple[int, ...] | None = None
    adjacent: bytes | None = None
    within: bytes | None = None
    field: bytes | None = None
    units: int = 0

    @property
    def size(self) -> int:
        return self.units or (self.count if self.ids is None else len(self.ids))


class Offer:
    """One question, at one moment. `mine` is a hold whose rows count as free."""

    def __init__(
        self, engine: Engine, table: Table, criteria: Criteria, wanted: Wanted, mine: Hold | None
    ) -> None:
        self._engine = engine
        self._table = table
        self._criteria = criteria
        self._wanted = wanted
        self._mine = mine
        self._now = engine.clock()
        self._posting: Posting | None = None

    def is_sold_out(self) -> bool:
        """Whether too few match, whoever has them. Costs no walk over a list."""
        wanted, engine, table = self._wanted, self._engine, self._table
        if wanted.ids is None:
            self._posting = posting = engine.posting(table, self._criteria)
            return posting is None or len(posting.rows) < wanted.count
        for name in self._criteria:
            engine.require_indexed(table, name)
        return not all(self._matches(row) for row in wanted.ids)

    def _matches(self, row: int) -> bool:
        engine, table, wanted = self._engine, self._table, self._wanted
        values = table.read_trimmed(row)
        if values is None:
            engine.note(engine.catalog_position)
            return False
        engine.note(values[1])
        if wanted.field is not None and values[table.schema.column_of[wanted.field]] < wanted.units:
            return False
        return all(table.schema.value(values, name) == value for name, value in self._criteria.items())

    def choose(self) -> list[int]:
        """The rows, ascending; none where there is no run at all. Not to be asked when it is sold out."""
        wanted, table = self._wanted, self._table
        self._engine.note(table.sales.position)
        if wanted.ids is not None:
            return self._chosen(wanted.ids)
        assert self._posting is not None
        if wanted.adjacent is not None:
            return self._run(self._posting)
        ids = self._lowest(self._posting.rows, wanted.count)
        if len(ids) < wanted.count:
            raise self._busy()
        return ids

    def _busy(self) -> StoreError:
        name = self._table.name.decode()
        return StoreError(f"BUSY what matches in {name} is locked or held, in part: ask again")

    def _is_free(self, row: int) -> bool:
        table, mine = self._table, self._mine
        return locks.is_free(table, row, self._now) or (mine is not None and table.leases[row] is mine)

    def _lowest(self, rows: BitMap, count: int) -> list[int]:
        table, mine = self._table, self._mine
        if not table.leases:
            return list(islice(rows, count))
        held = table.sales.held if mine is None else table.sales.held - BitMap(mine.ids)
        return lowest_free(rows, count, self._is_free, held)

    def _chosen(self, ids: tuple[int, ...]) -> list[int]:
        wanted, table = self._wanted, self._table
        if not all(self._is_free(row) for row in ids):
            raise self._busy()
        if wanted.field is not None:
            left = table.sales.units_left(ids[0], wanted.field, table)
            mine = self._mine
            if mine is not None and mine.ids == ids and mine.field == wanted.field.decode():
                left += mine.units
            if left < wanted.units:
                raise self._busy()
        return sorted(ids)

    def _run(self, posting: Posting) -> list[int]:
        """A run of free rows; BUSY when there is one only with the taken ones counted."""
        table, wanted = self._table, self._wanted
        schema = table.schema
        column = schema.value_column(wanted.adjacent or b"")
        within = None if wanted.within is None else schema.value_column(wanted.within)
        rows, read = posting.rows, table.read_trimmed
        question = Question(posting, wanted.count, column, within)
        walk = table.sales.walks.of(question)
        free = walk.free if self._mine is None else question.scan()
        found = free.find(rows, read, self._is_free, self._is_locked)
        if found is not None:
            return found
        if table.leases and walk.has_any(rows, read):
            raise self._busy()
        self._engine.note(table.position)  # where a row stands may be in no list
        return []

    def _is_locked(self, row: int) -> bool:
        """A lock's end is no event, as a hold's is."""
        return not isinstance(self._table.leases.get(row), Hold)
