"""How late the loop is: what no command's own time shows."""

from __future__ import annotations

import trio

from storage.histogram import Histogram

# To sleep for longer would miss more; each look costs a wake-up of an idle server, which has others as often.
PERIOD_SECONDS = 0.1
LAG_NS = [step * 10**power for power in range(5, 9) for step in (2.5, 5, 10)]


async def measure(lag: Histogram) -> None:
    """Until it is cancelled."""
    while True:
        due = trio.current_time() + PERIOD_SECONDS
        await trio.sleep_until(due)
        lag.add(int((trio.current_time() - due) * 1e9))


def new_histogram() -> Histogram:
    return Histogram([int(bound) for bound in LAG_NS])
