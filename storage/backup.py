"""KL.BACKUP: a copy of the store at one log position, made while it serves.

A checkpoint at P is made and its files are copied before another one may change them (the job is exclusive).
What the log has behind P is left out: the copy's log is an empty segment that begins at P. The copy comes to
be under a name that no backup can have, is read back and checked, and gets its name last: so whatever bears
a backup's name is whole, and on disk.

It is a store of its own, with a uuid of its own: a segment of the original is refused there, though its
positions fit, and its chain of hashes begins anew. Its tokens go on a leap above those set aside so far, so
that what it gives out later is above what the original gave out after the backup (docs/fault-model.md says
how far that reaches). The archive of old log segments is not copied.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from storage import format as fmt
from storage import row_file
from storage.check_process import troubles_of
from storage.errors import StoreError
from storage.fs import Fs, write_file_durably
from storage.manifest import Manifest
from storage.wal import segment_name

if TYPE_CHECKING:
    from storage.engine import Engine

TOKENS_LEAP = 1 << 42  # a year and more at 100,000 tokens a second; 2,047 backups of backups have room
NAME_BYTES_MAX = 200
_STEP_BYTES = 128 << 10
_NOTHING = bytes(_STEP_BYTES)
_SYNC_BYTES = 4 << 20  # the log's syncs must not wait behind hundreds of MB of ours


class BackupError(StoreError):
    """There is no backup; the store itself is well."""


def backup_name(text: bytes) -> str:
    """The name as a file system takes it, or BackupError."""
    shown = text[:NAME_BYTES_MAX].decode("utf-8", "backslashreplace")
    name = text.decode("utf-8", "replace")
    if (
        not name.isprintable()
        or "\ufffd" in name
        or not 1 <= len(text) <= NAME_BYTES_MAX
        or "/" in name
        or name[0] == "."
    ):
        raise BackupError(f"ERR invalid backup name '{shown}'")
    return name


class Backup:
    """One KL.BACKUP: `start` and `finish` on the loop, `run` beside it once `position` is durable."""

    def __init__(self, engine: Engine, folder: Path, name: str) -> None:
        self._engine = engine
        self._fs = engine.fs
        self._folder = folder
        self._path = folder / name
        self._unfinished = folder / f".{engine.manifest.uuid}.unfinished"
        self.position = 0

    def start(self) -> None:
        """Fixes P: the cut of a checkpoint."""
        if self._folder.resolve().is_relative_to(self._engine.directory.resolve()):
            raise BackupError(f"ERR the backup directory '{self._folder}' lies in the data directory")
        self._refuse_existing()
        self._checkpoint = self._engine.begin_checkpoint()
        self.position = self._checkpoint.position

    def _refuse_existing(self) -> None:
        if self._fs.exists(self._path):
            raise BackupError(f"EXISTS backup '{self._path.name}' exists")

    def run(self) -> Path | BackupError:
        """The path, or why there is none; the checkpoint that was begun is made in either case."""
        self._checkpoint.write()
        try:
            self._copy()
        except BackupError as error:
            outcome: Path | BackupError = error
        except OSError as error:
            outcome = BackupError(f"ERR KL.BACKUP failed: {error}")
        else:
            return self._path
        self._discard()
        return outcome

    def finish(self, outcome: Path | BackupError) -> str:
        self._engine.end_checkpoint(self._checkpoint)
        if isinstance(outcome, BackupError):
            raise outcome
        return str(outcome.absolute())

    def _copy(self) -> None:
        fs, target = self._fs, self._unfinished
        fs.make_directory(self._folder)
        self._clear()  # what a crash left
        for folder in (target, target / "tables", target / "wal"):
            fs.make_directory(folder)
        manifest = self._manifest()
        self._copy_files(manifest)
        write_file_durably(
            fs,
            target / "wal" / segment_name(self.position, manifest.epoch),
            fmt.encode_segment(manifest.uuid_bytes, manifest.epoch, _salt(), self.position, fmt.CHAIN_START),
        )
        fs.fsync_directory(target / "tables")
        manifest.save(fs, target)  # its directory is synced with it
        for trouble in troubles_of(fs, target):
            raise BackupError(f"ERR KL.BACKUP: the copy is damaged, so the store may be: {trouble}")
        self._refuse_existing()
        fs.rename(target, self._path)
        fs.fsync_directory(self._folder)

    def _manifest(self) -> Manifest:
        made = self._checkpoint.manifest
        leap = min(TOKENS_LEAP, (fmt.TOKEN_MAX - made.tokens) // 2)
        return replace(made, uuid=os.urandom(16).hex(), epoch=0, tokens=made.tokens + leap)

    def _copy_files(self, manifest: Manifest) -> None:
        fs, source, target = self._fs, self._engine.directory, self._unfinished
        buffer = memoryview(bytearray(_STEP_BYTES))
        for name in manifest.names:
            _copy_file(fs, source / name, target / name, buffer)
        for state in manifest.tables:
            path = row_file.table_path(source, state.number)
            if fs.exists(path):  # a table that never had a row has none
                _copy_file(fs, path, row_file.table_path(target, state.number), buffer)

    # --- what a crash or a failure leaves -------------------------------------------------------------

    def _files(self) -> Iterator[Path]:
        fs, target = self._fs, self._unfinished
        for folder in (target, target / "tables", target / "wal"):
            if fs.exists(folder):
                yield from (folder / name for name in fs.names(folder) if name not in ("tables", "wal"))

    def _clear(self) -> None:
        for path in list(self._files()):
            self._fs.unlink(path)

    def _discard(self) -> None:
        """The room is given back; empty directories stay, and the next backup uses them."""
        try:
            self._clear()
        except OSError:
            return  # the answer says what went wrong first


def _copy_file(fs: Fs, source: Path, target: Path, buffer: memoryview) -> None:
    """Through one buffer: a step is two system calls, and next to nothing under the interpreter's lock.

    What was never written takes no room in the copy either; no file of ours ends with it.
    """
    reading = fs.open_readonly(source)
    try:
        writing = fs.create(target)
        try:
            offset = unsynced = 0
            while count := fs.pread_into(reading, buffer, offset):
                if not _NOTHING.startswith(buffer[:count]):
                    fs.pwrite(writing, buffer[:count], offset)
                    unsynced += count
                offset += count
                if unsynced >= _SYNC_BYTES:
                    fs.fdatasync(writing)
                    unsynced = 0
            fs.fsync(writing)
        finally:
            fs.close(writing)
    finally:
        fs.close(reading)


def _salt() -> int:
    return int.from_bytes(os.urandom(8), "little")
