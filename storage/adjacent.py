"""Runs of neighbours: rows whose field rises by one from row to row, the hall's row being the same.

Rows are looked at in the order of their ids, once. What was seen is kept (`Walks`) for the next who asks for
as many: so a sale that works through a hall does not look at its picked-over front again for each buyer, and
a cart that is given back in a hall that is almost sold out has its own seats looked at, not all of them.

A run is found by the lengths of the runs to the left and to the right of each row that comes, as in the
textbook's longest consecutive sequence.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from pyroaring import BitMap

from storage.index import Posting

WALKS_MAX = 32  # kept per table
PLACES_MAX = 1 << 20  # that they remember, together: some 200 bytes each
Values = tuple[Any, ...]
Place = tuple[Any, int]  # the hall's row, and the field's value in it
Read = Callable[[int], Values | None]
Judge = Callable[[int], bool]


def always(row: int) -> bool:
    return True


def never(row: int) -> bool:
    return False


class Scan:
    """One walk over a list's rows; `column` is the field's, `within` the hall row's or None.

    What it has passed it does not look at again by itself: whoever changes a row, or lets go of one, names it
    (`look_again`). Of rows that become free without anybody's doing (`may_end`) it keeps its own list.
    """

    def __init__(self, count: int, column: int, within: int | None) -> None:
        self._count = count
        self._column = column
        self._within = within
        self._next: int = 0
        self._again: set[int] = set()  # passed, and to be looked at once more
        self._seen: dict[Place, list[int]] = {}  # ids of rows that were free, ascending

    @property
    def places(self) -> int:
        return len(self._seen)

    def look_again(self, rows: Iterable[int]) -> None:
        self._again.update(row for row in rows if row < self._next)

    def find(self, rows: BitMap, read: Read, free: Judge, may_end: Judge = never) -> list[int] | None:
        """The next run, its ids ascending. It may stay where it is: the next who asks looks at it first.
        `may_end`: whether what takes a row may end without `look_again`."""
        several = self._count > 1
        for row in self._free_ones(rows, free, may_end):
            hall, at = place = self._place(read(row))
            ids = self._seen.setdefault(place, [])
            if row not in ids:
                insort(ids, row)
            if several and (hall, at - 1) not in self._seen and (hall, at + 1) not in self._seen:
                continue
            while run := self._run_through(place):
                if all(self._is_there(one, rows, read, free, may_end) for one in run):
                    found = sorted(map(self._take, run))
                    self._again.update(found)
                    return found
        return None

    def _place(self, values: Values | None) -> Place:
        assert values is not None, "a listed row is there"
        return values[self._within] if self._within is not None else None, values[self._column]

    def _free_ones(self, rows: BitMap, free: Judge, may_end: Judge) -> Iterator[int]:
        for row in sorted(self._again):
            if row not in rows:
                self._again.discard(row)
            elif free(row):
                self._again.discard(row)
                yield row
            elif not may_end(row):
                self._again.discard(row)
        for row in self._following(rows):
            self._next = row + 1
            if free(row):
                yield row
            elif may_end(row):
                self._again.add(row)

    def _following(self, rows: BitMap) -> Iterator[int]:
        if not rows or rows.max() < self._next:
            return iter(())
        return iter(rows.iter_equal_or_larger(self._next))

    def _is_there(self, place: Place, rows: BitMap, read: Read, free: Judge, may_end: Judge) -> bool:
        """Whether the place has a row still; those that are gone, or elsewhere, are forgotten."""
        ids = self._seen[place]
        while ids:
            row = ids[0]
            if row in rows and self._place(read(row)) == place:
                if free(row):
                    return True
                if may_end(row):
                    self._again.add(row)
            del ids[0]
        del self._seen[place]
        return False

    def _take(self, place: Place) -> int:
        ids = self._seen[place]
        if len(ids) == 1:
            del self._seen[place]
        return ids.pop(0)

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


class Walk(NamedTuple):
    """What has been seen of one question's rows: of the free ones, and of all, whoever has them."""

    free: Scan
    taken: Scan

    def has_any(self, rows: BitMap, read: Read) -> bool:
        """Whether there is a run with the taken rows counted."""
        return self.taken.find(rows, read, always) is not None


class Walks:
    """A table's walks under way, by what was asked. Invariant: a row that a walk has passed and does not
    remember is off the list or taken; whatever changes that is told (`changed`), or is a lock, whose end is
    no event."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        self.kept: dict[Question, Walk] = {}

    def of(self, question: Question) -> Walk:
        walk = self.kept.get(question)
        if walk is None:
            places = sum(walk.free.places + walk.taken.places for walk in self.kept.values())
            if len(self.kept) >= WALKS_MAX or places > PLACES_MAX:
                self.kept.clear()
            walk = self.kept[question] = Walk(question.scan(), question.scan())
        return walk

    def changed(self, rows: Iterable[int]) -> None:
        """These were written, or a hold of them has ended."""
        for question, walk in self.kept.items():
            listed = question.posting.rows
            found = [row for row in rows if row in listed]
            walk.free.look_again(found)
            walk.taken.look_again(found)
