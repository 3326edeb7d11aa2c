"""The task road: a trio task per connection, for streams that are no plain socket, and without epoll."""

from __future__ import annotations

import time

import trio

from klani_resp.app import App
from klani_resp.session import Session, Transport

CLOSE_SECONDS_MAX = 1.0


async def serve_stream(stream: trio.abc.Stream, app: App, transport: Transport | None = None) -> None:
    """Serves one client until it, or a command of its, ends the connection."""
    session = app.open_session(transport or Transport("", ""))
    try:
        with trio.CancelScope() as scope:
            session.end = scope.cancel
            await _serve(stream, app, session)
            with trio.move_on_after(CLOSE_SECONDS_MAX):
                await stream.aclose()  # TLS says that this is the end
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass  # the client went away: what it had appended stays
    finally:
        app.close_session(session)
        await trio.aclose_forcefully(stream)


async def _serve(stream: trio.abc.Stream, app: App, session: Session) -> None:
    while not session.closing:
        data = await app.receive(stream)
        if not data:
            return
        session.used_at = time.monotonic()
        reply = session.receive(data)
        await _send(stream, app, session, reply)
        while session.job is not None or session.more:
            reply = await app.run_job(session) if session.job is not None else session.receive(b"")
            await _send(stream, app, session, reply)


async def _send(stream: trio.abc.Stream, app: App, session: Session, reply: bytes) -> None:
    hold = session.hold
    app.wake_committer()
    await app.released(hold)
    if reply:
        await stream.send_all(reply)
