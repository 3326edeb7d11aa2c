"""The thundering herd of the seed: many users, few seats, and every sale re-read from storage afterwards.

`python bench/herd.py` starts a klani-resp of its own on a fresh directory, loads the table `seats`, runs
the seed's flow and verifies. `--engine redis` is the same herd over Redis's single commands, but that two
of the five steps are Lua scripts there: the write and the letting go, which look whether the lock is still
theirs. The last line of output has the seed's keys in the seed's order. `--flow claim` sells in one call
per user, also over PostgreSQL and SQLite, `--flow hold` through holds that are paid or let go, `--flow
rooms` the rooms of some hotels; each ends with a line of its own. Exit status: 0 only if what was sold is
what is stored, no seat was sold twice and no worker failed; 1 if not; 2 if it could not run.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import secrets
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

try:
    import redis
except ImportError:
    sys.exit("the herd's driver is missing: pip install 'redis[hiredis]>=8,<9'")

from bench.harness import host, launch, launch_postgres
from bench.horde.flows import ALL_ENGINES, FLOWS
from bench.horde.options import Options
from bench.horde.output import Live, RawLog, options_shown, raw_log, readable, result_of, write_result
from bench.horde.raw_log import HOST, REPORT
from bench.horde.sampler import LogSampler
from bench.horde.stats import Books, Outcome, Stored
from bench.horde.store import Store, StoreProblem, store_of
from bench.horde.workers import HerdRecord, run_herd
from bench.report import write_report

STALL_SECONDS = 60.0
PORTS = {"klani": 7700, "redis": 6379, "postgres": 5432, "sqlite": 0}
SIZES = {
    "users": (100_000, "buyers, or sessions"),
    "seats": (10_000, "rows for sale"),
    "ranks": (10, "groups of them: ranks, or hotels"),
    "workers": (128, "threads, each with a connection"),
}


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench/herd.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", choices=ALL_ENGINES, default="klani")
    parser.add_argument("--flow", choices=tuple(FLOWS), default="exact")
    for name, (default, text) in SIZES.items():
        parser.add_argument(
            f"--{name}", type=_positive, help=f"{text}; {default} unless the flow has its own"
        )
    parser.add_argument("--processes", type=_positive, default=4)
    parser.add_argument("--seed", type=int, help="of ranks and choices; printed; random unless given")
    parser.add_argument("--seed-shortcut", action="store_true", help="a worker remembers sold-out ranks")
    parser.add_argument("--lease-ms", type=_positive, default=10_000)
    parser.add_argument(
        "--owner", choices=("none", "uuid"), default="none", help="OWNER of each attempt (klani)"
    )
    parser.add_argument("--confirm-rate", type=_share, default=0.7, help="of holds that are paid (hold)")
    parser.add_argument("--hold-ms", type=_positive, default=250, help="until a hold is over (hold)")
    parser.add_argument(
        "--think-ms", type=_not_negative, default=2, help="from hold to payment, on average (hold)"
    )
    parser.add_argument("--host", help="of a running server; else one is started")
    parser.add_argument("--port", type=_positive)
    parser.add_argument("--unixsocket", help="of a running server, in place of host and port")
    parser.add_argument(
        "--drop", action="store_true", help="drop an earlier herd's table on a running server"
    )
    parser.add_argument("--appendfsync", choices=("always", "everysec", "no"), default="always")
    parser.add_argument(
        "--server-arg", action="append", default=[], help="passed to the server that is started"
    )
    parser.add_argument(
        "--output", type=Path, help="directory for raw log, host facts, JSON, page and the server's files"
    )
    parser.add_argument(
        "--report",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="make the page from the raw log (with --output)",
    )
    told = parser.parse_args(arguments)
    flow = FLOWS[told.flow]
    if told.engine not in flow.engines:
        parser.error(f"--flow {told.flow} is for --engine {' or '.join(flow.engines)}")
    if told.engine in ("postgres", "sqlite") and told.appendfsync != "always":
        parser.error(f"--engine {told.engine} runs with every commit on disk only")
    if told.engine == "sqlite" and (told.host or told.port or told.unixsocket):
        parser.error("--engine sqlite has no server")
    for name, (default, _) in SIZES.items():
        if getattr(told, name) is None:
            setattr(told, name, flow.defaults.get(name, default))
    users_min = flow.users_min(options_of(told))
    if told.users < users_min:
        payers = f", of whom a share of {told.confirm_rate} pays" if told.flow == "hold" else ""
        needed = f"--seats {told.seats} need --users {users_min} or more{payers}"
        parser.error(f"--flow {told.flow} ends when nothing is left: {needed}")
    return told


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _not_negative(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{value} is below 0")
    return value


def _share(text: str) -> float:
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"{value} is not above 0 and at most 1")
    return value


def options_of(told: argparse.Namespace) -> Options:
    return Options(
        engine=told.engine,
        flow=told.flow,
        users=told.users,
        seats=told.seats,
        ranks=told.ranks,
        workers=told.workers,
        processes=min(told.processes, told.workers),
        seed=secrets.randbits(32) if told.seed is None else told.seed,
        lease_ms=told.lease_ms,
        owner=told.owner,
        seed_shortcut=told.seed_shortcut,
        confirm_rate=told.confirm_rate,
        hold_ms=told.hold_ms,
        think_ms=told.think_ms,
        goods=FLOWS[told.flow].goods,
        host=told.host or "127.0.0.1",
        port=told.port or PORTS[told.engine],
        unixsocket=told.unixsocket,
    )


@contextlib.contextmanager
def output_directory(wanted: Path | None) -> Iterator[Path]:
    """`wanted`, made if need be; without one a temporary directory that is removed at the end."""
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        yield wanted
        return
    with tempfile.TemporaryDirectory(prefix="herd-") as directory:
        yield Path(directory)


@contextlib.contextmanager
def server_for(told: argparse.Namespace, output: Path) -> Iterator[launch.Server | None]:
    """A server of our own, stopped whatever happens; None when a running one is to be used."""
    if told.host is not None or told.port is not None or told.unixsocket is not None:
        yield None
        return
    directory = output / "server"
    if directory.exists():
        shutil.rmtree(directory)  # an earlier run's, in the same output directory
    if told.engine == "sqlite":
        directory.mkdir(parents=True)
        yield None
        return
    if told.engine == "postgres":
        with launch_postgres.postgres(directory, *told.server_arg, connections=told.workers) as server:
            yield server
        return
    start = launch.redis if told.engine == "redis" else launch.klani
    server = start(directory, *told.server_arg, appendfsync=told.appendfsync)
    try:
        yield server
    finally:
        server.stop()


def run(told: argparse.Namespace, options: Options, output: Path) -> int:
    with server_for(told, output) as server, raw_log(output) as log:
        if server is not None:
            options = replace(options, host=server.host, port=server.port)
        if options.engine == "sqlite":
            options = replace(options, path=str(output / "server" / "herd.sqlite"))
        store = store_of(options)
        introduce(store, options, output, log, server)
        options = store.prepare(options, told.drop)
        print(
            f"loaded {options.seats} {options.goods.table} in {options.ranks} {options.goods.group}s",
            flush=True,
        )
        cpu_before = server.cpu_seconds() if server is not None else (0.0, 0.0)
        with LogSampler(options) as sampler, Live(options) as live:
            record = run_herd(options, sampler.release, live.second, STALL_SECONDS)
        usage = _server_usage(server, cpu_before)
        commits = sampler.since(record.origin_ns)
        page = output / REPORT if told.report and told.output is not None else None
        stored = re_read(store, options)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is verified is written to its end, at once
        return conclude(options, record, stored, usage, commits, log, page)


def introduce(
    store: Store, options: Options, output: Path, log: RawLog, started: launch.Server | None
) -> None:
    """Says and records what is about to run, and on what; a server that we did not start may be far away."""
    facts = host.facts(output)
    server = facts["server"] = store.facts()
    facts["set"] = dict(started.settings) if started is not None else store.settings()
    policy = {
        name.removeprefix("config_"): server[name]
        for name in ("config_appendfsync", "fsync", "synchronous_commit", "synchronous")
        if name in server
    }
    print(" ".join(f"{name}={value}" for name, value in options_shown(options).items()))
    print(
        f"seed {options.seed}, {', '.join(map(' '.join, policy.items())) or 'durability unknown'}", flush=True
    )
    log.line(
        "start",
        time=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=host.commit(),
        server="none" if options.engine == "sqlite" else "found" if started is None else "started",
        options=options_shown(options),
        seed=options.seed,
        **policy,
    )
    log.line("host", **facts)
    log.file(HOST, facts)


def re_read(store: Store, options: Options) -> Stored:
    """A server that is gone verifies nothing, and that too is a result."""
    try:
        return store.stored(options)
    except (StoreProblem, redis.RedisError, OSError) as error:
        return Stored.unread(error)


def _server_usage(server: launch.Server | None, cpu_before: tuple[float, float]) -> dict[str, Any]:
    """CPU seconds of the storm alone; empty for a server that is not ours, or is gone."""
    if server is None or server.process.poll() is not None:
        return {}
    user, system = server.cpu_seconds()
    usage = {
        "cpu_user_seconds": round(user - cpu_before[0], 3),
        "cpu_system_seconds": round(system - cpu_before[1], 3),
    }
    # PostgreSQL is many processes with shared memory: the first one's figure would say nothing.
    return usage if server.name == "postgres" else usage | {"rss_bytes": server.rss_bytes()}


def conclude(
    options: Options,
    record: HerdRecord,
    stored: Stored,
    server: dict[str, Any],
    commits: list[dict[str, float]],
    log: RawLog,
    page: Path | None,
) -> int:
    """Compares the books with storage, writes and prints everything; the exit status."""
    tally = record.tally
    books = Books.of(tally.sold_seat, tally.sold_buyer)
    outcome = Outcome(
        options.users, options.seats, tally, stored, books, len(record.failures), record.wall_seconds
    )
    result = result_of(options, outcome, record, server)
    write_result(log, result, outcome, record, commits)
    for failure in record.failures[:3]:
        print(failure, file=sys.stderr)
    for line in readable(options, result):
        print(line)
    if page is not None:
        write_report(log.path, page)
        print(f"page: {page}")
    print(result["final_line"], flush=True)
    return 1 if result["problems"] else 0


def _on_sigterm(signum: int, frame: object) -> NoReturn:
    raise SystemExit(128 + signum)  # so that the server is stopped


def _on_sigint(signum: int, frame: object) -> NoReturn:
    """Says what it means before servers and processes are ended, which may take a while."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.write(sys.stderr.fileno(), b"herd: interrupted: nothing was verified, no page\n")
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, _on_sigterm)
    for number, handler in ((signal.SIGHUP, _on_sigterm), (signal.SIGINT, _on_sigint)):
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup's, and a shell's for what runs behind it
            signal.signal(number, handler)
    told = parse(arguments)
    options = options_of(told)
    try:
        with output_directory(told.output) as output:
            return run(told, options, output)
    except (launch.LaunchError, StoreProblem, redis.RedisError, threading.BrokenBarrierError) as problem:
        print(f"herd: {type(problem).__name__}: {problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT


if __name__ == "__main__":
    sys.exit(main())
