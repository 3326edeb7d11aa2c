"""How long a large table takes to serve again, after a clean stop and after kill -9 with a log to replay."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.harness import launch, seats
from bench.harness.loadgen import Client, encode, feed, quantile
from bench.sizes.verify import check_verified, probe

LOG_BYTES = 64 << 20
FEW_ROWS = 16_384  # each of them is written many times
MANY_ROWS = 1_000_000  # each is written about once, and changes its posting list
KEYS_PER_LOCK = 256
LINES_PER_BATCH = 512
FIRST_VALUE = 100_000  # values of six digits: one template serves them all
WRITE_SECONDS_MAX = 180.0
CHECKPOINT_SECONDS_MAX = 60.0
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Restarted:
    """Seconds from the process's start to the first right answer; bytes of the log that was replayed; then
    SEEK beside the checkpoint that the long log makes due at once."""

    rows_written: int
    seek_seconds: float
    claim_seconds: float | None  # None: the server has no KL.CLAIM
    log_bytes: int
    rss_bytes: int
    checkpoint_seconds: float
    checkpoint_seek_p99_ms: float
    checkpoint_seek_max_ms: float


def restart_clean(server: launch.Server, servers: list[launch.Server]) -> float:
    """Stops and starts the server; answers the seconds to its first right answer."""
    server.stop()
    server, seconds = _start(server.directory, servers)
    server.stop()
    return seconds


def restart_killed(
    directory: Path, rows: int, rows_written: int, is_booked: bool, servers: list[launch.Server]
) -> Restarted:
    """Writes LOG_BYTES of log, ends the server with kill -9 and starts it again; it is stopped at the end."""
    # No checkpoint may come in between and shorten the log.
    server, _ = _start(directory, servers, "--checkpoint-bytes", str(4 * LOG_BYTES))
    drawn = random.Random(4).sample(range(rows), min(rows_written, rows // 4))
    value, log_bytes = write_log(server.port, drawn, is_booked)
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        print(f"  left by kill -9: {path.name} {path.stat().st_size:,} bytes", flush=True)
    begun = time.monotonic()
    server, _ = _start(directory, servers)
    client = Client(server.port)
    answer = client.call("KL.SEEK", f"{seats.TABLE}:{drawn[-1]}", "seat_no", "buyer")
    seek_seconds = time.monotonic() - begun
    if answer != [b"seat_no", drawn[-1], b"buyer", value]:
        raise RuntimeError(f"row {drawn[-1]} should have buyer {value} after the crash: {answer}")
    booked = client.call("KL.COUNT", seats.TABLE, "is_booked", 1)
    if is_booked and booked != len(drawn):
        raise RuntimeError(f"{len(drawn)} rows were booked before the crash, {booked} are after it")
    claim_seconds = _claim(client, rows, drawn[0], begun)
    checkpoint, p99, worst = _probe_checkpoint(server.port, rows)
    rss = server.rss_bytes()
    check_verified(client.call("KL.VERIFY", seats.TABLE, "is_booked", 1), rows)
    client.close()
    server.stop()
    return Restarted(len(drawn), seek_seconds, claim_seconds, log_bytes, rss, checkpoint, p99, worst)


def _claim(client: Client, rows: int, row: int, begun: float) -> float | None:
    if not client.knows("KL.CLAIM"):
        return None
    ranks = seats.ranks_for(rows)
    rank = row % ranks
    words = ("KL.CLAIM", seats.TABLE, "rank", rank, "is_booked", 0, "SET", "is_booked", 1, "buyer", 8)
    ids = client.call(*words)
    seconds = time.monotonic() - begun
    if len(ids) != 1 or ids[0] % ranks != rank:
        raise RuntimeError(f"CLAIM of rank {rank}: {ids}")
    return seconds


def _probe_checkpoint(port: int, rows: int) -> tuple[float, float, float]:
    """SEEKs until the server has made a checkpoint: the seconds that took, p99 and maximum in ms."""
    prober, watcher = Client(port), Client(port)
    begun = asked_at = time.monotonic()
    done = False

    def going() -> bool:
        nonlocal asked_at, done
        now = time.monotonic()
        if now - asked_at >= 0.05:
            asked_at = now
            done = b"checkpoints:0" not in watcher.call("INFO", "persistence")
        return not done and now - begun < CHECKPOINT_SECONDS_MAX

    seconds = probe(prober, rows, going)
    took = time.monotonic() - begun
    prober.close()
    watcher.close()
    return took, quantile(seconds, 0.99) * 1e3, max(seconds) * 1e3


def write_log(port: int, drawn: list[int], is_booked: bool) -> tuple[int, int]:
    """Writes these rows until LOG_BYTES are logged; answers their last value and the bytes logged."""
    client = Client(port)
    start = client.info(seats.TABLE)["appended"]
    templates = _templates(client, drawn, is_booked)
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
    return value, logged


def _templates(client: Client, drawn: list[int], is_booked: bool) -> list[tuple[bytes, int]]:
    """Batches of REPLACEs of all the rows, which it locks; `@@@@@@` stands for the value."""
    requests: list[bytes] = []
    more = ("is_booked", 1) if is_booked else ()
    for i in range(0, len(drawn), KEYS_PER_LOCK):
        keys = [f"{seats.TABLE}:{row}" for row in drawn[i : i + KEYS_PER_LOCK]]
        token = client.call("KL.TRYLOCK", *keys, "PX", DAY_MS)
        if token is None:
            raise RuntimeError("rows are locked by somebody else")
        requests += [encode("KL.REPLACE", key, token, "buyer", "@@@@@@", *more) for key in keys]
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
