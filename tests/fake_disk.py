"""A disk in memory that can lose power: what `storage.fs.Fs` promises, and no more than that.

Rules: 1. Bytes survive a crash once their file was synced, a name (create, rename, unlink) once its directory
was; of a rename to another directory each half once its own directory was. 2. Of the rest a crash keeps
nothing, or what a generator picks: each 512-byte sector kept, lost, torn, zeroed or garbled, each name kept
or not. 3. After a failed sync the unsynced bytes can be read, yet no later sync makes them durable unless
they were written again: that is what Linux does. 4. After a Crash every call raises Crash, but for `close`,
which a finalizer may call.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from storage.fs import final

SECTOR_BYTES = 512


class Crash(BaseException):
    """The power went. No `except Exception` may catch it."""


@dataclass(slots=True)
class Change:
    """A write, or with `data` None a cut or growth of the file to `offset` bytes."""

    offset: int
    data: bytes | None

    def apply(self, content: bytearray) -> None:
        end = self.offset if self.data is None else self.offset + len(self.data)
        if len(content) < end:
            content.extend(bytes(end - len(content)))
        if self.data is None:
            del content[end:]
        else:
            content[self.offset : end] = self.data

    def outside(self, later: Change) -> list[Change]:
        """What is left of it when a later change has been synced."""
        if self.data is None:
            return []
        end = self.offset + len(self.data)
        begin = later.offset
        stop = end if later.data is None else begin + len(later.data)
        parts = [Change(self.offset, self.data[: max(0, begin - self.offset)])]
        parts.append(Change(max(stop, self.offset), self.data[max(0, stop - self.offset) :]))
        return [part for part in parts if part.data]


@dataclass(slots=True, eq=False)
class File:
    synced: bytearray = field(default_factory=bytearray)
    seen: bytearray = field(default_factory=bytearray)
    unsynced: list[Change] = field(default_factory=list)
    refused: list[Change] = field(default_factory=list)  # a sync of them failed

    def change(self, offset: int, data: bytes | None) -> None:
        change = Change(offset, data)
        change.apply(self.seen)
        self.unsynced.append(change)

    def sync(self) -> None:
        for change in self.unsynced:
            change.apply(self.synced)
            self.refused = [part for old in self.refused for part in old.outside(change)]
        self.unsynced.clear()

    def after_crash(self, keep: random.Random | None) -> File:
        content = bytearray(self.synced)
        if keep is not None:
            for change in self.refused + self.unsynced:
                _apply_partly(change, content, keep)
        return File(bytearray(content), content)


def _apply_partly(change: Change, content: bytearray, keep: random.Random) -> None:
    if change.data is None:
        if keep.random() < 0.5:
            change.apply(content)
        return
    offset, end = change.offset, change.offset + len(change.data)
    rate = keep.choice((0.0, 0.5, 0.9, 1.0))
    while offset < end:
        stop = min(end, (offset // SECTOR_BYTES + 1) * SECTOR_BYTES)
        new = change.data[offset - change.offset : stop - change.offset]
        if keep.random() < rate:
            Change(offset, new).apply(content)
        else:
            fate = keep.randrange(5)
            cut = keep.randrange(len(new) + 1)
            if fate == 1:
                Change(offset, new[:cut]).apply(content)
            elif fate == 2:
                Change(offset + cut, new[cut:]).apply(content)
            elif fate == 3:
                Change(offset, bytes(len(new))).apply(content)
            elif fate == 4:
                Change(offset, keep.randbytes(len(new))).apply(content)
        offset = stop


@dataclass(frozen=True, slots=True)
class Renaming:
    """`name` now means `file`; `source` means nothing. A file of None: the name is gone."""

    name: Path
    file: File | None
    source: Path | None = None

    def apply(self, names: dict[Path, File]) -> None:
        if self.source is not None:
            names.pop(self.source, None)
        if self.file is None:
            names.pop(self.name, None)
        else:
            names[self.name] = self.file


@dataclass(frozen=True, slots=True)
class Moving:
    """The directory `source` is called `name` now, with all that is in it."""

    name: Path
    source: Path

    def apply(self, names: dict[Path, File]) -> None:
        for path in [path for path in names if self.source in path.parents]:
            names[self.name / path.relative_to(self.source)] = names.pop(path)

    def rename_directories(self, directories: set[Path]) -> None:
        for path in [path for path in directories if path == self.source or self.source in path.parents]:
            directories.remove(path)
            directories.add(self.name / path.relative_to(self.source))


Naming = Renaming | Moving


def _halves(change: Naming, path: Path) -> tuple[Naming | None, Naming | None]:
    """What a sync of the directory `path` makes durable of the change, and what is left."""
    if isinstance(change, Moving) or change.source is None or change.source.parent == change.name.parent:
        return (change, None) if change.name.parent == path else (None, change)
    come, gone = Renaming(change.name, change.file), Renaming(change.source, None)
    if path == change.name.parent:
        return come, gone
    return (gone, come) if path == change.source.parent else (None, change)


class FakeDisk:
    """An `Fs`. `calls` counts them; `fail_at` is the number of the call that raises `failure`, among those
    whose name begins with `only`."""

    def __init__(self) -> None:
        self.directories: set[Path] = set()
        self.named: dict[Path, File] = {}
        self.durably_named: dict[Path, File] = {}
        self.unsynced_names: list[Naming] = []
        self.calls = 0
        self.log: list[str] = []
        self.fail_at = 0
        self.only = ""
        self.sticky = False
        self.failure: Callable[[], BaseException] = Crash
        self.crashed = False
        self._counted = 0  # calls that `only` fits
        self._fds: dict[int, tuple[File, bool]] = {}
        self._next_fd = 3
        self._locked: dict[int, File] = {}

    # --- faults ---------------------------------------------------------------------------------------

    def fail(
        self, at: int, failure: Callable[[], BaseException] = Crash, sticky: bool = False, only: str = ""
    ) -> None:
        """Lets call number `at` fail, counted from now on (1: the next); `sticky`: and all behind it."""
        self.fail_at, self.failure, self.sticky, self.only = self._counted + at, failure, sticky, only

    def crash(self, keep: random.Random | None = None) -> FakeDisk:
        """The disk as it is when power is back."""
        disk = FakeDisk()
        disk.directories = set(self.directories)
        names = dict(self.durably_named)
        for change in self.unsynced_names:
            if keep is not None and keep.random() < 0.5:
                change.apply(names)
            elif isinstance(change, Moving):
                Moving(change.source, change.name).rename_directories(disk.directories)
        fates = {id(file): file.after_crash(keep) for file in names.values()}
        disk.named = {path: fates[id(file)] for path, file in names.items()}
        disk.durably_named = dict(disk.named)
        return disk

    def killed(self) -> FakeDisk:
        """Only the process died: what it wrote is there, synced or not, and its locks are gone."""
        disk = FakeDisk()
        disk.directories, disk.named = self.directories, self.named
        disk.durably_named, disk.unsynced_names = self.durably_named, self.unsynced_names
        return disk

    def image(self) -> dict[Path, bytes]:
        """What all files hold, for a comparison."""
        return {path: bytes(file.seen) for path, file in self.named.items()}

    def damage(self, path: Path, offset: int, flip: int = 1) -> None:
        """Rot: a durable byte is another one from now on."""
        file = self.named[path]
        file.seen[offset] ^= flip
        file.synced[offset] ^= flip

    def cut(self, path: Path, length: int) -> None:
        """The file is shorter from now on, durably."""
        file = self.named[path]
        del file.seen[length:], file.synced[length:]

    def _call(self, what: str) -> None:
        if self.crashed:
            raise Crash
        self.calls += 1
        self.log.append(what)
        if not what.startswith(self.only):
            return
        self._counted += 1
        if self.fail_at and (self._counted == self.fail_at or (self.sticky and self._counted > self.fail_at)):
            failure = self.failure()
            self.crashed = isinstance(failure, Crash)
            raise failure

    # --- Fs -------------------------------------------------------------------------------------------

    def make_directory(self, path: Path) -> None:
        self._call(f"make_directory {path.name}")
        self.directories.update((path, *path.parents))

    def names(self, path: Path) -> list[str]:
        self._call(f"names {path.name}")
        return sorted(entry.name for entry in (*self.named, *self.directories) if entry.parent == path)

    def exists(self, path: Path) -> bool:
        self._call(f"exists {path.name}")
        return path in self.named or path in self.directories

    def modified(self, path: Path) -> float:
        return 0.0  # there is no clock here

    def create(self, path: Path) -> int:
        self._call(f"create {path.name}")
        if path in self.named:
            self.named[path].change(0, None)
            return self._new_fd(self.named[path], True)
        return self._new_fd(self._create(path), True)

    def _create(self, path: Path) -> File:
        if path.parent not in self.directories:
            raise FileNotFoundError(errno.ENOENT, "no such directory", str(path.parent))
        file = File()
        self._rename(Renaming(path, file))
        return file

    def _rename(self, change: Renaming) -> None:
        change.apply(self.named)
        self.unsynced_names.append(change)

    def _new_fd(self, file: File, writable: bool) -> int:
        self._next_fd += 1
        self._fds[self._next_fd] = file, writable
        return self._next_fd

    def open(self, path: Path) -> int:
        self._call(f"open {path.name}")
        return self._new_fd(self.named.get(path) or self._create(path), True)

    def open_readonly(self, path: Path) -> int:
        self._call(f"open_readonly {path.name}")
        if path not in self.named:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        return self._new_fd(self.named[path], False)

    def close(self, fd: int) -> None:
        if self.crashed:
            return
        self._call(f"close {fd}")
        del self._fds[fd]
        self._locked.pop(fd, None)

    def size(self, fd: int) -> int:
        self._call(f"size {fd}")
        return len(self._fds[fd][0].seen)

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        self._call(f"pread {fd}")
        return bytes(self._fds[fd][0].seen[offset : offset + length])

    def pread_into(self, fd: int, view: memoryview, offset: int) -> int:
        data = self.pread(fd, len(view), offset)
        view[: len(data)] = data
        return len(data)

    def _writable(self, fd: int) -> File:
        file, writable = self._fds[fd]
        if not writable:
            raise OSError(errno.EBADF, "opened for reading only")
        return file

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        self._call(f"pwrite {fd} {len(data)} at {offset}")
        self._writable(fd).change(offset, bytes(data))

    def truncate(self, fd: int, length: int) -> None:
        self._call(f"truncate {fd} to {length}")
        self._writable(fd).change(length, None)

    def allocate(self, fd: int, length: int) -> None:
        self._call(f"allocate {fd} {length}")
        file = self._writable(fd)
        file.change(max(length, len(file.seen)), None)

    def fsync(self, fd: int) -> None:
        file = self._fds[fd][0]
        try:
            with final():
                self._call(f"fsync {fd}")
        except OSError:
            file.refused += file.unsynced
            file.unsynced.clear()
            raise
        file.sync()

    def fdatasync(self, fd: int) -> None:
        self.fsync(fd)

    def fsync_directory(self, path: Path) -> None:
        with final():
            self._call(f"fsync_directory {path.name}")
        later: list[Naming] = []
        for change in self.unsynced_names:
            now, rest = _halves(change, path)
            if now is not None:
                now.apply(self.durably_named)
            if rest is not None:
                later.append(rest)
        self.unsynced_names = later

    def rename(self, source: Path, target: Path) -> None:
        self._call(f"rename {source.name} {target.name}")
        if source in self.directories:
            moving = Moving(target, source)
            moving.apply(self.named)
            moving.rename_directories(self.directories)
            self.unsynced_names.append(moving)
            return
        self._rename(Renaming(target, self.named[source], source))

    def unlink(self, path: Path) -> None:
        self._call(f"unlink {path.name}")
        if path not in self.named:
            raise FileNotFoundError(errno.ENOENT, "no such file", str(path))
        self._rename(Renaming(path, None))

    def lock(self, fd: int) -> bool:
        self._call(f"lock {fd}")
        file = self._fds[fd][0]
        if any(other is file for held, other in self._locked.items() if held != fd):
            return False
        self._locked[fd] = file
        return True
