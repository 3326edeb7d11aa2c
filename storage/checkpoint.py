"""A checkpoint: the row files brought to one log position, while writers go on.

Order, each step durable before the next: the log up to the position; the double-write file; the blocks in
place; the posting lists; the CHECKPOINT file by rename; only then old segments go. A crash in between
leaves the old CHECKPOINT, whose log is all there; replay is guarded by each row's own position.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from storage import index_file, row_file
from storage.errors import StartError
from storage.index_cut import IndexCut
from storage.manifest import Manifest, TableState
from storage.table import Table

if TYPE_CHECKING:
    from storage.engine import Engine


# A thread that computes keeps the interpreter for 5 ms each time that the loop asks for it, unless it sleeps.
WORK_SECONDS = 0.00005
PAUSE_SECONDS = 0.00005


class Checkpoint:
    """The cut is made when this is constructed, on the loop; `write` may run in a thread."""

    def __init__(self, engine: Engine) -> None:
        self._fs = engine.fs
        self._directory = engine.directory
        self._wal = engine.wal
        self.position = engine.wal.appended
        self._tables = list(engine.tables.values())
        self._blocks = sum(table.rows.begin_cut() for table in self._tables)
        self._index = IndexCut(self._tables)
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
        paused_at = time.perf_counter()
        for _ in self.steps():
            if time.perf_counter() - paused_at >= WORK_SECONDS:
                time.sleep(PAUSE_SECONDS)
                paused_at = time.perf_counter()

    def steps(self) -> Iterator[None]:
        """As `write`; between two steps, each some 0.1 ms of Python, others may have the interpreter."""
        assert self._wal.durable >= self.position, "rows must not come before their log"
        fs, directory = self._fs, self._directory
        uuid = self.manifest.uuid_bytes
        self._refuse_if_taken_over()  # before it writes anything into what is another's now
        lists: list[index_file.Entry] = []
        for entry in self._index.entries():  # first: as long as it goes on, writers keep each row's old image
            if entry is not None:
                lists.append(entry)
            yield
        if self._blocks:
            yield from row_file.write_doublewrite(
                fs, directory, uuid, self.position, self._slices(), self._blocks
            )
            yield from row_file.put_in_place(fs, directory, uuid)
        yield from index_file.save(fs, directory / self.manifest.index_file, lists)
        self._refuse_if_taken_over()
        self.manifest.save(fs, directory)
        self._wal.drop_before(self.position)
        self._remove_old()

    def _refuse_if_taken_over(self) -> None:
        epoch = Manifest.load(self._fs, self._directory).epoch
        if epoch != self.manifest.epoch:
            raise StartError(f"{self._directory}: epoch {epoch} has taken over from {self.manifest.epoch}")

    def _slices(self) -> Iterator[row_file.Slice]:
        for table in self._tables:
            for blocks, images in table.rows.cut_slices(row_file.STEP_BLOCKS):
                yield table.number, blocks, images

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
