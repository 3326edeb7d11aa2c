"""Runs of neighbours: rows whose field rises by one from row to row, the hall's row being the same.

Rows are looked at in the order of their ids, once. What was seen is kept (`Walks`) for the next who asks for
as many: so a sale that works through a hall does not look at its picked-over front again for each buyer.

A run is found by the lengths of the runs to the left and to the right of each row that comes, as in the
textbook's longest consecutive sequence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pyroaring import BitMap

from storage.index import Posting

WALKS_MAX = 32  # kept per table
Values = tuple[Any, ...]
Place = tuple[Any, int]  # the hall's row, and the field's value in it


class Scan:
    """One walk over a list's rows; `column` is the field's, `within` the hall row's or None."""

    def __init__(self, count: int, column: int, within: int | None) -> None:
        self._count = count
        self._column = column
        self._within = within
        self._next: int = 0
        self._seen: dict[Place, list[int]] = {}  # ids of rows that were free, ascending

    def find(
        self, rows: BitMap, read: Callable[[int], Values | None], free: Callable[[int], bool]
    ) -> list[int] | None:
        """The next run, its ids ascending; it is taken out of what was seen."""
        seen, several = self._seen, self._count > 1
        for row in self._following(rows):
            self._next = row + 1
            if not free(row):
                continue
            values = read(row)
            assert values is not None, "a listed row is there"
            hall, at = values[self._within] if self._within is not None else None, values[self._column]
            seen.setdefault((hall, at), []).append(row)
            if several and (hall, at - 1) not in seen and (hall, at + 1) not in seen:
                continue
            while run := self._run_through((hall, at)):
                if all(self._is_there(place, rows, free) for place in run):
                    return sorted(map(self._take, run))
        return None

    def _is_there(self, place: Place, rows: BitMap, free: Callable[[int], bool]) -> bool:
        """Whether the place has a row still; those that are gone are forgotten."""
        ids = self._seen[place]
        while ids and (ids[0] not in rows or not free(ids[0])):
            del ids[0]
        if not ids:
            del self._seen[place]
        return bool(ids)

    def _take(self, place: Place) -> int:
        ids = self._seen[place]
        if len(ids) == 1:
            del self._seen[place]
        return ids.pop(0)

    def _following(self, rows: BitMap) -> Iterator[int]:
        if not rows or rows.max() < self._next:
            return iter(())
        return iter(rows.iter_equal_or_larger(self._next))

    def _run_through(self, place: Place) -> list[Place]:
        """The places of a run that the place is in, or none. Of several the one with the lowest ids."""
        seen, count = self._seen, self._count
        hall, at = place
        if place not in seen:
            return []
        first = last = at
        while at - first < count - 1 and (hall, first - 1) in seen:
            first -= 1
        while last - at < count - 1 and (hall, last + 1) in seen:
            last += 1
        if last - first + 1 < count:
            return []
        begins = range(first, last - count + 2)
        begin = min(begins, key=lambda b: sorted(seen[hall, b + i][0] for i in range(count)))
        return [(hall, begin + i) for i in range(count)]


class Question(NamedTuple):
    """For how many neighbours, on which list and by which columns."""

    posting: Posting
    size: int
    column: int
    within: int | None

    def scan(self) -> Scan:
        return Scan(self.size, self.column, self.within)


class Walks:
    """A table's walks under way, by what was asked; None where there is no run, whoever has the rows.

    Invariant: a row that a kept walk has passed and does not remember is taken still, or off the list. So all
    of them end when anything becomes free, or a row is written by anybody but a sale: the table's position is
    not `position` then. A sale's rows leave the list on which they were asked for, and may come to another,
    or move on it: the walks on a list that has any of them behind the sale end, too.
    """

    __slots__ = ("kept", "position")

    def __init__(self) -> None:
        self.kept: dict[Question, Scan | None] = {}
        self.position = 0

    def keep(self, question: Question, walk: Scan | None, position: int) -> None:
        if len(self.kept) >= WALKS_MAX:
            self.kept.clear()
        self.kept[question] = walk
        self.position = position

    def at(self, position: int) -> dict[Question, Scan | None]:
        """Those that are true still where the table's last write is this one."""
        if position != self.position:
            self.kept.clear()
        return self.kept

    def sold(self, rows: Iterable[int], before: int, position: int) -> None:
        """A sale wrote these rows; with it the table's position went from `before` to `position`."""
        kept = self.at(before)
        for question in [*kept]:
            there = question.posting.rows
            for row in rows:
                if row in there:
                    del kept[question]
                    break
        self.position = position
