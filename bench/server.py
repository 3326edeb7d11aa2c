"""Server CPU per command, klani-resp beside redis-server: same client, same run, alternating.

    python bench/server.py [--rows N] [--rounds 5] [--only SEEK] [--output FILE]

For each pair of commands: user and system microseconds of the server process (all threads, its own
accounting) per command, at 128 connections with one and with 16 commands in flight each; medians over the
rounds, and klani-resp's total as a ratio of redis-server's. Both run with `appendfsync always`.
"""

from __future__ import annotations

import argparse
import itertools
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

from bench.harness import launch, seats
from bench.harness.claim_workloads import CLAIM_WORKLOADS
from bench.harness.loadgen import Client, Fleet
from bench.harness.workloads import WORKLOADS, Bed, Workload

ALL = (*WORKLOADS, *CLAIM_WORKLOADS)
DEPTHS = (1, 16)
REDIS_ROWS_MAX = 1_000_000  # a hash per row costs redis-server about 150 bytes and more
WARM_UP_SECONDS = 0.2


@dataclass(frozen=True)
class Sample:
    """One measurement, in microseconds of server CPU per command."""

    user: float
    system: float
    commands_per_second: float

    @property
    def total(self) -> float:
        return self.user + self.system


def measure(bed: Bed, workload: Workload, depth: int, seconds: float, rng: random.Random) -> Sample:
    run, finish = workload.prepare(bed, depth, rng)
    run(WARM_UP_SECONDS)
    user, system = bed.server.cpu_seconds()
    started = time.monotonic()
    commands = run(seconds)
    wall = time.monotonic() - started
    user_after, system_after = bed.server.cpu_seconds()
    finish()
    return Sample(
        (user_after - user) * 1e6 / commands, (system_after - system) * 1e6 / commands, commands / wall
    )


def lay_bed(name: str, directory: Path, options: argparse.Namespace) -> Bed:
    """Starts a server, loads it, connects."""
    started = time.monotonic()
    if name == "redis":
        # No rewrite of the append-only file: it would run in a child whose CPU no one counts.
        server = launch.redis(directory, "--auto-aof-rewrite-percentage", "0")
        rows = min(options.rows, REDIS_ROWS_MAX)
    else:
        server = launch.klani(directory)
        rows = options.rows
    try:
        ranks = seats.ranks_for(rows)
        if name == "redis":
            seats.load_redis(server.port, rows, ranks)
        else:
            client = Client(server.port)
            seats.create_klani(client)
            client.close()
            seats.load_klani(server.port, 0, rows, ranks)
        print(
            f"{server.name}: {rows} rows, {ranks} ranks loaded in {time.monotonic() - started:.1f} s",
            flush=True,
        )
        return Bed(server, Fleet(server.port, options.connections), rows, ranks)
    except BaseException:
        server.stop()
        raise


Samples = dict[tuple[str, int, str], list[Sample]]


def run_rounds(beds: list[Bed], options: argparse.Namespace) -> Samples:
    samples: Samples = {}
    rng = random.Random(1)
    chosen = [w for w in ALL if options.only is None or options.only.upper() in w.name]
    started = time.monotonic()
    for turn in range(options.rounds):
        for workload, depth in itertools.product(chosen, DEPTHS):
            line = f"round {turn + 1}/{options.rounds}  {workload.name:<23} x{depth:<2}"
            for bed in beds if turn % 2 == 0 else beds[::-1]:
                if bed.is_redis and not workload.redis_name:
                    continue
                sample = measure(bed, workload, depth, options.seconds_per_measure, rng)
                samples.setdefault((workload.name, depth, bed.server.name), []).append(sample)
                line += f"  {bed.server.name} {sample.total:6.2f} us ({sample.commands_per_second:7.0f}/s)"
            print(f"{line}  [{time.monotonic() - started:.0f} s]", flush=True)
    return samples


def summarize(samples: Samples, options: argparse.Namespace) -> list[dict[str, object]]:
    """Prints the table of medians; answers its lines."""
    print(f"\nserver CPU us per command, medians of {options.rounds} rounds; spread: (max - min) / median")
    print(f"{'':32}{'klani-resp':^31}{'redis-server':^31}")
    columns = f"{'user':>8}{'sys':>7}{'total':>8}{'spread':>8}"
    print(f"{'command':<28}{'fl.':>4}{columns}{columns}{'ratio':>8}{'target':>8}")
    lines: list[dict[str, object]] = []
    for workload, depth in itertools.product(ALL, DEPTHS):
        if not any(key[:2] == (workload.name, depth) for key in samples):
            continue
        line: dict[str, object] = {
            "command": workload.name,
            "redis_command": workload.redis_name,
            "in_flight": depth,
        }
        text = f"{' / '.join(filter(None, (workload.name, workload.redis_name))):<28.28}{depth:>4}"
        totals = []
        for name in ("klani-resp", "redis-server"):
            taken = samples.get((workload.name, depth, name), [])
            if not taken:
                continue
            user = statistics.median(s.user for s in taken)
            system = statistics.median(s.system for s in taken)
            total = statistics.median(s.total for s in taken)
            spread = (max(s.total for s in taken) - min(s.total for s in taken)) / total
            totals.append(total)
            text += f"{user:>8.2f}{system:>7.2f}{total:>8.2f}{spread:>7.0%} "
            line[name] = {
                "user_us": user,
                "system_us": system,
                "total_us": total,
                "spread": spread,
                "commands_per_second": statistics.median(s.commands_per_second for s in taken),
                "samples": [asdict(s) for s in taken],
            }
        if workload.base and (base := samples.get((workload.base, depth, "klani-resp"))):
            text += f"{totals[0] - statistics.median(s.total for s in base):>+7.2f} us over {workload.base}"
        if len(totals) == 2:
            ratio = totals[0] / totals[1]
            target = workload.ratio_max[depth]
            met = ratio <= target
            line |= {"ratio": ratio, "target": target, "met": met}
            text += f"{ratio:>7.2f}{target:>8.2f}  {'ok' if met else 'MISSED'}"
        print(text)
        lines.append(line)
    return lines


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--rows", type=int, default=10_000, help="rows of the table, at least 10,000 (default)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds-per-measure", type=float, default=2.0)
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--only", help="only the commands whose name contains this")
    parser.add_argument("--servers", default="klani,redis", help="which of them, comma-separated")
    parser.add_argument(
        "--directory", type=Path, help="where the servers keep their data (default: a temporary one)"
    )
    parser.add_argument("--output", type=Path, help="write all figures to this file, as JSON")
    options = parser.parse_args()
    if options.rows < 10_000:
        parser.error("--rows must be at least 10,000: every connection locks 16 rows, every rank answers 64")
    if options.rows > REDIS_ROWS_MAX:
        print(f"note: redis-server holds {REDIS_ROWS_MAX} rows, not {options.rows}, for want of memory")
    print(f"load average at the start: {os.getloadavg()[0]:.2f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="klani-bench-", dir=options.directory) as directory:
        beds: list[Bed] = []
        try:
            for name in options.servers.split(","):
                beds.append(lay_bed(name, Path(directory) / name, options))  # noqa: PERF401 (each must be stopped)
            samples = run_rounds(beds, options)
        finally:
            for bed in beds:
                bed.fleet.close()
                bed.server.stop()
    lines = summarize(samples, options)
    if options.output is not None:
        facts = {
            "rows": options.rows,
            "connections": options.connections,
            "rounds": options.rounds,
            "lines": lines,
        }
        options.output.write_text(json.dumps(facts, indent=2) + "\n")
        print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
