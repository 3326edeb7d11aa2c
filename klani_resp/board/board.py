"""The board's listener: `/` is the page, `/events` the stream that it reads.

One task looks at the sale four times a second, while somebody watches. Each look becomes one event for all
who watch; who comes new is sent the whole map first. A watcher that does not keep up is let go of, and its
browser comes again by itself.
"""

from __future__ import annotations

import json
import math
from collections.abc import AsyncGenerator, Callable
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import trio

from klani_resp.board.sale import Sale, Seen, UnknownSale
from klani_resp.metrics.listener import why_not_ready
from klani_resp.web import Answer, Events, Query, Route, WebListener

if TYPE_CHECKING:
    from klani_resp.app import App

LOOK_SECONDS = 0.25
BEHIND_MAX = 16  # events that wait for one watcher
HTML = "text/html; charset=utf-8"


class Board:
    def __init__(self, app: App, is_stopping: Callable[[], bool]) -> None:
        self._app = app
        self._is_stopping = is_stopping
        self._sale: Sale | None = None
        self._watchers: set[trio.MemorySendChannel[bytes]] = set()
        self._wanted = trio.Event()
        self._page = files("klani_resp.board").joinpath("board.html").read_bytes()
        self._before: dict[str, float] = {}

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled. Raises ListenError."""
        config = self._app.config
        routes: dict[str, Route] = {"/": self._show, "/events": self._watch}
        web = WebListener(config, "board", (config.board_bind, config.board_port), routes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._look)
            await nursery.start(web.serve)
            task_status.started()

    async def _show(self, query: Query) -> Answer:
        return Answer(200, self._page, HTML)

    async def _watch(self, query: Query) -> Events:
        return Events(self._chunks())

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        send, receive = trio.open_memory_channel[bytes](BEHIND_MAX)
        self._watchers.add(send)
        self._sale = None  # all are sent the whole map: it is the same work for one as for many
        self._wanted.set()
        try:
            async for chunk in receive:
                yield chunk
        finally:
            self._watchers.discard(send)

    # --- looking --------------------------------------------------------------------------------------

    async def _look(self) -> None:
        while True:
            if not self._watchers:
                self._wanted = trio.Event()
                await self._wanted.wait()
            for name, facts in await self._events():
                self._send(f"event: {name}\ndata: {json.dumps(facts, separators=(',', ':'))}\n\n".encode())
            await trio.sleep(LOOK_SECONDS)

    def _send(self, chunk: bytes) -> None:
        for watcher in list(self._watchers):
            try:
                watcher.send_nowait(chunk)
            except trio.WouldBlock:
                self._watchers.discard(watcher)
                watcher.close()

    async def _events(self) -> list[tuple[str, dict[str, Any]]]:
        app = self._app
        state = why_not_ready(app, self._is_stopping())
        if app.is_loading or app.failure is not None:
            self._sale = None
            return [("state", {"state": state})]
        try:
            sale, is_new = await self._laid_out()
        except UnknownSale as problem:
            self._sale = None
            return [("state", {"state": str(problem)})]
        seen = sale.look()
        await app.released(seen.position)  # what is seen is durable
        changed = sale.take(seen)
        events: list[tuple[str, dict[str, Any]]] = []
        if is_new:
            events.append(("map", self._map(sale)))
        else:
            events.append(("cells", {"cells": [[cell, *counts] for cell, counts in changed.items()]}))
        return [*events, ("facts", self._facts(sale, seen, state))]

    async def _laid_out(self) -> tuple[Sale, bool]:
        """And whether it is a new map. Raises UnknownSale."""
        engine, config = self._app.engine, self._app.config
        name = config.board_table or config.default_table
        table = engine.tables.get(name.encode())
        if table is None:
            raise UnknownSale(f"there is no table '{name}'")
        sale = self._sale
        if sale is not None and sale.table is table and sale.is_laid_out:
            return sale, False
        field, _, value = config.board_sold.partition(" ")
        sale = Sale(table, (field.encode(), value.encode()))
        for _ in sale.lay_out():
            await trio.lowlevel.checkpoint()
        self._sale = sale
        return sale, True

    def _map(self, sale: Sale) -> dict[str, Any]:
        cells = [
            [rows, sale.sold_in.get(cell, 0), sale.held_in.get(cell, 0)]
            for cell, rows in enumerate(sale.cells)
        ]
        return {
            "table": sale.table.name.decode(),
            "sold_is": self._app.config.board_sold,
            "first": sale.first,
            "width": sale.width,
            "columns": math.ceil(math.sqrt(len(cells))) or 1,
            "cells": cells,
        }

    def _facts(self, sale: Sale, seen: Seen, state: str | None) -> dict[str, Any]:
        app, engine = self._app, self._app.engine
        errors = app.dispatcher.statistics.errors
        assert app.committer is not None
        syncs = app.committer.syncs
        totals = {
            "time": trio.current_time(),
            "sold": len(seen.sold),
            "conflicts": sale.table.tally.locks_refused + errors["BUSY"] + errors["NOLOCK"],
            "groups": engine.wal.groups,
            "syncs": syncs.count,
            "sync_ms": syncs.total / 1e6,
        }
        before, self._before = self._before or totals, totals
        gone = {name: totals[name] - before[name] for name in totals}
        seconds = gone["time"] or LOOK_SECONDS
        return {
            "rows": seen.rows,
            "sold": len(seen.sold),
            "held": len(seen.held),
            "sold_per_second": round(gone["sold"] / seconds, 1),
            "conflicts_per_second": round(gone["conflicts"] / seconds, 1),
            "groups_per_second": round(gone["groups"] / seconds, 1),
            "sync_ms": round(gone["sync_ms"] / gone["syncs"], 3) if gone["syncs"] else None,
            "appended": engine.appended,
            "durable": engine.durable,
            "clients": len(app.sessions),
            "state": state or "serving",
        }
