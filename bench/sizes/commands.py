"""Cost of single commands on a large table beside the same on a small one."""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench.harness import launch, seats
from bench.harness.loadgen import Client, Fleet, NextBatch, encode
from bench.harness.workloads import WORKLOADS, Bed, Workload

CONNECTIONS = 128
SECONDS_PER_MEASURE = 1.0
SECONDS_ALONE = 0.3  # on a single connection, for latency
LATENCY_SAMPLES = 3_000
CLAIMS_PER_ROUND = 1_000
POOL_COMMANDS = 50_000
LIMIT = 64


@dataclass(frozen=True)
class Cost:
    """Medians over the rounds, microseconds per command."""

    name: str
    small_cpu_us: float
    large_cpu_us: float
    small_latency_us: float
    large_latency_us: float


@dataclass(frozen=True)
class _Side:
    """One of the two servers, with many connections for CPU and a single one for latency."""

    server: launch.Server
    rows: int
    fleet: Fleet
    single: Fleet


def compare(
    small: launch.Server, small_rows: int, large: launch.Server, large_rows: int, rounds: int
) -> Iterator[Cost]:
    """SEEK, INTERSECT LIMIT 64, locks, REPLACE and CLAIM, one after another, the two servers alternating."""
    pair = ((small, small_rows), (large, large_rows))
    sides = [_Side(s, rows, Fleet(s.port, CONNECTIONS), Fleet(s.port, 1)) for s, rows in pair]
    try:
        for side in sides:
            _first_use(side)
        yield _cost("SEEK", sides, rounds, _seeks, 1 + 4 * 3, None)
        yield _cost("INTERSECT LIMIT 64", sides, rounds, _intersects, 1 + LIMIT, None)
        for workload in WORKLOADS:
            if workload.name in ("TRYLOCK+UNLOCK", "REPLACE"):
                yield _workload_cost(workload, sides, rounds)
        if not _knows_claim(large):
            print("  note: CLAIM is not measured, this server does not have it", flush=True)
            return
        # Claims sell what the small table has: a fixed number per round, never more than half of it.
        claims = min(CLAIMS_PER_ROUND, small_rows // 2 // (rounds + 1))
        yield _cost("CLAIM", sides, rounds, _claims, 2, claims)
    finally:
        for side in sides:
            side.fleet.close()
            side.single.close()


def _knows_claim(server: launch.Server) -> bool:
    client = Client(server.port)
    known = client.knows("KL.CLAIM")
    client.close()
    return known


def cpu_nanoseconds(pid: int) -> int:
    """CPU time of all live threads, finer than the 10 ms of /proc/<pid>/stat."""
    return sum(int(p.read_text().split()[0]) for p in Path(f"/proc/{pid}/task").glob("*/schedstat"))


def _cost(
    name: str,
    sides: list[_Side],
    rounds: int,
    requests: Callable[[_Side], NextBatch],
    lines: int,
    commands: int | None,
) -> Cost:
    """`commands` per measurement, or as many as fit its seconds where None."""
    cpu: list[list[float]] = [[], []]
    latency: list[list[float]] = [[], []]
    nexts = [requests(side) for side in sides]
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            side = sides[which]
            batches = [nexts[which]] * CONNECTIONS
            before = cpu_nanoseconds(side.server.pid)
            if commands is None:
                done = side.fleet.run_batches(batches, lines, SECONDS_PER_MEASURE)
            else:
                done = len(side.fleet.run_timed(batches, lines, commands))
            cpu[which].append((cpu_nanoseconds(side.server.pid) - before) / 1e3 / done)
            samples = LATENCY_SAMPLES // rounds if commands is None else commands // 4
            seconds = side.single.run_timed(batches[:1], lines, samples)
            latency[which].append(statistics.median(seconds) * 1e6)
    medians = [statistics.median(values) for values in (*cpu, *latency)]
    return Cost(name, *medians)


def _workload_cost(workload: Workload, sides: list[_Side], rounds: int) -> Cost:
    """As bench/server.py asks for it; latency is a round's wall time over its commands on one connection."""
    cpu: list[list[float]] = [[], []]
    latency: list[list[float]] = [[], []]
    rng = random.Random(5)
    for turn in range(rounds):
        for which in (0, 1) if turn % 2 == 0 else (1, 0):
            side = sides[which]
            for fleet, seconds in ((side.fleet, SECONDS_PER_MEASURE), (side.single, SECONDS_ALONE)):
                bed = Bed(side.server, fleet, side.rows, seats.ranks_for(side.rows))
                run, finish = workload.prepare(bed, 1, rng)
                before, begun = cpu_nanoseconds(side.server.pid), time.monotonic()
                commands = run(seconds)
                if fleet is side.fleet:
                    cpu[which].append((cpu_nanoseconds(side.server.pid) - before) / 1e3 / commands)
                else:
                    latency[which].append((time.monotonic() - begun) * 1e6 / commands)
                finish()
    return Cost(workload.name, *[statistics.median(values) for values in (*cpu, *latency)])


def _first_use(side: _Side) -> None:
    """Asks for each rank once: what is built on demand is there when the measuring starts."""
    client = Client(side.server.port)
    for rank in range(seats.ranks_for(side.rows)):
        ids = client.call("KL.INTERSECT", seats.TABLE, "rank", rank, "is_booked", 0, "LIMIT", LIMIT)
        if len(ids) != LIMIT or any(row % seats.ranks_for(side.rows) != rank for row in ids):
            raise RuntimeError(f"INTERSECT of rank {rank} answers {ids}")
    client.close()


def _seeks(side: _Side) -> NextBatch:
    rng = random.Random(2)
    rows = (rng.randrange(side.rows) for _ in range(POOL_COMMANDS))
    return itertools.cycle([encode("KL.SEEK", f"{seats.TABLE}:{row}") for row in rows]).__next__


def _intersects(side: _Side) -> NextBatch:
    return itertools.cycle(
        encode("KL.INTERSECT", seats.TABLE, "rank", rank, "is_booked", 0, "LIMIT", LIMIT)
        for rank in range(seats.ranks_for(side.rows))
    ).__next__


def _claims(side: _Side) -> NextBatch:
    head = ("KL.CLAIM", seats.TABLE, "rank")
    tail = ("is_booked", 0, "SET", "is_booked", 1, "buyer", 7)
    return itertools.cycle(encode(*head, rank, *tail) for rank in range(seats.ranks_for(side.rows))).__next__
