"""What a slow disk does: every fsync takes 50 ms, as on a cloud volume in a bad minute.

    python bench/slow_fsync.py [--fsync-ms 50] [--seconds 10] [--output FILE]

(a) PING and KL.SEEK of rows that nobody writes, one connection, beside 128 connections of writers.
(b) Those 128 connections, each locking a row of its own, writing and unlocking it, over and over: commits per
    second over (connections / fsync time). One half is what a group commit can do when each writer needs one
    whole fsync and arrives while another is under way.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import multiprocessing.connection
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import launch, seats
from bench.harness.loadgen import Client, Fleet, LoadError, encode, quantile
from bench.harness.slow_server import start_slow

ROWS = 10_000
P99_MAX_MS = 5.0
COMMIT_SHARE_MIN = 0.45
PROBE_PAUSE_SECONDS = 0.001
WRITER_HEAD_START_SECONDS = 1.0


def write(port: int, connections: int, seconds: float) -> tuple[int, float]:
    """TRYLOCK, then REPLACE .. UNLOCK, on row i for connection i; answers commits and seconds taken."""
    fleet = Fleet(port, connections)
    locks = [encode("KL.TRYLOCK", f"{seats.TABLE}:{i}") for i in range(connections)]
    started = time.monotonic()
    commits = fleet.run_pairs(locks, [_replace(i) for i in range(connections)], 1, b"+OK\r\n", seconds)
    taken = time.monotonic() - started
    fleet.close()
    return commits, taken


def _replace(row: int) -> Callable[[bytes], bytes]:
    """A new buyer each time, so that no REPLACE is a resend that writes nothing."""
    template = encode("KL.REPLACE", f"{seats.TABLE}:{row}", b"@", "buyer", b"%09d", "UNLOCK")
    template = template.replace(b"$4\r\n%09d", b"$9\r\n%09d").replace(b"$1\r\n@", b"$%d\r\n%b")
    count = 0

    def replace(reply: bytes) -> bytes:
        nonlocal count
        token = reply[1:-2]
        if not token.isdigit():
            raise LoadError(f"not locked: {reply!r}")
        count += 1
        return template % (len(token), token, count)

    return replace


def probe(port: int, quiet_rows: range, seconds: float) -> dict[str, list[float]]:
    """Seconds of each PING and each SEEK of a quiet row, in turn, with pauses."""
    client = Client(port)
    rng = random.Random(5)
    taken: dict[str, list[float]] = {"PING": [], "SEEK": []}
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        row = rng.choice(quiet_rows)
        begun = time.perf_counter()
        client.call("PING")
        between = time.perf_counter()
        answer = client.call("KL.SEEK", f"{seats.TABLE}:{row}", "seat_no")
        ended = time.perf_counter()
        if answer != [b"seat_no", row]:
            raise LoadError(f"SEEK of row {row}: {answer}")
        taken["PING"].append(between - begun)
        taken["SEEK"].append(ended - between)
        time.sleep(PROBE_PAUSE_SECONDS)
    client.close()
    return taken


def _writers(
    port: int, connections: int, seconds: float, results: multiprocessing.connection.Connection
) -> None:
    results.send(write(port, connections, seconds))


def measure_readers(port: int, options: argparse.Namespace) -> dict[str, list[float]]:
    """Probes while the writers work in a process of their own: they must not share an interpreter lock."""
    here, there = multiprocessing.Pipe(duplex=False)
    seconds = options.seconds + 2 * WRITER_HEAD_START_SECONDS
    writers = multiprocessing.get_context("fork").Process(
        target=_writers, args=(port, options.connections, seconds, there), daemon=True
    )
    writers.start()
    there.close()
    time.sleep(WRITER_HEAD_START_SECONDS)
    try:
        taken = probe(port, range(options.connections, ROWS), options.seconds)
        if not here.poll(seconds + 60):
            raise LoadError("the writers did not end")
        commits, _ = here.recv()
    finally:
        writers.kill()
        writers.join()
    print(f"  beside {commits:,} commits of the writers", flush=True)
    return taken


def run(options: argparse.Namespace, server: launch.Server) -> list[dict[str, object]]:
    client = Client(server.port)
    seats.create_klani(client)
    seats.load_klani(server.port, 0, ROWS, seats.ranks_for(ROWS))
    client.close()
    lines: list[dict[str, object]] = []
    fsync_seconds = options.fsync_ms / 1e3

    print(f"(a) readers beside {options.connections} writers, {options.seconds:.0f} s", flush=True)
    for name, taken in measure_readers(server.port, options).items():
        p50, p99 = quantile(taken, 0.5) * 1e3, quantile(taken, 0.99) * 1e3
        verdict = "ok" if p99 <= P99_MAX_MS else "MISSED"
        print(
            f"  {name}: {len(taken)} answers, p50 {p50:.2f} ms, p99 {p99:.2f} ms,"
            f" max {max(taken) * 1e3:.2f} ms  (target p99 <= {P99_MAX_MS} ms)  {verdict}",
            flush=True,
        )
        lines.append({"what": f"{name} p99 ms", "value": p99, "target": P99_MAX_MS, "verdict": verdict})

    print(f"(b) commits of {options.connections} connections, {options.seconds:.0f} s", flush=True)
    commits, seconds = write(server.port, options.connections, options.seconds)
    rate = commits / seconds
    share = rate / (options.connections / fsync_seconds)
    verdict = "ok" if share >= COMMIT_SHARE_MIN else "MISSED"
    print(
        f"  {rate:,.0f} commits/s, {share:.3f} of connections / fsync time"
        f"  (target >= {COMMIT_SHARE_MIN})  {verdict}",
        flush=True,
    )
    lines.append({"what": "commit share", "value": share, "target": COMMIT_SHARE_MIN, "verdict": verdict})
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fsync-ms", type=float, default=50.0)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the two measurements")
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--output", type=Path, help="write the figures to this file, as JSON")
    options = parser.parse_args()
    print(f"load average at the start: {os.getloadavg()[0]:.2f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="klani-slow-") as directory:
        server = start_slow(Path(directory) / "slow", options.fsync_ms)
        try:
            lines = run(options, server)
        finally:
            server.stop()
    if options.output is not None:
        facts = {"fsync_ms": options.fsync_ms, "connections": options.connections, "lines": lines}
        options.output.write_text(json.dumps(facts, indent=2) + "\n")
        print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
