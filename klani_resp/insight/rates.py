"""How much there is to do at the moment: counters, looked at once a second."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

import trio

if TYPE_CHECKING:
    from klani_resp.app import App

PERIOD_SECONDS = 1.0
SAMPLES = 4  # the rate is that of so many periods less one


class Totals(NamedTuple):
    seconds: float
    commands: int
    received_bytes: int
    sent_bytes: int


class Rates:
    def __init__(self, app: App) -> None:
        self._app = app
        self._samples: deque[Totals] = deque(maxlen=SAMPLES)

    def sample(self, seconds: float) -> None:
        counters = self._app.counters
        totals = self._app.commands_done, counters.received_bytes, counters.sent_bytes
        self._samples.append(Totals(seconds, *totals))

    def per_second(self) -> Totals:
        """Of the last few seconds; `seconds` is what it was measured over, 0 when there is nothing yet."""
        if len(self._samples) < 2:
            return Totals(0.0, 0, 0, 0)
        first, last = self._samples[0], self._samples[-1]
        seconds = last.seconds - first.seconds
        gone = [int((after - before) / seconds) for before, after in zip(first[1:], last[1:], strict=True)]
        return Totals(seconds, *gone)

    async def measure(self) -> None:
        """Until it is cancelled."""
        while True:
            self.sample(trio.current_time())
            await trio.sleep(PERIOD_SECONDS)
