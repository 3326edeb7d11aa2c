"""Posting lists: which rows have a value in an indexed field, or in a combination of them.

A plain `a & b` of two bitmaps grows with the table (docs/decisions has the figures), and "none free"
cannot stop early. So a combination that is asked for keeps a list of its own: computed once by an
intersection in C, kept by every write from then on.

Invariants: 1. A row is in the list of (field, value) exactly when it is there and has that value. 2. A kept
combination equals the intersection of its fields' lists. 3. `position` of a list is at least that of
the last record that changed it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any

from pyroaring import BitMap

from storage.schema import Schema, Value

COMBINATIONS_MAX = 65_536  # kept lists per table; the oldest makes room
PLANS_MAX = 4_096


class Posting:
    """One list. `position`: the log position of its last change."""

    __slots__ = ("position", "rows")

    def __init__(self, rows: BitMap, position: int) -> None:
        self.rows = rows
        self.position = position


Columns = tuple[int, ...]
Plan = tuple[Posting | None, int, int | None, bool]  # list (None: no row ever had it), limit, after, free
Order = tuple[Posting | None, dict[bytes, Value]]  # a claim's list, and what it asks for


class Index:
    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self.columns: dict[bytes, int] = {name: schema.value_column(name) for name in schema.indexed}
        self.lists: dict[int, dict[Value, Posting]] = {column: {} for column in self.columns.values()}
        self.combinations: dict[Columns, dict[tuple[Value, ...], Posting]] = {}
        self.kept = 0
        self._items = tuple(self.lists.items())
        # What takes a combination's values out of a record, and its kept lists.
        self._combined: tuple[tuple[Callable[[Any], Any], dict[tuple[Value, ...], Posting]], ...] = ()
        # Questions as they were asked, with the list that answers them; emptied when a list comes or goes.
        self.plans: dict[tuple[bytes, ...], Plan] = {}
        self.orders: dict[tuple[bytes, ...], Order] = {}

    def find(self, columns: Columns, values: tuple[Value, ...]) -> Posting | None:
        """The list of the rows whose columns all have these values; None when no row ever had."""
        if len(columns) == 1:
            return self.lists[columns[0]].get(values[0])
        kept = self.combinations.get(columns)
        if kept is not None:
            found = kept.get(values)
            if found is not None:
                return found
        return self._combine(columns, values)

    def _combine(self, columns: Columns, values: tuple[Value, ...]) -> Posting | None:
        singles = []
        for column, value in zip(columns, values, strict=True):
            single = self.lists[column].get(value)
            if single is None:
                return None
            singles.append(single)
        singles.sort(key=lambda posting: len(posting.rows))
        rows = singles[0].rows.copy()
        for posting in singles[1:]:
            rows &= posting.rows
        combined = Posting(rows, max(posting.position for posting in singles))
        if self.kept >= COMBINATIONS_MAX:
            self._evict()
        if columns not in self.combinations:
            self.combinations[columns] = {}
            self._combined = tuple((itemgetter(*key), kept) for key, kept in self.combinations.items())
        self.combinations[columns][values] = combined
        self.kept += 1
        return combined

    def remember(self, asked: tuple[bytes, ...], plan: Plan) -> None:
        if len(self.plans) >= PLANS_MAX:
            self.plans.clear()
        self.plans[asked] = plan

    def remember_order(self, asked: tuple[bytes, ...], order: Order) -> None:
        if len(self.orders) >= PLANS_MAX:
            self.orders.clear()
        self.orders[asked] = order

    def _forget_plans(self) -> None:
        self.plans.clear()
        self.orders.clear()

    def _evict(self) -> None:
        self._forget_plans()
        for columns in list(self.combinations):
            lists = self.combinations[columns]
            if lists:
                del lists[next(iter(lists))]
                self.kept -= 1
                return

    def update(self, row: int, old: Sequence[Any] | None, new: Sequence[Any], position: int) -> None:
        """Takes a row from its old lists to its new ones. `old` and `new` are trimmed records."""
        is_changed = False
        for column, lists in self._items:
            value = new[column]
            if old is not None:
                before = old[column]
                if before == value:
                    continue
                posting = lists[before]
                posting.rows.discard(row)
                posting.position = position
            is_changed = True
            posting = lists.get(value) or self._first(lists, value)
            posting.rows.add(row)
            posting.position = position
        if not is_changed:
            return
        for pick, kept in self._combined:
            values = pick(new)
            if old is not None:
                previous = pick(old)
                if previous == values:
                    continue
                known = kept.get(previous)
                if known is not None:
                    known.rows.discard(row)
                    known.position = position
            known = kept.get(values)
            if known is not None:
                known.rows.add(row)
                known.position = position

    def _first(self, lists: dict[Value, Posting], value: Value) -> Posting:
        """The list of a value that no row has had."""
        self._forget_plans()
        lists[value] = posting = Posting(BitMap(), 0)
        return posting

    def drop_empty(self, durable: int) -> None:
        """Forgets single lists that no row is in any more, once their last change is durable."""
        self._forget_plans()
        for lists in self.lists.values():
            for value in [v for v, p in lists.items() if not p.rows and p.position <= durable]:
                del lists[value]

    def load(self, column: int, value: Value, rows: BitMap) -> None:
        self.lists[column][value] = Posting(rows, 0)
