"""Room kept back on the disk: a preallocated file that holds nothing and goes when the disk is full.

Who gives it up: the log, when it needs a segment for what was accepted already; a checkpoint that frees more
than it takes; a clean stop; a start. It is made again when there is room. Until then no new writes are taken.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from storage.fs import Fs, is_full, met_full_disk

NAME = "ballast"


class Ballast:
    """Any thread may call it. With 0 bytes there is none, and it never lacks."""

    def __init__(self, fs: Fs, directory: Path, size: int) -> None:
        self._fs = fs
        self._path = directory / NAME
        self._bytes = size
        self._lock = threading.Lock()
        self._is_there = False

    @property
    def is_whole(self) -> bool:
        return self._is_there or not self._bytes

    def make(self) -> None:
        """A full disk is an OSError, and leaves nothing of it. May be called when it is there."""
        with self._lock:
            if self._is_there:
                return
            if not self._bytes:
                self._remove()
                return
            fs = self._fs
            fd = fs.open(self._path)
            try:
                if fs.size(fd) > self._bytes:
                    fs.truncate(fd, self._bytes)
                fs.allocate(fd, self._bytes)  # the size alone says nothing: a copy may have holes
                fs.fsync(fd)
            except OSError as error:
                if is_full(error):
                    self._remove()
                raise
            finally:
                fs.close(fd)
            fs.fsync_directory(self._path.parent)
            self._is_there = True

    def try_to_make(self) -> OSError | None:
        """What the full disk said, if it is."""
        return met_full_disk(self.make)

    def give_up(self) -> bool:
        """Whether there was one; its room is free now."""
        with self._lock:
            self._is_there = False
            return self._remove()

    def lend(self, action: Callable[[], None]) -> None:
        """Does it; once more with the ballast's room when the disk is full."""
        error = met_full_disk(action)
        if error is None:
            return
        if not self.give_up():
            raise error
        action()

    def _remove(self) -> bool:
        if not self._fs.exists(self._path):
            return False
        self._fs.unlink(self._path)
        return True
