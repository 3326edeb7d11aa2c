"""The lowest rows of a list that nobody has locked or holds."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice

from pyroaring import BitMap

from storage.format import DIRECTORY_ROWS

IsFree = Callable[[int], bool]
TRIED_MORE = 8  # rows beyond those that are wanted, before what is held is taken out in bulk


def lowest_free(rows: BitMap, count: int, is_free: IsFree, held: BitMap) -> list[int]:
    """At most `count` ids, ascending. `held` rows are none of them: no look at each of a thousand."""
    ids: list[int] = []
    if not held or (rows and rows.min() not in held):
        for row in islice(rows, count + TRIED_MORE):  # the usual case: nobody has the first ones
            if is_free(row):
                ids.append(row)
                if len(ids) == count:
                    return ids
    return _of_many(rows, count, is_free, held) if rows else []


def _of_many(rows: BitMap, count: int, is_free: IsFree, held: BitMap) -> list[int]:
    """Directory by directory, what is held being taken out of each by one subtraction."""
    ids: list[int] = []
    begin: int | None = rows.min()
    while begin is not None:
        end = (begin // DIRECTORY_ROWS + 1) * DIRECTORY_ROWS
        window = BitMap()
        window.add_range(begin, end)
        window &= rows
        window -= held
        for row in window:
            if is_free(row):
                ids.append(row)
                if len(ids) == count:
                    return ids
        begin = next(rows.iter_equal_or_larger(end)) if rows.max() >= end else None
    return ids
