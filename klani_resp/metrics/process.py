"""What any process shows, under the names that all Prometheus clients give it."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

from klani_resp.insight.facts import resident_bytes
from klani_resp.metrics.text import COUNTER, GAUGE, one

DESCRIPTORS = Path("/proc/self/fd")


def process(started_at: float) -> Iterator[str]:
    """`started_at` in unix time: the same in each scrape, whatever the clock does meanwhile."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    yield one(
        "process_cpu_seconds_total",
        COUNTER,
        "User and system time of the server's process.",
        own.ru_utime + own.ru_stime,
    )
    yield one("process_resident_memory_bytes", GAUGE, "Memory in use.", resident_bytes())
    yield one(
        "process_start_time_seconds",
        GAUGE,
        "When the server started, in unix time.",
        started_at,
    )
    if DESCRIPTORS.exists():
        yield one("process_open_fds", GAUGE, "File descriptors in use.", _descriptors())
    yield one(
        "process_max_fds",
        GAUGE,
        "File descriptors that the process may have.",
        resource.getrlimit(resource.RLIMIT_NOFILE)[0],
    )


def _descriptors() -> int:
    """Linux 6.2 and later say how many there are; before, 10,000 of them have to be listed."""
    return DESCRIPTORS.stat().st_size or sum(1 for _ in DESCRIPTORS.iterdir())
