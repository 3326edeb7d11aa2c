"""Plays worlds again: `python -m tests.sim --seed N`, or many: `--seed N --worlds 100`."""

from __future__ import annotations

import argparse
import time

from tests.sim.counts import Counts
from tests.sim.world import World


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.sim", description="Runs simulated worlds.")
    parser.add_argument("--seed", type=int, default=0, help="the first one")
    parser.add_argument("--worlds", type=int, default=1, help="how many")
    options = parser.parse_args()
    counts, began = Counts(), time.monotonic()
    for seed in range(options.seed, options.seed + options.worlds):
        counts.add(World(seed).run())
    print(f"{counts}, {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
