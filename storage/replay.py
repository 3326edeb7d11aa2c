"""Brings the tables up to the log's end. Idempotent: a row at or past a record's position is left.

Two steps, because a row may have many records and a record carries the whole row: `batch` keeps the last
image of each row, `finish` puts them in place and then sets the posting lists right: every row that has a
record leaves all lists, and enters those of its last image. So it does not matter which of the rows were
brought to disk by a checkpoint that never came to its end: their values at the old one are not asked for.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice

from storage import format as fmt
from storage.errors import DamageError
from storage.log_reader import Batch, records
from storage.manifest import Manifest
from storage.relisting import Relisting
from storage.schema import Schema
from storage.table import Table

_STEP_RECORDS = 4_096
_POSITION = struct.Struct("<Q")  # in a row's image, behind the token
_HEAD = struct.Struct("<IBBH")  # of RECORD, what all of a table's rows have in common


@lru_cache(maxsize=64)
def _row_records(length: int, table: int) -> tuple[dict[int, bool], struct.Struct]:
    """The heads that records of the table's rows have, and whether each is a sale's; and what takes head, row
    and position out of one."""
    heads = {
        int.from_bytes(_HEAD.pack(length, kind, flags, table), "little"): kind in fmt.SALE_KINDS
        for kind in fmt.ROW_KINDS
        for flags in (0, fmt.FRAME_CONTINUES)
    }
    return heads, struct.Struct(f"<QI16xQ{length - 36}x")


class Replay:
    def __init__(self, tables: dict[int, Table], manifest: Manifest) -> None:
        self.tables = tables
        self.tokens = manifest.tokens
        self.next_table = manifest.next_table
        self.catalog_position = manifest.catalog_position
        self.owned = {state.number for state in manifest.tables if state.is_owned}  # rows may have buyers
        self.events: list[tuple[int, bytes]] = []  # position and encoded event
        self._begin = manifest.position
        self._stream = bytearray()  # all records from there on: a position less `_begin` is an offset in it
        # By table and row the position of the row's last record: that is its end, and the image's.
        self._latest: dict[int, dict[int, int]] = {number: {} for number in tables}

    def batch(self, batch: Batch) -> Iterator[int]:
        """Yields a position now and then, so that the caller may do other things in between."""
        assert batch.first == self._begin + len(self._stream), "batches come without gaps"
        self._stream += batch.payload
        length, _, _, number = _HEAD.unpack_from(batch.payload)
        table = self.tables.get(number)
        step = length * _STEP_RECORDS
        if table is not None and length == table.record_bytes and len(batch.payload) % length == 0:
            for start in range(0, len(batch.payload), step):
                if not self._rows(table, batch.first + start, batch.payload[start : start + step]):
                    break
                yield batch.first + start
            else:
                return
        yield from self._records(batch)

    def _rows(self, table: Table, position: int, payload: bytes) -> bool:
        """Takes what is nothing but rows of one table, as nearly all batches are; False where it is not.

        A third of the time that `_records` needs. It may have taken some by then: doing it again is harmless.
        """
        length, latest = table.record_bytes, self._latest[table.number]
        heads, one = _row_records(length, table.number)
        is_owned = False
        for head, row, at in one.iter_unpack(payload):
            position += length
            is_sale = heads.get(head)
            if at != position or is_sale is None:
                return False
            is_owned |= is_sale
            latest[row] = at
        if is_owned:
            self.owned.add(table.number)
        return True

    def _records(self, batch: Batch) -> Iterator[int]:
        rows, event = fmt.ROW_KINDS, int(fmt.Kind.EVENT)
        payload, position_of = batch.payload, _POSITION.unpack_from
        for count, (length, kind, _, number, row, previous, offset) in enumerate(records(batch), 1):
            end = offset + length - fmt.RECORD.size
            position = batch.first + end
            if kind in rows:
                if position_of(payload, offset + 8)[0] != position:
                    raise DamageError(f"{batch.segment.path}: the record at {position} is out of place")
                latest = self._latest.get(number)
                if latest is not None:  # else its table is dropped further on, and the file may be gone
                    latest[row] = position
                if kind in fmt.SALE_KINDS:
                    self.owned.add(number)
            elif kind == event:
                self.events.append((position, bytes(payload[offset:end])))
            else:
                self._catalog(kind, number, previous, payload[offset:end], position)
            if count % _STEP_RECORDS == 0:
                yield position
        yield batch.end

    def _catalog(self, kind: int, number: int, previous: int, body: bytes, end: int) -> None:
        if kind == fmt.Kind.RESERVE:
            self.tokens = max(self.tokens, previous)
            return
        if kind == fmt.Kind.DROP:
            self.tables.pop(number, None)
            self._latest.pop(number, None)
        elif kind == fmt.Kind.CREATE:
            described = json.loads(body)
            schema = Schema.from_description(described["schema"])
            self.tables[number] = Table(number, described["name"].encode(), schema)
            self._latest[number] = {}
            self.next_table = max(self.next_table, number + 1)
        else:
            raise DamageError(f"the log has a record of unknown kind {kind} at position {end}")
        self.catalog_position = end

    def finish(self) -> Iterator[float]:
        """Puts the images in place; yields the share that is done."""
        for number, latest in self._latest.items():
            table = self.tables[number]
            relisting = Relisting(table)
            last, done = iter(latest.items()), 0
            while chunk := dict(islice(last, _STEP_RECORDS)):
                images = self._images(table, chunk)
                _place(table, chunk, images)
                relisting.note(list(chunk), b"".join(images))
                done += len(chunk)
                yield done / len(latest)
            if latest:
                relisting.set_right()

    def _images(self, table: Table, positions: dict[int, int]) -> list[bytearray]:
        stream, end = self._stream, self._begin
        start = end + table.schema.record_bytes
        return [stream[position - start : position - end] for position in positions.values()]


def _place(table: Table, positions: dict[int, int], images: list[bytearray]) -> None:
    """Writes the rows' images; a row that is as far already is left.

    Its block is dirty all the same: a checkpoint that was killed put it in place, and nobody knows whether
    it was synced. The next one lets go of the row's record, so it has to write the block again.
    """
    rows, size, blocks = table.rows, table.schema.record_bytes, table.schema.blocks_per_directory
    directories, offsets, dirty, slots = rows.directories, rows.offsets, rows.dirty, rows.slots
    position_of = _POSITION.unpack_from
    for (row, position), image in zip(positions.items(), images, strict=True):
        number = row >> 16
        directory = directories.get(number)
        if directory is None:
            directory = rows.add_directory(number)
        offset = offsets[row & 0xFFFF]
        there = position_of(directory, offset + 8)[0]
        if there < position:
            directory[offset : offset + size] = image
        elif there > position:
            raise DamageError(
                f"table {table.name.decode()}: row {row} is at position {there}, "
                f"but the log's last record of it is at {position}"
            )
        dirty.add(slots[number] * blocks + (offset >> 12))
    table.position = max(table.position, *positions.values())
