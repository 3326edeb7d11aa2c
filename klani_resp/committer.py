"""Group commit beside the loop: what was appended is written as one batch, and synced elsewhere.

Invariants:
1. One write, sync or change of segment is under way, never two; what is appended meanwhile waits.
2. What replies may show (`Wal.released`) rises only here: with the sync under `always`, else with the write.
3. After an OSError nothing is committed any more. It comes out of the call that met it.
4. A full disk is the exception: what waits is committed after `resume`, in its order; syncs go on.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from storage.fs import SyncFailed, final, is_full
from storage.histogram import Histogram
from storage.syncer import Syncer
from storage.wal import Wal

# Bounds of what is counted per sync: 50 us to 25 s.
SYNC_NS = [step * 10**power for power in range(4, 10) for step in (5, 10, 25)]


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
    """All calls are made on the loop, and none of them waits, but for `stop`."""

    def __init__(
        self,
        wal: Wal,
        syncer: Syncer,
        *,
        always: bool,
        roll: Callable[[], None],
        prepare: Callable[[], None],
    ) -> None:
        """`roll` starts `wal.next_segment` somewhere, whose end `rolled` or `stalled` is to be told.

        `prepare` starts `wal.prepare_segment`.
        """
        self._wal = wal
        self._syncer = syncer
        self._always = always
        self._roll = roll
        self._prepare = prepare
        self._is_rolling = False
        self.is_stalled = False  # what waits is waiting for room on the disk
        self._is_stopped = False
        self._syncing: int | None = None  # what the sync under way makes durable
        self._is_sync_wanted = False
        self._began_ns = 0
        self.syncs = Histogram(SYNC_NS)  # from their start until the loop has seen their end
        self.on_sync: Callable[[int], None] = lambda ns: None  # told how long each took
        syncer.watch(wal.fd)

    @property
    def fd(self) -> int:
        """Readable when `sync_ended` is to be called."""
        return self._syncer.fd

    def wake(self) -> None:
        """Something may be pending: once per turn."""
        if self._syncing is not None or self._is_rolling or self._is_stopped:
            return
        wal = self._wal
        while wal.pending and not self.is_stalled:
            if not wal.has_room:
                self._is_rolling = True
                self._roll()
                return
            try:
                wal.write()
            except OSError as error:
                self.is_stalled = is_full(error)
                raise
            if wal.offset >= wal.prepare_from:
                wal.prepare_from = sys.maxsize
                self._prepare()
        if (self._always or self._is_sync_wanted) and wal.written > wal.durable:
            self._is_sync_wanted = False
            self._syncing = wal.written
            self._began_ns = time.perf_counter_ns()
            self._syncer.start()
        wal.chain()  # while the disk has something to do

    def sync_ended(self) -> None:
        """`fd` is readable. What waits since is for the next `wake`, which comes with a turn's records."""
        self._end_sync()
        if self._is_sync_wanted:
            self.wake()

    def _end_sync(self) -> None:
        position, self._syncing = self._syncing, None
        try:
            with final():
                self._syncer.finish()
        except SyncFailed:
            self._wal.failed = True
            raise
        assert position is not None, "no sync is under way"
        self._wal.synced(position)
        ns = time.perf_counter_ns() - self._began_ns
        self.syncs.add(ns)
        self.on_sync(ns)

    def rolled(self) -> None:
        """The log has its next segment."""
        self._is_rolling = False
        if not self._is_stopped:
            self._syncer.watch(self._wal.fd)
            self.wake()

    def stalled(self) -> None:
        """The log has no next segment: the disk is full."""
        self._is_rolling = False
        self.is_stalled = True

    def resume(self) -> None:
        """There may be room."""
        self.is_stalled = False
        self.wake()

    def make_durable(self) -> None:
        """All that was appended by now is synced soon, whatever the policy."""
        self._is_sync_wanted = True
        self.wake()

    def stop(self) -> None:
        """Nothing more is written. The sync that is under way is waited for, never abandoned."""
        self._is_stopped = True
        with suppress(OSError):  # whoever needs what it was for finds that out
            if self._syncing is not None:
                self._end_sync()
        self._syncer.close()


class InlineCommitter:
    """Commits in the same step: for tests on a disk of their own."""

    def __init__(self, wal: Wal, release: Callable[[int], None]) -> None:
        self._wal = wal
        self._release = release
        self.syncs = Histogram(SYNC_NS)  # none is beside the loop

    def wake(self) -> None:
        wal = self._wal
        position = wal.commit()
        if position is not None:
            self._release(position)
        if wal.offset >= wal.prepare_from:
            wal.prepare_from = sys.maxsize
            wal.prepare_segment()

    def make_durable(self) -> None:
        self.wake()
        self._wal.sync()
