"""Four seats side by side, in a hall half sold at random, beside any four seats: cost per command.

    python bench/adjacent.py [--seats 100000] [--claims 1000] [--output FILE]

Two tables with the same seats and the same sales; one connection claims in the one `COUNT 4 ADJACENT seat_no
WITHIN row_no`, in the other `COUNT 4`, some of either in turn. The time to an answer is for the most part the
disk's, so the CPU of the server's process is shown beside it. Exit status: 0 if every answer was right.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import launch
from bench.harness.loadgen import Client, encode, feed, quantile
from bench.sizes.commands import cpu_nanoseconds

PARTY = 4
ROW_SEATS = 50  # seats of one row of the hall
RATIO_MAX = 3.0
BATCH = 1000
TURN = 50  # claims of one kind before those of the other
SCHEMA = ("block", "U8", "INDEX", "row_no", "U32", "seat_no", "U32", "is_booked", "U8", "INDEX")
TABLES = {"plain": (), "adjacent": ("ADJACENT", "seat_no", "WITHIN", "row_no")}


@dataclass(frozen=True)
class Line:
    """Server CPU, and mean, p50 and p99 of the time to the answer, of either kind: us per command."""

    hall: str
    plain_us: tuple[float, float, float, float]
    adjacent_us: tuple[float, float, float, float]

    @property
    def ratios(self) -> tuple[float, float]:
        """Of CPU and of mean time."""
        return self.adjacent_us[0] / self.plain_us[0], self.adjacent_us[1] / self.plain_us[1]


def load(port: int, table: str, total: int, blocks: int, sold: set[int]) -> None:
    """Block by block, row by row, so that neighbours have ids that follow each other."""

    def insert(seat: int) -> bytes:
        row, place = divmod(seat, ROW_SEATS)
        fields = ("block", seat * blocks // total, "row_no", row, "seat_no", place)
        return encode("KL.INSERT", f"{table}:{seat}", *fields, "is_booked", int(seat in sold))

    client = Client(port)
    client.call("KL.CREATE", table, "SCHEMA", *SCHEMA)
    client.close()
    ranges = (range(start, min(start + BATCH, total)) for start in range(0, total, BATCH))
    feed(port, ((b"".join(map(insert, seats)), len(seats)) for seats in ranges))


def measure(server: launch.Server, total: int, blocks: int, claims: int) -> Line:
    rng = random.Random(6)
    sold = set(rng.sample(range(total), total // 2))
    names = {kind: f"{kind}{blocks}" for kind in TABLES}
    for table in names.values():
        load(server.port, table, total, blocks, sold)
    client = Client(server.port)
    taken: dict[str, list[float]] = {kind: [] for kind in TABLES}
    cpu = dict.fromkeys(TABLES, 0)
    for start in range(0, claims, TURN):
        for kind, options in TABLES.items():
            before = cpu_nanoseconds(server.pid)
            for number in range(start, start + TURN):
                block = ("block", number % blocks) if blocks > 1 else ()
                words = ("KL.CLAIM", names[kind], "is_booked", 0, *block, "SET", "is_booked", 1)
                begun = time.perf_counter()
                ids = client.call(*words, "COUNT", PARTY, *options)
                taken[kind].append((time.perf_counter() - begun) * 1e6)
                check(kind, ids, sold)
            cpu[kind] += cpu_nanoseconds(server.pid) - before
    client.close()
    hall = "whole hall" if blocks == 1 else f"one of {blocks} blocks"
    return Line(hall, _figures(cpu["plain"], taken["plain"]), _figures(cpu["adjacent"], taken["adjacent"]))


def _figures(cpu_ns: int, samples: list[float]) -> tuple[float, float, float, float]:
    cpu_us = cpu_ns / 1e3 / len(samples)
    return cpu_us, statistics.mean(samples), quantile(samples, 0.5), quantile(samples, 0.99)


def check(kind: str, ids: list[int], sold: set[int]) -> None:
    """Four seats that were free; side by side, and in one row of the hall, if that was asked for."""
    good = len(ids) == PARTY and not sold.intersection(ids)
    if kind == "adjacent":
        good = good and ids == list(range(ids[0], ids[0] + PARTY))
        good = good and ids[0] // ROW_SEATS == ids[-1] // ROW_SEATS
    if not good:
        raise RuntimeError(f"{kind}: KL.CLAIM answers {ids}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seats", type=int, default=100_000)
    parser.add_argument("--claims", type=int, default=1000, help="of either kind")
    parser.add_argument("--output", type=Path, help="write all figures to this file, as JSON")
    options = parser.parse_args()
    print(f"load average at the start: {os.getloadavg()[0]:.2f}", flush=True)
    lines: list[Line] = []
    with tempfile.TemporaryDirectory(prefix="klani-adjacent-") as directory:
        server = launch.klani(Path(directory) / "data")
        try:
            for blocks in (1, 10):
                lines.append(measure(server, options.seats, blocks, options.claims))  # noqa: PERF401
        finally:
            server.stop()
    print(f"{options.seats} seats, half sold at random; KL.CLAIM COUNT {PARTY}, us per command")
    columns = "".join(f"{name:>8}" for name in ("CPU", "mean", "p50", "p99"))
    print(f"{'':<18}{'plain:':<8}{columns}  {'ADJACENT:':<8}{columns}  {'ratios':<12}{'target':>6}")
    for line in lines:
        plain, adjacent = (
            "".join(f"{figure:>8.0f}" for figure in figures) for figures in (line.plain_us, line.adjacent_us)
        )
        verdict = "ok" if max(line.ratios) <= RATIO_MAX else "MISSED"
        ratios = " ".join(f"{ratio:.2f}" for ratio in line.ratios)
        print(f"{line.hall:<18}{'':<8}{plain}  {'':<9}{adjacent}  {ratios:<12}{RATIO_MAX:>6.1f}  {verdict}")
    if options.output is not None:
        facts = [asdict(line) | {"ratios": line.ratios} for line in lines]
        options.output.write_text(json.dumps(facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
