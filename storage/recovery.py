"""Opening a directory: the last checkpoint, then the log behind it, then a new epoch.

1. The directory's lock, for life. 2. The CHECKPOINT; an empty directory becomes a new store. 3. The row
files; a block that fails is taken from the double-write file, or the start is refused. 4. The posting lists,
as of the checkpoint; replay sets them right for all rows that the log has, also those that an unfinished
checkpoint brought to disk. 5. The log: a torn tail is cut off, damage refuses the start before anything is
changed. 6. Records whose durability nothing names are written again in a new segment and synced before
anyone sees them. 7. The new epoch and a range of tokens. 8. What an earlier crash left behind is removed.

On a full disk a start takes the archive's room, then the ballast's. Without enough of it the start is
refused, before anything else is changed.
"""

from __future__ import annotations

import os
import time
import zlib
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TypeVar

from storage import event_files, index_file, row_file
from storage import format as fmt
from storage.archive import Archive
from storage.ballast import Ballast
from storage.engine import Engine, EngineOptions
from storage.errors import DamageError, StartError
from storage.events import decode
from storage.fs import Fs, OsFs, is_full, met_full_disk
from storage.log_reader import Log, reading_log
from storage.manifest import NAME as MANIFEST_NAME
from storage.manifest import Manifest
from storage.relisting import count_sold, list_anew
from storage.replay import Replay
from storage.schema import Schema
from storage.table import Table
from storage.wal import Wal

LOCK_NAME = "LOCK"
_NOTHING = bytes(fmt.BLOCK_BYTES)
T = TypeVar("T")


class Opening:
    """Iterate it to the end (a step takes some ms and answers the progress, 0 to 1), then take `engine`."""

    def __init__(
        self,
        directory: Path,
        options: EngineOptions,
        fs: Fs | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._directory = directory
        self._options = options
        self._fs: Fs = OsFs() if fs is None else fs
        self._clock = clock
        self._engine: Engine | None = None
        self.warnings: list[str] = []
        self._lock_fd = -1

    @property
    def engine(self) -> Engine:
        assert self._engine is not None, "the opening is not at its end"
        return self._engine

    def lock(self) -> None:
        """Takes the directory, or raises StartError at once."""
        fs, directory = self._fs, self._directory
        with self._refused_when_full():
            fs.make_directory(directory)
            fd = fs.open(directory / LOCK_NAME)
        if not fs.lock(fd):
            fs.close(fd)
            raise StartError(f"{directory} is in use by another klani-resp server")
        self._lock_fd = fd

    def __iter__(self) -> Iterator[float]:
        if self._lock_fd < 0:
            self.lock()
        with self._refused_when_full():
            try:
                yield from self._open()
            except BaseException:
                self._fs.close(self._lock_fd)
                raise

    @contextmanager
    def _refused_when_full(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if is_full(error):
                raise StartError(f"{self._directory}: no room for a start: {error}") from error
            raise

    def _open(self) -> Iterator[float]:
        fs, directory = self._fs, self._directory
        manifest = self._manifest()
        loaded = Loaded(fs, directory, manifest)
        yield from loaded.load_rows()
        yield from loaded.load_index()
        self.warnings += loaded.warnings
        yield 0.3
        uuid = manifest.uuid_bytes
        reading = reading_log(fs, directory / "wal", uuid, manifest.position, loaded.durable)
        log = yield from _at(0.3, reading)
        if log.torn:
            self.warnings.append(log.torn)
        replay = Replay(loaded.tables, manifest)
        total = max(1, log.end - manifest.position)
        for batch in log.batches:
            for position in replay.batch(batch):
                yield 0.3 + 0.3 * (position - manifest.position) / total
        for share in replay.finish():
            yield 0.6 + 0.4 * share
        for number in replay.owned & replay.tables.keys():
            yield from _at(0.9, count_sold(replay.tables[number]))
        kept = chain(*[event_files.load(fs, directory / name) for name in manifest.event_files])
        recent = [(position, body, decode(body)) for position, body in replay.events]
        self._engine = self._start(manifest, loaded, replay, log)
        yield from _at(0.95, self._engine.selling.resume(kept, recent, manifest.store_ms))

    def _manifest(self) -> Manifest:
        fs, directory = self._fs, self._directory
        if fs.exists(directory / MANIFEST_NAME):
            return Manifest.load(fs, directory)
        strangers = [
            n for n in fs.names(directory) if n not in (LOCK_NAME, MANIFEST_NAME + ".tmp", "wal", "tables")
        ]
        if fs.exists(directory / "wal") and fs.names(directory / "wal"):
            strangers.append("wal")
        if strangers:
            raise DamageError(
                f"{directory}: no {MANIFEST_NAME} beside {', '.join(strangers)}: not a new store"
            )
        fs.make_directory(directory / "wal")
        fs.make_directory(directory / "tables")
        manifest = Manifest(uuid=os.urandom(16).hex())
        manifest.save(fs, directory)
        return manifest

    def _start(self, manifest: Manifest, loaded: Loaded, replay: Replay, log: Log) -> Engine:
        """A new epoch, a new segment with the doubtful tail, and the old tail cut off."""
        fs, directory, options = self._fs, self._directory, self._options
        ballast = Ballast(fs, directory, options.ballast_bytes)
        archive = Archive(
            fs, directory, keep_days=options.history_keep_days, bytes_max=options.history_bytes_max
        )
        archive.load()
        manifest.epoch += 1
        doubtful = [batch for batch in log.batches if batch.end > log.durable]
        begin = doubtful[0].first if doubtful else log.end
        wal = Wal(
            fs,
            directory / "wal",
            uuid=manifest.uuid_bytes,
            epoch=manifest.epoch,
            position=begin,
            head=doubtful[0].before if doubtful else log.head,
            policy=options.appendfsync,
            segment_bytes=options.segment_bytes,
            ballast=ballast,
            archive=archive,
        )
        self._take_over(
            manifest, loaded, wal, ballast, archive, sum(fmt.padded(len(b.payload)) for b in doubtful)
        )
        superseded = [path for first, path in log.segments if first >= begin]
        wal.segments = [(first, path) for first, path in log.older + log.segments if first < begin]
        wal.open_segment(doubtful)
        for path in superseded:
            if path.name != wal.segments[-1][1].name:
                fs.unlink(path)
        if log.torn or superseded:
            fs.fsync_directory(directory / "wal")
        tail = log.tail
        if tail is not None and tail[0] not in superseded:
            self._cut_tail(
                tail[0], doubtful[0].offset if doubtful and doubtful[0].segment.path == tail[0] else tail[1]
            )
        manifest.next_table = replay.next_table
        manifest.tokens = replay.tokens
        manifest.catalog_position = replay.catalog_position
        engine = Engine(
            fs, directory, manifest, list(replay.tables.values()), wal, ballast, archive, options, self._clock
        )
        engine.lock_fd = self._lock_fd
        engine.reserve_tokens()
        wal.commit()
        wal.sync()
        engine.released_to(wal.durable)
        self._sweep(engine)
        error = met_full_disk(partial(archive.lend, ballast.make))
        if error is not None:
            engine.disk_full(error)
        return engine

    def _take_over(
        self,
        manifest: Manifest,
        loaded: Loaded,
        wal: Wal,
        ballast: Ballast,
        archive: Archive,
        batch_bytes: int,
    ) -> None:
        """The first changes. Room for the log comes before them: where it lacks all is as it was."""
        try:
            wal.reserve_segment(batch_bytes)
            ballast.lend(partial(archive.lend, loaded.restore_in_place))
            ballast.lend(partial(archive.lend, partial(manifest.save, self._fs, self._directory)))
        except OSError as error:
            if is_full(error):
                wal.drop_next()
                ballast.try_to_make()
            raise

    def _sweep(self, engine: Engine) -> None:
        """Removes the files of a checkpoint or a start that a crash kept from its end."""
        fs, directory, manifest = self._fs, self._directory, engine.manifest
        numbers = {state.number for state in manifest.tables} | engine.by_number.keys()
        kept = {*manifest.names, *(path.name for _, path in engine.wal.segments)}
        kept |= {row_file.table_path(directory, number).name for number in numbers}
        for folder, ours in (
            (directory, "index-"),
            (directory, "events-"),
            (directory / "tables", ".rows"),
            (directory / "wal", ".wal"),
        ):
            stale = [
                name
                for name in fs.names(folder)
                if name.endswith(".tmp")
                or (name not in kept and (name.startswith(ours) or name.endswith(ours)))
            ]
            for name in stale:
                fs.unlink(folder / name)
            if stale:
                fs.fsync_directory(folder)
        engine.wal.drop_before(manifest.position)  # what a checkpoint did not come to
        engine.archive.sweep()

    def _cut_tail(self, path: Path, offset: int) -> None:
        fs = self._fs
        fd = fs.open(path)
        try:
            if fs.size(fd) > offset:
                fs.truncate(fd, offset)
                fs.fsync(fd)
        finally:
            fs.close(fd)


def _at(progress: float, steps: Generator[object, None, T]) -> Generator[float, None, T]:
    """The steps at one point of progress: how long they go on is not known."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            value: T = end.value
            return value
        yield progress


class Loaded:
    """The tables as the row files and the index file have them."""

    def __init__(self, fs: Fs, directory: Path, manifest: Manifest) -> None:
        self._fs = fs
        self._directory = directory
        self._manifest = manifest
        self.tables: dict[int, Table] = {}
        self.warnings: list[str] = []
        self._restored: list[tuple[row_file.Place, bytes]] = []
        self._unwritten: dict[int, list[int]] = {}
        self._copies: dict[row_file.Place, bytes] | None = None  # the double-write file's, once one is wanted
        self.durable = manifest.position  # a block goes to its place only when the log up to it is durable

    def load_rows(self) -> Iterator[float]:
        for state in self._manifest.tables:
            table = Table(state.number, state.name.encode(), Schema.from_description(state.schema))
            table.position = state.position
            self.tables[state.number] = table
            for slot, number in enumerate(state.directories):
                memory = memoryview(table.rows.add_directory(number))
                for block in self._read_directory(table, slot, memory):
                    if not self._restore(table, block):
                        path = row_file.table_path(self._directory, table.number)
                        raise DamageError(
                            f"{path}: block {block} (offset {block * fmt.BLOCK_BYTES}) fails its checksum "
                            "and the double-write file has no copy of it: "
                            "acknowledged data is damaged; nothing was changed"
                        )
                yield 0.2 * slot / len(state.directories)

    def _read_directory(self, table: Table, slot: int, memory: memoryview) -> list[int]:
        """Reads one directory; answers its blocks that are neither sound nor never written."""
        fs, path = self._fs, row_file.table_path(self._directory, table.number)
        filled = 0
        if fs.exists(path):
            fd = fs.open_readonly(path)
            try:
                filled = fs.pread_into(fd, memory, slot * len(memory))
            finally:
                fs.close(fd)
        first = slot * table.schema.blocks_per_directory
        bad: list[int] = []
        crc32, unpack, size = zlib.crc32, fmt.BLOCK.unpack_from, fmt.BLOCK_BYTES
        durable = self.durable
        for block, start in enumerate(range(0, len(memory), size), first):
            crc, number, position = unpack(memory, start)  # as block_is_sound, without a call per block
            if number == block and crc32(memory[start + 4 : start + size]) == crc and start < filled:
                if position > durable:
                    durable = position
            elif memory[start : start + size] == _NOTHING:
                self._unwritten.setdefault(table.number, []).append(block)
            else:
                bad.append(block)
        self.durable = durable
        return bad

    def _restore(self, table: Table, block: int) -> bool:
        """Puts the double-write file's copy of the block into memory; False when there is no sound one."""
        if self._copies is None:
            self._copies = dict(
                row_file.read_doublewrite(self._fs, self._directory, self._manifest.uuid_bytes)
            )
        place = row_file.Place(table.number, block)
        copy = self._copies.get(place)
        if copy is None or not fmt.block_is_sound(copy, block):
            return False
        slot, within = divmod(block, table.schema.blocks_per_directory)
        start = within * fmt.BLOCK_BYTES
        table.rows.directories[table.rows.numbers[slot]][start : start + fmt.BLOCK_BYTES] = copy
        self._restored.append((place, copy))
        self.durable = max(self.durable, fmt.BLOCK.unpack_from(copy)[2])
        path = row_file.table_path(self._directory, table.number)
        self.warnings.append(f"{path}: block {block} was torn; restored from the double-write file")
        return True

    def restore_in_place(self) -> None:
        """Before anything may overwrite the double-write file, its blocks are in place, and durable there: a
        process that was killed may have put them there without its syncs."""
        files = row_file.RowFiles(self._fs, self._directory)
        try:
            for place, image in self._restored:
                files.write([(place.table, place.block)], image)
            for number in self.tables:
                files.sync_table(number)
            files.sync_names()
        finally:
            files.close()

    def load_index(self) -> Iterator[float]:
        path = self._directory / self._manifest.index_file
        try:
            lists = index_file.load(self._fs, path) if self._manifest.index_file else {}
        except (DamageError, OSError, ValueError) as error:
            self.warnings.append(f"{error}: the posting lists are made again from the rows")
            for table in self.tables.values():
                for done in list_anew(table):
                    yield 0.2 + 0.1 * done / len(table.rows.numbers)
            return
        for (number, column, value), rows in lists.items():
            table = self.tables[number]
            if column == index_file.PRESENT:
                table.rows.present = rows
            else:
                table.index.load(column, value, rows)
        for number, blocks in self._unwritten.items():
            self._nothing_lost(self.tables[number], blocks)

    def _nothing_lost(self, table: Table, blocks: list[int]) -> None:
        """A block of zeros is one never written: no row that was there may lie in it.

        Or a power loss zeroed it while it was being put in place: then there is a copy.
        """
        present = table.rows.present
        for block in blocks:
            rows = rows_of_block(table, block)
            if present.range_cardinality(rows.start, rows.stop) and not self._restore(table, block):
                path = row_file.table_path(self._directory, table.number)
                raise DamageError(
                    f"{path}: block {block} is empty, but rows {rows.start}..{rows.stop - 1} were there: "
                    "acknowledged data is lost; nothing was changed"
                )


def rows_of_block(table: Table, block: int) -> range:
    """The ids that a block of the row file holds."""
    slot, within = divmod(block, table.schema.blocks_per_directory)
    first = within * table.schema.rows_per_block
    base = table.rows.numbers[slot] << 16
    return range(base + first, base + min(first + table.schema.rows_per_block, fmt.DIRECTORY_ROWS))
