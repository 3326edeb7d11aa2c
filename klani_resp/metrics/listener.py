"""/metrics, /healthz and /readyz over HTTP/1.1, one request per connection.

Invariants: 1. Whatever happens on a connection ends that connection at most. 2. A connection has
`metrics_request_seconds_max` in all, a request's head `metrics_request_bytes_max`, and there are
`metrics_connections_max` at a time: the next one is closed. 3. Nothing here waits for the store.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Generator
from http import HTTPStatus
from typing import TYPE_CHECKING, NamedTuple

import h11
import trio

from klani_resp.listeners import ListenError, describe_address
from klani_resp.metrics import lag
from klani_resp.metrics.scrape import scrape
from klani_resp.metrics.text import CONTENT_TYPE

if TYPE_CHECKING:
    from klani_resp.app import App

log = logging.getLogger("klani_resp")
RECEIVED_BYTES = 2048  # at once: a head may be so much longer than its limit
STEP_SECONDS = 0.0005  # of a scrape, before the others have their turn
PLAIN = "text/plain; charset=utf-8"
METHODS = (b"GET", b"HEAD")


class Answer(NamedTuple):
    status: int
    text: bytes
    content_type: str = PLAIN
    allow: str = ""


class Metrics:
    def __init__(self, app: App, is_stopping: Callable[[], bool]) -> None:
        self._app = app
        self._config = app.config
        self._is_stopping = is_stopping
        self._lag = lag.new_histogram()
        self._started_at = time.time() - (time.monotonic() - app.started_at)
        self._connections = 0

    async def serve(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until it is cancelled. Raises ListenError."""
        config = self._config
        where = f"{config.metrics_bind}:{config.metrics_port}"
        try:
            listeners = await trio.open_tcp_listeners(config.metrics_port, host=config.metrics_bind)
        except OSError as error:
            raise ListenError(f"cannot listen on {where}: {error.strerror or error}") from error
        for listener in listeners:
            sock = listener.socket
            log.info("metrics on http://%s/metrics", describe_address(sock.family, sock.getsockname()))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lag.measure, self._lag)
            nursery.start_soon(trio.serve_listeners, self._serve_stream, listeners)
            task_status.started()

    async def _serve_stream(self, stream: trio.SocketStream) -> None:
        self._connections += 1
        try:
            if self._connections <= self._config.metrics_connections_max:
                with trio.move_on_after(self._config.metrics_request_seconds_max):
                    await self._exchange(stream)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # whoever asked has gone
        except Exception:
            log.exception("bug in the metrics listener: the connection is closed")
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(stream)

    async def _exchange(self, stream: trio.SocketStream) -> None:
        config = self._config
        http = h11.Connection(h11.SERVER, max_incomplete_event_size=config.metrics_request_bytes_max)
        is_head = False
        try:
            request = await _request(stream, http)
        except h11.RemoteProtocolError as error:
            answer = Answer(error.error_status_hint, f"{error}\n".encode())
        else:
            if request is None:
                return
            is_head = request.method == b"HEAD"
            answer = await self._answer(request)
        await stream.send_all(_response(http, answer, with_text=not is_head))
        await _linger(stream, config.metrics_request_bytes_max)

    async def _answer(self, request: h11.Request) -> Answer:
        path = request.target.partition(b"?")[0]
        if path not in (b"/metrics", b"/healthz", b"/readyz"):
            return Answer(404, b"there are /metrics, /healthz and /readyz\n")
        if request.method not in METHODS:
            return Answer(405, b"GET and HEAD only\n", allow="GET, HEAD")
        if path == b"/healthz":
            return Answer(200, b"ok\n")
        reason = why_not_ready(self._app, self._is_stopping())
        if path == b"/metrics":
            steps = scrape(self._app, self._lag, self._started_at, reason)
            return Answer(200, await _in_steps(steps), CONTENT_TYPE)
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


async def _request(stream: trio.SocketStream, http: h11.Connection) -> h11.Request | None:
    """The head of what is asked; None when there is nobody. Raises RemoteProtocolError."""
    while True:
        event = http.next_event()
        if isinstance(event, h11.Request):
            return event
        if event is not h11.NEED_DATA:
            return None
        http.receive_data(await stream.receive_some(RECEIVED_BYTES))


def _response(http: h11.Connection, answer: Answer, *, with_text: bool) -> bytes:
    headers = [("Content-Type", answer.content_type), ("Content-Length", str(len(answer.text)))]
    headers += [("Allow", answer.allow)] if answer.allow else []
    headers.append(("Connection", "close"))
    reason = HTTPStatus(answer.status).phrase.encode()
    events: list[h11.Event] = [h11.Response(status_code=answer.status, headers=headers, reason=reason)]
    if with_text:
        events.append(h11.Data(data=answer.text))
    events.append(h11.EndOfMessage())
    return b"".join(http.send(event) or b"" for event in events)


async def _linger(stream: trio.SocketStream, bytes_max: int) -> None:
    """To close while something of the request is unread would be a reset, and may cost the answer."""
    await stream.send_eof()
    while bytes_max > 0 and (data := await stream.receive_some(RECEIVED_BYTES)):
        bytes_max -= len(data)
