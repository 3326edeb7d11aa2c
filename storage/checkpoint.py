"""A checkpoint: the row files brought to one log position, while writers go on.

Order, each step durable before the next: the log up to the position; the double-write file; the blocks in
place; the posting lists; the CHECKPOINT file by rename; only then old segments go. A crash in between
leaves the old CHECKPOINT, whose log is all there; replay is guarded by each row's own position.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from storage import index_file, row_file
from storage.errors import StartError
from storage.manifest import Manifest, TableState
from storage.table import Table

if TYPE_CHECKING:
    from storage.engine import Engine


class Checkpoint:
    """The cut is made when this is constructed, on the loop; `write` may run in a thread."""

    def __init__(self, engine: Engine) -> None:
        self._fs = engine.fs
        self._directory = engine.directory
        self._wal = engine.wal
        self.position = engine.wal.appended
        self._tables = list(engine.tables.values())
        self._cuts: list[tuple[Table, list[int]]] = [
            (table, table.rows.begin_cut()) for table in self._tables
        ]
        self._index = index_file.encode(self._tables)
        old = engine.manifest
        self._old_index = old.index_file
        self._gone = {state.number for state in old.tables} - {table.number for table in self._tables}
        self.manifest = Manifest(
            uuid=old.uuid,
            epoch=old.epoch,
            position=self.position,
            tokens=engine.tokens_reserved,
            next_table=engine.next_table,
            index_file=f"index-{self.position:016x}",
            tables=[_state(table) for table in self._tables],
            catalog_position=engine.catalog_position,
        )

    def write(self) -> None:
        """Blocks until the checkpoint is durable. The log must be, up to `position`."""
        assert self._wal.durable >= self.position, "rows must not come before their log"
        fs, directory = self._fs, self._directory
        uuid = self.manifest.uuid_bytes
        count = sum(len(blocks) for _, blocks in self._cuts)
        if count:
            row_file.write_doublewrite(fs, directory, uuid, self.position, self._images(), count)
            row_file.write_in_place(fs, directory, row_file.read_doublewrite(fs, directory, uuid))
        index_file.save(fs, directory / self.manifest.index_file, self._index)
        on_disk = Manifest.load(fs, directory)
        if on_disk.epoch != self.manifest.epoch:
            raise StartError(f"{directory}: epoch {on_disk.epoch} has taken over from {self.manifest.epoch}")
        self.manifest.save(fs, directory)
        self._remove_old()

    def _images(self) -> Iterator[tuple[row_file.Place, bytes]]:
        for table, blocks in self._cuts:
            for block in blocks:
                yield row_file.Place(table.number, block), table.rows.cut_block(block)

    def _remove_old(self) -> None:
        fs, directory = self._fs, self._directory
        if (
            self._old_index
            and self._old_index != self.manifest.index_file
            and fs.exists(directory / self._old_index)
        ):
            fs.unlink(directory / self._old_index)
        for number in self._gone:
            path = row_file.table_path(directory, number)
            if fs.exists(path):
                fs.unlink(path)
        fs.fsync_directory(directory / "tables")
        fs.fsync_directory(directory)

    def finish(self) -> None:
        """On the loop, when `write` is done."""
        for table in self._tables:
            table.rows.end_cut()


def _state(table: Table) -> TableState:
    return TableState(
        number=table.number,
        name=table.name.decode(),
        schema=table.schema.describe(),
        directories=list(table.rows.numbers),
        rows=len(table.rows.present),
        position=table.position,
    )
