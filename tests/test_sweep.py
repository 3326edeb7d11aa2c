"""Connections that end by a time-out: idle ones, and those whose request never becomes whole."""

from __future__ import annotations

import logging
import socket
import time
import tracemalloc
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from commands.spec import Job
from klani_resp.app import App
from klani_resp.config import Config
from klani_resp.net.sweep import SLICE_SESSIONS, Sweep, sweep
from klani_resp.sessions.session import Session
from klani_resp.sessions.transport import Line
from tests.conftest import frame
from tests.in_memory import new_app, new_session
from tests.test_reactor import exactly, rest, roads, running

HALF = b"*2\r\n$4\r\nPING\r\n$5\r\nab"


class Bed:
    """An app whose clock passes when told, and who has been ended in it."""

    def __init__(self, **settings: Any) -> None:
        self.app: App = new_app(**settings)
        self.now = time.monotonic()
        self.sweep = Sweep(self.app, lambda: self.now)
        self.ended: list[int] = []

    def session(self) -> Session:
        session = new_session(self.app)
        session.used_at = self.now
        session.line = Line(end=lambda: self.ended.append(session.id))
        return session

    def receive(self, session: Session, data: bytes) -> bytes:
        session.used_at = self.now
        return session.receive(data)

    def after(self, seconds: float) -> list[int]:
        """Who is ended in the round that comes so much later."""
        self.now += seconds
        self.ended.clear()
        slices = sum(1 for _ in self.sweep.round())
        assert slices <= 1 + -(-len(self.app.sessions) // SLICE_SESSIONS)
        return sorted(self.ended)


def test_by_default_only_a_request_has_to_end() -> None:
    bed = Bed()
    idle, slow = bed.session(), bed.session()
    bed.receive(idle, frame("PING"))
    bed.receive(slow, HALF)
    assert bed.after(1) == []
    assert bed.after(60) == []
    assert bed.after(0.1) == [slow.id]
    assert (Config().idle_seconds_max, Config().request_seconds_max) == (0, 60)


def test_bytes_that_trickle_in_do_not_help() -> None:
    bed = Bed(request_seconds_max=5, idle_seconds_max=100)
    slow = bed.session()
    bed.receive(slow, b"PI")
    for byte in (b"N", b"G", b" ", b"a", b"b", b"c"):
        assert bed.after(1) == [] or byte == b"c"
        bed.receive(slow, byte)
    assert bed.after(1) == [slow.id]


def test_each_request_has_time_of_its_own() -> None:
    bed = Bed(request_seconds_max=5)
    one = bed.session()
    for _ in range(10):
        bed.receive(one, HALF)
        assert bed.after(3) == []
        assert bed.receive(one, b"cde\r\n" + HALF) == b"$5\r\nabcde\r\n"
        assert bed.after(3) == []
        bed.receive(one, b"cde\r\n")
        assert bed.after(3) == []
    assert bed.after(100) == []


def test_nothing_is_kept_of_a_request_that_became_whole() -> None:
    """Up to two requests of each client were, until the next rounds."""
    bed = Bed()
    one = bed.session()
    word = b"x" * 500_000
    tracemalloc.start()
    try:
        bed.receive(one, b"*2\r\n$4\r\nNOPE\r\n$%d\r\n%b" % (len(word), word))
        bed.after(1)
        bed.receive(one, b"\r\n")
        assert tracemalloc.get_traced_memory()[0] < len(word) / 2
    finally:
        tracemalloc.stop()


def test_idle_ones_end() -> None:
    bed = Bed(idle_seconds_max=10, request_seconds_max=0)
    one, other, kept = bed.session(), bed.session(), bed.session()
    kept.is_monitor = True
    assert bed.after(9) == []
    bed.receive(other, frame("PING"))
    assert bed.after(2) == [one.id]
    bed.receive(one, HALF)
    assert bed.after(9) == [other.id], "a request has for ever"


def test_who_waits_for_the_server_is_not_idle() -> None:
    bed = Bed(idle_seconds_max=10, request_seconds_max=5)
    one = bed.session()
    bed.receive(one, HALF)
    bed.after(1)
    one.job = Job()
    assert bed.after(100) == []
    one.job = None
    assert bed.after(5) == [], "the time begins when it is read again"
    one.used_at = bed.now
    assert bed.after(5.1) == [one.id]


def test_who_waits_for_the_disk_is_not_idle_and_owes_nothing() -> None:
    """Its replies are held, and perhaps it is not read: the rest of its request may be there already."""
    bed = Bed(idle_seconds_max=10, request_seconds_max=5)
    one, half = bed.session(), bed.session()
    bed.receive(half, HALF)
    one.line.is_held = half.line.is_held = lambda: True
    for _ in range(10):
        assert bed.after(4) == []
    one.line.is_held = half.line.is_held = lambda: False
    assert bed.after(4) == [], "the time begins when the disk is done"
    assert bed.after(5.1) == [half.id]
    assert bed.after(5) == [one.id, half.id]


def test_who_does_not_read_ends() -> None:
    """Not by the next reply alone: who was given much and asks no more kept it for as long as it stayed."""
    bed = Bed(output_bytes_max=64_000, unread_seconds_max=5)
    deaf, slow, trickling, allowed, busy = (bed.session() for _ in range(5))
    busy.job = Job()
    unread = dict.fromkeys((deaf.id, slow.id, trickling.id, busy.id), 900_000) | {allowed.id: 64_000}
    for session in (deaf, slow, trickling, allowed, busy):
        session.line.unread_bytes = partial(unread.__getitem__, session.id)
    ended: list[int] = []
    for _ in range(12):
        ended += bed.after(1)
        for number in ended:
            bed.app.sessions.pop(number, None)
        unread[slow.id] -= 1_000
        unread[trickling.id] -= 100
    assert ended == [deaf.id, trickling.id, busy.id]
    assert Config().unread_seconds_max == 10


@roads
async def test_who_does_not_read_ends_over_sockets(tmp_path: Path, use_epoll: bool) -> None:
    """One reply, more than may wait, and than the kernel takes; nothing is sent behind it."""
    limits = {"output_bytes_max": 100_000, "bulk_bytes_max": 32 << 20, "request_bytes_max": 32 << 20}
    async with running(tmp_path, use_epoll, unread_seconds_max=0.5, **limits) as server:
        word = b"x" * (16 << 20)
        deaf = await server.connect(frame("ECHO", word))
        other = await server.connect()
        told = b""
        with trio.fail_after(20):
            while b" omem=0 " not in told or told.count(b"id=") > 1:
                await other.send_all(b"CLIENT LIST\r\n")
                told = bytes(await other.receive_some())
                await trio.sleep(0.05)
        assert len(await rest(deaf)) < len(word)


def test_settings_may_change() -> None:
    bed = Bed(request_seconds_max=0)
    one = bed.session()
    assert bed.after(1000) == []
    assert bed.receive(one, frame("CONFIG", "SET", "timeout", 300)) == b"+OK\r\n"
    assert bed.after(299) == []
    assert bed.after(2) == [one.id]


def test_the_log_is_not_filled(caplog: pytest.LogCaptureFixture) -> None:
    bed = Bed(request_seconds_max=5)
    for _ in range(50):
        bed.receive(bed.session(), HALF)
    with caplog.at_level(logging.WARNING, logger="klani_resp"):
        bed.after(1)
        assert len(bed.after(6)) == 50
    assert [record.getMessage() for record in caplog.records] == [
        "client 1 at  began a request and did not end it in 5 s: its connection is closed"
    ]


def test_slices_are_short() -> None:
    bed = Bed(idle_seconds_max=10)
    sessions = [bed.session() for _ in range(1000)]
    for session in sessions[::2]:
        bed.receive(session, HALF)
    assert sum(1 for _ in bed.sweep.round()) == 1 + 16


@roads
async def test_over_sockets(tmp_path: Path, use_epoll: bool) -> None:
    async with running(tmp_path, use_epoll, idle_seconds_max=0.5, request_seconds_max=0.5) as server:
        idle, half = await server.connect(b"PING\r\n"), await server.connect(HALF)
        assert await exactly(idle, 7) == b"+PONG\r\n"
        with trio.fail_after(20):
            for stream in (idle, half):
                assert await stream.receive_some() == b""


@roads
async def test_a_slow_disk_makes_nobody_idle(tmp_path: Path, use_epoll: bool) -> None:
    async with running(tmp_path, use_epoll, idle_seconds_max=0.5) as server:
        await server.table()
        server.fs.close_gate()
        writer = await server.connect(b"KL.INSERT 7 x 1\r\n")
        await trio.to_thread.run_sync(server.fs.at_gate.wait, 20)
        for _ in range(3):
            assert await rest(await server.connect()) == b"", "who asked for nothing is idle"
        server.fs.gate.set()
        assert await exactly(writer, 4) == b":1\r\n"


@roads
async def test_who_reads_is_not_idle(tmp_path: Path, use_epoll: bool) -> None:
    """One long reply, read for longer than a connection may be idle."""
    limits = {"bulk_bytes_max": 32 << 20, "request_bytes_max": 32 << 20}
    async with running(tmp_path, use_epoll, idle_seconds_max=1, **limits) as server:
        reader = await server.connect()
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
        word = b"x" * (24 << 20)
        await reader.send_all(frame("ECHO", word))
        left = len(b"$%d\r\n%b\r\n" % (len(word), word))
        are_idle_gone = trio.Event()

        async def others() -> None:
            for _ in range(2):
                assert await rest(await server.connect()) == b""
            are_idle_gone.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(others)
            while not are_idle_gone.is_set():
                got = await exactly(reader, 16 << 10)
                assert got
                left -= len(got)
                await trio.sleep(0.01)
        assert len(await exactly(reader, left)) == left > 0


@roads
async def test_a_request_that_goes_on_ends_all_the_same(tmp_path: Path, use_epoll: bool) -> None:
    async with running(tmp_path, use_epoll, request_seconds_max=0.5) as server:
        half = await server.connect(b"*1\r\n$1000000\r\n")
        with trio.fail_after(20), pytest.raises(trio.BrokenResourceError):
            while True:
                await half.send_all(b"a")
                await trio.sleep(0.01)


@pytest.mark.parametrize("idle", [0, 1, SLICE_SESSIONS - 1, SLICE_SESSIONS, 1000])
async def test_a_round_begins_each_second(autojump_clock: trio.testing.MockClock, idle: int) -> None:
    bed = Bed(request_seconds_max=2)
    for _ in range(idle):
        bed.session()
    half = bed.session()
    ended_at: list[float] = []
    half.line = Line(end=lambda: ended_at.append(trio.current_time()))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(partial(sweep, bed.app, trio.current_time))
        await trio.sleep(0.5)
        began = trio.current_time()
        half.receive(HALF)
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    assert 2 < ended_at[0] - began < 4.1
