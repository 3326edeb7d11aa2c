"""A load generator for one process: raw non-blocking sockets on one epoll, requests built beforehand.

Closed loop: a connection sends a batch (one command, or as many as are to be in flight), waits for all the
replies to it, and sends the next. Replies are counted by their line ends, which is exact for the fixed
shapes used here (integers, field names, `OK`: never a line end nor a minus sign within); a minus sign is
an error or a null where none is due, and aborts the run.
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

import hiredis

READ_BYTES = 65536
SILENCE_SECONDS_MAX = 60.0

NextBatch = Callable[[], bytes]
Answer = Callable[[bytes], bytes]


class LoadError(RuntimeError):
    """The server answered something other than what the load asks for; the text shows it."""


def encode(*words: bytes | str | int) -> bytes:
    """One command as a client sends it."""
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        text = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(text), text))
    return b"".join(parts)


class Client:
    """One blocking connection, for all that is not load: RESP2, an error reply is a LoadError."""

    def __init__(self, port: int, timeout_seconds: float = 600.0) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_seconds)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._reader = hiredis.Reader()

    def call(self, *words: bytes | str | int) -> Any:
        self._socket.sendall(encode(*words))
        reply = self.receive()
        if isinstance(reply, hiredis.ReplyError):
            raise LoadError(f"{' '.join(str(word) for word in words)[:200]}: {reply}")
        return reply

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def receive(self) -> Any:
        """The next reply; an error reply is answered, not raised."""
        reply = self._reader.gets()
        while reply is False:
            data = self._socket.recv(READ_BYTES)
            if not data:
                raise LoadError("the server closed the connection")
            self._reader.feed(data)
            reply = self._reader.gets()
        return reply

    def info(self, table: str) -> dict[str, Any]:
        """KL.INFO as a dictionary."""
        flat = self.call("KL.INFO", table)
        return {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}

    def knows(self, command: str) -> bool:
        """Whether the server has the command."""
        return bool(self.call("COMMAND", "INFO", command)[0])

    def close(self) -> None:
        self._socket.close()


class Fleet:
    """Many connections to one server, driven by one epoll. The caller closes it."""

    def __init__(self, port: int, connections: int) -> None:
        self._sockets = [
            socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(connections)
        ]
        self._epoll = select.epoll()
        for connection in self._sockets:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setblocking(False)
            self._epoll.register(connection.fileno(), select.EPOLLIN)
        self.fds = [connection.fileno() for connection in self._sockets]
        self._table_size = max(self.fds) + 1

    def close(self) -> None:
        self._epoll.close()
        for connection in self._sockets:
            connection.close()

    def run_batches(
        self, batches: list[NextBatch], lines: int, seconds: float, batches_max: int | None = None
    ) -> int:
        """Connection i sends what `batches[i]` answers, `lines` line ends come back; answers batches done.

        It ends after `seconds`, or when `batches_max` were sent, give or take one per connection.
        All that was sent is answered when this returns: nothing is left over for a next run.
        """
        read, write, poll = os.read, os.write, self._epoll.poll
        next_of: list[NextBatch] = [bytes] * self._table_size
        left = [lines] * self._table_size
        for fd, batch in zip(self.fds, batches, strict=True):
            next_of[fd] = batch
            _send(fd, batch())
        done, active, running = 0, len(self.fds), True
        deadline = time.monotonic() + seconds
        while active:
            events = poll(SILENCE_SECONDS_MAX)
            for fd, _ in events:
                data = read(fd, READ_BYTES)
                if b"-" in data or not data:
                    raise LoadError(f"unexpected reply {data[:200]!r}")
                rest = left[fd] - data.count(b"\n")
                if rest:
                    if rest < 0:
                        raise LoadError(f"more replies than requests: {data[-200:]!r}")
                    left[fd] = rest
                    continue
                done += 1
                left[fd] = lines
                if running:
                    request = next_of[fd]()
                    if write(fd, request) != len(request):
                        raise LoadError("a short write: batches must be smaller than the socket's buffer")
                else:
                    active -= 1
            if not events:
                raise LoadError(f"no reply in {SILENCE_SECONDS_MAX:.0f} s")
            running = running and time.monotonic() < deadline
            running = running and (batches_max is None or done + active < batches_max)
        return done

    def run_pairs(
        self, locks: list[bytes], unlock: list[Answer], depth: int, freed: bytes, seconds: float
    ) -> int:
        """Connection i sends `locks[i]`, then `unlock[i](reply)`, and so on; answers the pairs done.

        `depth` lines come back for either half; those of the second are `freed`, byte for byte. Ends with
        everything unlocked.
        """
        read, write, poll = os.read, os.write, self._epoll.poll
        index_of = {fd: i for i, fd in enumerate(self.fds)}
        received = [b""] * len(self.fds)
        locked = [False] * len(self.fds)
        for fd, request in zip(self.fds, locks, strict=True):
            _send(fd, request)
        done, active, running = 0, len(self.fds), True
        deadline = time.monotonic() + seconds
        while active:
            events = poll(SILENCE_SECONDS_MAX)
            for fd, _ in events:
                data = read(fd, READ_BYTES)
                i = index_of[fd]
                reply = received[i] + data
                if b"-" in data or not data:
                    raise LoadError(f"unexpected reply {data[:200]!r}")
                if reply.count(b"\n") < depth:
                    received[i] = reply
                    continue
                received[i] = b""
                if not locked[i]:
                    locked[i] = True
                    request = unlock[i](reply)
                else:
                    locked[i] = False
                    if reply != freed:
                        raise LoadError(f"not released: {reply[:200]!r}")
                    done += 1
                    if not running:
                        active -= 1
                        continue
                    request = locks[i]
                if write(fd, request) != len(request):
                    raise LoadError("a short write: batches must be smaller than the socket's buffer")
            if not events:
                raise LoadError(f"no reply in {SILENCE_SECONDS_MAX:.0f} s")
            running = running and time.monotonic() < deadline
        return done

    def run_timed(self, batches: list[NextBatch], lines: int, commands: int) -> list[float]:
        """As run_batches, until `commands` batches are done; answers each one's seconds to its reply."""
        index_of = {fd: i for i, fd in enumerate(self.fds)}
        left = [lines] * len(self.fds)
        sent_at = [0.0] * len(self.fds)
        seconds: list[float] = []
        for i, fd in enumerate(self.fds):
            sent_at[i] = time.perf_counter()
            _send(fd, batches[i]())
        sent, active = len(self.fds), len(self.fds)
        while active:
            events = self._epoll.poll(SILENCE_SECONDS_MAX)
            if not events:
                raise LoadError(f"no reply in {SILENCE_SECONDS_MAX:.0f} s")
            for fd, _ in events:
                data = os.read(fd, READ_BYTES)
                i = index_of[fd]
                if b"-" in data or not data:
                    raise LoadError(f"unexpected reply {data[:200]!r}")
                left[i] -= data.count(b"\n")
                if left[i]:
                    continue
                left[i] = lines
                seconds.append(time.perf_counter() - sent_at[i])
                if sent >= commands:
                    active -= 1
                    continue
                sent += 1
                sent_at[i] = time.perf_counter()
                _send(fd, batches[i]())
        return seconds


def feed(port: int, stream: Iterable[tuple[bytes, int]], connections: int = 4, window: int = 2) -> int:
    """Sends batches `(requests, reply lines)` over several connections, each `window` batches ahead of its
    replies; answers how many lines came back. An error reply aborts."""
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=120) for _ in range(connections)]
    waiting: list[list[int]] = [[] for _ in sockets]
    surplus = [0] * connections
    total = 0

    def settle(i: int) -> None:
        """Reads until connection i's oldest batch is answered."""
        nonlocal total
        expected = waiting[i].pop(0)
        while surplus[i] < expected:
            data = sockets[i].recv(READ_BYTES)
            if b"-" in data or not data:
                raise LoadError(f"unexpected reply {data[:200]!r}")
            surplus[i] += data.count(b"\n")
        surplus[i] -= expected
        total += expected

    try:
        for turn, (requests, lines) in enumerate(stream):
            i = turn % connections
            if len(waiting[i]) >= window:
                settle(i)
            sockets[i].sendall(requests)
            waiting[i].append(lines)
        for i in range(connections):
            while waiting[i]:
                settle(i)
    finally:
        for connection in sockets:
            connection.close()
    return total


def quantile(values: Iterable[float], share: float) -> float:
    """The value below which `share` of `values` lie, by the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def _send(fd: int, request: bytes) -> None:
    if os.write(fd, request) != len(request):
        raise LoadError("a short write: batches must be smaller than the socket's buffer")
