"""A klani-resp server whose fsync takes longer: `slow_server.py <ms> <options of the server>`."""

from __future__ import annotations

import signal
import sys
import time
from functools import partial
from pathlib import Path

import trio

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from bench.harness import launch
from klani_resp.config import Config, from_argv
from klani_resp.server import serve
from storage.fs import OsFs


class SlowFs(OsFs):
    """Real files; each sync takes `seconds` at least."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def fsync(self, fd: int) -> None:
        begun = time.monotonic()
        super().fsync(fd)
        self._wait(begun)

    def fdatasync(self, fd: int) -> None:
        begun = time.monotonic()
        super().fdatasync(fd)
        self._wait(begun)

    def _wait(self, begun: float) -> None:
        time.sleep(max(0.0, begun + self._seconds - time.monotonic()))


def start_slow(directory: Path, fsync_ms: float) -> launch.Server:
    """This module as a process of its own, ready to serve."""
    port = launch.free_port()
    command = [sys.executable, str(Path(__file__).resolve()), str(fsync_ms)]
    command += ["--port", str(port), "--dir", str(directory)]
    return launch.start("klani-resp, slow fsync", command, directory, port)


async def _serve(config: Config, fs: SlowFs) -> None:
    """Until SIGTERM, as the real server does."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(serve, config, fs=fs))
            async for _ in signals:
                nursery.cancel_scope.cancel()


def main() -> None:
    trio.run(_serve, from_argv(sys.argv[2:]), SlowFs(float(sys.argv[1]) / 1e3))


if __name__ == "__main__":
    main()
