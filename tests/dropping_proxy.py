"""A proxy between client and server that loses replies: a command took effect, and nobody hears of it."""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self

import hiredis


class DroppingProxy:
    """Passes all on, but for every `every`-th reply: in its place the client sees its connection end.

    Handshakes count as commands. All of this is per proxy, so one client at a time knows what it will lose.
    """

    def __init__(self, server_port: int, every: int) -> None:
        self._server_port = server_port
        self._every = every
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self.port: int = self._listener.getsockname()[1]
        self.replies = 0
        self.dropped = 0

    def __enter__(self) -> Self:
        self._run(self._accept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(self._listener)
        with self._lock:
            left = list(self._open)
        for one in left:
            self._end(one)
        for thread in self._threads:
            thread.join(20)

    def _run(self, target: Callable[..., None], *sockets: socket.socket) -> None:
        thread = threading.Thread(target=target, args=sockets, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # closed: the test is over
                return
            server = socket.create_connection(("127.0.0.1", self._server_port))
            with self._lock:
                self._open |= {client, server}
            self._run(self._requests, client, server)
            self._run(self._replies, server, client)

    def _requests(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
        self._end(client, server)

    def _replies(self, server: socket.socket, client: socket.socket) -> None:
        """A byte at a time, so that each reply is passed on or dropped as a whole."""
        reader, reply = hiredis.Reader(), b""
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                for byte in data:
                    reply += bytes((byte,))
                    reader.feed(reply[-1:])
                    if reader.gets() is False:
                        continue
                    if self._is_dropped():
                        self._end(client, server)
                        return
                    client.sendall(reply)
                    reply = b""
        self._end(client, server)

    def _is_dropped(self) -> bool:
        with self._lock:
            self.replies += 1
            dropped = self.replies % self._every == 0
            self.dropped += dropped
            return dropped

    def _end(self, *sockets: socket.socket) -> None:
        """Shut down first: closing alone would not wake a thread that waits on it."""
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
            with self._lock:
                self._open.discard(one)


class LosingProxy(DroppingProxy):
    """Loses the next `lose` replies behind `skip` others, or holds all back while `passing` is cleared."""

    def __init__(self, server_port: int) -> None:
        super().__init__(server_port, every=sys.maxsize)
        self.lose = self.skip = 0
        self.passing = threading.Event()
        self.passing.set()

    def lose_all(self) -> None:
        self.lose = sys.maxsize

    def _is_dropped(self) -> bool:
        self.passing.wait(30)
        with self._lock:
            self.replies += 1
            dropped = self.lose > 0 and self.skip == 0
            self.skip -= self.skip > 0
            self.lose -= dropped
            self.dropped += dropped
            return dropped
