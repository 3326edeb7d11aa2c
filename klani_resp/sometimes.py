"""A line of the log that could come as often as others like: once a minute is enough."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

LOG_SECONDS_MIN = 60.0


class Sometimes:
    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said_at = -LOG_SECONDS_MIN
        self._unsaid = 0

    def warn(self, log: logging.Logger, text: str, *values: object) -> None:
        """With how many were not said since the last one."""
        self._say(log.warning, text, values)

    def bug(self, log: logging.Logger, text: str, *values: object) -> None:
        """As `warn`, for an exception that is being handled."""
        self._say(log.exception, text, values)

    def _say(self, say: Callable[..., None], text: str, values: tuple[object, ...]) -> None:
        now = self._clock()
        if now - self._said_at < LOG_SECONDS_MIN:
            self._unsaid += 1
            return
        if self._unsaid:
            text, values = text + " (and %d others before it)", (*values, self._unsaid)
        self._said_at, self._unsaid = now, 0
        say(text, *values)
