"""The board's listener: `/` is the page, `/events` the stream that it reads.

Two tasks look four times a second, while somebody watches: one at the sale, one at the log. Each look is
written down once for all who watch; who comes new is sent the whole map. A watcher that does not keep up is
let go of with its connection, and its browser comes again by itself.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from importlib.resources import files

import msgspec
import trio

from klani_resp.app import App, StorageFailed
from klani_resp.board.views import Event, LogView, SaleView
from klani_resp.web import Answer, Events, Query, Route, WebListener

log = logging.getLogger("klani_resp")
LOOK_SECONDS = 0.25
BEHIND_MAX = 16  # chunks that wait for one watcher: two seconds of looks
HTML = "text/html; charset=utf-8"


@dataclass(eq=False, slots=True)
class Watcher:
    chunks: trio.MemorySendChannel[bytes]
    scope: trio.CancelScope  # of its connection
    has_map: bool = False


class Board:
    def __init__(self, app: App, is_stopping: Callable[[], bool]) -> None:
        self._app = app
        self._sale = SaleView(app)
        self._log = LogView(app, is_stopping)
        self._watchers: set[Watcher] = set()
        self._watched = trio.lowlevel.ParkingLot()
        self._page = files("klani_resp.board").joinpath("board.html").read_bytes()

        config = app.config
        routes: dict[str, Route] = {"/": self._show, "/events": self._watch}
        self.web = WebListener(config, "board", (config.board_bind, config.board_port), routes)

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled. Raises ListenError."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep, self.look_at_sale)
            nursery.start_soon(self._keep, self.look_at_log)
            await nursery.start(self.web.serve)
            task_status.started()

    async def _show(self, query: Query) -> Answer:
        return Answer(200, self._page, HTML)

    async def _watch(self, query: Query) -> Events:
        scope = trio.CancelScope()
        return Events(self._chunks(scope), scope)

    async def _chunks(self, scope: trio.CancelScope) -> AsyncGenerator[bytes, None]:
        send, receive = trio.open_memory_channel[bytes](BEHIND_MAX)
        watcher = Watcher(send, scope)
        self._watchers.add(watcher)
        self._watched.unpark_all()
        try:
            async for chunk in receive:
                yield chunk
        finally:
            self._watchers.discard(watcher)

    async def _keep(self, look: Callable[[], Awaitable[None]]) -> None:
        """A bug in a look costs those who watch their connections, and no buyer anything. Raises
        StorageFailed."""
        while True:
            try:
                await look()
            except StorageFailed:
                raise
            except Exception:
                log.exception("bug in the board: whoever watches is let go of")
                for watcher in self._watchers.copy():
                    self._let_go(watcher)

    def _let_go(self, watcher: Watcher) -> None:
        self._watchers.discard(watcher)
        watcher.scope.cancel()  # it may wait to send what was first

    async def look_at_sale(self) -> None:
        while True:
            if not self._watchers:
                self._sale.forget()
                await self._watched.park()
            changes, whole = await self._sale.look()
            new = {watcher for watcher in self._watchers if not watcher.has_map}
            self._send(self._watchers - new, changes)
            self._send(new, whole)
            for watcher in new:
                watcher.has_map = True
            await trio.sleep(LOOK_SECONDS)

    async def look_at_log(self) -> None:
        while True:
            if not self._watchers:
                self._log.forget()
                await self._watched.park()
            self._send(self._watchers.copy(), [self._log.look()])
            await trio.sleep(LOOK_SECONDS)

    def _send(self, watchers: set[Watcher], events: Iterable[Event]) -> None:
        if not watchers:
            return
        chunk = b"".join(
            b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(facts)) for name, facts in events
        )
        for watcher in watchers:
            try:
                watcher.chunks.send_nowait(chunk)
            except trio.WouldBlock:
                self._let_go(watcher)
