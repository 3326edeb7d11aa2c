"""The task road: a trio task per connection, for streams that are no plain socket, and without epoll."""

from __future__ import annotations

import logging
import time
from contextlib import suppress

import trio

from klani_resp.app import App, StorageFailed
from klani_resp.sessions.access import DENIED
from klani_resp.sessions.session import Session
from klani_resp.sessions.transport import Line, Transport

log = logging.getLogger("klani_resp")
CLOSE_SECONDS_MAX = 1.0
PIECE_BYTES = 64 << 10  # of a reply, that are sent at once


async def serve_stream(stream: trio.abc.Stream, app: App, transport: Transport | None = None) -> None:
    """Serves one client until it, or a command of its, ends the connection."""
    transport = transport or Transport("", "")
    if app.access.refuses(transport.host):
        await _refuse(stream, app)
        return
    session = app.open_session(transport)
    try:
        async with trio.open_nursery() as nursery:
            outbox = Outbox(stream, app, session, nursery)
            waiting = outbox.waiting_bytes
            session.line = Line(nursery.cancel_scope.cancel, outbox.put, waiting, waiting, outbox.is_held)
            await _serve(stream, app, session, outbox)
            with trio.move_on_after(CLOSE_SECONDS_MAX):
                await stream.aclose()  # TLS says that this is the end
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # A client that went away is nothing to complain of: what it had appended stays.
        _, rest = group.split((trio.BrokenResourceError, trio.ClosedResourceError))
        if rest is not None:
            raise (only_of(StorageFailed, rest) or rest) from None
    finally:
        app.close_session(session)
        await trio.aclose_forcefully(stream)


async def _refuse(stream: trio.abc.Stream, app: App) -> None:
    """Protected mode."""
    app.counters.rejected += 1
    with suppress(trio.BrokenResourceError), trio.move_on_after(CLOSE_SECONDS_MAX):
        await stream.send_all(DENIED)
    with trio.move_on_after(CLOSE_SECONDS_MAX):
        await stream.aclose()


def only_of(kind: type[BaseException], group: BaseExceptionGroup[BaseException]) -> BaseException | None:
    """The first exception of this kind in a group, at whatever depth."""
    found: BaseException | None = group.subgroup(kind)
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


class Outbox:
    """What goes out on a stream, one thing after another: replies, and what others deliver meanwhile."""

    def __init__(self, stream: trio.abc.Stream, app: App, session: Session, nursery: trio.Nursery) -> None:
        self._stream = stream
        self._app = app
        self._session = session
        self._nursery = nursery
        self._sending = trio.StrictFIFOLock()
        self._delivered = bytearray()
        self._reply_bytes = 0
        self._is_held = False
        self._is_cut_off = False

    def waiting_bytes(self) -> int:
        return self._reply_bytes + len(self._delivered)

    def is_held(self) -> bool:
        return self._is_held

    async def released(self, position: int) -> None:
        """When what is about to be sent is on disk."""
        self._is_held = True
        await self._app.released(position)
        self._is_held = False

    async def send(self, data: bytes) -> None:
        """In pieces: how far it has come tells whether the client reads at all."""
        self._reply_bytes = len(data)
        async with self._sending:
            for start in range(0, len(data), PIECE_BYTES):
                piece = memoryview(data)[start : start + PIECE_BYTES]
                await self._stream.send_all(piece)
                self._reply_bytes -= len(piece)
                self._session.used_at = time.monotonic()
                self._app.counters.sent_bytes += len(piece)

    def put(self, data: bytes) -> None:
        """As what is no reply; a client that does not read it is cut off."""
        if self._is_cut_off:
            return
        is_first = not self._delivered
        self._delivered += data
        if len(self._delivered) > self._session.output_bytes_max:
            log.warning("client %d reads too slowly: its connection is closed", self._session.id)
            self._is_cut_off = True
            self._session.end()
        elif is_first:
            self._nursery.start_soon(self._send_delivered)

    async def _send_delivered(self) -> None:
        async with self._sending:
            while self._delivered:
                data = bytes(self._delivered)
                await self._stream.send_all(data)
                del self._delivered[: len(data)]
                self._app.counters.sent_bytes += len(data)


async def _serve(stream: trio.abc.Stream, app: App, session: Session, outbox: Outbox) -> None:
    while not session.closing:
        data = await app.receive(stream)
        if not data:
            return
        session.used_at = time.monotonic()
        app.counters.received_bytes += len(data)
        reply = session.receive(data)
        await _send(app, session, reply, outbox)
        while session.job is not None or session.more:
            reply = await app.run_job(session) if session.job is not None else session.receive(b"")
            await _send(app, session, reply, outbox)


async def _send(app: App, session: Session, reply: bytes, outbox: Outbox) -> None:
    hold = session.hold
    app.wake_committer()
    await outbox.released(hold)
    if reply:
        await outbox.send(reply)
