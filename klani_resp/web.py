"""HTTP/1.1 for onlookers, one request per connection: what the metrics port and the board stand on.

Invariants:
1. Whatever happens on a connection ends that connection at most.
2. A request's head has `onlooker_request_bytes_max`, an exchange `onlooker_request_seconds_max`, a stream
of events no end, while it is read. Of each listener there are `onlooker_connections_max` at a time: the next
one is closed.
3. Nothing here waits for the store.
4. Nothing that is sent is a line in the log.

HTTP comes from h11: sans-I/O, so it needs nothing of its own beside trio, and no line of HTTP is ours to get
wrong.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from http import HTTPStatus
from typing import NamedTuple
from urllib.parse import parse_qs

import h11
import trio

from klani_resp.config import Config
from klani_resp.net.listeners import ListenError, describe_address

log = logging.getLogger("klani_resp")
RECEIVED_BYTES = 2048  # at once: a head may be so much longer than its limit
PLAIN = "text/plain; charset=utf-8"
METHODS = (b"GET", b"HEAD")
ALWAYS = (("Cache-Control", "no-store"), ("Connection", "close"))


class Answer(NamedTuple):
    status: int
    text: bytes
    content_type: str = PLAIN
    allow: str = ""


class Events(NamedTuple):
    """A stream of server-sent events, each in its wire form, until the client goes away.

    To cancel `scope` lets go of a client that does not read: it ends in the middle of a chunk.
    """

    chunks: AsyncGenerator[bytes, None]
    scope: trio.CancelScope


Query = Mapping[str, str]  # of each name the first value
Route = Callable[[Query], Awaitable[Answer | Events]]


class WebListener:
    def __init__(
        self, config: Config, name: str, address: tuple[str, int], routes: Mapping[str, Route]
    ) -> None:
        """`name` is a log line's; the first route is the one that it shows."""
        self._config = config
        self._name = name
        self._address = address
        self._routes = routes
        self._connections = 0

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled. Raises ListenError."""
        host, port = self._address
        try:
            listeners = await trio.open_tcp_listeners(port, host=host)
        except OSError as error:
            raise ListenError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        for listener in listeners:
            sock = listener.socket
            where = describe_address(sock.family, sock.getsockname())
            log.info("%s on http://%s%s", self._name, where, next(iter(self._routes)))
        task_status.started()
        await trio.serve_listeners(self._serve_stream, listeners)

    async def _serve_stream(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        try:
            if self._connections <= self._config.onlooker_connections_max:
                _limit_unread(stream, self._config.onlooker_request_seconds_max)
                await self.exchange(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # whoever asked has gone
        except Exception:
            log.exception("bug in the %s listener: the connection is closed", self._name)
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(stream)

    async def exchange(self, stream: trio.abc.HalfCloseableStream) -> None:
        """All of one connection but its end. Raises BrokenResourceError."""
        config = self._config
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=config.onlooker_request_bytes_max)
        events: Events | None = None
        with trio.move_on_after(config.onlooker_request_seconds_max):
            answer, is_head = await self._answered(stream, http)
            if isinstance(answer, Events) and not is_head:
                events = answer
            elif answer is not None:
                await stream.send_all(_response(http, answer, with_text=not is_head))
                await _linger(stream, config.onlooker_request_bytes_max)
        if events is not None:
            await _stream(stream, http, events)

    async def _answered(
        self, stream: trio.abc.ReceiveStream, http: h11.Connection
    ) -> tuple[Answer | Events | None, bool]:
        """And whether only its head is wanted; None when nobody is there."""
        try:
            request = await _request(stream, http)
        except h11.RemoteProtocolError as error:
            return Answer(error.error_status_hint, f"{error}\n".encode()), False
        if request is None:
            return None, False
        return await self._answer(request), request.method == b"HEAD"

    async def _answer(self, request: h11.Request) -> Answer | Events:
        path, _, query = _without_host(request.target.decode("latin-1")).partition("?")
        route = self._routes.get(path)
        if route is None:
            return Answer(404, f"there are {', '.join(self._routes)}\n".encode())
        if request.method not in METHODS:
            return Answer(405, b"GET and HEAD only\n", allow="GET, HEAD")
        return await route({name: values[0] for name, values in parse_qs(query).items()})


def _limit_unread(stream: trio.SocketStream, seconds: float) -> None:
    """Of what was sent and is not taken, by a client that does not read or has gone without a word. Where the
    system cannot be told, it has its own patience, of a quarter of an hour."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, max(1, int(seconds * 1000)))


def _without_host(target: str) -> str:
    """HTTP/1.1 has servers take `http://host/path`, too."""
    scheme, _, rest = target.partition("://")
    if scheme not in ("http", "https"):
        return target
    return "/" + rest.partition("/")[2]


async def _request(stream: trio.abc.ReceiveStream, http: h11.Connection) -> h11.Request | None:
    """The head of what is asked; None when there is nobody. Raises RemoteProtocolError."""
    while True:
        event = http.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        http.receive_data(bytes(await stream.receive_some(RECEIVED_BYTES)))


async def _stream(stream: trio.abc.SendStream, http: h11.Connection, events: Events) -> None:
    with events.scope:
        async with aclosing(events.chunks) as chunks:
            await stream.send_all(http.send(_head(events)) or b"")
            async for chunk in chunks:
                await stream.send_all(http.send(h11.Data(data=chunk)) or b"")


def _head(answer: Answer | Events) -> h11.Response:
    if isinstance(answer, Events):
        # nginx gathers an answer before it passes it on, unless it is told otherwise.
        headers = [("Content-Type", "text/event-stream"), ("X-Accel-Buffering", "no"), *ALWAYS]
        return h11.Response(status_code=200, headers=headers, reason=b"OK")
    headers = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.text))), *ALWAYS]
    headers += [("Allow", answer.allow)] if answer.allow else []
    reason = HTTPStatus(answer.status).phrase.encode()
    return h11.Response(status_code=answer.status, headers=headers, reason=reason)


def _response(http: h11.Connection, answer: Answer | Events, *, with_text: bool) -> bytes:
    events: list[h11.Event] = [_head(answer)]
    if with_text and isinstance(answer, Answer):
        events.append(h11.Data(data=answer.text))
    events.append(h11.EndOfMessage())
    return b"".join(http.send(event) or b"" for event in events)


async def _linger(stream: trio.abc.HalfCloseableStream, bytes_max: int) -> None:
    """To close while something of the request is unread would be a reset, and may cost the answer."""
    await stream.send_eof()
    while bytes_max > 0 and (data := await stream.receive_some(RECEIVED_BYTES)):
        bytes_max -= len(data)
