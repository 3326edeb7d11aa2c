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
        now = self._clock()
        if now - self._said_at < LOG_SECONDS_MIN:
            self._unsaid += 1
            return
        if self._unsaid:
            text, values = text + " (and %d others before it)", (*values, self._unsaid)
        self._said_at, self._unsaid = now, 0
        log.warning(text, *values)
