"""What the live board costs the herd: without one, with one that nobody watches, and with one watcher.

    python bench/board_cost.py [--rounds 5] [--output FILE] [-- options]

The options are the herd's. Each run has a fresh server and directory, the three in turn, the other way round
in every second round; the watcher reads `/events`, as a browser does, from before the table is there to the
end. Wall seconds and the server's CPU seconds of the storm: medians, least and most, and the ratio of the
medians to those without a board. Exit status: 0 if every run verified and the watcher saw the sale, 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import launch
from bench.harness.loadgen import READ_BYTES, LoadError
from bench.peers import OURS, Peer, run_herd

KINDS = {"none": "no board", "idle": "nobody watches", "watched": "one watcher"}
RATIO_MAX = 1.03  # of wall seconds
CONNECT_SECONDS_MAX = 30.0


@dataclass(frozen=True)
class Run:
    wall: float  # seconds
    cpu: float  # of the server, seconds
    looks: int = 0  # that the watcher saw


class Watcher(threading.Thread):
    """Reads the board's events until the server ends, and keeps none of them."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self.looks = 0

    def run(self) -> None:
        deadline = time.monotonic() + CONNECT_SECONDS_MAX
        while time.monotonic() < deadline:
            with suppress(OSError):  # it is not there yet; later, it is gone
                self._read()
                return
            time.sleep(0.01)

    def _read(self) -> None:
        with socket.create_connection(("127.0.0.1", self._port), timeout=CONNECT_SECONDS_MAX) as stream:
            stream.sendall(b"GET /events HTTP/1.1\r\nHost: board\r\n\r\n")
            while data := stream.recv(READ_BYTES):
                self.looks += data.count(b"event: facts")


@contextmanager
def watching(port: int) -> Iterator[Watcher]:
    watcher = Watcher(port)
    watcher.start()
    yield watcher
    watcher.join()
    if not watcher.looks:
        raise LoadError("the watcher saw nothing of the sale")


def measure(kind: str, more: list[str]) -> Run:
    if kind == "none":
        return _run(more)
    port = launch.free_port()
    more = [f"--server-arg={word}" for word in ("--board-port", port)] + more
    if kind == "idle":
        return _run(more)
    with watching(port) as watcher:
        run = _run(more)
    return Run(run.wall, run.cpu, watcher.looks)


def _run(more: list[str]) -> Run:
    result, _ = run_herd(Peer(OURS, "klani"), (), more)
    server = result["server"]
    return Run(result["wall_seconds"], server["cpu_user_seconds"] + server["cpu_system_seconds"])


def report(runs: dict[str, list[Run]]) -> list[dict[str, object]]:
    lines: list[dict[str, object]] = []
    for what in ("wall", "cpu"):
        taken = {kind: [getattr(run, what) for run in found] for kind, found in runs.items()}
        without = statistics.median(taken["none"])
        print(f"{'wall' if what == 'wall' else 'server CPU'} seconds, medians (least - most)")
        for kind, seconds in taken.items():
            median, ratio = statistics.median(seconds), statistics.median(seconds) / without
            spread = f"({min(seconds):.3f} - {max(seconds):.3f})"
            verdict = ""
            if what == "wall" and kind != "none":
                verdict = f"  target {RATIO_MAX:.2f}  {'ok' if ratio <= RATIO_MAX else 'MISSED'}"
            print(f"  {KINDS[kind]:<15} {median:6.3f} {spread}  ratio {ratio:.3f}{verdict}")
            lines.append({"what": what, "kind": kind, "median": median, "ratio": ratio})
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="write all figures to this file, as JSON")
    parser.add_argument("herd", nargs="*", help="options of bench/herd.py, behind a `--`")
    options = parser.parse_args()
    print(f"load average at the start: {os.getloadavg()[0]:.2f}", flush=True)
    runs: dict[str, list[Run]] = {kind: [] for kind in KINDS}
    try:
        for turn in range(options.rounds):
            for kind in KINDS if turn % 2 == 0 else reversed(KINDS):
                runs[kind].append(measure(kind, options.herd))
            shown = (f"{kind} {done[-1].wall:.3f} s (CPU {done[-1].cpu:.2f})" for kind, done in runs.items())
            looks = runs["watched"][-1].looks
            print(f"  {turn + 1}/{options.rounds}  {'  '.join(shown)}  {looks} looks", flush=True)
    except subprocess.CalledProcessError as failed:
        print(f"a herd failed: {' '.join(failed.cmd)}\n{failed.stdout[-2000:]}{failed.stderr[-2000:]}")
        return 1
    except LoadError as problem:
        print(problem)
        return 1
    lines = report(runs)
    if options.output is not None:
        facts = {"runs": {kind: [asdict(run) for run in done] for kind, done in runs.items()}, "lines": lines}
        options.output.write_text(json.dumps(facts, indent=2) + "\n")
        print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
