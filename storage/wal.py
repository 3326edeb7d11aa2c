"""The write-ahead log: records are appended in memory, and go to disk group by group.

Invariants: 1. `durable` <= `written` <= `appended`, and none ever falls. 2. A batch starts on a 512-byte
boundary: a write never touches a sector with durable bytes. 3. `durable` rises only after the sync of the
bytes below it succeeded. 4. After a failed write or sync nothing is written any more: `failed` is set and
every later call raises.

Group commit as LevelDB's `BuildBatchGroup` has it: whoever commits takes all that waits. `append` runs on
the loop, `commit` and `sync` in one thread beside it; the hand-over is a deque, whose ends are safe to use
at once.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections import deque
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
        self._queue: deque[bytes] = deque()
        self._frame: list[bytes] | None = None
        self._fd = -1
        self._offset = 0
        self._room = 0
        self._salt = 0
        self._crc = 0
        self._io = threading.RLock()  # a checkpoint's thread may ask for a sync beside the committer's
        self.failed = False
        self.groups = 0
        self.sync_ns = 0
        self.segments: list[tuple[int, Path]] = []

    @property
    def pending(self) -> bool:
        return bool(self._queue)

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

    def commit(self) -> int | None:
        """Writes all that waits as one batch and syncs it as the policy says. Blocks; one caller at a time.

        Answers the position that replies may show now, or None when nothing waited. An OSError is final.
        """
        with self._io:
            self._refuse_if_failed()
            queue = self._queue
            if not queue:
                return None
            try:
                position = self._write(b"".join([queue.popleft() for _ in range(len(queue))]))
                if self._policy == "always":
                    started = time.perf_counter_ns()
                    self.sync()
                    self.sync_ns += time.perf_counter_ns() - started
            except OSError:
                self.failed = True
                raise
            self.groups += 1
            return position

    def sync(self) -> None:
        """Makes all that is written durable; `everysec`, checkpoints and a clean stop call it themselves."""
        with self._io:
            self._refuse_if_failed()
            position = self.written
            if position > self.durable and self._fd >= 0:
                try:
                    self._fs.fdatasync(self._fd)
                except OSError:
                    self.failed = True
                    raise
                self.durable = position

    def _refuse_if_failed(self) -> None:
        if self.failed:
            raise OSError(errno.EIO, "the log failed before; what is on disk is not known")

    def _write(self, payload: bytes) -> int:
        size = fmt.padded(len(payload))
        if self._offset + size > self._room:
            self._next_segment(size)
        batch, self._crc = fmt.encode_batch(
            self._salt, self.written, self.durable, time.time_ns() // 1_000_000, self._crc, payload
        )
        self._fs.pwrite(self._fd, batch, self._offset)
        self._offset += size
        self.written += len(payload)
        return self.written

    def _next_segment(self, batch_bytes: int) -> None:
        """A new preallocated segment that begins at `written`. The one before is synced first."""
        self.sync()
        if self._fd >= 0:
            self._fs.close(self._fd)
            self._fd = -1
        self.open_segment(batch_bytes)

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
