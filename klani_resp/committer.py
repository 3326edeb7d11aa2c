"""Group commit beside the loop: one thread writes and syncs what was appended, and tells how far it came.

Invariants:
1. One thread, one commit under way. It is never abandoned: `stop` lets it finish all that is pending.
2. `released` never falls, and rises only after `commit` came back for that position.
3. After an OSError nothing is committed any more; `failure` says what it was.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

SYNC_SECONDS = 1.0  # everysec


class Log(Protocol):
    """The part of storage.wal.Wal that runs in this thread, and `pending`, which the loop looks at too."""

    @property
    def pending(self) -> bool: ...
    def commit(self) -> int | None: ...
    def sync(self) -> None: ...


class Doorbell:
    """A descriptor that is readable once another thread rings: an eventfd, or a pipe where there is none."""

    def __init__(self) -> None:
        self._is_eventfd = hasattr(os, "eventfd")
        if self._is_eventfd:
            self.fd = self._write_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            self.fd, self._write_fd = os.pipe()
            os.set_blocking(self.fd, False)
            os.set_blocking(self._write_fd, False)

    def ring(self) -> None:
        with suppress(BlockingIOError):  # a full pipe is readable already
            os.write(self._write_fd, (1).to_bytes(8, "little"))

    def silence(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.fd, 4096)

    def close(self) -> None:
        os.close(self.fd)
        if self._write_fd != self.fd:
            os.close(self._write_fd)


class Committer:
    def __init__(self, log: Log, *, everysec: bool, ring: Callable[[], None]) -> None:
        self._log = log
        self._everysec = everysec
        self._ring = ring
        self._wake = threading.Lock()  # held while there is nothing to do: a semaphore that counts to one
        self._wake.acquire()
        self._stopping = False
        self.released = 0
        self.commits = 0
        self.failure: OSError | None = None

    def wake(self) -> None:
        """There is something pending. Called on the loop only, once per turn."""
        if self._wake.locked():
            self._wake.release()

    def stop(self) -> None:
        """`run` comes back when all that is pending has been committed. Called on the loop only."""
        self._stopping = True
        self.wake()

    def run(self) -> None:
        """The thread's work, until `stop` or a failure."""
        try:
            self._run()
        except OSError as error:
            self.failure = error
            self._ring()

    def _run(self) -> None:
        log = self._log
        synced_at = time.monotonic()
        while True:
            self._wake.acquire(timeout=SYNC_SECONDS if self._everysec else -1)
            while log.pending:
                position = log.commit()
                if position is not None:
                    self.released = position
                    self.commits += 1
                    self._ring()
                if self._everysec and time.monotonic() - synced_at >= SYNC_SECONDS:
                    log.sync()
                    synced_at = time.monotonic()
            if self._everysec and time.monotonic() - synced_at >= SYNC_SECONDS:
                log.sync()
                synced_at = time.monotonic()
            if self._stopping:
                return


class InlineCommitter:
    """Commits in the same step, without a thread: for tests on a disk of their own."""

    def __init__(self, log: Log, release: Callable[[int], None]) -> None:
        self._log = log
        self._release = release

    def wake(self) -> None:
        position = self._log.commit()
        if position is not None:
            self._release(position)
