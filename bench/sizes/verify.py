"""KL.VERIFY's rate on a large table, and what it does to the readers beside it."""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from bench.harness import launch, seats
from bench.harness.loadgen import Client, quantile

QUIET_SECONDS = 5.0
BUSY_SECONDS_MIN = 5.0
BUSY_SECONDS_MAX = 120.0
VERIFIES_MIN = 3
PAUSE_SECONDS = 0.0005  # between one answer and the next question: a probe, not a load


@dataclass(frozen=True)
class Verified:
    rows_per_second: float
    quiet_p99_ms: float
    busy_p99_ms: float
    busy_max_ms: float


def measure(server: launch.Server, rows: int) -> Verified:
    """The median rate of several VERIFYs in a row, SEEKs of random rows going on beside them."""
    prober, verifier = Client(server.port), Client(server.port)
    begun = time.monotonic()
    quiet = probe(prober, rows, lambda: time.monotonic() - begun < QUIET_SECONDS)
    seconds: list[float] = []
    failures: list[BaseException] = []

    def verify() -> None:
        started = time.monotonic()
        try:
            while len(seconds) < VERIFIES_MIN or time.monotonic() - started < BUSY_SECONDS_MIN:
                if time.monotonic() - started > BUSY_SECONDS_MAX:
                    return
                begun = time.monotonic()
                value = len(seconds) % 2  # all rows match, then none
                check_verified(verifier.call("KL.VERIFY", seats.TABLE, "is_booked", value), rows)
                seconds.append(time.monotonic() - begun)
                print(f"  VERIFY {rows / seconds[-1]:,.0f} rows/s", flush=True)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=verify, daemon=True)
    thread.start()
    busy = probe(prober, rows, thread.is_alive)
    thread.join()
    prober.close()
    verifier.close()
    if failures:
        raise failures[0]
    rate = rows / statistics.median(seconds)
    return Verified(rate, quantile(quiet, 0.99) * 1e3, quantile(busy, 0.99) * 1e3, max(busy) * 1e3)


def check_verified(flat: list[Any], rows: int) -> None:
    """Raises unless VERIFY's answer (RESP2: a flat array) says that all is well and counts `rows` rows."""
    answer = {flat[i].decode(): flat[i + 1] for i in range(0, len(flat), 2)}
    if answer["ok"] != 1 or answer["rows"] != rows:
        raise RuntimeError(f"VERIFY of {rows} rows: {answer}")


def probe(client: Client, rows: int, going: Callable[[], bool]) -> list[float]:
    """Seconds of each of many SEEKs of random rows, one at a time, with pauses."""
    rng = random.Random(3)
    seconds: list[float] = []
    while going():
        row = rng.randrange(rows)
        begun = time.perf_counter()
        answer = client.call("KL.SEEK", f"{seats.TABLE}:{row}")
        seconds.append(time.perf_counter() - begun)
        if answer[3] != row:
            raise RuntimeError(f"SEEK of row {row}: {answer}")
        time.sleep(PAUSE_SECONDS)
    return seconds
