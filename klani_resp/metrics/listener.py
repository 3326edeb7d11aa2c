"""/metrics, /healthz and /readyz."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING

import trio

from klani_resp.metrics import lag
from klani_resp.metrics.scrape import scrape
from klani_resp.metrics.text import CONTENT_TYPE
from klani_resp.web import Answer, Query, WebListener

if TYPE_CHECKING:
    from klani_resp.app import App

STEP_SECONDS = 0.0005  # of a scrape, before the others have their turn


class Metrics:
    def __init__(self, app: App, is_stopping: Callable[[], bool]) -> None:
        self._app = app
        self._is_stopping = is_stopping
        self._lag = lag.new_histogram()
        self._started_at = time.time() - (time.monotonic() - app.started_at)

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled. Raises ListenError."""
        config = self._app.config
        routes = {"/metrics": self._metrics, "/healthz": self._healthz, "/readyz": self._readyz}
        web = WebListener(config, "metrics", (config.metrics_bind, config.metrics_port), routes)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lag.measure, self._lag)
            await nursery.start(web.serve)
            task_status.started()

    async def _metrics(self, query: Query) -> Answer:
        reason = why_not_ready(self._app, self._is_stopping())
        return Answer(
            200, await _in_steps(scrape(self._app, self._lag, self._started_at, reason)), CONTENT_TYPE
        )

    async def _healthz(self, query: Query) -> Answer:
        return Answer(200, b"ok\n")

    async def _readyz(self, query: Query) -> Answer:
        reason = why_not_ready(self._app, self._is_stopping())
        return Answer(200, b"ready\n") if reason is None else Answer(503, f"{reason}\n".encode())


def why_not_ready(app: App, is_stopping: bool) -> str | None:
    """One line; None when new sales are taken."""
    if app.failure is not None:
        return f"failed: {app.failure}"
    if is_stopping:
        return "stopping"
    if app.is_loading:
        return f"loading: {100 * app.loading_progress:.1f} %"
    if app.engine.readonly_reason is not None:
        return f"readonly_full: {app.engine.readonly_reason}"
    return None


async def _in_steps(steps: Generator[None, None, bytes]) -> bytes:
    began = trio.current_time()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            text: bytes = end.value
            return text
        if trio.current_time() - began > STEP_SECONDS:
            await trio.lowlevel.checkpoint()
            began = trio.current_time()
