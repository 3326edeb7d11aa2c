"""What a large table costs: memory, load rate, time per command, start after a crash, VERIFY.

    python bench/size.py [--rows 10000000] [--output FILE]

Every line is one line of the table "Size" of the design: what was measured, the target, whether it is met.
The table is the herd's: rank (1,000 of them) and is_booked indexed. `appendfsync always`. Ten million rows
take about four minutes, 1 GB of memory and 2 GB of disk; `--rows 1000000` about one minute.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import launch, seats
from bench.harness.loadgen import Client
from bench.sizes import commands, restart, verify

SMALL_ROWS = 10_000
BYTES_PER_ROW_MAX = 24.0
RSS_MAX_BYTES = 4 << 30
LOAD_ROWS_PER_SECOND_MIN = 100_000.0
COST_RATIO_MAX = 1.5
START_SECONDS_MAX = 3.0
VERIFY_ROWS_PER_SECOND_MIN = 5e6
P99_RATIO_MAX = 2.0
FULL_ROWS = 10_000_000


@dataclass(frozen=True)
class Finding:
    what: str
    value: float
    unit: str
    target: float | None = None
    at_most: bool = True

    @property
    def verdict(self) -> str:
        if self.target is None:
            return ""
        met = self.value <= self.target if self.at_most else self.value >= self.target
        return "ok" if met else "MISSED"

    def __str__(self) -> str:
        bound = "" if self.target is None else f"{'<=' if self.at_most else '>='} {self.target:,.10g}"
        return f"{self.what:<58}{self.value:>14,.2f} {self.unit:<7}{bound:>14}  {self.verdict}"


@dataclass
class Findings:
    """Everything measured so far; each is printed as it comes."""

    lines: list[Finding] = field(default_factory=list)

    def add(
        self, what: str, value: float, unit: str, target: float | None = None, at_most: bool = True
    ) -> None:
        self.lines.append(Finding(what, value, unit, target, at_most))
        print(f"  {self.lines[-1]}", flush=True)


def start_and_load(directory: Path, rows: int, findings: Findings | None) -> launch.Server:
    """A server with `rows` rows; memory and load rate go into `findings` where given."""
    server = launch.klani(directory)
    try:
        client = Client(server.port)
        seats.create_klani(client)
        empty = server.rss_bytes()
        ranks = seats.ranks_for(rows)
        started, used = time.monotonic(), sum(server.cpu_seconds())
        step = max(seats.BLOCK_ROWS, rows // 10 // seats.BLOCK_ROWS * seats.BLOCK_ROWS)
        for first in range(0, rows, step):
            begun = time.monotonic()
            last = min(first + step, rows)
            seats.load_klani(server.port, first, last, ranks)
            if findings is not None:
                rate = (last - first) / (time.monotonic() - begun)
                print(f"  loaded {last:,} rows, {rate:,.0f} rows/s", flush=True)
        seconds = time.monotonic() - started
        cpu = sum(server.cpu_seconds()) - used
        if findings is not None:
            findings.add(
                "load by pipelined KL.INSERT",
                rows / seconds,
                "rows/s",
                LOAD_ROWS_PER_SECOND_MIN,
                at_most=False,
            )
            findings.add("load: server CPU per row, checkpoints included", cpu * 1e6 / rows, "us")
            report_memory(server, client, rows, empty, findings)
        client.close()
    except BaseException:
        server.stop()
        raise
    return server


def report_memory(server: launch.Server, client: Client, rows: int, empty: int, findings: Findings) -> None:
    settle(server)
    info = client.info(seats.TABLE)
    if info["rows"] != rows:
        raise RuntimeError(f"{info['rows']} rows in the table instead of {rows}")
    record = info["bytes"] / rows
    rss = server.rss_bytes()
    peak = int(Path(f"/proc/{server.pid}/status").read_text().partition("VmHWM:")[2].split()[0]) * 1024
    full = rows >= FULL_ROWS
    findings.add("record size (KL.INFO bytes / rows)", record, "B")
    findings.add("RSS of the server without rows", empty / 1e6, "MB")
    findings.add("RSS with rows", rss / 1e6, "MB", RSS_MAX_BYTES / 1e6)
    findings.add("peak RSS so far", peak / 1e6, "MB", RSS_MAX_BYTES / 1e6)
    # With few rows the interpreter itself outweighs them: the target is for ten million.
    target = BYTES_PER_ROW_MAX if full else None
    findings.add("RSS beyond rows x record size, per row", rss / rows - record, "B", target)
    target = None if full else BYTES_PER_ROW_MAX
    findings.add("  the same less the server without rows", (rss - empty) / rows - record, "B", target)


def settle(server: launch.Server, seconds_max: float = 90.0) -> None:
    """Waits until the server has used next to no CPU for a second: its checkpoints are done."""
    deadline = time.monotonic() + seconds_max
    used = sum(server.cpu_seconds())
    while time.monotonic() < deadline:
        time.sleep(1.0)
        before, used = used, sum(server.cpu_seconds())
        if used - before < 0.03:
            return
    print(f"  note: the server is still busy after {seconds_max:.0f} s", flush=True)


def report_commands(
    large: launch.Server, directory: Path, rows: int, rounds: int, findings: Findings
) -> None:
    small = start_and_load(directory, SMALL_ROWS, None)
    try:
        for cost in commands.compare(small, SMALL_ROWS, large, rows, rounds):
            pairs = (
                ("server CPU", cost.small_cpu_us, cost.large_cpu_us),
                ("median latency", cost.small_latency_us, cost.large_latency_us),
            )
            for what, at_small, at_large in pairs:
                findings.add(f"{cost.name}: {what} at {SMALL_ROWS:,}", at_small, "us")
                findings.add(f"{cost.name}: {what} at {rows:,}", at_large, "us")
                findings.add(f"{cost.name}: {what}, ratio", at_large / at_small, "x", COST_RATIO_MAX)
    finally:
        small.stop()


def report_verify(large: launch.Server, rows: int, findings: Findings) -> None:
    settle(large)
    verified = verify.measure(large, rows)
    findings.add("VERIFY", verified.rows_per_second, "rows/s", VERIFY_ROWS_PER_SECOND_MIN, at_most=False)
    findings.add("SEEK p99, quiet", verified.quiet_p99_ms, "ms")
    findings.add("SEEK p99, beside VERIFY", verified.busy_p99_ms, "ms")
    findings.add("SEEK max, beside VERIFY", verified.busy_max_ms, "ms")
    findings.add("SEEK p99, ratio", verified.busy_p99_ms / verified.quiet_p99_ms, "x", P99_RATIO_MAX)


def report_restart(large: launch.Server, rows: int, servers: list[launch.Server], findings: Findings) -> None:
    seconds = restart.restart_clean(large, servers)
    findings.add("start after a clean stop, to SEEK", seconds, "s")
    for written, is_booked in ((restart.FEW_ROWS, False), (restart.MANY_ROWS, True)):
        result = restart.restart_killed(large.directory, rows, written, is_booked, servers)
        findings.add(f"log of writes to {result.rows_written:,} rows", result.log_bytes / (1 << 20), "MiB")
        findings.add("start after kill -9 with it, to SEEK", result.seek_seconds, "s", START_SECONDS_MAX)
        if result.claim_seconds is not None:
            claim_seconds = result.claim_seconds
            findings.add("start after kill -9 with it, to CLAIM", claim_seconds, "s", START_SECONDS_MAX)
        findings.add("first checkpoint after that start", result.checkpoint_seconds, "s")
        findings.add("SEEK p99, beside that checkpoint", result.checkpoint_seek_p99_ms, "ms")
        findings.add("SEEK max, beside that checkpoint", result.checkpoint_seek_max_ms, "ms")
        findings.add("RSS after that start", result.rss_bytes / 1e6, "MB", RSS_MAX_BYTES / 1e6)


def run(options: argparse.Namespace, directory: Path, findings: Findings) -> None:
    steps = options.steps.split(",")
    servers: list[launch.Server] = []
    began = time.monotonic()

    def say(title: str) -> None:
        print(f"{title}  [{time.monotonic() - began:.0f} s]", flush=True)

    try:
        say(f"load: {options.rows:,} rows")
        large = start_and_load(directory / "large", options.rows, findings)
        servers.append(large)
        if "commands" in steps:
            say(f"commands: cost at {options.rows:,} rows over cost at {SMALL_ROWS:,}")
            report_commands(large, directory / "small", options.rows, options.rounds, findings)
        if "verify" in steps:
            say("verify: beside a SEEK prober")
            report_verify(large, options.rows, findings)
        if "restart" in steps:
            say("restart: clean, then after kill -9: few rows written often, many rows written once")
            report_restart(large, options.rows, servers, findings)
        say("done")
    finally:
        for server in servers:
            server.stop()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=FULL_ROWS)
    parser.add_argument("--rounds", type=int, default=5, help="of the comparison with 10,000 rows")
    parser.add_argument("--steps", default="commands,verify,restart", help="which of these, after the load")
    parser.add_argument(
        "--directory", type=Path, help="where the servers keep their data (default: a temporary one)"
    )
    parser.add_argument("--output", type=Path, help="write all figures to this file, as JSON")
    options = parser.parse_args()
    findings = Findings()
    print(f"load average at the start: {os.getloadavg()[0]:.2f}", flush=True)
    with tempfile.TemporaryDirectory(prefix="klani-size-", dir=options.directory) as directory:
        run(options, Path(directory), findings)
    print(f"\n{options.rows:,} rows")
    for line in findings.lines:
        if line.target is not None or line.what.startswith("log of"):
            print(line)
    if options.output is not None:
        lines = [asdict(line) | {"verdict": line.verdict} for line in findings.lines]
        options.output.write_text(json.dumps({"rows": options.rows, "findings": lines}, indent=2) + "\n")
        print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
