"""How long a large table takes to serve again, after a clean stop and after kill -9 with a log to replay."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import launch, seats
from bench.loadgen import Client, encode, feed
from bench.size_verify import check_verified

LOG_BYTES = 64 << 20
WRITTEN_ROWS = 16_384
KEYS_PER_LOCK = 256
LINES_PER_BATCH = 512
FIRST_VALUE = 100_000  # values of six digits: one template serves them all
WRITE_SECONDS_MAX = 180.0
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Restarted:
    """Seconds from the process's start to the first right answer; bytes of the log that was replayed."""

    clean_seconds: float
    seek_seconds: float
    claim_seconds: float | None  # None: the server has no KL.CLAIM
    log_bytes: int
    rss_bytes: int


def measure(server: launch.Server, rows: int, servers: list[launch.Server]) -> Restarted:
    """Stops and starts the server on its directory; each process started goes into `servers`."""
    directory = server.directory
    server.stop()
    # No checkpoint may come in between and shorten the log.
    server, clean_seconds = _start(directory, servers, "--checkpoint-bytes", str(4 * LOG_BYTES))
    row, value, log_bytes = write_log(server.port, rows)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    for path in sorted(_files(directory)):
        print(f"  left by kill -9: {path.name} {path.stat().st_size:,} bytes", flush=True)
    begun = time.monotonic()
    server, _ = _start(directory, servers)
    client = Client(server.port)
    answer = client.call("KL.SEEK", f"{seats.TABLE}:{row}", "seat_no", "buyer")
    seek_seconds = time.monotonic() - begun
    if answer != [b"seat_no", row, b"buyer", value]:
        raise RuntimeError(f"row {row} should have buyer {value} after the crash: {answer}")
    ranks = seats.ranks_for(rows)
    rank = row % ranks
    claim_seconds = None
    if client.knows("KL.CLAIM"):
        words = ("KL.CLAIM", seats.TABLE, "rank", rank, "is_booked", 0, "SET", "is_booked", 1, "buyer", 8)
        ids = client.call(*words)
        claim_seconds = time.monotonic() - begun
        if len(ids) != 1 or ids[0] % ranks != rank:
            raise RuntimeError(f"CLAIM of rank {rank}: {ids}")
    rss = server.rss_bytes()
    check_verified(client.call("KL.VERIFY", seats.TABLE, "is_booked", 1), rows)
    client.close()
    return Restarted(clean_seconds, seek_seconds, claim_seconds, log_bytes, rss)


def write_log(port: int, rows: int) -> tuple[int, int, int]:
    """Writes random rows until LOG_BYTES are logged; answers a row, its last value, the bytes logged."""
    client = Client(port)
    start = client.info(seats.TABLE)["appended"]
    drawn = random.Random(4).sample(range(rows), min(WRITTEN_ROWS, rows // 4))
    templates = _templates(client, drawn)
    value = FIRST_VALUE
    begun = time.monotonic()
    logged = 0
    while logged < LOG_BYTES:
        if time.monotonic() - begun > WRITE_SECONDS_MAX:
            print(f"  note: only {logged:,} bytes logged in {WRITE_SECONDS_MAX:.0f} s", flush=True)
            break
        # One round over all rows at a time: feed() has no order between its connections.
        value += 1
        feed(port, _round(templates, value))
        logged = client.info(seats.TABLE)["appended"] - start
    seconds = time.monotonic() - begun
    print(f"  {(value - FIRST_VALUE) * len(drawn):,} REPLACEs in {seconds:.1f} s", flush=True)
    client.close()
    return drawn[0], value, logged


def _templates(client: Client, drawn: list[int]) -> list[tuple[bytes, int]]:
    """Batches of REPLACEs of all the rows, which it locks; `@@@@@@` stands for the value."""
    requests: list[bytes] = []
    for i in range(0, len(drawn), KEYS_PER_LOCK):
        keys = [f"{seats.TABLE}:{row}" for row in drawn[i : i + KEYS_PER_LOCK]]
        token = client.call("KL.TRYLOCK", *keys, "PX", DAY_MS)
        if token is None:
            raise RuntimeError("rows are locked by somebody else")
        requests += [encode("KL.REPLACE", key, token, "buyer", "@@@@@@") for key in keys]
    slices = [requests[i : i + LINES_PER_BATCH] for i in range(0, len(requests), LINES_PER_BATCH)]
    return [(b"".join(part), len(part)) for part in slices]


def _round(templates: list[tuple[bytes, int]], value: int) -> Iterator[tuple[bytes, int]]:
    for template, lines in templates:
        yield template.replace(b"@@@@@@", b"%d" % value), lines


def _start(directory: Path, servers: list[launch.Server], *options: str) -> tuple[launch.Server, float]:
    """Starts a server and waits for a row; answers it and the seconds that took."""
    begun = time.monotonic()
    server = launch.klani(directory, *options)
    servers.append(server)
    client = Client(server.port)
    if client.call("KL.SEEK", f"{seats.TABLE}:0", "seat_no") != [b"seat_no", 0]:
        raise RuntimeError("row 0 is not what was inserted")
    client.close()
    return server, time.monotonic() - begun


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]
