"""Histories from a real server process: threads with real sockets do what the simulated clients do.

The clock of the leases is this machine's monotonic one, which both sides read, so the model knows each
lease's end as a range. Some clients cut their connection behind a request and send it again; some histories
have the server killed in the middle and started again.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import hiredis

from bench.harness import launch
from tests.conftest import frame
from tests.sim.book import Book, Shown
from tests.sim.commands import (
    LOST,
    TABLES,
    Command,
    Crash,
    Insert,
    Seek,
    plain,
    replies_of,
    request,
    resent_as,
    token_of,
)
from tests.sim.groups import Group, first_row
from tests.sim.history import History, Op
from tests.sim.scripts import KINDS, Desk

CLIENTS = 8
OPS_PER_CLIENT = 11
LEASES_MS = (1, 2, 20, 100)
RETRIES = 10
REPLY_SECONDS_MAX = 20.0


class Place:
    """Where the server is; after a kill its clients wait here until it is back."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._is_up = threading.Event()
        self._start()

    def _start(self) -> None:
        self._server = launch.klani(self._directory, "--checkpoint-bytes", "20000")
        self._is_up.set()

    def connect(self) -> socket.socket:
        assert self._is_up.wait(launch.START_SECONDS_MAX), "the server did not come back"
        return socket.create_connection((self._server.host, self._server.port), timeout=REPLY_SECONDS_MAX)

    def kill(self) -> tuple[int, int, int]:
        """kill -9, and a start; before it, when the process was gone, and when there was another."""
        self._is_up.clear()
        before = time.monotonic_ns()
        self._server.process.kill()
        self._server.process.wait()
        gone = time.monotonic_ns()
        self._start()
        return before, gone, time.monotonic_ns()

    def stop(self) -> int:
        return self._server.stop()


class RealClient:
    def __init__(self, number: int, seed: int, place: Place, group: Group, book: Book) -> None:
        self.random = Random(f"real {seed}/{number}")
        self._number = number
        self._place = place
        self._group = group
        self._book = book
        # Whose history is asked for, what has no reply may have come in any order: too much to look through.
        self._desk = Desk(number, self.random, book, leases_ms=LEASES_MS, asks_past_of_units=False)
        self._socket: socket.socket | None = None
        self._reader = hiredis.Reader()
        self.sent = 0

    def live(self, told: Callable[[], None]) -> None:
        """Visits until it has sent its share; `told` is called for each command that came to its end."""
        while self.sent < OPS_PER_CLIENT:
            script, result = self._group.visit(self._desk), None
            try:
                while self.sent < OPS_PER_CLIENT:
                    result = self.ask(script.send(result))
                    told()
            except StopIteration:
                continue
        self.close()

    def ask(self, command: Command) -> Any:
        """At least once, as client libraries have it."""
        above = self._book.token
        for _ in range(RETRIES):
            op = Op(self._number, command, time.monotonic_ns())
            op.called_ns = int(op.called)
            try:
                if self._socket is None:
                    self._connect()
                self._group.history.ops.append(op)
                self.sent += 1
                reply = self._exchange(command)
            except OSError:
                self.close()
                continue
            now = time.monotonic_ns()
            result = plain(command, reply)
            op.answered(now, now, result)
            told = token_of(command, result)
            if told is not None:
                self._book.told(told, resent_as(command) or op, above)
            return result
        return LOST

    def _connect(self) -> None:
        self._socket = self._place.connect()
        self._reader = hiredis.Reader()

    def _exchange(self, command: Command) -> Any:
        assert self._socket is not None
        self._socket.sendall(request(command))
        if self.random.random() < 0.04:
            raise ConnectionError("cut on purpose")
        reply: Any = False
        for _ in range(replies_of(command)):
            while (reply := self._reader.gets()) is False:
                data = self._socket.recv(65536)
                if not data:
                    raise ConnectionError("the server closed")
                self._reader.feed(data)
        return reply

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def record(seed: int, place: Place, *, kill: bool) -> tuple[Group, list[str]]:
    """One history on rows of its own, and what its book has against the store."""
    random, book = Random(f"real {seed}"), Book()
    kind = random.choice(tuple(KINDS))
    first = first_row(kind, seed, 10 * seed + 1)
    rows = tuple(first + i for i in range(KINDS[kind][1]))
    group = Group(kind, rows, History(f"real {seed}, {kind}, rows {rows}"))
    if kind == "twins":
        book.twins = [(rows[0], rows[1])]
    scratch = Group(kind, rows, History("not judged"))
    furnisher = RealClient(CLIENTS, seed, place, scratch, book)
    if kind != "fresh":
        assert [furnisher.ask(Insert(row, group.first_fields)) for row in rows] == [1] * len(rows)
    furnisher.close()
    if kind == "door":
        kill = False  # each hold of units that is over may be live again: too many states to look through
    _live_together([RealClient(n, seed, place, group, book) for n in range(CLIENTS)], place, group, kill)
    auditor = RealClient(CLIENTS, seed, place, group, book)
    shown: Shown = {row: fields for row in rows if (fields := auditor.ask(Seek(row))) is not None}
    auditor.close()
    return group, list(book.troubles(shown))


def _live_together(clients: list[RealClient], place: Place, group: Group, kill: bool) -> None:
    half_way, failures = threading.Semaphore(0), []

    def live(client: RealClient) -> None:
        try:
            client.live(half_way.release)
        except BaseException as error:
            failures.append(error)
            client.close()
        finally:
            for _ in range(OPS_PER_CLIENT):
                half_way.release()

    threads = [threading.Thread(target=live, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    if kill:
        for _ in range(CLIENTS * OPS_PER_CLIENT // 3):
            half_way.acquire()
        before, gone, back = place.kill()
        crash = Op(-1, Crash(), before, before)
        crash.answered(back, back, "crash")
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    if kill:
        for op in group.history.ops:
            if op.called < before:
                op.ended(gone, gone)
        group.history.ops.append(crash)


def furnish(place: Place) -> None:
    with place.connect() as wire:
        for table, schema in TABLES.items():
            wire.sendall(frame(b"KL.CREATE", table, b"SCHEMA", *schema))
            assert wire.recv(100) == b"+OK\r\n"
