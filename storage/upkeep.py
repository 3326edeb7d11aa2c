"""What whoever runs the store does with it beside commands: checkpoints, room on the disk, the end.

A full disk is a state, not an end: `readonly_reason` is set, and new writes are refused with it. What was
accepted is still committed, into the segment in use, then into the ballast's room. `make_room` is tried again
until it succeeds. Before any of that the archive lets go of history, oldest first, as far as room is wanted.
"""

from __future__ import annotations

import os
import time
from collections import deque
from functools import partial
from pathlib import Path

from storage.archive import Archive
from storage.ballast import Ballast
from storage.checkpoint import Checkpoint
from storage.fs import Fs, met_full_disk
from storage.manifest import Manifest
from storage.selling import Selling
from storage.table import Table
from storage.wal import Wal

PROBE_NAME = "room.tmp"


class Upkeep:
    """The part of an Engine that commands do not call; on the loop, but for what says that it blocks."""

    tables: dict[bytes, Table]
    selling: Selling
    released: int
    tokens_reserved: int
    next_table: int
    catalog_position: int

    def __init__(
        self, fs: Fs, directory: Path, manifest: Manifest, wal: Wal, ballast: Ballast, archive: Archive
    ) -> None:
        self.fs = fs
        self.directory = directory
        self.manifest = manifest
        self.wal = wal
        self.ballast = ballast
        self.archive = archive
        self.checkpoint_position = manifest.position
        self.checkpoints = 0
        self.checkpoint_made = time.time()  # wall clock; a directory that has none yet begins now
        self.checkpoint_began = 0.0  # monotonic, of the last one, as is `checkpoint_seconds`
        self.checkpoint_seconds = -1.0
        if manifest.index_file:  # written by checkpoints only, CHECKPOINT itself by a start, too
            self.checkpoint_made = fs.modified(directory / manifest.index_file)
        self.readonly_reason: str | None = None  # what new writes are answered while the disk is full
        self.is_checkpoint_missed = False  # the last one found no room
        self.is_placing = False  # blocks of the double-write file may be half in their places
        self._cut: Checkpoint | None = None
        self.lock_fd = -1

    # --- checkpoints ----------------------------------------------------------------------------------

    def begin_checkpoint(self) -> Checkpoint:
        """Fixes the cut here. The caller runs `write` beside the loop, then ends it or gives it up."""
        self._cut = Checkpoint(self)
        self.checkpoint_began = time.monotonic()
        return self._cut

    @property
    def is_checkpoint_running(self) -> bool:
        return self._cut is not None

    def end_checkpoint(self, checkpoint: Checkpoint) -> None:
        checkpoint.finish()
        self._cut = None
        self.checkpoint_position = checkpoint.position
        self.manifest = checkpoint.manifest
        self.checkpoints += 1
        self.checkpoint_made = time.time()
        self.checkpoint_seconds = time.monotonic() - self.checkpoint_began
        self.is_checkpoint_missed = False
        for table in self.tables.values():
            table.index.drop_empty(self.released)

    def miss_checkpoint(self, checkpoint: Checkpoint, error: OSError) -> None:
        """It met a full disk: a later one does its work."""
        checkpoint.finish(is_written=False)
        self._cut = None
        self.is_checkpoint_missed = True
        self.disk_full(error)

    @property
    def is_checkpoint_helpful(self) -> bool:
        """Whether a checkpoint would free a segment of the log: worth the ballast's room."""
        return len(self.wal.segments) > 1 and self.wal.appended > self.checkpoint_position

    @property
    def can_give_room(self) -> bool:
        """Whether `give_room_to` a checkpoint may help."""
        return self.is_checkpoint_helpful or self.archive.statistics().segments > 0

    def give_room_to(self, checkpoint: Checkpoint, *, with_ballast: bool) -> bool:
        """Blocks. The archive's first; the ballast goes only if that is enough: a start may need it more."""
        probe = partial(self._probe, checkpoint.room_bytes())
        if met_full_disk(partial(self.archive.lend, probe)) is None:
            return True
        if not with_ballast or not self.ballast.give_up():
            return False
        error = met_full_disk(probe)
        if error is not None:
            self.ballast.try_to_make()
        return error is None

    def _probe(self, room_bytes: int) -> None:
        """A full disk's OSError if there is not so much room."""
        path = self.directory / PROBE_NAME
        fd = self.fs.create(path)
        try:
            self.fs.allocate(fd, room_bytes)
        finally:
            self.fs.close(fd)
            self.fs.unlink(path)

    # --- room -----------------------------------------------------------------------------------------

    def disk_full(self, error: OSError) -> None:
        """No new writes from here on, until `room_is_back`."""
        if self.readonly_reason is None:
            self.readonly_reason = (
                f"MISCONF Errors writing to the log: {os.strerror(error.errno or 0)}. "
                "Commands that may modify the data set are disabled until there is room on the disk."
            )

    def make_room(self) -> None:
        """The next segment, then the ballast. Blocks; an OSError when the disk is full still."""
        self.wal.prepare_segment()
        self.archive.lend(self.ballast.make)

    def give_room_to_log(self) -> None:
        """Blocks. What was accepted waits for room: history's, else the ballast's."""
        if not self.archive.give_up_oldest():
            self.ballast.give_up()

    def room_is_back(self) -> None:
        self.readonly_reason = None

    # --- the end --------------------------------------------------------------------------------------

    def close(self, *, with_checkpoint: bool = True) -> str:
        """A clean end: all that was appended is made durable, a last checkpoint names it, the lock goes.

        A full disk may leave the last checkpoint out; answers what is to be said of that. Without one the
        next start reads the log.
        """
        if self._cut is not None:  # its writer was called off before it began
            self._cut.finish(is_written=False)
        self.wal.commit()
        self.wal.sync()
        warning = ""
        if with_checkpoint and self.wal.appended > self.checkpoint_position:
            error = self._last_checkpoint(with_ballast=False)
            if error is not None:
                met_full_disk(self.wal.drop_next)
                error = self._last_checkpoint(with_ballast=True)
            if error is not None:
                warning = f"no room for the last checkpoint ({error}): the next start reads the log instead"
        met_full_disk(partial(self.wal.close, give_back=self.readonly_reason is not None))
        self.ballast.try_to_make()
        met_full_disk(partial(self.fs.close, self.lock_fd))
        return warning

    def _last_checkpoint(self, with_ballast: bool) -> OSError | None:
        """What kept it from its end, if the disk is full."""
        checkpoint = self.begin_checkpoint()
        if with_ballast:
            met_full_disk(partial(self.give_room_to, checkpoint, with_ballast=True))
        # Without the pauses of `write`: nobody else wants the interpreter.
        error = met_full_disk(lambda: deque(checkpoint.steps(), maxlen=0))
        if error is not None:
            self.miss_checkpoint(checkpoint, error)
        else:
            self.end_checkpoint(checkpoint)
        return error
