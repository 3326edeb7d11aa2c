"""A client that asks PING over and over and keeps every latency: alone, and beside what others do.

Server and prober have a core each where there are two: which core the scheduler gives them changes a round
trip from 18 us to 60 us, more than what is measured. Quiet windows and others take turns: what else the
machine does falls on both. Percentiles are those of all samples of a kind, none is left out.
"""

from __future__ import annotations

import os
import socket
import time
from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from bench.harness.launch import Server

PING, PONG = b"*1\r\n$4\r\nPING\r\n", b"+PONG\r\n"
ATTEMPTS = 3  # the machine may have been busy in one of the windows, but not in all of three runs


@contextmanager
def apart(*servers: Server) -> Iterator[None]:
    """The servers on one core, whoever calls on another."""
    cores = sorted(os.sched_getaffinity(0))
    for server in servers:
        os.sched_setaffinity(server.pid, cores[-1:])
    os.sched_setaffinity(0, cores[:1])
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


class Prober:
    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, count: int, into: array[int], beside: Callable[[], None] | None = None) -> None:
        """Adds so many latencies in ns; `beside` is done before each question."""
        send, receive, clock = self._socket.sendall, self._socket.recv, time.perf_counter_ns
        for _ in range(count):
            if beside is not None:
                beside()
            began = clock()
            send(PING)
            answer = receive(64)
            into.append(clock() - began)
            assert answer == PONG

    def close(self) -> None:
        self._socket.close()


@dataclass(frozen=True)
class Compared:
    """Latencies in ns. A busy machine lifts p99 of both kinds to a time slice of its scheduler, 3 ms and
    more, which hides what is judged; the median it hardly moves. So both must be within the limit."""

    quiet: array[int]
    beside: array[int]

    def times(self, percent: int) -> float:
        return percentile(self.beside, percent) / percentile(self.quiet, percent)

    @property
    def worst(self) -> float:
        return max(self.times(50), self.times(99))

    def show(self, name: str, figure: Callable[[str, int], None]) -> None:
        for percent in (50, 99):
            figure(f"{name}: p{percent} quiet, us", percentile(self.quiet, percent) // 1000)
            figure(f"{name}: p{percent} beside, us", percentile(self.beside, percent) // 1000)


def percentile(latencies: array[int], percent: int) -> int:
    assert len(latencies) >= 1000, "too few for a percentile"
    return sorted(latencies)[len(latencies) * percent // 100]


def best(measure: Callable[[], Compared], times_max: float) -> Compared:
    """The first that is within the limit, or the best of some attempts."""
    found: list[Compared] = []
    for _ in range(ATTEMPTS):
        found.append(measure())
        if found[-1].worst <= times_max:
            break
    return min(found, key=lambda one: one.worst)
