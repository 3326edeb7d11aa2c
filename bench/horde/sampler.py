"""The server's log during the storm: groups and syncs, asked of INFO before it, ten times a second (at first
more often, for a run may be short), and at its end."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType
from typing import Any

import redis

from bench.horde.options import Options
from bench.horde.store import client_of

SAMPLE_SECONDS, FIRST_SECONDS = 0.1, 1.0
FIRST_SAMPLE_SECONDS = 0.02  # of the first second
# A frame is what one command wrote to the log, or one MULTI. Not every version has all of them.
COUNTERS = {
    "groups": "log_commits",
    "frames": "log_frames",
    "syncs": "log_syncs",
    "sync_ms": "log_sync_ms",
    "bytes": "log_appended",
}


class LogSampler:
    """A thread with a connection of its own; for klani-resp alone, others have no such counters.

    `samples` are totals: `at_ns` of `time.perf_counter_ns`, then the names of COUNTERS.
    """

    def __init__(self, options: Options) -> None:
        self.samples: list[dict[str, float]] = []
        self._options = options
        self._released = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> LogSampler:
        if self._options.engine == "klani":
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._released.set()
        if self._thread is not None:
            self._thread.join()

    def release(self) -> None:
        """The herd is let loose now."""
        self._released.set()

    def _run(self) -> None:
        with (
            contextlib.suppress(redis.RedisError, OSError),
            contextlib.closing(client_of(self._options)) as client,
        ):
            self._sample(client)
            self._released.wait()
            began, is_last = time.monotonic(), False
            while not is_last:
                is_first = time.monotonic() - began < FIRST_SECONDS
                is_last = self._stop.wait(FIRST_SAMPLE_SECONDS if is_first else SAMPLE_SECONDS)
                self._sample(client)  # at the end, too: what came behind the last belongs to it

    def _sample(self, client: Any) -> None:
        info = client.info("persistence")
        sample = {name: info[counter] for name, counter in COUNTERS.items() if counter in info}
        self.samples.append({"at_ns": time.perf_counter_ns()} | sample)

    def since(self, origin_ns: int) -> list[dict[str, float]]:
        """What each interval added; `elapsed_ms` is its end, counted from `origin_ns`."""
        rows = []
        for before, after in zip(self.samples, self.samples[1:], strict=False):
            row = {"elapsed_ms": (after["at_ns"] - origin_ns) // 1_000_000}
            rows.append(
                row | {name: round(after[name] - before[name], 3) for name in COUNTERS if name in after}
            )
        return rows
