"""Posting lists set right for many rows at once: each list is changed once, by a bitmap of the rows.

Row by row, as live writes do it, a million rows cost over a second; bitmaps take thousands of ids at once for
the price of a few.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Generator, Iterator

from pyroaring import BitMap

from storage import format as fmt
from storage.columns import column_reader, digest_reader, position_reader
from storage.index import Posting
from storage.schema import Value
from storage.table import Table


class Relisting:
    """Rows are noted with their images; then `set_right` takes them out of all lists and puts each into
    those of its image."""

    def __init__(self, table: Table) -> None:
        self._table = table
        columns = table.index.columns
        self._readers = [(column, column_reader(table.schema, name)) for name, column in columns.items()]
        self._ids: dict[int, dict[Value, list[int]]] = {
            column: defaultdict(list) for column in columns.values()
        }
        self._touched = BitMap()

    def note(self, ids: list[int], images: bytes) -> None:
        """The images lie one behind another. A row may be noted once between two `set_right`."""
        self._touched.update(ids)
        for column, read in self._readers:
            by_value = self._ids[column]
            for row, value in zip(ids, read(images), strict=True):
                by_value[value].append(row)

    def set_right(self) -> None:
        table, touched = self._table, self._touched
        table.rows.present |= touched
        for column, lists in table.index.lists.items():
            for posting in lists.values():
                if posting.rows.intersect(touched):
                    posting.rows -= touched
                    posting.position = table.position
            for value, ids in self._ids[column].items():
                posting = lists.setdefault(value, Posting(BitMap(), table.position))
                posting.rows |= BitMap(ids)
                posting.position = table.position
            self._ids[column].clear()
        self._touched = BitMap()


def list_anew(table: Table) -> Iterator[int]:
    """Makes all lists again from the rows; yields the number of directories done."""
    rows, schema = table.rows, table.schema
    read_positions, size = position_reader(schema), schema.record_bytes
    relisting = Relisting(table)
    rows.present = BitMap()
    for lists in table.index.lists.values():
        lists.clear()
    for slot, number in enumerate(rows.numbers):
        images = _images(memoryview(rows.directories[number]), schema.rows_per_block * size)
        within = [row for row, position in enumerate(read_positions(images)) if position]
        if len(within) * size < len(images):
            images = b"".join([images[row * size : (row + 1) * size] for row in within])
        relisting.note([(number << 16) + row for row in within], images)
        relisting.set_right()
        yield slot + 1


def count_sold(table: Table) -> Generator[None, None, None]:
    """How many rows each owner has; yields after each directory."""
    rows, schema = table.rows, table.schema
    read, sold = digest_reader(schema), Counter[bytes]()
    for number in rows.numbers:
        directory = memoryview(rows.directories[number])
        sold.update(read(_images(directory, schema.rows_per_block * schema.record_bytes)))
        yield
    del sold[fmt.NO_OWNER]
    table.sales.sold = dict(sold)


def _images(directory: memoryview, bytes_per_block: int) -> bytes:
    """A directory's rows without the blocks around them."""
    starts = range(fmt.BLOCK_HEADER_BYTES, len(directory), fmt.BLOCK_BYTES)
    return b"".join([directory[start : start + bytes_per_block] for start in starts])
