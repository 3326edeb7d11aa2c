"""klani-resp and what one would use in its place, in one harness: rounds in turn, medians, spreads, ratios.

    python bench/peers.py [--rounds 5] [--only exact,claim] [--write docs] [-- options of bench/herd.py]

Races: `exact`, the seed's single commands, and `claim`, one call per user that decides in the server; when
asked for, `shortcut` and `pipelined`, two ways to do with less of the seed's commands. Every run has a
fresh directory, the engines in turn, so that a machine that slows down slows all, and is verified as any
herd is. What a peer needs and is not installed is named with its package before the first run, and the exit
status is 1. `--write docs` makes docs/benchmarks.md and its chart.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from bench.harness import host, launch_postgres
from bench.harness.race_chart import Bar, bars
from bench.page.run import TEXT as PAGE

ROOT = Path(__file__).resolve().parent.parent
HERD = Path(__file__).resolve().with_name("herd.py")
OURS = "klani-resp"
TEXT = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Peer:
    name: str
    engine: str
    options: tuple[str, ...] = ()
    loses: str = ""  # what a power failure may take back of what was answered


_LOSES = "about the last second of sales"
_EVERYSEC = ("--appendfsync", "everysec")
_SINGLE = (Peer(OURS, "klani"), Peer("Redis, single commands, always", "redis"))
RACES: dict[str, tuple[tuple[str, ...], tuple[Peer, ...]]] = {
    "exact": ((), (*_SINGLE, Peer("Redis, single commands, everysec", "redis", _EVERYSEC, _LOSES))),
    "shortcut": (("--seed-shortcut",), _SINGLE),
    "pipelined": (("--flow", "pipelined"), _SINGLE),
    "claim": (
        ("--flow", "claim"),
        (
            Peer(OURS, "klani"),
            Peer("Redis, Lua, always", "redis"),
            Peer("Redis, Lua, everysec", "redis", _EVERYSEC, _LOSES),
            Peer("PostgreSQL, SKIP LOCKED", "postgres"),
            Peer("SQLite, no server", "sqlite"),
        ),
    ),
}
COLUMNS = (
    *("", "seconds: min - median - max", f"{OURS} over it", "a purchase, ms: p50", "p99", "max"),
    *("server CPU, s", "a power failure takes"),
)
# An engine's program, and Debian's package of it; the module that its clients need, and our extra for it.
PROGRAMS = {"redis": ("redis-server", "redis-server"), "postgres": ("postgres", "postgresql")}
MODULES = {"klani": ("redis", "bench"), "redis": ("redis", "bench"), "postgres": ("psycopg", "postgres")}
PUBLISHED = ("exact", "claim")


@dataclass
class Taken:
    """What the runs of one peer gave."""

    seconds: list[float] = field(default_factory=list)
    server_cpu: list[float] = field(default_factory=list)
    purchases_us: list[dict[str, int]] = field(default_factory=list)  # of those who bought
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, str] = field(default_factory=dict)

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def range(self) -> tuple[float, float, float]:
        return min(self.seconds), self.median, max(self.seconds)

    def purchase_ms(self, name: str) -> float:
        """Of a percentile the rounds' median; of `max` the longest of all."""
        of_rounds = [latencies[name] for latencies in self.purchases_us]
        return (max(of_rounds) if name == "max" else statistics.median(of_rounds)) / 1000


def missing(peers: tuple[Peer, ...]) -> list[str]:
    """A line for each program or module that is not there, or does not load."""
    engines = sorted({peer.engine for peer in peers})
    return [
        *(
            f"{program} is not installed; on Debian: apt-get install {package}"
            for program, package in (PROGRAMS[engine] for engine in engines if engine in PROGRAMS)
            if not (shutil.which(program) or launch_postgres.program(program))
        ),
        *(
            f"Python's {module} is not installed: pip install 'klani-resp[{extra}]'"
            for module, extra in sorted({MODULES[engine] for engine in engines if engine in MODULES})
            if not _loads(module)
        ),
    ]


def _loads(module: str) -> bool:
    try:
        importlib.import_module(module)
    except ImportError:  # psycopg's, too, when it finds no libpq
        return False
    return True


def run_herd(peer: Peer, options: tuple[str, ...], more: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """One herd's result, and host.json; raises CalledProcessError when it did not verify."""
    with tempfile.TemporaryDirectory(prefix="herd-peers-") as directory:
        command = [sys.executable, str(HERD), "--engine", peer.engine, "--output", directory, "--no-report"]
        command += [*options, *peer.options, *more]
        subprocess.run(command, check=True, capture_output=True, text=True)
        result: dict[str, Any] = json.loads((Path(directory) / "result.json").read_text())
        facts: dict[str, Any] = json.loads((Path(directory) / "host.json").read_text())
        return result, facts


def race(name: str, rounds: int, more: list[str]) -> dict[str, Taken]:
    options, peers = RACES[name]
    taken = {peer.name: Taken() for peer in peers}
    for turn in range(rounds):
        for peer in peers if turn % 2 == 0 else peers[::-1]:
            result, facts = run_herd(peer, options, more)
            mine = taken[peer.name]
            mine.seconds.append(result["wall_seconds"])
            server = result["server"]
            used = sum(server.get(name, 0) for name in ("cpu_user_seconds", "cpu_system_seconds"))
            mine.server_cpu.append(used)
            mine.purchases_us.append(result["purchases_us"])
            mine.options = result["options"]
            version = PAGE["engines"][peer.engine]["version"]
            mine.settings = {version: facts["server"][version]} | facts["set"]
            cpu = f"(CPU: server {used:.2f}, clients {result['clients_cpu_seconds']:.2f})"
            shown = f"{peer.name:<34} {result['wall_seconds']:7.3f} s  {cpu}"
            print(f"  {name} {turn + 1}/{rounds}  {shown}", flush=True)
    return taken


def table(name: str, taken: dict[str, Taken]) -> list[str]:
    """In Markdown."""
    ours = taken[OURS].median
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    for peer in RACES[name][1]:
        one = taken[peer.name]
        seconds = " - ".join(f"{value:.2f}" for value in one.range)
        waits = " | ".join(f"{one.purchase_ms(key):.1f}" for key in ("p50", "p99", "max"))
        cpu = f"{statistics.median(one.server_cpu):.2f}" if peer.engine != "sqlite" else "none"
        ratio, loses = f"{ours / one.median:.2f}", peer.loses or "nothing"
        lines.append(f"| {peer.name} | {seconds} | {ratio} | {waits} | {cpu} | {loses} |")
    return lines


def settings_lines(taken: dict[str, Taken]) -> list[str]:
    """The version, and all that was set; whatever is not named is as it comes."""
    shown = {
        name: ", ".join(f"{key} {value or 'none'}" for key, value in one.settings.items())
        for name, one in taken.items()
    }
    return [f"- {name}: {settings}" for name, settings in shown.items()]


def counted(rounds: int) -> str:
    return f"{rounds} round{'' if rounds == 1 else 's'}"


def write(directory: Path, found: dict[str, dict[str, Taken]], rounds: int, load: float) -> None:
    facts = host.facts(Path(tempfile.gettempdir()))
    sync_us, memory_gib = facts["fdatasync_us"]["p50"], facts["memory_bytes"] / 2**30
    machine = (
        f"Commit {host.commit()}, {counted(rounds)}, load average before them {load:.2f}. "
        f"{facts['cpu_model']}, {facts['cpus_usable']} CPUs, {memory_gib:.1f} GiB, Linux {facts['kernel']}, "
        f"{facts['file_system']} with an fdatasync of {sync_us} us, Python {facts['python']}."
    )
    options = next(one.options for taken in found.values() for one in taken.values())
    text = [TEXT["introduction"].format(**options), machine, "", "![Seconds](benchmarks.svg)", ""]
    for name, taken in found.items():
        text += [f"## {TEXT['headings'][name]}", TEXT["races"][name], *table(name, taken), ""]
        text += ["Settings:", "", *settings_lines(taken), ""]
    (directory / "benchmarks.md").write_text("\n".join(text).strip() + "\n", encoding="utf-8")
    groups = {
        TEXT["headings"][name]: [Bar(peer, *one.range, peer == OURS) for peer, one in taken.items()]
        for name, taken in found.items()
    }
    title = f"Seconds for {options['users']:,} users: median, min and max of {counted(rounds)}"
    (directory / "benchmarks.svg").write_text(bars(title, groups, "s"), encoding="utf-8")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=_positive, default=5)
    parser.add_argument("--only", type=_races, default=PUBLISHED, help=f"of {', '.join(RACES)}")
    parser.add_argument("--write", type=Path, metavar="DOCS", help="where benchmarks.md and its chart go")
    parser.add_argument("herd", nargs="*", help="options of bench/herd.py, behind a `--`")
    return parser.parse_args()


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _races(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    for name in names:
        if name not in RACES:
            raise argparse.ArgumentTypeError(f"no race `{name}`; there are {', '.join(RACES)}")
    return names


def main() -> int:
    told = parse()
    absent = missing(tuple(peer for name in told.only for peer in RACES[name][1]))
    if absent:
        print("\n".join(absent), file=sys.stderr)
        return 1
    load = os.getloadavg()[0]
    print(f"load average at the start: {load:.2f}", flush=True)
    started = time.monotonic()
    try:
        found = {name: race(name, told.rounds, told.herd) for name in told.only}
    except subprocess.CalledProcessError as failed:
        print(f"a herd failed: {' '.join(failed.cmd)}\n{failed.stdout[-2000:]}{failed.stderr[-2000:]}")
        return 1
    print(f"\n{counted(told.rounds)}  [{time.monotonic() - started:.0f} s]")
    for name, taken in found.items():
        print("\n".join([name, *table(name, taken), *settings_lines(taken)]))
    if told.write is not None:
        write(told.write, found, told.rounds, load)
        print(f"written: {told.write / 'benchmarks.md'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
