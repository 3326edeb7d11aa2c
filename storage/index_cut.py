"""The posting lists as they were at a checkpoint's cut, found out beside writers that go on changing them.

Copying all lists at the cut would stop the loop for a time that grows with the table (20 ms at 10 million
rows). So they are copied one after another while rows change, and what changed in between is taken back: rows
keep the images that they had at the cut (`Rows.before`), and a row's image says which lists it was in.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

from pyroaring import BitMap

from storage.columns import column_reader, position_reader
from storage.schema import Value
from storage.table import Table

PRESENT = -1  # the column of the set of all rows that are there
Entry = tuple[int, int, Value, bytes]  # table number, column, value, serialized bitmap
_STEP_LISTS = 8
_STEP_ROWS = 256


class IndexCut:
    """Made on the loop at the cut, right after `begin_cut` of all tables; `entries` runs in a thread."""

    def __init__(self, tables: Iterable[Table]) -> None:
        self._tables = [
            (
                table,
                [
                    (column, value, posting)
                    for column, lists in table.index.lists.items()
                    for value, posting in lists.items()
                ],
            )
            for table in tables
        ]

    def entries(self) -> Iterator[Entry | None]:
        """All lists that were not empty, table by table; None is a step in which there is none to give."""
        for table, lists in self._tables:
            copies = deque([table.rows.present.copy()])
            for count, (_, _, posting) in enumerate(lists):
                copies.append(posting.rows.copy())
                if count % _STEP_LISTS == 0:
                    yield None
            # Whatever a copy shows of a later change, the row's image of before is here: it was kept first.
            before = _Before(table)
            yield from before.read()
            for column, value, _ in [(PRESENT, 0, None), *lists]:
                rows = before.taken_back(column, value, copies.popleft())  # each goes when it was used
                if rows or column == PRESENT:
                    yield table.number, column, value, rows.serialize()


class _Before:
    """The rows of a table that were written since the cut, and the lists that they were in at it."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self._images = table.rows.end_before()
        self._touched = BitMap(self._images)
        self._ids: dict[int, dict[Value, list[int]]] = defaultdict(lambda: defaultdict(list))

    def read(self) -> Iterator[None]:
        schema, columns = self._table.schema, self._table.index.columns
        readers = [(column, column_reader(schema, name)) for name, column in columns.items()]
        read_positions = position_reader(schema)
        rows = list(self._images)
        for i in range(0, len(rows), _STEP_ROWS):
            ids = rows[i : i + _STEP_ROWS]
            images = b"".join([self._images[row] for row in ids])
            was_there = read_positions(images)
            self._ids[PRESENT][0] += [row for row, at in zip(ids, was_there, strict=True) if at]
            for column, read in readers:
                by_value = self._ids[column]
                for row, at, value in zip(ids, was_there, read(images), strict=True):
                    if at:
                        by_value[value].append(row)
            yield

    def taken_back(self, column: int, value: Value, rows: BitMap) -> BitMap:
        """`rows`, a copy made some time after the cut, as it was at the cut."""
        if rows.intersect(self._touched):
            rows -= self._touched
        if ids := self._ids[column].get(value):
            rows |= BitMap(ids)
        return rows
