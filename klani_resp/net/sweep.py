"""Connections that are ended by time: idle ones, those whose request begins and never ends, and those that do
not read what they asked for.

Nothing is noted as requests come: each session is looked at once a second, some at a time, so that the loop
is never held for more than 0.1 ms, up to 10,000 of them. So a time-out may come a second or two late.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from typing import Any

import trio

from klani_resp.app import App
from klani_resp.sessions.session import Session
from klani_resp.sometimes import Sometimes

log = logging.getLogger("klani_resp")
ROUND_SECONDS = 1.0
SLICE_SESSIONS = 64  # 20 us
READ_SHARE = 64  # 1 MiB in ten seconds, with the settings as they come


class Since:
    """By session: what should change about it, and when it was first seen to be so."""

    def __init__(self) -> None:
        self._before: dict[int, tuple[Any, float]] = {}
        self._seen: dict[int, tuple[Any, float]] = {}

    def next_round(self) -> None:
        """Who is not seen in a round is forgotten."""
        self._before, self._seen = self._seen, {}

    def see(self, session: Session, found: Any, is_same: Callable[[Any], bool], now: float) -> float:
        """For how long it has been so. What was found before and is not the same begins anew."""
        known, since = self._before.get(session.id, (found, now))
        if not is_same(known):
            known, since = found, now
        self._seen[session.id] = known, since
        return now - since


class Sweep:
    def __init__(self, app: App, clock: Callable[[], float] = time.monotonic) -> None:
        self._app = app
        self._clock = clock
        self._begun = Since()  # requests, as their parsers have them
        self._unread = Since()  # bytes of replies
        self._unfinished_ended, self._unread_ended = Sometimes(clock), Sometimes(clock)

    def round(self) -> Iterator[None]:
        """Looks at all sessions once; the others' turn is after each slice."""
        sessions = list(self._app.sessions.values())
        self._begun.next_round()
        self._unread.next_round()
        yield
        for start in range(0, len(sessions), SLICE_SESSIONS):
            now = self._clock()
            for session in sessions[start : start + SLICE_SESSIONS]:
                self._judge(session, now)
            yield

    def _judge(self, session: Session, now: float) -> None:
        config = self._app.config
        unread = session.line.unread_bytes()
        if unread and unread > session.output_bytes_max and self._is_deaf(session, unread, now):
            self._end_deaf(session, unread)
        elif session.job is not None or session.more or session.line.is_held():
            session.used_at = now  # it is the server that takes its time: the client's begins when it is done
        elif 0 < config.idle_seconds_max < now - session.used_at and not session.is_monitor:
            session.end()
        elif (request := session.begun_request) is not None:
            begun_for = self._begun.see(session, request, lambda known: known is request, now)
            if 0 < config.request_seconds_max < begun_for:
                self._end_unfinished(session)

    def _is_deaf(self, session: Session, unread: int, now: float) -> bool:
        """In the time that it has it is to read a share of what may wait, or a byte a day would do."""
        least = session.output_bytes_max // READ_SHARE
        deaf_for = self._unread.see(session, unread, lambda known: known - unread < least, now)
        return 0 < self._app.config.unread_seconds_max < deaf_for

    def _end_deaf(self, session: Session, unread: int) -> None:
        session.end()
        self._unread_ended.warn(
            log,
            "client %d at %s does not read: %d bytes of replies wait, its connection is closed",
            session.id,
            session.transport.address,
            unread,
        )

    def _end_unfinished(self, session: Session) -> None:
        session.end()
        self._unfinished_ended.warn(
            log,
            "client %d at %s began a request and did not end it in %g s: its connection is closed",
            session.id,
            session.transport.address,
            self._app.config.request_seconds_max,
        )


async def sweep(app: App, clock: Callable[[], float] = time.monotonic) -> None:
    """As long as the server runs: a round begins each second, and its slices are spread over that."""
    sweeper = Sweep(app, clock)
    while True:
        begins_at = trio.current_time() + ROUND_SECONDS
        slices = -(-len(app.sessions) // SLICE_SESSIONS)
        for _ in sweeper.round():
            await trio.sleep(ROUND_SECONDS / (slices + 2))
        await trio.sleep_until(begins_at)
