"""Segments that the log let go of: kept for history and audit, and never needed for a start.

Invariants: 1. What is kept is the log's own beginning: the oldest goes first, and is gone for good before the
next one goes, so no segment is missing in between. 2. Whoever needs room gets it from here first. 3. No clock
decides over the newest: by age at most AGED_MAX segments go for each that comes, and never the last one.

A segment's age is that of what came behind it, by the wall clock in the batches. A clock that is wrong for a
while so lets go of the oldest a little early; one that was ahead once is set right by what came later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from storage import format as fmt
from storage.fs import Fs, is_full, met_full_disk
from storage.log_reader import is_segment

NAME = "archive"
AGED_MAX = 2
DAY_MS = 86_400_000
_STEP_BYTES = 64 << 10
# A batch may end with zeros of its own: a record is shorter than this and does not begin with them.
_ZEROS_KEPT = 2 * fmt.BLOCK_BYTES


@dataclass(frozen=True, slots=True)
class Statistics:
    segments: int = 0
    bytes: int = 0
    first: int | None = None  # the position from which on history is here


@dataclass(frozen=True, slots=True)
class _Kept:
    size: int
    began_ms: int | None  # what its first batch says; None where that cannot be read


class Archive:
    """Any thread may call it."""

    def __init__(self, fs: Fs, directory: Path, *, keep_days: float, bytes_max: int) -> None:
        """With `bytes_max` 0 nothing is kept."""
        self._fs = fs
        self.directory = directory / NAME
        self._keep_ms = int(keep_days * DAY_MS)
        self._bytes_max = bytes_max
        self._lock = threading.Lock()
        self._kept: dict[str, _Kept] = {}  # by name, which is the order of the log
        self._statistics = Statistics()

    def limit(self, *, keep_days: float, bytes_max: int) -> None:
        """Other limits from here on; what is above them goes with the next segment that comes."""
        self._keep_ms = int(keep_days * DAY_MS)
        self._bytes_max = bytes_max

    def statistics(self) -> Statistics:
        return self._statistics

    def load(self) -> None:
        """Finds what earlier lives have kept. Changes nothing."""
        fs = self._fs
        if fs.exists(self.directory):
            names = sorted(name for name in fs.names(self.directory) if is_segment(name))
            self._kept = {name: self._look_at(self.directory / name) for name in names}
        self._note()

    def sweep(self) -> None:
        """At a start: files that never came to their names, and what the settings no longer allow."""
        fs = self._fs
        if not fs.exists(self.directory):
            return
        stale = [name for name in fs.names(self.directory) if name.endswith(".tmp")]
        for name in stale:
            fs.unlink(self.directory / name)
        if stale:
            fs.fsync_directory(self.directory)
        with self._lock:
            self._prune(aged_max=0)

    def take(self, path: Path) -> None:
        """Moves a segment here that the log needs no more. Where there is no room for it, it goes."""
        with self._lock:
            while self._bytes_max:
                if met_full_disk(partial(self._move, path)) is None:
                    self._prune(AGED_MAX)
                    return
                if not self._drop_oldest():
                    break
            while self._drop_oldest():  # what came before it: none is missing in between
                pass
            self._fs.unlink(path)
            self._fs.fsync_directory(path.parent)

    def give_up_oldest(self) -> bool:
        """Whether there was one; its room is free now."""
        with self._lock:
            return self._drop_oldest()

    def lend(self, action: Callable[[], None]) -> None:
        """Does it; as long as the disk is full, again, with the room of one segment more."""
        while True:
            try:
                return action()
            except OSError as error:
                if not is_full(error) or not self.give_up_oldest():
                    raise

    # --- one segment ----------------------------------------------------------------------------------

    def _move(self, path: Path) -> None:
        fs, target = self._fs, self.directory / path.name
        fs.make_directory(self.directory)
        if fs.exists(target):  # a crash kept the new name and brought back the old one
            fs.unlink(path)
        else:
            self._cut(path)
            fs.rename(path, target)
        fs.fsync_directory(self.directory)  # first: it must have a name in any case
        fs.fsync_directory(path.parent)
        self._kept[path.name] = self._look_at(target)
        self._note()

    def _cut(self, path: Path) -> None:
        """Gives back the room that was preallocated and never used."""
        fs = self._fs
        try:
            used, size = self._used(path)
        except OSError:
            return  # a store can do without it
        if used < size:
            fd = fs.open(path)
            try:
                fs.truncate(fd, used)
                fs.fsync(fd)
            finally:
                fs.close(fd)

    def _used(self, path: Path) -> tuple[int, int]:
        """About how much of the file is not zeros at its end, and its size."""
        fs = self._fs
        fd = fs.open_readonly(path)
        try:
            size = end = fs.size(fd)
            while end > 0:
                begin = max(0, end - _STEP_BYTES)
                rest = fs.pread(fd, end - begin, begin).rstrip(b"\0")
                end = begin + len(rest)
                if rest:
                    break
        finally:
            fs.close(fd)
        return min(size, end + _ZEROS_KEPT), size

    def _look_at(self, path: Path) -> _Kept:
        fs = self._fs
        try:
            fd = fs.open_readonly(path)
            try:
                head = fs.pread(fd, fmt.BATCH.size, fmt.SEGMENT_BYTES)
                size = fs.size(fd)
            finally:
                fs.close(fd)
        except OSError:
            return _Kept(0, None)  # a store can do without it
        if len(head) < fmt.BATCH.size:
            return _Kept(size, None)
        magic, *_, unix_ms, _, _ = fmt.BATCH.unpack(head)
        return _Kept(size, unix_ms if magic == fmt.BATCH_MAGIC else None)

    # --- letting go -----------------------------------------------------------------------------------

    def _prune(self, aged_max: int) -> None:
        while self._kept and sum(kept.size for kept in self._kept.values()) > self._bytes_max:
            self._drop_oldest()
        for _ in range(aged_max):
            began = [kept.began_ms for kept in list(self._kept.values())[1:] if kept.began_ms is not None]
            if not began or min(began) >= time.time_ns() // 1_000_000 - self._keep_ms:
                break
            self._drop_oldest()

    def _drop_oldest(self) -> bool:
        if not self._kept:
            return False
        name = min(self._kept)
        self._fs.unlink(self.directory / name)
        self._fs.fsync_directory(self.directory)
        del self._kept[name]
        self._note()
        return True

    def _note(self) -> None:
        first = int(min(self._kept).partition("-")[0], 16) if self._kept else None
        self._statistics = Statistics(len(self._kept), sum(kept.size for kept in self._kept.values()), first)
