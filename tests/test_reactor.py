"""Real sockets, on a disk whose syncs the test lets through: the batch loop and the task road."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio

from klani_resp.app import StorageFailed
from klani_resp.config import Config
from klani_resp.net.listeners import open_listeners
from klani_resp.server import HAS_EPOLL, serve
from storage.fs import OsFs
from tests.conftest import frame

roads = pytest.mark.parametrize(
    "use_epoll",
    [pytest.param(True, marks=pytest.mark.skipif(not HAS_EPOLL, reason="epoll is Linux's")), False],
    ids=["batch loop", "tasks"],
)
loop_only = pytest.mark.skipif(not HAS_EPOLL, reason="epoll is Linux's")


class GateFs(OsFs):
    """Syncs of the log wait while `gate` is closed, and fail once `broken` is set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.gate.set()
        self.at_gate = threading.Event()
        self.broken = False

    def fdatasync(self, fd: int) -> None:
        self.at_gate.set()
        assert self.gate.wait(20)
        if self.broken:
            raise OSError(errno.EIO, "Input/output error")
        super().fdatasync(fd)

    def close_gate(self) -> None:
        self.at_gate.clear()
        self.gate.clear()


class Running:
    def __init__(self, port: int, fs: GateFs, scope: trio.CancelScope) -> None:
        self.port = port
        self.fs = fs
        self.scope = scope
        self.streams: list[trio.SocketStream] = []

    async def connect(self, *requests: bytes) -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.streams.append(stream)
        for request in requests:
            await stream.send_all(request)
        return stream

    async def table(self) -> None:
        stream = await self.connect(b"KL.CREATE seats SCHEMA x U32 INDEX\r\nKL.INSERT 1 x 1\r\n")
        assert await exactly(stream, 9) == b"+OK\r\n:1\r\n"
        await stream.aclose()


@asynccontextmanager
async def running(tmp_path: Path, use_epoll: bool, **settings: Any) -> AsyncIterator[Running]:
    fs = GateFs()
    config = Config(port=0, dir=str(tmp_path / "data"), **settings)
    async with trio.open_nursery() as nursery:
        start = nursery.start
        addresses = await start(
            lambda task_status: serve(config, fs=fs, use_epoll=use_epoll, task_status=task_status)
        )
        server = Running(int(addresses[0].rpartition(":")[2]), fs, nursery.cancel_scope)
        try:
            yield server
        finally:
            fs.gate.set()
            for stream in server.streams:
                stream.socket.close()
            nursery.cancel_scope.cancel()


async def exactly(stream: trio.SocketStream, count: int) -> bytes:
    """So many bytes, or fewer when the connection ends."""
    got = b""
    with trio.fail_after(20):
        while len(got) < count and (more := await stream.receive_some(count - len(got))):
            got += more
    return got


async def rest(stream: trio.SocketStream) -> bytes:
    """All that comes until the connection ends."""
    got = b""
    with trio.fail_after(20):
        try:
            while more := await stream.receive_some(65536):
                got += more
        except trio.BrokenResourceError:
            pass
    return got


@roads
async def test_a_half_closed_client_gets_its_replies(tmp_path: Path, use_epoll: bool) -> None:
    async with running(tmp_path, use_epoll) as server:
        await server.table()
        server.fs.close_gate()
        stream = await server.connect(b"KL.INSERT 2 x 2\r\nPING\r\n")
        await stream.send_eof()
        await trio.to_thread.run_sync(server.fs.at_gate.wait, 20)
        server.fs.gate.set()
        assert await rest(stream) == b":1\r\n+PONG\r\n"


@roads
async def test_a_sync_that_hangs_stops_only_who_depends_on_it(tmp_path: Path, use_epoll: bool) -> None:
    async with running(tmp_path, use_epoll) as server:
        await server.table()
        server.fs.close_gate()
        writer = await server.connect(b"KL.INSERT 2 x 2\r\n")
        await trio.to_thread.run_sync(server.fs.at_gate.wait, 20)
        quiet = await server.connect(b"PING\r\nKL.SEEK 1\r\n")
        assert await exactly(quiet, 22) == b"+PONG\r\n*2\r\n$1\r\nx\r\n:1\r\n"
        shown = await server.connect(b"KL.SEEK 2\r\n")
        await quiet.send_all(b"PING\r\n")
        assert await exactly(quiet, 7) == b"+PONG\r\n"
        for stream in (writer, shown):
            stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            with pytest.raises(BlockingIOError):
                trio_socket_now(stream)
        server.fs.gate.set()
        assert await exactly(writer, 4) == b":1\r\n"
        assert await exactly(shown, 15) == b"*2\r\n$1\r\nx\r\n:2\r\n"


def trio_socket_now(stream: trio.SocketStream) -> bytes:
    """What is there already, without waiting."""
    with socket.fromfd(stream.socket.fileno(), socket.AF_INET, socket.SOCK_STREAM) as plain:
        return plain.recv(100, socket.MSG_DONTWAIT)


@roads
async def test_what_was_received_is_answered_before_the_end(tmp_path: Path, use_epoll: bool) -> None:
    async with running(tmp_path, use_epoll) as server:
        await server.table()
        idle = await server.connect(b"PING\r\n")
        assert await exactly(idle, 7) == b"+PONG\r\n"
        server.fs.close_gate()
        stream = await server.connect(b"KL.INSERT 2 x 2\r\n")
        await trio.to_thread.run_sync(server.fs.at_gate.wait, 20)
        server.scope.cancel()
        with trio.CancelScope(shield=True):
            await trio.testing.wait_all_tasks_blocked()
            server.fs.gate.set()
            assert await rest(stream) == b":1\r\n"
            assert await rest(idle) == b""
    async with running(tmp_path, use_epoll) as server:
        stream = await server.connect(b"KL.SEEK 2\r\n")
        assert await exactly(stream, 15) == b"*2\r\n$1\r\nx\r\n:2\r\n"


@roads
async def test_after_a_failed_sync_nothing_is_answered(tmp_path: Path, use_epoll: bool) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with running(tmp_path, use_epoll) as server:
            await server.table()
            server.fs.close_gate()
            server.fs.broken = True
            writer = await server.connect(b"KL.INSERT 2 x 2\r\n")
            await trio.to_thread.run_sync(server.fs.at_gate.wait, 20)
            reader = await server.connect(b"KL.SEEK 2\r\n")
            server.fs.gate.set()
            with trio.CancelScope(shield=True):
                assert await rest(writer) == b""
                assert await rest(reader) == b""
    assert caught.value.split(StorageFailed)[1] is None


@loop_only
async def test_a_client_that_reads_nothing_is_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path, True, output_bytes_max=1 << 20) as server:
        deaf = await server.connect()
        request = b"*2\r\n$4\r\nECHO\r\n$8192\r\n" + b"x" * 8192 + b"\r\n"
        with pytest.raises(trio.BrokenResourceError), trio.fail_after(20):
            while True:
                await deaf.send_all(request)
        assert "reads too slowly" in caplog.text
        other = await server.connect(b"PING\r\n")
        assert await exactly(other, 7) == b"+PONG\r\n"


@loop_only
async def test_a_slow_reader_gets_all_in_order(tmp_path: Path) -> None:
    async with running(tmp_path, True) as server:
        stream = await server.connect()
        words = [b"%06d" % number * 2000 for number in range(300)]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stream.send_all, b"".join(b"ECHO %b\r\n" % word for word in words))
            await trio.testing.wait_all_tasks_blocked(0.01)
            for word in words:
                reply = b"$12000\r\n%b\r\n" % word
                assert await exactly(stream, len(reply)) == reply


@loop_only
async def test_one_reply_may_be_larger_than_what_may_wait(tmp_path: Path) -> None:
    """The limit is for those who do not read; a large reply alone says nothing of that."""
    limits = {"output_bytes_max": 100_000, "bulk_bytes_max": 32 << 20, "request_bytes_max": 32 << 20}
    async with running(tmp_path, True, **limits) as server:
        word = b"x" * (16 << 20)  # more than the kernel takes
        stream = await server.connect(b"*2\r\n$4\r\nECHO\r\n$%d\r\n%b\r\n" % (len(word), word))
        reply = b"$%d\r\n%b\r\n" % (len(word), word)
        assert await exactly(stream, len(reply)) == reply


INSERTS = b"".join(b"KL.INSERT big:%d b %b\r\n" % (row, b"x" * 3900) for row in range(4000))
PINGS = b"*1\r\n$4\r\nPING\r\n" * 500_000


@loop_only
@pytest.mark.parametrize(
    ("requests", "replies", "settings"),
    [
        (INSERTS, b":1\r\n" * 4000, {"waiting_log_bytes_max": 1 << 20}),
        (PINGS, b"+PONG\r\n" * 500_000, {"output_bytes_max": 1 << 20}),
    ],
    ids=["writes", "what comes behind a write"],
)
async def test_who_waits_for_the_disk_is_read_no_further(
    tmp_path: Path, requests: bytes, replies: bytes, settings: dict[str, int]
) -> None:
    """No memory is filled by a disk that hangs, and nobody is told to read too slowly for it."""
    async with running(tmp_path, True, **settings) as server, trio.open_nursery() as nursery:
        stream = await server.connect(b"KL.CREATE big SCHEMA b BYTES 3900\r\n")
        assert await exactly(stream, 5) == b"+OK\r\n"
        server.fs.close_gate()
        await stream.send_all(b"KL.INSERT big:9999 b x\r\n")
        await trio.to_thread.run_sync(server.fs.at_gate.wait, 20)
        is_sent = trio.Event()

        async def send() -> None:
            await stream.send_all(requests)
            is_sent.set()

        nursery.start_soon(send)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert not is_sent.is_set()
        other = await server.connect(b"PING\r\n")
        assert await exactly(other, 7) == b"+PONG\r\n"
        server.fs.gate.set()
        assert await exactly(stream, 4) == b":1\r\n"
        assert await exactly(stream, len(replies)) == replies


@loop_only
async def test_who_is_killed_in_a_turn_has_no_part_in_the_rest_of_it(tmp_path: Path) -> None:
    """Nothing is awaited between the two requests: they come in one turn, and are parsed together."""
    async with running(tmp_path, True) as server:
        await server.table()
        operator, killed = await server.connect(b"PING\r\n"), await server.connect(b"CLIENT ID\r\n")
        assert await exactly(operator, 7) == b"+PONG\r\n"
        number = (await exactly(killed, 4)).strip(b":\r\n")
        for stream, words in (
            (operator, (b"CLIENT", b"KILL", b"ID", number)),
            (killed, (b"KL.INSERT", b"2", b"x", b"1")),
        ):
            with socket.socket(fileno=os.dup(stream.socket.fileno())) as sock:
                sock.send(frame(*words))
        assert await exactly(operator, 4) == b":1\r\n"
        assert await rest(killed) == b""
        await operator.send_all(b"KL.COUNT seats x 1\r\n")
        assert await exactly(operator, 4) == b":1\r\n"


@roads
async def test_beside_a_unix_socket_port_0_is_no_port(tmp_path: Path, use_epoll: bool) -> None:
    path = tmp_path / "socket"
    config = Config(port=0, dir=str(tmp_path / "data"), unixsocket=str(path))
    async with trio.open_nursery() as nursery:
        addresses = await nursery.start(
            lambda task_status: serve(config, use_epoll=use_epoll, task_status=task_status)
        )
        assert addresses == [f"unix:{path}"]
        async with await trio.open_unix_socket(path) as stream:
            await stream.send_all(b"PING\r\n")
            assert await exactly(stream, 7) == b"+PONG\r\n"
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("seconds", "told"), [(300, (1, 300, 100, 3)), (2, (1, 2, 1, 3)), (0, (0,))])
def test_the_kernel_asks_whether_a_client_is_there_still(seconds: int, told: tuple[int, ...]) -> None:
    (listener,) = open_listeners(Config(port=0, tcp_keepalive_seconds=seconds))
    with listener, socket.create_connection(listener.getsockname()), listener.accept()[0] as accepted:
        asks = accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT)
        assert (asks, *(accepted.getsockopt(socket.IPPROTO_TCP, one) for one in options if seconds)) == told
    assert Config().tcp_keepalive_seconds == 300


@loop_only
async def test_there_is_a_limit_of_connections(tmp_path: Path) -> None:
    async with running(tmp_path, True, connections_max=2) as server:
        streams = [await server.connect(b"PING\r\n") for _ in range(2)]
        for stream in streams:
            assert await exactly(stream, 7) == b"+PONG\r\n"
        assert await rest(await server.connect()) == b"-ERR max number of clients reached\r\n"
        await streams[0].aclose()
        with trio.fail_after(20):
            while await exactly(await server.connect(b"PING\r\n"), 7) != b"+PONG\r\n":
                pass


@roads
async def test_long_work_stops_nobody(tmp_path: Path, use_epoll: bool) -> None:
    async with running(tmp_path, use_epoll) as server:
        await server.table()
        server.fs.close_gate()
        stream = await server.connect(b"KL.INSERT 2 x 1\r\nKL.VERIFY seats x 1\r\nPING\r\n")
        await trio.to_thread.run_sync(server.fs.at_gate.wait, 20)
        other = await server.connect(b"PING\r\n")
        assert await exactly(other, 7) == b"+PONG\r\n"
        server.fs.gate.set()
        await stream.send_eof()
        reply = await rest(stream)
        assert reply.startswith(b":1\r\n*12\r\n$4\r\nrows\r\n:2\r\n")
        assert reply.endswith(b"$2\r\nok\r\n:1\r\n+PONG\r\n")
