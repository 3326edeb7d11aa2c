"""Connections that nobody serves any more: idle ones, and those whose request begins and never ends.

Nothing is noted as requests come: each session is looked at once a second, some at a time, so that the loop
is never held for more than 0.1 ms, up to 10,000 of them. So a time-out may come a second or two late.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import trio

from klani_resp.app import App
from klani_resp.sessions.session import Session

log = logging.getLogger("klani_resp")
ROUND_SECONDS = 1.0
SLICE_SESSIONS = 64  # 20 us
LOG_SECONDS_MIN = 60.0


class Sweep:
    def __init__(self, app: App, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        # By session: the request that it has begun, as its parser has it, and when that was first seen.
        self._begun: dict[int, tuple[object, float]] = {}
        self._logged_at = -LOG_SECONDS_MIN
        self._unlogged = 0

    def round(self) -> Iterator[None]:
        """Looks at all sessions once; the others' turn is after each slice."""
        config = self._app.config
        if not config.idle_seconds_max and not config.request_seconds_max:
            self._begun = {}
            return
        sessions = list(self._app.sessions.values())
        begun, self._begun = self._begun, {}
        yield
        for start in range(0, len(sessions), SLICE_SESSIONS):
            now = self._clock()
            for session in sessions[start : start + SLICE_SESSIONS]:
                if session.job is not None or session.more:
                    continue  # it is the server that takes its time
                if 0 < config.idle_seconds_max < now - session.used_at and not session.is_monitor:
                    session.end()
                elif (request := session.begun_request) is not None and config.request_seconds_max:
                    known, since = begun.get(session.id, (None, now))
                    if known is not request:
                        since = now
                    if now - since > config.request_seconds_max:
                        self._end_unfinished(session, now)
                    else:
                        self._begun[session.id] = (request, since)
            yield

    def _end_unfinished(self, session: Session, now: float) -> None:
        session.end()
        self._unlogged += 1
        if now - self._logged_at >= LOG_SECONDS_MIN:
            log.warning(
                "client %d at %s began a request and did not end it in %g s: its connection is closed, "
                "%d so far",
                session.id,
                session.transport.address,
                self._app.config.request_seconds_max,
                self._unlogged,
            )
            self._logged_at = now


async def sweep(app: App, clock: Callable[[], float] = time.monotonic) -> None:
    """As long as the server runs: a round begins each second, and its slices are spread over that."""
    sweeper = Sweep(app, clock)
    while True:
        begins_at = trio.current_time() + ROUND_SECONDS
        slices = -(-len(app.sessions) // SLICE_SESSIONS)
        for _ in sweeper.round():
            await trio.sleep(ROUND_SECONDS / (slices + 1))
        await trio.sleep_until(begins_at)
