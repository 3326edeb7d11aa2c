"""Syncs of the log beside the loop: `start` one, and `fd` is readable when it has ended.

A thread that syncs needs the interpreter's lock at each step, and takes it from the loop in the middle of
its system calls (docs/decisions/0010 has the figures). So the sync is done by a process of its own, which
gets the segment's descriptor and does nothing else. It writes nothing, so it may outlive the server without
harm; when it ends before the server, that is a failed sync.

Invariants: 1. One sync is under way at most. 2. `finish` returns only if it succeeded. 3. Nothing is retried.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Protocol

from storage.fs import Fs, OsFs

ERRNO_BYTES = 4
CHILD = Path(__file__).with_name("sync_child.py")


class Syncer(Protocol):
    @property
    def fd(self) -> int:
        """Readable when the sync that was started has ended."""

    def watch(self, fd: int) -> None:
        """Syncs are of this open file from now on; none is under way."""

    def start(self) -> None:
        """Begins a sync. An OSError is final."""

    def finish(self) -> None:
        """Waits for the end of the sync. An OSError says that it failed, and is final."""

    def close(self) -> None: ...


def open_syncer(fs: Fs) -> Syncer:
    """A process where syncs are the operating system's own, a thread for any other `Fs`."""
    return ProcessSyncer() if type(fs) is OsFs else ThreadSyncer(fs)


class ProcessSyncer:
    """One byte is a request, a descriptor with it is the file; an errno is the answer, 0 for success."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(CHILD)],
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the server, which drains first
            )
        self.finish()  # it is there, and signals cannot end it any more

    @property
    def fd(self) -> int:
        return self._socket.fileno()

    def watch(self, fd: int) -> None:
        socket.send_fds(self._socket, [b"f"], [fd])

    def start(self) -> None:
        self._socket.send(b"s")

    def finish(self) -> None:
        answer = self._socket.recv(ERRNO_BYTES, socket.MSG_WAITALL)
        if len(answer) < ERRNO_BYTES:
            raise OSError(errno.EIO, "the process that syncs the log has ended")
        if code := int.from_bytes(answer, "little"):
            raise OSError(code, os.strerror(code))

    def close(self) -> None:
        self._socket.close()
        self._process.wait()


class ThreadSyncer:
    """The same in a thread, through `fs`."""

    def __init__(self, fs: Fs) -> None:
        self._fs = fs
        self._ours, self._theirs = socket.socketpair()
        self._watched = -1
        self._is_closing = False
        self._failure: OSError | None = None
        self._wake = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, name="log sync", daemon=True)
        self._thread.start()

    @property
    def fd(self) -> int:
        return self._ours.fileno()

    def watch(self, fd: int) -> None:
        self._watched = fd

    def start(self) -> None:
        self._wake.release()

    def finish(self) -> None:
        self._ours.recv(1)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        self._is_closing = True
        self._wake.release()
        self._thread.join()
        self._ours.close()
        self._theirs.close()

    def _run(self) -> None:
        while self._wake.acquire() and not self._is_closing:
            try:
                self._fs.fdatasync(self._watched)
            except OSError as error:
                self._failure = error
            self._theirs.send(b"e")
