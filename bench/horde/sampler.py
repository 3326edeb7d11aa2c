"""The server's log during the storm: groups and syncs, asked of INFO ten times a second, and at the end."""

from __future__ import annotations

import contextlib
import threading
import time
from types import TracebackType

import redis

from bench.horde.options import Options
from bench.horde.store import client_of

SAMPLE_SECONDS = 0.1
COUNTERS = {"groups": "log_commits", "sync_ms": "log_sync_ms", "bytes": "log_appended"}


class LogSampler:
    """A thread with a connection of its own; for klani-resp alone, others have no such counters.

    `samples` are totals: `at_ns` of `time.perf_counter_ns`, then the names of COUNTERS.
    """

    def __init__(self, options: Options) -> None:
        self.samples: list[dict[str, int]] = []
        self._options = options
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
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        client = client_of(self._options)
        with contextlib.closing(client), contextlib.suppress(redis.RedisError, OSError):
            is_last = False
            while True:
                info = client.info("persistence")
                sample = {name: int(info[counter]) for name, counter in COUNTERS.items()}
                self.samples.append({"at_ns": time.perf_counter_ns()} | sample)
                if is_last:
                    return
                is_last = self._stop.wait(SAMPLE_SECONDS)  # one more: what came behind the last belongs to it

    def since(self, origin_ns: int) -> list[dict[str, int]]:
        """What each interval added; `elapsed_ms` is its end, counted from `origin_ns`."""
        rows = []
        for before, after in zip(self.samples, self.samples[1:], strict=False):
            row = {"elapsed_ms": (after["at_ns"] - origin_ns) // 1_000_000}
            rows.append(row | {name: after[name] - before[name] for name in COUNTERS})
        return rows
