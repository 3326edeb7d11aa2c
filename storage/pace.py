"""The pace of work in a thread beside the loop, which has one interpreter with it.

A thread that computes keeps the interpreter for 5 ms each time that the loop asks for it, and a short system
call does not hand it over. One that sleeps does: so it works for 50 us, and sleeps as long.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

WORK_SECONDS = 0.00005
PAUSE_SECONDS = 0.00005  # long enough for the loop to take the interpreter
T = TypeVar("T")


class Pace:
    def __init__(self) -> None:
        self._paused_at = time.perf_counter()

    def step(self) -> None:
        """Between two pieces of work, each some 0.1 ms at most."""
        if time.perf_counter() - self._paused_at >= WORK_SECONDS:
            time.sleep(PAUSE_SECONDS)
            self._paused_at = time.perf_counter()


def paced(items: Iterable[T]) -> Iterator[T]:
    """Small ones, each of which takes no time to speak of."""
    pace = Pace()
    for item in items:
        yield item
        pace.step()
