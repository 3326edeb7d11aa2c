"""What the board shows, as events.

The sale waits for the disk, as a reply does. The log does not: when a disk hangs, somebody looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import trio

from klani_resp.board.pace import Pace, ratio
from klani_resp.board.sale import Sale, Seen, UnknownSale
from klani_resp.metrics.listener import why_not_ready

if TYPE_CHECKING:
    from klani_resp.app import App

Event = tuple[str, dict[str, Any]]


class SaleView:
    def __init__(self, app: App) -> None:
        self._app = app
        self._sale: Sale | None = None
        self._pace = Pace()

    def forget(self) -> None:
        """Nobody looks any more."""
        self._sale = None
        self._pace.forget()

    async def look(self) -> tuple[list[Event], list[Event]]:
        """What those are sent who have the map already, and what those who have not."""
        try:
            sale = self._found()
        except UnknownSale as problem:
            self._sale = None
            nothing: list[Event] = [("nothing", {"why": str(problem)})]
            return nothing, nothing
        seen = sale.look(self._app.engine.clock())
        totals = {"time": trio.current_time(), "conflicts": self._conflicts(sale)}
        await self._app.released(seen.position)  # what is seen is durable
        changes: list[Event] = []
        is_new = not sale.is_laid_out(seen)
        if is_new:
            for _ in sale.lay_out(seen):
                await trio.lowlevel.checkpoint()
        else:
            changes = [("cells", {"cells": sale.update(seen)})]
        facts = ("facts", self._facts(sale, seen, totals))
        whole = [("map", self._map(sale)), facts]
        return (whole if is_new else [*changes, facts]), whole

    def _found(self) -> Sale:
        """Raises UnknownSale."""
        app, config = self._app, self._app.config
        if app.failure is not None:
            raise UnknownSale("nothing is known any more")
        name = config.board_table or config.default_table
        table = app.engine.tables.get(name.encode())
        if table is None:
            why = "the store loads" if app.is_loading else "KL.CREATE makes it"
            raise UnknownSale(f"Waiting for table '{name}': {why}")
        if self._sale is None or self._sale.table is not table:
            field, _, value = config.board_sold.partition(" ")
            self._sale = Sale(table, (field.encode(), value.encode()))
            self._pace.forget()
        return self._sale

    def _map(self, sale: Sale) -> dict[str, Any]:
        return {
            "table": sale.table.name.decode(),
            "sold_is": self._app.config.board_sold,
            "first": sale.first,
            "width": sale.width,
            "columns": math.ceil(math.sqrt(len(sale.cells))) or 1,
            "cells": sale.cells,
        }

    def _conflicts(self, sale: Sale) -> int:
        """So far: locks that were refused, and sales and writes that met others' holds and locks."""
        errors = self._app.dispatcher.statistics.errors
        return sale.table.tally.locks_refused + errors["BUSY"] + errors["NOLOCK"]

    def _facts(self, sale: Sale, seen: Seen, totals: dict[str, float]) -> dict[str, Any]:
        gone = self._pace.since(totals | {"sold": sale.sales})
        return {
            "time": totals["time"],
            "rows": len(seen.present),
            "sold": len(seen.sold),
            "held": len(seen.held),
            "locked": seen.locked,
            "sold_per_second": ratio(gone, "sold", "time", 1),
            "conflicts_per_second": ratio(gone, "conflicts", "time", 1),
        }


class LogView:
    def __init__(self, app: App, is_stopping: Callable[[], bool]) -> None:
        self._app = app
        self._is_stopping = is_stopping
        self._pace = Pace()

    def forget(self) -> None:
        """Nobody looks any more."""
        self._pace.forget()

    def look(self) -> Event:
        app, engine = self._app, self._app.engine
        reason = why_not_ready(app, self._is_stopping())
        facts = {"state": reason or "serving", "is_serving": reason is None, "clients": len(app.sessions)}
        if app.committer is None:  # the store loads
            return "log", facts
        time, syncs = trio.current_time(), app.committer.syncs
        totals = {"groups": engine.wal.groups, "syncs": syncs.count, "sync_ms": syncs.total / 1e6}
        gone = self._pace.since(totals | {"time": time})
        return "log", facts | {
            "time": time,
            "durable": engine.durable,
            "waiting": engine.appended - engine.durable,
            "groups_per_second": ratio(gone, "groups", "time", 0),
            "sync_ms": ratio(gone, "sync_ms", "syncs", 3),
            "archive": engine.archive.statistics().bytes,
            "appendfsync": app.config.appendfsync,
            "disk": "ok" if engine.readonly_reason is None else "full",
        }
