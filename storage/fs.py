"""Every access to files goes through here: what a test replaces to lose, tear or refuse bytes.

An `Fs` has no state of its own; descriptors are plain ints. `OsFs` is the real thing. Short writes are
looped over here, so that no caller can forget it.

Two kinds of errors: a disk without room (`is_full`) refused a call, which may be made again later; all
others are final, and so is each failed sync (SyncFailed), whatever its errno: what it should have made
durable may be gone, and no later sync would say so.
"""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

FILE_MODE = 0o600
DIRECTORY_MODE = 0o700
FULL = frozenset({errno.ENOSPC, errno.EDQUOT})


class SyncFailed(OSError):
    """Nobody knows what is on disk now."""


def is_full(error: BaseException) -> bool:
    """Whether the call failed for want of room and may be made again when there is some."""
    if not isinstance(error, OSError) or error.errno not in FULL:
        return False
    behind: BaseException | None = error  # a file that could not be closed, perhaps, after a failed sync
    while behind is not None and not isinstance(behind, SyncFailed):
        behind = behind.__context__
    return behind is None


def met_full_disk(action: Callable[[], object]) -> OSError | None:
    """Does it; answers what a full disk said, if that kept it from its end."""
    try:
        action()
    except OSError as error:
        if not is_full(error):
            raise
        return error
    return None


@contextmanager
def final() -> Iterator[None]:
    """Errors, whatever they say, become SyncFailed."""
    try:
        yield
    except OSError as error:
        raise SyncFailed(error.errno, error.strerror, error.filename) from error


class Fs(Protocol):
    def make_directory(self, path: Path) -> None: ...
    def names(self, path: Path) -> list[str]: ...
    def exists(self, path: Path) -> bool: ...
    def modified(self, path: Path) -> float: ...
    def create(self, path: Path) -> int: ...
    def open(self, path: Path) -> int: ...
    def open_readonly(self, path: Path) -> int: ...
    def close(self, fd: int) -> None: ...
    def size(self, fd: int) -> int: ...
    def pread(self, fd: int, length: int, offset: int) -> bytes: ...
    def pread_into(self, fd: int, view: memoryview, offset: int) -> int: ...
    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> None: ...
    def truncate(self, fd: int, length: int) -> None: ...
    def allocate(self, fd: int, length: int) -> None: ...
    def fsync(self, fd: int) -> None: ...
    def fdatasync(self, fd: int) -> None: ...
    def fsync_directory(self, path: Path) -> None: ...
    def rename(self, source: Path, target: Path) -> None: ...
    def unlink(self, path: Path) -> None: ...
    def lock(self, fd: int) -> bool: ...


class OsFs:
    """The operating system's files."""

    def make_directory(self, path: Path) -> None:
        """Creates it (0700) with its parents, and makes that durable."""
        if path.is_dir():
            return
        path.mkdir(parents=True, mode=DIRECTORY_MODE)
        self.fsync_directory(path.parent)

    def names(self, path: Path) -> list[str]:
        return sorted(entry.name for entry in path.iterdir())

    def exists(self, path: Path) -> bool:
        return path.exists()

    def modified(self, path: Path) -> float:
        """When it was last written, by the wall clock."""
        return path.stat().st_mtime

    def create(self, path: Path) -> int:
        """A new empty file for reading and writing; one that was there is emptied."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, FILE_MODE)

    def open(self, path: Path) -> int:
        """For reading and writing; created when it is not there."""
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, FILE_MODE)

    def open_readonly(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def close(self, fd: int) -> None:
        os.close(fd)

    def size(self, fd: int) -> int:
        return os.fstat(fd).st_size

    def pread(self, fd: int, length: int, offset: int) -> bytes:
        """Up to `length` bytes; fewer only at the end of the file."""
        parts: list[bytes] = []
        while length > 0:
            part = os.pread(fd, length, offset)
            if not part:
                break
            parts.append(part)
            length -= len(part)
            offset += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def pread_into(self, fd: int, view: memoryview, offset: int) -> int:
        """Fills `view` as far as the file goes; answers how many bytes that was."""
        done = 0
        while done < len(view):
            count = os.preadv(fd, [view[done:]], offset + done)
            if count == 0:
                break
            done += count
        return done

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        written = os.pwrite(fd, data, offset)
        if written == len(data):
            return
        view = memoryview(data)
        while written < len(view):
            count = os.pwrite(fd, view[written:], offset + written)
            if count == 0:
                raise OSError(errno.EIO, "write made no progress")
            written += count

    def truncate(self, fd: int, length: int) -> None:
        os.ftruncate(fd, length)

    def allocate(self, fd: int, length: int) -> None:
        """Reserves the room, so that a full disk shows now and not inside a commit."""
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(fd, 0, length)
        else:
            self.pwrite(fd, bytes(length), 0)

    def fsync(self, fd: int) -> None:
        with final():
            if sys.platform == "darwin":
                fcntl.fcntl(fd, fcntl.F_FULLFSYNC)
            else:
                os.fsync(fd)

    def fdatasync(self, fd: int) -> None:
        with final():
            if hasattr(os, "fdatasync"):
                os.fdatasync(fd)
            else:
                self.fsync(fd)

    def fsync_directory(self, path: Path) -> None:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with final():
                os.fsync(fd)
        finally:
            os.close(fd)

    def rename(self, source: Path, target: Path) -> None:
        source.rename(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def lock(self, fd: int) -> bool:
        """Takes the directory's lock; False when another process has it.

        `flock`, not `lockf`: a POSIX lock is dropped by any close of the file in the same process.
        """
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


@contextmanager
def replace_durably(fs: Fs, path: Path) -> Iterator[int]:
    """A descriptor to write `path` anew, so that a crash leaves the old file or the new one, whole.

    On a full disk the old one stays, and nothing is left of the new one.
    """
    temporary = path.with_name(path.name + ".tmp")
    fd = fs.create(temporary)
    try:
        try:
            yield fd
            fs.fsync(fd)
        finally:
            fs.close(fd)
        fs.rename(temporary, path)
    except OSError as error:
        if is_full(error):
            fs.unlink(temporary)
        raise
    fs.fsync_directory(path.parent)


def write_file_durably(fs: Fs, path: Path, data: bytes) -> None:
    with replace_durably(fs, path) as fd:
        fs.pwrite(fd, data, 0)


def read_file(fs: Fs, path: Path) -> bytes:
    fd = fs.open_readonly(path)
    try:
        return fs.pread(fd, fs.size(fd), 0)
    finally:
        fs.close(fd)


def size_of(fs: Fs, path: Path) -> int:
    """0 when it is not there."""
    try:
        fd = fs.open_readonly(path)
    except FileNotFoundError:
        return 0
    try:
        return fs.size(fd)
    finally:
        fs.close(fd)
