"""The herd over klani-resp beside the same herd over its rivals: alternating runs, medians, the ratios.

    python bench/compare.py [--rounds 5] [--flows exact,shortcut,pipelined,claim] [--output FILE] [-- options]

The options are the herd's. With all engines each sale is on disk before its answer; each run has a fresh
server and directory, the engines in turn, so that a machine that slows down slows all. Exit status: 0 if
every run verified, 1 if not.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERD = Path(__file__).resolve().with_name("herd.py")
NAMES = {"klani": "klani-resp", "redis": "redis-server", "postgres": "PostgreSQL"}


@dataclass(frozen=True)
class Comparison:
    """The herd's options, and the rivals' targets: klani-resp's wall time over theirs, at most."""

    options: tuple[str, ...]
    ratio_max: dict[str, float]

    @property
    def engines(self) -> tuple[str, ...]:
        return ("klani", *self.ratio_max)


FLOWS = {
    "exact": Comparison((), {"redis": 1.0}),
    "shortcut": Comparison(("--seed-shortcut",), {"redis": 1.0}),
    "pipelined": Comparison(("--flow", "pipelined"), {"redis": 1.0}),
    "claim": Comparison(("--flow", "claim"), {"redis": 1.0, "postgres": 0.2}),
}


def run_herd(engine: str, flow: str, more: list[str]) -> dict[str, Any]:
    """One herd's result.json; raises CalledProcessError when it did not verify."""
    with tempfile.TemporaryDirectory(prefix="herd-compare-") as directory:
        command = [sys.executable, str(HERD), "--engine", engine, "--output", directory]
        command += [*FLOWS[flow].options, *more]
        subprocess.run(command, check=True, capture_output=True, text=True)
        result: dict[str, Any] = json.loads((Path(directory) / "result.json").read_text())
        return result


def compare(flow: str, rounds: int, more: list[str]) -> dict[str, Any]:
    engines = FLOWS[flow].engines
    walls: dict[str, list[float]] = {engine: [] for engine in engines}
    for turn in range(rounds):
        shown = []
        for engine in engines if turn % 2 == 0 else engines[::-1]:
            result = run_herd(engine, flow, more)
            walls[engine].append(result["wall_seconds"])
            server, clients = result["server"], result["clients_cpu_seconds"]
            cpu = server["cpu_user_seconds"] + server["cpu_system_seconds"]
            shown.append(
                f"{engine} {result['wall_seconds']:.3f} s (CPU: server {cpu:.2f}, clients {clients:.2f})"
            )
        print(f"  {flow} {turn + 1}/{rounds}  {'  '.join(sorted(shown))}", flush=True)
    medians = {engine: statistics.median(taken) for engine, taken in walls.items()}
    return {
        "flow": flow,
        "wall_seconds": walls,
        "medians": medians,
        "ratios": {rival: medians["klani"] / medians[rival] for rival in engines[1:]},
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--flows", default="exact,shortcut,pipelined", help=f"of {', '.join(FLOWS)}")
    parser.add_argument("--output", type=Path, help="write all figures to this file, as JSON")
    parser.add_argument("herd", nargs="*", help="options of bench/herd.py, behind a `--`")
    options = parser.parse_args()
    print(f"load average at the start: {os.getloadavg()[0]:.2f}", flush=True)
    started = time.monotonic()
    try:
        lines = [compare(flow, options.rounds, options.herd) for flow in options.flows.split(",")]
    except subprocess.CalledProcessError as failed:
        print(f"a herd failed: {' '.join(failed.cmd)}\n{failed.stdout[-2000:]}{failed.stderr[-2000:]}")
        return 1
    print(f"\nwall seconds, medians of {options.rounds} rounds  [{time.monotonic() - started:.0f} s]")
    for line in lines:
        for rival, target in FLOWS[line["flow"]].ratio_max.items():
            klani, theirs, ratio = line["medians"]["klani"], line["medians"][rival], line["ratios"][rival]
            verdict = "ok" if ratio <= target else "MISSED"
            print(
                f"{line['flow']:<10} klani-resp {klani:6.3f}  {NAMES[rival]:<12} {theirs:6.3f}"
                f"  ratio {ratio:.2f}  target {target:.2f}  {verdict}"
            )
    if options.output is not None:
        options.output.write_text(json.dumps(lines, indent=2) + "\n")
        print(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
