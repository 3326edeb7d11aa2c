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
Entry = tuple[int, int, Value, bytes]  # table number, column, value; a list or a part of one, serialized
_PART_ROWS = 1 << 20  # ids that a part of a long list spans: 0.02 ms each, for 10 million at once 1 ms
_WHOLE_ROWS_MAX = 1 << 16  # a list of no more is not cut into parts
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
        """All lists that were not empty, table by table, a long one in several entries that are to be united;
        None is a step in which there is none to give."""
        for table, lists in self._tables:
            copies: deque[list[BitMap]] = deque()
            for rows in (table.rows.present, *(posting.rows for _, _, posting in lists)):
                copies.append([])
                for part in _parts(rows):
                    copies[-1].append(part)
                    yield None
            # Whatever a copy shows of a later change, the row's image of before is here: it was kept first.
            before = _Before(table)
            yield from before.read()
            for column, value, _ in [(PRESENT, 0, None), *lists]:
                for part in before.taken_back(column, value, copies.popleft()):  # each goes when it was used
                    if part or column == PRESENT:
                        yield table.number, column, value, part.serialize()


def _parts(rows: BitMap) -> Iterator[BitMap]:
    """Copies of at least one part, each as the list is when it is asked for."""
    if len(rows) <= _WHOLE_ROWS_MAX:
        yield rows.copy()
        return
    begin, end = 0, _PART_ROWS
    while True:
        window = BitMap()
        window.add_range(begin, end)
        yield rows & window
        if not rows or rows.max() < end:
            return
        begin = next(rows.iter_equal_or_larger(end))
        end = begin + _PART_ROWS


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

    def taken_back(self, column: int, value: Value, parts: list[BitMap]) -> Iterator[BitMap]:
        """A list's parts, copied some time after the cut, as the list was at the cut."""
        last = parts[-1]
        for part in parts:
            if part.intersect(self._touched):
                part.difference_update(self._touched)
            if part is last and (ids := self._ids[column].get(value)):
                part.update(ids)
            yield part
