"""HTTP for onlookers: whatever they send and whatever they leave undone, it is theirs alone."""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress

import msgspec
import pytest
import trio
import trio.testing

from bench.harness.launch import free_port
from klani_resp.board.board import BEHIND_MAX, LOOK_SECONDS, Board
from klani_resp.config import Config
from klani_resp.web import Answer, Events, Query, WebListener
from tests.in_memory import new_app

HOST = b" HTTP/1.1\r\nHost: x\r\n"
EVENT = b"data: 1\n\n"


@asynccontextmanager
async def listening(**settings: float) -> AsyncIterator[int]:
    """The port of one that has a page, and a stream of one event."""

    async def page(query: Query) -> Answer:
        return Answer(200, b"page\n")

    async def events(query: Query) -> Events:
        return Events(chunks(), trio.CancelScope())

    async def chunks() -> AsyncGenerator[bytes, None]:
        yield EVENT

    config, port = Config(**settings), free_port()  # type: ignore[arg-type]
    web = WebListener(config, "test's", ("127.0.0.1", port), {"/": page, "/events": events})
    async with trio.open_nursery() as nursery:
        await nursery.start(web.serve)
        yield port
        nursery.cancel_scope.cancel()


@pytest.fixture(autouse=True)
def no_bug(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No input is a line in the log."""
    with caplog.at_level(logging.WARNING):
        yield
    assert caplog.get_records("call") == []


async def answer_to(port: int, sent: bytes) -> tuple[int, bytes, bytes]:
    """Status, head and the rest, until the end of the connection."""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(sent)
        got = b"".join([data async for data in stream])
    head, _, text = got.partition(b"\r\n\r\n")
    return int(head.split()[1]), head, text


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("path", [b"/", b"/events"])
async def test_head_is_get_without_its_text(path: bytes, version: bytes) -> None:
    async with listening() as port:
        asked = path + b" HTTP/" + version + b"\r\nHost: x\r\n\r\n"
        _, of_get, text = await answer_to(port, b"GET " + asked)
        status, of_head, nothing = await answer_to(port, b"HEAD " + asked)
        without_date = [line for line in of_get.split(b"\r\n") if not line.startswith(b"Date")]
        assert without_date == [line for line in of_head.split(b"\r\n") if not line.startswith(b"Date")]
        assert (status, nothing) == (200, b"")
        assert text != b""


@pytest.mark.parametrize("path", [b"/", b"/events"])
@pytest.mark.parametrize(
    ("method", "rest", "status"),
    [
        (b"GET", b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 200),
        (b"GET", b"Content-Length: 5\r\n\r\nhello", 200),
        (b"GET", b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 200),
        (b"GET", b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x00", 200),
        (b"GET", b"Connection: keep-alive\r\n\r\nGET / HTTP/1.1\r\n", 200),
        (b"HEAD", b"\r\nHEAD /events HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        (b"HEAD", b"Content-Length: 5\r\n\r\nhello", 200),
        (b"CONNECT", b"\r\n", 405),
        (b"OPTIONS", b"\r\n", 405),
        (b"BREW", b"\r\n", 405),
        (b"POST", b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n", 405),
        (b"GET", b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n", 400),
        (b"GET", b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (b"HEAD", b"Host: y\r\n\r\n", 400),
    ],
)
async def test_odd_requests_are_answered(path: bytes, method: bytes, rest: bytes, status: int) -> None:
    async with listening() as port:
        assert (await answer_to(port, method + b" " + path + HOST + rest))[0] == status


@pytest.mark.parametrize(
    ("target", "status"),
    [
        (b"http://127.0.0.1:8081/", 200),
        (b"http://x", 200),
        (b"http://x/events?a=1", 200),
        (b"http://[/", 200),
        (b"/?%ff=%zz&&=;", 200),
        (b"/nope", 404),
        (b"http://x/nope", 404),
        (b"*", 404),
        (b"//", 404),
        (b"?", 404),
    ],
)
async def test_targets(target: bytes, status: int) -> None:
    async with listening() as port:
        for method in (b"GET ", b"HEAD "):
            assert (await answer_to(port, method + target + HOST + b"\r\n"))[0] == status


async def test_who_says_nothing_or_goes_is_no_bug() -> None:
    async with listening(onlooker_request_seconds_max=0.05) as port:
        for sent in (b"", b"GET /ev", b"GET / HTTP/1.1\r\n"):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                if sent:
                    await stream.send_all(sent)
                assert await stream.receive_some() == b""
        for sent in (b"", b"GET /ev", b"GET /events" + HOST + b"\r\n"):
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            if sent:
                await stream.send_all(sent)
            await trio.aclose_forcefully(stream)
        assert (await answer_to(port, b"GET /" + HOST + b"\r\n"))[0] == 200


# --- streams that nobody reads ------------------------------------------------------------------------------

WATCH = b"GET /events" + HOST + b"\r\n"


async def test_a_watcher_that_falls_behind_is_let_go_of_with_its_connection(
    autojump_clock: trio.testing.MockClock,
) -> None:
    board = Board(new_app(), lambda: False)
    client, server = trio.testing.lockstep_stream_pair()  # a send ends when it was received
    async with trio.open_nursery() as nursery:
        nursery.start_soon(board.look_at_log)
        nursery.start_soon(client.send_all, WATCH)
        nursery.start_soon(client.receive_some)
        await board.web.exchange(server)
        behind = BEHIND_MAX * LOOK_SECONDS
        assert behind <= trio.current_time() <= behind + 2 * LOOK_SECONDS
        nursery.cancel_scope.cancel()


@pytest.mark.skipif(not hasattr(socket, "TCP_USER_TIMEOUT"), reason="the system has its own patience")
async def test_who_never_reads_locks_nobody_out() -> None:
    """What waits lies in the system's buffers: at the pace of a quiet board they are full in half an hour."""
    limits = Config(board_port=free_port(), onlooker_connections_max=2, onlooker_request_seconds_max=0.2)
    app = new_app(**msgspec.structs.asdict(limits))
    async with trio.open_nursery() as nursery:
        await nursery.start(Board(app, lambda: False).serve)
        for _ in range(limits.onlooker_connections_max):
            deaf = trio.socket.socket()
            deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            await deaf.connect(("127.0.0.1", limits.board_port))
            await deaf.send(WATCH)
            nursery.start_soon(hold, deaf)
        with trio.fail_after(20):
            await until_there(limits.board_port)
        nursery.cancel_scope.cancel()


async def test_a_bug_in_a_look_costs_those_who_watch_their_connections(
    autojump_clock: trio.testing.MockClock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = new_app(board_port=free_port())
    board = Board(app, lambda: False)
    autojump_clock.autojump_threshold = 0.05  # sockets take a while
    async with trio.open_nursery() as nursery:
        await nursery.start(board.serve)
        with monkeypatch.context() as broken:
            broken.setattr(app.engine, "tables", None)
            assert (await answer_to(app.config.board_port, WATCH))[0] == 200
        (record,) = caplog.get_records("call")
        assert record.message.startswith("bug in the board")
        caplog.clear()
        async with await trio.open_tcp_stream("127.0.0.1", app.config.board_port) as stream:
            await stream.send_all(WATCH)
            got = bytearray()
            while b"Waiting for table" not in got:
                got += await stream.receive_some()
        nursery.cancel_scope.cancel()


async def hold(deaf: trio.socket.SocketType) -> None:
    with deaf:
        await trio.sleep_forever()


async def until_there(port: int) -> None:
    """The page: a connection too many is closed without a word."""
    answered = b""
    while not answered.startswith(b"HTTP/1.1 200"):
        await trio.sleep(0.05)
        with suppress(trio.BrokenResourceError):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"GET /" + HOST + b"\r\n")
                answered = bytes(await stream.receive_some())
