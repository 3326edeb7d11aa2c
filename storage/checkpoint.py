"""A checkpoint: the row files brought to one log position, while writers go on.

Order, each step durable before the next: the log up to the position; the double-write file; the blocks in
place; the posting lists; the CHECKPOINT file by rename; only then old segments go. A crash in between
leaves the old CHECKPOINT, whose log is all there; replay is guarded by each row's own position.

A checkpoint that finds the disk full is given up, and a later one, with a cut of its own, does its work: to
the files that is as a crash. Only one thing is left to do: blocks that began to be put in place may be half
there, so the double-write file must not be written again before all of its blocks are in place and synced.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from storage import event_files, index_file, row_file
from storage import format as fmt
from storage.errors import StartError
from storage.fs import size_of
from storage.index_cut import IndexCut
from storage.manifest import Manifest, TableState
from storage.pace import Pace
from storage.table import Table

if TYPE_CHECKING:
    from storage.upkeep import Upkeep


SMALL_FILES_BYTES = 64 << 10


class Checkpoint:
    """The cut is made when this is constructed, on the loop; `write` may run in a thread."""

    def __init__(self, engine: Upkeep) -> None:
        self._fs = engine.fs
        self._directory = engine.directory
        self._engine = engine
        self._wal = engine.wal
        self.position = engine.wal.appended
        self._tables = list(engine.tables.values())
        self._blocks = sum(table.rows.begin_cut() for table in self._tables)
        self._index = IndexCut(self._tables)
        self._events = engine.selling.cut()
        self._remembered_ms = engine.selling.memory.keep_ns // 1_000_000
        old = engine.manifest
        self.manifest = Manifest(
            uuid=old.uuid,
            epoch=old.epoch,
            position=self.position,
            tokens=engine.tokens_reserved,
            next_table=engine.next_table,
            index_file=f"index-{self.position:016x}",
            tables=[_state(table) for table in self._tables],
            catalog_position=engine.catalog_position,
            event_files=dict(old.event_files),
            store_ms=engine.selling.store_ms(),
        )

    def write(self) -> None:
        """Blocks until the checkpoint is durable. The log must be, up to `position`."""
        pace = Pace()
        for _ in self.steps():
            pace.step()

    def room_bytes(self) -> int:
        """About what `write` is going to take on the disk, beyond what its files have."""
        fs, directory, blocks = self._fs, self._directory, self._blocks
        more = max(0, row_file.doublewrite_bytes(blocks) - size_of(fs, directory / row_file.DOUBLEWRITE_NAME))
        for table in self._tables:
            end = (max(tuple(table.rows.cut or ()), default=-1) + 1) * fmt.BLOCK_BYTES
            more += max(0, end - size_of(fs, row_file.table_path(directory, table.number)))
        more += sum(self.manifest.event_files.values()) + 2 * sum(map(len, self._events))
        old_index = self._engine.manifest.index_file
        return more + 2 * (size_of(fs, directory / old_index) if old_index else 0) + SMALL_FILES_BYTES

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
        if self._engine.is_placing:
            yield from self._put_in_place()
        if self._blocks:
            yield from row_file.write_doublewrite(
                fs, directory, uuid, self.position, self._slices(), self._blocks
            )
            yield from self._put_in_place()
        yield from index_file.save(fs, directory / self.manifest.index_file, lists)
        yield from self._save_events()
        self._refuse_if_taken_over()
        self.manifest.save(fs, directory)
        self._wal.drop_before(self.position)
        self._remove_old()

    def _save_events(self) -> Iterator[None]:
        fs, directory, files, events = self._fs, self._directory, self.manifest.event_files, self._events
        if not events:
            return
        if event_files.is_merge_wanted(files, sum(map(len, events))):
            numbers = {table.number for table in self._tables}
            merge = event_files.Merge(numbers, self.manifest.store_ms, self._remembered_ms)
            paths = [directory / name for name in files]
            kept: Iterable[bytes | None] = event_files.merged(fs, paths, events, merge)
            files.clear()
        else:
            kept = events
        name = f"events-{self.position:016x}"
        files[name] = yield from event_files.save(fs, directory / name, kept)

    def _refuse_if_taken_over(self) -> None:
        epoch = Manifest.load(self._fs, self._directory).epoch
        if epoch != self.manifest.epoch:
            raise StartError(f"{self._directory}: epoch {epoch} has taken over from {self.manifest.epoch}")

    def _slices(self) -> Iterator[row_file.Slice]:
        for table in self._tables:
            for blocks, images in table.rows.cut_slices(row_file.STEP_BLOCKS):
                yield table.number, blocks, images

    def _put_in_place(self) -> Iterator[None]:
        self._engine.is_placing = True
        yield from row_file.put_in_place(self._fs, self._directory, self.manifest.uuid_bytes)
        self._engine.is_placing = False

    def _remove_old(self) -> None:
        """Files of dropped tables, old posting lists, and what checkpoints left that came to no end."""
        fs, directory = self._fs, self._directory
        tables = directory / "tables"
        kept = {row_file.table_path(directory, table.number).name for table in self._tables}
        for name in fs.names(tables):
            if name not in kept:
                fs.unlink(tables / name)
        for name in fs.names(directory):
            if name.startswith(("index-", "events-")) and name not in self.manifest.names:
                fs.unlink(directory / name)
        fs.fsync_directory(tables)
        fs.fsync_directory(directory)

    def finish(self, *, is_written: bool = True) -> None:
        """On the loop, when `write` has come to its end; or, not written, to a full disk."""
        for table in self._tables:
            table.rows.end_cut(is_written=is_written)
        if not is_written:
            self._engine.selling.uncut(self._events)


def _state(table: Table) -> TableState:
    return TableState(
        number=table.number,
        name=table.name.decode(),
        schema=table.schema.describe(),
        directories=list(table.rows.numbers),
        rows=len(table.rows.present),
        position=table.position,
        is_owned=bool(table.sales.sold),
    )
