"""The process of `syncer.ProcessSyncer`: syncs the file that it was handed, once for each byte it gets."""

from __future__ import annotations

import errno
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from storage.fs import OsFs


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it ends when the server does, and not before
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    requests = socket.socket(fileno=0)
    fs, watched = OsFs(), -1
    answer(requests, 0)  # ready
    while True:
        request, descriptors, _, _ = socket.recv_fds(requests, 1, 1)
        if not request:
            return
        if descriptors:
            if watched >= 0:
                fs.close(watched)
            watched = descriptors[0]
            continue
        try:
            fs.fdatasync(watched)
            answer(requests, 0)
        except OSError as error:
            answer(requests, error.errno or errno.EIO)


def answer(requests: socket.socket, code: int) -> None:
    requests.sendall(code.to_bytes(4, "little"))


if __name__ == "__main__":
    with suppress(ConnectionError):  # a server that was killed leaves nobody to answer
        main()
