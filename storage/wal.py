"""The write-ahead log: records are appended in memory, and go to disk group by group.

Invariants: 1. `durable` <= `written` <= `appended`, and none ever falls. 2. A batch starts on a 512-byte
boundary: a write never touches a sector with durable bytes. 3. `durable` rises only after the sync of the
bytes below it succeeded. 4. After a failed write or sync nothing is written any more: `failed` is set and
every later call raises. 5. A full disk is no such failure: the call that met it has changed nothing, what
waits still waits, and the call may be made again. 6. `anchor` is the head of the chain of hashes at a
durable position, and no crash takes it off the chain.

Group commit as LevelDB's `BuildBatchGroup` has it: whoever commits takes all that waits, or as much of it as
a batch should have. `write` puts it in the file, on the loop; the sync of `fd` runs beside the loop, and
`synced` says how far it came. `commit`, `sync` and `next_segment` do all of their work before they come back.

The next segment is preallocated while there is much room in this one (`prepare_segment`): a full disk shows
there. It takes the archive's room then; a log that cannot have it uses up what is left, then the ballast's
room.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from storage import format as fmt
from storage.archive import Archive
from storage.ballast import Ballast
from storage.fs import Fs, SyncFailed, final, is_full
from storage.histogram import Histogram
from storage.log_reader import Batch

SEGMENT_BYTES = 64 << 20
GROUP_BYTES_MAX = 16 << 20  # of a batch that has more than one frame
NEXT_NAME = "next.tmp"  # the segment to come
PREPARED_FROM = 1 / 4  # of a segment in use: from here on the next one should be there
SMALL = 1 / 4  # of a segment: what a log takes that has to make do with the last room there is
GROUP_FRAMES = [1 << n for n in range(12)]  # bounds of what is counted per group
GROUP_BYTES = [256 << 2 * n for n in range(9)]


def segment_name(first: int, epoch: int) -> str:
    return f"{first:016x}-{epoch:08x}.wal"


class Anchor(NamedTuple):
    """What proves the log up to a position, wherever it is kept."""

    position: int
    head: bytes


class Wal:
    def __init__(
        self,
        fs: Fs,
        directory: Path,
        *,
        uuid: bytes,
        epoch: int,
        position: int,
        head: bytes = fmt.CHAIN_START,
        policy: str = "always",
        segment_bytes: int = SEGMENT_BYTES,
        ballast: Ballast,
        archive: Archive,
    ) -> None:
        self._fs = fs
        self._archive = archive
        self._ballast = ballast
        self.directory = directory
        self._uuid = uuid
        self._epoch = epoch
        self._policy = policy
        self._segment_bytes = segment_bytes
        self.appended = position
        self.written = position
        self.durable = position
        self.anchor = Anchor(position, head)
        self._head = head  # of all that was written, but for what is in `_unchained`
        self._unchained: list[tuple[bytes, bytes]] = []
        self._queue: list[bytes] = []
        self._frame: list[bytes] | None = None
        self._fd = -1
        self.offset = 0  # what is used of the segment
        self.prepare_from = 0  # the offset from which on the next segment is wanted and not asked for yet
        self._room = 0
        self._next_fd = -1
        self._next_room = 0
        self._preparing = threading.RLock()
        self._salt = 0
        self._crc = 0
        self.failed = False
        self.group_frames = Histogram(GROUP_FRAMES)  # a frame is what one command wrote, or one MULTI
        self.group_bytes = Histogram(GROUP_BYTES)
        self.segments: list[tuple[int, Path]] = []

    @property
    def pending(self) -> bool:
        return bool(self._queue)

    @property
    def groups(self) -> int:
        return self.group_bytes.count

    @property
    def released(self) -> int:
        """What replies may show: all that is durable; under `everysec` and `no`, all that is written."""
        return self.durable if self._policy == "always" else self.written

    @property
    def disk_bytes(self) -> int:
        """What a reader of the log goes through: a commit of one record takes seven times its own."""
        return (len(self.segments) - 1) * self._segment_bytes + self.offset

    @property
    def fd(self) -> int:
        """The segment's descriptor: a sync of it makes all that is written durable."""
        return self._fd

    def append(self, record: bytes) -> None:
        """Queues one record whose position the caller has already put in: `appended + len(record)`."""
        self.appended += len(record)
        if self._frame is None:
            self._queue.append(record)
        else:
            self._frame.append(record)

    def append_frame(self, records: list[bytes]) -> None:
        """Queues records that a crash keeps all or none of: in the frame that is open, or as one."""
        if self._frame is not None:
            self.appended += sum(map(len, records))
            self._frame += records
        else:
            self.append(records[0] if len(records) == 1 else _as_frame(records))

    def begin(self) -> None:
        """Records from here to `end` are one frame: a crash keeps all of them or none."""
        assert self._frame is None, "frames do not nest"
        self._frame = []

    def end(self) -> None:
        frame, self._frame = self._frame, None
        assert frame is not None
        if not frame:
            return
        self._queue.append(_as_frame(frame))

    # --- to disk --------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether the next batch fits into the segment."""
        return self.offset + fmt.padded(self._group()[1]) <= self._room

    def _group(self) -> tuple[int, int]:
        """The frames that make the next batch, and their bytes. A frame is never split."""
        waiting = self.appended - self.written
        if waiting <= GROUP_BYTES_MAX:
            return len(self._queue), waiting
        count = size = 0
        for frame in self._queue:
            if count and size + len(frame) > GROUP_BYTES_MAX:
                break
            count += 1
            size += len(frame)
        return count, size

    def write(self) -> None:
        """Puts what waits into the file as one batch; there must be room. What is too much for one stays.

        An OSError is final, but for a full disk: what waited waits again (some file systems take room for
        each write, preallocated or not).
        """
        self._refuse_if_failed()
        count, size = self._group()
        assert size <= fmt.BATCH_PAYLOAD_MAX, "nobody could read it"
        payload = b"".join(self._queue[:count])
        try:
            self._write(payload)
        except OSError as error:
            self.failed = not is_full(error)
            raise
        del self._queue[:count]
        self.group_frames.add(count)
        self.group_bytes.add(len(payload))

    def synced(self, position: int) -> None:
        """A sync of `fd` that began when `written` was `position` has succeeded."""
        assert position <= self.written
        if position > self.durable:
            self.durable = position
            if position == self.written:
                self.chain()
                self.anchor = Anchor(position, self._head)

    def chain(self) -> None:
        """Brings the chain of hashes up to `written`. To be called while the disk is busy with the sync."""
        unchained, self._unchained = self._unchained, []
        for batch, payload in unchained:
            self._head = fmt.chained(self._head, batch, payload)

    def sync(self) -> None:
        """Makes all that is written durable. An OSError is final."""
        self._refuse_if_failed()
        position = self.written
        if position > self.durable and self._fd >= 0:
            try:
                with final():
                    self._fs.fdatasync(self._fd)
            except SyncFailed:
                self.failed = True
                raise
            self.synced(position)

    def commit(self) -> int | None:
        """`write` and, under `always`, `sync`. Answers what is released now; None when nothing waited."""
        self._refuse_if_failed()
        if not self._queue:
            return None
        while self._queue:
            if not self.has_room:
                self.next_segment()
            self.write()
        if self._policy == "always":
            self.sync()
        return self.released

    def _refuse_if_failed(self) -> None:
        if self.failed:
            raise OSError(errno.EIO, "the log failed before; what is on disk is not known")

    def _write(self, payload: bytes) -> None:
        batch, crc = fmt.encode_batch(self._salt, self.written, self.durable, _unix_ms(), self._crc, payload)
        self._fs.pwrite(self._fd, batch, self.offset)
        self._crc = crc
        self._unchained.append((batch, payload))
        self.offset += len(batch)
        self.written += len(payload)

    # --- segments -------------------------------------------------------------------------------------

    def prepare_segment(self) -> None:
        """Preallocates the next segment unless it is there. On a full disk nothing is left of it."""
        with self._preparing:
            self._archive.lend(partial(self._prepare, self._segment_bytes))

    def next_segment(self) -> None:
        """A new segment that begins at `written`, with room for the next batch. Blocks.

        The one before is synced first. Records may be appended meanwhile. On a full disk the ballast's room
        is taken; one that is full all the same changes nothing. Any other OSError is final.
        """
        self.sync()
        with self._preparing:
            try:
                self.reserve_segment(fmt.padded(self._group()[1]))
                self.open_segment()
            except OSError as error:
                self.failed = not is_full(error)
                raise

    def reserve_segment(self, batch_bytes: int) -> None:
        """As `prepare_segment`, with room for `batch_bytes` and the last that the disk has."""
        with self._preparing:
            try:
                self._archive.lend(partial(self._prepare, self._segment_bytes, batch_bytes))
            except OSError as error:
                if not is_full(error):
                    raise
                self._ballast.give_up()
                # Not all of it: a checkpoint is what makes room again, and needs some.
                self._prepare(int(self._segment_bytes * SMALL), batch_bytes)

    def _prepare(self, room: int, batch_bytes: int = 0) -> None:
        fs = self._fs
        room = max(room, fmt.SEGMENT_BYTES + batch_bytes)
        if self._next_room >= room:
            return
        path = self.directory / NEXT_NAME
        if self._next_fd < 0:
            self._next_fd = fs.create(path)
        try:
            fs.allocate(self._next_fd, room)
        except OSError as error:
            if is_full(error):
                self.drop_next()
            raise
        self._next_room = room

    def drop_next(self) -> None:
        """The next segment's room is for something else."""
        if self._next_fd >= 0:
            fd, self._next_fd, self._next_room = self._next_fd, -1, 0
            self._fs.close(fd)
            self._fs.unlink(self.directory / NEXT_NAME)

    def open_segment(self, carried: Sequence[Batch] = ()) -> None:
        """Goes on in the segment that was reserved. At a start it carries the batches of doubtful durability.

        They are in it before it has its name: a crash must not find it empty in place of the old one. All but
        their checksums is as it was, so that the chain's heads are, too.
        """
        fs, fd, first = self._fs, self._next_fd, self.written
        path = self.directory / segment_name(first, self._epoch)
        salt = int.from_bytes(os.urandom(8), "little")
        self.chain()
        fs.pwrite(fd, fmt.encode_segment(self._uuid, self._epoch, salt, first, self._head), 0)
        offset, crc, position = fmt.SEGMENT_BYTES, 0, first
        for old in carried:
            assert old.first == position == old.header.first, "batches are carried whole"
            durable, unix_ms, payload = old.header.durable, old.header.unix_ms, old.payload
            batch, crc = fmt.encode_batch(salt, position, durable, unix_ms, crc, payload)
            fs.pwrite(fd, batch, offset)
            self._unchained.append((batch, payload))
            offset += len(batch)
            position += len(payload)
        fs.fsync(fd)
        fs.rename(self.directory / NEXT_NAME, path)
        fs.fsync_directory(self.directory)
        if not self.segments or self.segments[-1][0] != first:
            self.segments.append((first, path))  # else it has come in place of one too small for any batch
        before, self._fd, self._next_fd = self._fd, fd, -1
        self._room, self._next_room = self._next_room, 0
        self.prepare_from = int(self._room * PREPARED_FROM)
        self.offset, self._salt, self._crc = offset, salt, crc
        self.appended += position - first
        self.written = position
        self.synced(position)
        if before >= 0:
            with final():  # it cannot be done again
                fs.close(before)

    def drop_before(self, position: int) -> None:
        """Lets go of segments that hold nothing at or above `position`: they are history."""
        while len(self.segments) > 1 and self.segments[1][0] <= position:
            _, path = self.segments[0]
            self._archive.take(path)
            del self.segments[0]

    def close(self, *, give_back: bool = False) -> None:
        """`give_back`: the room that was preallocated and not used, too, for whoever starts next."""
        fd, self._fd = self._fd, -1
        try:
            self.drop_next()
            if give_back:
                self._fs.truncate(fd, self.offset)
        finally:
            if fd >= 0:
                self._fs.close(fd)


def _unix_ms() -> int:
    return time.time_ns() // 1_000_000


def _as_frame(records: list[bytes]) -> bytes:
    """The mark is advisory (a batch is never split); it lets a reader see what came as one."""
    return b"".join((*(_continued(record) for record in records[:-1]), records[-1]))


def _continued(record: bytes) -> bytes:
    return record[:5] + bytes((record[5] | fmt.FRAME_CONTINUES,)) + record[6:]
