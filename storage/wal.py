"""The write-ahead log: records are appended in memory, and go to disk group by group.

Invariants: 1. `durable` <= `written` <= `appended`, and none ever falls. 2. A batch starts on a 512-byte
boundary: a write never touches a sector with durable bytes. 3. `durable` rises only after the sync of the
bytes below it succeeded. 4. After a failed write or sync nothing is written any more: `failed` is set and
every later call raises.

Group commit as LevelDB's `BuildBatchGroup` has it: whoever commits takes all that waits. `write` puts it in
the file, on the loop; the sync of `fd` runs beside the loop, and `synced` says how far it came.
`commit`, `sync` and `next_segment` do all of their work before they come back.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from pathlib import Path

from storage import format as fmt
from storage.fs import Fs

SEGMENT_BYTES = 64 << 20


def segment_name(first: int, epoch: int) -> str:
    return f"{first:016x}-{epoch:08x}.wal"


class Wal:
    def __init__(
        self,
        fs: Fs,
        directory: Path,
        *,
        uuid: bytes,
        epoch: int,
        position: int,
        policy: str = "always",
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        self._fs = fs
        self.directory = directory
        self._uuid = uuid
        self._epoch = epoch
        self._policy = policy
        self._segment_bytes = segment_bytes
        self.appended = position
        self.written = position
        self.durable = position
        self._queue: list[bytes] = []
        self._frame: list[bytes] | None = None
        self._fd = -1
        self._offset = 0
        self._room = 0
        self._salt = 0
        self._crc = 0
        self.failed = False
        self.groups = 0
        self.segments: list[tuple[int, Path]] = []

    @property
    def pending(self) -> bool:
        return bool(self._queue)

    @property
    def released(self) -> int:
        """What replies may show: all that is durable; under `everysec` and `no`, all that is written."""
        return self.durable if self._policy == "always" else self.written

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

    def begin(self) -> None:
        """Records from here to `end` are one frame: a crash keeps all of them or none."""
        assert self._frame is None, "frames do not nest"
        self._frame = []

    def end(self) -> None:
        frame, self._frame = self._frame, None
        assert frame is not None
        if not frame:
            return
        # The mark is advisory (a batch is never split); it lets a reader see what came as one.
        marked = [_continued(record) for record in frame[:-1]]
        self._queue.append(b"".join((*marked, frame[-1])))

    # --- to disk --------------------------------------------------------------------------------------

    @property
    def has_room(self) -> bool:
        """Whether all that waits fits into the segment."""
        return self._offset + fmt.padded(self.appended - self.written) <= self._room

    def write(self) -> None:
        """Puts all that waits into the file as one batch; there must be room. An OSError is final."""
        self._refuse_if_failed()
        queue, self._queue = self._queue, []
        try:
            self._write(b"".join(queue))
        except OSError:
            self.failed = True
            raise
        self.groups += 1

    def synced(self, position: int) -> None:
        """A sync of `fd` that began when `written` was `position` has succeeded."""
        assert position <= self.written
        if position > self.durable:
            self.durable = position

    def sync(self) -> None:
        """Makes all that is written durable. An OSError is final."""
        self._refuse_if_failed()
        position = self.written
        if position > self.durable and self._fd >= 0:
            try:
                self._fs.fdatasync(self._fd)
            except OSError:
                self.failed = True
                raise
            self.synced(position)

    def commit(self) -> int | None:
        """`write` and, under `always`, `sync`. Answers what is released now; None when nothing waited."""
        self._refuse_if_failed()
        if not self._queue:
            return None
        if not self.has_room:
            self.next_segment()
        self.write()
        if self._policy == "always":
            self.sync()
        return self.released

    def next_segment(self) -> None:
        """A new preallocated segment that begins at `written`, with room for all that waits. Blocks.

        The one before is synced first. Records may be appended meanwhile.
        """
        self.sync()
        waiting = self.appended - self.written
        try:
            if self._fd >= 0:
                fd, self._fd = self._fd, -1
                self._fs.close(fd)
            self.open_segment(fmt.padded(waiting))
        except OSError:
            self.failed = True
            raise

    def _refuse_if_failed(self) -> None:
        if self.failed:
            raise OSError(errno.EIO, "the log failed before; what is on disk is not known")

    def _write(self, payload: bytes) -> None:
        batch, self._crc = fmt.encode_batch(
            self._salt, self.written, self.durable, time.time_ns() // 1_000_000, self._crc, payload
        )
        self._fs.pwrite(self._fd, batch, self._offset)
        self._offset += len(batch)
        self.written += len(payload)

    def open_segment(self, batch_bytes: int = 0, carried: Sequence[bytes] = ()) -> None:
        """A segment with room for `batch_bytes`. At a start it carries the records of doubtful durability.

        They are in it before it has its name: a crash must not find it empty in place of the old one.
        """
        fs = self._fs
        room = max(self._segment_bytes, fmt.SEGMENT_BYTES + batch_bytes)
        first = self.written
        path = self.directory / segment_name(first, self._epoch)
        temporary = path.with_suffix(".tmp")
        fd = fs.create(temporary)
        fs.allocate(fd, room)
        self._salt = int.from_bytes(os.urandom(8), "little")
        fs.pwrite(fd, fmt.encode_segment(self._uuid, self._epoch, self._salt, first), 0)
        self._fd = fd
        self._offset = fmt.SEGMENT_BYTES
        self._room = room
        self._crc = 0
        for payload in carried:
            self.appended += len(payload)
            self._write(payload)
        fs.fsync(fd)
        fs.rename(temporary, path)
        fs.fsync_directory(self.directory)
        self.durable = self.written
        if (first, path) not in self.segments:  # else one that was too small: this has taken its name
            self.segments.append((first, path))

    def drop_before(self, position: int) -> None:
        """Removes segments that hold nothing at or above `position`."""
        while len(self.segments) > 1 and self.segments[1][0] <= position:
            _, path = self.segments[0]
            self._fs.unlink(path)
            del self.segments[0]
            self._fs.fsync_directory(self.directory)

    def close(self) -> None:
        if self._fd >= 0:
            self._fs.close(self._fd)
            self._fd = -1


def _continued(record: bytes) -> bytes:
    return record[:5] + bytes((record[5] | fmt.FRAME_CONTINUES,)) + record[6:]
